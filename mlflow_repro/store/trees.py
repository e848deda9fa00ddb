"""Find the runs of a launch in the store, by what they recorded of their processes and by their parents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.values.run import PARENT_TAG, PROCESS_TAG, SESSION_TAG, RunTree, program_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.run import Run

_MOST_PROGRAMS = 8  # that started one another, of which each is searched for
_QUOTABLE = re.compile(r"[0-9A-Za-z/._-]+")  # what may stand between quotes in a filter; tags hold any text


def find_root(store: TrackingStore, run: Run) -> tuple[Run, str]:
    """The run at the top of the tree that ``run`` is in, and a note where that is not the top of what MLflow shows.

    A parent that is not in the store, or that does not say how it was started where its child does, is left out.
    Raises UnreachableError.
    """
    seen = {run.run_id}
    while True:
        parent_id = run.tags.get(PARENT_TAG, "")
        if not parent_id or parent_id in seen:
            return run, ""
        seen.add(parent_id)
        left_out = f"run {run.run_id} is brought back without its parent run {parent_id}, which"
        try:
            parent = store.read_run(parent_id)
        except CannotJudgeError:
            return run, f"{left_out} is not in the store"
        if run.is_captured and not parent.is_captured:
            return run, f"{left_out} does not say how it was started: it was made without mlflow-repro"
        run = parent


def find_starter(store: TrackingStore, run: Run) -> list[str]:
    """The first run of the nearest program above that of ``run`` that made one; nothing where none did."""
    process = run.tags.get(PROCESS_TAG, "")
    for _ in range(_MOST_PROGRAMS):
        if "/" not in process or not _QUOTABLE.fullmatch(process):
            break
        process = program_of(process.rpartition("/")[0])
        runs = store.search_runs(f"tags.`{PROCESS_TAG}` = '{process}'")
        if runs:
            return [min(runs, key=lambda found: found.start_time).run_id]
    return []


def read_tree(store: TrackingStore, root: Run) -> RunTree:
    """``root``, its descendants, and the other runs of its launch: of its program and of those that this started.

    Deleted runs are among them. Descendants that recorded no process are looked for among the runs that started while
    the others were running, in the experiments of these. Raises UnreachableError.
    """
    found = {root.run_id: root}
    process, session = program_of(root.tags.get(PROCESS_TAG, "")), root.tags.get(SESSION_TAG, "")
    filters = [f"tags.`{PARENT_TAG}` = '{root.run_id}'"]
    if _QUOTABLE.fullmatch(process):
        filters.append(f"tags.`{PROCESS_TAG}` LIKE '{process}%'")
    if _QUOTABLE.fullmatch(session):
        filters.append(f"tags.`{SESSION_TAG}` = '{session}'")
    for wanted in filters:
        found.update({run.run_id: run for run in store.search_runs(wanted)})
    _add_descendants(found, _search_nested(store, list(found.values())))
    return RunTree(root_id=root.run_id, runs=tuple(found.values()))


def _search_nested(store: TrackingStore, runs: Collection[Run]) -> list[Run]:
    """The nested runs that started while ``runs`` were running, in their experiments."""
    wanted = f"tags.`{PARENT_TAG}` LIKE '%' and attributes.start_time >= {min(run.start_time for run in runs)}"
    if all(run.end_time for run in runs):
        wanted += f" and attributes.start_time <= {max(run.end_time for run in runs)}"
    return store.search_runs(wanted, {run.experiment_id for run in runs})


def _add_descendants(found: dict[str, Run], candidates: Collection[Run]) -> None:
    waiting = {run.run_id: run for run in candidates if run.run_id not in found}
    while True:
        new = {name: run for name, run in waiting.items() if run.tags.get(PARENT_TAG) in found}
        if not new:
            return
        found.update(new)
        waiting = {name: run for name, run in waiting.items() if name not in new}
