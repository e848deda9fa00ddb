"""Whether a run will come back, as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.grading import Grade
from mlflow_repro.redact import redact_text
from mlflow_repro.report.showing import show

if TYPE_CHECKING:
    from mlflow_repro.grading import Readiness

_MARKS = {Grade.READY: "ok", Grade.WARNING: "warning", Grade.OBSTACLE: "missing"}
_ANSWERS = {Grade.READY: "yes", Grade.WARNING: "probably", Grade.OBSTACLE: "no"}


def render_readiness(readiness: Readiness) -> str:
    """A line for each check, advice below it, and the last line ``Will reproduce: yes|probably|no``."""
    lines = [f"Run {show(readiness.run_id)}"]
    width = max((len(check.name) for check in readiness.checks), default=0)
    for check in readiness.checks:
        lines.append(f"  {_MARKS[check.grade]:<8}{check.name:<{width}}  {show(redact_text(check.text))}")
        if check.advice:
            lines.append(f"  {'':<8}{'':<{width}}  -> {show(redact_text(check.advice))}")
    lines.append(f"Will reproduce: {_ANSWERS[readiness.grade]}")
    return "\n".join(lines)
