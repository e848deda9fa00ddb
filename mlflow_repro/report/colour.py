"""Colour a report in the form of text: what differs stands out, and not a character is another."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.text.redact import show
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, Status, Verdict

if TYPE_CHECKING:
    from mlflow_repro.values.comparison import Comparison

# SGR parameters of ECMA-48.
_RED, _GREEN, _YELLOW, _FAINT = "31", "32", "33", "2"
_OF_STATUS = {
    **dict.fromkeys(DIFFERENT_STATUSES, _RED),
    Status.CLOSE: _YELLOW,
    Status.CONSISTENT: _YELLOW,
    Status.UNKNOWN: _YELLOW,
    Status.IGNORED: _FAINT,
}
_OF_VERDICT = {Verdict.DIFFERENT: _RED, Verdict.INCONCLUSIVE: _YELLOW}
_WORDS = {
    "metric": "Metric ",
    "history": "History ",
    "model_metric": "Model ",
    "status": "Run ",
    "artifact": "Artifact ",
    "prediction": "Prediction of ",
}
_HEAD = 3  # lines of the table above its first row


def colour_text(text: str, comparison: Comparison, verdict: Verdict) -> str:
    """``text``, as `mlflow_repro.report.text.render_text` made it, with colours of a terminal.

    ``verdict`` is that of the whole report, ``comparison`` that of its first pair of runs.
    """
    remarks = {
        f"{_WORDS[row.kind]}{show(row.name)}: ": _OF_STATUS.get(row.status, "")
        for row in comparison.findings
        if row.kind in _WORDS
    }
    metrics = comparison.of_kind("metric")
    lines = text.split("\n")
    top = next((number for number, line in enumerate(lines) if line.startswith("+-")), len(lines))
    body = range(top + _HEAD, top + _HEAD + len(metrics)) if metrics else range(0)
    coloured = []
    for number, line in enumerate(lines):
        if number in body:
            colour = _OF_STATUS.get(metrics[number - body.start].status, "")
        elif line.startswith(("Verdict: ", "Runs equal: ")):
            colour = _OF_VERDICT.get(verdict, _GREEN)
        elif line.startswith(("Note: ", "Warning: ")):
            colour = _YELLOW
        else:
            starts = (line[: found.end()] for found in re.finditer(": ", line))  # names may have it, too
            colour = next((remarks[start] for start in starts if start in remarks), "")
        coloured.append(f"\x1b[{colour}m{line}\x1b[0m" if colour else line)
    return "\n".join(coloured)
