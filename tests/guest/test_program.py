"""What a run records of its own program: its modules, what they use and name, and the variables that it began with."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pytest

from mlflow_repro.environment.used import _is_named, _list_imports
from mlflow_repro.system.beginning import _read_kernels
from mlflow_repro.text.variables import choose_variables, list_set_later

TRAIN = """\
import os
os.environ["PYTHONHASHSEED"] = "0"
os.environ["OMP_NUM_THREADS"] = "1"
import helper, mlflow
from pathlib import Path
FOLDER = Path({folder!r})
with mlflow.start_run():
    helper.use()
    mlflow.log_metric("x", len((FOLDER / "a.csv").read_text()) + len(Path("ignored.csv").read_text()))
    Path("result.csv").write_text("made by the run")
"""
HELPER = "def use():\n    import tabulate\n    return tabulate\n"


@pytest.fixture
def trained(bench, tmp_path):
    """A function that trains and gives the run's record."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.csv").write_text("1,2")
    (folder / "never.csv").write_text("3")
    bench.repository.commit(
        {"train.py": TRAIN.format(folder=str(folder)), "helper.py": HELPER, "never.py": "import numpy\n",
         ".gitignore": "*.csv\n"}
    )  # fmt: skip
    (bench.repository.clone / "ignored.csv").write_text("4")

    def train(**variables: str):
        run_id = bench.train("train.py", **variables)
        path = bench.client().download_artifacts(run_id, "repro/record.json", str(tmp_path))
        return json.loads(Path(path).read_text(encoding="utf-8"))

    return train


def test_what_a_program_is_and_uses(trained, tmp_path):
    """Its modules, not one that merely lies there; its packages, not MLflow's; its data, not its results."""
    record = trained()
    modules = {row["path"]: row for row in record["code"]["modules"]}
    assert set(modules) == {"train.py", "helper.py"}
    assert modules["helper.py"]["sha256"] == hashlib.sha256(HELPER.encode()).hexdigest()
    assert modules["helper.py"]["place"] == "repository"
    assert {"tabulate"} <= set(record["environment"]["used"]) <= {"tabulate", "wcwidth", "mlflow"}
    assert "sqlalchemy" in record["environment"]["imported"] or "requests" in record["environment"]["imported"]
    named = {row["path"]: row["sha256"] for row in record["data"]["named"]}
    assert named == {
        str(tmp_path / "data" / "a.csv"): hashlib.sha256(b"1,2").hexdigest(),
        "ignored.csv": hashlib.sha256(b"4").hexdigest(),
    }


def test_variables_are_those_that_the_process_was_started_with(trained):
    """What the program sets after Python or a library has read it had no effect; a relaunch must not give it one."""
    record = trained()
    assert not {"PYTHONHASHSEED", "OMP_NUM_THREADS"} & set(record["launch"]["variables"])
    assert record["launch"]["set_later"] == {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    changes = choose_variables(record["launch"]["variables"], {"OMP_NUM_THREADS": "3"})
    assert changes["OMP_NUM_THREADS"] is None  # nor is the user's own left to it


@pytest.mark.real_processes
def test_variables_of_a_real_process(trained):
    record = trained(OMP_NUM_THREADS="2")
    assert record["launch"]["variables"]["OMP_NUM_THREADS"] == "2"
    assert record["launch"]["set_later"] == {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def test_a_relaunch_does_not_make_a_late_setting_early(bench):
    """Two threads in the reference became one in the reproduction, by our own doing."""
    script = (
        "import os\nstarted = os.environ.get('OMP_NUM_THREADS', 'none')\nos.environ['OMP_NUM_THREADS'] = '1'\n"
        "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('started', len(started))\n"
    )
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id)
    assert answer.stdout.splitlines()[-1] == "Runs equal: True"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel keeps it on Linux")
def test_the_kernels_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("SET_IN_THIS_PROCESS", "1")
    assert _read_kernels()
    assert "SET_IN_THIS_PROCESS" not in _read_kernels()
    title = tmp_path / "environ"
    title.write_bytes(b"python: worker\0\0\0ME=x\0")
    monkeypatch.setattr("mlflow_repro.system.beginning._KERNEL_FILE", str(title))
    assert _read_kernels() == {}


def test_only_what_influences_results_is_told_of_later_settings():
    first, now = {"OMP_NUM_THREADS": "2", "USER": "a"}, {"TZ": "UTC", "USER": "b", "API_TOKEN": "hunter2hunter2"}
    assert list_set_later(first, now) == {"OMP_NUM_THREADS": None, "TZ": "UTC"}


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("import numpy as np", {"numpy"}),
        ("import os, numpy as np, scipy.stats", {"os", "numpy", "scipy.stats"}),
        ("    from sklearn.svm import SVC", {"sklearn.svm"}),
        ("from . import near", {"."}),
        ("import mlflow\nmlflow.xgboost.autolog()", {"mlflow", "xgboost"}),
        ("text = 'import nothing of it'", set()),
        ("reimport = 3", set()),
    ],
)
def test_imports_of_lines(line: str, names: set[str]):
    assert set(_list_imports(line)) == names


def test_a_module_is_named_by_its_parts_as_well():
    assert _is_named("google.cloud", {"google.cloud.storage"})
    assert _is_named("google.cloud.storage", {"google.cloud"})
    assert not _is_named("google.protobuf", {"google.cloud"})
    assert not _is_named("num", {"numpy"})
