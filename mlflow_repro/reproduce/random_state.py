"""The recorded random states of a launch: fetched, and laid out for the processes of a relaunch to take."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.restoring import name_file
from mlflow_repro.store.writing import RANDOM_STATE_FILE
from mlflow_repro.values.run import PROCESS_TAG, WORKERS_TAG, is_worker

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.judging.trees import Target
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.run import Run

_WORKERS = re.compile(r"(?:\+[^+/]*)+$")  # the end of a key: a worker of a program, and its workers


def fetch_random_states(store: TrackingStore, target: Target, directory: Path, *, is_same_launch: bool) -> Path | None:
    """The random states of the processes of a launch, as files in ``directory``, for `seeding.restoring`.

    None when the process that is launched again recorded none. Of each process the state of its first run is taken, and
    where the run that was asked for is in it, of that one; of workers without a run, what they reported.
    ``is_same_launch`` is false where the program is launched otherwise than the reference was: then only a generator
    that nobody had seeded gets its state back.
    """
    head = target.root.tags.get(PROCESS_TAG, "")
    is_in_head = target.asked.tags.get(PROCESS_TAG, "") == head and target.asked.fact("launch.run_index").value
    chosen = {head: target.asked if is_in_head else target.root}
    for run in target.tree.in_order:
        if run.fact("launch.run_index").value:
            chosen.setdefault(run.tags.get(PROCESS_TAG, ""), run)
    found = {run.run_id: read_random_state(store, run) for run in chosen.values()}
    if found[chosen[head].run_id] is None:
        return None
    told = [run for run in target.tree.in_order if WORKERS_TAG in run.tags and run.run_id not in found]
    found.update({run.run_id: read_random_state(store, run) for run in told})
    states: dict[str, dict[str, Any]] = {}
    for process, run in chosen.items():
        stored = found[run.run_id]
        if stored is not None and not (is_worker(run) and stored.get("schema") == 1):  # that one followed from another
            states[process] = stored
    for worker in [one for stored in found.values() if stored is not None for one in stored["workers"]]:
        states.setdefault(worker["path"], worker)
    directory.mkdir(parents=True, exist_ok=True)
    numbers: Counter[str] = Counter()
    above = _WORKERS.sub("", str(states[head].get("key", "")))  # the program that is launched again begins a launch
    for order, stored in enumerate(states.values()):
        key = str(stored.get("key", "")).removeprefix(above)
        content = {**stored, "key": key, "order": order, "is_changed": not is_same_launch, "workers": []}
        (directory / name_file(key, numbers[key])).write_text(json.dumps(content), encoding="utf-8")
        numbers[key] += 1
    return directory


def read_random_state(store: TrackingStore, run: Run) -> dict[str, Any] | None:
    """What a run has recorded of its process's randomness; None when it has nothing that can be read."""
    content = store.read_file(run.run_id, RANDOM_STATE_FILE)
    with suppress(ValueError, RecursionError):
        stored = json.loads(content) if content is not None else None
        if isinstance(stored, dict) and _has_its_form(stored):
            workers = stored.get("workers")
            rows = workers if isinstance(workers, list) else []
            named = [row for row in rows if isinstance(row, dict) and isinstance(row.get("path"), str)]
            return {**stored, "workers": named}
    return None


def _has_its_form(stored: dict[str, Any]) -> bool:
    """True where the states are tables by moment, and what was assigned is one."""
    states, assigned = stored.get("states", {}), stored.get("assigned", {})
    return (
        isinstance(assigned, dict)
        and isinstance(states, dict)
        and all(isinstance(one, dict) for one in states.values())
    )
