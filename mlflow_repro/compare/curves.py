"""Thin out histories while they are being compared, so that they can be drawn without reading them once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.values.comparison import EQUAL_STATUSES, Curve

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from mlflow_repro.values.comparison import Finding, Point

    Array = np.ndarray[Any, Any]
    Points = tuple[Array, Array]

BUCKETS = 150
"""Stretches of equal width in steps, of which the least and the greatest value are kept."""
MOST_CURVES = 100
"""That are drawn of two runs: those that differ before the others."""
_ENOUGH_TO_THIN = 8 * BUCKETS


class CurveSampler:
    """Watches the streams of a comparison go by. What it keeps of one is bounded, however long it is."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], list[Points]] = {}

    def watch(self, name: str, side: int, stream: Iterator[Points]) -> Iterator[Points]:
        """The stream as it is; ``side`` is 0 for the reference and 1 for the reproduction."""
        kept = self._kept[name, side] = []
        for block in stream:
            if len(block[0]):
                kept.append(_drop_not_finite(*block))
            if sum(len(steps) for steps, _ in kept) > _ENOUGH_TO_THIN:
                kept[:] = [thin(*_join(kept))]
            yield block

    def curves(self, findings: Iterable[Finding]) -> tuple[Curve, ...]:
        """The curves of the histories among ``findings``, those that differ first; at most `MOST_CURVES`."""
        rows = [row for row in findings if row.kind == "history" and (row.name, 0) in self._kept]
        rows.sort(key=lambda row: row.status in EQUAL_STATUSES)
        found = (
            Curve(name=row.name, reference=self._points(row.name, 0), reproduction=self._points(row.name, 1))
            for row in rows[:MOST_CURVES]
        )
        return tuple(curve for curve in found if len(curve.reference) > 1 or len(curve.reproduction) > 1)

    def _points(self, name: str, side: int) -> tuple[Point, ...]:
        kept = self._kept[name, side]
        if not kept:
            return ()
        steps, values = thin(*_join(kept))
        return tuple(zip(steps.tolist(), values.tolist(), strict=True))


def thin(steps: Array, values: Array) -> Points:
    """At most about 300 of the points: the first, the last, the least and the greatest of each stretch of steps.

    ``steps`` (int64, never falling) and ``values`` (float64, finite) have one length. Thinning what was thinned keeps
    the extremes, so it can be done block by block.
    """
    import numpy as np

    if len(steps) <= 2 * BUCKETS:
        return steps, values
    exact = steps.astype(np.float64)
    width = exact[-1] - exact[0]
    if width == 0:
        places = np.zeros(len(steps), np.int64)
    else:
        places = np.minimum((exact - exact[0]) / width * BUCKETS, BUCKETS - 1).astype(np.int64)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(starts, append=len(places))
    kept = [np.array([0, len(steps) - 1])]
    for reduce in (np.minimum, np.maximum):
        hits = np.flatnonzero(values == np.repeat(reduce.reduceat(values, starts), counts))
        kept.append(hits[np.unique(places[hits], return_index=True)[1]])
    chosen = np.unique(np.concatenate(kept))
    return steps[chosen], values[chosen]


def _drop_not_finite(steps: Array, values: Array) -> Points:
    import numpy as np

    finite = np.isfinite(values)
    return (steps, values) if finite.all() else (steps[finite], values[finite])


def _join(blocks: list[Points]) -> Points:
    import numpy as np

    steps, values = zip(*blocks, strict=True)
    return np.concatenate(steps), np.concatenate(values)
