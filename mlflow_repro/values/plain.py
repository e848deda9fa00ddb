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
from contextlib import suppress
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar

from mlflow_repro.text.redact import show

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
_KEY = 80  # characters of a key that a message repeats
_NAMES = {
    dict: "a table",
    list: "a list",
    str: "a text",
    bool: "a truth value",
    int: "a whole number",
    float: "a number",
    type(None): "null",
}
_Value = TypeVar("_Value", bound="Stored")


class DamagedError(ValueError):
    """A stored form that is none of this value. The message names the dotted key and says what is wrong there."""

    def __init__(self, where: str, what: str) -> None:
        shown = where if len(where) <= _KEY else f"{where[:_KEY]}..."
        super().__init__(f"{show(shown) or 'it'} {what}")


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
        value: _Value = from_plain(cls, plain)
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


class Reader:
    """Reads what `to_plain` gave by the types of fields, to the letter; one for other forms may be more lenient."""

    def read(self, kind: Any, plain: Any, where: str = "") -> Any:
        """The value of the type ``kind``; ``where`` is its dotted key. Raises DamagedError."""
        origin, parts = typing.get_origin(kind), typing.get_args(kind)
        if origin in UNIONS:
            return self._read_union(parts, plain, where)
        if origin is not None:
            return self._read_several(origin, parts, plain, where)
        if is_dataclass(kind):
            facts = expect(dict, plain, where)
            return self.read_fields(kind, kind.unfold(facts) if hasattr(kind, "unfold") else facts, where)
        return plain if kind is Any else self.read_simple(kind, plain, where)

    def _read_union(self, kinds: tuple[Any, ...], plain: Any, where: str) -> Any:
        """As the first of the types that it can be, and where it can as it is: text is text, not a number."""
        if plain is None and type(None) in kinds:
            return None
        rest = [kind for kind in kinds if kind is not type(None)]
        if type(plain) in rest or (type(plain) is int and float in rest):
            return plain
        for kind in rest[:-1]:
            with suppress(DamagedError):
                return self.read(kind, plain, where)
        return self.read(rest[-1], plain, where)

    def _read_several(self, origin: Any, parts: tuple[Any, ...], plain: Any, where: str) -> Any:
        if issubclass(origin, Mapping):
            pairs = expect(dict, plain, where).items()
            return {name: self.read(parts[1], part, join_key(where, name)) for name, part in pairs}
        items = enumerate(expect(list, plain, where))
        return origin(self.read(parts[0], part, join_key(where, number)) for number, part in items)

    def read_simple(self, kind: Any, plain: Any, where: str) -> Any:
        """A value that has no parts: an enum's, text, a number."""
        if not (issubclass(kind, Enum) or (kind is float and plain in _NOT_FINITE)):
            expect(kind, plain, where)
        try:
            return kind(plain)
        except (ValueError, OverflowError) as error:
            raise DamagedError(where, f"cannot be: {error}") from error

    def read_fields(self, kind: Any, plain: Mapping[str, Any], where: str) -> Any:
        """A dataclass by the types of its fields; what it has a default for may be missing."""
        names, kinds = _stored_names(kind), field_kinds(kind)
        for unknown in sorted(plain.keys() - set(names)):
            raise DamagedError(join_key(where, unknown), "is not known")
        values = {}
        for one in fields(kind):
            if one.name in plain and one.name in names:
                values[one.name] = self.read(kinds[one.name], plain[one.name], join_key(where, one.name))
            elif one.name in names and not has_default(one):
                raise DamagedError(join_key(where, one.name), "is not there")
        return kind(**values)


UNIONS = (typing.Union, types.UnionType)
_READER = Reader()


def from_plain(kind: Any, plain: Any) -> Any:
    """The value of the type ``kind`` that `to_plain` gave. Raises DamagedError."""
    return _READER.read(kind, plain)


def join_key(where: str, name: object) -> str:
    """The dotted key of a part."""
    return f"{where}.{name}" if where else str(name)


def has_default(one: Field[Any]) -> bool:
    """True for a field that may be left out."""
    return one.default is not MISSING or one.default_factory is not MISSING


def expect(kind: type, plain: Any, where: str) -> Any:
    """``plain``, which must be of a type that JSON has. Raises DamagedError."""
    kinds = (int, float) if kind is float else (list, tuple) if kind is list else kind
    if isinstance(plain, bool) is not (kind is bool) or not isinstance(plain, kinds):
        raise DamagedError(where, f"is {_NAMES.get(type(plain), type(plain).__name__)}, not {_NAMES[kind]}")
    return plain


def _stored_names(kind: Any) -> tuple[str, ...]:
    return getattr(kind, "STORED", ()) or tuple(one.name for one in fields(kind))


@cache
def field_kinds(kind: Any) -> dict[str, Any]:
    """The types of the stored fields, whose annotations are text, as the module of the class has them."""
    module = vars(sys.modules[kind.__module__])
    names = _stored_names(kind)
    return {one.name: eval(str(one.type), module) for one in fields(kind) if one.name in names}  # noqa: S307 - our own
