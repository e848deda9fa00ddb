"""The stored form of a value, by the types of its fields: what JSON has and nothing else.

Tuples are lists there, enums their values, mappings and dataclasses objects. JSON has no NaN and no infinity: numbers
that are not finite are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

from __future__ import annotations

import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_NAMES = {str: "text", int: "an integer", float: "a number", bool: "true or false"}
_Value = TypeVar("_Value", bound="Stored")


class DamagedError(ValueError):
    """A stored form that is none of this value; the message says where, and what is wrong there."""


class Stored:
    """A frozen dataclass that has a stored form."""

    STORED: ClassVar[tuple[str, ...]] = ()
    """The names in the stored form, in their order, where they are not those of all fields. Those of properties are
    written, and not read."""

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return _plain_fields(self)

    @classmethod
    def from_dict(cls: type[_Value], plain: Mapping[str, Any]) -> _Value:  # noqa: PYI019 - Self is younger than 3.10
        """Read what `to_dict` gave. Raises DamagedError, and what the value itself refuses."""
        _expect(plain, Mapping, "an object")
        value: _Value = _read_fields(cls, cls.unfold(plain))
        return value

    @classmethod
    def unfold(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is stored by the names of the fields; another one where a form has, or had, other names."""
        return plain


def to_plain(value: Any) -> Any:
    """The stored form of a value and of everything in it."""
    if isinstance(value, Stored):
        return value.to_dict()
    if is_dataclass(value):
        return _plain_fields(value)
    if isinstance(value, Mapping):
        return {name: to_plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted(to_plain(part) for part in value)
    return value.value if isinstance(value, Enum) else plain_number(value)


def plain_number(value: Any) -> Any:
    """``value`` in a form that JSON has: numbers that are not finite as text that `float` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


def _plain_fields(value: Any) -> dict[str, Any]:
    return {name: to_plain(getattr(value, name)) for name in _stored_names(type(value))}


def from_plain(kind: Any, plain: Any) -> Any:
    """The value of the type ``kind`` that `to_plain` gave. Raises DamagedError."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(parts, plain)
    if origin is not None:
        return _read_several(origin, parts, plain)
    if isinstance(kind, type) and issubclass(kind, Stored):
        return kind.from_dict(plain)
    return _read_fields(kind, plain) if is_dataclass(kind) else _read_simple(kind, plain)


def _read_union(kinds: tuple[Any, ...], plain: Any) -> Any:
    """As the first of the types that it can be, and where it can as it is: text is text, not a number."""
    if plain is None and type(None) in kinds:
        return None
    rest = [kind for kind in kinds if kind is not type(None)]
    if type(plain) in rest or (type(plain) is int and float in rest):
        return plain
    for kind in rest[:-1]:
        try:
            return from_plain(kind, plain)
        except DamagedError:
            continue
    return from_plain(rest[-1], plain)


def _read_several(origin: Any, parts: tuple[Any, ...], plain: Any) -> Any:
    if issubclass(origin, Mapping):
        _expect(plain, Mapping, "an object")
        return {name: _read_at(repr(name), parts[1], part) for name, part in plain.items()}
    _expect(plain, (list, tuple), "a list")
    return origin(_read_at(str(number), parts[0], part) for number, part in enumerate(plain))


def _read_simple(kind: Any, plain: Any) -> Any:
    """A value that has no parts: an enum's, text, a number; anything where the type says so."""
    if kind is Any:
        return plain
    if not (issubclass(kind, Enum) or (kind is float and plain in _NOT_FINITE)):
        _expect(plain, (int, float) if kind is float else kind, _NAMES[kind])
    try:
        return kind(plain)
    except (ValueError, OverflowError) as error:
        raise DamagedError(str(error)) from error


def _read_fields(kind: Any, plain: Mapping[str, Any]) -> Any:
    """A dataclass by the types of its fields; what it has a default for may be missing."""
    _expect(plain, Mapping, "an object")
    names, kinds = _stored_names(kind), _field_kinds(kind)
    unknown = sorted(plain.keys() - set(names))
    if unknown:
        raise DamagedError(f"{kind.__name__} has no {unknown[0]!r}")
    values = {}
    for one in fields(kind):
        if one.name not in names:
            continue
        if one.name in plain:
            values[one.name] = _read_at(one.name, kinds[one.name], plain[one.name])
        elif one.default is MISSING and one.default_factory is MISSING:
            raise DamagedError(f"{kind.__name__} lacks {one.name!r}")
    return kind(**values)


def _read_at(place: str, kind: Any, plain: Any) -> Any:
    try:
        return from_plain(kind, plain)
    except DamagedError as error:
        raise DamagedError(f"{place}: {error}") from error


def _expect(plain: Any, kinds: Any, what: str) -> None:
    is_wrong_bool = isinstance(plain, bool) and kinds is not bool
    if is_wrong_bool or not isinstance(plain, kinds):
        raise DamagedError(f"{plain!r:.80} is not {what}")


def _stored_names(kind: Any) -> tuple[str, ...]:
    return getattr(kind, "STORED", ()) or tuple(one.name for one in fields(kind))


@cache
def _field_kinds(kind: Any) -> dict[str, Any]:
    """The types of the stored fields, whose annotations are text, as the module of the class has them."""
    module = vars(sys.modules[kind.__module__])
    names = _stored_names(kind)
    return {one.name: eval(str(one.type), module) for one in fields(kind) if one.name in names}  # noqa: S307 - our own
