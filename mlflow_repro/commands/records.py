"""``mlflow-repro show`` and ``mlflow-repro check``: what a run recorded, and whether it will reproduce."""

from __future__ import annotations

from pathlib import Path

import click

from mlflow_repro.commands.options import Command, debug_option, options_of, text_or_json
from mlflow_repro.commands.output import print_text
from mlflow_repro.judging.options import StoreOptions


@click.command(cls=Command, name="show", short_help="Print what a run recorded.")
@click.argument("run_id", metavar="RUN_ID")
@options_of(StoreOptions)
@text_or_json
@click.option(
    "--files",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the record and all its files into DIR/repro.",
)
@debug_option("-v", "--verbose", "--debug")
def show_record(run_id: str, *, tracking_uri: str, format_: str, files: Path | None) -> int:
    """Print what RUN_ID recorded about itself: code, launch, seeds, environment, machine, data."""
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.report.record_text import render_record
    from mlflow_repro.reproduce.pipeline import read_record, save_record

    if files is None:
        record = read_record(run_id, tracking_uri=tracking_uri)
    else:
        record = save_record(run_id, files, tracking_uri=tracking_uri)
    print_text(render_plain(record) if format_ == "json" else render_record(record))
    return 0


@click.command(cls=Command, name="check", short_help="Say whether a run will reproduce.")
@click.argument("run_id", metavar="RUN_ID")
@options_of(StoreOptions)
@text_or_json
@debug_option("-v", "--verbose", "--debug")
def check(run_id: str, *, tracking_uri: str, format_: str) -> int:
    """Say at once, from what RUN_ID recorded, whether it will reproduce, and what to do next time.

    Exit code 0: nothing is missing; 1: it can be launched, with the warnings shown; 3: it cannot, as it is.
    """
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.report.record_text import render_readiness
    from mlflow_repro.reproduce.pipeline import check_run

    readiness = check_run(run_id, tracking_uri=tracking_uri)
    print_text(render_plain(readiness.to_dict()) if format_ == "json" else render_readiness(readiness))
    return int(readiness.exit_code)
