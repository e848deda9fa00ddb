"""``mlflow-repro stress``: what the result of a run depends on, before it hurts."""

from __future__ import annotations

from typing import Any

import click

from mlflow_repro.commands.options import option
from mlflow_repro.commands.trials import OTHER_EXIT_CODES, print_result, read_options, trials_command

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


@click.command(help=STRESS_HELP, short_help="Say what the result of a run depends on, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@option("vary", multiple=True, metavar="NAME", help="Vary only this ('hash seed', ...). May be repeated.")
@trials_command
def stress(*, format_: str, verbose: bool, debug: bool, **settings: Any) -> int:  # noqa: ARG001 - main reads debug
    """Stress the run, print its profile, and give the exit code."""
    from mlflow_repro.report.isolation_text import render_profile
    from mlflow_repro.stress import StressOptions, stress_with

    profile = stress_with(read_options(StressOptions, settings, is_verbose=verbose))
    return print_result(profile, format_, render_profile)
