"""The findings of a comparison, and the verdict that is derived from them.

Their stored form is that of `mlflow_repro.values.plain`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ExitCode
from mlflow_repro.values.plain import Stored, from_plain
from mlflow_repro.values.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

Point = tuple[int, float]
"""A step and a finite value."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn of one metric: points in the order of their steps, the extremes of each stretch among them.

    No more than about 300 of a run, however many were logged; what is not finite is left out.
    """

    name: str
    reference: tuple[Point, ...]
    reproduction: tuple[Point, ...]


class Status(str, Enum):
    """How the two sides of a finding stand to each other."""

    IDENTICAL = "identical"
    CLOSE = "close"
    CONSISTENT = "consistent"
    """Not close, and no further off than repeats are from each other."""
    DIFFERENT = "different"
    MISSING = "missing"
    """Only the reference has it."""
    EXTRA = "extra"
    """Only the reproduction has it."""
    UNKNOWN = "unknown"
    """It cannot be said; the note says why."""
    IGNORED = "ignored"
    """Shown, not judged: it measures time or the machine, or a rule of the user's says so."""


EQUAL_STATUSES = (Status.IDENTICAL, Status.CLOSE, Status.CONSISTENT)
DIFFERENT_STATUSES = (Status.DIFFERENT, Status.MISSING, Status.EXTRA)
OUTCOMES = ("metric", "history", "model_metric", "artifact", "prediction", "status")
"""The kinds of finding that make the verdict. Every other kind is a fact: it explains, it does not judge."""

NUMERIC_KINDS = ("metric", "history", "model_metric")
"""The kinds whose two sides are numbers; those of a history are its numbers of points."""

MIRRORED = {Status.MISSING: Status.EXTRA, Status.EXTRA: Status.MISSING}


@dataclass(frozen=True, kw_only=True)
class Finding(Stored):
    """One row of a comparison: what was compared, the value on both sides, and how they stand to each other."""

    kind: str
    name: str
    reference: float | str | None
    reproduction: float | str | None
    status: Status
    note: str = ""
    details: Mapping[str, float | str] = field(default_factory=dict)
    """Figures that belong to the kind; `docs/report-json.md` names them."""
    STORED = ("kind", "name", "reference", "reproduction", "status", "note", "details", "judged")

    @property
    def is_judged(self) -> bool:
        """True when this row counts for the verdict."""
        return self.kind in OUTCOMES and self.status is not Status.IGNORED

    @property
    def judged(self) -> bool:
        """As `is_judged`; its name in the stored form."""
        return self.is_judged

    @property
    def is_equal(self) -> bool:
        """True when both sides are the same, or close enough."""
        return self.status in EQUAL_STATUSES

    @classmethod
    def unfold(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """The sides are text or numbers; the kind says which."""
        if plain.get("kind") not in NUMERIC_KINDS:
            return plain
        sides = {side: plain[side] for side in ("reference", "reproduction") if plain.get(side) is not None}
        return {**plain, **{side: from_plain(float, value) for side, value in sides.items()}}


class Verdict(str, Enum):
    """The graded answer, strongest first."""

    IDENTICAL = "IDENTICAL"
    WITHIN_TOLERANCE = "WITHIN_TOLERANCE"
    CONSISTENT = "CONSISTENT"
    DIFFERENT = "DIFFERENT"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> ExitCode:
        """What a process exits with when this is its answer."""
        if self is Verdict.DIFFERENT:
            return ExitCode.DIFFERENT
        return ExitCode.NOT_JUDGED if self is Verdict.INCONCLUSIVE else ExitCode.EQUAL

    @property
    def runs_equal(self) -> str:
        """The word behind ``Runs equal:``."""
        return {ExitCode.EQUAL: "True", ExitCode.DIFFERENT: "False"}.get(self.exit_code, "Unknown")


def find_verdict(findings: Iterable[Finding], statuses: Iterable[Status] = ()) -> Verdict:
    """The verdict of findings, and of ``statuses`` that count as well."""
    judged = [finding for finding in findings if finding.is_judged]
    found = {*statuses, *(finding.status for finding in judged)}
    if not found.isdisjoint(DIFFERENT_STATUSES):
        return Verdict.DIFFERENT
    if Status.UNKNOWN in found or all(finding.kind == "status" for finding in judged):
        return Verdict.INCONCLUSIVE
    if Status.CONSISTENT in found:
        return Verdict.CONSISTENT
    return Verdict.WITHIN_TOLERANCE if Status.CLOSE in found else Verdict.IDENTICAL


@dataclass(frozen=True, kw_only=True)
class Comparison(Stored):
    """Both runs side by side. The verdict is derived from the findings, never stored by hand."""

    reference_run_id: str
    reproduction_run_id: str
    findings: tuple[Finding, ...]
    rules: Rules
    STORED = ("reference_run_id", "reproduction_run_id", "verdict", "runs_equal", "rules", "findings")

    @property
    def verdict(self) -> Verdict:
        """The strongest answer that every judged finding allows.

        INCONCLUSIVE when one cannot be said, or when none but the runs' status is judged: how a run ended can set it
        apart from another and does not make the two equal.
        """
        return find_verdict(self.findings)

    @property
    def runs_equal(self) -> str:
        """The verdict in a word, see `Verdict`."""
        return self.verdict.runs_equal

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind, in their order."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    @classmethod
    def unfold(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Schema 1 had the two default tolerances in the place of the rules."""
        if "tolerances" not in plain:
            return plain
        rest = {name: part for name, part in plain.items() if name != "tolerances"}
        return {**rest, "rules": {"default": plain["tolerances"]}}


@dataclass(frozen=True, kw_only=True)
class ModelMetric:
    """A metric that a run logged for one of its models, as MLflow 3 keeps them: the value of the greatest step.

    ``model`` is the model's name, ``place`` its place among those of that name in the order of their creation, and
    ``logged_at`` the step that it was logged at; ids differ between any two runs. ``dataset`` and ``digest`` are empty
    where the metric belongs to no data set.
    """

    model: str
    name: str
    value: float
    place: int = 1
    logged_at: int = 0
    step: int = 0
    dataset: str = ""
    digest: str = ""

    @property
    def label(self) -> str:
        """What the two sides are matched by, in one model."""
        return f"{self.name} on {self.dataset}" if self.dataset else self.name


@dataclass(frozen=True, kw_only=True)
class JudgedPair(Stored):
    """A pair of runs below or beside the two that a report is about, and how they stand to each other.

    Ids are empty where a side has no such run. ``comparison`` is None there, and where the pair is not judged; the
    ``note`` says why.
    """

    name: str
    reference_run_id: str
    reproduction_run_id: str
    status: Status
    note: str = ""
    comparison: Comparison | None = None
