"""Real repositories, a real SQLite store, a real tracking server: what the tests stand on."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from git_http import serve_git
from preloaded import Preloaded, start_worker
from store_digest import SERVERS, unchanged_store

from mlflow_repro.store import TrackingStore
from mlflow_repro.system.spool import ABOVE_VARIABLE, this_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_templates: dict[Path, bytes] = {}

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

TINY_MLPROJECT = """\
name: tiny
entry_points:
  main:
    parameters:
      alpha: {type: float, default: 0.5}
      text: {type: string, default: plain}
    command: "python train.py --alpha={alpha} --text={text}"
  other:
    command: "python train.py --alpha=7"
  needy:
    parameters:
      must: string
    command: "python train.py --text={must}"
"""

TINY_TRAIN = """\
import argparse, json, sys
import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--alpha", type=float, default=0.5)
parser.add_argument("--text", default="plain")
arguments = parser.parse_args()
with mlflow.start_run():
    mlflow.set_tag("argv", json.dumps(sys.argv[1:]))
    mlflow.log_param("logged_by_code", len(arguments.text))
    mlflow.log_metric("loss", 1 / (1 + arguments.alpha))
    mlflow.log_metric("length", len(arguments.text))
"""


@pytest.fixture(scope="session", autouse=True)
def _clean_environment(tmp_path_factory):
    """No git identity, credentials, MLflow settings or HOME of the machine's user reaches a test."""
    home = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "GIT_")) or name == "XDG_CACHE_HOME":
            patch.delenv(name)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"):
        patch.setenv(name, "tester")
    for name in ("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        patch.setenv(name, "tester@example.invalid")
    patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("HOME", str(home))
    patch.setenv(ABOVE_VARIABLE, this_process())  # what a test starts begins a launch of its own
    patch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
    yield
    patch.undo()


def git(*arguments: str, cwd: Path) -> str:
    answer = subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True)
    return answer.stdout.strip()


def tree_state(directory: Path) -> dict[str, str]:
    """A digest of every file below ``directory``, git's own included."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def put_before_git(folder: Path, script: str) -> str:
    """A PATH where ``git`` is ``script`` first, with ``$real`` for the true one."""
    folder.mkdir()
    (folder / "git").write_text(f'#!/bin/sh\nreal={shutil.which("git")}\n{script}\nexec $real "$@"\n')
    (folder / "git").chmod(0o755)
    return os.pathsep.join([str(folder), os.environ["PATH"]])


def heed_interrupts() -> None:
    """A shell that starts something in the background lets it ignore SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # these tests themselves were started in that way
    signal.signal(signal.SIGINT, signal.default_int_handler)


def own_metrics(run) -> dict[str, float]:
    """What the run's code logged, without what a reproduction is tagged with for MLflow's table of runs."""
    return {name: value for name, value in run.data.metrics.items() if not name.startswith("repro.")}


def expect_error(answer, code: int, *words: str) -> str:
    """The last line of standard error says it, nothing is on standard output, and there is no traceback."""
    assert answer.returncode == code, answer.stderr + answer.stdout
    assert answer.stdout == ""
    assert "Traceback (most recent call last)" not in answer.stderr.replace("  | Traceback", "")
    line = answer.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    return line


def statuses(bench, run_id: str) -> list[str]:
    return [bench.get(other).info.status for other in bench.run_ids() if other != run_id]


HOLDER = """\
import sys
from mlflow_repro.system.folders import hold_folder
with hold_folder(sys.argv[1]) as folder:
    print(folder.path, flush=True)
    sys.stdin.read()
"""


def leave_folder(parent: str) -> str:
    """The folder that a process in ``parent`` has left behind when it was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        path = process.stdout.readline().decode().strip()
        process.kill()
    return path


@pytest.fixture(autouse=True)
def _untouched_reference(_untouched_environment, monkeypatch):
    """Each relaunch of this process leaves its store as it was, but for what it has made itself."""
    from mlflow_repro.reproduce import pipeline as reproduce

    original = reproduce._reproduce

    def reproduce_unchanged(order, *arguments):
        if order.options.annotate_reference or order.options.allow_registry:
            return original(order, *arguments)
        with unchanged_store(order.options.tracking_uri):
            return original(order, *arguments)

    monkeypatch.setattr(reproduce, "_reproduce", reproduce_unchanged)


@dataclass
class Repository:
    """A bare repository that others clone (``hub``) and a clone of it with a working tree (``clone``)."""

    hub: Path
    clone: Path

    def commit(self, files: dict[str, str], message: str = "change", *, push: bool = True) -> str:
        for name, text in files.items():
            path = self.clone / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        git("add", "--all", cwd=self.clone)
        git("commit", "--quiet", "--message", message, cwd=self.clone)
        if push:
            git("push", "--quiet", "origin", "HEAD:main", cwd=self.clone)
        return git("rev-parse", "HEAD", cwd=self.clone)


class _Subprocess:
    """The module `subprocess` with another way to start a process."""

    def __init__(self, start: Callable[..., Any]) -> None:
        self.Popen = start

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


@dataclass
class Workbench:
    """A folder with a repository, a store, and the commands that a user types."""

    root: Path
    store: Path
    repository: Repository
    preloaded: Preloaded
    is_quick: bool = True
    """Whether ``python`` is the quick one: a fork of a process that has imported mlflow already."""
    tracking_uri: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = self.variables(**variables)
        return subprocess.run(
            command, cwd=cwd or self.root, env=environment, capture_output=True, text=True, check=False
        )

    def variables(self, **variables: str) -> dict[str, str]:
        """The environment of the user's shell."""
        return {**os.environ, **self._own_variables(), **variables}

    def _own_variables(self) -> dict[str, str]:
        own = {"MLFLOW_TRACKING_URI": self.tracking_uri or f"sqlite:///{self.store}", **self.environment}
        if self.is_quick:
            own["PATH"] = os.pathsep.join([self.preloaded.folder(), own.get("PATH", os.environ["PATH"])])
        return own

    def run_python(self, *arguments: str, cwd: Path | None = None, **variables: str):
        return self.run("python", *arguments, cwd=cwd, **variables)

    def train(self, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
        """Start a script as a user does; the id of the run that it made."""
        before = set(self.run_ids())
        answer = self.run_python(*arguments, cwd=cwd or self.repository.clone, **variables)
        assert answer.returncode == 0, answer.stderr
        return self.new_run(before)

    def mlflow_run(self, uri: str, *arguments: str) -> str:
        """``mlflow run URI ...``; the id of the run that it made.

        MLflow's own command, called in this process: importing mlflow once more takes three seconds.
        """
        from mlflow.cli import cli

        before = set(self.run_ids())
        with self.surroundings():
            cli.main(["run", uri, "--env-manager", "local", *arguments], standalone_mode=False)
        return self.new_run(before)

    def reproduce(self, run_id: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """``mlflow-repro reproduce --run_id RUN_ID ...`` from an empty directory, called in this process."""
        return self._reproduce("--run_id", run_id, *arguments, **variables)

    def reproduce_model(self, uri: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``mlflow-repro reproduce --model URI ...``."""
        return self._reproduce("--model", uri, *arguments)

    def _reproduce(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        from mlflow_repro.cli import main

        command = ["reproduce", *arguments]
        out, err = io.StringIO(), io.StringIO()
        with self.surroundings(**variables), redirect_stdout(out), redirect_stderr(err):
            code = main(command)
        return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())

    def reproduce_outside(self, run_id: str, *arguments: str, **variables: str):
        """``python -m mlflow_repro.reproduce --run_id RUN_ID ...`` from an empty directory, as a user types it.

        What it launches, and the program there, are real processes.
        """
        command = ("-m", "mlflow_repro.reproduce", "--run_id", run_id, *arguments)
        with unchanged_store(self._own_variables()["MLFLOW_TRACKING_URI"]):
            return self.run_python(*command, cwd=self.elsewhere(), **variables)

    def elsewhere(self) -> Path:
        """An empty directory that has nothing to do with the repository."""
        directory = self.root / "elsewhere"
        directory.mkdir(exist_ok=True)
        return directory

    @contextmanager
    def surroundings(self, **variables: str):
        """This process as the user's shell would be: in an empty directory, with the store's variable set.

        What launches a run is a fork here, whatever `is_quick` says of the run.
        """
        before = os.getcwd()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self._own_variables(), **variables}.items():
                patch.setenv(name, value)
            start = functools.partial(start_worker, self.preloaded, self.is_quick)
            patch.setattr("mlflow_repro.launch.launcher.subprocess", _Subprocess(start))
            os.chdir(self.elsewhere())
            try:
                yield patch
            finally:
                os.chdir(before)

    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri or f"sqlite:///{self.store}")

    def run_ids(self) -> list[str]:
        """The newest first."""
        client = self.client()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return [run.info.run_id for run in client.search_runs(experiments)]

    def new_run(self, before: set[str]) -> str:
        new = [run_id for run_id in self.run_ids() if run_id not in before]
        assert len(new) == 1, f"{len(new)} new runs"
        return new[0]

    def get(self, run_id: str):
        return self.client().get_run(run_id)

    def recorded(self, run_id: str, path: str) -> bytes | None:
        """A file that the run recorded, by its path below ``repro/``; None where there is none."""
        return TrackingStore(self.tracking_uri or f"sqlite:///{self.store}").read_file(run_id, f"repro/{path}")

    def reproduction_of(self, run_id: str):
        found = [run for run in map(self.get, self.run_ids()) if run.data.tags.get("repro.reference_run_id") == run_id]
        assert found, "there is no reproduction"
        return found[0]


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A SQLite store with its schema, made once: migrating a fresh one takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    before = os.getcwd()
    os.chdir(path.parent)  # where the artifacts of the default experiment go from now on
    try:
        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    finally:
        os.chdir(before)
    _templates[path] = path.read_bytes()
    return path


@pytest.fixture(autouse=True)
def _untouched_template() -> Iterator[None]:
    """Whoever writes to the store that all others are copies of is named, and not those that find more in theirs."""
    yield
    for path, content in _templates.items():
        if path.read_bytes() != content:
            path.write_bytes(content)
            pytest.fail("this test wrote to the store that all others are copies of")


_LIBRARIES = ("KMP_", "TF_", "TF2_", "KERAS_", "JAX_")
"""Variables that a library sets for itself when it is imported."""


@pytest.fixture(autouse=True)
def _untouched_environment() -> Iterator[None]:
    """Whoever leaves a variable behind is named, and not those that it misleads: their programs would get it."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    os.environ.update(before)
    for name in after.keys() - before.keys():
        del os.environ[name]
    changed = sorted(
        name
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name) and name != "PYTEST_CURRENT_TEST" and not name.startswith(_LIBRARIES)
    )
    if changed:
        pytest.fail(f"this test left variables of its own in the environment: {', '.join(changed)}")


def make_repository(root: Path) -> Repository:
    """An empty repository in ``root``."""
    hub, clone = root / "hub.git", root / "clone"
    git("-c", "init.defaultBranch=main", "init", "--quiet", "--bare", str(hub), cwd=root)
    git("clone", "--quiet", str(hub), str(clone), cwd=root)
    git("checkout", "--quiet", "-b", "main", cwd=clone)
    return Repository(hub=hub, clone=clone)


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory, empty_store):
    """What starts the programs of the workbenches in forks of a process that has imported mlflow."""
    store = tmp_path_factory.mktemp("preloaded") / "mlflow.db"
    shutil.copy(empty_store, store)
    made = Preloaded(str(store))
    yield made
    made.close()


def make_workbench(root: Path, empty_store: Path, repository: Repository, preloaded: Preloaded) -> Workbench:
    store = root / "mlflow.db"
    shutil.copy(empty_store, store)
    return Workbench(root=root, store=store, repository=repository, preloaded=preloaded)


@pytest.fixture
def repository(tmp_path) -> Repository:
    return make_repository(tmp_path)


@pytest.fixture
def bench(request, tmp_path, empty_store, repository, preloaded) -> Workbench:
    """A workbench whose repository is empty."""
    made = make_workbench(tmp_path, empty_store, repository, preloaded)
    made.is_quick = request.node.get_closest_marker("real_processes") is None
    return made


@pytest.fixture
def tiny(bench) -> Workbench:
    """A workbench with a project in the folder ``ml/tiny`` that imports nothing heavy."""
    bench.repository.commit({"ml/tiny/MLproject": TINY_MLPROJECT, "ml/tiny/train.py": TINY_TRAIN})
    return bench


@pytest.fixture
def git_server(bench):
    """The base URL of a smart-HTTP server of the workbench's folder: ``{git_server}/hub.git``."""
    with serve_git(bench.root) as url:
        yield url


@pytest.fixture(scope="session")
def server_root(tmp_path_factory) -> Path:
    """Where the tracking server keeps everything: ``server.db`` and ``artifacts``."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def tracking_server(server_root, empty_store):
    """The URL of a real ``mlflow server`` with a SQLite store of its own."""
    root = server_root
    shutil.copy(empty_store, root / "server.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{root}/server.db", "--artifacts-destination", str(root / "artifacts"),
    ]  # fmt: skip
    # MLflow 3 starts seven more processes, each of which imports it, for jobs that no test has for it.
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (root / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 110
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 - http, on loopback
                break
            except OSError:
                assert time.monotonic() < deadline, (root / "log").read_text()
                time.sleep(0.2)
        SERVERS[url] = (root / "server.db", root / "artifacts")
        yield url
    finally:
        os.killpg(server.pid, 15)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:  # on a busy machine it takes its time; nobody needs it any more
            os.killpg(server.pid, 9)
            server.wait(20)
