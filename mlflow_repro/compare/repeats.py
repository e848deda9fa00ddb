"""Judge runs that were repeated: what lies beyond the tolerances may still be no further off than repeats are.

One run against one allows no statistical statement. Three or more on one side give a prediction interval for the
single run of the other; three or more on both sides are judged by equivalence and difference of their means.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from mlflow_repro.compare.facts import compare_params
from mlflow_repro.compare.metrics import compare_status, compare_value, find_unused_rules
from mlflow_repro.compare.statistics import (
    ALPHA,
    FEWEST,
    TRIMMED_RATIO,
    average,
    count_repeats,
    find_interval,
    find_limit,
    judge_difference,
    judge_equivalence,
    judge_value,
    reject_holm,
    spread,
    trim_mean,
)
from mlflow_repro.values.comparison import EQUAL_STATUSES, Comparison, Finding, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run

_T = TypeVar("_T")
_MARGIN_SPREADS = 2.0  # the default margin, in standard deviations of the reference


@dataclass
class _Case:
    """One metric that bits and tolerances do not decide: its values, and what the tests say of it."""

    name: str
    reference: list[float]
    reproduction: list[float]
    status: Status = Status.UNKNOWN
    note: str = ""
    p: float | None = None
    details: dict[str, float | str] = field(default_factory=dict)


def compare_repeats(
    references: Sequence[Run],
    reproductions: Sequence[Run],
    rules: Rules,
    margins: Mapping[str, float] | None = None,
    better: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare runs that were meant to be the same, by final metrics.

    ``margins`` by pattern are in the metric's unit. ``better`` says by pattern whether ``higher`` or ``lower`` is
    better: of those metrics it is asked whether the reproductions are as good as the references, and no more.

    Of each metric the finding holds the means; its details how many runs, their spread, and what the tests gave.
    """
    runs = (*references, *reproductions)
    names = sorted({name for run in runs for name in run.metrics})
    findings: list[Finding] = []
    cases: list[_Case] = []
    for name in names:
        found = _compare_plainly(name, references, reproductions, rules)
        if found is not None:
            findings.append(found)
            continue
        one, other = ([run.metrics[name] for run in side] for side in (references, reproductions))
        cases.append(_Case(name, one, other))
    for case in cases:
        direction = _first_of(case.name, better or {})
        if direction:
            _test_as_good_as(case, sign=1 if direction == "higher" else -1)
        else:
            _test(case, _first_of(case.name, margins or {}))
    rejected = reject_holm({case.name: case.p for case in cases if case.p is not None})
    findings += [_make_finding(case, is_rejected=case.name in rejected) for case in cases]
    return Comparison(
        reference_run_id=references[0].run_id,
        reproduction_run_id=reproductions[-1].run_id,
        findings=(
            *sorted(findings, key=lambda row: row.name),
            *_worst_status(references[0], runs[1:]),
            *compare_params(references[0], reproductions[-1]),
            *_list_runs(references, reproductions),
            *find_unused_rules(names, rules),
        ),
        rules=rules,
    )


def _compare_plainly(
    name: str, references: Sequence[Run], reproductions: Sequence[Run], rules: Rules
) -> Finding | None:
    """The finding when every run is ignored, close to the first reference, or lacks the metric; None otherwise."""
    first = references[0].metrics.get(name)
    rows = [
        compare_value("metric", name, first, run.metrics.get(name), rules)
        for run in (*references[1:], *reproductions)
        if first is not None or name in run.metrics
    ]
    order = (Status.IGNORED, Status.MISSING, Status.EXTRA, Status.DIFFERENT, Status.CLOSE, Status.IDENTICAL)
    worst = min(rows, key=lambda row: order.index(row.status))
    if worst.status is Status.DIFFERENT:
        return None
    if worst.status in (Status.MISSING, Status.EXTRA):
        count = sum(name in run.metrics for run in (*references, *reproductions))
        note = f"only {count} of {len(references) + len(reproductions)} runs have it"
        return Finding(
            kind="metric",
            name=name,
            reference=first,
            reproduction=reproductions[-1].metrics.get(name),
            status=worst.status,
            note=note,
        )
    return worst


def _first_of(name: str, values: Mapping[str, _T]) -> _T | None:
    return next((value for pattern, value in values.items() if fnmatchcase(name, pattern)), None)


def _test(case: _Case, margin: float | None) -> None:
    """Say what can be said of one metric by itself; Holm's procedure has the last word on its p value."""
    sizes = len(case.reference), len(case.reproduction)
    if not all(map(math.isfinite, (*case.reference, *case.reproduction))):
        _test_kinds(case)
    elif max(sizes) < FEWEST:
        case.note = f"differs, and {max(sizes)} repeats cannot say whether by chance; {FEWEST} would be the fewest"
    elif min(sizes) == 1:
        _test_one(case, margin)
    elif min(sizes) < FEWEST:
        case.note = (
            f"differs, and {min(sizes)} runs on one side cannot say whether by chance; give 1, or {FEWEST} and more"
        )
    else:
        _test_both(case, margin)


def _test_kinds(case: _Case) -> None:
    """Values of which some are not finite have no spread: only what no run of the other side is, is different."""
    sides = case.reference, case.reproduction
    kinds = [Counter(map(_name_kind, side)) for side in sides]
    counts = sorted(map(len, sides))
    is_enough = counts[1] >= FEWEST and (counts[0] == 1 or counts[0] >= FEWEST)
    is_apart = not kinds[0].keys() & kinds[1].keys()
    case.status = Status.DIFFERENT if is_apart and is_enough else Status.UNKNOWN
    shown = [", ".join(f"{count} {kind}" for kind, count in sorted(side.items())) for side in kinds]
    case.note = f"references: {shown[0]}; reproductions: {shown[1]}"
    if case.status is Status.UNKNOWN:
        case.note += "; numbers that are not finite have no spread that could judge"


def _name_kind(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    # A SQL store keeps infinity as the greatest float.
    return "finite" if abs(value) < sys.float_info.max else "inf" if value > 0 else "-inf"


def _test_one(case: _Case, margin: float | None) -> None:
    """One run against the prediction interval of the other side's."""
    is_reference = len(case.reference) == 1
    value, others = (case.reference[0], case.reproduction) if is_reference else (case.reproduction[0], case.reference)
    if spread(others) == 0:
        case.status, case.note = Status.DIFFERENT, f"{len(others)} repeats agree to the bit, and this run does not"
        return
    low, high = find_interval(others)
    case.p = judge_value(others, value)
    case.details |= {"low": low, "high": high}
    case.status = Status.CONSISTENT
    side = "reference" if is_reference else "reproduction"
    case.note = (
        f"the {side} against the {1 - ALPHA:.0%} prediction interval {low:.6g} to {high:.6g} of {len(others)} repeats"
    )
    if margin is not None and high - low > 2 * margin:
        case.note += f"; weak evidence: the interval is wider than the margin of {margin:.3g} on either side"


def _test_as_good_as(case: _Case, *, sign: int) -> None:
    """One-sided, by trimmed means. With fewer references the rule fails up to a fifth of equal pairs."""
    sizes = len(case.reference), len(case.reproduction)
    if not all(map(math.isfinite, (*case.reference, *case.reproduction))):
        case.note = "not every value is finite"
    elif sizes[1] < FEWEST or sizes[0] < TRIMMED_RATIO * sizes[1]:
        case.note = (
            f"{sizes[1]} against {sizes[0]} references cannot say whether they are as good;"
            f" it takes {FEWEST} and more, and {TRIMMED_RATIO} times as many references"
        )
    else:
        limit = sign * find_limit([sign * value for value in case.reference], sizes[1])
        mean = trim_mean(case.reproduction)
        is_good = sign * (mean - limit) >= 0
        case.status = Status.CONSISTENT if is_good else Status.DIFFERENT
        case.details |= {"limit": limit, "trimmed_mean": mean}
        word = "as good as" if is_good else "worse than"
        case.note = f"{word} the references: the trimmed mean is {mean:.6g}, the limit {limit:.6g}"


def _test_both(case: _Case, margin: float | None) -> None:
    """Equivalence of the means within the margin, and their difference."""
    deviation = spread(case.reference)
    if deviation == 0 and spread(case.reproduction) == 0:
        case.status, case.note = Status.DIFFERENT, "the repeats of each side agree to the bit, and the sides do not"
        return
    source = ""
    if margin is None:
        margin, source = _MARGIN_SPREADS * deviation, ", two standard deviations of the references"
    case.p = judge_difference(case.reference, case.reproduction)
    case.details |= {"margin": margin}
    if margin > 0:
        found = judge_equivalence(case.reference, case.reproduction, margin)
        case.details |= {"p_equivalence": found.p, "low": found.low, "high": found.high}
        if found.p < ALPHA:
            case.status = Status.CONSISTENT
            case.note = f"the means are equivalent within {margin:.3g}{source}"
            return
    pooled = math.hypot(deviation, spread(case.reproduction)) / math.sqrt(2)
    needed = count_repeats(margin / pooled) if margin else None
    case.details["needed"] = needed or "none"
    decide = f"{needed} repeats a side" if needed else "no number of repeats that can be made"
    case.note = f"neither equivalent within {margin:.3g}{source} nor different; {decide} would decide"


def _make_finding(case: _Case, *, is_rejected: bool) -> Finding:
    status, note = case.status, case.note
    if is_rejected and status is not Status.CONSISTENT:
        status, note = Status.DIFFERENT, f"the means differ (p = {case.p:.2g})"
    elif is_rejected and "p_equivalence" not in case.details:
        status, note = Status.DIFFERENT, f"outside of what repeats do: {note}"
    details: dict[str, float | str] = {"references": len(case.reference), "reproductions": len(case.reproduction)}
    details |= case.details
    if case.p is not None:
        details["p"] = case.p
    sides = (("reference_spread", case.reference), ("reproduction_spread", case.reproduction))
    details |= {key: spread(side) for key, side in sides if len(side) > 1 and all(map(math.isfinite, side))}
    means = (average(side) for side in (case.reference, case.reproduction))
    reference, reproduction = means
    return Finding(
        kind="metric",
        name=case.name,
        reference=reference,
        reproduction=reproduction,
        status=status,
        note=note,
        details=details,
    )


def _worst_status(reference: Run, others: Sequence[Run]) -> list[Finding]:
    rows = [row for run in others for row in compare_status(reference, run)]
    return sorted(rows, key=lambda row: row.status in EQUAL_STATUSES)[:1]


def _list_runs(references: Sequence[Run], reproductions: Sequence[Run]) -> list[Finding]:
    """A row for each run that took part, so that none is lost."""
    rows = []
    for side, runs in (("reference", references), ("reproduction", reproductions)):
        for number, run in enumerate(runs, 1):
            ids = (run.run_id, None) if side == "reference" else (None, run.run_id)
            name = f"{side} {number} of {len(runs)}"
            rows.append(Finding(kind="run", name=name, reference=ids[0], reproduction=ids[1], status=Status.IGNORED))
    note = "of repeats final values are judged, and nothing else"
    rows.append(Finding(kind="history", name="*", reference=None, reproduction=None, status=Status.IGNORED, note=note))
    return rows
