"""Files that differ between two runs that are the same, where nobody can read what is in them."""

from __future__ import annotations

from fnmatch import fnmatchcase

VOLATILE = {
    "*/saved_model.pb": "TensorFlow writes a SavedModel's graph in another order each time; its variables are judged",
    "*.data-?????-of-?????": "it holds the object graph, which is another each time; its tensors are judged by the"
    " checksums in the .index file",
    "*/fingerprint.pb": "a hash of saved_model.pb, which is another each time",
    "*/keras_metadata.pb": "it holds ids that are other ones each time",
    "*/estimator.html": "scikit-learn's picture of an estimator, which shows how long its fits took; its parameters are"
    " among the run's",
    "*events.out.tfevents.*": "TensorBoard's events hold times, the name of the machine and process ids",
}
"""Why, by the pattern of their path. They are shown and not judged."""

_TIMES = frozenset(f"{figure}_{part}_time" for figure in ("mean", "std") for part in ("fit", "score"))


def volatile_columns(name: str) -> frozenset[str]:
    """The columns of the table ``name`` that only say how long something took."""
    return _TIMES if fnmatchcase(f"/{name}", "*/cv_results.csv") else frozenset()


def why_volatile(name: str) -> str:
    """Why the file ``name`` says nothing about the run; empty when it does."""
    return next((why for pattern, why in VOLATILE.items() if fnmatchcase(f"/{name}", pattern)), "")
