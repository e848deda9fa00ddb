"""``mlflow-repro compare`` and ``mlflow-repro explain``: judge two runs that are there, and say why they differ."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import Any

import click

from mlflow_repro.commands.options import (
    EXIT_CODES,
    format_options,
    judge_options,
    option,
    take_no_artifacts,
    text_or_json,
    warn_of_predictions,
)
from mlflow_repro.commands.output import check_outputs, hand_out, print_text

COMPARE_HELP = f"""Compare two runs, and put side by side what explains a difference.

REFERENCE and REPRODUCTION are run ids; TRACKING_URI#RUN_ID names a run of another tracking store. With several
reproductions, or with --against, final metrics are judged by their spread.

\b
Example:
  mlflow-repro compare d1b4b10969174863a2bad1342f6746ce \\
      http://other.host:5000#0f1e2d3c4b5a69788796a5b4c3d2e1f0

{EXIT_CODES}
"""


@click.command(help=COMPARE_HELP, short_help="Compare two runs that are there.")
@click.argument("reference", metavar="REFERENCE")
@click.argument("reproductions", metavar="REPRODUCTION...", nargs=-1, required=True)
@judge_options
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@click.option("--all", "show_all", is_flag=True, help="Show what is the same, too, and both runs whole.")
@format_options
@click.option("-v", "--verbose", "--debug", is_flag=True, help="Show tracebacks.")
def compare(
    *,
    show_all: bool,
    format_: str,
    output: tuple[str, ...],
    verbose: bool,  # noqa: ARG001 - main reads it
    **settings: Any,
) -> int:
    """Compare REFERENCE and REPRODUCTION, print the report, and give the exit code."""
    from mlflow_repro.commands.progress import open_display
    from mlflow_repro.judging.causes import compare_and_explain
    from mlflow_repro.judging.options import JudgeOptions
    from mlflow_repro.values.progress import COMPARING, Moment

    take_no_artifacts(settings)
    warn_of_predictions(settings)
    check_outputs(output)
    judge = {field.name: settings.pop(field.name) for field in fields(JudgeOptions)}
    with open_display(is_quiet=not sys.stderr.isatty(), is_verbose=False) as display:
        display.tell(Moment(phase=COMPARING))
        report = compare_and_explain(**settings, options=JudgeOptions(**judge))
    return hand_out(report, format_, output, verbose=show_all)


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
    from mlflow_repro.judging.causes import explain_report
    from mlflow_repro.judging.options import JudgeOptions
    from mlflow_repro.report.isolation_text import render_explanation
    from mlflow_repro.report.json_format import render_json

    take_no_artifacts(settings)
    warn_of_predictions(settings)
    judge = {field.name: settings.pop(field.name) for field in fields(JudgeOptions)}
    report = explain_report(**settings, options=JudgeOptions(**judge))
    print_text(render_json(report) if format_ == "json" else render_explanation(report))
    return int(report.exit_code)
