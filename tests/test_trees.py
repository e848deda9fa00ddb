"""Run trees: children, several runs of one script, steps of a workflow come back together and are judged together."""

from __future__ import annotations

SWEEP = """\
import mlflow
import numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV

mlflow.sklearn.autolog(log_models=False)
x, y = load_iris(return_X_y=True)
search = GridSearchCV(RandomForestClassifier(3), {"max_depth": [1, 2], "max_features": [1, 2]}, cv=2)
with mlflow.start_run():
    search.fit(x, y)
"""


def test_grid_search_comes_back_with_its_children(bench):
    bench.repository.commit({"train.py": SWEEP})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    root = next(run_id for run_id in bench.run_ids() if "mlflow.parentRunId" not in bench.get(run_id).data.tags)
    answer = bench.reproduce(root)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
