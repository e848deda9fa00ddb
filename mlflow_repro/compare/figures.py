"""A comparison in a few numbers, by which runs can be sorted and charted, and the growth of an error in one word.

The word hints at the cause: rounding that training amplifies grows; another library or another data set is a constant
error or one jump.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from mlflow_repro.values.comparison import DIFFERENT_STATUSES, NUMERIC_KINDS, Status
from mlflow_repro.values.run import OWN_METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair


def summarise(comparison: Comparison, children: Sequence[JudgedPair] = ()) -> dict[str, float]:
    """The metrics called `OWN_METRICS`: how many outcomes judge, how many differ, and the greatest relative error.

    Those of the ``children`` count as well, and a run without a counterpart as one outcome. The error is left out where
    no two judged numbers can be set against each other, or one of them is not finite.
    """
    comparisons = [comparison, *(pair.comparison for pair in children if pair.comparison)]
    judged = [row for one in comparisons for row in one.findings if row.is_judged]
    alone = [pair.status for pair in children if not pair.comparison and pair.status is not Status.IGNORED]
    statuses = [*(row.status for row in judged), *alone]
    errors = [error for row in judged if row.kind in NUMERIC_KINDS for error in _relative_errors(row)]
    figures = (
        max(errors, default=math.nan),
        float(len(statuses)),
        float(sum(status in DIFFERENT_STATUSES for status in statuses)),
    )
    return {name: value for name, value in zip(OWN_METRICS, figures, strict=True) if math.isfinite(value)}


def _relative_errors(row: Finding) -> list[float]:
    """Of a history the greatest of its points, of a number its own; symmetric, as `compare.metrics` has it."""
    if row.kind == "history":
        if row.details.get("points") and not row.details.get("unequal"):
            return [0.0]
        return [float(row.details["max_relative"])] if "max_relative" in row.details else []
    one, other = row.reference, row.reproduction
    if not (isinstance(one, float) and isinstance(other, float)):
        return []
    scale = max(abs(one), abs(other))
    if one == other or (math.isnan(one) and math.isnan(other)):
        return [0.0]
    return [abs(one / scale - other / scale)] if math.isfinite(scale) else [math.inf]


_SEGMENTS = 8
_FACTOR = 2.0  # medians less than this factor apart are called the same
_JUMP = 0.8  # of the whole growth, in orders of magnitude, between two neighbours


def describe_growth(steps: np.ndarray, errors: np.ndarray) -> str:
    """``constant``, ``growing``, ``shrinking``, ``jump at step N``, or empty for fewer than eight points.

    ``steps`` (int64) and ``errors`` (float64, finite, not negative) are those of the points that differ, in order.
    The medians of eight segments of equal length are compared.
    """
    import numpy as np

    if len(errors) < _SEGMENTS:
        return ""
    bounds = np.linspace(0, len(errors), _SEGMENTS + 1).astype(int)
    floor = np.finfo(np.float64).tiny
    medians = [max(float(np.median(errors[start:end])), floor) for start, end in pairwise(bounds)]
    total = float(np.log(medians[-1] / medians[0]))
    if abs(total) < np.log(_FACTOR):
        return "constant"
    if total < 0:
        return "shrinking"
    rises = [float(np.log(later / earlier)) for earlier, later in pairwise(medians)]
    highest = int(np.argmax(rises))
    # A rise that two neighbouring pairs share fell inside the segment between them.
    shared = sum(rise for rise in rises[max(highest - 1, 0) : highest + 2] if rise > 0)
    if shared < _JUMP * total:
        return "growing"
    start, end = bounds[max(highest - 1, 0)], bounds[min(highest + 3, _SEGMENTS)]
    window = np.maximum(errors[start:end], floor)
    limit = np.sqrt(medians[max(highest - 1, 0)] * medians[min(highest + 2, _SEGMENTS - 1)])
    return f"jump at step {int(steps[start + int(np.argmax(window > limit))])}"
