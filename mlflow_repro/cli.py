"""The command line: ``mlflow-repro COMMAND``. The only place where obstacles become text and exit codes."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import click

from mlflow_repro import __version__
from mlflow_repro.commands.compare import compare
from mlflow_repro.commands.explain import explain
from mlflow_repro.commands.isolate import isolate
from mlflow_repro.commands.options import (
    EXIT_CODES,
    FORMATS,
    format_options,
    judge_options,
    option,
    take_no_artifacts,
    warn_of_predictions,
)
from mlflow_repro.commands.output import OutputClosedError, disarm, print_note, print_text
from mlflow_repro.commands.reports import check_outputs, hand_out
from mlflow_repro.commands.stress import stress
from mlflow_repro.commands.tolerances import tolerances
from mlflow_repro.errors import ExitCode, LaunchError, ReproError, UsageError
from mlflow_repro.redact import redact_text
from mlflow_repro.searchpath import leave_working_directory_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

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


class Signalled(BaseException):
    """SIGTERM or SIGHUP arrived: unwind, so that the child's tree is ended and its run is marked."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


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


@click.group(
    context_settings=_CONTEXT,
    help=f"Bring MLflow runs back, and say whether they are the same.\n\n{EXIT_CODES}",
)
@click.version_option(__version__, prog_name="mlflow-repro")
def cli() -> None:
    """Hold the commands; each is one row below."""


@cli.command(help=REPRODUCE_HELP, short_help="Run a recorded run again and compare the two.")
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
    help="Write the answer to the pages of both runs in MLflow: description, report, metrics, tags.",
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
    from mlflow_repro.reproduce import ReproduceOptions, reproduce_with

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


@cli.command(name="show", short_help="Print what a run recorded.")
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
    from mlflow_repro.reproduce import read_record

    record = read_record(run_id, tracking_uri=tracking_uri)
    print_text(render_plain(record) if format_ == "json" else render_record(record))
    return 0


@cli.command(name="check", short_help="Say whether a run will reproduce.")
@click.argument("run_id", metavar="RUN_ID")
@option("tracking_uri", default="", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("-v", "--verbose", "--debug", is_flag=True, help="Show tracebacks.")
def check(run_id: str, *, tracking_uri: str, format_: str, verbose: bool) -> int:  # noqa: ARG001 - main reads it
    """Say at once, from what RUN_ID recorded, whether it will reproduce, and what to do next time.

    Exit code 0: nothing is missing; 1: it can be launched, with the warnings shown; 3: it cannot, as it is.
    """
    from mlflow_repro.report.json_format import render_plain
    from mlflow_repro.report.readiness_text import render_readiness
    from mlflow_repro.reproduce import check_run

    readiness = check_run(run_id, tracking_uri=tracking_uri)
    print_text(render_plain(readiness.to_dict()) if format_ == "json" else render_readiness(readiness))
    return int(readiness.exit_code)


@cli.command(short_help="Print the line that turns on shell completion.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> int:
    """Print the line that turns on completion in SHELL; put it into your shell's start-up file."""
    source = f"_MLFLOW_REPRO_COMPLETE={shell}_source mlflow-repro"
    click.echo(f"{source} | source" if shell == "fish" else f'eval "$({source})"')
    return 0


cli.add_command(compare)
cli.add_command(explain)
cli.add_command(isolate)
cli.add_command(stress)
cli.add_command(tolerances)


def main(  # noqa: C901, PLR0911 - one return for each way to end
    arguments: Sequence[str] | None = None, *, program: str = "mlflow-repro"
) -> int:
    """Run a command and return its exit code. Every obstacle becomes one line on standard error here."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    is_json = "--json" in arguments or "--format=json" in arguments or ("json" in arguments and "--format" in arguments)
    wants_trace = bool({"--debug", "--verbose", "-v"} & set(arguments))
    leave_working_directory_out()
    try:
        with _signals_raised():
            result = cli.main(args=arguments, prog_name=program, standalone_mode=False)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except ReproError as error:
        _say_obstacle(error, is_json=is_json)
        if wants_trace:
            _print_trace()
        return int(error.exit_code)
    except click.UsageError as error:
        return _say_usage(error, is_json=is_json)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        print_note("interrupted")
        return 128 + signal.SIGINT
    except Signalled as error:
        print_note(f"ended by {signal.Signals(error.number).name}")
        return 128 + error.number
    except OutputClosedError:
        # Whoever read our output is gone; what is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.BROKEN_PIPE)
    except SystemExit as error:  # click itself printed, help for one; when nobody read it, it has replaced stdout
        is_closed = type(sys.stdout).__name__.endswith("PacifyFlushWrapper")
        return int(ExitCode.BROKEN_PIPE) if is_closed else int(error.code or 0)
    except Exception as error:  # noqa: BLE001 - the last line of defence, and it says so
        bug = ReproError(f"a bug in mlflow-repro: {type(error).__name__}: {_first_line(error)}")
        bug.exit_code = ExitCode.BUG
        _say_obstacle(bug, is_json=is_json)
        if wants_trace:
            _print_trace()
        else:
            print_note("(run it again with --debug and report what it prints)")
        return int(ExitCode.BUG)


def _say_obstacle(error: ReproError, *, is_json: bool) -> None:
    if is_json:
        from mlflow_repro.report.json_format import render_json_error

        click.echo(disarm(render_json_error(error)))
    if isinstance(error, LaunchError) and error.log_tail:
        print_note("\n".join(f"  | {line}" for line in error.log_tail.splitlines()))
    print_note(f"error: {_one_line(redact_text(str(error)))}")


def _say_usage(error: click.UsageError, *, is_json: bool) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        print_note(error.format_message())
        return int(ExitCode.USAGE)
    command = error.ctx.command_path if error.ctx else "mlflow-repro"
    _say_obstacle(UsageError(error.format_message(), f"{command} --help explains"), is_json=is_json)
    return int(ExitCode.USAGE)


class _signals_raised:  # noqa: N801 - used as a context manager
    """While it lasts, SIGTERM and SIGHUP raise `Signalled` in the main thread."""

    def __enter__(self) -> None:
        self._before: dict[int, Any] = {}

        def on_signal(number: int, _frame: FrameType | None) -> None:
            raise Signalled(number)

        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None:
                try:
                    self._before[number] = signal.signal(number, on_signal)
                except ValueError:  # not in the main thread: the host decides about signals
                    return

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _one_line(text: str) -> str:
    from mlflow_repro.report.line import show

    return show(" ".join(text.split()))


def _first_line(error: Exception) -> str:
    return redact_text(str(error).strip().partition("\n")[0])[:300]


def _print_trace() -> None:
    print_note(redact_text(traceback.format_exc()))


if __name__ == "__main__":
    sys.exit(main())
