"""Compare final metrics, those of logged models, and how two runs ended; name the rules that decided nothing."""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.models import label_models
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mlflow_repro.values.comparison import ModelMetric
    from mlflow_repro.values.rules import Rules, Tolerances
    from mlflow_repro.values.run import Run


def compare_metrics(reference: Mapping[str, float], reproduction: Mapping[str, float], rules: Rules) -> list[Finding]:
    """One finding for each metric that either run has, in the order of their names."""
    return [
        compare_value("metric", name, reference.get(name), reproduction.get(name), rules)
        for name in sorted(set(reference) | set(reproduction))
    ]


def compare_value(kind: str, name: str, reference: float | None, reproduction: float | None, rules: Rules) -> Finding:
    """The finding about one number, None where a run does not have it."""
    ignored = rules.why_ignored(name)
    if ignored:
        status, note = Status.IGNORED, ignored
    else:
        status, note = _judge(reference, reproduction, rules.tolerances_of(name))
    return Finding(kind=kind, name=name, reference=reference, reproduction=reproduction, status=status, note=note)


def _judge(reference: float | None, reproduction: float | None, tolerances: Tolerances) -> tuple[Status, str]:
    if reproduction is None:
        return Status.MISSING, "only in the reference"
    if reference is None:
        return Status.EXTRA, "only in the reproduction"
    if is_identical(reference, reproduction):
        return Status.IDENTICAL, ""
    if _is_stored_infinity(reference, reproduction):
        return Status.IDENTICAL, "a SQL store keeps infinity as the greatest float; taken as the same"
    note = describe_error(reference, reproduction)
    if is_close(reference, reproduction, tolerances):
        return Status.CLOSE, note
    return Status.DIFFERENT, note


def is_identical(one: float, other: float) -> bool:
    """The same bits, or both NaN (of whatever payload: no store keeps it)."""
    if math.isnan(one) and math.isnan(other):
        return True
    return struct.pack("<d", one) == struct.pack("<d", other)


def is_close(one: float, other: float, tolerances: Tolerances) -> bool:
    """`math.isclose` (``abs(a-b) <= max(rel_tol * max(abs(a), abs(b)), abs_tol)``), or near enough by `ulp_distance`.

    NaN equals NaN here.
    """
    if tolerances.exact:
        return is_identical(one, other)
    if math.isnan(one) and math.isnan(other):
        return True
    if math.isclose(one, other, rel_tol=tolerances.rel_tol, abs_tol=tolerances.abs_tol):
        return True
    return bool(tolerances.ulp) and ulp_distance(one, other) <= tolerances.ulp


def ulp_distance(one: float, other: float) -> float:
    """How many float64 numbers lie from one to the other: 0 for the same and for both zeros; inf when not finite."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(_place(one) - _place(other))


def _place(number: float) -> int:
    """The place of a float64 in their order, 0 for both zeros."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits if bits >= 0 else -(2**63) - bits)


def describe_error(reference: float, reproduction: float) -> str:
    """By how much two numbers differ, absolutely and relative to the greater of them (symmetric)."""
    if math.isnan(reference) or math.isnan(reproduction):
        return "NaN on one side only"
    if math.isinf(reference) or math.isinf(reproduction):
        return "infinite on one side only" if reference != -reproduction else "infinite with opposite signs"
    absolute = abs(reference - reproduction)
    if math.isinf(absolute):
        return "differs by more than the greatest float"
    scale = max(abs(reference), abs(reproduction))
    if scale == 0:
        return "zeros of different sign"
    hint = "" if reference and reproduction else "; from zero only an absolute tolerance counts"
    return f"differs by {absolute:.3g} (relative {absolute / scale:.3g}{hint})"


def _is_stored_infinity(one: float, other: float) -> bool:
    """One side infinite, the other what MLflow's SQL stores write in its place, with the same sign."""
    small, great = sorted((one, other), key=abs)
    return math.isinf(great) and abs(small) == sys.float_info.max and (small > 0) == (great > 0)


def compare_model_metrics(
    reference: Iterable[ModelMetric], reproduction: Iterable[ModelMetric], rules: Rules
) -> list[Finding]:
    """One finding for each metric of a model that either run has. The rules go by the metric's own name."""
    one, other = label_models(reference, reproduction)
    findings = []
    for label in sorted(one.keys() | other.keys()):
        here, there = one.get(label), other.get(label)
        name = next(side.name for side in (here, there) if side)
        values = here.value if here else None, there.value if there else None
        row = replace(compare_value("model_metric", name, *values, rules), name=label)
        if here and there and here.digest != there.digest:
            note = f"its data sets differ: {here.digest} and {there.digest}"
            row = replace(row, note=f"{row.note}; {note}" if row.note else note)
        findings.append(row)
    return findings


def compare_status(reference: Run, reproduction: Run) -> list[Finding]:
    """How the two runs ended: by their own code where both recorded that, else by MLflow's word; none where unknown."""
    one, other = (run.fact("status").value for run in (reference, reproduction))
    if one is None or other is None:
        one, other = reference.status, reproduction.status
    if not (one and other):
        return []
    note = ""
    status = Status.IDENTICAL if one == other else Status.DIFFERENT
    if {one, other} & {"RUNNING", "SCHEDULED"}:
        status, note = Status.UNKNOWN, "a run that has not ended can still change"
    return [Finding(kind="status", name="status", reference=one, reproduction=other, status=status, note=note)]


def find_unused_rules(names: Collection[str], rules: Rules, artifacts: Collection[str] = ()) -> list[Finding]:
    """One finding for each rule that decides nothing about the metrics ``names`` and the ``artifacts``."""
    return [
        Finding(kind="rule", name=rule, reference=None, reproduction=None, status=Status.IGNORED, note=reason)
        for rule, reason in rules.unused(names, artifacts)
    ]
