"""The record that a run made of itself, as one value, and its reader, which looks for damage.

Whoever can write to a store can write a record. So it is read once, with limits: a fact that is not what its section
says counts as missing from then on, and is named.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence  # noqa: TC003 - the reader looks at the types of the fields
from dataclasses import dataclass, field, fields, replace
from typing import Any, Union, get_args, get_origin

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.text.redact import show
from mlflow_repro.values.captured import RECORD_SCHEMA, SECTIONS, is_missing, missing
from mlflow_repro.values.plain import UNIONS, DamagedError, Reader, expect, field_kinds, has_default
from mlflow_repro.values.sections import Code, Data, Environment, Launch, Machine, Missing, Seeds, Tree

DEEPEST = 32
"""Levels of a fact; what is recorded has ten at the most."""
_BITS = 256  # of a whole number
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
        return bool(self.damage.keys() & {"code", *(f"code.{name}" for name in field_kinds(Tree))})

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
        kind = field_kinds(Record)[name]
        facts = plain.get(name)
        if isinstance(facts, dict):
            sections[name] = dict(facts)
            values[name] = kind(**_read_facts(f"{name}.", sections[name], field_kinds(kind), damage))
        else:
            error = DamagedError(name, "is no table of facts" if name in plain else "is not there")
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
            value = _READER.read_fact(kinds[name], plain, where) if name in kinds else None
        except DamagedError as error:
            if not is_text(name):
                del facts[name]
            facts[show(name)] = _note(where, error, damage)
        else:
            values.update({} if value is None else {name: value})
    return values


def _note(where: str, error: DamagedError, damage: dict[str, str]) -> dict[str, str]:
    damage[where] = str(error)
    return missing(f"damaged: {error}")


def check_plain(value: Any, where: str, depth: int = 0) -> None:
    """Raise DamagedError for plain JSON that no recorder wrote: too deep, a number without end, text with NUL."""
    if depth > DEEPEST:
        raise DamagedError(where, f"is nested deeper than {DEEPEST} levels")
    if isinstance(value, str) and not is_text(value):
        raise DamagedError(where, "has a character that no text has")
    if isinstance(value, float) and value - value != 0:
        raise DamagedError(where, "is no finite number")
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise DamagedError(where, "is too large a number")
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


class _FactReader(Reader):
    """Reads facts: what is not known is left out, and `mlflow_repro.values.captured.missing` is None or `Missing`."""

    def read(self, kind: Any, plain: Any, where: str = "") -> Any:
        """As of `Reader`."""
        options = get_args(kind) if get_origin(kind) in UNIONS else (kind,)
        if _is_absent(plain, options):
            if Missing in options:
                return Missing(reason=str(plain["absent"]))
            if type(None) in options:
                return None
        choices = tuple(option for option in options if option is not Missing)
        return super().read(Union[choices], plain, where)  # noqa: UP007 - of a tuple

    def read_fact(self, kind: Any, plain: Any, where: str) -> Any:
        """`read`, but that what is missing may always be None."""
        options = get_args(kind) if get_origin(kind) in UNIONS else (kind,)
        is_none = _is_absent(plain, options) and Missing not in options
        return None if is_none else self.read(kind, plain, where)

    def read_simple(self, kind: Any, plain: Any, where: str) -> Any:
        """As of `Reader`, and nothing is made of anything else."""
        return expect(kind, plain, where)

    def read_fields(self, kind: Any, plain: Mapping[str, Any], where: str) -> Any:
        """As of `Reader`; None stands for the default where there is one."""
        known = {}
        for one in fields(kind):
            place, read = f"{where}.{one.name}", self.read_fact if has_default(one) else self.read
            if one.name in plain:
                value = read(field_kinds(kind)[one.name], plain[one.name], place)
                known.update({} if value is None and has_default(one) else {one.name: value})
            elif not has_default(one):
                raise DamagedError(place, "is not there")
        return kind(**known)


_READER = _FactReader()


def _is_absent(plain: Any, options: Sequence[Any]) -> bool:
    """True for what is missing, where no type has a field of that name."""
    return is_missing(plain) and not any("absent" in getattr(one, "__dataclass_fields__", ()) for one in options)
