"""``mlflow-repro tolerances``: learn from repeats, and write the file of rules."""

from __future__ import annotations

import click

from mlflow_repro.commands.options import EXIT_CODES, Command, debug_option, option, options_of
from mlflow_repro.commands.output import print_text
from mlflow_repro.judging.options import StoreOptions

TOLERANCES_HELP = f"""Learn the tolerance of each metric from repeats of one run, and write a file of rules.

The runs are ids, or TRACKING_URI#RUN_ID. A tolerance is 1.5 times the greatest distance from the mean, at least 0.1 %.

\b
Example:
  mlflow-repro tolerances --from ID ID ID ID ID
  mlflow-repro compare REFERENCE REPRODUCTION --config mlflow-repro.toml

{EXIT_CODES}
"""


@click.command(cls=Command, help=TOLERANCES_HELP, short_help="Learn tolerances from repeats of a run.")
@click.option("--from", "first", multiple=True, required=True, metavar="RUN...", help="The repeats, three or more.")
@click.argument("rest", nargs=-1, metavar="")
@option("output", default="mlflow-repro.toml", show_default=True, metavar="FILE", help="The file to write.")
@option("overwrite", is_flag=True, help="Replace the file when it is there.")
@option("config", default="", metavar="FILE", help="Rules that say which metrics judge; they are kept in the new file.")
@options_of(StoreOptions)
@debug_option("-v", "--verbose", "--debug")
def tolerances(
    *,
    first: tuple[str, ...],
    rest: tuple[str, ...],
    output: str,
    overwrite: bool,
    config: str,
    tracking_uri: str,
) -> int:
    """Learn, write the file, and say what it holds."""
    from mlflow_repro.judging.judge import learn_tolerances
    from mlflow_repro.text.redact import show

    rules, left_out = learn_tolerances(
        (*first, *rest), output, overwrite=overwrite, config=config, tracking_uri=tracking_uri
    )
    lines = [f"{show(rule.pattern)}: {rule.tolerances}" for rule in rules.tolerances]
    lines += [f"left out: {show(reason)}" for reason in left_out]
    print_text("\n".join([*lines, f"Written to {output}; use it with --config {output}"]))
    return 0
