"""Put what was captured together into one record: ``repro/record.json`` and the bulk files beside it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from mlflow_repro.redact import redact_text
from mlflow_repro.section import RECORD_SCHEMA, Section, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_repro.model import Fact

SECTIONS = ("code", "launch", "seeds", "environment", "machine", "data")
_SECTION_OF_FACT = {"git": "code", "launch": "launch", "env": "environment", "seed": "seeds"}


def collect_sections(probes: Mapping[str, Callable[[float], Section]], *, seconds: float) -> dict[str, Section]:
    """Run probes that take longer, one after another, each told the common deadline; a failure becomes a reason."""
    deadline = time.monotonic() + seconds
    sections: dict[str, Section] = {}
    for name, probe in probes.items():
        try:
            sections[name] = probe(deadline)
        except BaseException as error:  # noqa: BLE001 - a guest: what one probe cannot do must not cost the others
            reason = redact_text(f"{type(error).__name__}: {error}")
            sections[name] = Section(facts={"section": missing(reason)})
    return sections


def build_record(
    facts: Iterable[Fact], sections: Mapping[str, Section], *, run_id: str, is_complete: bool
) -> dict[str, Any]:
    """The record of one run as plain JSON; `docs/record.md` has its schema.

    ``facts`` are those that are tags as well, under the section that belongs to the first part of their name. A
    section's name may have a second part (``code.tree``): its facts join those of the first.
    """
    record: dict[str, Any] = {"schema": RECORD_SCHEMA, "run_id": run_id, "complete": is_complete}
    record.update({name: {} for name in SECTIONS})
    for fact in facts:
        group, _, name = fact.name.partition(".")
        if group in _SECTION_OF_FACT:
            value = missing(fact.reason) if fact.value is None else _plain(name, fact.value)
            record[_SECTION_OF_FACT[group]][name] = value
    for name, section in sections.items():
        record[name.partition(".")[0]].update(section.facts)
    return record


def dump_record(record: Mapping[str, Any]) -> bytes:
    """The stored form: strict JSON, UTF-8, for people to read."""
    return json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _plain(name: str, value: str) -> Any:
    """A tag's text as the value that it stands for: lists and objects are JSON in a tag, a truth value is a word."""
    if name in {"argv", "params"}:
        try:
            return json.loads(value)
        except ValueError:
            return missing(value)
    return {"true": True, "false": False}.get(value, value)
