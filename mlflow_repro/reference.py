"""What a run recorded of itself, as its relaunch needs it: the tree, variables, what is put back, what is missing."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.quoting import is_project_run
from mlflow_repro.runtree import PROCESS_TAG, is_worker
from mlflow_repro.tracking import RANDOM_STATE_FILE
from mlflow_repro.variables import choose_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from mlflow_repro.gittree import TakenTree
    from mlflow_repro.model import LaunchPlan, RunRecord
    from mlflow_repro.notebook import RecordedNotebook
    from mlflow_repro.runtree import RunPair
    from mlflow_repro.tracking import TrackingStore
    from mlflow_repro.tree_judging import Target


def read_tree(store: TrackingStore, run_id: str, record: Mapping[str, Any]) -> TakenTree | None:
    """What the run recorded of its working tree, None when it recorded nothing. Raises the errors of `read_code`."""
    from mlflow_repro.capture.tree import read_code

    def read_file(path: str) -> bytes:
        content = store.read_file(run_id, path)
        if content is None:
            raise CannotJudgeError(f"run {run_id} has no artifact {path}, which its record names", "it was deleted")
        return content

    is_recorded = "tree" in record.get("code", {})
    return read_code(record["code"], read_file) if is_recorded else None


def read_notebook(store: TrackingStore, reference: RunRecord, record: Mapping[str, Any]) -> RecordedNotebook | None:
    """What the run recorded of the notebook that it was made in, None when it was made in none."""
    from mlflow_repro.capture.session import CELLS_FILE
    from mlflow_repro.notebook import read_recorded_notebook

    if reference.fact("launch.kind").value != "notebook" or is_project_run(reference):
        return None
    return read_recorded_notebook(record.get("launch", {}), store.read_file(reference.run_id, CELLS_FILE))


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """What is put back of what was recorded: the random state, when there is one, and changes; or another ``seed``."""

    has_random_state: bool
    restore_rng: bool = True
    seed: int | None = None
    ignore_diff: bool = False


def complete_plan(plan: LaunchPlan, reference: RunRecord, record: Mapping[str, Any], put_back: PutBack) -> LaunchPlan:
    """The plan with what is put back of the record (empty for a run that made none), and what is not, and why.

    Raises UsageError when a seed is wanted where it cannot be set.
    """
    if put_back.seed is not None and plan.backend != "local":
        raise UsageError(
            f"a seed is set for processes of this machine, and the backend is {plan.backend!r}",
            "leave --seed out, or pass --backend local",
        )
    variables = choose_variables(record["launch"]["variables"], os.environ) if record else {}
    if put_back.seed is not None:
        variables["MLFLOW_REPRO_SEED"] = str(put_back.seed)
    return replace(
        plan,
        variables=variables,
        restores=_list_restores(record, put_back),
        caveats=(*plan.caveats, *_find_gaps(plan, reference, record, put_back)),
    )


def _list_restores(record: Mapping[str, Any], put_back: PutBack) -> tuple[str, ...]:
    code = record.get("code", {})
    parts = ("bundle",) if put_back.ignore_diff else ("bundle", "patch", "untracked")
    files = [code[part]["file"] for part in parts if "file" in code.get(part, ())]
    return (*files, *([RANDOM_STATE_FILE] if put_back.has_random_state else ()))


def _find_gaps(plan: LaunchPlan, reference: RunRecord, record: Mapping[str, Any], put_back: PutBack) -> list[str]:
    gaps = []
    if reference.fact("git.dirty").value == "true" and "tree" not in record.get("code", {}):
        gaps.append("the reference was made from a working tree with uncommitted changes, which were not recorded")
    if plan.backend != "local":
        gaps.append(
            f"the backend {plan.backend!r} gets the recorded tree as a folder; environment variables, the random state"
            " and the recorded environment are put back on this machine only"
        )
    if put_back.seed is not None:
        gaps.append(
            f"everything is seeded with {put_back.seed}, but where the code sets a seed of its own: this asks whether"
            " the result replicates, not whether it is reproduced"
        )
    elif plan.backend == "local" and reference.is_captured and not put_back.has_random_state:
        reason = "was not recorded and is not put back" if put_back.restore_rng else "is not put back"
        gaps.append(f"the reference's random state {reason}: what sets no seed will differ")
    return gaps


def find_overruled(pairs: Iterable[RunPair]) -> list[str]:
    """What the scripts wanted of MLflow, and did not get."""
    runs = [pair.reproduction for pair in pairs if pair.reproduction is not None]
    # The next run of a process has the calls of the runs before it as well.
    stored = [run.fact("launch.overruled").value or "[]" for run in runs]
    lists = [json.loads(text) if text.startswith("[") else [text] for text in stored]
    calls = ", ".join(dict.fromkeys(call for row in lists for call in row))
    if not calls:
        return []
    return [f"the script's own {calls} was overruled: the reproduction stays in this store and experiment"]


def fetch_random_states(store: TrackingStore, target: Target, directory: Path) -> Path | None:
    """The random states of the processes of a launch, as files in ``directory``, in the order in which these began.

    None when the process that is launched again recorded none. Workers' are left out: they follow from their program's.
    Of each process the state of its first run is taken, and where the run that was asked for is in it, of that one.
    """
    head = target.root.tags.get(PROCESS_TAG, "")
    is_in_head = target.asked.tags.get(PROCESS_TAG, "") == head and target.asked.fact("launch.run_index").value
    chosen = {head: target.asked if is_in_head else target.root}
    for run in target.tree.in_order:
        if run.fact("launch.run_index").value and not is_worker(run):
            chosen.setdefault(run.tags.get(PROCESS_TAG, ""), run)
    for number, run in enumerate(chosen.values()):
        found = store.download_file(run.run_id, RANDOM_STATE_FILE, directory / run.run_id)
        if found is not None:
            found.rename(directory / f"{number:06}.json")
            shutil.rmtree(directory / run.run_id)
        elif number == 0:
            return None
    return directory
