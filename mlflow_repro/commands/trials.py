"""What the commands have in common that launch a run several times: their options, what they show, and exit codes."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol

import click

from mlflow_repro.commands.options import (
    judge_options,
    take_no_artifacts,
    text_or_json,
    trial_options,
    warn_of_predictions,
)
from mlflow_repro.commands.output import print_note, print_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from mlflow_repro.errors import ExitCode
    from mlflow_repro.proofs import Trial
    from mlflow_repro.trial_options import TrialOptions

    _Options = TypeVar("_Options", bound=TrialOptions)
    _Result = TypeVar("_Result", bound="Result")

OTHER_EXIT_CODES = """  2  usage error or bad input
  3  cannot be said: out of budget, or the record is incomplete
  4  the run as recorded cannot be launched
  5  the tracking store or the git remote cannot be reached
  6  refused for safety
"""


class Result(Protocol):
    """What such a command prints."""

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the command."""

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""


def trials_command(command: Any) -> Any:
    """The options that each of them has, behind its own ones."""
    command = click.option("--debug", is_flag=True, help="Show tracebacks.")(command)
    text = "Show the output of the launches, and tracebacks."
    command = click.option("-v", "--verbose", is_flag=True, help=text)(command)
    for add in (text_or_json, judge_options, trial_options):
        command = add(command)
    return command


def read_options(kind: type[_Options], settings: dict[str, Any], *, is_verbose: bool) -> _Options:
    """The options of the command line as one value, with the launches shown on standard error."""
    take_no_artifacts(settings)
    warn_of_predictions(settings)
    known = {field.name for field in fields(kind)}
    chosen = {name: value for name, value in settings.items() if name in known}
    return kind(**chosen, show=_show_line if is_verbose else None, tell_trial=_tell, tell_parent=_tell_parent)


def print_result(result: _Result, format_: str, render: Callable[[_Result], str]) -> int:
    """Print as ``format_`` has it; the exit code."""
    from mlflow_repro.report.json_format import render_plain

    print_text(render_plain(result.to_dict()) if format_ == "json" else render(result))
    return int(result.exit_code)


def _tell_parent(parent: str) -> None:
    """Where the launches are, on standard error, for whoever interrupts them."""
    print_note(f"the launches are below run {parent}; after an interruption, --resume {parent} goes on there")


def _tell(number: int, limit: int, trial: Trial) -> None:
    """A launch as it begins or ends, on standard error."""
    from mlflow_repro.report.isolation_text import render_progress

    print_note(render_progress(number, limit, trial))


def _show_line(line: str) -> None:
    """A line that a launch printed, on standard error."""
    from mlflow_repro.commands.progress import clean_line

    print_note(f"  | {clean_line(line)}")
