"""Compare two runs: the union of what either has, one `Finding` a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.compare.metrics import compare_metrics
from mlflow_repro.compare.params import compare_params
from mlflow_repro.model import Comparison, Tolerances

if TYPE_CHECKING:
    from mlflow_repro.model import RunRecord


def compare_records(reference: RunRecord, reproduction: RunRecord, tolerances: Tolerances | None = None) -> Comparison:
    """Compare the final metrics (they make the verdict) and the parameters (they explain it) of two runs."""
    tolerances = tolerances or Tolerances()
    return Comparison(
        reference_run_id=reference.run_id,
        reproduction_run_id=reproduction.run_id,
        findings=(
            *compare_metrics(reference.metrics, reproduction.metrics, tolerances),
            *compare_params(reference, reproduction),
        ),
        tolerances=tolerances,
    )
