"""The whole answer: a report with its causes, and whether a run will reproduce. Frozen dataclasses of plain types.

Their stored form is that of `mlflow_repro.values.plain`; a report carries one schema number (`SCHEMA_VERSION`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_repro.errors import ExitCode
from mlflow_repro.values.comparison import Comparison, Curve, JudgedPair, Verdict, find_verdict
from mlflow_repro.values.plain import DamagedError, Stored
from mlflow_repro.values.plan import LaunchPlan
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SCHEMA_VERSION = 2
"""Of the stored form of a report."""


def judge_tree(comparison: Comparison, children: Sequence[JudgedPair]) -> Verdict:
    """The verdict of a pair of runs with its ``children``: the worst of all that have something to judge."""
    below = [row for pair in children if pair.comparison for row in pair.comparison.findings]
    return find_verdict([*comparison.findings, *below], {pair.status for pair in children if not pair.comparison})


@dataclass(frozen=True, kw_only=True)
class Report(Stored):
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
    schema: ClassVar[int] = SCHEMA_VERSION
    STORED = (
        "schema", "plan", "reference", "reproduction", "comparison", "causes", "children", "verdict", "runs_equal",
    )  # fmt: skip

    @property
    def verdict(self) -> Verdict | None:
        """The answer: of a run with children the worst of all pairs that have something to judge; None of a dry run."""
        return judge_tree(self.comparison, self.children) if self.comparison else None

    @property
    def runs_equal(self) -> str | None:
        """The verdict in a word, see `Verdict`."""
        return self.verdict.runs_equal if self.verdict else None

    @property
    def exit_code(self) -> ExitCode:
        """The verdict's exit code; EQUAL for a dry run, which has no verdict."""
        return self.verdict.exit_code if self.verdict else ExitCode.EQUAL

    @classmethod
    def unfold(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """As it is; of schema 1, too, which had less."""
        schema = plain.get("schema")
        if type(schema) is not int or schema not in (1, SCHEMA_VERSION):  # True equals 1
            raise DamagedError("schema", f"is {schema!r}, not {SCHEMA_VERSION}")
        return plain


KINDS = (
    "code", "parameter", "seed", "random_state", "data", "package", "python", "threads", "blas", "cpu", "gpu",
    "determinism", "hash_seed", "variable", "locale", "time", "not_restored", "nondeterminism",
)  # fmt: skip
"""What a cause can be; `docs/explain.md` says what is looked at for each."""


@dataclass(frozen=True, kw_only=True)
class Cause(Stored):
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
class Readiness(Stored):
    """Whether a run will come back, as far as its record tells."""

    run_id: str
    checks: tuple[Check, ...]
    schema: ClassVar[int] = SCHEMA_VERSION
    STORED = ("schema", "run_id", "grade", "checks", "exit_code")

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
