"""A run as the tracking store has it, the runs that one launch made, and what their tags say."""

from __future__ import annotations

import json
import re
import shlex
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mlflow_repro.errors import UsageError
from mlflow_repro.values.plain import Stored

TAG_PREFIX = "repro."
"""A fact's dotted name is its tag: the fact ``git.commit`` is the tag ``repro.git.commit``."""

OWN_METRICS = ("repro.max_rel_error", "repro.compared", "repro.different")
"""What a reproduction is annotated with after it was judged: no outcome of the run, so they are never read as one."""


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


def parse_tag(text: str | None) -> Any:
    """What a tag that holds JSON holds; None where it does not."""
    try:
        return json.loads(text or "")
    except (ValueError, RecursionError):
        return None


@dataclass(frozen=True, kw_only=True)
class Run(Stored):
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

    def words(self, name: str) -> tuple[str, ...] | None:
        """The fact ``name`` where it is a list of texts, None where it is anything else."""
        found = parse_tag(self.fact(name).value)
        return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None

    @property
    def is_captured(self) -> bool:
        """True when the plugin was at work in the process that made the run."""
        return TAG_PREFIX + "capture" in self.tags


RunRecord = Run
"""Its name before a run's own record had a value; still a public name of the package."""

_RUN_ID = re.compile(r"[A-Za-z0-9][\w\-]{0,255}")


def check_run_id(run_id: str) -> str:
    """``run_id`` when it can be one. Raises UsageError."""
    if not _RUN_ID.fullmatch(run_id):
        raise UsageError(
            f"not a run id: {run_id[:80]!r}", "a run id is 32 letters and digits, as the MLflow UI shows it"
        )
    return run_id


ENTRY_POINT_TAG = "mlflow.project.entryPoint"


def unquote_param(stored: str) -> str:
    """Undo `shlex.quote`: the exact inverse where ``stored`` is something that it returns, else unchanged."""
    try:
        words = shlex.split(stored)
    except ValueError:
        return stored
    if len(words) == 1 and shlex.quote(words[0]) == stored:
        return words[0]
    return stored


def is_project_run(run: Run) -> bool:
    """True when the run was launched through an entry point of an MLflow project."""
    return ENTRY_POINT_TAG in run.tags or run.tags.get("mlflow.source.type") == "PROJECT"


def recorded_launch_parameters(run: Run) -> dict[str, str] | None:
    """The launch parameters that the plugin recorded, or None when it recorded none that can be read."""
    values = parse_tag(run.fact("launch.params").value)
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else None


def launch_parameters(run: Run) -> dict[str, str]:
    """The launch parameters with their exact values; for a run made without the plugin, all of its params.

    Empty for a run that was not launched through a project's entry point.
    """
    recorded = recorded_launch_parameters(run)
    if recorded is not None:
        return recorded
    if not is_project_run(run):
        return {}
    return {name: unquote_param(value) for name, value in run.params.items()}


PARENT_TAG = "mlflow.parentRunId"
SESSION_TAG = "repro.session"
"""Names what the tool does at one time: its runs, and those of the programs that it launches."""
PROCESS_TAG = "repro.launch.process"
WORKERS_TAG = "repro.launch.workers"
"""How many processes without a run of their own reported what they began with, into this run's random state."""


def program_of(process: str) -> str:
    """The process that ``process``, a value of ``repro.launch.process``, is a worker of; itself when it is none."""
    head, slash, last = process.rpartition("/")
    return head + slash + last.partition(".")[0]


def is_worker(run: Run) -> bool:
    """True when a worker of a program made the run, not the process that the program began with."""
    process = run.tags.get(PROCESS_TAG, "")
    return program_of(process) != process


@dataclass(frozen=True, kw_only=True)
class RunTree:
    """The runs that one launch made. ``root_id`` is the run that stands for it.

    A run is a child of its parent where that is in the tree; all others are on the top level, beside the root.
    """

    root_id: str
    runs: tuple[Run, ...]

    @cached_property
    def by_id(self) -> dict[str, Run]:
        """The runs by their ids."""
        return {run.run_id: run for run in self.runs}

    @property
    def root(self) -> Run:
        """The run that stands for the launch."""
        return self.by_id[self.root_id]

    @property
    def in_order(self) -> list[Run]:
        """The runs in the order of their start."""
        return sorted(self.runs, key=_order)

    @property
    def top(self) -> list[Run]:
        """The runs on the top level."""
        return self.children[""]

    @cached_property
    def children(self) -> Mapping[str, list[Run]]:
        """The children of each run by its id, and under the empty id the top level, in the order of their start.

        Tags can name each other as parents in a circle; such runs are on the top level.
        """
        children: dict[str, list[Run]] = defaultdict(list)
        for run in self.in_order:
            children[self._parent_of(run)].append(run)
        return children

    def subtree_ids(self, run_id: str) -> set[str]:
        """``run_id`` and the ids of its descendants."""
        found: set[str] = set()
        waiting = [run_id]
        while waiting:
            current = waiting.pop()
            found.add(current)
            waiting += [run.run_id for run in self.children.get(current, ())]
        return found

    def _parent_of(self, run: Run) -> str:
        parent = "" if run.run_id == self.root_id else run.tags.get(PARENT_TAG, "")
        seen = {run.run_id}
        current = parent
        while current in self.by_id:
            if current in seen:
                return ""
            seen.add(current)
            current = self.by_id[current].tags.get(PARENT_TAG, "")
        return parent if parent in self.by_id else ""


def _order(run: Run) -> tuple[int, int, str]:
    index = run.tags.get("repro.launch.run_index", "")
    return run.start_time, int(index) if index.isascii() and index.isdigit() else 0, run.run_id


@dataclass(frozen=True, kw_only=True)
class RunPair:
    """Two runs that correspond to each other; None where one side has none. ``note`` says why it does not judge."""

    reference: Run | None
    reproduction: Run | None
    note: str = ""
