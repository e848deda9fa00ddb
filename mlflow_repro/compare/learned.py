"""Learn tolerances from repeats of one run: as wide as the repeats were, and half as much again."""

from __future__ import annotations

import glob
import math
import sys
from decimal import ROUND_CEILING, Context
from typing import TYPE_CHECKING

from mlflow_repro.compare.metrics import is_close
from mlflow_repro.compare.statistics import learn_tolerance
from mlflow_repro.values.rules import Rules, ToleranceRule, Tolerances

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.values.run import Run

_ROUNDING = Context(prec=3, rounding=ROUND_CEILING)


def learn_rules(runs: Sequence[Run], rules: Rules) -> tuple[Rules, list[str]]:
    """A tolerance for the final value of each metric that judges, and what could not be learned, with the reason.

    ``rules`` say which metrics judge; the tolerances in them are replaced. Repeats that their default tolerance finds
    equal need no wider one, and get that.
    """
    learned, left_out = [], []
    for name in sorted({name for run in runs for name in run.metrics}):
        values = [run.metrics[name] for run in runs if name in run.metrics]
        kind, size = learn_tolerance(values) if all(map(math.isfinite, values)) else ("", math.inf)
        reason = rules.why_ignored(name)
        if not reason and len(values) < len(runs):
            reason = f"only {len(values)} of {len(runs)} runs have it"
        elif not reason and not all(map(math.isfinite, values)):
            reason = "it is not finite in every run"
        elif not reason and not math.isfinite(size):
            reason = "its repeats lie further apart than a number can tell"
        if reason:
            left_out.append(f"{name}: {reason}")
            continue
        size = _round_up(size)
        tolerances = Tolerances(rel_tol=size) if kind == "rel" else Tolerances(rel_tol=0.0, abs_tol=size)
        if all(
            is_close(one, other, rules.default) for one in (values[0], min(values), max(values)) for other in values
        ):
            tolerances = rules.default
        learned.append(ToleranceRule(pattern=glob.escape(name), tolerances=tolerances))
    return Rules(
        default=rules.default, tolerances=tuple(learned), only=rules.only, ignore=rules.ignore, judge=rules.judge
    ), left_out


def _round_up(size: float) -> float:
    """To three digits, upwards: what was seen must stay within."""
    return min(float(_ROUNDING.create_decimal(repr(size))), sys.float_info.max)
