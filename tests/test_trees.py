"""Run trees: children, several runs of one script, steps of a workflow come back together and are judged together."""

from __future__ import annotations

import json

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
            mlflow.log_metric("m", time.time() if name == "clock" else random.random())
with mlflow.start_run():
    mlflow.log_metric("m", random.random())
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
    files = {"MLproject": WORKFLOW_PROJECT, "workflow.py": WORKFLOW, "draw.py": DRAW}
    bench.repository.commit(files)
    ids = train_tree(bench, "workflow.py").values()
    root = find_root(bench, ids)
    answer = bench.reproduce(root)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Other runs of the launch: 2 of 2 are the same" in answer.stdout
    answer = bench.reproduce(root, "--no-restore-rng")
    assert answer.stdout.endswith("Runs equal: False\n"), answer.stdout + answer.stderr
    assert "Other runs of the launch: 0 of 2 are the same" in answer.stdout


def test_one_child_that_changed_is_named(bench):
    bench.repository.commit({"train.py": SEVERAL})
    ids = train_tree(bench, "train.py")
    first = ids["first"]
    answer = bench.reproduce(first)
    assert answer.stdout.endswith("Runs equal: False\n"), answer.stdout + answer.stderr
