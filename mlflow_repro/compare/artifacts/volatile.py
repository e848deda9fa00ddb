"""Files that differ between two runs that are the same, where nobody can read what is in them."""

from __future__ import annotations

from fnmatch import fnmatchcase

VOLATILE = {
    "*/saved_model.pb": "TensorFlow writes a SavedModel's graph in another order each time; its variables are judged",
    "*.data-?????-of-?????": "it holds the object graph, which is another each time; its tensors are judged by the"
    " checksums in the .index file",
    "*/fingerprint.pb": "a hash of saved_model.pb, which is another each time",
    "*/keras_metadata.pb": "it holds ids that are other ones each time",
    "*events.out.tfevents.*": "TensorBoard's events hold times, the name of the machine and process ids",
}
"""Why, by the pattern of their path. They are shown and not judged."""


def why_volatile(name: str) -> str:
    """Why the file ``name`` says nothing about the run; empty when it does."""
    return next((why for pattern, why in VOLATILE.items() if fnmatchcase(f"/{name}", pattern)), "")
