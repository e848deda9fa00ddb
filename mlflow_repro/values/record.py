"""The record that a run made of itself, as one value, and its reader, which looks for damage.

Whoever can write to a store can write a record. So it is read once, with limits: a fact that is not what its section
says counts as missing from then on, and is named.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.text.redact import show
from mlflow_repro.values.captured import RECORD_SCHEMA, SECTIONS, is_missing, missing
from mlflow_repro.values.sections import Code, Data, Environment, Launch, Machine, Missing, Seeds, Tree

DEEPEST = 32
"""Levels of a fact; what is recorded has ten at the most."""
_BITS = 256  # of a whole number
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
_LARGEST = 32 * 2**20  # bytes; those of large programs have a hundredth of it
_MOST = 200_000  # values; ten thousand opened files have a third of it
_SHOWN = 3  # damaged facts that a line names
_HEAD: Mapping[str, Any] = {"run_id": str, "complete": bool}


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run's record of itself, or the lack of one (``exists`` false).

    ``plain`` is its stored form, in which what is damaged is missing; ``damage`` says of each such fact what is
    wrong, by its dotted name (that of a section where it is the whole).
    """

    exists: bool = True
    is_complete: bool = False
    code: Code = field(default_factory=Code)
    launch: Launch = field(default_factory=Launch)
    seeds: Seeds = field(default_factory=Seeds)
    environment: Environment = field(default_factory=Environment)
    machine: Machine = field(default_factory=Machine)
    data: Data = field(default_factory=Data)
    plain: Mapping[str, Any] = field(default_factory=dict, repr=False)
    damage: Mapping[str, str] = field(default_factory=dict)

    @property
    def damage_note(self) -> str:
        """What is damaged, in one line; empty where nothing is."""
        if not self.damage:
            return ""
        lines = list(self.damage.values())[:_SHOWN]
        more = f"; and {len(self.damage) - _SHOWN} more" if len(self.damage) > _SHOWN else ""
        return f"the record is damaged, and what is damaged counts as missing: {'; '.join(lines)}{more}"

    @property
    def has_damaged_tree(self) -> bool:
        """True when what is recorded of the working tree is not whole."""
        return bool(self.damage.keys() & {"code", *(f"code.{name}" for name in types_of(Tree))})

    def with_code(self, code: Code) -> Record:
        """The record with another section ``code``, which is whole."""
        damage = {name: line for name, line in self.damage.items() if name.partition(".")[0] != "code"}
        return replace(self, code=code, damage=damage)

    def facts_of(self, section: str) -> Mapping[str, Any]:
        """The facts of a section as they are stored."""
        facts: Mapping[str, Any] = self.plain.get(section, {})
        return facts


NO_RECORD = Record(exists=False)


def parse_record(content: bytes, name: str) -> Record:
    """The record from its file, which messages call ``name``.

    Raises CannotJudgeError for one that is none, or of a schema not known.
    """
    if len(content) > _LARGEST or content.count(b",") > _MOST:
        raise CannotJudgeError(f"{name} is larger than any record", "it was replaced or damaged")
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError):
        plain = None
    if not isinstance(plain, dict):
        raise CannotJudgeError(f"{name} is no JSON object that can be read", "it was replaced or damaged")
    schema = plain.get("schema")
    if type(schema) is not int or schema not in range(1, RECORD_SCHEMA + 1):
        raise CannotJudgeError(
            f"{name} has another form than this version reads ({RECORD_SCHEMA})",
            "use the version of mlflow-repro that wrote it, or a newer one",
        )
    return read_record(plain)


def read_record(plain: Mapping[str, Any]) -> Record:
    """The record from its stored form, whatever that holds. Raises nothing."""
    damage: dict[str, str] = {}
    head = {name: value for name, value in plain.items() if name not in SECTIONS}
    known = _read_facts("", head, _HEAD, damage)
    values, sections = {}, {}
    for name in SECTIONS:
        kind = types_of(Record)[name]
        facts = plain.get(name)
        if isinstance(facts, dict):
            sections[name] = dict(facts)
            values[name] = kind(**_read_facts(f"{name}.", sections[name], types_of(kind), damage))
        else:
            error = DamageError(name, "is no table of facts" if name in plain else "is not there")
            sections[name] = {"section": _note(name, error, damage)}
    in_order = {name: {**head, **sections}[name] for name in [*plain, *SECTIONS] if name in {**head, **sections}}
    return Record(is_complete=known.get("complete", False), plain=in_order, damage=damage, **values)


def _read_facts(prefix: str, facts: dict[str, Any], kinds: Mapping[str, Any], damage: dict[str, str]) -> dict[str, Any]:
    """The values of those facts that have one and a type; in ``facts`` what is damaged becomes missing."""
    values = {}
    for name, plain in list(facts.items()):
        where = f"{prefix}{name}"
        try:
            check_plain(name, where)
            check_plain(plain, where)
            value = decode(kinds[name], plain, where, or_none=True) if name in kinds else None
        except DamageError as error:
            if not is_text(name):
                del facts[name]
            facts[show(name)] = _note(where, error, damage)
        else:
            values.update({} if value is None else {name: value})
    return values


def _note(where: str, error: DamageError, damage: dict[str, str]) -> dict[str, str]:
    damage[where] = str(error)
    return missing(f"damaged: {error}")


class DamageError(ValueError):
    """Plain JSON that is not what it should be. The message names the key and says what is wrong."""

    def __init__(self, where: str, what: str) -> None:
        """``where`` is a dotted key."""
        shown = where if len(where) <= _KEY else f"{where[:_KEY]}..."
        super().__init__(f"{show(shown)} {what}")


def check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Raise DamageError for plain JSON that no recorder wrote: too deep, a number without end, text with NUL."""
    if depth > DEEPEST:
        raise DamageError(where, f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, str) and not is_text(value):
        raise DamageError(where, "has a character that no text has")
    if isinstance(value, float) and value - value != 0:
        raise DamageError(where, "is no finite number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise DamageError(where, "is too large a number")
    if isinstance(value, dict):
        check_plain(list(value), where, depth)
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for name, item in items:
        check_plain(item, f"{where}.{name}", depth + 1)


def is_text(text: str) -> bool:
    """False for a text with NUL, which no path and no argument has, or lone surrogates, which cannot be printed."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def decode(kind: Any, plain: Any, where: str, *, or_none: bool = False) -> Any:
    """``plain`` as a value of the type ``kind``; ``where`` is its key. Raises DamageError.

    The types are those of JSON, tuples for its lists, mappings, dataclasses, unions and Any. What is
    `mlflow_repro.values.captured.missing` is None or `Missing` where the type has that, and with ``or_none`` always.
    """
    options = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if is_missing(plain) and not any("absent" in getattr(option, "__dataclass_fields__", ()) for option in options):
        if Missing in options:
            return Missing(reason=str(plain["absent"]))
        if or_none or type(None) in options:
            return None
    if plain is None and type(None) in options:
        return None
    choices = [option for option in options if option not in (Missing, type(None))]
    for option in choices[:-1]:  # of simple types only
        if _fits(option, plain):
            return plain
    return _decode_one(choices[-1], plain, where)


def _decode_one(kind: Any, plain: Any, where: str) -> Any:
    if kind is Any:
        return plain
    if is_dataclass(kind):
        return _decode_fields(kind, _expect(dict, plain, where), where)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        items = enumerate(_expect(list, plain, where))
        return tuple(decode(inner[0], item, f"{where}.{index}") for index, item in items)
    if origin is Mapping:
        pairs = _expect(dict, plain, where).items()
        return {name: decode(inner[1], item, f"{where}.{name}") for name, item in pairs}
    return _expect(kind, plain, where)


def _decode_fields(kind: Any, plain: Mapping[str, Any], where: str) -> Any:
    known = {}
    for one in fields(kind):
        has_default = one.default is not MISSING or one.default_factory is not MISSING
        if one.name in plain:
            value = decode(types_of(kind)[one.name], plain[one.name], f"{where}.{one.name}", or_none=has_default)
            known.update({} if value is None and has_default else {one.name: value})
        elif not has_default:
            raise DamageError(f"{where}.{one.name}", "is not there")
    return kind(**known)


@cache
def types_of(kind: Any) -> Mapping[str, Any]:
    """The types of the fields of a dataclass by their names."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}


def _fits(kind: Any, plain: Any) -> bool:
    if isinstance(plain, bool):
        return kind is bool
    return isinstance(plain, (int, float) if kind is float else kind)


def _expect(kind: type, plain: Any, where: str) -> Any:
    if not _fits(kind, plain):
        raise DamageError(where, f"is {_NAMES[type(plain)]}, not {_NAMES[kind]}")
    return plain
