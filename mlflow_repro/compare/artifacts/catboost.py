"""Models of CatBoost, which are compared as bytes: every training writes an id of its own and the time into them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import Outcome, UnreadableError, same_content

if TYPE_CHECKING:
    from mlflow_repro.compare.artifacts.blobs import Blob, Context

MAGIC = b"CBM1"
_ID = rb"[0-9a-f]{8}(?:-[0-9a-f]{8}){3}"
_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
_MADE_UP = re.compile(
    # In CatBoost's own format the value stands before its key; in ONNX behind it.
    rb"%b(?=\0{1,4}\x0a\0\0\0model_guid)|%b(?=\0{1,4}\x11\0\0\0train_finish_time)" % (_ID, _TIME)
    + rb"|(?<=model_guid\x12#)%b|(?<=train_finish_time\x12\x14)%b" % (_ID, _TIME)
)
LEFT_OUT = "CatBoost's id of the training and its time"
_KEYS = ("model_guid", "train_finish_time")


def compare_catboost(one: Blob, other: Blob, context: Context) -> Outcome:
    """The bytes of a model without the id and the time of the training."""
    left, right = (mask_training(blob.read(context.limits.held)) for blob in (one, other))
    if left == right:
        return same_content(f"the model, without {LEFT_OUT}")
    raise UnreadableError("nobody looks deeper into this format")


def mask_training(content: bytes) -> bytes:
    """The bytes with zeros for the id and the time of a training, where CatBoost writes them."""
    return _MADE_UP.sub(lambda found: bytes(len(found[0])), content)


def clean_json(tree: Any) -> dict[str, Any]:
    """Take the id and the time out of a model that CatBoost wrote as JSON; what that was."""
    info = tree.get("model_info") if isinstance(tree, dict) and "features_info" in tree else None
    return {key: info.pop(key) for key in _KEYS if key in info} if isinstance(info, dict) else {}
