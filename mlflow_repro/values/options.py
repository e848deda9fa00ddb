"""Options are declared once, as fields of frozen dataclasses, and composed: a command has the groups that it honours.

A field made by `option` carries its help; a field made by `group` holds the fields of another class. The command line,
the Python signature and the reference page are made from these fields, and an option that a class does not have is
refused by all of them.

>>> @dataclass(frozen=True, kw_only=True)
... class Speed:
...     rate: float = option(1.0, help="How fast.")
>>> @dataclass(frozen=True, kw_only=True)
... class Journey:
...     to: str = option("", help="Where to.")
...     speed: Speed = group(Speed)
>>> make_options(Journey, {"to": "home", "rate": 2.0})
Journey(to='home', speed=Speed(rate=2.0))
>>> make_options(Journey, {"rat": 2.0}, "travel")
Traceback (most recent call last):
TypeError: travel() has no option 'rat'; it has rate, to
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from dataclasses import Field

_Kind = TypeVar("_Kind")
_Function = TypeVar("_Function", bound="Callable[..., Any]")
_OPTION, _GROUP = "option", "group"


@dataclass(frozen=True, kw_only=True)
class Option:
    """What is known of an option beside its name, type and default, which its field has.

    ``shown_default`` stands for a default that says nothing by itself. ``spelling`` is the name on the command line
    where that is another one; ``none`` is a flag there that gives None in place of values. With ``in_python_only`` the
    command line does not have it.
    """

    help: str
    metavar: str = ""
    choices: tuple[str, ...] = ()
    shown_default: str = ""
    spelling: str = ""
    none: str = ""
    in_python_only: bool = False


def option(default: Any, **about: Any) -> Any:
    """A field that is an option; ``about`` are the fields of `Option`."""
    return field(default=default, metadata={_OPTION: Option(**about)})


def group(kind: type) -> Any:
    """A field that holds the options of ``kind``."""
    return field(default_factory=kind, metadata={_GROUP: kind})


def list_options(kind: type) -> Iterator[tuple[Field[Any], Option]]:
    """The options of a class, those of its groups in their place."""
    for one in fields(kind):
        if _GROUP in one.metadata:
            yield from list_options(one.metadata[_GROUP])
        elif _OPTION in one.metadata:
            yield one, one.metadata[_OPTION]


def make_options(kind: type[_Kind], given: Mapping[str, Any], caller: str = "") -> _Kind:
    """The options of ``kind`` with what is given by name, each in the group that it belongs to.

    Raises TypeError for one that ``kind`` does not have, and for a text where several values are meant.
    """
    known = {one.name: one for one, _ in list_options(kind)}
    for name, value in given.items():
        if name not in known:
            raise TypeError(f"{caller or kind.__name__}() has no option {name!r}; it has {', '.join(sorted(known))}")
        if isinstance(value, (str, bytes)) and is_multiple(known[name]):
            raise TypeError(f"{name} is {value!r}: it must be a list or a tuple")
    return _make(kind, given)


def _make(kind: type[_Kind], given: Mapping[str, Any]) -> _Kind:
    values = {}
    for one in fields(kind):  # type: ignore[arg-type] # every class of options is a dataclass
        if _GROUP in one.metadata:
            values[one.name] = _make(one.metadata[_GROUP], given)
        elif one.name in given:
            value = given[one.name]
            values[one.name] = tuple(value) if is_multiple(one) and value is not None else value
    return kind(**values)


def change_options(options: _Kind, **changed: Any) -> _Kind:
    """The options with some of them changed, by their names, in whichever group they are."""
    values: dict[str, Any] = {}
    for one in fields(options):  # type: ignore[arg-type] # every class of options is a dataclass
        if _GROUP in one.metadata:
            values[one.name] = change_options(getattr(options, one.name), **changed)
        elif one.name in changed:
            values[one.name] = changed[one.name]
    return replace(options, **values)  # type: ignore[type-var] # as above


def is_multiple(one: Field[Any]) -> bool:
    """True of an option that holds several values."""
    return isinstance(one.default, tuple)


def takes(kind: type) -> Callable[[_Function], _Function]:
    """Give a function, whose ``**options`` are those of ``kind``, their signature and their help."""

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        names = {one.name for one in own}
        more = [
            inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for one, _ in list_options(kind)
            if one.name not in names
        ]
        function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        listed = "\n".join(_describe(one, about) for one, about in list_options(kind) if one.name not in names)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nKeyword Args:\n{listed}\n"
        return function

    return decorate


def _describe(one: Field[Any], about: Option) -> str:
    """An option as a docstring lists it, in the form that the reference page is made from."""
    return f"    {one.name} ({one.type}): {about.help}"
