"""The nodes of a pickle, and numpy's arrays, scalars and dtypes among them."""

from __future__ import annotations

import re
from typing import Any

from mlflow_repro.compare.artifacts.arrays import array_of, plain_dtype
from mlflow_repro.compare.artifacts.blobs import UnreadableError

_MULTIARRAY = re.compile(
    r"numpy\.(?:_?core\.)?multiarray\.(_reconstruct|scalar)|numpy\.(?:_?core\.)?numeric\.(_frombuffer)"
)
_DTYPE_DEPTH = 8


def read_array(node: Node) -> Any:
    """The numpy array (or scalar, as an array of shape ``()``) that ``node`` stands for; None when it is none.

    None too for arrays of objects and of dtypes that are not numpy's own: their nodes are compared like any other.
    """
    try:
        if node.kind == "array":
            dtype, shape, content, *order = node.parts
            found = read_dtype(dtype)
            return (
                None if found is None else array_of(content, found, _shape(shape), is_fortran=bool(order and order[0]))
            )
        match = _MULTIARRAY.fullmatch(node.called)
        if match is None:
            return None
        return _READERS[match[1] or match[2]](node)
    except (UnreadableError, ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None


def _read_reconstructed(node: Node) -> Any:
    """``_reconstruct(ndarray, (0,), b"b")`` built with ``(version, shape, dtype, is_fortran, content)``."""
    if node.parts[1].global_name != "numpy.ndarray":  # a class of its own, which counts
        return None
    _version, shape, dtype, is_fortran, content = node.states[0].items
    found = read_dtype(dtype)
    return None if found is None else array_of(_content(content), found, _shape(shape), is_fortran=bool(is_fortran))


def _read_scalar(node: Node) -> Any:
    """``scalar(dtype, content)``."""
    found = read_dtype(node.parts[1])
    return None if found is None else array_of(_content(node.parts[2]), found, ())


def _read_buffer(node: Node) -> Any:
    """``_frombuffer(content, dtype, shape, order)`` of protocol 5."""
    _, content, dtype, shape, order = node.parts
    found = read_dtype(dtype)
    return None if found is None else array_of(_content(content), found, _shape(shape), is_fortran=order == "F")


_READERS = {"_reconstruct": _read_reconstructed, "scalar": _read_scalar, "_frombuffer": _read_buffer}


def _shape(node: Any) -> tuple[int, ...]:
    sizes = tuple(node.items)
    if not all(type(size) is int for size in sizes):
        raise UnreadableError("a shape is not of numbers")
    return sizes


def _content(value: Any) -> bytes:
    """Bytes, also as protocol 2 writes them: ``_codecs.encode(text, "latin1")``."""
    if isinstance(value, Node) and value.called == "_codecs.encode":
        return str(value.parts[1]).encode("latin1")
    if not isinstance(value, (bytes, bytearray)):
        raise UnreadableError("the content of an array is not bytes")
    return bytes(value)


def read_dtype(node: Any, depth: int = 0) -> Any:
    """The numpy dtype of ``dtype(text, False, True)`` and its state; None when objects are in it.

    Raises UnreadableError when it is not of this form.
    """
    if not (isinstance(node, Node) and node.called == "numpy.dtype" and depth < _DTYPE_DEPTH):
        raise UnreadableError("a dtype is not of the usual form")
    text = node.parts[1]
    if not isinstance(text, str):
        raise UnreadableError("a dtype is not named by text")
    if text.startswith("O"):
        return None
    state = node.states[0].items if node.states else []
    if len(state) > 4 and isinstance(state[3], Node):  # noqa: PLR2004 - names, then fields
        return _read_structure(state, depth)
    order = state[1] if len(state) > 1 and state[1] in ("<", ">") else "<"
    return plain_dtype(text).newbyteorder(order)


def _read_structure(state: list[Any], depth: int) -> Any:
    """A structured dtype from ``(version, order, subarray, names, fields, itemsize, ...)``; padding stays out."""
    import numpy as np

    fields = dict(state[4].pairs)
    names = list(state[3].items)
    parts = [read_dtype(fields[name].items[0], depth + 1) for name in names]
    if any(part is None for part in parts):
        return None
    offsets = [fields[name].items[1] for name in names]
    return np.dtype({"names": names, "formats": parts, "offsets": offsets, "itemsize": state[5]})


UNORDERED = ("set", "frozenset")
"""Kinds of node whose items have no order."""


class Node:
    """Something that a pickle makes.

    ``kind`` is list, tuple, dict, set, frozenset, global, call, persistent, extension or array; ``parts`` are what it
    is made from, ``items`` what is appended, ``pairs`` what is set by key, ``states`` what it is built with. Plain
    values (numbers, text, bytes, None, booleans) are themselves.
    """

    __slots__ = ("items", "kind", "pairs", "parts", "states")

    def __init__(self, kind: str, *parts: Any, items: list[Any] | None = None) -> None:
        self.kind = kind
        self.parts = list(parts)
        self.items: list[Any] = items if items is not None else []
        self.pairs: list[tuple[Any, Any]] = []
        self.states: list[Any] = []

    @property
    def global_name(self) -> str:
        """``module.name`` of a global, else empty."""
        if self.kind == "global" and all(isinstance(part, str) for part in self.parts):
            return ".".join(self.parts)
        return ""

    @property
    def called(self) -> str:
        """``module.name`` of what a call would call, else empty."""
        target = self.parts[0] if self.kind == "call" and self.parts else None
        return target.global_name if isinstance(target, Node) else ""
