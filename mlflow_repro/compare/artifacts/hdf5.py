"""HDF5 files: groups, attributes and data sets; links to other files are compared, not followed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.arrays import Tally
from mlflow_repro.compare.artifacts.blobs import (
    IDENTICAL,
    MissingReaderError,
    Outcome,
    TooLargeError,
    UnreadableError,
    combine,
    quote,
    reading,
    same_content,
)
from mlflow_repro.compare.artifacts.scalars import compare_trees
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

_ROWS = 1 << 20  # bytes of a data set, about, that are read at once


def compare_hdf5(one: Blob, other: Blob, context: Context) -> Outcome:
    """Everything by its path; chunks, compression and the place in the file do not count."""
    try:
        import h5py
    except ImportError as error:
        raise MissingReaderError("reading HDF5 needs h5py: pip install 'mlflow-repro[hdf5]'") from error
    with (
        one.open() as first,
        other.open() as second,
        reading("HDF5"),
        h5py.File(first, "r") as left,
        h5py.File(second, "r") as right,
    ):
        parts = list(_compare_group(left, right, "", context, set()))
    outcome = combine(parts, "objects")
    return same_content(f"{len(parts)} objects") if outcome.status is Status.IDENTICAL else outcome


def _compare_group(
    left: Any, right: Any, path: str, context: Context, seen: set[tuple[Any, Any]]
) -> Iterator[tuple[str, Outcome]]:
    import h5py

    yield from _compare_attributes(left, right, path, context)
    places = tuple(h5py.h5o.get_info(group.id).addr for group in (left, right))
    if places in seen:  # a group can be a part of itself, and have two names
        return
    seen.add(places)
    for name in sorted({*left, *right}):
        here = f"{path}/{name}"
        links = [group.get(name, getlink=True) for group in (left, right)]
        if links[0] is None or links[1] is None:
            side = "reference" if links[1] is None else "reproduction"
            yield here, Outcome(status=Status.DIFFERENT, note=f"only in the {side}")
            continue
        targets = [_read_target(link) for link in links]
        if targets[0] or targets[1]:
            if targets[0] != targets[1]:
                note = " and ".join(map(_describe_target, targets))
                yield here, Outcome(status=Status.DIFFERENT, note=note)
            continue
        mine, theirs = left[name], right[name]
        if isinstance(mine, h5py.Group) and isinstance(theirs, h5py.Group):
            yield from _compare_group(mine, theirs, here, context, seen)
        elif isinstance(mine, h5py.Dataset) and isinstance(theirs, h5py.Dataset):
            yield here, _compare_dataset(mine, theirs, context)
            yield from _compare_attributes(mine, theirs, here, context)
        elif type(mine) is not type(theirs):
            yield here, Outcome(status=Status.DIFFERENT, note="one is a group, the other a data set")
        elif mine.dtype != theirs.dtype:  # a type that has a name
            yield here, Outcome(status=Status.DIFFERENT, note=f"type {mine.dtype} and {theirs.dtype}")


def _read_target(link: Any) -> tuple[str, ...]:
    """Where a symbolic or an external link leads, with the file of that; empty for the usual link."""
    import h5py

    if isinstance(link, h5py.ExternalLink):
        return str(link.path), str(link.filename)
    return (str(link.path),) if isinstance(link, h5py.SoftLink) else ()


def _describe_target(target: tuple[str, ...]) -> str:
    return "a link to " + " in the file ".join(map(quote, target)) if target else "data"


def _compare_attributes(left: Any, right: Any, path: str, context: Context) -> Iterator[tuple[str, Outcome]]:
    mine, theirs = (
        {name: _plain_attribute(item.attrs[name], item.file) for name in item.attrs} for item in (left, right)
    )
    outcome = compare_trees(mine, theirs, context, same="")
    if outcome.status is not Status.IDENTICAL:
        yield f"attributes of {path or '/'}", outcome


def _plain_attribute(value: Any, file: Any) -> Any:
    """Numbers and text; Keras keeps JSON in text."""
    plain = _plain_element(value, file)
    if isinstance(plain, bytes):
        plain = plain.decode("utf-8", "backslashreplace")
    if isinstance(plain, str) and plain.startswith("{"):
        try:
            return json.loads(plain)
        except (ValueError, RecursionError):
            return plain
    return plain


def _plain_element(item: Any, file: Any) -> Any:
    """Numbers, text and lists of them; of a reference the name of what it leads to."""
    import h5py

    plain = item.tolist() if hasattr(item, "tolist") else item
    if isinstance(plain, (list, tuple)):
        return [_plain_element(part, file) for part in plain]
    if isinstance(plain, h5py.RegionReference):
        raise UnreadableError("it has a reference to a part of a data set")
    if isinstance(plain, h5py.Reference):
        return f"a reference to {file[plain].name if plain else 'nothing'}"
    return plain if isinstance(plain, (str, bytes, int, float, bool)) else repr(plain)


def _compare_dataset(left: Any, right: Any, context: Context) -> Outcome:
    if left.shape != right.shape:
        return Outcome(status=Status.DIFFERENT, note=f"shape {left.shape} and {right.shape}")
    if left.dtype != right.dtype:
        return Outcome(status=Status.DIFFERENT, note=f"dtype {left.dtype} and {right.dtype}")
    if any(side.external or side.is_virtual for side in (left, right)):
        raise UnreadableError("a data set has its data in another file")
    if left.shape is None:  # a data set without data
        return IDENTICAL
    context.budget.spend(2 * left.size * max(left.dtype.itemsize, 1))
    tally = Tally(context.tolerances)
    for mine, theirs in _pieces(left, right, context):
        if mine.dtype.hasobject:
            sides = (mine, left.file), (theirs, right.file)
            values, their_values = ([_plain_element(item, file) for item in piece.reshape(-1)] for piece, file in sides)
            outcome = compare_trees(values, their_values, context, same="")
            if outcome.status is not Status.IDENTICAL:
                return outcome
        else:
            tally.add(mine.reshape(-1), theirs.reshape(-1))
    return tally.outcome(f" (shape {list(left.shape)}, {left.dtype})")


def _pieces(left: Any, right: Any, context: Context) -> Iterator[tuple[Any, Any]]:
    """The same rows of both data sets, a bounded number of bytes at once."""
    import numpy as np

    if not left.shape or not left.size:
        yield np.asarray(left[()]), np.asarray(right[()])
        return
    row = left.size // left.shape[0] * max(left.dtype.itemsize, 1)
    if row > context.limits.held:
        raise TooLargeError(f"a row of a data set has {row} bytes")
    rows = max(1, _ROWS * 16 // row)
    for start in range(0, left.shape[0], rows):
        yield left[start : start + rows], right[start : start + rows]
