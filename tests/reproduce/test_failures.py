"""What goes wrong during a reproduction: each is one clear line, its exit code, and nothing left half-made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from conftest import (
    TINY_MLPROJECT,
    TINY_TRAIN,
    expect_error,
    git,
    heed_interrupts,
    make_repository,
    make_workbench,
    own_metrics,
    put_before_git,
    statuses,
    tree_state,
)

from mlflow_repro.launch.launcher import _Log
from mlflow_repro.system.folders import sweep_folders

RUN = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('m', 1)\n"


def reference(bench, script: str, *, broken: str) -> str:
    """A run of ``script``, whose recorded commit is then replaced by one where the script is ``broken``."""
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py")
    set_commit(bench, run_id, bench.repository.commit({"train.py": broken}))
    return run_id


def set_commit(bench, run_id: str, commit: str) -> None:
    """Make it look as if the run had been made at another commit."""
    for tag in ("repro.git.commit", "mlflow.source.git.commit"):
        bench.client().set_tag(run_id, tag, commit)


def lose_record(bench, run_id: str) -> None:
    """As after a SIGKILL before it was written: the tags are all that there is."""
    artifacts = bench.get(run_id).info.artifact_uri.removeprefix("file://")
    shutil.rmtree(os.path.join(artifacts, "repro"))


CHILDREN = {
    "LCH-07 exit code": ("raise SystemExit(3)\n", 4, ("failed: exit code 3",), "FAILED"),
    "LCH-07 signal": ("import os\nos.kill(os.getpid(), 9)\n", 4, ("ended by signal 9",), "FAILED"),
    "LCH-07 exception": (RUN + "raise ValueError('boom 17')\n", 4, ("exit code 1",), "FAILED"),
    "LCH-08 failed run, exit code 0": (
        "import mlflow\nmlflow.start_run()\nmlflow.log_metric('m', 1)\nmlflow.end_run('FAILED')\n",
        4,
        ("ended itself FAILED",),
        "FAILED",
    ),
    "LCH-10 another store": (
        "import mlflow\nmlflow.tracking._tracking_service.utils.set_tracking_uri('sqlite:///other.db')\n" + RUN,
        4,
        ("sets a tracking URI of its own",),
        "FAILED",
    ),
    "LCH-12 logs nothing": ("print('hello')\n", 3, ("logged no metric",), "FINISHED"),
    "a package is missing": ("import nowhere_to_be_found\n", 4, ("lacks a package",), "FAILED"),
}


@pytest.mark.parametrize(("broken", "code", "words", "status"), CHILDREN.values(), ids=CHILDREN.keys())
def test_child_that_goes_wrong(bench, broken, code, words, status):
    """Never equal; the run is kept, named and closed."""
    run_id = reference(bench, RUN, broken=broken)
    line = expect_error(bench.reproduce(run_id), code, *words)
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.info.run_id in line
    assert reproduction.info.status == status
    if status == "FAILED":
        assert reproduction.data.tags["repro.error"]


def test_last_lines_of_a_failed_child_are_shown(bench):
    run_id = reference(bench, RUN, broken="print('so far so good')\nraise ValueError('boom 17')\n")
    answer = bench.reproduce(run_id)
    assert "  | so far so good" in answer.stderr
    assert "  | ValueError: boom 17" in answer.stderr


def test_endless_output_is_kept_by_its_end_only(monkeypatch):
    """LCH-21: gigabytes of output do not stay in memory; its last lines do."""
    monkeypatch.setattr("mlflow_repro.launch.launcher.LOG_LIMIT", 100_000)
    log = _Log()
    for number in range(40):
        log.add(b"x" * 5_000 + f" {number}\n".encode())
        log.add(b"y" * 40_000)
        assert sum(map(len, log._lines)) <= 100_000
        assert len(log._rest) <= 100_000
    log.add(b"the end\n")
    assert log.tail(2).splitlines()[-1].endswith("the end")


def test_parameter_that_the_script_logs_itself(tiny):
    """PAR-02: MLflow has logged it with quotes and fails the run; the reproduction's run has the value as it is."""
    script = TINY_TRAIN + "    mlflow.log_param('text', arguments.text)\n"
    tiny.repository.commit({"ml/tiny/train.py": script})
    before = set(tiny.run_ids())
    with pytest.raises(SystemExit):
        tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=a b")
    run_id = tiny.new_run(before)
    assert tiny.get(run_id).info.status == "FAILED"
    answer = tiny.reproduce(run_id, "--allow-failed")
    assert answer.returncode == 1, answer.stderr  # another status, which is said; the metrics are equal
    reproduction = tiny.reproduction_of(run_id)
    assert reproduction.info.status == "FINISHED"
    assert reproduction.data.params["text"] == "a b"
    assert own_metrics(reproduction) == tiny.get(run_id).data.metrics


def test_secrets_in_the_childs_output_are_not_shown(bench):
    broken = "print('url https://me:hunter22@host/x token=hunter22 ghp_' + 'a' * 36)\nraise SystemExit(1)\n"
    answer = bench.reproduce(reference(bench, RUN, broken=broken))
    assert "[redacted]" in answer.stderr
    assert "hunter22" not in answer.stderr
    assert "ghp_aaaa" not in answer.stderr


def test_failure_as_json(bench):
    run_id = reference(bench, RUN, broken="raise SystemExit(3)\n")
    answer = bench.reproduce(run_id, "--format", "json")
    assert answer.returncode == 4
    plain = json.loads(answer.stdout)
    assert plain["exit_code"] == 4
    assert plain["error"]["run_id"] == bench.reproduction_of(run_id).info.run_id
    assert plain["comparison"] is None


def test_timeout_ends_the_run(bench):
    """LCH-06."""
    run_id = reference(bench, RUN, broken=RUN + "import time\ntime.sleep(300)\n")
    started = time.monotonic()
    line = expect_error(bench.reproduce(run_id, "--timeout", "5"), 4, "took longer than 5 s")
    assert time.monotonic() - started < 60
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.info.run_id in line
    assert reproduction.info.status == "KILLED"


STUBBORN = """\
import os, pathlib, signal, subprocess, sys, time
import mlflow
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
mlflow.start_run()
mlflow.log_metric("m", 1)
pathlib.Path(os.environ["PIDS"]).write_text(f"{os.getpid()} {grandchild.pid}")
time.sleep(300)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
    ids=["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"],
)
def test_signal_ends_the_whole_tree_and_marks_the_run(bench, tmp_path, number, code):
    """Also when the child ignores signals (LCH-01 to LCH-05), and when the tool itself is killed.

    The tool and all that it starts are real processes; the reference alone is not.
    """
    run_id = reference(bench, RUN, broken=STUBBORN)
    pids, work = tmp_path / "pids", tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "mlflow_repro.reproduce", "--run_id", run_id, "--work-dir", str(work)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{bench.store}", "PIDS": str(pids)}
    tool = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509
    )
    deadline = time.monotonic() + 60
    while not (pids.exists() and pids.read_text()):
        assert time.monotonic() < deadline, tool.communicate(timeout=1)
        time.sleep(0.1)
    tool.send_signal(number)
    _, stderr = tool.communicate(timeout=60)
    assert tool.returncode == code, stderr
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 20
    while any(runs(int(pid)) for pid in pids.read_text().split()):
        assert time.monotonic() < deadline, "the child or its child outlived the tool"
        time.sleep(0.1)
    if number == signal.SIGKILL:  # the launching process, which lives a moment longer, closes the run
        wait_until_swept(work)
    assert list(work.iterdir()) == []
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.info.status == "KILLED"
    assert reproduction.data.tags["repro.error"]


def test_killed_before_the_launch_it_leaves_nothing_that_matters(bench):
    """While the code is fetched, checked out and put back: no run, nothing locked; the next one works and clears up."""
    clone, work = bench.repository.clone, bench.root / "work"
    bench.repository.commit({"train.py": RUN})
    (clone / "train.py").write_text(RUN.replace("'m', 1", "'m', 2"))
    run_id = bench.train("train.py")
    work.mkdir()
    before = tree_state(clone)
    for number, command in enumerate(("fetch", "checkout", "apply")):
        killer = f'case " $* " in *" {command} "*) kill -9 $PPID; exit 1;; esac'
        path = os.pathsep.join([bench.preloaded.folder(), put_before_git(bench.root / f"bin{number}", killer)])
        answer = bench.reproduce_outside(run_id, "--work-dir", str(work), PATH=path)
        assert (answer.returncode, answer.stdout, answer.stderr) == (-signal.SIGKILL, "", "")
        assert len(list(work.iterdir())) >= 1
    assert statuses(bench, run_id) == []
    answer = bench.reproduce(run_id, "--work-dir", str(work))
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Note" not in answer.stdout
    wait_until_swept(work)
    assert tree_state(clone) == before


KILL_WHEN = """\
import os, signal, sys
from mlflow_repro.launch import launcher
from mlflow_repro.cli import main
def kill(whole):
    def ended(self, *arguments, **options):
        if whole:
            os.killpg(self._process.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    return ended
moment, whole = sys.argv[1].split("+")
setattr(launcher.Launcher, {"made": "run", "sent": "_pump"}[moment], kill(whole))
main(["reproduce", "--run_id", sys.argv[2], "--work-dir", sys.argv[3]])
"""


@pytest.mark.parametrize(
    "moment", ["made+", "sent+worker", *(pytest.param(one, marks=pytest.mark.slow) for one in ("sent+", "made+worker"))]
)
def test_killed_when_its_run_was_just_made(bench, moment):
    """Before the job is handed over, and after it; the launching process lives on, or dies with it."""
    work, mark = bench.root / "work", bench.root / "trained"
    work.mkdir()
    run_id = reference(bench, RUN, broken=RUN + f"open({str(mark)!r}, 'w').close()\n")
    command = (sys.executable, "-c", KILL_WHEN, moment, run_id, str(work))
    answer = bench.run(*command, PATH=os.environ["PATH"])
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    if moment.endswith("worker"):
        assert bench.reproduction_of(run_id).info.status == "RUNNING"
        assert bench.reproduce(run_id, "--work-dir", str(work)).returncode in (0, 1)
        killed = [run for run in map(bench.get, bench.run_ids()) if "repro.error" in run.data.tags]
        (reproduction,) = killed
    else:
        wait_until_swept(work)
        reproduction = bench.reproduction_of(run_id)
        assert not mark.exists()
    assert reproduction.info.status == "KILLED"
    assert reproduction.data.tags["repro.error"] == "the reproducing process ended before its run did"
    assert list(work.iterdir()) == []


def wait_until_swept(work) -> None:
    """Sweep, as each reproduction does at its start, until the launching process of the dead tool has ended, too."""
    deadline = time.monotonic() + 60
    while list(work.iterdir()):
        assert time.monotonic() < deadline, list(work.rglob("*"))[:20]
        sweep_folders(str(work))
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether the process is there and not merely waiting for somebody to fetch its exit code."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_commit_that_was_never_pushed_nor_recorded(tiny):
    """The hint says what helps, and it does."""
    commit = tiny.repository.commit({"new.txt": "x"}, push=False)
    run_id = tiny.train("train.py", cwd=tiny.repository.clone / "ml/tiny")
    assert tiny.get(run_id).data.tags["repro.git.commit"] == commit
    lose_record(tiny, run_id)
    expect_error(tiny.reproduce(run_id), 3, "push it, or pass --uri")
    assert tiny.reproduce(run_id, "--uri", str(tiny.repository.clone)).returncode == 0


@pytest.fixture
def refused(trained_once):
    """A workbench and its one run, for the tests in which no other is made: where nothing is launched."""
    bench, run_id, commit = trained_once
    set_commit(bench, run_id, commit)
    return bench, run_id


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, empty_store, preloaded):
    root = tmp_path_factory.mktemp("refused")
    bench = make_workbench(root, empty_store, make_repository(root), preloaded)
    commit = bench.repository.commit({"ml/tiny/MLproject": TINY_MLPROJECT, "ml/tiny/train.py": TINY_TRAIN})
    return bench, bench.mlflow_run(str(bench.repository.clone / "ml/tiny")), commit


def test_commit_that_is_not_in_the_repository(refused):
    tiny, run_id = refused
    set_commit(tiny, run_id, "d" * 40)
    expect_error(tiny.reproduce(run_id), 3, "commit dddddddddddd is not in", "pass --uri")
    assert statuses(tiny, run_id) == []


PROJECTS = {
    "LCH-13 empty": ("", 3, "the MLproject file is not valid: it is empty"),
    "LCH-13 list": ("- a\n", 3, "is not a mapping"),
    "LCH-13 no command": ("entry_points:\n  main:\n    parameters: {a: string}\n", 3, "has no command"),
    "LCH-13 entry point null": ("entry_points:\n  main:\n", 3, "has no command"),
    "LCH-13 stray brace": ("entry_points:\n  main: {command: 'python train.py {'}\n", 3, "stray brace"),
    "LCH-13 undeclared": ("entry_points:\n  main: {command: 'python t.py {x}'}\n", 3, "does not declare"),
    "LCH-14 python object": ("!!python/object:os.system {}\n", 3, "the MLproject file is not valid"),
    "LCH-15 entry point gone": ("entry_points:\n  other: {command: 'true'}\n", 2, "no entry point 'main'"),
    "missing parameter": (
        "entry_points:\n  main:\n    parameters: {must: string}\n    command: 'echo {must}'\n",
        2,
        "-P must=VALUE",
    ),
}


@pytest.mark.parametrize(("project", "code", "words"), PROJECTS.values(), ids=PROJECTS.keys())
def test_project_that_cannot_be_launched_is_refused_before_a_run_is_made(refused, project, code, words):
    tiny, run_id = refused
    set_commit(tiny, run_id, tiny.repository.commit({"ml/tiny/MLproject": project}))
    expect_error(tiny.reproduce(run_id), code, words)
    assert statuses(tiny, run_id) == []


def test_docker_that_is_not_installed_is_refused_before_a_run_is_made(refused, tmp_path, monkeypatch):
    """LCH-22."""
    tiny, run_id = refused
    project = TINY_MLPROJECT + "docker_env: {image: x}\n"
    set_commit(tiny, run_id, tiny.repository.commit({"ml/tiny/MLproject": project}))
    for tool in ("git", "bash", "python"):
        (tmp_path / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(tmp_path))
    expect_error(tiny.reproduce(run_id), 3, "needs docker")
    assert statuses(tiny, run_id) == []


def test_conda_that_is_not_installed_is_refused_before_a_run_is_made(refused):
    tiny, run_id = refused
    expect_error(tiny.reproduce(run_id, "--env-manager", "conda"), 3, "needs conda, which is not installed")
    assert statuses(tiny, run_id) == []


def test_no_mlproject_and_no_known_script(refused):
    """URI-10, and a folder that holds no project."""
    tiny, run_id = refused
    hub = tiny.repository.hub
    expect_error(tiny.reproduce(run_id, "--uri", f"{hub}#ml"), 3, "has no MLproject file")
    expect_error(tiny.reproduce(run_id, "--uri", f"{hub}#ml/none"), 2, "has no folder 'ml/none'")
    expect_error(tiny.reproduce(run_id, "--uri", f"{hub}#../x"), 6, "leaves the repository")
    expect_error(tiny.reproduce(run_id, "--uri", f"{hub}#/etc"), 6, "is absolute")
    assert statuses(tiny, run_id) == []


def test_script_that_was_neither_committed_nor_recorded(bench):
    bench.repository.commit({"README": "x"})
    (bench.repository.clone / "train.py").write_text(RUN)
    run_id = bench.train("train.py")
    lose_record(bench, run_id)
    line = expect_error(bench.reproduce(run_id), 3, "the script 'train.py' is not in")
    assert "it was not committed" in line


def test_run_started_at_no_script_says_why(bench):
    bench.repository.commit({"README": "x"})
    run_id = bench.train("-c", RUN)
    expect_error(bench.reproduce(run_id), 3, "started by python -c")


def test_path_parameter_of_another_place(tiny):
    """PAR-10: data that is not there is missed before the launch; a file of the project is found in the checkout."""
    project = "entry_points:\n  main:\n    parameters: {data: path}\n    command: 'python read.py {data}'\n"
    script = "import sys, mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', len(open(sys.argv[1]).read()))\n"
    tiny.repository.commit({"p/MLproject": project, "p/read.py": script, "p/data.csv": "1,2\n"})
    outside = tiny.root / "data.csv"
    outside.write_text("1,2,3\n")
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "p"), "-P", f"data={outside}")
    assert tiny.reproduce(run_id).returncode == 0
    outside.unlink()
    expect_error(tiny.reproduce(run_id), 3, "which is not there", "-P data=PATH")
    answer = tiny.reproduce(run_id, "-P", "data=data.csv")
    assert answer.returncode == 1, answer.stderr


def test_experiment_is_created_when_missing_and_refused_when_deleted(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    assert tiny.reproduce(run_id, "--experiment_name", "new one").returncode == 0
    experiment = tiny.client().get_experiment_by_name("new one")
    assert tiny.reproduction_of(run_id).info.experiment_id == experiment.experiment_id
    tiny.client().delete_experiment(experiment.experiment_id)
    expect_error(tiny.reproduce(run_id, "--experiment_name", "new one"), 3, "experiment 'new one' is deleted")


def test_relative_sqlite_uri_means_the_callers_directory(tiny):
    """TRK-03: the child, which has another working directory, uses the same store."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id, "--tracking_uri", "sqlite:///../mlflow.db")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


def test_started_inside_an_active_run_it_is_not_taken_for_its_child(tiny):
    """LCH-16: the variables of a surrounding ``mlflow run`` do not reach the relaunch."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id, MLFLOW_RUN_ID=run_id, MLFLOW_EXPERIMENT_NAME="nonsense")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


def test_resume_judges_what_has_run_already(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    first = tiny.reproduce(run_id)
    runs = tiny.run_ids()
    second = tiny.reproduce(run_id, "--resume", tiny.reproduction_of(run_id).info.run_id)
    assert (second.returncode, second.stdout) == (0, first.stdout)
    plain = tiny.reproduce(run_id, "--resume", tiny.reproduction_of(run_id).info.run_id, "--format", "json").stdout
    assert json.loads(plain)["plan"]["environment"]["kind"] == ""  # nobody knows any more
    assert tiny.run_ids() == runs
    expect_error(tiny.reproduce(run_id, "--resume", run_id), 2, "is not a reproduction of")


def test_work_directory_that_cannot_be_written(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    expect_error(tiny.reproduce(run_id, "--work-dir", "/nowhere/at/all"), 3, "--work-dir DIRECTORY")


@pytest.mark.real_processes
def test_names_in_the_working_directory_do_not_become_ours(tiny):
    """CLI-10: ``python -m`` from a folder that holds a ``random.py``."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    (tiny.elsewhere() / "random.py").write_text("raise SystemExit('the wrong random')\n")
    (tiny.elsewhere() / "mlflow.py").write_text("raise SystemExit('the wrong mlflow')\n")
    answer = tiny.reproduce_outside(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


def test_closed_output_ends_quietly(tiny):
    """CLI-05."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.run(
        "bash", "-c", f"python -m mlflow_repro.reproduce --run_id {run_id} --dry-run -q | true; echo ${{PIPESTATUS[0]}}"
    )
    assert answer.stdout.strip() in ("141", "0")
    assert answer.stderr == ""


def test_submodules_are_left_out_and_said(tiny):
    """URI-15."""
    other = tiny.root / "other"
    git("-c", "init.defaultBranch=main", "init", "--quiet", str(other), cwd=tiny.root)
    (other / "x").write_text("x")
    git("add", "x", cwd=other)
    git("commit", "--quiet", "-m", "x", cwd=other)
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "sub")
    git(*add, cwd=tiny.repository.clone)
    tiny.repository.commit({})
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id)
    assert answer.returncode == 0, answer.stderr
    assert "Note: the repository has submodules" in answer.stdout
    assert tiny.reproduce(run_id, "--recurse-submodules").stdout.count("submodules") == 0
