"""Hand a report out: print it, write it to files, and add it to the summary of a GitHub job.

It is printed whatever the encoding of standard output and error, and it is noticed when nobody reads it any more.

Whatever is printed here holds names that other people chose. A terminal takes some characters for commands, and so do
the runners of CI systems with lines of a job's log: both are printed as escapes.
"""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlflow_repro.errors import ReproError, UsageError
from mlflow_repro.text.redact import show_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from mlflow_repro.values.report import Report


class OutputClosedError(Exception):
    """Whoever read our standard output has gone; click would make exit code 1, "different", of it."""


# `::name ...::value` with nothing but space before it, and the older `##[name]value` anywhere in a line:
# https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs. Azure Pipelines has `##vso[...]` and
# `##[name]`, TeamCity `##teamcity[...]`, GitLab `section_start:TIME:NAME`, Travis `travis_fold:start:NAME`.
_WORKFLOW_COMMAND = re.compile(
    r"^([^\S\n]*):(?=:)|#(?=#(?:vso|teamcity)?\[)|(section|travis)_(?=(?:start|end|fold|time):)",
    flags=re.MULTILINE | re.IGNORECASE,
)


def print_text(text: str) -> None:
    """Print ``text``; what the terminal's encoding lacks is an escape. Raises OutputClosedError."""
    _print(disarm(text))


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError from error


def print_note(text: str) -> None:
    """Print ``text`` on standard error."""
    click.echo(disarm(text), err=True)


def disarm(text: str) -> str:
    """``text`` such that neither a terminal nor the runner of a CI system takes a part of it for a command.

    The escapes are those of JSON as well, in which the text stays the same.
    """
    return _WORKFLOW_COMMAND.sub(_disarm_command, show_lines(text.split("\n")))


def _disarm_command(found: re.Match[str]) -> str:
    if found[2]:
        return f"{found[2]}\\u005f"
    return "\\u0023" if found[0] == "#" else f"{found[1]}\\u003a"


def print_report(report: Report, format_: str, *, show_all: bool) -> None:
    """Print a report in the form that ``--format`` names; on a terminal a table has colours."""
    from mlflow_repro.report import RENDERERS
    from mlflow_repro.report.colour import colour_lines
    from mlflow_repro.report.text import list_lines

    if format_ == "text" and wants_colour(sys.stdout):
        _print(colour_lines(replace(line, text=disarm(line.text)) for line in list_lines(report, verbose=show_all)))
    else:
        print_text(RENDERERS[format_](report, show_all))


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


_FORMAT_OF = {".html": "html", ".md": "markdown", ".xml": "junit", ".json": "json", ".txt": "text"}
_SUMMARY_LIMIT = 1_000_000  # bytes; GitHub drops a summary of more than 1 MiB


def check_outputs(paths: Sequence[str]) -> None:
    """Find out before anything is launched whether the files can be written. Raises UsageError."""
    for path in paths:
        if Path(path).suffix.lower() not in _FORMAT_OF:
            raise UsageError(f"--output {path} has no known suffix", f"use one of {', '.join(_FORMAT_OF)}")
        if not Path(path).parent.is_dir():
            raise UsageError(f"--output {path}: there is no folder {Path(path).parent}", "make it first")


def hand_out(report: Report, format_: str, paths: Sequence[str], *, verbose: bool) -> int:
    """Write the report everywhere it is wanted and give the exit code.

    A file that cannot be written does not keep the others, nor what is printed; then ReproError is raised.
    """
    from mlflow_repro.report import RENDERERS

    failures = []
    for path in paths:
        try:
            _write_file(path, RENDERERS[_FORMAT_OF[Path(path).suffix.lower()]](report, verbose))
        except ReproError as error:
            failures.append(error)
    _add_to_summary(report)
    print_report(report, format_, show_all=verbose)
    if failures:
        raise failures[0]
    return int(report.exit_code)


def _write_file(path: str, text: str) -> None:
    """The file as a whole or not at all. What JSON and HTML escape anyway is left; a lone surrogate is an escape."""
    part = Path(f"{path}.part")
    try:
        part.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise ReproError(
            f"the report cannot be written to {path}: {error.strerror}", "mlflow-repro compare makes it once more"
        ) from error


def _add_to_summary(report: Report) -> None:
    """The Markdown form at the end of ``$GITHUB_STEP_SUMMARY``. A summary that cannot be written is a note."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    from mlflow_repro.report.markdown import render_markdown, render_note
    from mlflow_repro.report.sections import make_document

    document = make_document(report)
    text = render_markdown(document)
    if len(text.encode("utf-8", "replace")) > _SUMMARY_LIMIT:
        text = render_note(document)
    try:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{text}\n\n")
    except OSError as error:
        print_note(f"note: the job's summary cannot be written: {error.strerror}")
