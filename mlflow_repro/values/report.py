"""The whole answer: a report with its causes, and whether a run will reproduce. Frozen dataclasses of plain types.

``to_dict`` and ``from_dict`` are inverse to each other and make the stored form, which carries one schema number
(`SCHEMA_VERSION`). JSON has no NaN and no infinity, so numbers that are not finite are stored as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ExitCode
from mlflow_repro.values.comparison import Comparison, JudgedPair, Verdict, find_verdict
from mlflow_repro.values.plan import LaunchPlan
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.values.comparison import Curve

SCHEMA_VERSION = 2
"""Of the stored form of a report."""


def judge_tree(comparison: Comparison, children: Sequence[JudgedPair]) -> Verdict:
    """The verdict of a pair of runs with its ``children``: the worst of all that have something to judge."""
    below = [row for pair in children if pair.comparison for row in pair.comparison.findings]
    return find_verdict([*comparison.findings, *below], {pair.status for pair in children if not pair.comparison})


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole answer: the plan, both runs and their comparison.

    A dry run has a plan and a reference only; ``reproduction`` and ``comparison`` are None then. Where none was
    launched, ``plan`` is None. ``causes`` say why the runs differ, the most likely first; ``children`` are the pairs
    of the other runs of both trees.
    """

    plan: LaunchPlan | None
    reference: Run
    reproduction: Run | None = None
    comparison: Comparison | None = None
    causes: tuple[Cause, ...] = ()
    children: tuple[JudgedPair, ...] = ()
    curves: tuple[Curve, ...] = field(default=(), compare=False)
    """What is drawn of the histories; no part of the stored form."""

    @property
    def verdict(self) -> Verdict | None:
        """The answer: of a run with children the worst of all pairs that have something to judge; None of a dry run."""
        return judge_tree(self.comparison, self.children) if self.comparison else None

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's exit code; EQUAL for a dry run, which has no verdict."""
        return self.verdict.exit_code if self.verdict else ExitCode.EQUAL

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {
            "schema": SCHEMA_VERSION,
            "plan": self.plan.to_dict() if self.plan else None,
            "reference": self.reference.to_dict(),
            "reproduction": self.reproduction.to_dict() if self.reproduction else None,
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "causes": [cause.to_dict() for cause in self.causes],
            "children": [pair.to_dict() for pair in self.children],
            "verdict": self.verdict and self.verdict.value,
            "runs_equal": self.verdict and self.verdict.runs_equal,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Report:
        """Read what `to_dict` gave."""
        if plain["schema"] not in (1, SCHEMA_VERSION):
            raise ValueError(f"schema {plain['schema']!r} is not {SCHEMA_VERSION}")
        plan, reproduction, comparison = plain["plan"], plain["reproduction"], plain["comparison"]
        return cls(
            plan=LaunchPlan.from_dict(plan) if plan else None,
            reference=Run.from_dict(plain["reference"]),
            reproduction=Run.from_dict(reproduction) if reproduction else None,
            comparison=Comparison.from_dict(comparison) if comparison else None,
            causes=tuple(Cause.from_dict(row) for row in plain.get("causes", ())),
            children=tuple(JudgedPair.from_dict(row) for row in plain.get("children", ())),
        )


KINDS = (
    "code", "parameter", "seed", "random_state", "data", "package", "python", "threads", "blas", "cpu", "gpu",
    "determinism", "hash_seed", "variable", "locale", "time", "not_restored", "nondeterminism",
)  # fmt: skip
"""What a cause can be; `docs/explain.md` says what is looked at for each."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One cause of a difference. Causes are given in their order: the most likely first.

    ``kind`` is one of `KINDS`; ``what`` is the cause in one line
    (``numpy 1.26.4 -> 2.1.0``); ``confidence`` goes from 0 to 1 and is 1 for what was proven by launching the run
    without it; ``evidence`` are the facts that speak for it; ``fix`` is the one command or line that settles it.
    """

    kind: str
    what: str
    confidence: float
    evidence: tuple[str, ...] = ()
    fix: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is {self.confidence!r}, not a number from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {**asdict(self), "evidence": list(self.evidence)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cause:
        """Read what `to_dict` gave."""
        return cls(**{**plain, "evidence": tuple(plain["evidence"])})


class Grade(str, Enum):
    """How far one thing that a reproduction needs is there."""

    READY = "ready"
    WARNING = "warning"
    """The run can be launched again; whether the result will be the same is not certain."""
    OBSTACLE = "obstacle"
    """It cannot be launched again, or not be judged, as it is."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a reproduction needs: what of it is there, and what to do where it is not."""

    name: str
    grade: Grade
    text: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a run will come back, as far as its record tells."""

    run_id: str
    checks: tuple[Check, ...]

    @property
    def grade(self) -> Grade:
        """The worst of all."""
        grades = {check.grade for check in self.checks}
        return next((grade for grade in (Grade.OBSTACLE, Grade.WARNING) if grade in grades), Grade.READY)

    @property
    def exit_code(self) -> ExitCode:
        """EQUAL (0) when nothing is missing, DIFFERENT (1) with warnings, NOT_JUDGED (3) with an obstacle."""
        codes = {Grade.READY: ExitCode.EQUAL, Grade.WARNING: ExitCode.DIFFERENT, Grade.OBSTACLE: ExitCode.NOT_JUDGED}
        return codes[self.grade]

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        checks = [{**asdict(check), "grade": check.grade.value} for check in self.checks]
        return {
            "schema": SCHEMA_VERSION,
            "run_id": self.run_id,
            "grade": self.grade.value,
            "checks": checks,
            "exit_code": int(self.exit_code),
        }
