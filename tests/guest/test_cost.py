"""What a run costs: requests of its server, bytes in its store, and work on the thread that starts it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from uuid import uuid4
from zipfile import ZipFile

import pytest
from conftest import git
from faulty_proxy import serve_faults

from mlflow_repro.code.git import GitError, describe_worktree
from mlflow_repro.code.head import read_head
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.store.recorded import read_recorded, save_recorded
from mlflow_repro.store.store import TrackingStore

ONE_RUN = """\
import mlflow, time
with mlflow.start_run():
    mlflow.log_param("p", 1)
    mlflow.log_metric("m", 0.5)
    time.sleep({pause})
"""
SWEEP = """\
import mlflow
with mlflow.start_run():
    for trial in range(3):
        with mlflow.start_run(nested=True):
            mlflow.log_param("trial", trial)
            mlflow.log_metric("m", trial / 3)
"""
MOST = 4
"""Requests that a run makes more than without the plugin."""


@pytest.fixture
def counted(bench, tracking_server):
    """Runs a script with a server behind a proxy; the requests that it made, with or without the plugin."""
    with serve_faults(tracking_server) as proxy:
        bench.tracking_uri = proxy.url
        bench.environment["MLFLOW_EXPERIMENT_NAME"] = f"counted {uuid4().hex}"  # artifacts go to the server, too
        bench.client().create_experiment(bench.environment["MLFLOW_EXPERIMENT_NAME"])

        def count(script: str, **variables: str) -> list[str]:
            bench.repository.commit({"train.py": script})
            seen: list[str] = []
            proxy.is_faulty = lambda path, _body: bool(seen.append(path.partition("?")[0]))  # none fails
            answer = bench.run_python("train.py", cwd=bench.repository.clone, **variables)
            assert answer.returncode == 0, answer.stderr
            assert "mlflow-repro" not in answer.stderr
            proxy.is_faulty = lambda _path, _body: False
            return seen

        yield count


@pytest.mark.parametrize(
    ("script", "runs"),
    [(ONE_RUN.format(pause=0), 1), (ONE_RUN.format(pause=3), 1), (SWEEP, 4)],
    ids=["short", "long", "sweep"],
)
def test_requests_of_a_run(counted, bench, script, runs):
    """However long it takes: what the plugin writes before and after a run's end is not written twice."""
    patient = "from mlflow_repro.guest import recording\nrecording._REMOTE_EXIT_SECONDS = 100.0\n"
    bare = counted(script, MLFLOW_REPRO_DISABLE="1")
    seen = counted(f"{patient}{script}")
    assert bench.get(bench.run_ids()[0]).data.tags["repro.capture"] == "complete"
    assert sum("/repro/" in path for path in seen) == 2 * runs, "\n".join(seen)
    assert len(seen) - len(bare) <= MOST * runs, "\n".join(seen)


def artifacts(bench, run_id: str) -> Path:
    return Path(bench.get(run_id).info.artifact_uri.removeprefix("file://"))


@pytest.fixture
def sweep(bench) -> tuple[str, list[str]]:
    """A run and its trials, made by a working tree with changes and a new file."""
    bench.repository.commit({"train.py": SWEEP})
    (bench.repository.clone / "train.py").write_text(f"{SWEEP}# changed\n")
    (bench.repository.clone / "new.txt").write_text("new\n")
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    runs = sorted(map(bench.get, bench.run_ids()), key=lambda run: int(run.data.tags["repro.launch.run_index"]))
    assert [run.data.tags["repro.capture"] for run in runs] == ["complete"] * 4
    first, *trials = [run.info.run_id for run in runs]
    return first, trials


COMMON = {"code/changes.patch", "code/untracked.tar", "environment/requirements.lock"}


def test_files_of_a_process_are_stored_once(bench, sweep):
    first, trials = sweep
    contents = {}
    for run_id in (first, *trials):
        with ZipFile(artifacts(bench, run_id) / "repro/start.zip") as archive:
            contents[run_id] = set(archive.namelist())
        assert {path.name for path in (artifacts(bench, run_id) / "repro").iterdir()} == {"start.zip", "record.json"}
    assert contents[first] >= COMMON
    assert all(not COMMON & contents[run_id] for run_id in trials)
    own, other = (json.loads(bench.recorded(run_id, "record.json")) for run_id in (first, trials[0]))
    for facts, same in zip(files_of(other), files_of(own), strict=True):
        assert {**facts, "run_id": "-"} == {**same, "run_id": "-"}
        assert (facts["run_id"], "run_id" in same) == (first, False)


def files_of(record: dict) -> list[dict]:
    return [record["code"]["patch"], record["code"]["untracked"], *record["environment"]["locks"]]


def test_a_trial_has_the_files_of_its_process(bench, sweep):
    """What its record names is had from the first run, and from nobody once that one is gone for good."""
    first, trials = sweep
    store = TrackingStore(f"sqlite:///{bench.store}")
    saved = {}
    for run_id in (first, trials[1]):
        paths = save_recorded(store, run_id, store.read_own_record(run_id), bench.root / run_id)
        saved[run_id] = {str(path.relative_to(bench.root / run_id / "repro")): path.read_bytes() for path in paths}
    assert saved[trials[1]].keys() >= {*COMMON, "record.json", "random_state.json"}
    assert all(saved[first][path] == saved[trials[1]][path] for path in COMMON)
    plan = bench.reproduce(trials[1], "--dry-run")
    assert plan.returncode == 0, plan.stderr
    bench.client().delete_run(first)
    patch = store.read_own_record(trials[1]).code.patch
    assert read_recorded(store, trials[1], patch) == saved[first]["code/changes.patch"]
    bench.client()._tracking_client.store._hard_delete_run(first)
    store = TrackingStore(f"sqlite:///{bench.store}")
    with pytest.raises(CannotJudgeError, match=f"the files are with run {first}, which is deleted"):
        read_recorded(store, trials[1], patch)


def test_a_record_of_the_first_form_is_read(bench, sweep):
    """Each file by itself beside the record, which says no more of it than its name."""
    first, _ = sweep
    store = TrackingStore(f"sqlite:///{bench.store}")
    save_recorded(store, first, store.read_own_record(first), bench.root / "old")
    plain = json.loads((bench.root / "old/repro/record.json").read_bytes())
    for lock in plain["environment"]["locks"]:
        del lock["sha256"], lock["size"]
    (bench.root / "old/repro/record.json").write_text(json.dumps({**plain, "schema": 1}))
    run_id = bench.client().create_run("0", tags=bench.get(first).data.tags).info.run_id
    bench.client().log_artifacts(run_id, str(bench.root / "old"))
    bench.client().set_terminated(run_id)
    answer = bench.reproduce(run_id, "--env", "recorded", "--dry-run", "--format", "json")
    assert answer.returncode == 0, answer.stderr
    plan = json.loads(answer.stdout)["plan"]
    assert plan["restores"] == ["repro/code/changes.patch", "repro/code/untracked.tar", "repro/random_state.json"]
    assert plan["environment"]["packages"] > 20


def test_archive_that_is_none(bench, sweep):
    first, _ = sweep
    store = TrackingStore(f"sqlite:///{bench.store}")
    for content in (b"", b"PK\3\4 no archive", (artifacts(bench, first) / "repro/start.zip").read_bytes()[:-40]):
        (artifacts(bench, first) / "repro/start.zip").write_bytes(content)
        store = TrackingStore(f"sqlite:///{bench.store}")
        with pytest.raises(CannotJudgeError, match=r"start\.zip cannot be read"):
            store.read_file(first, "repro/code/changes.patch")


KILLED = """\
import os, signal, sys, time, mlflow
mlflow.start_run()
while not os.path.exists(sys.argv[1]): time.sleep(0.05)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_has_is_enough(bench):
    """Its archive holds its record: the tool takes from there what its tags do not say yet."""
    bench.repository.commit({"train.py": KILLED})
    (bench.repository.clone / "train.py").write_text(f"{KILLED}# changed\n")
    mark = bench.root / "go"
    program = subprocess.Popen(
        ["python", "train.py", str(mark)], cwd=bench.repository.clone, env=bench.variables(), stderr=subprocess.PIPE
    )
    (run_id,) = wait_for(bench.run_ids)
    wait_for((artifacts(bench, run_id) / "repro/start.zip").exists)
    mark.touch()
    program.communicate(timeout=100)
    bench.client().set_terminated(run_id, "KILLED")
    record = json.loads(bench.recorded(run_id, "record.json"))
    assert record["complete"] is False
    assert record["code"]["dirty"] is True
    tags = bench.get(run_id).data.tags
    assert not [name for name in tags if name.startswith("repro.env.")]  # these are in the record, and cost a start
    assert tags["repro.git.commit"] == record["code"]["commit"]
    assert tags["repro.git.uri"] == record["code"]["uri"]
    answer = bench.reproduce(run_id, "--dry-run", "--allow-failed")
    assert answer.returncode == 0, answer.stderr
    assert "repro/code/changes.patch" in answer.stdout


def wait_for(find):
    deadline = time.monotonic() + 100
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


WATCHED = """\
import sys, threading, traceback
import mlflow
seen, here = [], threading.get_ident()
HEAVY = ("subprocess.Popen", "os.fork", "os.posix_spawn", "os.system", "os.listdir", "os.scandir")
def watch(event, _):
    if event in HEAVY and threading.get_ident() == here:
        files = [frame.filename for frame in traceback.extract_stack()][:-1]
        if any("mlflow_repro" in file for file in files) and "importlib" not in files[-1]:
            seen.append(f"{event} {files[-1]}")
sys.addaudithook(watch)
for number in range(2):
    mlflow.start_run()
    mlflow.log_metric("m", 1)
    mlflow.end_run()
print(*seen)
"""


def test_the_callers_thread_starts_nothing_and_lists_nothing(bench):
    bench.is_quick = False
    bench.repository.commit({"train.py": WATCHED})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert (answer.returncode, answer.stdout) == (0, "\n"), answer.stderr
    assert [bench.get(run_id).data.tags["repro.git.dirty"] for run_id in bench.run_ids()] == ["false"] * 2


def prepare_plain(clone: Path) -> None:
    assert (clone / "a/b").is_dir()


def prepare_packed(clone: Path) -> None:
    git("pack-refs", "--all", cwd=clone)


def prepare_detached(clone: Path) -> None:
    git("checkout", "--quiet", "--detach", cwd=clone)


def prepare_branch(clone: Path) -> None:
    git("checkout", "--quiet", "-b", "feature/x", cwd=clone)
    git("remote", "add", "second", "https://me:secret@git.example.invalid/two.git", cwd=clone)
    git("config", "branch.feature/x.remote", "second", cwd=clone)


def prepare_worktree(clone: Path) -> None:
    git("worktree", "add", "--quiet", "-b", "aside", "../aside", cwd=clone)
    clone.rename(clone.parent / "gone")
    (clone.parent / "gone").rename(clone)


def prepare_no_remote(clone: Path) -> None:
    git("remote", "remove", "origin", cwd=clone)


def prepare_include(clone: Path) -> None:
    (clone / "../more").write_text('[remote "origin"]\n\turl = https://git.example.invalid/other.git\n')
    git("config", "--unset", "remote.origin.url", cwd=clone)
    git("config", "include.path", str(clone / "../more"), cwd=clone)


def prepare_quoted(clone: Path) -> None:
    git("config", "remote.origin.url", 'https://git.example.invalid/"a b";#.git', cwd=clone)


def prepare_two_urls(clone: Path) -> None:
    git("config", "--add", "remote.origin.url", "https://git.example.invalid/second.git", cwd=clone)


def prepare_broken(clone: Path) -> None:
    (clone / ".git/HEAD").write_bytes(b"\xff\0\n")


def prepare_unborn(clone: Path) -> None:
    git("checkout", "--quiet", "--orphan", "empty", cwd=clone)


def prepare_none(clone: Path) -> None:
    (clone / ".git").rename(clone / "git")


@pytest.mark.parametrize(
    ("prepare", "is_told"),
    [
        (prepare_plain, True),
        (prepare_packed, True),
        (prepare_detached, True),
        (prepare_branch, True),
        (prepare_worktree, True),
        (prepare_no_remote, True),
        (prepare_include, False),
        (prepare_quoted, False),
        (prepare_two_urls, False),
        (prepare_broken, False),
        (prepare_unborn, False),
        (prepare_none, False),
    ],
)
def test_what_git_would_say_is_read_from_its_files(repository, prepare, is_told):
    """The same as git, or nothing."""
    repository.commit({"train.py": "pass\n", "a/b/deep.py": "pass\n"})
    prepare(repository.clone)
    found = [read_head(str(folder)) for folder in sorted(repository.clone.parent.rglob("b"))]
    for folder, head in zip(sorted(repository.clone.parent.rglob("b")), found, strict=True):
        assert (head is not None) is is_told
        try:
            said = describe_worktree(folder)
        except GitError:
            assert head is None
            continue
        assert head is None or (head.top, head.commit, head.branch, head.uri) == (
            said.top, said.commit, said.branch, said.uri,
        )  # fmt: skip
    assert found


def test_another_users_repository_is_left_to_git(repository, monkeypatch):
    repository.commit({"train.py": "pass\n"})
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_head(str(repository.clone)) is None
