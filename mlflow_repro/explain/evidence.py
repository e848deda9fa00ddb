"""What an explanation stands on: the findings about two runs, their records, and what was found in their code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from mlflow_repro.explain.differences import find_used, list_differences
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.record import NO_RECORD
from mlflow_repro.values.run import is_project_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.explain.differences import Difference
    from mlflow_repro.values.comparison import Comparison, Finding
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run

_Seen = TypeVar("_Seen")
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

    ``records`` are the records that the runs made of themselves, reference first.
    ``changed_files`` is None where the two trees were not put side by side; ``has_sources`` is true when the
    program's lines were looked at, so that no hint means that there is none. ``traces`` is None unless both runs traced
    their random state.
    """

    comparison: Comparison
    reference: Run
    reproduction: Run
    facts: tuple[Finding, ...] = ()
    records: tuple[Record, Record] = (NO_RECORD, NO_RECORD)
    caveats: tuple[str, ...] = ()
    changed_files: tuple[ChangedFile, ...] | None = None
    loaded: frozenset[str] | None = None
    """The paths of the repository's modules that either run had loaded; None where that is not known."""
    texts: frozenset[str] | None = None
    """The texts in those modules, by which they name their files; None where they were not looked at."""
    hints: tuple[CodeHint, ...] = ()
    has_sources: bool = False
    traces: tuple[Divergence, ...] | None = None
    store: str = ""
    """The tracking URI of the reproduction's store, where it is not that of the reference."""
    between: tuple[str, ...] = ()
    """What is recorded to have happened between the last step that agrees and the first that does not."""

    def changed(self, kind: str, prefix: str = "") -> dict[str, Finding]:
        """The facts of one kind that differ and whose name begins with ``prefix``, by the rest of their name.

        A fact that one run does not tell is no change, but for parameters. What records tell whole is among
        `differences`.
        """
        return {
            row.name.removeprefix(prefix): row
            for row in self.facts
            if row.kind == kind and row.status in UNEQUAL and row.name.startswith(prefix)
            if kind == "param" or None not in (row.reference, row.reproduction)
        }

    def differences(self, *places: str) -> list[Difference]:
        """What the runs have otherwise, by the places that records tell it in."""
        return [one for one in self._differences if one.place in places]

    @cached_property
    def _differences(self) -> tuple[Difference, ...]:
        return list_differences(*self.records, self.reference.run_id)

    def both(self, look: Callable[[Record], _Seen]) -> tuple[_Seen, _Seen]:
        """What ``look`` sees in both records."""
        one, other = self.records
        return look(one), look(other)

    def places(self, topic: str, text: str = "") -> tuple[str, ...]:
        """Up to three lines of the program that hint at ``topic``; with ``text`` only those that say just that."""
        found = [hint for hint in self.hints if hint.topic == topic and text in ("", hint.text)]
        return tuple(f"{hint.where} {hint.text}" for hint in found[:3])

    @property
    def has_records(self) -> bool:
        """True when both runs made a record of themselves."""
        return all(record.exists for record in self.records)

    @property
    def isolate_command(self) -> str:
        """The command that proves causes."""
        other = f"{self.store}#{self.reproduction.run_id}" if self.store else self.reproduction.run_id
        return f"mlflow-repro isolate {self.reference.run_id} --other {shlex.quote(other)}"

    @property
    def commits(self) -> tuple[str, str]:
        """The commits of both runs, by their own facts, their records or MLflow's tags; empty where there is none."""
        one, other = (
            run.fact("git.commit").value or record.code.commit or run.tags.get("mlflow.source.git.commit", "")
            for run, record in zip((self.reference, self.reproduction), self.records, strict=True)
        )
        return one, other

    @property
    def is_relaunch(self) -> bool:
        """True when the second run was started by this tool."""
        return bool(self.reproduction.fact("session").value or self.reproduction.fact("reference_run_id").value)

    @property
    def is_project(self) -> bool:
        """True when the reference was started by ``mlflow run``."""
        return is_project_run(self.reference)

    @property
    def is_notebook(self) -> bool:
        """True when the reference was made in a notebook."""
        return self.reference.fact("launch.kind").value == "notebook"

    @property
    def imported(self) -> frozenset[str] | None:
        """The distributions that the program of either run uses; None when that is not known."""
        return find_used(*self.records)


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A cause before it is weighed: ``weight`` says how likely such a difference changes results, from 0 to 1."""

    kind: str
    what: str
    weight: float
    evidence: tuple[str, ...] = field(default=())
    fix: str = ""
    is_first: bool = False
    """It is known to have been so, and comes before what is only likely."""
