"""Find where two long histories differ from a sample of both: the difference lies between two points of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.histories import align_points, close

if TYPE_CHECKING:
    from mlflow_repro.compare.histories import Points
    from mlflow_repro.model import Finding
    from mlflow_repro.rules import Tolerances

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
    far = np.flatnonzero(~close(one, other, tolerances))
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
