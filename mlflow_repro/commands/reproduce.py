"""``mlflow-repro reproduce``: run a recorded run again and compare the two."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from mlflow_repro.commands.options import (
    EXIT_CODES,
    format_options,
    judge_options,
    option,
    take_no_artifacts,
    warn_of_predictions,
)
from mlflow_repro.commands.output import check_outputs, hand_out
from mlflow_repro.errors import LaunchError

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


def _parse_params(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    params: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise click.BadParameter(f"{text!r} is not of the form NAME=VALUE")
        if name in params:
            raise click.BadParameter(f"{name!r} is given twice")
        params[name] = value
    return params


def _once(_context: click.Context, parameter: click.Parameter, values: tuple[Any, ...]) -> Any:
    """Click takes the last of a repeated option silently; which of two run ids was meant is not ours to guess."""
    if len(values) > 1:
        raise click.BadParameter("it is given more than once", param=parameter)
    return values[0] if values else ""


@click.command(help=REPRODUCE_HELP, short_help="Run a recorded run again and compare the two.")
@option("run_id", multiple=True, callback=_once, metavar="ID", help="The reference run.")
@option("model", default="", metavar="URI", help="Or the model it made: models:/NAME/VERSION, models:/NAME@ALIAS.")
@option("uri", default="", metavar="URI#SUBDIR", help="Git URI of its project. Default: as the run recorded it.")
@option("commit", default="", metavar="SHA", help="Run this commit in place of the recorded one: is the result kept?")
@option(
    "experiment_name",
    default="Default",
    show_default=True,
    metavar="NAME",
    help="Where the new run lives; created when missing.",
)
@judge_options
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@option(
    "env",
    default="",
    metavar="KIND",
    help="recorded: rebuilt with uv from the run's record; current: this one; project: by MLflow's own managers."
    " Default: recorded where something differs that the run imported, else current.",
)
@option(
    "allow-substitutions",
    is_flag=True,
    help="Of a recorded environment, take the nearest version of what cannot be had, or leave it out, and say so.",
)
@option(
    "env-manager",
    default="",
    metavar="NAME",
    help="virtualenv, uv or conda, for --env project. Default: what the reference used.",
)
@option("backend", default="", metavar="NAME", help="Where to run. Default: what the reference used.")
@option("backend-config", default="", metavar="JSON", help="JSON, or a .json file, for that backend.")
@click.option(
    "-P",
    "--param",
    "params",
    multiple=True,
    callback=_parse_params,
    metavar="NAME=VALUE",
    help="Set or replace a launch parameter. May be repeated.",
)
@option("recurse-submodules", is_flag=True, help="Fetch the repository's submodules too (https and ssh only).")
@option("ignore-diff", is_flag=True, help="Run the commit without the uncommitted changes that the run had.")
@option("include-deleted", is_flag=True, help="Accept a reference run that was deleted.")
@option("allow-failed", is_flag=True, help="Accept a reference run that FAILED or was KILLED.")
@option("timeout", type=float, default=None, metavar="SECONDS", help="End the relaunched run after this long.")
@option(
    "work-dir",
    default="",
    metavar="DIRECTORY",
    help="Where the checkout is made, and removed. Default: the system's.",
)
@option("resume", default="", metavar="ID", help="Launch nothing: judge this reproduction, which has run already.")
@click.option(
    "--restore-rng/--no-restore-rng",
    "--restore_rng/--no_restore_rng",
    default=True,
    show_default=True,
    help="Put the recorded random state back before the code runs.",
)
@option("seed", type=int, default=None, metavar="N", help="Seed everything with N instead: does it replicate?")
@option(
    "repeats",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Relaunch the run N times, and judge final metrics by their spread.",
)
@option("jobs", type=int, default=1, show_default=True, metavar="N", help="How many of the repeats run at once.")
@option(
    "fail-fast",
    is_flag=True,
    help="End the relaunched run as soon as a judged metric has left its tolerance at some step.",
)
@click.option(
    "--explain/--no-explain",
    default=True,
    show_default=True,
    help="Where the runs differ, name the likely causes.",
)
@click.option(
    "--annotate/--no-annotate",
    default=True,
    show_default=True,
    help="Write the answer to the page of the reproduction in MLflow: description, report, metrics, tags.",
)
@option(
    "annotate-reference",
    is_flag=True,
    help="Write the verdict and the id of the reproduction to the reference, too, which is not changed otherwise.",
)
@option(
    "allow-registry",
    is_flag=True,
    help="Let the relaunched run register models and set aliases; else it is only said what it would have done.",
)
@option(
    "isolated-home",
    is_flag=True,
    help="Give the relaunched run an empty HOME and TMPDIR, so that no cache has its result.",
)
@option(
    "accept-cache",
    is_flag=True,
    help="Take a result for computed though the run read what the reference, or a later run, may have left there.",
)
@option("dry-run", is_flag=True, help="Print the plan and the commands to do it by hand; launch nothing.")
@format_options
@click.option("-q", "--quiet", is_flag=True, help="Show neither the child's output nor how far it is.")
@click.option("-v", "--verbose", is_flag=True, help="Show both runs whole, MLflow's own remarks, and tracebacks.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def reproduce(
    *,
    format_: str,
    output: tuple[str, ...],
    quiet: bool,
    verbose: bool,
    debug: bool,  # noqa: ARG001 - main reads it
    **settings: Any,
) -> int:
    """Reproduce a run, print the report in the wanted form, and give the exit code."""
    from mlflow_repro.commands.progress import open_display
    from mlflow_repro.reproduce.options import ReproduceOptions
    from mlflow_repro.reproduce.pipeline import reproduce_with

    if quiet and verbose:
        raise click.UsageError("--quiet and --verbose contradict each other")
    known = {field.name for field in fields(ReproduceOptions)}
    take_no_artifacts(settings)
    check_outputs(output)
    warn_of_predictions(settings)
    wanted = {name: value for name, value in settings.items() if name in known}
    try:
        with open_display(is_quiet=quiet, is_verbose=verbose) as display:
            told: dict[str, Any] = {} if quiet else {"show": display.line, "tell": display.tell}
            report = reproduce_with(ReproduceOptions(**wanted, **told))
    except LaunchError as error:
        if not quiet:
            error.log_tail = ""  # it has been shown
        raise
    return hand_out(report, format_, output, verbose=verbose)
