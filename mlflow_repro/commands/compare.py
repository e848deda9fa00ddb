"""``mlflow-repro compare`` and ``mlflow-repro explain``: judge two runs that are there, and say why they differ."""

from __future__ import annotations

import sys
from typing import Any

import click

from mlflow_repro.commands.options import (
    EXIT_CODES,
    Command,
    debug_option,
    format_options,
    options_of,
    read_options,
    text_or_json,
)
from mlflow_repro.commands.output import check_outputs, hand_out, print_text
from mlflow_repro.judging.options import CompareOptions, ExplainOptions

COMPARE_HELP = f"""Compare two runs, and put side by side what explains a difference.

REFERENCE and REPRODUCTION are run ids; TRACKING_URI#RUN_ID names a run of another tracking store. With several
reproductions, or with --against, final metrics are judged by their spread.

\b
Example:
  mlflow-repro compare d1b4b10969174863a2bad1342f6746ce \\
      http://other.host:5000#0f1e2d3c4b5a69788796a5b4c3d2e1f0

{EXIT_CODES}
"""


@click.command(cls=Command, help=COMPARE_HELP, short_help="Compare two runs that are there.")
@click.argument("reference", metavar="REFERENCE")
@click.argument("reproductions", metavar="REPRODUCTION...", nargs=-1, required=True)
@options_of(CompareOptions)
@click.option("--all", "show_all", is_flag=True, help="Show what is the same, too, and both runs whole.")
@format_options
@debug_option("-v", "--verbose", "--debug")
def compare(
    reference: str,
    reproductions: tuple[str, ...],
    *,
    show_all: bool,
    format_: str,
    output: tuple[str, ...],
    **settings: Any,
) -> int:
    """Compare REFERENCE and REPRODUCTION, print the report, and give the exit code."""
    from mlflow_repro.commands.progress import open_display
    from mlflow_repro.judging.causes import compare_and_explain
    from mlflow_repro.values.progress import COMPARING, Moment

    options = read_options(CompareOptions, settings)
    check_outputs(output)
    with open_display(is_quiet=not sys.stderr.isatty(), is_verbose=False) as display:
        display.tell(Moment(phase=COMPARING))
        report = compare_and_explain(reference, reproductions, options)
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


@click.command(cls=Command, help=EXPLAIN_HELP, short_help="Say why two runs differ.")
@click.argument("reference", metavar="REFERENCE")
@click.argument("reproduction", metavar="REPRODUCTION")
@options_of(ExplainOptions)
@text_or_json
@debug_option("-v", "--verbose", "--debug")
def explain(reference: str, reproduction: str, *, format_: str, **settings: Any) -> int:
    """Explain the difference of REFERENCE and REPRODUCTION, and give the exit code of their comparison."""
    from mlflow_repro.judging.causes import explain_report
    from mlflow_repro.report.isolation_text import render_explanation
    from mlflow_repro.report.json_format import render_json

    report = explain_report(reference, reproduction, read_options(ExplainOptions, settings))
    print_text(render_json(report) if format_ == "json" else render_explanation(report))
    return int(report.exit_code)
