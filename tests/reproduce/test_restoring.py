"""The recorded working tree comes back: unpushed commits, staged and unstaged changes, new files, submodules."""

from __future__ import annotations

import json
import shutil

import pytest
from conftest import git

from mlflow_repro.text.variables import choose_variables

TOKEN = "ghp_" + "a1B2" * 9

# Everything that makes the metric lies outside the pushed commit.
MODULE = """\
import pathlib, sys
import mlflow
import numpy as np
from deep import unpushed, staged, unstaged, untracked

with mlflow.start_run():
    mlflow.log_metric("code", unpushed.N + staged.N + unstaged.N + untracked.N)
    mlflow.log_metric("binary", len(pathlib.Path("deep/weights.bin").read_bytes()))
    mlflow.log_metric("draw", np.random.default_rng().random())
    mlflow.log_metric("arguments", len(sys.argv))
"""


def make_dirty(bench) -> None:
    """A pushed commit, one that is not, and every kind of change on top."""
    clone = bench.repository.clone
    bench.repository.commit({"deep/__init__.py": "", "deep/staged.py": "N = 0\n", "deep/unstaged.py": "N = 0\n"})
    (clone / "deep/weights.bin").write_bytes(bytes(range(256)))
    bench.repository.commit({"deep/train.py": MODULE, "deep/unpushed.py": "N = 1\n"}, push=False)
    (clone / "deep/staged.py").write_text("N = 10\n")
    git("add", "deep/staged.py", cwd=clone)
    (clone / "deep/unstaged.py").write_text("N = 100\n")
    (clone / "deep/weights.bin").write_bytes(bytes(range(256)) * 3)
    (clone / "deep/untracked.py").write_text("N = 1000\n")


def record_of(bench, run_id: str) -> dict:
    path = bench.client().download_artifacts(run_id, "repro/record.json")
    with open(path, encoding="utf-8") as file:
        return json.load(file)


@pytest.mark.real_processes
def test_dirty_and_unpushed_tree_comes_back_from_the_store_and_the_remote(bench):
    """The user's clone is gone. The reproduction ran in the same tree, by git's hash, and can be reproduced itself."""
    make_dirty(bench)
    run_id = bench.train("-m", "deep.train", "a", "b")
    assert bench.get(run_id).data.metrics["code"] == 1111
    shutil.rmtree(bench.repository.clone)
    answer = bench.reproduce(run_id, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Note" not in answer.stdout
    again = bench.reproduction_of(run_id).info.run_id
    trees = {record_of(bench, one)["code"]["tree"] for one in (run_id, again)}
    assert len(trees) == 1
    answer = bench.reproduce(again, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_repository_that_was_never_pushed_comes_back_from_the_store_alone(bench):
    """Also by the commands that a dry run prints."""
    make_dirty(bench)
    git("remote", "remove", "origin", cwd=bench.repository.clone)
    run_id = bench.train("-m", "deep.train")
    runs = set(bench.run_ids())
    plan = bench.reproduce(run_id, "--dry-run").stdout
    typed = bench.run("bash", "-ec", plan.partition("The same by hand:\n")[2], cwd=bench.elsewhere())
    assert typed.returncode == 0, typed.stderr
    assert bench.get(bench.new_run(runs)).data.metrics == bench.get(run_id).data.metrics
    shutil.rmtree(bench.repository.clone)
    shutil.rmtree(bench.repository.hub)
    answer = bench.reproduce(run_id, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_changes_that_were_not_recorded_are_an_obstacle_unless_ignored(bench):
    """DIF-12: a patch with a secret is withheld; what is run without it says so."""
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    (bench.repository.clone / "train.py").write_text(f"{script}token = '{TOKEN}'\n")
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id, "--quiet")
    assert answer.returncode == 3
    assert answer.stderr == (
        "error: the uncommitted changes were not recorded: the changes of 'train.py' hold a secret"
        " (commit it and run again, or go on without it: --ignore-diff)\n"
    )
    answer = bench.reproduce(run_id, "--ignore-diff")
    assert answer.returncode == 0, answer.stderr
    assert "Note: the uncommitted changes are left out (--ignore-diff)" in answer.stdout


def test_damaged_patch_is_found_before_anything_runs(bench):
    """DIF-08."""
    make_dirty(bench)
    run_id = bench.train("-m", "deep.train")
    patch = bench.root / "changes.patch"
    patch.write_text("diff --git a/x b/x\n")
    bench.client().log_artifact(run_id, str(patch), "repro/code")
    answer = bench.reproduce(run_id)
    assert (answer.returncode, answer.stdout) == (3, "")
    assert "repro/code/changes.patch is not the one that was recorded" in answer.stderr
    assert len(bench.run_ids()) == 1


def test_files_that_were_left_out_are_named(bench):
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    (bench.repository.clone / ".env").write_text("PASSWORD=x\n")
    (bench.repository.clone / "big.csv").write_text("1,2,3\n" * 300_000)
    answer = bench.reproduce(bench.train("train.py"))
    assert answer.returncode == 0, answer.stderr
    (note,) = [line for line in answer.stdout.splitlines() if line.startswith("Note")]
    assert "files of the tree that were not recorded are missing" in note
    assert "big.csv: more than 1 MB" in note
    assert ".env: " in note


def test_store_in_the_working_directory_is_no_change(bench):
    """MLflow's default: a database and a folder where the script was started, in nobody's .gitignore."""
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"sub/train.py": script})
    bench.tracking_uri = f"sqlite:///{bench.repository.clone}/sub/mlflow.db"
    shutil.copy(bench.store, bench.repository.clone / "sub/mlflow.db")
    (bench.repository.clone / "sub/mlruns/1").mkdir(parents=True)
    (bench.repository.clone / "sub/mlruns/1/meta.yaml").write_text("x")
    run_id = bench.train("train.py", cwd=bench.repository.clone / "sub")
    assert bench.get(run_id).data.tags["repro.git.dirty"] == "false"
    code = record_of(bench, run_id)["code"]
    assert (code["is_clean"], code["left_out"], "absent" in code["untracked"]) == (True, [], True)


SUBMODULE = """\
import mlflow
from sub import pushed, unpushed, changed, untracked
with mlflow.start_run(): mlflow.log_metric("m", pushed.N + unpushed.N + changed.N + untracked.N)
"""


@pytest.mark.parametrize("is_pushed", [True, False], ids=["pushed", "never pushed"])
def test_submodule_with_commits_and_changes_of_its_own(bench, is_pushed):
    inner = bench.root / "inner"
    git("-c", "init.defaultBranch=main", "init", "--quiet", str(inner), cwd=bench.root)
    bench.repository.commit({"train.py": SUBMODULE})

    def commit_inner(place, files):
        for name, text in files.items():
            (place / name).write_text(text)
        git("add", ".", cwd=place)
        git("commit", "--quiet", "-m", "inner", cwd=place)

    commit_inner(inner, {"__init__.py": "", "pushed.py": "N = 1\n", "changed.py": "N = 0\n"})
    clone = bench.repository.clone
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub", cwd=clone)
    if not is_pushed:
        git("remote", "remove", "origin", cwd=clone / "sub")
    commit_inner(clone / "sub", {"unpushed.py": "N = 10\n"})
    bench.repository.commit({"more": "x"})
    (clone / "sub/changed.py").write_text("N = 100\n")
    (clone / "sub/untracked.py").write_text("N = 1000\n")
    run_id = bench.train("train.py")
    assert bench.get(run_id).data.metrics == {"m": 1111.0}
    shutil.rmtree(clone)
    if not is_pushed:
        shutil.rmtree(inner)
    answer = bench.reproduce(run_id, "--recurse-submodules")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_variables_that_influence_results_are_put_back(bench):
    """Set as they were, and taken away where they were not set; not those that are about one machine."""
    script = (
        "import os, mlflow\n"
        "names = ('OMP_NUM_THREADS', 'PYTHONHASHSEED', 'TZ', 'NVIDIA_TF32_OVERRIDE', 'CUDA_VISIBLE_DEVICES')\n"
        "with mlflow.start_run():\n"
        "    mlflow.set_tag('seen', str([os.environ.get(name) for name in names]))\n"
        "    mlflow.log_metric('hash', hash('a') % 1000)\n"
    )
    bench.repository.commit({"train.py": script})
    given = {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "7", "CUDA_VISIBLE_DEVICES": "3"}
    run_id = bench.train("train.py", **given)
    here = {"OMP_NUM_THREADS": "1", "TZ": "Asia/Tokyo", "NVIDIA_TF32_OVERRIDE": "0", "CUDA_VISIBLE_DEVICES": "0"}
    answer = bench.reproduce(run_id, **here)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    seen = bench.reproduction_of(run_id).data.tags["seen"]
    assert seen == "['2', '7', None, None, '0']"


def test_what_was_not_recorded_whole_is_not_put_back():
    recorded = {"XLA_FLAGS": "[omitted: 9999 characters]", "OMP_NUM_THREADS": "1", "LD_PRELOAD": "/x.so"}
    environ = {"XLA_FLAGS": "here", "HOME": "/home", "OMP_NUM_THREADS": "1", "LD_LIBRARY_PATH": "/lib"}
    assert choose_variables(recorded, environ) == {}
    assert choose_variables({}, environ) == {"OMP_NUM_THREADS": None, "XLA_FLAGS": None}
