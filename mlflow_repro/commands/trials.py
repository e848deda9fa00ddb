"""The commands that launch a run several times: ``mlflow-repro isolate`` and ``mlflow-repro stress``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import click

from mlflow_repro.commands.options import Command, debug_option, options_of, read_options, text_or_json
from mlflow_repro.commands.output import print_note, print_text
from mlflow_repro.isolate.options import IsolateOptions, StressOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from mlflow_repro.errors import ExitCode
    from mlflow_repro.values.proofs import Trial

    _Options = TypeVar("_Options")
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
    """The options of what is printed, which each of them has."""
    command = debug_option("--debug")(command)
    text = "Show the output of the launches, and tracebacks."
    command = click.option("-v", "--verbose", is_flag=True, help=text)(command)
    return text_or_json(command)


def read_search(kind: type[_Options], settings: dict[str, Any], *, is_verbose: bool) -> _Options:
    """The options of the command line as one value, with the launches shown on standard error."""
    show = _show_line if is_verbose else None
    return read_options(kind, settings, show=show, tell_trial=_tell, tell_parent=_tell_parent)


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


ISOLATE_HELP = f"""Prove which difference changes the result of a run, by launching it with one changed after another.

The differences are what the run of --other has otherwise; without it, what is otherwise here and now. First the run is
launched as recorded, twice: if the two differ, the run is nondeterministic, and nothing around it is blamed. Then all
differences at once, then one at a time: at most n + 3 launches for n of them, each a run below one parent run.

\b
Example:
  mlflow-repro isolate d1b4b10969174863a2bad1342f6746ce --other 0f1e2d3c4b5a69788796a5b4c3d2e1f0

This runs the code of the run's repository with your rights.

\b
Exit codes:
  0  nothing that differs matters
  1  what changes the result is named
{OTHER_EXIT_CODES}"""


@click.command(cls=Command, help=ISOLATE_HELP, short_help="Prove why a run does not reproduce, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@options_of(IsolateOptions)
@trials_command
def isolate(run_id: str, *, format_: str, verbose: bool, **settings: Any) -> int:
    """Isolate the causes, print the launches and the answer, and give the exit code."""
    from mlflow_repro.isolate.isolate import isolate_with
    from mlflow_repro.report.isolation_text import render_isolation

    isolation = isolate_with(run_id, read_search(IsolateOptions, settings, is_verbose=verbose))
    return print_result(isolation, format_, render_isolation)


STRESS_HELP = f"""Launch a run again with its surroundings varied, and say what its result depends on.

Varied are, one at a time: the number of threads, the hash seed, the locale, the time zone, the working directory, the
home directory, the order of files, features of the processor, and the seed of what sets none itself.

\b
Example:
  mlflow-repro stress d1b4b10969174863a2bad1342f6746ce

This runs the code of the run's repository with your rights.

\b
Exit codes:
  0  the result depends on nothing that was varied, but perhaps the seed
  1  it depends on something, or the run differs from itself
{OTHER_EXIT_CODES}"""


@click.command(cls=Command, help=STRESS_HELP, short_help="Say what the result of a run depends on, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@options_of(StressOptions)
@trials_command
def stress(run_id: str, *, format_: str, verbose: bool, **settings: Any) -> int:
    """Stress the run, print its profile, and give the exit code."""
    from mlflow_repro.isolate.stress import stress_with
    from mlflow_repro.report.isolation_text import render_profile

    profile = stress_with(run_id, read_search(StressOptions, settings, is_verbose=verbose))
    return print_result(profile, format_, render_profile)
