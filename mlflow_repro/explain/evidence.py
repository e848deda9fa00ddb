"""What an explanation stands on: the findings about two runs, their records, and what was found in their code."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from mlflow_repro.values.comparison import Status
from mlflow_repro.values.record import NO_RECORD
from mlflow_repro.values.run import is_project_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_repro.values.comparison import Comparison, Finding
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run

_WHOLE: Mapping[tuple[str, str], Callable[[Record], object]] = {
    ("launch", "variables"): lambda record: record.launch.variables,
    ("launch", "params"): lambda record: record.launch.params,
    ("environment", "distributions"): lambda record: record.environment.versions or None,
}
"""What is recorded as a whole, so that what is not in it was not there."""
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

        A fact that one run does not tell is no change, but where it tells all of its kind (`_WHOLE`).
        """
        return {
            row.name.removeprefix(prefix): row
            for row in self.facts
            if row.kind == kind and row.status in UNEQUAL and row.name.startswith(prefix) and self._is_told(row)
        }

    def _is_told(self, row: Finding) -> bool:
        """True when both runs tell a fact, or the one that has none tells all that there are."""
        sides = (row.reference, row.reproduction)
        if None not in sides or row.kind == "param":
            return True
        group = (row.kind, row.name.partition(".")[0])
        return group in _WHOLE and _WHOLE[group](self.records[sides.index(None)]) is not None

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
        """The distributions that the program of either run uses; None when that is not known.

        Where only those are known that were loaded, for the program or for MLflow, it is these.
        """
        environments = [record.environment for record in self.records]
        lists = [one.imported if one.used is None else one.used for one in environments]
        known = [names for names in lists if names is not None]
        return frozenset(name for names in known for name in names) if known else None


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


def shorten(text: str | float | None, length: int = 80) -> str:
    """A value as evidence shows it; ``nothing`` for one that is not there."""
    if text is None:
        return "nothing"
    plain = str(text)
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
