"""``mlflow-repro reproduce``: run a recorded run again and compare the two."""

from __future__ import annotations

from typing import Any

import click

from mlflow_repro.commands.options import (
    EXIT_CODES,
    Command,
    debug_option,
    format_options,
    options_of,
    read_options,
)
from mlflow_repro.commands.output import check_outputs, hand_out
from mlflow_repro.errors import LaunchError
from mlflow_repro.reproduce.options import ReproduceOptions

REPRODUCE_HELP = f"""Run a recorded MLflow run again and compare the two.

Reads the run, fetches its commit into a temporary folder (your own working tree is never touched), relaunches it by
mlflow.projects.run with the same entry point and parameters, prints both runs' metrics and "Runs equal: True|False".

\b
Example:
  mlflow-repro reproduce --run_id d1b4b10969174863a2bad1342f6746ce \\
      --uri https://host/repo.git#python/sklearn

This runs the code of that repository with your rights.

{EXIT_CODES}
Options may be written with dashes or with underscores. Completion: mlflow-repro completion --help.
"""


@click.command(cls=Command, help=REPRODUCE_HELP, short_help="Run a recorded run again and compare the two.")
@options_of(ReproduceOptions)
@format_options
@click.option("-q", "--quiet", is_flag=True, help="Show neither the child's output nor how far it is.")
@click.option("-v", "--verbose", is_flag=True, help="Show both runs whole, MLflow's own remarks, and tracebacks.")
@debug_option("--debug")
def reproduce(
    *,
    format_: str,
    output: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    **settings: Any,
) -> int:
    """Reproduce a run, print the report in the wanted form, and give the exit code."""
    from mlflow_repro.commands.progress import open_display
    from mlflow_repro.reproduce.pipeline import reproduce_with

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other")
    check_outputs(output)
    try:
        with open_display(is_quiet=quiet, is_verbose=verbose) as display:
            told: dict[str, Any] = {} if quiet else {"show": display.line, "tell": display.tell}
            report = reproduce_with(read_options(ReproduceOptions, settings, **told))
    except LaunchError as error:
        if not quiet:
            error.log_tail = ""  # it has been shown
        raise
    return hand_out(report, format_, output, verbose=verbose)
