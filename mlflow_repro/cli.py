"""The command line: ``mlflow-repro COMMAND``. The only place where obstacles become text and exit codes."""

from __future__ import annotations

from mlflow_repro.system.searchpath import leave_working_directory_out

if __name__ == "__main__":  # before anything is imported that it may have a file of the same name as
    leave_working_directory_out()

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from mlflow_repro import __version__
from mlflow_repro.commands.compare import compare, explain
from mlflow_repro.commands.options import EXIT_CODES, Asked, Group
from mlflow_repro.commands.output import OutputClosedError, disarm, print_note
from mlflow_repro.commands.records import check, show_record
from mlflow_repro.commands.reproduce import reproduce
from mlflow_repro.commands.tolerances import tolerances
from mlflow_repro.commands.trials import isolate, stress
from mlflow_repro.errors import ExitCode, LaunchError, ReproError, UsageError
from mlflow_repro.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Signalled(BaseException):
    """SIGTERM or SIGHUP arrived: unwind, so that the child's tree is ended and its run is marked."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@click.group(
    cls=Group,
    context_settings=_CONTEXT,
    help=f"Bring MLflow runs back, and say whether they are the same.\n\n{EXIT_CODES}",
)
@click.version_option(__version__, prog_name="mlflow-repro")
def cli() -> None:
    """Hold the commands; each is one row below."""


@cli.command(short_help="Print the line that turns on shell completion.")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> int:
    """Print the line that turns on completion in SHELL; put it into your shell's start-up file."""
    source = f"_MLFLOW_REPRO_COMPLETE={shell}_source mlflow-repro"
    click.echo(f"{source} | source" if shell == "fish" else f'eval "$({source})"')
    return 0


cli.add_command(reproduce)
cli.add_command(compare)
cli.add_command(explain)
cli.add_command(isolate)
cli.add_command(stress)
cli.add_command(tolerances)
cli.add_command(show_record)
cli.add_command(check)


def main(  # noqa: C901, PLR0911 - one return for each way to end
    arguments: Sequence[str] | None = None, *, program: str = "mlflow-repro"
) -> int:
    """Run a command and return its exit code. Every obstacle becomes one line on standard error here."""
    arguments, asked = list(sys.argv[1:] if arguments is None else arguments), Asked()
    leave_working_directory_out()
    try:
        with _signals_raised():
            result = cli.main(args=arguments, prog_name=program, standalone_mode=False, obj=asked)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except ReproError as error:
        _say_obstacle(error, is_json=asked.is_json)
        if asked.wants_trace:
            _print_trace()
        return int(error.exit_code)
    except click.UsageError as error:
        return _say_usage(error, is_json=asked.is_json)
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
        _say_obstacle(bug, is_json=asked.is_json)
        if asked.wants_trace:
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
    from mlflow_repro.text.redact import show

    return show(" ".join(text.split()))


def _first_line(error: Exception) -> str:
    return redact_text(str(error).strip().partition("\n")[0])[:300]


def _print_trace() -> None:
    """Behind a mark: what an error says may have lines."""
    print_note("\n".join(f"  | {line}" for line in redact_text(traceback.format_exc()).splitlines()))


if __name__ == "__main__":
    sys.exit(main())
