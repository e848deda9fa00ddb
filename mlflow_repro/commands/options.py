"""The options of the command line that more than one command has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS = ("text", "json")
REPORT_FORMATS = (*FORMATS, "markdown", "html", "junit")
EXIT_CODES = """\b
Exit codes:
  0  the runs are equal
  1  they differ
  2  usage error or bad input
  3  cannot be judged
  4  the relaunch failed or timed out
  5  the tracking store or the git remote cannot be reached
  6  refused for safety
  70 a bug in mlflow-repro; 128+N ended by signal N
"""


def option(name: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option that may be written with dashes or with underscores; help shows the form of ``name`` first."""
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}", f"--{name.replace('-', '_')}"))
    return click.option(*spellings, name.replace("-", "_"), **settings)


def text_or_json(command: Any) -> Any:
    """The option that chooses the form of what is no report of two runs."""
    return _add_format(command, FORMATS)


def format_options(command: Any) -> Any:
    """The options that choose the form of a report and where it is written, too."""
    command = option(
        "output",
        multiple=True,
        metavar="FILE",
        help="Write the report to FILE, too, in the form of its suffix: .html, .md, .xml (JUnit), .json, .txt."
        " May be repeated.",
    )(command)
    return _add_format(command, REPORT_FORMATS)


def _add_format(command: Any, formats: tuple[str, ...]) -> Any:
    command = click.option("--json", "format_", flag_value="json", hidden=True)(command)
    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        default="text",
        show_default=True,
        help="What is printed. json: one object, nothing else on stdout.",
    )(command)


def judge_options(command: Any) -> Any:
    """The options that say how two runs are judged: the fields of `JudgeOptions`, in their order."""
    for add in reversed(_JUDGE_OPTIONS):
        command = add(command)
    return command


def warn_of_predictions(settings: dict[str, Any]) -> None:
    """Say on standard error what ``--compare-predictions`` means."""
    if settings["compare_predictions"]:
        click.echo("note: --compare-predictions loads the models of both runs, which runs what is in them", err=True)


def trial_options(command: Any) -> Any:
    """The options of what launches a run several times: the fields of `TrialOptions` that people may set."""
    for add in reversed(_TRIAL_OPTIONS):
        command = add(command)
    return command


def take_no_artifacts(settings: dict[str, Any]) -> None:
    """Say ``--no-artifacts`` as the API does. Raises click.UsageError when it contradicts ``--artifacts``."""
    if settings.pop("no_artifacts"):
        if settings["artifacts"]:
            raise click.UsageError("--artifacts and --no-artifacts contradict each other")
        settings["artifacts"] = None


def _patterns(name: str, text: str) -> Callable[[Any], Any]:
    return option(name, multiple=True, metavar="PATTERN", help=f"{text} May be repeated.")


_TRIAL_OPTIONS = (
    option(
        "max-launches",
        type=int,
        default=None,
        metavar="N",
        help="Launch no more often. Default: as often as the method needs.",
    ),
    option("timeout", type=float, default=None, metavar="SECONDS", help="End after this long; what is known is said."),
    click.option(
        "--resume", "parent", default="", metavar="ID", help="Go on below this parent run, after an interruption."
    ),
    option(
        "experiment_name",
        default="Default",
        show_default=True,
        metavar="NAME",
        help="Where the new runs live; created when missing.",
    ),
    option("uri", default="", metavar="URI#SUBDIR", help="Git URI of its project. Default: as the run recorded it."),
    option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default."),
    option("env", default="", metavar="KIND", help="recorded, current or project, as of mlflow-repro reproduce."),
    option("allow-failed", is_flag=True, help="Accept a reference run that FAILED or was KILLED."),
    option("work-dir", default="", metavar="DIRECTORY", help="Where the checkouts are made, and removed."),
)

_JUDGE_OPTIONS = (
    option(
        "rel_tol",
        type=float,
        default=None,
        show_default="1e-9",
        metavar="X",
        help="Relative tolerance, as of math.isclose.",
    ),
    option(
        "abs_tol",
        type=float,
        default=None,
        show_default="0",
        metavar="X",
        help="Absolute tolerance, as of math.isclose.",
    ),
    option("exact", is_flag=True, help="Only the same bits are equal."),
    option(
        "tolerance",
        multiple=True,
        metavar="PATTERN=T",
        help="Of the metrics and artifacts that match: T is rel:X, abs:X, ulp:N, several with commas, or exact. May be "
        "repeated; the first that matches decides.",
    ),
    _patterns("only", "Judge no metrics but those that match."),
    _patterns("ignore", "Show metrics and artifacts that match, and do not judge them."),
    _patterns("judge", "Judge metrics that match although they measure time or the machine."),
    option(
        "config",
        default="",
        metavar="FILE",
        help="TOML file of these rules. Default: [tool.mlflow-repro] of ./pyproject.toml.",
    ),
    option(
        "histories",
        type=click.Choice(("full", "first", "sampled", "off")),
        default="full",
        show_default=True,
        help="Compare each point of the metrics; read no further than the first difference; find a difference by "
        "samples, and read all only where they show none; or compare final values only.",
    ),
    option(
        "against",
        multiple=True,
        metavar="ID,ID",
        help="More reference runs, repeats of the reference, to judge by the spread. May be repeated.",
    ),
    option(
        "margin",
        multiple=True,
        metavar="[PATTERN=]X",
        help="How far the means of repeats may lie apart, in the metric's unit. May be repeated; the first that "
        "matches decides. Default: two standard deviations of the references.",
    ),
    option(
        "as_good_as",
        multiple=True,
        metavar="PATTERN=higher|lower",
        help="Of repeats: ask of metrics that match only whether the reproductions are as good as the references, "
        "where higher or lower is better. May be repeated.",
    ),
    option(
        "artifacts",
        multiple=True,
        metavar="PATTERN",
        help="Compare only these artifacts, 'model/**' for one. May be repeated. Default: all.",
    ),
    option("no-artifacts", is_flag=True, help="Compare no artifacts."),
    option(
        "artifact-limit",
        type=float,
        default=8.0,
        show_default=True,
        metavar="GIB",
        help="How much of the artifacts may be read; what is beyond it cannot be judged.",
    ),
    option(
        "compare-predictions",
        is_flag=True,
        help="Load both runs' models, which runs what is in them, and compare what they predict for the logged input "
        "example.",
    ),
    option(
        "prediction-data",
        default="",
        metavar="FILE",
        help="Compare predictions for these inputs: .csv, .json, .npy or .parquet.",
    ),
    option(
        "prediction-timeout",
        type=float,
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a model may take to be loaded and to predict.",
    ),
    click.option(
        "--children/--no-children",
        default=True,
        show_default=True,
        help="Judge the runs below, and the others of the launch, as well.",
    ),
)
