"""Print to standard output, whatever its encoding, and notice when nobody reads it any more."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from mlflow_repro.model import Report


class OutputClosedError(Exception):
    """Whoever read our standard output has gone; click would make exit code 1, "different", of it."""


def print_text(text: str) -> None:
    """Print ``text``; what the terminal's encoding lacks is an escape. Raises OutputClosedError."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError from error


def print_report(report: Report, format_: str, *, show_all: bool) -> None:
    """Print a report in the form that ``--format`` names; on a terminal a table has colours."""
    from mlflow_repro.report import RENDERERS
    from mlflow_repro.report.colour import colour_text

    text = RENDERERS[format_](report, show_all)
    if format_ == "text" and report.comparison and report.verdict and wants_colour(sys.stdout):
        text = colour_text(text, report.comparison, report.verdict)
    print_text(text)


def wants_colour(stream: TextIO) -> bool:
    """Say whether ``stream`` is to be given more than plain text.

    ``NO_COLOR`` (https://no-color.org) says no, ``FORCE_COLOR`` yes, each when it is not empty; ``TERM=dumb`` and what
    is no terminal say no.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return os.environ.get("TERM") != "dumb" and stream.isatty()
