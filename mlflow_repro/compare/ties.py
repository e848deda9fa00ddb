"""Points of one step and one millisecond: no store keeps their order, so two histories may differ in nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.histories import compare_history
from mlflow_repro.values.comparison import EQUAL_STATUSES, Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from mlflow_repro.values.rules import Tolerances

    Array = np.ndarray[Any, Any]
    TimedPoints = tuple[Array, Array, Array]


_NEAR = 1000
"""Milliseconds that two points may be apart in one run and in another not at all."""


def compare_timed(
    name: str, reference: TimedPoints, reproduction: TimedPoints, tolerances: Tolerances
) -> Finding | None:
    """`compare_history` of two histories with the times of their points (milliseconds).

    Where both can have been logged in one order, they are compared in it, and the note says of how many points the
    order is unknown.
    """
    one, other, count = settle_ties(reference, reproduction)
    found = compare_history(name, iter([(reference[0], one)]), iter([(reproduction[0], other)]), tolerances)
    lost = _count_lost(reference, reproduction, tolerances) if found and found.status is Status.DIFFERENT else 0
    if found is not None and lost:
        note = f"a SQL store keeps equal points of a step and a millisecond once; {lost} on one side only can be such"
        details = {**found.details, "unordered": count, "lost": lost}
        return replace(found, status=Status.UNKNOWN, note=f"{found.note}; {note}", details=details)
    if found is None or not count:
        return found
    note = f"the order of {count} points is unknown, as they share a step and a millisecond"
    return replace(
        found, note=f"{found.note}; {note}" if found.note else note, details={**found.details, "unordered": count}
    )


def _count_lost(reference: TimedPoints, reproduction: TimedPoints, tolerances: Tolerances) -> int:
    """How many points only one side has because the other can have lost them; 0 where the two differ in more.

    A point that is lost has the step and the value of one that is there, and came shortly before or after it.
    """
    import numpy as np

    sides = reference, reproduction
    counts = [Counter(side[0].tolist()) for side in sides]
    steps = [step for step in {**counts[0], **counts[1]} if counts[0][step] != counts[1][step]]
    lost = 0
    for step in steps:
        here, there = sorted((_take_step(side, step) for side in sides), key=lambda side: len(side[0]))
        kept = set(here[0].view(np.int64).tolist())
        if kept != set(there[0].view(np.int64).tolist()) or not _has_near_equals(*there):
            return 0
        lost += len(there[0]) - len(here[0])
    masks = [~np.isin(side[0], steps) for side in sides]
    if not any(mask.any() for mask in masks):
        return lost
    rest = [(side[0][mask], side[1][mask], side[2][mask]) for side, mask in zip(sides, masks, strict=True)]
    one, other, _ = settle_ties(rest[0], rest[1])
    found = compare_history("", iter([(rest[0][0], one)]), iter([(rest[1][0], other)]), tolerances)
    return lost if found is None or found.status in EQUAL_STATUSES else 0


def _take_step(side: TimedPoints, step: int) -> tuple[Array, Array]:
    """The values of one step, and their times."""
    import numpy as np

    place = slice(np.searchsorted(side[0], step), np.searchsorted(side[0], step, "right"))
    return side[1][place], side[2][place]


def _has_near_equals(values: Array, times: Array) -> bool:
    """True when two points have one value and are no more than `_NEAR` milliseconds apart."""
    import numpy as np

    order = np.lexsort((times, values.view(np.int64)))
    is_same = np.diff(values[order].view(np.int64)) == 0
    return bool((is_same & (np.diff(times[order]) <= _NEAR)).any())


def settle_ties(reference: TimedPoints, reproduction: TimedPoints) -> tuple[Array, Array, int]:
    """Both sides' values, those of a step in an order that both can have been logged in, and of how many it is unknown.

    Points come by step, time and value. Steps of which the two have other numbers of points stay as they are.
    """
    import numpy as np

    values = reference[1].copy(), reproduction[1].copy()
    steps, starts, counts = np.unique(reference[0], return_index=True, return_counts=True)
    steps_there, starts_there, counts_there = np.unique(reproduction[0], return_index=True, return_counts=True)
    _, here, there = np.intersect1d(steps, steps_there, assume_unique=True, return_indices=True)
    unordered = 0
    for index, index_there in zip(here.tolist(), there.tolist(), strict=True):
        count = int(counts[index])
        if count == 1 or count != int(counts_there[index_there]):
            continue
        places = [slice(int(start), int(start) + count) for start in (starts[index], starts_there[index_there])]
        parts = values[0][places[0]], values[1][places[1]]  # views, which are put in order where they are
        if (parts[0].view(np.int64) != parts[1].view(np.int64)).any():
            unordered += _settle_step(parts, (reference[2][places[0]], reproduction[2][places[1]]))
    return *values, unordered


def _settle_step(values: tuple[Array, Array], times: tuple[Array, Array]) -> int:
    """Put the values of one step in a common order, between the points in time that both sides have."""
    import numpy as np

    cuts = [np.flatnonzero(np.diff(side)) + 1 for side in times]
    bounds = np.concatenate(([0], np.intersect1d(cuts[0], cuts[1], assume_unique=True), [len(times[0])]))
    unordered = 0
    for index in np.flatnonzero(np.diff(bounds) > 1).tolist():
        start, end = int(bounds[index]), int(bounds[index + 1])
        inner = [side[np.searchsorted(side, start, "right") : np.searchsorted(side, end)] - start for side in cuts]
        parts = values[0][start:end], values[1][start:end]
        if not all(map(len, inner)) or _can_be_one_order(parts, inner):
            for part in parts:
                part[:] = part[np.lexsort((part.view(np.int64), part))]
            unordered += end - start
    return unordered


def _can_be_one_order(values: tuple[Array, Array], cuts: Sequence[Array]) -> bool:
    """True when one sequence of values has every beginning that either side is known to have had at its ``cuts``.

    So each beginning must hold all that a shorter one of the other side does.
    """
    import numpy as np

    bits = [part.view(np.int64) for part in values]
    if (np.sort(bits[0]) != np.sort(bits[1])).any():
        return False
    more: Counter[int] = Counter()  # how many more of a value the second beginning has than the first
    signs = Counter((0,))  # of how many values it has more (1) and fewer (-1)
    taken, last = [0, 0], 0
    for cut, side in sorted((int(cut), number) for number in (0, 1) for cut in cuts[number]):
        for value in bits[side][taken[side] : cut].tolist():
            signs[_sign(more[value])] -= 1
            more[value] += 1 if side else -1
            signs[_sign(more[value])] += 1
        taken[side] = cut
        if side != last and signs[-1 if side else 1]:
            return False
        last = side
    return True


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def settle_final_values(metrics: Iterable[Finding], fetched: Iterable[Finding]) -> list[Finding]:
    """The findings about final values; where a history is equal but for the order of points, so is its last value.

    A store takes the greatest value of the last millisecond for the last one. Of a history that may have lost points
    the last value cannot be judged either.
    """
    statuses = {
        row.name: row.status
        for row in fetched
        if row.kind == "history" and (row.details.get("unordered") or row.details.get("lost"))
    }
    note = "of several points of the last millisecond nobody knows which is the last"
    return [
        replace(row, status=statuses[row.name], note=f"{row.note}; {note}")
        if row.status in (Status.CLOSE, Status.DIFFERENT)
        and statuses.get(row.name) in (*EQUAL_STATUSES, Status.UNKNOWN)
        else row
        for row in metrics
    ]
