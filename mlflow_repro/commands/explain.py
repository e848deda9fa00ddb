"""``mlflow-repro explain``: why two runs differ."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click

from mlflow_repro.commands.options import (
    EXIT_CODES,
    judge_options,
    option,
    take_no_artifacts,
    text_or_json,
    warn_of_predictions,
)
from mlflow_repro.commands.output import print_text

EXPLAIN_HELP = f"""Say why two runs differ: ranked causes, with what speaks for each and what settles it.

REFERENCE and REPRODUCTION are run ids; TRACKING_URI#RUN_ID names a run of another tracking store. Nothing is launched:
the causes come from the two records, the code of both, and the shape of the difference. mlflow-repro isolate proves
them.

\b
Example:
  mlflow-repro explain d1b4b10969174863a2bad1342f6746ce 0f1e2d3c4b5a69788796a5b4c3d2e1f0

{EXIT_CODES}
"""


@click.command(help=EXPLAIN_HELP, short_help="Say why two runs differ.")
@click.argument("reference", metavar="REFERENCE")
@click.argument("reproduction", metavar="REPRODUCTION")
@judge_options
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@text_or_json
@click.option("-v", "--verbose", "--debug", is_flag=True, help="Show tracebacks.")
def explain(*, format_: str, verbose: bool, **settings: Any) -> int:  # noqa: ARG001 - main reads verbose
    """Explain the difference of REFERENCE and REPRODUCTION, and give the exit code of their comparison."""
    from mlflow_repro.explaining import explain_report
    from mlflow_repro.judging import JudgeOptions
    from mlflow_repro.report.causes_text import render_explanation
    from mlflow_repro.report.json_format import render_json

    take_no_artifacts(settings)
    warn_of_predictions(settings)
    judge = {field.name: settings.pop(field.name) for field in fields(JudgeOptions)}
    report = explain_report(**settings, options=JudgeOptions(**judge))
    print_text(render_json(report) if format_ == "json" else render_explanation(report))
    return int(report.exit_code)
