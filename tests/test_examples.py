"""The examples are real projects: each is trained, brought back and judged, as a user would do it."""

from __future__ import annotations

import shutil

import pytest
from conftest import EXAMPLES, git, own_metrics


@pytest.fixture
def project(bench, request):
    """A repository with one example in the folder ``python/NAME``."""
    name = request.param
    shutil.copytree(EXAMPLES / name, bench.repository.clone / "python" / name)
    bench.repository.commit({})
    bench.folder = bench.repository.clone / "python" / name
    return bench


@pytest.mark.parametrize("project", ["sklearn"], indirect=True)
@pytest.mark.parametrize("entry_point", [pytest.param("main", marks=pytest.mark.real_processes), "evaluate"])
def test_sklearn(project, entry_point):
    options = ("-P", "max_depth=2", *(("-P", "note=it's a 'b' c") if entry_point == "main" else ()))
    run_id = project.mlflow_run(str(project.folder), "-e", entry_point, *options)
    answer = project.reproduce(run_id, "--uri", f"{project.repository.hub.as_uri()}#python/sklearn")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert own_metrics(project.reproduction_of(run_id)) == project.get(run_id).data.metrics


@pytest.mark.parametrize("project", ["unseeded"], indirect=True)
def test_unseeded_comes_back_only_with_its_random_state(project):
    run_id = project.mlflow_run(str(project.folder))
    answer = project.reproduce(run_id, "--no-restore-rng")
    assert answer.stdout.endswith("Runs equal: False\n"), answer.stderr
    assert answer.returncode == 1
    answer = project.reproduce(run_id, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


@pytest.mark.parametrize("project", ["autolog"], indirect=True)
def test_autolog(project):
    """Autologging's parameters, dozens of them, are compared and not passed."""
    run_id = project.train("train.py", cwd=project.folder)
    answer = project.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert len(project.get(run_id).data.params) > 5


@pytest.mark.slow
@pytest.mark.real_processes
@pytest.mark.timeout(600)
@pytest.mark.parametrize("project", ["keras"], indirect=True)
def test_keras(project):
    pytest.importorskip("tensorflow")
    run_id = project.mlflow_run(str(project.folder), "-P", "epochs=2")
    assert project.get(run_id).data.tags["repro.seed.tensorflow"]
    answer = project.reproduce(run_id, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


@pytest.mark.slow
@pytest.mark.real_processes
@pytest.mark.timeout(600)
@pytest.mark.parametrize("project", ["sklearn"], indirect=True)
def test_project_in_an_environment_that_mlflow_builds(project):
    """With the manager uv: the environment does not list this package, and its run is captured all the same."""
    if shutil.which("uv") is None:
        pytest.skip("uv is not installed")
    import mlflow

    if not hasattr(mlflow.utils.env_manager, "UV"):
        pytest.skip("this MLflow has no environment manager uv")
    run_id = project.mlflow_run(str(project.folder))
    answer = project.reproduce(run_id, "--env-manager", "uv")
    assert answer.returncode in (0, 1), answer.stderr
    tags = project.reproduction_of(run_id).data.tags
    assert tags["repro.capture"] == "complete"
    assert tags["repro.env.digest"] != project.get(run_id).data.tags["repro.env.digest"]


def test_the_repository_is_itself_a_project(bench, tmp_path):
    """Its entry points ``main`` and ``reproduce``, by ``mlflow run``."""
    root = EXAMPLES.parent
    top = bench.repository.clone
    for name in ("MLproject", "conda.yaml", "python_env.yaml"):
        shutil.copy(root / name, top / name)
    shutil.copytree(EXAMPLES, top / "examples")
    bench.repository.commit({})
    run_id = bench.mlflow_run(str(top))
    before = set(bench.run_ids())
    answer = bench.run("mlflow", "run", str(top), "--env-manager", "local", "-e", "reproduce", "-P", f"run_id={run_id}")
    assert answer.returncode == 0, answer.stderr
    assert "Runs equal: True" in answer.stdout
    assert git("status", "--porcelain", cwd=top) == ""
    assert len(set(bench.run_ids()) - before) == 2
