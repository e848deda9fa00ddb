"""Pickles, joblib's and cloudpickle's among them, compared by what they would make. They are never loaded."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts import models
from mlflow_repro.compare.artifacts.arrays import compare_arrays
from mlflow_repro.compare.artifacts.blobs import Outcome, TooLargeError, UnreadableError, quote, reading
from mlflow_repro.compare.artifacts.pickle_arrays import UNORDERED, Node, read_array
from mlflow_repro.compare.artifacts.pickle_reading import read_pickle
from mlflow_repro.compare.artifacts.scalars import Differences, compare_numbers, is_number
from mlflow_repro.compare.artifacts.text import VOLATILE_KEYS, VOLATILE_PLACES
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

_DECOMPRESSORS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    b"x": zlib.decompressobj,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ": lzma.LZMADecompressor,
    b"]\0\0": lzma.LZMADecompressor,
}
# What cloudpickle draws anew in each process, by the place among the arguments of what it calls.
_TRACKER_ID = {"_make_skeleton_class": 5, "_make_skeleton_enum": 6}
_CODE = ("CodeType", "code")
_DIGEST_DEPTH = 20
_LONGEST_PATH = 4000  # characters


def compare_pickle(one: Blob, other: Blob, context: Context) -> Outcome:
    """What two pickles would make, value by value, with arrays of numpy's within tolerance.

    The memo, the protocol, the order of a set's elements, padding in structures, the folders of source files,
    `VOLATILE_KEYS` and the ids that cloudpickle gives to classes do not count.
    """
    left, right = (read_pickle(_unpack(blob, context), limit=context.limits.opcodes) for blob in (one, other))
    differences = Differences()
    seen: set[tuple[int, int]] = set()
    stack: list[tuple[str, Any, Any]] = [("", left, right)]
    while stack and not differences.is_enough:
        path, mine, theirs = stack.pop()
        if not (isinstance(mine, Node) and isinstance(theirs, Node)):
            _compare_plain(path, mine, theirs, context, differences)
            continue
        if mine is theirs or (id(mine), id(theirs)) in seen:
            continue
        if len(seen) > context.limits.nodes:
            raise TooLargeError(f"it holds more than {context.limits.nodes} values")
        seen.add((id(mine), id(theirs)))
        stack += reversed(list(_compare_nodes(path, mine, theirs, context, differences)))
    return differences.outcome("values", "what the pickle makes")


def _unpack(blob: Blob, context: Context) -> bytes:
    """The pickle, out of the compression that joblib may have put around it."""
    content = blob.read(context.limits.held)
    make = next((make for magic, make in _DECOMPRESSORS.items() if content.startswith(magic)), None)
    if make is None:
        return content
    allowed = min(context.limits.held, max(context.limits.unsuspected, context.limits.ratio * blob.size))
    with reading("a compressed pickle"):
        machine = make()
        found: bytes = machine.decompress(content, allowed + 1)
    if len(found) > allowed:
        raise TooLargeError("it unpacks to more than the limit")
    if not machine.eof or machine.unused_data:
        raise UnreadableError("what is compressed is cut off, or something follows it")
    context.budget.spend(len(found))
    return found


def _compare_plain(path: str, mine: Any, theirs: Any, context: Context, differences: Differences) -> None:
    if is_number(mine) and type(mine) is type(theirs):
        status = compare_numbers(mine, theirs, context.tolerances)
    else:
        status = Status.IDENTICAL if type(mine) is type(theirs) and mine == theirs else Status.DIFFERENT
        if status is Status.DIFFERENT and _is_same_catboost(mine, theirs):
            differences.left_out.add(models.LEFT_OUT)
            return
    if status is not Status.IDENTICAL:
        differences.add(status, lambda: f"{_where(path)}: {_show(mine, path)} and {_show(theirs, path)}")


def _is_same_catboost(mine: Any, theirs: Any) -> bool:
    """True for the bytes of two models that differ by no more than when they were trained."""
    if not all(isinstance(side, (bytes, bytearray)) and side.startswith(models.MAGIC) for side in (mine, theirs)):
        return False
    return models.mask_training(bytes(mine)) == models.mask_training(bytes(theirs))


def _compare_nodes(
    path: str, mine: Node, theirs: Node, context: Context, differences: Differences
) -> Iterator[tuple[str, Any, Any]]:
    """Note what differs between two nodes themselves; yield what is to be compared next."""
    arrays = read_array(mine), read_array(theirs)
    if arrays[0] is not None and arrays[1] is not None:
        outcome = compare_arrays(*arrays, context.tolerances)
        if outcome.status is not Status.IDENTICAL:
            differences.add(outcome.status, lambda: f"{_where(path)}: {outcome.note}")
        return
    if (mine.global_name, mine.called) != (theirs.global_name, theirs.called) or mine.kind != theirs.kind:
        differences.add(Status.DIFFERENT, lambda: f"{_where(path)}: {_show(mine, '')} and {_show(theirs, '')}")
        return
    yield from _pair_up(
        f"{path}()" if mine.kind == "call" and path else path,
        *_without_volatile(mine, theirs, differences.left_out),
        differences,
    )
    if mine.kind in UNORDERED:
        cache: dict[int, str] = {}
        sides = [sorted(node.items, key=lambda item: _digest(item, cache, 0)) for node in (mine, theirs)]
        yield from _pair_up(path, sides[0], sides[1], differences)
    else:
        yield from _pair_up(path, mine.items, theirs.items, differences)
    yield from _pair_by_key(path, mine, theirs, differences)
    yield from _pair_up(path, mine.states, theirs.states, differences, is_whole=True)


def _without_volatile(mine: Node, theirs: Node, left_out: set[str]) -> tuple[list[Any], list[Any]]:
    """What two nodes are made from, less cloudpickle's class ids and the folders of source files."""
    sides = [list(mine.parts), list(theirs.parts)]
    name = mine.called.rpartition(".")[2]
    place = _TRACKER_ID.get(name) if mine.called.startswith("cloudpickle.") else None
    if place is not None:
        if sides[0][place : place + 1] != sides[1][place : place + 1]:
            left_out.add("cloudpickle's class ids")
        for side in sides:
            del side[place : place + 1]
    if name in _CODE or _makes_code(mine):
        for index, pair in enumerate(zip(*sides, strict=False)):
            if all(isinstance(part, str) for part in pair) and _is_same_file(pair[0], pair[1], left_out):
                sides[1][index] = pair[0]
    return sides[0], sides[1]


def _makes_code(node: Node) -> bool:
    """True for ``_builtin_type("CodeType")(...)``, which is how cloudpickle names it."""
    target = node.parts[0] if node.kind == "call" and node.parts else None
    return isinstance(target, Node) and target.called.endswith("_builtin_type") and target.parts[1:] == ["CodeType"]


def _is_same_file(one: str, other: str, left_out: set[str]) -> bool:
    """The same file name, in whatever folder: a reproduction runs in another one."""
    is_same = one.replace("\\", "/").rpartition("/")[2] == other.replace("\\", "/").rpartition("/")[2]
    if is_same and one != other:
        left_out.add("the folders of source files")
    return is_same


def _pair_up(
    path: str, mine: list[Any], theirs: list[Any], differences: Differences, *, is_whole: bool = False
) -> Iterator[tuple[str, Any, Any]]:
    if len(path) > _LONGEST_PATH:
        raise TooLargeError("its values are nested too deep")
    if len(mine) != len(theirs):
        differences.add(Status.DIFFERENT, lambda: f"{_where(path)}: {len(mine)} and {len(theirs)} values")
    for index, pair in enumerate(zip(mine, theirs, strict=False)):
        yield (path if is_whole else f"{path}[{index}]"), *pair


def _pair_by_key(path: str, mine: Node, theirs: Node, differences: Differences) -> Iterator[tuple[str, Any, Any]]:
    """The values of dicts by their keys where those are plain, whatever their order; else by their order."""
    if not (mine.pairs or theirs.pairs):
        return
    if any(isinstance(key, Node) for key, _ in (*mine.pairs, *theirs.pairs)):
        for name, place in (("key", 0), ("value", 1)):
            sides = [[pair[place] for pair in node.pairs] for node in (mine, theirs)]
            yield from _pair_up(f"{path}.{name}", sides[0], sides[1], differences)
        return
    left, right = ({(type(key), key): value for key, value in node.pairs} for node in (mine, theirs))
    volatile = {key for place, keys in VOLATILE_PLACES.items() if path.endswith(place) for key in keys}
    for typed in {**left, **right}:
        key, here = typed[1], f"{path}.{typed[1]}"
        if typed not in left or typed not in right:
            side = "reference" if typed in left else "reproduction"
            differences.add(Status.DIFFERENT, partial(_describe_missing, here, side))
        elif key == "__file__" and all(isinstance(side[typed], str) for side in (left, right)):
            if not _is_same_file(left[typed], right[typed], differences.left_out):
                yield here, left[typed], right[typed]
        elif key in VOLATILE_KEYS or key in volatile:
            differences.left_out.add(str(key))
        else:
            yield here, left[typed], right[typed]


def _describe_missing(path: str, side: str) -> str:
    return f"{_where(path)}: only in the {side}"


def _digest(item: Any, cache: dict[int, str], depth: int) -> str:
    """A text that orders a set's elements in a way that does not depend on how they were hashed."""
    if not isinstance(item, Node):
        return f"{type(item).__name__} {item!r}"
    if depth > _DIGEST_DEPTH:
        return item.kind
    if id(item) not in cache:
        cache[id(item)] = item.kind  # where it is a part of itself
        inside = (*item.parts, *item.items, *(part for pair in item.pairs for part in pair), *item.states)
        inner = [_digest(part, cache, depth + 1) for part in inside]
        text = f"{item.kind} {sorted(inner) if item.kind in UNORDERED else inner}"
        cache[id(item)] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return cache[id(item)]


def _where(path: str) -> str:
    return quote(path.removeprefix("."))[1:-1] or "the object"


def _show(value: Any, path: str) -> str:
    if isinstance(value, Node):
        return value.global_name or (f"a {value.called}" if value.called else f"a {value.kind}")
    return quote(value, path.rpartition(".")[2])
