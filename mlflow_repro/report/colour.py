"""Colour a report in the form of text: what differs stands out, and not a character is another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.report.text import NOTE
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.report.text import Line, Tone

# SGR parameters of ECMA-48.
_RED, _GREEN, _YELLOW, _FAINT = "31", "32", "33", "2"
_COLOURS: dict[Tone, str] = {
    **dict.fromkeys(DIFFERENT_STATUSES, _RED),
    **dict.fromkeys((Status.CLOSE, Status.CONSISTENT, Status.UNKNOWN, NOTE), _YELLOW),
    Status.IGNORED: _FAINT,
    **dict.fromkeys(Verdict, _GREEN),
    Verdict.DIFFERENT: _RED,
    Verdict.INCONCLUSIVE: _YELLOW,
}


def colour_lines(lines: Iterable[Line]) -> str:
    """The lines of `mlflow_repro.report.text.list_lines`, with colours of a terminal."""
    colours = ((line.text, _COLOURS.get(line.tone, "")) for line in lines)
    return "\n".join(f"\x1b[{colour}m{text}\x1b[0m" if colour else text for text, colour in colours)
