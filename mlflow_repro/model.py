"""The values that the pipeline hands on: frozen dataclasses of plain types, no behaviour that reaches outside.

``to_dict`` and ``from_dict`` are inverse to each other and make the stored form, which carries one schema number
(`SCHEMA_VERSION`). JSON has no NaN and no infinity, so numbers that are not finite are stored as the strings
``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from mlflow_repro.causes import Cause
from mlflow_repro.environments import EnvironmentPlan
from mlflow_repro.errors import ExitCode
from mlflow_repro.plain import plain_number
from mlflow_repro.rules import Rules
from mlflow_repro.runtree import JudgedPair

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_repro.curves import Curve

SCHEMA_VERSION = 2
"""Of the stored form of a report."""
RECORD_SCHEMA = 1
"""Of a run's own record."""

TAG_PREFIX = "repro."
"""A fact's dotted name is its tag: the fact ``git.commit`` is the tag ``repro.git.commit``."""

OWN_METRICS = ("repro.max_rel_error", "repro.compared", "repro.different")
"""What a reproduction is annotated with after it was judged: no outcome of the run, so they are never read as one."""

REDACTED = "[redacted]"
"""What stands where a secret was."""


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One captured fact: a value, or absent with its reason; never both, never neither."""

    name: str
    value: str | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason == ""):
            raise ValueError(f"fact {self.name!r} needs a value or a reason why there is none, and not both")

    @property
    def tag(self) -> str:
        """The name of the MLflow tag that holds this fact."""
        return TAG_PREFIX + self.name


def absent(name: str, reason: str) -> Fact:
    """The fact ``name`` that could not be had, and why."""
    return Fact(name=name, reason=reason)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One MLflow run as the tracking store has it. Times are milliseconds since 1970 UTC, 0 when not known."""

    run_id: str
    run_name: str = ""
    experiment_id: str = ""
    experiment_name: str = ""
    status: str = ""
    lifecycle_stage: str = "active"
    start_time: int = 0
    end_time: int = 0
    artifact_uri: str = ""
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def fact(self, name: str) -> Fact:
        """The fact that the plugin recorded under ``name``; absent when it recorded none."""
        value = self.tags.get(TAG_PREFIX + name)
        if value is None:
            reason = "not recorded" if self.is_captured else "the run was made without mlflow-repro"
            return absent(name, reason)
        return Fact(name=name, value=value)

    @property
    def is_captured(self) -> bool:
        """True when the plugin was at work in the process that made the run."""
        return TAG_PREFIX + "capture" in self.tags

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        plain = asdict(self)
        plain["metrics"] = {name: plain_number(value) for name, value in self.metrics.items()}
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> RunRecord:
        """Read what `to_dict` gave."""
        metrics = {name: float(value) for name, value in plain["metrics"].items()}
        return cls(**{**plain, "metrics": metrics})


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the code of a run is: a git URI without credentials, the project's folder in it, and the commit."""

    uri: str
    commit: str
    subdirectory: str = ""

    @property
    def project_uri(self) -> str:
        """``uri#subdirectory``, the form that MLflow uses."""
        return f"{self.uri}#{self.subdirectory}" if self.subdirectory else self.uri


@dataclass(frozen=True, kw_only=True)
class LaunchPlan:
    """Everything that the relaunch needs, decided before anything is done.

    ``parameters`` are the exact values of the launch parameters. ``command`` is the argument vector of a run
    that was not launched through an entry point (``python train.py 3``), else empty. ``working_directory`` is
    relative to the top of the repository. ``caveats`` say what the relaunch will not be able to put back.
    """

    reference_run_id: str
    source: Source
    entry_point: str = "main"
    parameters: Mapping[str, str] = field(default_factory=dict)
    only_declared: bool = False
    command: tuple[str, ...] = ()
    working_directory: str = ""
    experiment_name: str = "Default"
    tracking_uri: str = ""
    backend: str = "local"
    backend_config: str = ""
    env_manager: str = "local"
    environment: EnvironmentPlan = field(default_factory=EnvironmentPlan)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """What changes in the environment of the relaunch: values by name; None takes a variable away."""
    restores: tuple[str, ...] = ()
    """The artifacts of the reference that are put back: unpushed commits, changes, new files, random state."""
    caveats: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        lists = {name: list(getattr(self, name)) for name in ("command", "restores", "caveats")}
        return {**asdict(self), **lists}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> LaunchPlan:
        """Read what `to_dict` gave."""
        changed = {
            "source": Source(**plain["source"]),
            "environment": EnvironmentPlan(**plain.get("environment", {})),
            **{name: tuple(plain[name]) for name in ("command", "restores", "caveats")},
        }
        return cls(**{**plain, **changed})


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


def _find_verdict(findings: Iterable[Finding], statuses: Iterable[Status] = ()) -> Verdict:
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
        return _find_verdict(self.findings)

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


def judge_tree(comparison: Comparison, children: Sequence[JudgedPair]) -> Verdict:
    """The verdict of a pair of runs with its ``children``: the worst of all that have something to judge."""
    below = [row for pair in children if pair.comparison for row in pair.comparison.findings]
    return _find_verdict([*comparison.findings, *below], {pair.status for pair in children if not pair.comparison})


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole answer: the plan, both runs and their comparison.

    A dry run has a plan and a reference only; ``reproduction`` and ``comparison`` are None then. Where none was
    launched, ``plan`` is None. ``causes`` say why the runs differ, the most likely first; ``children`` are the pairs
    of the other runs of both trees.
    """

    plan: LaunchPlan | None
    reference: RunRecord
    reproduction: RunRecord | None = None
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
            reference=RunRecord.from_dict(plain["reference"]),
            reproduction=RunRecord.from_dict(reproduction) if reproduction else None,
            comparison=Comparison.from_dict(comparison) if comparison else None,
            causes=tuple(Cause.from_dict(row) for row in plain.get("causes", ())),
            children=tuple(JudgedPair.from_dict(row) for row in plain.get("children", ())),
        )
