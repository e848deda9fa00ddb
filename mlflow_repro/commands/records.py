"""``mlflow-repro show`` and ``mlflow-repro check``: what a run recorded, and whether it will reproduce."""

from __future__ import annotations

import click

from mlflow_repro.commands.options import FORMATS, option
from mlflow_repro.commands.output import print_text


@click.command(name="show", short_help="Print what a run recorded.")
@click.argument("run_id", metavar="RUN_ID")
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="json: the record as it is stored.",
)
@click.option("-v", "--verbose", "--debug", is_flag=True, help="Show tracebacks.")
def show_record(run_id: str, *, tracking_uri: str, format_: str, verbose: bool) -> int:  # noqa: ARG001 - main reads it
    """Print what RUN_ID recorded about itself: code, launch, seeds, environment, machine, data."""
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.report.record_text import render_record
    from mlflow_repro.reproduce.pipeline import read_record

    record = read_record(run_id, tracking_uri=tracking_uri)
    print_text(render_plain(record) if format_ == "json" else render_record(record))
    return 0


@click.command(name="check", short_help="Say whether a run will reproduce.")
@click.argument("run_id", metavar="RUN_ID")
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("-v", "--verbose", "--debug", is_flag=True, help="Show tracebacks.")
def check(run_id: str, *, tracking_uri: str, format_: str, verbose: bool) -> int:  # noqa: ARG001 - main reads it
    """Say at once, from what RUN_ID recorded, whether it will reproduce, and what to do next time.

    Exit code 0: nothing is missing; 1: it can be launched, with the warnings shown; 3: it cannot, as it is.
    """
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.report.record_text import render_readiness
    from mlflow_repro.reproduce.pipeline import check_run

    readiness = check_run(run_id, tracking_uri=tracking_uri)
    print_text(render_plain(readiness.to_dict()) if format_ == "json" else render_readiness(readiness))
    return int(readiness.exit_code)
