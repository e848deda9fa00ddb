"""Compare the metrics that belong to logged models, and how two runs ended."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.metrics import compare_value
from mlflow_repro.model import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.model import RunRecord
    from mlflow_repro.outcomes import ModelMetric
    from mlflow_repro.rules import Rules


def compare_model_metrics(
    reference: Iterable[ModelMetric], reproduction: Iterable[ModelMetric], rules: Rules
) -> list[Finding]:
    """One finding for each metric of a model that either run has. The rules go by the metric's own name."""
    one, other = ({metric.label: metric for metric in side} for side in (reference, reproduction))
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


def compare_status(reference: RunRecord, reproduction: RunRecord) -> list[Finding]:
    """How the two runs ended: by their own code where both recorded that, else by MLflow's word; none where unknown."""
    one, other = (record.fact("status").value for record in (reference, reproduction))
    if one is None or other is None:
        one, other = reference.status, reproduction.status
    if not (one and other):
        return []
    note = ""
    status = Status.IDENTICAL if one == other else Status.DIFFERENT
    if {one, other} & {"RUNNING", "SCHEDULED"}:
        status, note = Status.UNKNOWN, "a run that has not ended can still change"
    return [Finding(kind="status", name="status", reference=one, reproduction=other, status=status, note=note)]
