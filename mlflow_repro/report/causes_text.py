"""Why two runs differ, as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.model import Verdict
from mlflow_repro.redact import redact_text
from mlflow_repro.report.line import show
from mlflow_repro.report.verdict_text import render_runs_equal, render_verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.causes import Cause
    from mlflow_repro.model import Report

_SHOWN = 3  # causes of a report; `explain` and JSON have all
_LEAST = 0.05  # confidence of a cause that a report shows beside the first
_INDENT = " " * 10


def render_causes(causes: Sequence[Cause], *, limit: int = _SHOWN, least: float = _LEAST) -> list[str]:
    """A block for each cause: confidence and cause, what speaks for it, and what settles it. Nothing without one."""
    if not causes:
        return []
    lines = ["Why they differ, the most likely first:"]
    shown = [cause for number, cause in enumerate(causes[:limit]) if number == 0 or cause.confidence >= least]
    for number, cause in enumerate(shown, start=1):
        confidence = "proven" if cause.confidence == 1 else f"{cause.confidence:.0%}"
        lines.append(f"  {number}. {confidence:>6} {_show(cause.what)}")
        lines += [f"{_INDENT}{'   '}{_show(fact)}" for fact in cause.evidence]
        if cause.fix:
            lines.append(f"{_INDENT}-> {_show(cause.fix)}")
    if len(causes) > len(shown):
        lines.append(f"  and {len(causes) - len(shown)} less likely: mlflow-repro explain shows them")
    return lines


def render_explanation(report: Report) -> str:
    """All causes of a difference, and the last line of every report."""
    comparison = report.comparison
    if comparison is None:
        return ""
    lines = [f"Verdict: {render_verdict(comparison)}"]
    if comparison.verdict is not Verdict.DIFFERENT:
        lines.append("There is no difference to explain.")
    lines += render_causes(report.causes, limit=len(report.causes), least=0)
    return "\n".join([*lines, f"Runs equal: {render_runs_equal(comparison)}"])


def _show(text: str) -> str:
    return show(redact_text(text))
