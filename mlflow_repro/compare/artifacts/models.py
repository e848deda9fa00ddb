"""Models of CatBoost and models in ONNX, which are compared as bytes.

But for the id and the time that CatBoost writes into each, and in ONNX for the order of what is looked up by name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import Outcome, UnreadableError, same_content

if TYPE_CHECKING:
    from collections.abc import Iterator

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
# By the numbers of onnx.proto3 (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3).
_GRAPH = 7
_NAMED_IN_MODEL = frozenset({8, 14})  # opset_import, metadata_props
_NAMED_IN_GRAPH = frozenset({5, 13, 14, 15, 16})  # initializers, value_info, annotations, sparse ones, metadata_props
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes


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


def compare_onnx(one: Blob, other: Blob, context: Context) -> Outcome:
    """The bytes of a model, without the id and the time of a training by CatBoost.

    Operator sets, initializers, shapes and properties are looked up by their names: their order has no meaning, and
    a converter that keeps them in a set writes them in another one each time.
    """
    left, right = (mask_training(blob.read(context.limits.held)) for blob in (one, other))
    if left == right:
        return same_content(f"the model, without {LEFT_OUT}")
    if _sort_model(left) == _sort_model(right):
        return same_content("the model, whose operator sets, initializers and properties may stand in any order")
    raise UnreadableError("nobody looks deeper into this format")


def _sort_model(content: bytes) -> list[tuple[int, object]]:
    """The fields of a model; those that are looked up by name stand first, in an order that is always the same."""
    fields: list[tuple[int, object]] = [
        (number, _sort_fields(value, _NAMED_IN_GRAPH) if number == _GRAPH else value)
        for number, value in _sort_fields(content, _NAMED_IN_MODEL)
    ]
    if all(number != _GRAPH for number, _ in fields):
        raise UnreadableError("it holds no graph")
    return fields


def _sort_fields(content: bytes, named: frozenset[int]) -> list[tuple[int, bytes]]:
    fields = list(_read_fields(content))
    looked_up = sorted(field for field in fields if field[0] in named)
    return looked_up + [field for field in fields if field[0] not in named]


def _read_fields(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message of Protocol Buffers: number and value. Raises UnreadableError.

    The encoding: https://protobuf.dev/programming-guides/encoding/
    """
    position = 0
    while position < len(content):
        tag, position = _read_varint(content, position)
        begin, kind = position, tag & 7
        if kind == _VARINT:
            _, position = _read_varint(content, position)
        elif kind == _BYTES:
            size, begin = _read_varint(content, position)
            position = begin + size
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise UnreadableError("it is no message of Protocol Buffers")
        if position > len(content):
            raise UnreadableError("it is cut off")
        yield tag >> 3, content[begin:position]


def _read_varint(content: bytes, position: int) -> tuple[int, int]:
    """A number of variable length, and where what follows it begins."""
    number = 0
    for index, byte in enumerate(content[position : position + _LONGEST_VARINT]):
        number |= (byte & 127) << (7 * index)
        if byte < 128:  # noqa: PLR2004 - the bit that says that another byte follows
            return number, position + index + 1
    raise UnreadableError("it is cut off")
