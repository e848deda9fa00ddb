"""A run comes back in the environment that it recorded, through the command line."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import git

from mlflow_repro.environment.build import Wanted, provide_environment
from mlflow_repro.launch.launcher import Job, Launcher, Outcome, link_plugin
from mlflow_repro.reproduce.environment import Rebuild, describe_current, find_import_path, prepare_environment
from mlflow_repro.reproduce.prepare import Preparation
from mlflow_repro.store.loopback import ServerError, is_database, serve_database
from mlflow_repro.system.folders import hold_folder
from mlflow_repro.text.pins import parse_lock
from mlflow_repro.values.environment import RecordedEnvironment
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.run import Run

RECORD = "repro/record.json"
LOCK = "repro/environment/requirements.lock"


def rewrite_record(bench, run_id: str, **changes: object) -> dict:
    """Another section ``environment`` in the record of a run, and a digest that says that something differs."""
    client = bench.client()
    folder = Path(client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    record = json.loads((folder / RECORD).read_text())
    record["environment"].update(changes)
    for lock in record["environment"]["locks"]:
        lock.pop("sha256", None)  # the tests write other ones
    (folder / RECORD).write_text(json.dumps(record))
    client.set_tag(run_id, "repro.env.digest", "0" * 16)
    return record["environment"]


@pytest.fixture
def trained(tiny) -> str:
    return tiny.train("train.py", cwd=tiny.repository.clone / "ml/tiny")


def dry_run(bench, run_id: str, *arguments: str) -> dict:
    answer = bench.reproduce(run_id, "--dry-run", "--format", "json", *arguments)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["plan"]


def test_the_choice_is_in_the_plan(tiny, trained):
    """The same environment; a package that was not imported differs; one that was; and what was asked for."""
    assert dry_run(tiny, trained)["environment"] == {
        "kind": "current",
        "reason": "nothing that is installed differs",
        "python": "",
        "packages": 0,
        "locks": {},
    }
    section = rewrite_record(tiny, trained)
    assert {"mlflow", "numpy"} <= set(section["imported"])
    distributions = {**section["distributions"], "pytest": "1.0"}
    imported = [name for name in section["imported"] if name != "pytest"]
    rewrite_record(tiny, trained, distributions=distributions, imported=imported)
    plan = dry_run(tiny, trained)
    assert (plan["environment"]["kind"], plan["caveats"]) == ("current", [])
    rewrite_record(tiny, trained, distributions={**distributions, "numpy": "1.0"})
    plan = dry_run(tiny, trained)
    here = metadata.version("numpy")
    assert plan["environment"]["kind"] == "recorded"
    assert plan["environment"]["reason"] == f"numpy 1.0, here {here}"
    assert plan["environment"]["locks"] == {LOCK: "default"}
    assert plan["environment"]["packages"] > 20
    plan = dry_run(tiny, trained, "--env", "current")
    assert plan["environment"]["kind"] == "current"
    assert plan["caveats"] == [f"the current environment differs from the recorded one: numpy 1.0, here {here}"]
    plan = dry_run(tiny, trained, "--env_manager", "uv")
    assert (plan["environment"]["kind"], plan["env_manager"]) == ("project", "uv")
    text = tiny.reproduce(trained, "--dry-run").stdout
    assert f"packages by uv (numpy 1.0, here {here})" in text
    assert f"--no-deps -r record/{LOCK}" in text


def test_record_that_does_not_say_enough(tiny, trained):
    """Said beside the verdict; refused when the recorded environment was asked for."""
    rewrite_record(tiny, trained, distributions={"absent": "time was up"})
    plan = dry_run(tiny, trained)
    assert plan["environment"]["kind"] == "current"
    assert "is not known (the packages of the run are not recorded: time was up)" in plan["caveats"][0]
    answer = tiny.reproduce(trained, "--env", "recorded")
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "time was up" in answer.stderr


def test_obstacles_are_found_before_a_run_is_created(tiny, trained, tmp_path):
    """Options that contradict each other, a hostile lock (ENV-01), an empty one (ENV-09), no uv (ENV-16)."""
    folder = Path(tiny.client().get_run(trained).info.artifact_uri.removeprefix("file://"))
    rewrite_record(tiny, trained)
    lock = tiny.recorded(trained, LOCK.removeprefix("repro/")).decode()
    (folder / LOCK).parent.mkdir()
    runs = tiny.run_ids()

    def expect(code: int, words: str, *options: str, **variables: str) -> None:
        answer = tiny.reproduce(trained, "--quiet", *options, **variables)
        assert (answer.returncode, answer.stdout) == (code, ""), answer.stderr
        assert words in answer.stderr
        assert "hunter2" not in answer.stderr
        assert answer.stderr.count("\n") == 1

    expect(2, "unknown environment 'best'", "--env", "best")
    expect(2, "contradict each other", "--env", "recorded", "--env-manager", "uv")
    expect(2, "the backend is 'kubernetes'", "--env", "recorded", "--backend", "kubernetes")
    (folder / LOCK).write_text("six==1.16.0\n--index-url http://me:hunter2hunter2@evil.example\n")
    expect(6, "requirements.lock, line 2: ", "--env", "recorded")
    (folder / LOCK).write_text("")
    expect(3, "there is nothing to rebuild", "--env", "recorded")
    (folder / LOCK).write_text(lock)
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "git").symlink_to(shutil.which("git"))
    (tools / "uv").write_text("#!/bin/sh\necho 'uv 0.1.0'\n")
    (tools / "uv").chmod(0o755)
    variables = {"PATH": str(tools), "MLFLOW_REPRO_CACHE": str(tmp_path / "cache")}
    expect(3, "or pass --env current", "--env", "recorded", **variables)
    assert tiny.run_ids() == runs


def test_current_environment_is_this_one():
    current = describe_current()
    assert current.distributions["mlflow"] == metadata.version("mlflow")
    assert current.python.version == sys.version.split()[0]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:////x.db", True),
        ("postgresql+psycopg2://u:p@h/d", True),
        ("mysql://h/d", True),
        ("http://h", False),
        ("file:///x", False),
        ("/x/mlruns", False),
        ("databricks", False),
    ],
)
def test_stores_in_a_database(uri, expected):
    assert is_database(uri) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("file:///home/x/repo/python/pkg", "python/pkg/src"),
        ("file:///home/x/repo/other", "other"),
        ("file:///home/x/repo", "."),
        ("nonsense", "."),
    ],
)
def test_package_of_the_runs_own_repository_is_imported_from_the_checkout(tmp_path, url, expected):
    """Where the repository lay when it was recorded does not matter (ENV-10)."""
    (tmp_path / "python/pkg/src").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for file in ("python/pkg/pyproject.toml", "other/setup.py", "pyproject.toml"):
        (tmp_path / file).touch()
    recorded = RecordedEnvironment(
        installed=describe_current(), imported=("pkg",), locks=(), checkouts={"pkg": ("0" * 40, url)}
    )
    found = find_import_path(Rebuild(recorded=recorded, groups=(), at_hand=("pkg",)), tmp_path)
    assert [Path(folder) for folder in found] == [tmp_path / expected]


def test_rebuilt_environment_that_is_another_than_the_recorded_one_is_said(tmp_path, monkeypatch):
    """ENV-17: what was installed is looked at, whatever the lock had said."""
    monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    installed = replace(describe_current(), distributions={"six": "1.15.0"})
    rebuild = Rebuild(
        recorded=RecordedEnvironment(installed=installed, imported=("six",), locks=()),
        groups=(("default", parse_lock("six==1.16.0", "lock")),),
        at_hand=(),
    )
    plan = LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="0" * 40))
    folders = dict.fromkeys(("work_directory", "checkout", "project_directory"), tmp_path)
    prepared = Preparation(plan=plan, parameters={}, rebuild=rebuild, **folders)
    surroundings, notes = prepare_environment(prepared, Run(run_id="a"), allow_substitutions=False)
    assert os.path.isdir(surroundings.environment)
    assert notes[-1] == "the rebuilt environment differs from the recorded one: six 1.15.0, rebuilt 1.16.0"


CHILD = """\
import importlib.metadata, json, os, sys, time
import six
names = ("PATH", "VIRTUAL_ENV", "PYTHONPATH", "MLFLOW_TRACKING_URI", "PYTHONHOME")
facts = {name: os.environ.get(name) for name in names}
facts["prefix"] = sys.prefix
facts["plugin"] = [e.value for e in importlib.metadata.entry_points(group="mlflow.run_context_provider")]
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(facts, file)
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


@pytest.mark.slow
def test_child_in_a_rebuilt_environment(bench, tmp_path, monkeypatch):
    """Its own Python comes first, nothing of the tool's leaks in, the plugin is there, and all of it ends together."""
    monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    monkeypatch.setenv("PYTHONPATH", "/somewhere/of/the/tool")
    wanted = Wanted(
        python=describe_current().python, groups=[("default", parse_lock("six==1.16.0", "lock"))], versions={}
    )
    built = provide_environment(wanted)
    project, told = tmp_path / "project", tmp_path / "told.json"
    project.mkdir()
    (project / "train.py").write_text(CHILD)
    (project / "MLproject").write_text(f"entry_points:\n  main:\n    command: python train.py {told}\n")
    job = Job(
        directory=str(project),
        entry_point="main",
        parameters={},
        run_id=bench.client().create_run("0").info.run_id,
        experiment_id="0",
        tracking_uri=f"sqlite:///{bench.store}",
        environment=str(built.directory),
        import_path=("/of/the/checkout",),
        served_artifact_root=str(tmp_path / "artifacts"),
        storage_directory=str(tmp_path / "storage"),
    )
    with hold_folder(str(tmp_path)) as place, Launcher(place, session="s") as launcher:
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(launcher.run(job)), daemon=True)
        thread.start()
        deadline = time.monotonic() + 100
        while not told.exists():
            assert time.monotonic() < deadline
            assert thread.is_alive(), outcomes
            time.sleep(0.1)
        facts = json.loads(told.read_text())
        port = urlsplit(facts["MLFLOW_TRACKING_URI"]).port
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        launcher.end()
        thread.join(30)
    assert facts["prefix"] == str(built.directory) == facts["VIRTUAL_ENV"]
    assert facts["PATH"].split(os.pathsep)[0] == f"{built.directory}/bin"
    assert facts["PYTHONPATH"].split(os.pathsep) == ["/of/the/checkout", f"{place.path}/plugin"]
    assert facts["PYTHONHOME"] is None
    assert facts["plugin"] == ["mlflow_repro.plugin:ReproContextProvider"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.slow
def test_server_on_loopback_that_cannot_start(tmp_path):
    (tmp_path / "text.db").write_text("no database " * 100)
    with (
        pytest.raises(ServerError, match="did not start: "),
        serve_database(f"sqlite:///{tmp_path}/text.db", tmp_path, str(tmp_path)),
    ):
        pytest.fail("it started")


OLD = ("mlflow-skinny==2.22.0", "scikit-learn==1.5.2", "pandas", "sqlalchemy<2.1", "alembic", "sqlparse", "psutil")
TRAIN = """\
import sys
import mlflow, sklearn
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
X, y = load_iris(return_X_y=True)
model = RandomForestClassifier(n_estimators=int(sys.argv[1]))
with mlflow.start_run():
    model.fit(X[::2], y[::2])
    mlflow.log_metric("importance", float(model.feature_importances_[0]))
    mlflow.log_metric("sklearn_minor", int(sklearn.__version__.split(".")[1]))
    mlflow.log_text(mlflow.__version__, "version.txt")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_run_of_an_older_environment_comes_back(bench, tmp_path, monkeypatch):
    """Older scikit-learn, older MLflow, older store: refused, upgraded by its owner, equal; in this one it differs."""
    if int(metadata.version("mlflow").split(".")[0]) < 3:
        pytest.skip("the MLflow that is installed is not newer than the old one")
    monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    old = tmp_path / "old"
    for command in (["venv", "--python", sys.executable, str(old)], ["pip", "install", "--python", str(old), *OLD]):
        subprocess.run(["uv", command[0], "--quiet", *command[1:]], check=True)
    bench.repository.commit({"train.py": TRAIN})
    bench.tracking_uri = f"sqlite:///{tmp_path}/old.db"
    plugin = str(link_plugin(tmp_path / "plugin"))
    answer = bench.run(str(old / "bin/python"), "train.py", "20", cwd=bench.repository.clone, PYTHONPATH=plugin)
    assert answer.returncode == 0, answer.stderr
    git("diff", "--exit-code", cwd=bench.repository.clone)
    answer = bench.reproduce("a" * 32)
    assert answer.returncode == 5
    assert "mlflow db upgrade" in answer.stderr
    assert bench.run("mlflow", "db", "upgrade", bench.tracking_uri).returncode == 0
    (run_id,) = bench.run_ids()
    shutil.rmtree(bench.repository.clone / ".git")
    (bench.repository.clone / "train.py").unlink()  # what is left there are the artifacts: MLflow's default place

    here = metadata.version("scikit-learn")
    for options in ((), ("--env", "recorded")):
        answer = bench.reproduce(run_id, *options)
        assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr + answer.stdout
        assert f"relaunched in the recorded environment (scikit-learn 1.5.2, here {here}; " in answer.stdout
        assert "the child has mlflow 2.22.0 and gets the store through a server of mlflow" in answer.stdout
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.data.tags["repro.env.mlflow"] == "2.22.0"
    artifact = bench.client().download_artifacts(reproduction.info.run_id, "version.txt", str(tmp_path))
    assert Path(artifact).read_text() == "2.22.0"
    answer = bench.reproduce(run_id, "--env", "current")
    assert answer.returncode == 1, answer.stderr
    assert f"differs from the recorded one: scikit-learn 1.5.2, here {here}; " in answer.stdout
