"""Run trees as values: the runs that one launch made, and their pairs with the runs of another launch."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.model import Comparison, RunRecord, Status

PARENT_TAG = "mlflow.parentRunId"
PROCESS_TAG = "repro.launch.process"


def program_of(process: str) -> str:
    """The process that ``process``, a value of ``repro.launch.process``, is a worker of; itself when it is none."""
    head, slash, last = process.rpartition("/")
    return head + slash + last.partition(".")[0]


def is_worker(run: RunRecord) -> bool:
    """True when a worker of a program made the run, not the process that the program began with."""
    process = run.tags.get(PROCESS_TAG, "")
    return program_of(process) != process


@dataclass(frozen=True, kw_only=True)
class RunTree:
    """The runs that one launch made. ``root_id`` is the run that stands for it.

    A run is a child of its parent where that is in the tree; all others are on the top level, beside the root.
    """

    root_id: str
    runs: tuple[RunRecord, ...]

    @cached_property
    def by_id(self) -> dict[str, RunRecord]:
        """The runs by their ids."""
        return {run.run_id: run for run in self.runs}

    @property
    def root(self) -> RunRecord:
        """The run that stands for the launch."""
        return self.by_id[self.root_id]

    @property
    def in_order(self) -> list[RunRecord]:
        """The runs in the order of their start."""
        return sorted(self.runs, key=_order)

    @property
    def top(self) -> list[RunRecord]:
        """The runs on the top level."""
        return self.children[""]

    @cached_property
    def children(self) -> Mapping[str, list[RunRecord]]:
        """The children of each run by its id, and under the empty id the top level, in the order of their start.

        Tags can name each other as parents in a circle; such runs are on the top level.
        """
        children: dict[str, list[RunRecord]] = defaultdict(list)
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

    def _parent_of(self, run: RunRecord) -> str:
        parent = "" if run.run_id == self.root_id else run.tags.get(PARENT_TAG, "")
        seen = {run.run_id}
        current = parent
        while current in self.by_id:
            if current in seen:
                return ""
            seen.add(current)
            current = self.by_id[current].tags.get(PARENT_TAG, "")
        return parent if parent in self.by_id else ""


def _order(run: RunRecord) -> tuple[int, int, str]:
    index = run.tags.get("repro.launch.run_index", "")
    return run.start_time, int(index) if index.isascii() and index.isdigit() else 0, run.run_id


@dataclass(frozen=True, kw_only=True)
class RunPair:
    """Two runs that correspond to each other; None where one side has none. ``note`` says why it does not judge."""

    reference: RunRecord | None
    reproduction: RunRecord | None
    note: str = ""


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
        from mlflow_repro.model import Comparison, Status

        comparison = plain["comparison"]
        changed = {
            "status": Status(plain["status"]),
            "comparison": Comparison.from_dict(comparison) if comparison else None,
        }
        return cls(**{**plain, **changed})
