"""Hand a report out: print it, write it to files, and add it to the summary of a GitHub job."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.commands.output import print_note, print_report
from mlflow_repro.errors import ReproError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.model import Report

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
