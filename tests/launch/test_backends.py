"""Backends of projects: a third party's plugin gets what the plan says; what is missing is said before a run exists."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import TINY_TRAIN, expect_error, git, statuses

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.launch.backends import check_backend

PLUGIN = Path(__file__).resolve().parents[1] / "backend_plugin"


@pytest.fixture
def flow(tiny, monkeypatch):
    """A workbench where the distribution of the backend ``flow`` is installed, and a run that was made locally."""
    monkeypatch.syspath_prepend(PLUGIN)
    tiny.environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")]))
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=it's a b")
    return tiny, run_id, tiny.root / "told.json"


def test_third_party_backend_gets_the_plan_and_its_run_is_judged(flow):
    """Parameters, experiment, store and configuration arrive, and the checkout stands on its own where it is taken."""
    bench, run_id, told = flow
    (bench.root / "config.json").write_text(json.dumps({"told": str(told), "queue": "gpu"}))
    options = ["--backend", "flow", "--backend-config", f"{bench.root}/config.json", "--experiment_name", "there"]
    answer = bench.reproduce(run_id, *options)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    note = "Note: the backend 'flow' gets the recorded tree as a folder; environment variables, the random state"
    assert note in answer.stdout
    reproduction = bench.reproduction_of(run_id)
    assert json.loads(told.read_text()) == {
        "entry_point": "main",
        "params": {"alpha": "0.5", "text": "it's a b"},
        "version": None,
        "config": {"told": str(told), "queue": "gpu"},
        "tracking_uri": f"sqlite:///{bench.store}",
        "experiment_id": reproduction.info.experiment_id,
    }
    assert bench.client().get_experiment_by_name("there").experiment_id == reproduction.info.experiment_id
    tags, reference = reproduction.data.tags, bench.get(run_id).data.tags
    assert tags["mlflow.project.backend"] == "flow"
    assert tags["argv"] == reference["argv"]
    assert tags["repro.git.commit"] == reference["repro.git.commit"]
    shutil.rmtree(os.environ.get("MLFLOW_REPRO_CACHE") or Path.home() / ".cache/mlflow-repro/clones")
    assert git("fsck", cwd=Path(f"{told}.copy")) == ""


def test_backend_of_the_reference_is_used_again_with_its_uncommitted_changes(flow):
    """The tree that the backend is given has them; a second reproduction of it is by the same backend."""
    bench, _, told = flow
    (bench.repository.clone / "ml/tiny/train.py").write_text(TINY_TRAIN.replace("1 / (1", "2 / (1"))
    run_id = bench.train("train.py", "--text=a b", cwd=bench.repository.clone / "ml/tiny")
    bench.client().set_tag(run_id, "mlflow.project.backend", "flow")
    answer = bench.reproduce(run_id, "--backend-config", json.dumps({"told": str(told)}))
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert bench.reproduction_of(run_id).data.tags["mlflow.project.backend"] == "flow"


FAULTS = {
    "fails": "failed: ExecutionException: Run (ID '",
    "no run": "(none was created) failed: the backend 'flow' returned no run",
    "raises": "(none was created) failed: RuntimeError: the queue is closed",
}


def test_backend_that_goes_wrong(flow):
    """Exit code 4; a run that it has made is named, and known as a reproduction."""
    bench, run_id, told = flow
    lines = {}
    for mode, words in FAULTS.items():
        config = json.dumps({"told": str(told), "mode": mode})
        lines[mode] = expect_error(bench.reproduce(run_id, "--backend", "flow", "--backend-config", config), 4, words)
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.info.run_id in lines["fails"]
    assert reproduction.info.status == "FAILED"
    assert statuses(bench, run_id) == ["FAILED"]


def test_what_a_backend_cannot_do_is_refused_before_a_run_is_made(flow, monkeypatch):
    """Not installed, its libraries missing, what only this machine can put back."""
    bench, run_id, told = flow
    config = ("--backend-config", json.dumps({"told": str(told)}))
    refusals = {
        ("--backend", "nothing"): (3, "the backend 'nothing' is not installed", "flow", "--backend local"),
        ("--backend", "kubernetes"): (3, "needs the Python package kubernetes, which is not installed"),
        ("--backend", "databricks"): (3, "needs the specification of a cluster"),
        ("--backend", "flow", "--env", "recorded"): (2, "the recorded environment is rebuilt on this machine"),
        ("--backend", "flow", "--seed", "1"): (2, "a seed is set for processes of this machine"),
        ("--backend", "flow", "--backend-config", "{"): (2, "cannot read the backend configuration"),
    }
    for options, (code, *words) in refusals.items():
        more = () if "--backend-config" in options or "flow" not in options else config
        expect_error(bench.reproduce(run_id, *options, *more), code, *words)
    assert statuses(bench, run_id) == []
    assert not told.exists()


def test_needs_of_remote_backends(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    needs = [
        ("kubernetes", {}, "", "runs docker projects only"),
        ("kubernetes", {"repository-uri": "r"}, "docker_env", "needs kube-job-template-path"),
        ("databricks", {"new_cluster": {}}, "", "cannot reach this tracking store"),
    ]
    for backend, config, environment, words in needs:
        with pytest.raises(CannotJudgeError, match=words):
            check_backend(backend, config, env_manager="local", environment=environment, tracking_uri="sqlite:///x")


def test_remote_backends_that_have_what_they_need(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: name)
    config = {"kube-job-template-path": "t", "repository-uri": "r"}
    check_backend("kubernetes", config, env_manager="local", environment="docker_env", tracking_uri="sqlite:///x")
    check_backend("databricks", {"new_cluster": {}}, env_manager="local", environment="", tracking_uri="databricks")
