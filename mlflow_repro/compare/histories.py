"""Compare whole histories of metrics: two streams of points in the order of their steps, in bounded memory.

A stream yields pairs of arrays of one length: steps (int64, never falling) and values (float64). Points are aligned by
``(step, place among the points of that step)``; what is kept of a history is 16 bytes for each point that differs.
"""

from __future__ import annotations

import sys
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from mlflow_repro.compare.figures import describe_growth
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy as np

    from mlflow_repro.values.rules import Rules, Tolerances

    Array = np.ndarray[Any, Any]

    Points = tuple[Array, Array]

    Reading = Literal["whole", "first", "part"]

    Fetch = Callable[[str], tuple[Iterator[Points], Iterator[Points]]]


_AHEAD = 4  # histories that are begun before their turn
_BEFORE, _BEYOND = -(2**63) - 1, 2**63  # steps are int64


@dataclass(frozen=True)
class _Block:
    """Consecutive points of a history, as the streams give them."""

    steps: Array
    values: Array


@dataclass
class _Tally:
    """What is known of a history so far: numbers of points, and the first steps at which they differ."""

    reference: int = 0
    reproduction: int = 0
    different: int = 0
    missing: int = 0
    extra: int = 0
    first: int | None = None
    first_inexact: int | None = None
    first_different: int | None = None
    first_unpaired: int | None = None
    max_ulp: float = 0.0
    repeated: int = 0
    steps: list[Array] = field(default_factory=list)
    errors: list[Array] = field(default_factory=list)


class _Side:
    """One stream, with the points that were read and not compared yet."""

    def __init__(self, blocks: Iterator[Points]) -> None:
        import numpy as np

        self._blocks = blocks
        self.steps = np.empty(0, np.int64)
        self.values = np.empty(0, np.float64)
        self.horizon = _BEFORE
        """The step below which nothing more will come."""

    @property
    def is_done(self) -> bool:
        """True when everything was read and taken."""
        return self.horizon == _BEYOND and not len(self.steps)

    def read(self) -> None:
        """Read one more block, if there is one."""
        import numpy as np

        block = next(self._blocks, None)
        if block is None:
            self.horizon = _BEYOND
        elif len(block[0]):
            self.steps = np.concatenate((self.steps, block[0]))
            self.values = np.concatenate((self.values, block[1]))
            self.horizon = int(self.steps[-1])

    def take(self, below: int) -> _Block:
        """Give away the points whose step is lower than ``below``."""
        import numpy as np

        cut = len(self.steps) if below == _BEYOND else int(np.searchsorted(self.steps, max(below, -(2**63))))
        block = _Block(self.steps[:cut], self.values[:cut])
        self.steps, self.values = self.steps[cut:], self.values[cut:]
        return block


def compare_histories(names: Iterable[str], fetch: Fetch, rules: Rules, reading: Reading = "whole") -> list[Finding]:
    """One finding for each of ``names`` whose history says more than its final value.

    ``fetch`` begins to read a metric's history on both sides and gives the two streams. The next few are begun before
    one is compared, so that they are on their way meanwhile.
    """
    findings: list[Finding] = []
    coming: deque[tuple[str, Iterator[Points], Iterator[Points]]] = deque()
    rest = iter(names)
    while True:
        coming.extend((name, *fetch(name)) for name in islice(rest, _AHEAD - len(coming)))
        if not coming:
            return findings
        name, one, other = coming.popleft()
        found = compare_history(name, one, other, rules.tolerances_of(name), reading)
        if found is not None:
            findings.append(found)


def compare_history(
    name: str,
    reference: Iterator[Points],
    reproduction: Iterator[Points],
    tolerances: Tolerances,
    reading: Reading = "whole",
) -> Finding | None:
    """The finding about one metric's history; None when both sides are one point at the same step.

    A metric that both runs have has a point at least: a side of which the store gives none cannot be judged.

    ``reading`` is ``whole``, ``first`` (no further than the block with the first difference), or ``part``: no further
    than that, and the streams are parts of longer histories.
    """
    one, other, tally = _Side(reference), _Side(reproduction), _Tally()
    while not (one.is_done and other.is_done):
        (one if one.horizon <= other.horizon else other).read()
        below = min(one.horizon, other.horizon)
        _count(one.take(below), other.take(below), tolerances, tally)
        if reading != "whole" and (tally.different or tally.missing or tally.extra):
            break
    is_whole = one.is_done and other.is_done and reading != "part"
    if is_whole and not (tally.reference and tally.reproduction):
        return _judge_empty(_make_finding(name, tally, is_whole=True))
    if is_whole and tally.reference <= 1 and tally.reproduction <= 1 and not (tally.missing or tally.extra):
        return None
    return _make_finding(name, tally, is_whole=is_whole)


def _judge_empty(row: Finding) -> Finding:
    """The finding about a history of which a store gives no point on one side, or on both."""
    sides = (("reference", row.reference), ("reproduction", row.reproduction))
    empty = " and the ".join(side for side, count in sides if not count)
    return replace(row, status=Status.UNKNOWN, note=f"the store gives no point of it in the {empty}")


def _count(here: _Block, there: _Block, tolerances: Tolerances, tally: _Tally) -> None:
    """Add two blocks that cover the same steps to ``tally``."""
    import numpy as np

    tally.reference += len(here.steps)
    tally.reproduction += len(there.steps)
    steps, one, other = _align(here, there, tally)
    if tally.first is None and len(steps):
        tally.first = int(steps[0])
    unequal = ~identical(one, other)
    if not unequal.any():
        return
    steps, one, other = steps[unequal], one[unequal], other[unequal]
    if tally.first_inexact is None:
        tally.first_inexact = int(steps[0])
    different = ~close(one, other, tolerances)
    tally.different += int(different.sum())
    if tally.first_different is None and different.any():
        tally.first_different = int(steps[different.argmax()])
    errors, ulps = measure(one, other)
    if len(ulps):
        tally.max_ulp = max(tally.max_ulp, float(ulps.max()))
    # Several points of one step: their order may be unknown.
    held = [np.searchsorted(side.steps, steps, "right") - np.searchsorted(side.steps, steps) for side in (here, there)]
    tally.repeated += int((np.maximum(*held) > 1).sum())
    tally.steps.append(steps)
    tally.errors.append(errors)


def _align(here: _Block, there: _Block, tally: _Tally) -> tuple[Array, Array, Array]:
    """The steps that both blocks have and the values there; what has no counterpart is counted."""
    import numpy as np

    if len(here.steps) == len(there.steps) and (here.steps == there.steps).all():
        return here.steps, here.values, there.values
    pairs = []
    for block, opposite in ((here, there), (there, here)):
        place = np.arange(len(block.steps)) - np.searchsorted(block.steps, block.steps, "left")
        held = np.searchsorted(opposite.steps, block.steps, "right") - np.searchsorted(opposite.steps, block.steps)
        pairs.append(place < held)
    kept, kept_there = pairs
    tally.missing += int((~kept).sum())
    tally.extra += int((~kept_there).sum())
    unpaired = np.concatenate((here.steps[~kept], there.steps[~kept_there]))
    both = np.intersect1d(here.steps, there.steps)
    tally.repeated += int(np.isin(unpaired, both).sum())
    if tally.first_unpaired is None and len(unpaired):
        tally.first_unpaired = int(unpaired.min())
    return here.steps[kept], here.values[kept], there.values[kept_there]


def align_points(reference: Points, reproduction: Points) -> tuple[Array, Array, Array]:
    """The steps that both sides have a point at, in their order, and the values there."""
    return _align(_Block(*reference), _Block(*reproduction), _Tally())


def identical(one: Array, other: Array) -> Array:
    """Where two float64 arrays have the same bits, are both NaN, or infinite and what a SQL store keeps for that."""
    import numpy as np

    same: Array = one.view(np.int64) == other.view(np.int64)
    if same.all():
        return same
    same |= np.isnan(one) & np.isnan(other)
    greatest = sys.float_info.max
    for left, right in ((one, other), (other, one)):
        same |= np.isinf(left) & (np.abs(right) == greatest) & (np.signbit(left) == np.signbit(right))
    return same


def close(one: Array, other: Array, tolerances: Tolerances) -> Array:
    """Where two float64 arrays are close, number by number as `mlflow_repro.compare.metrics.is_close` says."""
    import numpy as np

    if tolerances.exact:
        same: Array = (one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))
        return same
    finite = np.isfinite(one) & np.isfinite(other)
    with np.errstate(all="ignore"):
        distance = np.abs(one - other)
        limit = np.maximum(tolerances.rel_tol * np.maximum(np.abs(one), np.abs(other)), tolerances.abs_tol)
        near: Array = finite & (distance <= limit)
    if tolerances.ulp:
        near |= finite & (count_ulps(one, other) <= tolerances.ulp)
    near |= (one == other) | (np.isnan(one) & np.isnan(other))
    return near


def alike(one: Array, other: Array, tolerances: Tolerances) -> Array:
    """Where two float64 arrays do not differ: they are identical there, or close."""
    return identical(one, other) | close(one, other, tolerances)


def measure(one: Array, other: Array) -> tuple[Array, Array]:
    """The relative errors (symmetric, NaN where a side is not finite), and the ULP distances of the finite pairs."""
    import numpy as np

    finite = np.isfinite(one) & np.isfinite(other)
    scale = np.maximum(np.abs(one), np.abs(other))
    with np.errstate(all="ignore"):
        distance = np.abs(one - other)
        errors = np.where(np.isfinite(distance), distance / scale, np.abs(one / scale - other / scale))
    errors[scale == 0] = 0.0
    errors[~finite] = np.nan
    return errors, count_ulps(one[finite], other[finite])


def count_ulps(one: Array, other: Array) -> Array:
    """How many floats of their precision lie from one to the other, as unsigned integers; the numbers must be finite.

    The arrays have one dtype, of 16, 32 or 64 bits in either byte order; zeros of two signs are the same place.
    """
    import numpy as np

    size = one.dtype.itemsize
    lowest = np.array(np.iinfo(f"i{size}").min, f"i{size}")
    places = []
    for values in (one, other):
        bits = np.ascontiguousarray(values, values.dtype.newbyteorder("=")).view(f"i{size}")
        places.append(np.where(bits >= 0, bits, lowest - bits))
    low, high = np.minimum(*places), np.maximum(*places)
    distance: Array = high.astype(f"u{size}") - low.astype(f"u{size}")
    return distance


def _make_finding(name: str, tally: _Tally, *, is_whole: bool) -> Finding:
    import numpy as np

    errors = np.concatenate(tally.errors) if tally.errors else np.empty(0)
    steps = np.concatenate(tally.steps) if tally.steps else np.empty(0, np.int64)
    measured = errors[~np.isnan(errors)]
    details: dict[str, float | str] = {"points": min(tally.reference - tally.missing, tally.reproduction - tally.extra)}
    details |= {"unequal": len(errors), "different": tally.different}
    details |= {"missing_points": tally.missing, "extra_points": tally.extra}
    if tally.repeated:
        details["repeated"] = tally.repeated
    for key in ("first", "first_inexact", "first_different", "first_unpaired"):
        step = getattr(tally, key)
        if step is not None:
            details[f"{key}_step"] = step
    if len(measured):
        details |= {"max_relative": float(measured.max()), "median_relative": float(np.median(measured))}
        details["first_relative"] = float(measured[0])
        details["max_ulp"] = tally.max_ulp
        details["growth"] = describe_growth(steps[~np.isnan(errors)], measured)
    details["whole"] = "yes" if is_whole else "no"
    if tally.different or tally.missing or tally.extra:
        status = Status.DIFFERENT
    else:
        status = Status.CLOSE if len(errors) else Status.IDENTICAL
    return Finding(
        kind="history",
        name=name,
        reference=float(tally.reference),
        reproduction=float(tally.reproduction),
        status=status,
        note=_describe(details, status),
        details=details,
    )


def _describe(details: Mapping[str, float | str], status: Status) -> str:
    """The note of a history: where it differs first, how many points do, and by how much."""
    parts = []
    if status is Status.CLOSE:
        parts.append(f"differs within tolerance from step {details['first_inexact_step']} on")
    elif details["different"]:
        parts.append(f"differs from step {details['first_different_step']} on")
    if details["unequal"]:
        parts.append(f"{details['unequal']} of {details['points']} points")
    if details["missing_points"] or details["extra_points"]:
        sides = (("missing_points", "reference"), ("extra_points", "reproduction"))
        counts = [f"{details[key]} points only in the {side}" for key, side in sides if details[key]]
        parts.append(f"{' and '.join(counts)}, the first at step {details['first_unpaired_step']}")
    if "max_relative" in details:
        parts.append(f"relative error up to {details['max_relative']:.3g}, median {details['median_relative']:.3g}")
        parts.append(f"up to {details['max_ulp']:.3g} ULP")
        if details["growth"]:
            parts.append(str(details["growth"]))
    elif details["unequal"]:
        parts.append("NaN or infinite on one side")
    if details["whole"] == "no":
        parts.append("not read any further")
    return ", ".join(parts)


SAMPLE = 300
"""Points of a history that are asked for. With n samples and m points there are m / n left to read."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Steps from ``low`` to ``high``, with a difference at ``high``; ``equal`` samples before it are equal."""

    low: int
    high: int
    equal: int


def find_interval(reference: Points, reproduction: Points, tolerances: Tolerances) -> Interval | None:
    """Between which steps two samples begin to differ; None when all points that both have are close."""
    import numpy as np

    steps, one, other = align_points(reference, reproduction)
    far = np.flatnonzero(~alike(one, other, tolerances))
    if not len(far):
        return None
    first = int(far[0])
    high = int(steps[first])
    # Samples begin with the first step of a history, so nothing comes before it.
    low = int(steps[first - 1]) + 1 if first else int(min(reference[0][0], reproduction[0][0]))
    return Interval(low=min(low, high), high=high, equal=first)


def describe_sampled(found: Finding, interval: Interval) -> Finding:
    """The finding of an interval, with what is known of the steps before it: no more than their samples."""
    details = {**found.details, "whole": "no", "equal_samples": interval.equal}
    note = found.note.removesuffix(", not read any further")
    before = f"before it {interval.equal} samples are equal" if interval.equal else "no sample lies before it"
    return replace(found, details=details, note=f"{note}; found by samples: {before}, and the rest was not read")
