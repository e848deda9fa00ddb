"""The shape of a difference: how large it is where it begins, and when it begins. It speaks for and against causes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.values.comparison import Comparison, Finding

_ULP_LIMIT = 1e-12  # a few thousand ULP of float64: another order of the same sums
_ROUNDING_LIMIT = 1e-5  # a hundred ULP of float32, what most training computes with

# How likely a difference looks so, by the kind of its cause; the rows need not sum to 1, only to compare. Another order
# of sums shows in the last digits and grows; other numbers, data or code are seen at once.
_LIKELIHOODS: Mapping[str, Mapping[str, float]] = {
    "code": {"ulp": 0.1, "rounding": 0.1, "visible": 0.7, "structure": 0.9, "files": 0.5},
    "parameter": {"ulp": 0.03, "rounding": 0.05, "visible": 0.95, "structure": 0.5, "files": 0.3},
    "seed": {"ulp": 0.01, "rounding": 0.03, "visible": 0.95, "structure": 0.05, "files": 0.3},
    "random_state": {"ulp": 0.01, "rounding": 0.03, "visible": 0.95, "structure": 0.05, "files": 0.3},
    "data": {"ulp": 0.02, "rounding": 0.05, "visible": 0.95, "structure": 0.3, "files": 0.3},
    "package": {"ulp": 0.4, "rounding": 0.4, "visible": 0.5, "structure": 0.5, "files": 0.6},
    "python": {"ulp": 0.2, "rounding": 0.1, "visible": 0.4, "structure": 0.4, "files": 0.4},
    "threads": {"ulp": 0.9, "rounding": 0.9, "visible": 0.1, "structure": 0.01, "files": 0.1},
    "blas": {"ulp": 0.9, "rounding": 0.9, "visible": 0.1, "structure": 0.01, "files": 0.1},
    "cpu": {"ulp": 0.9, "rounding": 0.9, "visible": 0.1, "structure": 0.01, "files": 0.1},
    "gpu": {"ulp": 0.5, "rounding": 0.9, "visible": 0.3, "structure": 0.02, "files": 0.2},
    "determinism": {"ulp": 0.3, "rounding": 0.9, "visible": 0.3, "structure": 0.02, "files": 0.2},
    "hash_seed": {"ulp": 0.5, "rounding": 0.3, "visible": 0.6, "structure": 0.3, "files": 0.5},
    "variable": {"ulp": 0.1, "rounding": 0.1, "visible": 0.5, "structure": 0.3, "files": 0.3},
    "not_restored": {"ulp": 0.1, "rounding": 0.1, "visible": 0.6, "structure": 0.6, "files": 0.4},
    "locale": {"ulp": 0.02, "rounding": 0.02, "visible": 0.6, "structure": 0.4, "files": 0.5},
    "time": {"ulp": 0.1, "rounding": 0.1, "visible": 0.6, "structure": 0.3, "files": 0.6},
    "nondeterminism": {"ulp": 0.4, "rounding": 0.4, "visible": 0.4, "structure": 0.2, "files": 0.4},
}
# Of causes that are there from the beginning, most show in the first step. Threads that race need not.
_LATER: Mapping[str, float] = {
    "parameter": 0.4,
    "data": 0.4,
    "seed": 0.4,
    "random_state": 0.5,
    "package": 0.5,
    "python": 0.5,
    "locale": 0.3,
    "code": 0.7,
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """``size`` is ``ulp``, ``rounding``, ``visible``, ``structure`` (one run has what the other lacks) or ``files``.

    ``step`` is the first step that differs, None where no history does; ``is_later`` when steps before it agree.
    ``relative`` is the greatest relative error there.
    """

    size: str
    relative: float = 0.0
    step: int | None = None
    is_later: bool = False
    metric: str = ""

    def likelihood(self, kind: str) -> float:
        """How likely a cause of ``kind`` looks like this, to compare with others."""
        row = _LIKELIHOODS.get(kind, _LIKELIHOODS["variable"])
        return row[self.size] * (_LATER.get(kind, 1.0) if self.is_later else 1.0)

    def describe(self) -> str:
        """The shape in one line."""
        if self.size == "structure":
            return "one run has metrics or points that the other lacks"
        if self.size == "files":
            return "only artifacts differ"
        when = ""
        if self.step is not None:
            when = f" at step {self.step}, where the histories part" if self.is_later else " from the first step on"
        size = {"ulp": "in the last digits of float64", "rounding": "in the last digits of float32"}.get(self.size, "")
        extent = size or "far more than rounding"
        return f"{self.metric} differs by {self.relative:.3g} of its value{when}: {extent}"


def find_shape(comparison: Comparison) -> Shape:
    """The shape of what is not equal, by the largest difference where it begins."""
    unequal = [row for row in comparison.findings if row.is_judged and row.status is not Status.IDENTICAL]
    histories = [row for row in unequal if row.kind == "history"]
    with_history = {row.name for row in histories}
    numbers = [row for row in unequal if row.kind in ("metric", "model_metric") and row.name not in with_history]
    if any(_lacks(row) for row in unequal if row.kind != "artifact"):
        return Shape(size="structure")
    errors = {row.name: _first_error(row) for row in [*histories, *numbers]}
    if not errors:
        return Shape(size="files")
    name = max(errors, key=lambda key: errors[key])
    steps = [int(row.details["first_inexact_step"]) for row in histories if "first_inexact_step" in row.details]
    step = min(steps, default=None)
    is_later = bool(steps) and all(_begins_later(row) for row in histories) and not numbers
    relative = errors[name]
    size = "ulp" if relative <= _ULP_LIMIT else "rounding" if relative <= _ROUNDING_LIMIT else "visible"
    return Shape(size=size, relative=relative, step=step, is_later=is_later, metric=name)


def _lacks(row: Finding) -> bool:
    return row.status in (Status.MISSING, Status.EXTRA) or bool(
        row.details.get("missing_points") or row.details.get("extra_points")
    )


def _first_error(row: Finding) -> float:
    """The relative error where the row begins to differ; 1 where a side is no number."""
    if row.kind == "history":
        return float(row.details.get("first_relative", row.details.get("median_relative", 1.0)))
    one, other = row.reference, row.reproduction
    if not (isinstance(one, (int, float)) and isinstance(other, (int, float))):
        return 1.0
    if not (math.isfinite(one) and math.isfinite(other)):
        return 1.0
    scale = max(abs(one), abs(other))
    return abs(one - other) / scale if scale else 0.0


def _begins_later(row: Finding) -> bool:
    """True when points before the first that differs are the same."""
    first, start = row.details.get("first_inexact_step"), row.details.get("first_step")
    return first is not None and start is not None and int(first) > int(start)
