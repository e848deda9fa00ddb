"""TensorFlow's checkpoints, which are also the variables of a SavedModel: a ``*.index`` file beside ``*.data-...``.

The index is a table in the form of LevelDB's (blocks of keys that share prefixes, a footer with a magic number)
from the name of a tensor to a message with its type, shape, place and CRC-32C. So the index alone says whether tensors
are the same. The data hold the object graph, too, a message whose bytes differ each time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import Outcome, UnreadableError, combine, reading, same_content
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5  # after each block: how it is compressed, and a checksum
_OBJECT_GRAPH = b"_CHECKPOINTABLE_OBJECT_GRAPH"
_UNORDERED = re.compile(rb"(?:.*/)?_all_variables/\d+/.*", re.DOTALL)
"""Keras keeps its variables here a second time, in an order that depends on their addresses."""
_FIELDS = {1: "dtype", 2: "shape", 5: "size", 6: "checksum"}
"""Of the message about a tensor; the shard and the offset say only where it is."""


def compare_checkpoint_index(one: Blob, other: Blob, context: Context) -> Outcome:
    """Tensors by their names: dtype, shape and checksum; the object graph and the places in the file do not count."""
    left, right = _read_index(one, context), _read_index(other, context)
    parts = []
    for name in sorted({*left, *right}):
        shown = name.decode("utf-8", "backslashreplace")
        if name not in left or name not in right:
            side = "reference" if name in left else "reproduction"
            parts.append((shown, Outcome(status=Status.DIFFERENT, note=f"only in the {side}")))
            continue
        differing = [what for number, what in _FIELDS.items() if left[name].get(number) != right[name].get(number)]
        if differing:
            note = f"another {' and '.join(differing)}"
            parts.append((shown, Outcome(status=Status.DIFFERENT, note=note)))
        else:
            parts.append((shown, Outcome(status=Status.IDENTICAL)))
    outcome = combine(parts, "tensors")
    if outcome.status is Status.IDENTICAL:
        return same_content(f"{len(parts)} tensors by their checksums, without the object graph")
    return outcome


def _read_index(blob: Blob, context: Context) -> dict[bytes, dict[int, Any]]:
    content = blob.read(context.limits.parsed)
    with reading("an index of TensorFlow's"):
        if not content.endswith(_MAGIC):
            raise UnreadableError("it is no index of TensorFlow's")
        footer = content[-_FOOTER:]
        _, position = _read_handle(footer, 0)  # of the block about blocks, which is empty
        handle, _ = _read_handle(footer, position)
        entries = {
            key: dict(_read_message(value))
            for _, block in _read_block(content, handle)
            for key, value in _read_block(content, _read_handle(block, 0)[0])
            if key not in (b"", _OBJECT_GRAPH)  # the empty key is about the whole file
        }
    if not entries:
        raise UnreadableError("it names no tensor")
    names = sorted(name for name in entries if _UNORDERED.fullmatch(name))
    messages = sorted(
        (entries.pop(name) for name in names), key=lambda message: [repr(message.get(n)) for n in _FIELDS]
    )
    return {**entries, **dict(zip(names, messages, strict=True))}


def _read_handle(content: bytes, position: int) -> tuple[tuple[int, int], int]:
    """Where a block begins and how long it is, and the position behind that."""
    offset, position = _read_number(content, position)
    size, position = _read_number(content, position)
    return (offset, size), position


def _read_block(content: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a block, which ends with the places where keys are written whole."""
    offset, size = handle
    if offset + size + _TRAILER > len(content) or content[offset + size] != 0:
        raise UnreadableError("a block of the index is compressed or cut off")
    block = content[offset : offset + size]
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    key, position = b"", 0
    while position < end:
        shared, position = _read_number(block, position)
        fresh, position = _read_number(block, position)
        length, position = _read_number(block, position)
        key = key[:shared] + block[position : position + fresh]
        position += fresh
        yield key, block[position : position + length]
        position += length


def _read_message(content: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protocol buffer by their numbers; one that comes several times as its last."""
    position = 0
    while position < len(content):
        tag, position = _read_number(content, position)
        kind = tag & 7
        if kind == 0:
            value: Any
            value, position = _read_number(content, position)
        elif kind == 2:  # noqa: PLR2004 - bytes with their length
            length, position = _read_number(content, position)
            value, position = content[position : position + length], position + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, position = content[position : position + length], position + length
        else:
            raise UnreadableError(f"a message has a field of kind {kind}")
        yield tag >> 3, value


def _read_number(content: bytes, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and the position behind it."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 127) << shift
        position += 1
        shift += 7
        if byte < 128:  # noqa: PLR2004 - the highest bit says that there is more
            return number, position
