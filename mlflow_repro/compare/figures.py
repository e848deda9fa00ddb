"""A comparison in a few numbers, by which runs can be sorted and charted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mlflow_repro.model import DIFFERENT_STATUSES, NUMERIC_KINDS, OWN_METRICS

if TYPE_CHECKING:
    from mlflow_repro.model import Comparison, Finding


def summarise(comparison: Comparison) -> dict[str, float]:
    """The metrics called `OWN_METRICS`: how many outcomes judge, how many differ, and the greatest relative error.

    The error is left out where no two judged numbers can be set against each other, or one of them is not finite.
    """
    judged = [row for row in comparison.findings if row.is_judged]
    errors = [error for row in judged if row.kind in NUMERIC_KINDS for error in _relative_errors(row)]
    figures = (
        max(errors, default=math.nan),
        float(len(judged)),
        float(sum(row.status in DIFFERENT_STATUSES for row in judged)),
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
