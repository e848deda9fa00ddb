"""``mlflow-repro stress``: what the result of a run depends on, before it hurts."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from mlflow_repro.commands.isolate import show_line, tell
from mlflow_repro.commands.options import (
    judge_options,
    option,
    take_no_artifacts,
    text_or_json,
    trial_options,
    warn_of_predictions,
)
from mlflow_repro.commands.output import print_text

STRESS_HELP = """Launch a run again with its surroundings varied, and say what its result depends on.

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
  2  usage error or bad input
  3  cannot be said: out of budget, or the record is incomplete
  4  the run as recorded cannot be launched
  5  the tracking store or the git remote cannot be reached
  6  refused for safety
"""


@click.command(help=STRESS_HELP, short_help="Say what the result of a run depends on, by launching it.")
@click.argument("run_id", metavar="RUN_ID")
@option("vary", multiple=True, metavar="NAME", help="Vary only this ('hash seed', ...). May be repeated.")
@trial_options
@judge_options
@text_or_json
@click.option("-v", "--verbose", is_flag=True, help="Show the output of the launches, and tracebacks.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def stress(*, format_: str, verbose: bool, debug: bool, **settings: Any) -> int:  # noqa: ARG001 - main reads debug
    """Stress the run, print its profile, and give the exit code."""
    from mlflow_repro.report.isolation_text import render_profile
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.stress import StressOptions, stress_with

    take_no_artifacts(settings)
    warn_of_predictions(settings)
    known = {field.name for field in fields(StressOptions)}
    chosen = {name: value for name, value in settings.items() if name in known}
    profile = stress_with(StressOptions(**chosen, show=show_line if verbose else None, tell_trial=tell))
    print_text(render_plain(profile.to_dict()) if format_ == "json" else render_profile(profile))
    return int(profile.exit_code)
