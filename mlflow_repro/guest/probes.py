"""What takes longer to observe: a table of probes, one function for each group of facts, and the record made of them.

A probe reads the world and returns facts. It may fail: then its facts are absent, the run is marked
``repro.capture = partial:<probe>``, and nothing else happens. Loaded and done in the background.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.capture import record_code
from mlflow_repro.code.program import probe_code
from mlflow_repro.code.worktree import TreeLimits
from mlflow_repro.data.opened import written_files
from mlflow_repro.environment.capture import record_environment
from mlflow_repro.environment.digest import probe_packages
from mlflow_repro.launch.capture import record_session
from mlflow_repro.machine.capture import record_machine
from mlflow_repro.system.beginning import first_environ
from mlflow_repro.system.spool import program_start
from mlflow_repro.text.redact import redact_text
from mlflow_repro.text.variables import list_set_later, record_variables
from mlflow_repro.values.captured import RECORD_SCHEMA, SECTION_OF_FACT, SECTIONS, Section, missing
from mlflow_repro.values.run import TAG_PREFIX, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_repro.code.program import Program

PROBES: dict[str, Callable[[Program], Iterable[Fact]]] = {
    "code": probe_code,
    "environment": lambda _: probe_packages(),
}
"""What is a tag as well, by the group that the fact belongs to."""


def record_environ(first: Mapping[str, str], now: Mapping[str, str]) -> Section:
    """The variables that the process was started with, ``variables``, and those that are others ``now``, ``set_later``.

    Only the former are put back: what a program sets itself, it will set again.
    """
    return Section(facts={"variables": record_variables(first), "set_later": list_set_later(first, now)})


def _tree_limits() -> TreeLimits:
    """What the program has written since it began is no part of its tree.

    In an interactive session the user edits files between runs, so there that cannot be told from the time.
    """
    is_interactive = "ipykernel" in sys.modules or hasattr(sys, "ps1")
    since = 0 if is_interactive else int(program_start() * 1e9)
    return TreeLimits(since_ns=since, written=written_files())


SLOW_PROBES: dict[str, Callable[[Program, float], Section]] = {
    "launch.session": lambda _program, _deadline: record_session(),
    "launch.variables": lambda _program, _deadline: record_environ(first_environ(), dict(os.environ)),
    "code.tree": lambda program, deadline: record_code(program.folder, deadline, limits=_tree_limits()),
    "environment.packages": lambda _, deadline: record_environment(deadline),
    "machine.hardware": lambda _, deadline: record_machine(deadline),
}
"""What is in the record only, by the section that it belongs to: functions of a deadline (`time.monotonic`)."""


def tags_to_facts(tags: Mapping[str, str]) -> list[Fact]:
    """The facts that tags hold."""
    return [Fact(name=tag[len(TAG_PREFIX) :], value=value) for tag, value in tags.items() if tag.startswith(TAG_PREFIX)]


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
        if group in SECTION_OF_FACT:
            value = missing(fact.reason) if fact.value is None else _plain(name, fact.value)
            record[SECTION_OF_FACT[group]][name] = value
    for name, section in sections.items():
        record[name.partition(".")[0]].update(section.facts)
    return record


def describe_files(value: Any, known: Mapping[str, Mapping[str, Any]]) -> Any:
    """``value``, a part of a record, where to each file that it names is added what is ``known`` of it, by its path."""
    if isinstance(value, list):
        return [describe_files(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {name: describe_files(item, known) for name, item in value.items()}
    return {**plain, **known.get(str(value.get("file", "")), {})}


def _plain(name: str, value: str) -> Any:
    """A tag's text as the value that it stands for: lists and objects are JSON in a tag, a truth value is a word."""
    if name in {"argv", "params"}:
        try:
            return json.loads(value)
        except ValueError:
            return missing(value)
    return {"true": True, "false": False}.get(value, value)
