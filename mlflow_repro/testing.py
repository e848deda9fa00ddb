"""For test suites: assert that a recorded run still comes out as it did.

>>> from mlflow_repro.testing import assert_reproduces
>>> assert_reproduces("d1b4b10969174863a2bad1342f6746ce", rel_tol=1e-6)    # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ExitCode

if TYPE_CHECKING:
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.report import Report


def assert_reproduces(run_id: str = "", **options: Any) -> Report:
    """Reproduce the run and return the report, or fail with the table and the first step at which the runs part.

    ``options`` are those of `mlflow_repro.reproduce_run`: ``model="models:/NAME@champion"`` in place of the id,
    ``rel_tol``, ``tolerance``, ``commit`` and so on. Raises AssertionError when the runs differ and when it cannot be
    said whether they do; `ReproError` when there is no answer (a relaunch that failed, a store that is away).
    """
    __tracebackhide__ = True  # pytest then shows the line of the test, not this one
    from mlflow_repro.report.text import render_text
    from mlflow_repro.reproduce.pipeline import reproduce_run

    report = reproduce_run(run_id, **options)
    if report.exit_code is ExitCode.EQUAL:
        return report
    first = _first_divergence(report)
    headline = f"run {report.reference.run_id} was not reproduced{f': {first}' if first else ''}"
    raise AssertionError(f"{headline}\n{render_text(report)}")


def _first_divergence(report: Report) -> str:
    """The history that differs at the lowest step, of the run or, where it has none, of those that belong to it."""
    named = [("", report.comparison), *((f" of {pair.name}", pair.comparison) for pair in report.children)]
    found = (_find_divergence(comparison, whose) for whose, comparison in named if comparison)
    return next(filter(None, found), "")


def _find_divergence(comparison: Comparison, whose: str) -> str:
    steps = [
        (int(row.details[key]), row.name)
        for row in comparison.of_kind("history")
        for key in ("first_different_step", "first_unpaired_step")
        if key in row.details and row.is_judged and not row.is_equal
    ]
    return "{1}{2} differs from step {0} on".format(*min(steps), whose) if steps else ""
