"""``mlflow-repro isolate``: prove why a run does not reproduce."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from mlflow_repro.commands.options import (
    judge_options,
    option,
    take_no_artifacts,
    text_or_json,
    trial_options,
    warn_of_predictions,
)
from mlflow_repro.commands.output import print_note, print_text
from mlflow_repro.commands.progress import clean_line

if TYPE_CHECKING:
    from mlflow_repro.proofs import Trial

ISOLATE_HELP = """Prove which difference changes the result of a run, by launching it with one changed after another.

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
  2  usage error or bad input
  3  cannot be said: out of budget, or the record is incomplete
  4  the run as recorded cannot be launched
  5  the tracking store or the git remote cannot be reached
  6  refused for safety
"""


@click.command(help=ISOLATE_HELP, short_help="Prove why a run does not reproduce, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@option("other", default="", metavar="ID", help="The run that came out otherwise. Default: this machine as it is now.")
@trial_options
@judge_options
@text_or_json
@click.option("-v", "--verbose", is_flag=True, help="Show the output of the launches, and tracebacks.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def isolate(*, format_: str, verbose: bool, debug: bool, **settings: Any) -> int:  # noqa: ARG001 - main reads debug
    """Isolate the causes, print the launches and the answer, and give the exit code."""
    from mlflow_repro.isolate import IsolateOptions, isolate_with
    from mlflow_repro.report.isolation_text import render_isolation
    from mlflow_repro.report.json_format import render_plain

    take_no_artifacts(settings)
    warn_of_predictions(settings)
    known = {field.name for field in fields(IsolateOptions)}
    chosen = {name: value for name, value in settings.items() if name in known}
    isolation = isolate_with(IsolateOptions(**chosen, show=show_line if verbose else None, tell_trial=tell))
    print_text(render_plain(isolation.to_dict()) if format_ == "json" else render_isolation(isolation))
    return int(isolation.exit_code)


def tell(number: int, limit: int, trial: Trial) -> None:
    """A launch as it begins or ends, on standard error."""
    from mlflow_repro.report.isolation_text import render_progress

    print_note(render_progress(number, limit, trial))


def show_line(line: str) -> None:
    """A line that a launch printed, on standard error."""
    print_note(f"  | {clean_line(line)}")
