"""Options of the command line: those that a class declares as its fields, and those of what is printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mlflow_repro.values.options import is_multiple, list_options, make_options

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

    from mlflow_repro.values.options import Option

_Kind = TypeVar("_Kind")

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
_TYPES = {"int": int, "int | None": int, "float": float, "float | None": float}
_FORMAT = "format_"
_TRACES = ("debug", "verbose")
_WITH_UNDERSCORES = ("run_id", "experiment_name", "tracking_uri", "rel_tol", "abs_tol", "as_good_as")
"""Shown with underscores, as the script had them that this program is the successor of; both forms are taken."""


@dataclass
class Asked:
    """How obstacles are told: as JSON, too, and with their traceback. `main` has it before a command begins."""

    is_json: bool = False
    wants_trace: bool = False


class Command(click.Command):
    """A command that notes what is asked of its output before anything can go wrong."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; what is said of the output counts also where another option is refused."""
        _note_asked(self, ctx, list(args))
        return super().parse_args(ctx, args)


class Group(click.Group):
    """The commands together: what is asked of the output counts where none of them is called, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a command that is found then knows better."""
        _note_asked(text_or_json(debug_option("--debug")(click.Command("any"))), ctx, list(args))
        return super().parse_args(ctx, args)


def _note_asked(command: click.Command, ctx: click.Context, arguments: list[str]) -> None:
    """Note what the arguments say of the output by the options of ``command``, whatever else is wrong with them."""
    if not isinstance(ctx.obj, Asked):
        return
    parser = command.make_parser(ctx)
    parser.ignore_unknown_options = parser.allow_interspersed_args = True
    found: dict[str, Any] = {}
    while arguments:
        try:
            found = dict(parser.parse_args(list(arguments))[0])
            break
        except click.UsageError:  # the last option lacks its value
            arguments.pop()
    ctx.obj.is_json = found.get(_FORMAT) == "json"
    ctx.obj.wants_trace = any(found.get(name) for name in _TRACES)


def option(name: str, **settings: Any) -> Callable[[Any], Any]:
    """A click option that may be written with dashes or with underscores; help shows the form of ``name`` first."""
    spellings = dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}", f"--{name.replace('-', '_')}"))
    return click.option(*spellings, name.replace("-", "_"), **settings)


def options_of(kind: type) -> Callable[[Any], Any]:
    """The options that a class has, in the order of its fields."""

    def decorate(command: Any) -> Any:
        for one, about in reversed(list(list_options(kind))):
            if not about.in_python_only:
                command = _add_option(command, one, about)
        return command

    return decorate


def read_options(kind: type[_Kind], settings: dict[str, Any], **more: Any) -> _Kind:
    """The options of ``kind``, taken out of the ``settings`` of a command; ``more`` are those of Python only.

    Raises click.UsageError for a flag that contradicts another option.
    """
    given = dict(more)
    for one, about in list_options(kind):
        if about.in_python_only:
            continue
        given[one.name] = settings.pop(one.name)
        if about.none and settings.pop(about.none.replace("-", "_")):
            if given[one.name]:
                raise click.UsageError(f"--{one.name} and --{about.none} contradict each other")
            given[one.name] = None
    if given.get("compare_predictions"):
        click.echo("note: --compare-predictions loads the models of both runs, which runs what is in them", err=True)
    return make_options(kind, given)


def _add_option(command: Any, one: Field[Any], about: Option) -> Any:
    if about.none:
        command = option(about.none, is_flag=True, help=f"Compare no {one.name}.")(command)
    settings: dict[str, Any] = {"help": about.help, "metavar": about.metavar or None}
    if one.type == "bool":
        settings |= {"is_flag": True, "default": one.default, "show_default": bool(one.default)}
    elif is_multiple(one) or one.name == "params":
        settings |= {"multiple": True, "help": f"{about.help} May be repeated."}
    elif one.name == "run_id":
        settings |= {"multiple": True, "callback": _once}
    else:
        settings |= {"type": click.Choice(about.choices) if about.choices else _TYPES.get(str(one.type), str)}
        settings |= {"default": one.default, "show_default": about.shown_default or one.default not in ("", None)}
    if one.name == "params":
        settings["callback"] = _parse_params
    return click.option(*_spell(one, about), one.name, **settings)(command)


def _spell(one: Field[Any], about: Option) -> list[str]:
    """Every way to write an option, the one that help shows first."""
    name = about.spelling or one.name
    dashed = name.replace("_", "-")
    forms = dict.fromkeys((name, dashed) if name in _WITH_UNDERSCORES else (dashed, name))
    if one.type == "bool" and one.default:
        return [f"--{form}/--no{'_' if '_' in form else '-'}{form}" for form in forms]
    return [*(["-P"] if name == "param" else []), *(f"--{form}" for form in forms)]


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


def debug_option(*names: str, text: str = "Show tracebacks.") -> Callable[[Any], Any]:
    """The flag that shows tracebacks, which `main` heeds and no command has to."""
    return click.option(*names, "debug", is_flag=True, expose_value=False, help=text)


def _add_format(command: Any, formats: tuple[str, ...]) -> Any:
    command = click.option("--json", _FORMAT, flag_value="json", hidden=True)(command)
    return click.option(
        "--format",
        _FORMAT,
        type=click.Choice(formats),
        default="text",
        show_default=True,
        help="What is printed. json: one object, nothing else on stdout.",
    )(command)
