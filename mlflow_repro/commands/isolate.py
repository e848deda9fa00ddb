"""``mlflow-repro isolate``: prove why a run does not reproduce."""

from __future__ import annotations

from typing import Any

import click

from mlflow_repro.commands.options import option
from mlflow_repro.commands.trials import OTHER_EXIT_CODES, print_result, read_options, trials_command

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


@click.command(help=ISOLATE_HELP, short_help="Prove why a run does not reproduce, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@option(
    "other",
    default="",
    metavar="[URI#]ID",
    help="The run that came out otherwise, TRACKING_URI#RUN_ID for one of another store. Default: this machine as it is"
    " now.",
)
@option(
    "data",
    multiple=True,
    metavar="PATH",
    help="A file or folder where data is that has another content now; it is found by its recorded digest. May be"
    " repeated.",
)
@trials_command
def isolate(*, format_: str, verbose: bool, debug: bool, **settings: Any) -> int:  # noqa: ARG001 - main reads debug
    """Isolate the causes, print the launches and the answer, and give the exit code."""
    from mlflow_repro.isolate import IsolateOptions, isolate_with
    from mlflow_repro.report.isolation_text import render_isolation

    isolation = isolate_with(read_options(IsolateOptions, settings, is_verbose=verbose))
    return print_result(isolation, format_, render_isolation)
