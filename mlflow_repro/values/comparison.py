"""The findings of a comparison, and the verdict that is derived from them.

``to_dict`` and ``from_dict`` are inverse to each other, see `mlflow_repro.values.report`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ExitCode
from mlflow_repro.values.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
class Finding:
    """One row of a comparison: what was compared, the value on both sides, and how they stand to each other."""

    kind: str
    name: str
    reference: float | str | None
    reproduction: float | str | None
    status: Status
    note: str = ""
    details: Mapping[str, float | str] = field(default_factory=dict)
    """Figures that belong to the kind; `docs/report-json.md` names them."""

    @property
    def is_judged(self) -> bool:
        """True when this row counts for the verdict."""
        return self.kind in OUTCOMES and self.status is not Status.IGNORED

    @property
    def is_equal(self) -> bool:
        """True when both sides are the same, or close enough."""
        return self.status in EQUAL_STATUSES

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {
            "kind": self.kind,
            "name": self.name,
            "reference": plain_number(self.reference),
            "reproduction": plain_number(self.reproduction),
            "status": self.status.value,
            "note": self.note,
            "details": {name: plain_number(value) for name, value in self.details.items()},
            "judged": self.is_judged,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Finding:
        """Read what `to_dict` gave."""

        def value(side: str) -> float | str | None:
            stored: float | str | None = plain[side]
            return float(stored) if plain["kind"] in NUMERIC_KINDS and stored is not None else stored

        return cls(
            kind=plain["kind"],
            name=plain["name"],
            reference=value("reference"),
            reproduction=value("reproduction"),
            status=Status(plain["status"]),
            note=plain["note"],
            details=plain.get("details", {}),
        )


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
class Comparison:
    """Both runs side by side. The verdict is derived from the findings, never stored by hand."""

    reference_run_id: str
    reproduction_run_id: str
    findings: tuple[Finding, ...]
    rules: Rules

    @property
    def verdict(self) -> Verdict:
        """The strongest answer that every judged finding allows.

        INCONCLUSIVE when one cannot be said, or when none but the runs' status is judged: how a run ended can set it
        apart from another and does not make the two equal.
        """
        return find_verdict(self.findings)

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """The findings of one kind, in their order."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {
            "reference_run_id": self.reference_run_id,
            "reproduction_run_id": self.reproduction_run_id,
            "verdict": self.verdict.value,
            "runs_equal": self.verdict.runs_equal,
            "rules": self.rules.to_dict(),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Comparison:
        """Read what `to_dict` gave."""
        return cls(
            reference_run_id=plain["reference_run_id"],
            reproduction_run_id=plain["reproduction_run_id"],
            findings=tuple(Finding.from_dict(row) for row in plain["findings"]),
            # Schema 1 had the two default tolerances and nothing else.
            rules=Rules.from_dict(plain.get("rules") or {"default": plain["tolerances"]}),
        )


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


def plain_number(value: float | str | None) -> float | str | None:
    """``value`` in a form that JSON has: numbers that are not finite as text that `float` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value


@dataclass(frozen=True, kw_only=True)
class JudgedPair:
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

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {
            "name": self.name,
            "reference_run_id": self.reference_run_id,
            "reproduction_run_id": self.reproduction_run_id,
            "status": self.status.value,
            "note": self.note,
            "comparison": self.comparison.to_dict() if self.comparison else None,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> JudgedPair:
        """Read what `to_dict` gave."""
        comparison = plain["comparison"]
        changed = {
            "status": Status(plain["status"]),
            "comparison": Comparison.from_dict(comparison) if comparison else None,
        }
        return cls(**{**plain, **changed})
