"""Tables: CSV and TSV cell by cell, Parquet column by column."""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from decimal import Decimal
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.arrays import Tally
from mlflow_repro.compare.artifacts.blobs import (
    MissingReaderError,
    Outcome,
    TooLargeError,
    UnreadableError,
    combine,
    quote,
    reading,
    same_content,
)
from mlflow_repro.compare.artifacts.scalars import Differences, compare_numbers, compare_trees, read_number
from mlflow_repro.compare.artifacts.text import read_text, volatile_columns
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

_BATCH = 16_384  # rows of a Parquet file that are compared at once


def compare_csv(one: Blob, other: Blob, context: Context, delimiter: str = ",") -> Outcome:
    """Cells; numbers with a point or an exponent may lie within tolerance, quotes and line ends do not count."""
    left, right = (_read_csv(blob, context, delimiter) for blob in (one, other))
    if not left or not right:
        raise UnreadableError("there is no row on one side")
    header = left[0] if not any(read_number(cell) is not None for cell in left[0]) else []
    if header and header != right[0]:
        note = f"columns {quote(delimiter.join(header))} and {quote(delimiter.join(right[0]))}"
        return Outcome(status=Status.DIFFERENT, note=note)
    if len(left) != len(right):
        return Outcome(status=Status.DIFFERENT, note=f"{len(left)} and {len(right)} rows{_first_row(left, right)}")
    differences = Differences()
    differences.left_out |= volatile_columns(one.name) & set(header)
    for number, (mine, theirs) in enumerate(zip(left, right, strict=True), start=1):
        if mine != theirs:
            _compare_rows(number, (mine, theirs), header, context, differences)
        if differences.is_enough:
            break
    outcome = differences.outcome("cells", "the cells")
    if outcome.status is Status.DIFFERENT and Counter(map(tuple, left)) == Counter(map(tuple, right)):
        return Outcome(status=Status.DIFFERENT, note=f"the same {len(left)} rows in another order")
    return outcome


def _compare_rows(
    number: int, rows: tuple[list[str], list[str]], header: list[str], context: Context, differences: Differences
) -> None:
    for index, (cell, their_cell) in enumerate(zip_longest(*rows)):
        if cell == their_cell:
            continue
        column = header[index] if index < len(header) else str(index + 1)
        status = Status.IDENTICAL if column in differences.left_out else _compare_cells(cell, their_cell, context)
        if status is not Status.IDENTICAL:
            differences.add(status, partial(_describe_cell, number, column, cell, their_cell))
        if differences.is_enough:
            return


def _describe_cell(number: int, column: str, cell: str | None, their_cell: str | None) -> str:
    return f"row {number}, column {quote(column)}: {_show(cell, column)} and {_show(their_cell, column)}"


def compare_tsv(one: Blob, other: Blob, context: Context) -> Outcome:
    """`compare_csv` with tabulators."""
    return compare_csv(one, other, context, delimiter="\t")


def _read_csv(blob: Blob, context: Context, delimiter: str) -> list[list[str]]:
    text = read_text(blob, context)
    with reading("CSV"):
        rows: list[list[str]] = []
        cells = 0
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True):
            cells += len(row)
            if cells > context.limits.nodes:
                raise TooLargeError(f"it has more than {context.limits.nodes} cells")
            rows.append(row)
        return rows


def _compare_cells(one: str | None, other: str | None, context: Context) -> Status:
    """Two cells whose texts differ; that a number is written in another way (``1e3``, ``1000.0``) does not count."""
    if one is None or other is None:
        return Status.DIFFERENT
    left, right = read_number(one), read_number(other)
    if left is None or right is None:
        return Status.DIFFERENT
    status = compare_numbers(left, right, context.tolerances)
    if status is Status.IDENTICAL and math.isfinite(left) and Decimal(one.strip()) != Decimal(other.strip()):
        return Status.DIFFERENT if context.tolerances.exact else Status.CLOSE  # digits that no float holds
    return status


def _show(cell: str | None, column: str) -> str:
    return "nothing" if cell is None else quote(cell, column)


def _first_row(left: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> str:
    number = next((i for i, pair in enumerate(zip(left, right, strict=False), 1) if pair[0] != pair[1]), 0)
    return f", the first that differs is row {number}" if number else ", those that both have are the same"


def compare_parquet(one: Blob, other: Blob, context: Context) -> Outcome:
    """Columns by their names: types, rows, values. Row groups, compression and metadata do not count."""
    (left, categories), (right, categories_there) = _open_parquet(one), _open_parquet(other)
    categories &= categories_there
    with reading("Parquet"):
        names = [list(side.schema_arrow.names) for side in (left, right)]
        if names[0] != names[1]:
            if sorted(names[0]) == sorted(names[1]):
                return Outcome(status=Status.DIFFERENT, note="the same columns in another order")
            only = [sorted(set(names[0]) - set(names[1])), sorted(set(names[1]) - set(names[0]))]
            return Outcome(
                status=Status.DIFFERENT,
                note=f"columns {quote(only[0])} are in the reference only, {quote(only[1])} in the reproduction only",
            )
        if len(names[0]) > context.limits.members:
            raise TooLargeError(f"it has {len(names[0])} columns")
        rows = left.metadata.num_rows, right.metadata.num_rows
        if rows[0] != rows[1]:
            return Outcome(status=Status.DIFFERENT, note=f"{rows[0]} and {rows[1]} rows")
        if rows[0] * len(names[0]) * 8 > context.limits.expanded:
            raise TooLargeError(f"{rows[0]} rows of {len(names[0])} columns are too many")
        parts = [
            (name, _compare_column(left, right, name, context, has_categories=name in categories))
            for name in dict.fromkeys(names[0])
        ]
        parts += _compare_frame(left, right, context)
    outcome = combine(parts, "columns")
    if outcome.status is Status.IDENTICAL:
        return same_content(f"{rows[0]} rows of {len(names[0])} columns")
    return outcome


def _compare_frame(left: Any, right: Any, context: Context) -> list[tuple[str, Outcome]]:
    """What pandas keeps of a frame beside its columns: which of them are its index, or the range that is."""
    frames = [json.loads((side.schema_arrow.metadata or {}).get(b"pandas", b"{}")) for side in (left, right)]
    keys = ("name", "pandas_type", "metadata") if all(frames) else ()
    kept = [
        {
            "index": [level for level in frame.get("index_columns", ()) if not _is_usual_range(level)],
            "names of columns": [level["name"] for level in frame.get("column_indexes", ()) if level["name"]],
            "columns": [{key: column.get(key) for key in keys} for column in frame.get("columns", ())] if keys else [],
        }
        for frame in frames
    ]
    outcome = compare_trees(kept[0], kept[1], context, same="")
    return [] if outcome.status is Status.IDENTICAL else [("the frame of pandas", outcome)]


def _is_usual_range(level: Any) -> bool:
    """The index that a frame has which was given none: as good as no word about it."""
    return isinstance(level, dict) and (level["start"], level["step"], level["name"]) == (0, 1, None)


def _open_parquet(blob: Blob) -> tuple[Any, set[str]]:
    """The file, and its columns whose values are numbers into a list of categories."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingReaderError("reading Parquet needs pyarrow: pip install 'mlflow-repro[parquet]'") from error
    with reading("Parquet"):
        stream = blob.open()
        found = parquet.ParquetFile(stream)
        # Repeated text stays a number into a dictionary: written out it could be any size.
        texts = [field.name for field in found.schema_arrow if str(field.type) in ("string", "large_string", "binary")]
        categories = {field.name for field in found.schema_arrow if str(field.type).startswith("dictionary<")}
        return (parquet.ParquetFile(stream, read_dictionary=texts) if texts else found), categories


def _compare_column(left: Any, right: Any, name: str, context: Context, *, has_categories: bool) -> Outcome:
    types = left.schema_arrow.field(name).type, right.schema_arrow.field(name).type
    if str(types[0]) != str(types[1]):
        return Outcome(status=Status.DIFFERENT, note=f"type {types[0]} and {types[1]}")
    tally = Tally(context.tolerances)
    parts: list[tuple[str, Outcome]] = []
    start = 0
    for mine, theirs in _batches(left, right, name):
        if (missing := _compare_nulls(mine, theirs, start)) is not None:
            return missing
        if has_categories and not mine.dictionary.equals(theirs.dictionary):
            lists = [quote(array.dictionary.to_pylist()) for array in (mine, theirs)]
            return Outcome(status=Status.DIFFERENT, note=f"categories {lists[0]} and {lists[1]}")
        numbers = _as_numbers(mine), _as_numbers(theirs)
        if numbers[0] is not None and numbers[1] is not None and numbers[0].dtype == numbers[1].dtype:
            tally.add(*numbers)
        elif "float" in str(types[0]) or "double" in str(types[0]) or not mine.equals(theirs):  # to it, 0.0 is -0.0
            outcome = compare_trees(mine.to_pylist(), theirs.to_pylist(), context, same="")
            if outcome.status is not Status.IDENTICAL:
                parts.append((f"from row {start + 1}", outcome))
        start += len(mine)
    if tally.differing:
        return tally.outcome()
    return combine(parts, "batches") if parts else Outcome(status=Status.IDENTICAL)


def _batches(left: Any, right: Any, name: str) -> Any:
    """Arrow arrays of the same rows of both sides; row groups may end at other rows."""
    sources = [side.iter_batches(batch_size=_BATCH, columns=[name]) for side in (left, right)]
    held: list[Any] = [None, None]
    while True:
        for index, source in enumerate(sources):
            while held[index] is None or not len(held[index]):
                batch = next(source, None)
                if batch is None:
                    return
                held[index] = batch.column(0)
        count = min(map(len, held))
        yield held[0].slice(0, count), held[1].slice(0, count)
        held = [array.slice(count) for array in held]


def _compare_nulls(mine: Any, theirs: Any, start: int) -> Outcome | None:
    if not mine.null_count and not theirs.null_count:
        return None
    masks = [array.is_null().to_numpy(zero_copy_only=False) for array in (mine, theirs)]
    different = masks[0] != masks[1]
    if not different.any():
        return None
    return Outcome(status=Status.DIFFERENT, note=f"row {start + int(different.argmax()) + 1} is empty on one side only")


def _as_numbers(array: Any) -> Any:
    """A numpy array of the numbers, 0 where there is none; None for a column of anything else."""
    import pyarrow as pa

    kind = array.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        return None
    return (
        array.fill_null(0).to_numpy(zero_copy_only=False) if array.null_count else array.to_numpy(zero_copy_only=False)
    )
