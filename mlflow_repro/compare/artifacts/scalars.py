"""Compare single numbers, and trees of plain values (what JSON and YAML hold)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import IDENTICAL, Outcome, TooLargeError, quote, same_content
from mlflow_repro.compare.metrics import is_close
from mlflow_repro.text.listing import list_some
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from mlflow_repro.compare.artifacts.blobs import Context
    from mlflow_repro.values.rules import Tolerances

_SHOWN = 3
_MOST = 100_000  # differences that are counted
_LARGEST_WHOLE = 2**53  # beyond it floats are not near enough together to stand for integers
_LONGEST_INTEGER = 4000  # digits; Python reads no more than 4300
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_REAL = re.compile(r"[+-]?((?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|0|[1-9][0-9]*)(?:[eE]([+-]?[0-9]{1,5}))?")
_WORDS = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


def compare_numbers(one: float, other: float, tolerances: Tolerances) -> Status:
    """Two real numbers: the same value and sign is IDENTICAL (NaN equals NaN), near is CLOSE as of `is_close`.

    Integers are the same or not, unless ``tolerances.integers``. Where the tolerance is exact, zeros of two signs are
    DIFFERENT.
    """
    if one == other:
        if one or math.copysign(1, one) == math.copysign(1, other):
            return Status.IDENTICAL
        return Status.DIFFERENT if tolerances.exact else Status.CLOSE
    whole = [value for value in (one, other) if isinstance(value, int)]
    if len(whole) == 2:  # noqa: PLR2004 - both sides
        return Status.CLOSE if _are_near_integers(whole[0], whole[1], tolerances) else Status.DIFFERENT
    if any(abs(value) > _LARGEST_WHOLE for value in whole):
        return Status.DIFFERENT
    if math.isnan(one) and math.isnan(other):
        return Status.IDENTICAL
    return Status.CLOSE if is_close(one, other, tolerances) else Status.DIFFERENT


def _are_near_integers(one: int, other: int, tolerances: Tolerances) -> bool:
    """True when a rule allows integers to differ and these lie within it; in fractions, for they can be of any size."""
    if not tolerances.integers or tolerances.exact:
        return False
    relative = Fraction(tolerances.rel_tol) * max(abs(one), abs(other))
    return abs(one - other) <= max(relative, Fraction(tolerances.abs_tol))


def read_number(text: str) -> int | float | None:
    """The number that a text stands for by itself, None for any other text.

    An integer is written in one way; what only looks like one (``007``, ``+5``, ``1_000``) is a text. So is what no
    float can hold: ``1e999``, and a zero with an exponent, which digests can look like (``0e12``).
    """
    text = text.strip(" ")
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= _LONGEST_INTEGER else None
    if _WORDS.fullmatch(text):
        return float(text)
    found = _REAL.fullmatch(text)
    if not found or not (found[2] or "." in text or text == "-0"):
        return None
    value = float(text)
    if math.isinf(value) or (not value and (found[1].strip("0.") or int(found[2] or 0))):
        return None
    return value


class Differences:
    """Counts what differs, what is only near, keeps the first few of each, and the names of what was left out."""

    def __init__(self) -> None:
        self.different: list[str] = []
        self.close: list[str] = []
        self.count = {Status.DIFFERENT: 0, Status.CLOSE: 0}
        self.left_out: set[str] = set()

    def add(self, status: Status, describe: Callable[[], str]) -> None:
        """One place that is DIFFERENT or CLOSE. To describe it costs much more than to count it: most are not."""
        self.count[status] += 1
        kept = self.different if status is Status.DIFFERENT else self.close
        if len(kept) < _SHOWN:
            kept.append(describe())

    @property
    def is_enough(self) -> bool:
        """True when so much differs that nobody needs the exact number."""
        return self.count[Status.DIFFERENT] >= _MOST

    def outcome(self, noun: str, same: str) -> Outcome:
        """What they come to; ``same`` says what was compared when nothing differs."""
        for status, kept, how in (
            (Status.DIFFERENT, self.different, "differ"),
            (Status.CLOSE, self.close, "are not the same"),
        ):
            count = self.count[status]
            if count:
                nouns = noun if count > 1 else noun.removesuffix("s")
                verb = how if count > 1 else how.replace("differ", "differs").replace("are", "is")
                least = "at least " if self.is_enough else ""
                return Outcome(
                    status=status, note=f"{least}{count} {nouns} {verb}: {list_some(kept, _SHOWN, count=count)}"
                )
        without = f", without {', '.join(sorted(self.left_out))}" if self.left_out else ""
        return same_content(same + without) if same else IDENTICAL


def compare_trees(one: Any, other: Any, context: Context, *, ignored: Collection[str] = (), same: str) -> Outcome:
    """Two trees of dicts, lists and scalars; a difference is named by its path. Keys in ``ignored`` are left out.

    Numbers may lie within tolerance; true is no number. Raises UnreadableError beyond `Limits.nodes` values.
    """
    differences = Differences()
    for count, (path, left, right) in enumerate(_walk(one, other, ignored, differences.left_out)):
        if differences.is_enough:
            break
        if count > context.limits.nodes:
            raise TooLargeError(f"it holds more than {context.limits.nodes} values")
        _compare_leaf(path, left, right, context, differences)
    return differences.outcome("values", same)


_LENGTH = object()
_Path = tuple[Any, Any] | None
"""The path above and a key as text, an index, or `_LENGTH`; put together only where it is shown: trees can be deep."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


@dataclass(frozen=True)
class _Length:
    """How many values a list holds; no number, so that no tolerance makes two lengths the same."""

    length: int

    def __repr__(self) -> str:
        return f"{self.length} values"


ABSENT = _Absent()


def _walk(one: Any, other: Any, ignored: Collection[str], left_out: set[str]) -> Iterator[tuple[_Path, Any, Any]]:
    """Each pair of leaves with its path; a missing one is `ABSENT`. Not recursive: documents can be deep."""
    stack: list[Iterator[tuple[_Path, Any, Any]]] = [iter([(None, one, other)])]
    while stack:
        pair = next(stack[-1], None)
        if pair is None:
            stack.pop()
            continue
        path, left, right = pair
        if isinstance(left, dict) and isinstance(right, dict):
            stack.append(_pair_values(path, left, right, ignored, left_out))
        elif isinstance(left, list) and isinstance(right, list):
            stack.append(_pair_items(path, left, right))
            if len(left) != len(right):
                yield (path, _LENGTH), _Length(len(left)), _Length(len(right))
        else:
            yield path, left, right


def _pair_values(
    path: _Path, left: dict[Any, Any], right: dict[Any, Any], ignored: Collection[str], left_out: set[str]
) -> Iterator[tuple[_Path, Any, Any]]:
    # With their types: 1 and true are the same key of a dict, and not of a document.
    mine, theirs = ({(type(key), key): value for key, value in side.items()} for side in (left, right))
    for key in {**mine, **theirs}:
        values = mine.get(key, ABSENT), theirs.get(key, ABSENT)
        if key[1] not in ignored:
            yield (path, str(key[1])), *values
        elif values[0] != values[1]:
            left_out.add(str(key[1]))


def _pair_items(path: _Path, left: list[Any], right: list[Any]) -> Iterator[tuple[_Path, Any, Any]]:
    for index, pair in enumerate(zip(left, right, strict=False)):
        yield (path, index), *pair


def _write_path(path: _Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, part = path
        if part is _LENGTH:
            return f"length of {_write_path(path) or 'the list'}"
        parts.append(f"[{part}]" if isinstance(part, int) else f".{part}")
    return "".join(reversed(parts)).removeprefix(".")


def _compare_leaf(path: _Path, left: Any, right: Any, context: Context, differences: Differences) -> None:
    if is_number(left) and is_number(right):
        status = compare_numbers(left, right, context.tolerances)
    elif type(left) is type(right) or (isinstance(left, date) and isinstance(right, date)):
        status = Status.IDENTICAL if left == right else Status.DIFFERENT
    else:
        status = Status.DIFFERENT
    if status is not Status.IDENTICAL:
        differences.add(status, lambda: _describe(_write_path(path), left, right))


def _describe(path: str, left: Any, right: Any) -> str:
    key = path.rpartition(".")[2]
    return f"{quote(path)[1:-1] or 'the whole'}: {_show(left, key)} and {_show(right, key)}"


def is_number(value: Any) -> bool:
    """A real number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _show(value: Any, name: str) -> str:
    if isinstance(value, (dict, list)):
        return f"a {'mapping' if isinstance(value, dict) else 'list'} of {len(value)}"
    return quote(value, name)
