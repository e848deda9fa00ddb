"""What the rooms capture for the record that a run makes of itself, and how a fact becomes plain JSON or a tag.

This is the writing side, which trainings load; `mlflow_repro.values.record` reads it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.text.redact import redact_text, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RECORD_SCHEMA = 2
"""Of a record that is written now. One of schema 1 has all its files beside it, each by itself."""


SECTIONS = ("code", "launch", "seeds", "environment", "machine", "data")
"""The parts of a record, in their order."""

SECTION_OF_FACT = {"git": "code", "launch": "launch", "env": "environment", "seed": "seeds"}
"""The section of a fact that is a tag as well, by the first part of its name."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a run's ``repro/record.json``, and the bulk files that belong to it.

    ``facts`` is plain JSON (`dict`, `list`, `str`, `int`, `float`, `bool`); a fact that could not be had is
    ``{"absent": reason}`` (`missing`). ``files`` are bytes by their path below the artifact folder ``repro/``.
    """

    facts: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)


def missing(reason: str) -> dict[str, str]:
    """What stands in a `Section` in place of a fact that could not be had."""
    return {"absent": reason}


def is_missing(value: Any) -> bool:
    """True for what `missing` gave."""
    return isinstance(value, dict) and value.keys() == {"absent"}


def dump_record(record: Mapping[str, Any]) -> bytes:
    """The stored form: strict JSON, UTF-8, for people to read."""
    return json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")


TAG_LIMIT = 5000  # characters; MLflow cuts at 8,000, some stores earlier

OMITTED = "omitted: "
"""What stands, with the length, in place of a value that no tag can hold. It is never valid JSON."""


def to_tag_value(value: str) -> str:
    """``value`` as every store takes it: no lone surrogates, no control characters, not too long."""
    value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    value = "".join(
        character if character >= " " and character != "\x7f" else f"\\x{ord(character):02x}" for character in value
    )
    return value if len(value) <= TAG_LIMIT else f"{OMITTED}{len(value)} characters"


NO_TIME = "the time for it was up"
"""The reason of a fact that was not asked for, because the deadline had passed."""


def run_steps(
    steps: Mapping[str, Callable[[], Any]], deadline: float, *, convert: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """The value of each step by its name, as plain JSON without secrets; `missing` where it failed or time was up.

    ``deadline`` is a value of `time.monotonic` (seconds). ``convert`` is for steps whose values are clean already; it
    is `to_plain` unless given. Raises no Exception.
    """
    convert = convert or to_plain
    facts: dict[str, Any] = {}
    for name, step in steps.items():
        if time.monotonic() >= deadline:
            facts[name] = missing(NO_TIME)
            continue
        try:
            facts[name] = convert(step())
        except Exception as error:  # noqa: BLE001 - a guest: what one step cannot do must not cost the others
            facts[name] = missing(to_text(redact_text(f"{type(error).__name__}: {error}")))
    return facts


def to_plain(value: Any) -> Any:
    """``value`` as plain JSON: tuples as lists, names as text, text by `to_text`, anything unknown as its type."""
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value - value == 0):
        return value
    if isinstance(value, dict):
        return {to_text(str(name)): to_plain(content) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(content) for content in value]
    return missing(f"a {type(value).__name__} is no plain value")
