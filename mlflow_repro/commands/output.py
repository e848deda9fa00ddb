"""Print to standard output and error, whatever their encoding, and notice when nobody reads it any more.

Whatever is printed here holds names that other people chose, and GitHub's runner takes lines of a job's log for
commands. So there such a line is printed with an escape in it.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from typing import TextIO

    from mlflow_repro.model import Report


class OutputClosedError(Exception):
    """Whoever read our standard output has gone; click would make exit code 1, "different", of it."""


# `::name ...::value` with nothing but space before it, and the older `##[name]value` anywhere in a line:
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
_WORKFLOW_COMMAND = re.compile(r"^(\s*):(?=:)|#(?=#\[)", flags=re.MULTILINE)


def print_text(text: str) -> None:
    """Print ``text``; what the terminal's encoding lacks is an escape. Raises OutputClosedError."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(disarm(text).encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError from error


def print_note(text: str) -> None:
    """Print ``text`` on standard error."""
    click.echo(disarm(text), err=True)


def disarm(text: str) -> str:
    """``text`` such that GitHub's runner takes no line of it for a command; outside of its jobs as it is.

    The escapes are those of JSON as well, in which the text stays the same.
    """
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return text
    return _WORKFLOW_COMMAND.sub(lambda found: f"{found[1]}\\u003a" if found[0] != "#" else "\\u0023", text)


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
