"""What an explanation stands on: the findings about two runs, their records, and what was found in their code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.values.comparison import Comparison, Finding
    from mlflow_repro.values.run import RunRecord

UNEQUAL = (Status.DIFFERENT, Status.MISSING, Status.EXTRA)


@dataclass(frozen=True, kw_only=True)
class ChangedFile:
    """A file of the two working trees that is not the same: its path, and ``changed``, ``added`` or ``removed``."""

    path: str
    how: str
    lines: int = 0
    """How many of its lines differ; 0 where it is not text."""


@dataclass(frozen=True, kw_only=True)
class CodeHint:
    """A line of the program whose result may be another one each time. ``topic`` is a kind of cause."""

    topic: str
    where: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Of a generator that both runs traced: the first step whose state differs, and the one before (None: none)."""

    generator: str
    step: int
    before: int | None = None


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the rules look at. ``facts`` are the rows of `mlflow_repro.compare.facts`, equal ones too.

    ``records`` are the records that the runs made of themselves, reference first, empty for a run without one.
    ``changed_files`` is None where the two trees were not put side by side; ``has_sources`` is true when the
    program's lines were looked at, so that no hint means that there is none. ``traces`` is None unless both runs traced
    their random state.
    """

    comparison: Comparison
    reference: RunRecord
    reproduction: RunRecord
    facts: tuple[Finding, ...] = ()
    records: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    caveats: tuple[str, ...] = ()
    changed_files: tuple[ChangedFile, ...] | None = None
    hints: tuple[CodeHint, ...] = ()
    has_sources: bool = False
    traces: tuple[Divergence, ...] | None = None
    store: str = ""
    """The tracking URI of the reproduction's store, where it is not that of the reference."""
    between: tuple[str, ...] = ()
    """What is recorded to have happened between the last step that agrees and the first that does not."""

    def changed(self, kind: str, prefix: str = "") -> dict[str, Finding]:
        """The facts of one kind that differ and whose name begins with ``prefix``, by the rest of their name."""
        return {
            row.name.removeprefix(prefix): row
            for row in self.facts
            if row.kind == kind and row.status in UNEQUAL and row.name.startswith(prefix)
        }

    def both(self, *path: str) -> tuple[Any, Any]:
        """What both records have under a path of keys; None where one has nothing, or says why it has not."""
        one, other = (_look_up(record, path) for record in self.records)
        return one, other

    def places(self, topic: str, text: str = "") -> tuple[str, ...]:
        """Up to three lines of the program that hint at ``topic``; with ``text`` only those that say just that."""
        found = [hint for hint in self.hints if hint.topic == topic and text in ("", hint.text)]
        return tuple(f"{hint.where} {hint.text}" for hint in found[:3])

    @property
    def has_records(self) -> bool:
        """True when both runs made a record of themselves."""
        return all(self.records)

    @property
    def isolate_command(self) -> str:
        """The command that proves causes."""
        other = f"{self.store}#{self.reproduction.run_id}" if self.store else self.reproduction.run_id
        return f"mlflow-repro isolate {self.reference.run_id} --other {shlex.quote(other)}"

    @property
    def imported(self) -> frozenset[str] | None:
        """The distributions that either run had imported; None when that is not known."""
        lists = [value for value in self.both("environment", "imported") if isinstance(value, list)]
        return frozenset(name for names in lists for name in names) if lists else None


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A cause before it is weighed: ``weight`` says how likely such a difference changes results, from 0 to 1."""

    kind: str
    what: str
    weight: float
    evidence: tuple[str, ...] = field(default=())
    fix: str = ""


def _look_up(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = record
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    return None if isinstance(value, dict) and "absent" in value else value


def shorten(text: str | float | None, length: int = 80) -> str:
    """A value as evidence shows it; ``nothing`` for one that is not there."""
    if text is None:
        return "nothing"
    plain = str(text)
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
