"""Compare two runs: the union of what either has, one `Finding` a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.compare.facts import compare_params
from mlflow_repro.compare.metrics import compare_metrics, compare_status, find_unused_rules
from mlflow_repro.compare.ties import settle_final_values
from mlflow_repro.values.comparison import Comparison
from mlflow_repro.values.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.values.comparison import Finding
    from mlflow_repro.values.run import Run


def compare_records(
    reference: Run, reproduction: Run, rules: Rules | None = None, *, fetched: Iterable[Finding] = ()
) -> Comparison:
    """Compare final metrics and status (they make the verdict) and parameters (they explain it) of two runs.

    ``fetched`` are findings about what the records do not hold: histories, metrics of models, artifacts.
    """
    rules, fetched = rules or Rules(), tuple(fetched)
    artifacts = {row.name for row in fetched if row.kind == "artifact"}
    return Comparison(
        reference_run_id=reference.run_id,
        reproduction_run_id=reproduction.run_id,
        findings=(
            *settle_final_values(compare_metrics(reference.metrics, reproduction.metrics, rules), fetched),
            *fetched,
            *compare_status(reference, reproduction),
            *compare_params(reference, reproduction),
            *find_unused_rules({*reference.metrics, *reproduction.metrics}, rules, artifacts),
        ),
        rules=rules,
    )
