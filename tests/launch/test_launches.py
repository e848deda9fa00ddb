"""Ways of starting a training that are none of the usual ones: each comes back, or says exactly why it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from conftest import expect_error, git, own_metrics

from mlflow_repro.launch.launcher import Job, Launcher
from mlflow_repro.system.folders import hold_folder
from mlflow_repro.system.processes import look_at

RUN = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('m', 1)\n"

LAUNCHER = """\
import os, subprocess, sys
ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "none"}
command = [sys.executable, "-u", *sys.argv[1:]]
raise SystemExit(subprocess.run(command, env={**os.environ, **ranks}).returncode)
"""


def test_script_with_positional_arguments_and_an_experiment_of_its_own(bench):
    """From the tracking store and the remote alone."""
    script = (
        "import sys, mlflow\n"
        "mlflow.set_experiment('mine')\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_metric('m', float(sys.argv[2]) * len(sys.argv[1]))\n"
    )
    bench.repository.commit({"ml/train.py": script})
    bench.client().create_experiment("mine", artifact_location=str(bench.root / "kept"))
    run_id = bench.train("ml/train.py", "two words", "0.5")
    shutil.rmtree(bench.repository.clone)
    answer = bench.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Note: the script's own set_experiment('mine') was overruled" in answer.stdout
    assert own_metrics(bench.reproduction_of(run_id)) == {"m": 4.5}


@pytest.mark.real_processes
def test_standard_input_and_a_prompt_are_recorded_and_refused(bench):
    """CAP-33: the run goes on; what was typed is nowhere, so that it cannot be started again."""
    bench.repository.commit({"train.py": RUN})
    for command in ("python - < train.py", "python -i < train.py"):
        before = set(bench.run_ids())
        answer = bench.run("bash", "-ec", command, cwd=bench.repository.clone)
        assert answer.returncode == 0, answer.stderr
        run_id = bench.new_run(before)
        tags = bench.get(run_id).data.tags
        assert (tags["repro.launch.kind"], tags["repro.capture"]) == ("interactive", "complete")
        expect_error(bench.reproduce(run_id), 3, "it was started at a prompt or from standard input")


@pytest.mark.real_processes
def test_worker_of_a_launcher_comes_back_as_the_script_that_it_is(bench):
    """CAP-33: as torchrun starts its workers. Its rank is recorded, and is not put back."""
    script = RUN + "    import os, sys\n    mlflow.set_tag('seen', f\"{os.environ.get('RANK')} {sys.argv[1:]}\")\n"
    bench.repository.commit({"train.py": script, "launcher.py": LAUNCHER})
    run_id = bench.train("launcher.py", "train.py", "--epochs", "2")
    assert bench.get(run_id).data.tags["seen"] == "0 ['--epochs', '2']"
    record = json.loads(bench.run("mlflow-repro", "show", run_id, "--format", "json").stdout)
    assert record["launch"]["launcher"] == ["torchrun"]
    assert record["launch"]["ranks"]["RANK"] == "0"
    answer = bench.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert bench.reproduction_of(run_id).data.tags["seen"] == "None ['--epochs', '2']"


def test_script_that_git_ignores_is_refused_with_its_reason(bench):
    """CAP-15: the commit is recorded, the script is not; a check says so at once."""
    bench.repository.commit({".gitignore": "mine/\n"})
    (bench.repository.clone / "mine").mkdir()
    (bench.repository.clone / "mine/train.py").write_text(RUN)
    run_id = bench.train("mine/train.py")
    tags = bench.get(run_id).data.tags
    assert tags["repro.git.script"] == "untracked"
    assert tags["repro.git.commit"] == git("rev-parse", "HEAD", cwd=bench.repository.clone)
    expect_error(bench.reproduce(run_id), 3, "the script 'mine/train.py' is not in", "it was not committed")
    checked = bench.run("mlflow-repro", "check", run_id)
    assert checked.returncode == 3, checked.stderr
    assert "git does not track 'mine/train.py', and it was not recorded" in checked.stdout


def test_runs_that_no_plugin_is_told_about(bench):
    """CAP-12: one of `MlflowClient.create_run` says so; once a program resumes it, it is recorded like any other."""
    bench.repository.commit({"train.py": RUN})
    run_id = bench.client().create_run("0").info.run_id
    bench.client().set_terminated(run_id)
    expect_error(bench.reproduce(run_id), 3, "it was made by MlflowClient.create_run or over REST")
    answer = bench.run_python("train.py", cwd=bench.repository.clone, MLFLOW_RUN_ID=run_id)
    assert answer.returncode == 0, answer.stderr
    answer = bench.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_a_launch_whose_own_process_died_goes_on_for_nobody(bench, tmp_path):
    """The kernel may kill it for its memory; the training would write into a run that was judged already."""
    pids = tmp_path / "pids"
    (tmp_path / "MLproject").write_text(
        f"entry_points:\n  main:\n    command: 'echo $$ > {pids}.part; mv {pids}.part {pids}; sleep 600; true'\n"
    )
    job = Job(
        directory=str(tmp_path),
        entry_point="main",
        parameters={},
        run_id=bench.client().create_run("0").info.run_id,
        experiment_id="0",
        tracking_uri=f"sqlite:///{bench.store}",
        storage_directory=str(tmp_path),
    )
    killed = []

    def kill_once() -> bool:
        if pids.exists() and not killed:
            killed.append(int(pids.read_text()))
            os.kill(look_at(killed[0]).session, signal.SIGKILL)  # the process that launches leads it
        return False

    with hold_folder(str(tmp_path)) as place, Launcher(place, session="s") as launcher:
        outcome = launcher.run(job, timeout=100, is_enough=kill_once)
        assert outcome.error == "the launching process died", outcome
        assert look_at(killed[0]) is not None
    left = look_at(killed[0])
    assert left is None or left.is_over
