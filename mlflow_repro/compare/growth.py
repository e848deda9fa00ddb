"""How the error of a history goes on after the first difference: one word that hints at the cause.

Rounding that training amplifies grows; another library or another data set is a constant error or one jump.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

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
