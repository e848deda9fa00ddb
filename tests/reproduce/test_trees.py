"""Run trees: children, several runs of one script, steps of a workflow come back together and are judged together."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import TYPE_CHECKING

import pytest

from mlflow_repro.judging.causes import compare_and_explain
from mlflow_repro.judging.options import CompareOptions
from mlflow_repro.values.comparison import Status, Verdict

if TYPE_CHECKING:
    from conftest import Workbench

SWEEP = """\
import mlflow
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

mlflow.sklearn.autolog(log_models=False)
x, y = load_iris(return_X_y=True)
search = GridSearchCV(RandomForestClassifier(3), {"max_depth": [1, 2], "max_features": [1, 2]}, cv=2)
with mlflow.start_run():
    search.fit(x, y)
"""

WORKFLOW_PROJECT = """\
name: workflow
entry_points:
  main:
    command: "python workflow.py"
  draw:
    parameters:
      count: {type: float, default: 1}
      source: {type: string, default: nothing}
    command: "python draw.py {count} {source}"
"""

WORKFLOW = """\
import mlflow
import numpy as np

with mlflow.start_run() as run:
    source = "nothing"
    for count in (1, 2):
        step = mlflow.run(".", "draw", parameters={"count": count, "source": source}, env_manager="local")
        source = mlflow.get_run(step.run_id).info.artifact_uri
    mlflow.log_metric("own", np.random.default_rng().random())
"""

DRAW = """\
import random, sys
import mlflow
import numpy as np

with mlflow.start_run():
    for number in range(int(sys.argv[1])):
        mlflow.log_metric("python", random.random(), step=number)
        mlflow.log_metric("numpy", np.random.default_rng().random(), step=number)
"""

SEVERAL = """\
import random, time
import mlflow

with mlflow.start_run(run_name="first"):
    mlflow.log_metric("m", random.random())
    for name in ("same", "clock"):
        with mlflow.start_run(nested=True, run_name=name):
            mlflow.log_metric("m", time.time() - 1.7e9 if name == "clock" else random.random())
with mlflow.start_run():
    mlflow.log_metric("m", random.random())
"""


WORKERS = """\
import multiprocessing, random
import mlflow

def try_out(k):
    with mlflow.start_run():
        mlflow.log_param("k", k)
        mlflow.log_metric("m", random.random())

if __name__ == "__main__":
    workers = [multiprocessing.get_context("fork").Process(target=try_out, args=(k,)) for k in range(2)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
"""


def train_tree(bench, *arguments, **variables) -> dict[str, str]:
    """Start a script that makes several runs; their ids by name."""
    before = set(bench.run_ids())
    answer = bench.run_python(*arguments, cwd=bench.repository.clone, **variables)
    assert answer.returncode == 0, answer.stderr
    return {bench.get(run_id).info.run_name: run_id for run_id in bench.run_ids() if run_id not in before}


def find_root(bench, ids) -> str:
    roots = [run_id for run_id in ids if "mlflow.parentRunId" not in bench.get(run_id).data.tags]
    return min(roots, key=lambda run_id: bench.get(run_id).info.start_time)


def test_grid_search_comes_back_with_its_children(bench):
    """Its children are made by autologging, all with one start time, and are matched by their parameters."""
    bench.repository.commit({"train.py": SWEEP})
    ids = train_tree(bench, "train.py").values()
    root = find_root(bench, ids)
    answer = bench.reproduce(root, "--format", "json")
    report = json.loads(answer.stdout)
    assert report["runs_equal"] == "True", answer.stdout
    assert len(report["children"]) == 4
    params = [
        [bench.get(pair[side]).data.params["max_depth"] for pair in report["children"]]
        for side in ("reference_run_id", "reproduction_run_id")
    ]
    assert params[0] == params[1]
    child = next(run_id for run_id in ids if run_id != root)
    answer = bench.reproduce(child)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert f"run {child} belongs to run {root}, which is launched again for it" in answer.stdout


def test_each_process_of_a_workflow_gets_its_own_random_state_back(bench):
    """Steps that `mlflow.run` starts seed nothing, and are told of the step before by a parameter."""
    bench.repository.commit({"MLproject": WORKFLOW_PROJECT, "workflow.py": WORKFLOW, "draw.py": DRAW})
    ids = train_tree(bench, "workflow.py").values()
    root = find_root(bench, ids)
    draws = [bench.get(run_id).data.metrics.get("numpy") for run_id in ids if run_id != root]
    assert len(set(draws)) == 2
    answer = bench.reproduce(root)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Other runs of the launch: 2 of 2 are the same" in answer.stdout
    processes = [bench.get(run_id).data.tags["repro.launch.process"] for run_id in ids]
    head = bench.get(root).data.tags["repro.launch.process"]
    assert len(set(processes)) == 3
    assert all(process.startswith(head) for process in processes)


def test_run_of_a_worker_comes_back_with_its_program(bench):
    """The program itself makes no run, so that nothing resumes the one that the relaunch prepares for it."""
    bench.repository.commit({"train.py": WORKERS})
    ids = list(train_tree(bench, "train.py").values())
    asked = next(run_id for run_id in ids if bench.get(run_id).data.params["k"] == "1")
    answer = bench.reproduce(asked)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "was made by a worker of its program, which is launched again as a whole" in answer.stdout
    assert bench.reproduction_of(asked).data.params["k"] == "1"


@pytest.fixture
def several(bench) -> tuple[Workbench, dict[str, str]]:
    """A script with two runs, of which one has two children, and their ids by name; the second run is ``second``."""
    bench.repository.commit({"train.py": SEVERAL})
    ids = train_tree(bench, "train.py")
    return bench, {name if name in ("first", "same", "clock") else "second": run_id for name, run_id in ids.items()}


def test_one_child_that_changed_is_named(several):
    """Reproduced once; then each of the runs is judged without another launch, and the two trees are compared."""
    bench, ids = several
    answer = bench.reproduce(ids["first"])
    assert answer.stdout.endswith("Runs equal: False\n"), answer.stdout + answer.stderr
    assert answer.returncode == 1
    assert "Other runs of the launch: 2 of 3 are the same" in answer.stdout
    (line,) = [line for line in answer.stdout.splitlines() if "DIFFERENT |" in line]
    assert line.startswith("| clock ")
    again = {name: bench.reproduction_of(run_id).info.run_id for name, run_id in ids.items()}
    assert len(set(again.values())) == 4

    judged = {name: bench.reproduce(ids[name], "--resume", again[name]) for name in ids}
    codes = {name: answer.returncode for name, answer in judged.items()}
    assert codes == {"first": 1, "same": 0, "clock": 1, "second": 0}
    assert judged["first"].stdout == answer.stdout
    assert f"run {ids['second']} has the index 3 in its program" in judged["second"].stdout
    by_root = bench.reproduce(ids["same"], "--resume", again["first"])
    assert by_root.returncode == 0, by_root.stderr
    assert bench.reproduce(ids["same"], "--resume", again["clock"]).returncode == 2

    with bench.surroundings():
        report = compare_and_explain(ids["first"], [again["first"]], options=CompareOptions())
        alone = compare_and_explain(ids["first"], [again["first"]], options=CompareOptions(children=False))
        siblings = compare_and_explain(ids["first"], [ids["second"]], options=CompareOptions())
    assert (report.verdict, len(report.children)) == (Verdict.DIFFERENT, 3)
    assert (alone.verdict, alone.children) == (Verdict.IDENTICAL, ())
    assert [(pair.name, pair.status) for pair in siblings.children] == [
        ("same", Status.MISSING),
        ("clock", Status.MISSING),
    ]


def test_later_run_and_child_come_back_by_their_own_names(several):
    """Asked for, they are launched with the whole script, and judged alone."""
    bench, ids = several
    answer = bench.reproduce(ids["same"])
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Other runs of the launch" not in answer.stdout
    assert f"run {ids['same']} belongs to run {ids['first']}, which is launched again for it" in answer.stdout
    assert bench.get(bench.reproduction_of(ids["same"]).info.run_id).info.run_name == "same"


def test_runs_that_were_deleted_have_lost_their_root_or_never_ended(several):
    """One clear line for what is asked for; in a tree they are rows."""
    bench, ids = several
    client = bench.client()
    experiment = client.get_run(ids["first"]).info.experiment_id
    lonely = client.create_run(experiment, tags={"mlflow.parentRunId": "0" * 32}, run_name="lonely").info.run_id
    client.set_terminated(lonely)
    endless = client.create_run(experiment, tags={"mlflow.parentRunId": ids["first"]}, run_name="endless").info.run_id
    client.delete_run(ids["clock"])
    refusals = {
        ids["clock"]: "is deleted (restore it, or pass --include-deleted)",
        endless: "has not ended (status RUNNING)",
        lonely: "has no git commit",
    }
    for run_id, words in refusals.items():
        answer = bench.reproduce(run_id, "--dry-run")
        assert (answer.returncode, answer.stdout) == (3, "")
        assert words in answer.stderr
    with bench.surroundings():
        report = compare_and_explain(ids["first"], [ids["first"]], options=CompareOptions())
    statuses = {pair.name: pair.status for pair in report.children}
    assert statuses == {"same": Status.IDENTICAL, "clock": Status.IGNORED, "endless": Status.UNKNOWN}
    assert report.verdict is Verdict.INCONCLUSIVE
    client.delete_run(ids["first"])
    answer = bench.reproduce(ids["same"], "--dry-run")
    assert answer.returncode == 3
    assert f"comes back with the run that it belongs to, and run {ids['first']} is deleted" in answer.stderr


def test_child_whose_root_is_gone_comes_back_by_itself(several):
    """It recorded how its program was started, as each run does; the plan says what it goes without."""
    bench, ids = several
    with contextlib.closing(sqlite3.connect(bench.store)) as store, store:
        store.execute("update tags set value = ? where key = 'mlflow.parentRunId'", ("f" * 32,))
    answer = bench.reproduce(ids["same"], "--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert f"brought back without its parent run {'f' * 32}, which is not in the store" in answer.stdout
