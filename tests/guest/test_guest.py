"""A guest's manners: whatever goes wrong with the plugin or around it, the user's program is as it is without it.

Each fault is met twice by the same program, with the plugin and with ``MLFLOW_REPRO_DISABLE=1``: standard output, exit
code, and what the user stored must be the same, and there is at most one line of ours. The names of the faults have
the rows of the table of faults, CAP-NN, in them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from conftest import EXAMPLES, git, make_repository
from faulty_proxy import Proxy, serve_faults

import mlflow_repro

pytestmark = pytest.mark.timeout(400)  # the first test waits for a server, and each for two programs

TRAIN = """\
import random
import numpy as np
import mlflow
random.seed(3)
print("begin", random.random())
with mlflow.start_run(run_name="one"):
    mlflow.log_param("p", 1)
    mlflow.log_metric("m", random.random())
    with mlflow.start_run(nested=True, run_name="in"):
        mlflow.log_metric("n", float(np.random.default_rng(5).random()))
with mlflow.start_run(run_name="two"):
    mlflow.log_metric("m", random.random())
print("end", random.random())
"""


@dataclass
class Answer:
    """How a program ended, and what it stored: each run's status, metrics and params, in the order of their start."""

    code: int | None
    out: str
    err: str
    stored: list[Any]
    tags: list[dict[str, str]]
    injected: dict[str, Any]

    @property
    def results(self) -> tuple[Any, ...]:
        """What must not depend on the plugin."""
        return self.code, self.out, self.stored

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.err.splitlines() if "mlflow-repro " in line]


@dataclass
class Guest:
    """Runs programs in a repository, each with a store of its own."""

    process: subprocess.Popen[str]
    root: Path
    template: Path
    count: int = 0
    folders: dict[str, Path] = field(default_factory=dict)

    def repository(self, name: str, script: str = TRAIN) -> Path:
        """The folder ``name`` with a repository that holds the ``script``."""
        place = self.root / name
        place.mkdir()
        repository = make_repository(place)
        repository.commit({"train.py": script})
        return repository.clone

    def run(self, directory: Path, *arguments: str, **case: Any) -> Answer:
        self.count += 1
        place = self.root / f"case-{self.count}"
        place.mkdir()
        store = place / "mlflow.db"
        shutil.copy(self.template, store)
        variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", **case.pop("variables", {})}
        inject = case.pop("inject", None)
        if inject:
            inject = {**inject, "where": str(place / "injected")}
        whole = {
            "script": "train.py", "directory": str(directory), "arguments": arguments, "setup": "", "unset": [],
            "plugin": True, "light": False, "out": str(place / "out"), "err": str(place / "err"), **case,
            "variables": variables, "inject": inject,
        }  # fmt: skip
        self.process.stdin.write(json.dumps(whole) + "\n")
        self.process.stdin.flush()
        code = json.loads(self.process.stdout.readline())["code"]
        injected = place / "injected"
        return Answer(
            code=code,
            out=(place / "out").read_text(errors="replace"),
            err=(place / "err").read_text(errors="replace"),
            **read_store(store),
            injected=json.loads(injected.read_text()) if injected.exists() else {},
        )

    def compare(self, directory: Path, *arguments: str, **case: Any) -> Answer:
        """Run it with and without the plugin; the answer with it. The results must be the same."""
        without = self.run(directory, *arguments, **case, plugin=False)
        answer = self.run(directory, *arguments, **case)
        assert without.warnings == []
        assert answer.code is not None, answer.err
        assert answer.results == without.results, answer.err
        assert len(answer.warnings) <= 1, answer.err
        assert "Traceback" not in answer.err or "Traceback" in without.err, answer.err
        return answer


def read_store(path: Path, experiment: str = "Default") -> dict[str, list[Any]]:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    runs = connection.execute(
        "select run_uuid, runs.status from runs join experiments using (experiment_id)"
        " where experiments.name = ? or ? = 'Default' order by start_time, runs.rowid",
        [experiment, experiment],
    ).fetchall()
    stored, tags = [], []
    for run_id, status in runs:
        rows = {
            table: connection.execute(f"select key, value from {table} where run_uuid = ?", [run_id]).fetchall()  # noqa: S608
            for table in ("metrics", "params", "tags")
        }
        stored.append((status, sorted(rows["metrics"]), sorted(rows["params"])))
        tags.append({name: value for name, value in rows["tags"] if name.startswith("repro.")})
    connection.close()
    return {"stored": stored, "tags": tags}


@pytest.fixture(scope="module")
def guest(tmp_path_factory, empty_store):
    environment = {**os.environ, "MLFLOW_REPRO_DISABLE": "1"}
    root = tmp_path_factory.mktemp("guest")
    shutil.copy(empty_store, root / "warm.db")
    command = [sys.executable, str(Path(__file__).parents[1] / "zygote.py"), str(root / "warm.db")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    yield Guest(process, root, empty_store)
    process.stdin.close()
    process.wait(30)


@pytest.fixture(scope="module")
def plain(guest) -> Path:
    """A repository that nothing is wrong with."""
    return guest.repository("plain")


def test_nothing_is_wrong(guest, plain):
    """What the faults are measured by: the runs are recorded, and nobody notices."""
    answer = guest.compare(plain)
    assert answer.code == 0
    assert answer.warnings == []
    assert [tags["repro.capture"] for tags in answer.tags] == ["complete"] * 3
    assert [status for status, _, _ in answer.stored] == ["FINISHED"] * 3


LONG = "x" * 9000
NOWHERE = "import tempfile; tempfile.tempdir = '/proc/nowhere'"


def corrupt(name: str, content: bytes = b"\xff\0garbage\n"):
    """Something in ``.git`` is not what git wrote."""

    def prepare(clone: Path) -> None:
        path = clone / ".git" / name
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file():
                file.chmod(0o600)
                file.write_bytes(content)

    return prepare


def make_untracked(clone: Path) -> None:
    for folder in range(20):
        (clone / f"output/{folder}").mkdir(parents=True)
        for number in range(1000):
            (clone / f"output/{folder}/{number}").touch()


def ignore_script(clone: Path) -> None:
    (clone / ".gitignore").write_text("train.py\n")
    git("rm", "--quiet", "--cached", "train.py", cwd=clone)
    git("add", ".gitignore", cwd=clone)
    git("commit", "--quiet", "--message", "ignore", cwd=clone)


# What is done to the repository, what to the process, and what the tags then say.
FAULTS: dict[str, dict[str, Any]] = {
    "CAP-16 corrupt HEAD": {"prepare": corrupt("HEAD"), "error": "no-repository"},
    "CAP-16 corrupt objects": {"prepare": corrupt("objects"), "error": "git status failed"},
    "CAP-16 corrupt index": {"prepare": corrupt("index"), "error": "git status failed"},
    "CAP-16 corrupt configuration": {"prepare": corrupt("config"), "error": "git"},
    "CAP-15 script that git ignores": {"prepare": ignore_script, "tag": ("repro.git.script", "untracked")},
    "CAP-02 plugin that cannot start": {
        "setup": "import mlflow_repro.guest.hooks as r\n"
        "def leave():\n    raise SystemExit(9)\nr.install_recorder = leave",
    },
    "CAP-13 a repository of somebody else's": {
        "variables": {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, "error": "dubious-ownership"
    },
    "CAP-28 many untracked files": {"prepare": make_untracked},
    "CAP-27 no place for temporary files": {"setup": NOWHERE},
    "CAP-27 no HOME": {"unset": ["HOME"]},
    "CAP-27 HOME that is not there": {"variables": {"HOME": "/nonexistent"}},
    "CAP-27 working directory that nobody can write to": {"setup": "import os; os.chdir('/proc')"},
    "CAP-06 working directory that is no UTF-8": {
        "setup": r"import os; os.makedirs(b'caf\xe9', exist_ok=True); os.chdir(b'caf\xe9')",
    },
    "CAP-07 argument that no tag can hold": {"arguments": [LONG], "tag": ("repro.launch.argv", "omitted: ")},
    "CAP-08 control characters": {"arguments": ["a\x1b[31m\r\nb\x7f"], "tag": ("repro.launch.argv", "\\u001b[31m")},
    "CAP-34 secret in a warning": {
        "setup": "import mlflow_repro.guest.writer as r\n"
        "def fail(*_):\n    raise ValueError('https://me:hunter22@host/ failed\\n[SQL: x]\\nsk-' + 'a1' * 20)\n"
        "r.write_tags = fail",
    },
    "a logger that raises": {
        "setup": "import logging, mlflow_repro.guest.recording as r\n"
        "def fail(*_):\n    raise ValueError('no')\n"
        "logging.getLogger('mlflow_repro').addFilter(fail)\nr.Recording.run_started = fail",
    },
    "CAP-04 SystemExit in a hook": {
        "setup": "import mlflow_repro.guest.recording as r\n"
        "def leave(*_):\n    raise SystemExit(9)\nr.Recording.run_started = leave",
    },
    "a tree that cannot be forked for": {
        "setup": "import subprocess\ndef fail(*_, **__):\n    raise BlockingIOError(11, 'no more processes')\n"
        "subprocess.Popen._execute_child = fail",
    },
    "no more threads": {
        "setup": "import threading\ndef fail(*_, **__):\n    raise RuntimeError(\"can't start new thread\")\n"
        "threading.Thread.start = fail",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_fault_around_the_plugin(guest, name):
    fault = dict(FAULTS[name])
    wanted = {key: fault.pop(key, None) for key in ("prepare", "error", "tag")}
    arguments = fault.pop("arguments", [])
    clone = guest.repository(name.replace(" ", "-"))
    if wanted["prepare"]:
        wanted["prepare"](clone)
    answer = guest.compare(clone, *arguments, **{"light": True, **fault})
    assert answer.code == 0, answer.err
    assert "hunter22" not in answer.err
    assert "a1a1a1" not in answer.err
    if wanted["error"]:
        assert wanted["error"] in answer.tags[0]["repro.git.error"]
        assert "repro.git.commit" not in answer.tags[0]
    if wanted["tag"]:
        tag, value = wanted["tag"]
        assert value in answer.tags[0][tag]


ENDS = {
    "sys.exit": "import sys; sys.exit(4)",
    "os._exit": "import os; os._exit(5)",
    "exception": "raise ValueError('mine')",
    "SIGTERM": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "SIGINT": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "CAP-35 SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "run left open": "pass",
    "exec": "import os; os.execv('/bin/echo', ['echo', 'another program'])",
    "CAP-32 fork": "import os\npid = os.fork()\nif pid == 0:\n"
    "    with mlflow.start_run(nested=True): mlflow.log_metric('c', 1)\n    os._exit(0)\nos.waitpid(pid, 0)",
    "CAP-32 threads": "import threading\ndef work():\n    with mlflow.start_run(): mlflow.log_metric('t', 1)\n"
    "threads = [threading.Thread(target=work) for _ in range(4)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]",
    "asyncio": "import asyncio\nasync def task(n):\n    with mlflow.start_run(nested=True):\n"
    "        mlflow.log_metric('a', n)\n"
    "async def main(): await asyncio.gather(*[task(n) for n in range(3)])\nasyncio.run(main())",
    "set_terminated that fails": "import mlflow.store.tracking.sqlalchemy_store as s\n"
    "def fail(*_, **__):\n    raise OSError('the store is gone')\n"
    "s.SqlAlchemyStore.update_run_info = fail\nmlflow.end_run()",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_how_a_program_goes_on_and_ends(guest, end):
    """With a run active, whichever way it ends: nothing is held up, and nothing is said."""
    script = f"import mlflow\nprint('begin', flush=True)\nmlflow.start_run()\nmlflow.log_metric('m', 2)\n{end}\n"
    answer = guest.compare(guest.repository(f"end-{list(ENDS.values()).index(end)}", script), light=True)
    assert "begin" in answer.out
    assert answer.warnings == []


def test_spawned_workers(guest):
    """`multiprocessing` by spawn: its workers import the program and mlflow anew, and leave without exit handlers."""
    script = (
        "import multiprocessing, mlflow\n"
        "def work(n):\n    with mlflow.start_run(): mlflow.log_metric('w', n)\n    return n\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool: print(pool.map(work, [1, 2]))\n"
    )
    answer = guest.compare(guest.repository("spawn", script), light=True)
    assert answer.out == "[1, 2]\n"
    assert [tags["repro.capture"] for tags in answer.tags] == ["complete"] * 2


def test_recursion_limit(guest):
    """Where MLflow itself has just enough room, so has the plugin, or it does without; where it has not, nobody has."""
    script = (
        "import sys, mlflow\nmlflow.start_run(); mlflow.end_run()\n"
        "def depth():\n    frame, count = sys._getframe(), 0\n"
        "    while frame: frame, count = frame.f_back, count + 1\n    return count\n"
        "usual, failed = sys.getrecursionlimit(), 0\n"
        "for room in range(30, 300, 3):\n"
        "    sys.setrecursionlimit(depth() + room)\n"
        "    try:\n"
        "        with mlflow.start_run(): pass\n"
        "    except Exception:\n        failed += 1\n"
        "    finally:\n        sys.setrecursionlimit(usual)\n"
        "print('enough' if failed < 90 else 'never')\n"
        "print(failed, file=sys.stderr)\n"
    )
    clone = guest.repository("recursion", script)
    with_plugin, without = guest.run(clone, light=True), guest.run(clone, light=True, plugin=False)
    assert (with_plugin.code, with_plugin.out) == (without.code, without.out) == (0, "enough\n"), with_plugin.err
    counts = [int(re.findall(r"^\d+$", answer.err, re.MULTILINE)[-1]) for answer in (with_plugin, without)]
    assert counts[0] - counts[1] <= 1  # our wrapper is one frame of three in a step


def test_git_is_asked_once_in_a_process(guest):
    """CAP-32: what holds for all runs of a process is found out once."""
    clone = guest.repository("count")
    tools = clone.parent / "tools"
    tools.mkdir()
    (tools / "git").write_text(f'#!/bin/sh\necho "$*" >> {tools}/calls\nexec {shutil.which("git")} "$@"\n')
    (tools / "git").chmod(0o755)
    guest.run(clone, light=True, variables={"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"})
    calls = (tools / "calls").read_text().splitlines()
    assert len([call for call in calls if " status --porcelain=v2 " in call]) == 1


def test_tags_are_few_short_and_plain(guest, plain):
    """CAP-05, CAP-09, CAP-10, CAP-11: MLflow copies them into the source of each data set, which has a limit."""
    (tags, *_) = guest.run(plain, LONG[:4500], light=True).tags
    assert 10 < len(tags) <= 30
    assert all(re.fullmatch(r"repro(\.[a-z_]+){1,2}", name) for name in tags)
    assert sum(map(len, [*tags, *tags.values()])) < 10_000


SWEEP = """\
import random, sys
import mlflow
caught = []
for index in range(3):
    try:
        with mlflow.start_run():
            random.seed(index)
            mlflow.log_metric("m", index)
    except BaseException as error:
        caught.append(type(error).__name__)
print(*caught)
"""


@pytest.fixture(scope="module")
def lines(guest) -> tuple[Path, int]:
    clone = guest.repository("sweep", SWEEP)
    return clone, guest.run(clone, light=True, inject={"error": "RuntimeError", "at": 0}).injected["lines"]


def spread(count: int) -> list[float]:
    """Shares of all lines, which lie elsewhere whenever the package has changed: in time each line has its turn."""
    package = Path(mlflow_repro.__file__).parent
    sources = b"".join(path.read_bytes() for path in sorted(package.rglob("*.py")))
    return [(number + zlib.crc32(sources) / 2**32) / count for number in range(count)]


@pytest.mark.parametrize("share", [*spread(5), *[pytest.param(share, marks=pytest.mark.slow) for share in spread(13)]])
def test_interrupt_at_any_line_of_ours(guest, lines, share):
    """KeyboardInterrupt is the user's: it comes through as it is, once, and the next run is a run again."""
    clone, count = lines
    answer = guest.run(clone, light=True, inject={"error": "KeyboardInterrupt", "at": 1 + int(share * count)})
    assert answer.injected["callers"]
    assert answer.code == 0, answer.err
    assert answer.out in ("KeyboardInterrupt\n", "interrupted import\n\n"), answer.injected
    finished = [status for status, _, _ in answer.stored].count("FINISHED")
    assert finished >= 2
    assert len(answer.warnings) <= 1, answer.err


@pytest.mark.parametrize("error", ["RuntimeError", "SystemExit", "MemoryError"])
@pytest.mark.parametrize("share", [*spread(2), *[pytest.param(share, marks=pytest.mark.slow) for share in spread(5)]])
def test_error_at_any_line_of_ours(guest, lines, error, share):
    """CAP-03, CAP-04: no other exception reaches the user."""
    clone, count = lines
    answer = guest.run(clone, light=True, inject={"error": error, "at": 1 + int(share * count)})
    assert answer.code == 0, (answer.injected, answer.err)
    assert answer.out == "\n", answer.injected
    assert [status for status, _, _ in answer.stored] == ["FINISHED"] * 3
    assert [dict(metrics)["m"] for _, metrics, _ in answer.stored] == [0, 1, 2]
    assert len(answer.warnings) <= 1, answer.err


def is_ours(path: str, body: bytes) -> bool:
    """True for a request that only the plugin makes: its tags and its artifacts."""
    return (path.endswith("/runs/log-batch") and b'"repro.' in body) or "/repro" in path


@pytest.fixture(scope="module")
def proxy(tracking_server):
    with serve_faults(tracking_server) as proxy:
        yield proxy


@pytest.fixture
def online(guest, proxy, plain, server_root):
    """Runs the plain program with the tracking server behind a proxy; two tries of two seconds for each request."""

    def run(**case: Any) -> Answer:
        proxy.faults = 0
        variables = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
        variables |= {"MLFLOW_TRACKING_URI": proxy.url, "MLFLOW_EXPERIMENT_NAME": f"guest {uuid4().hex}"}
        case["variables"] = variables | case.get("variables", {})
        case = {"light": True, **case}
        experiment = case["variables"]["MLFLOW_EXPERIMENT_NAME"]
        if proxy.fault != "hang":  # else on a busy machine the program may end before it gets to what is to fail
            case["setup"] = (
                f"{case.get('setup', '')}\nimport mlflow_repro.guest.recording as r\nr._REMOTE_EXIT_SECONDS = 80.0"
            )
        answer = guest.run(plain, **case)
        out = "".join(
            line for line in answer.out.splitlines(keepends=True) if " at: http" not in line
        )  # "View run ..."
        return replace(answer, out=out, **read_store(server_root / "server.db", experiment))

    yield run
    proxy.is_faulty, proxy.fault = Proxy.is_faulty, Proxy.fault


@pytest.fixture(scope="module")
def expected(guest, plain) -> tuple[Any, ...]:
    return guest.run(plain, light=True, plugin=False).results


@pytest.mark.parametrize("fault", [401, 403, 404, 429, 500, 503, "html", "drop", "hang"])
def test_server_that_fails_us(online, proxy, expected, fault):
    """CAP-23, CAP-24, CAP-25: the user's requests get through, none of ours does."""
    proxy.fault, proxy.is_faulty = fault, is_ours
    answer = online()
    assert proxy.faults > 0 or fault == "hang"
    assert answer.results == expected, answer.err
    assert len(answer.warnings) == 1 or (fault == "hang" and not answer.warnings), answer.err


@pytest.mark.parametrize("number", range(6))
def test_server_that_fails_one_call_of_ours(online, proxy, expected, number):
    calls: list[str] = []

    def is_the_one(path: str, body: bytes) -> bool:
        if is_ours(path, body):
            calls.append(path)
        return is_ours(path, body) and len(calls) == number + 1

    proxy.fault, proxy.is_faulty = 403, is_the_one
    answer = online()
    assert proxy.faults == 1
    assert answer.results == expected, answer.err
    assert len(answer.warnings) == 1, answer.err


@pytest.mark.parametrize("when", ["at the start", "after the start", "at the end"])
def test_server_that_fails_everybody(online, proxy, when):
    """CAP-23: the user gets MLflow's own error, the same one as without the plugin."""
    beginnings = {"at the start": "", "after the start": "/runs/log-parameter", "at the end": "/runs/update"}
    answers = []
    for plugin in (False, True):
        failing: list[str] = []

        def is_down(path: str, body: bytes, failing: list[str] = failing) -> bool:
            if beginnings[when] in path:
                failing.append(path)
            return bool(failing)

        proxy.fault, proxy.is_faulty = 403, is_down
        answers.append(online(plugin=plugin))
        assert proxy.faults > 0
    without, answer = answers
    assert answer.results == without.results
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == without.err.splitlines()[-1]
    assert len(answer.warnings) <= 1, answer.err


def test_full_disk(online, expected):
    """CAP-26: no file of ours can be written; what goes to the server needs none."""
    answer = online(setup="import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (1000, 1000))")
    assert answer.results == expected
    assert len(answer.warnings) == 1, answer.err


def test_artifact_store_that_is_out_of_reach(guest):
    script = (
        "import mlflow\nmlflow.set_experiment(experiment_id=mlflow.create_experiment('e', '/proc/nowhere'))\n"
        "with mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    )
    answer = guest.compare(guest.repository("artifacts", script), light=True)
    assert answer.code == 0
    assert answer.tags[0]["repro.git.commit"]
    assert len(answer.warnings) == 1, answer.err


@pytest.mark.parametrize("name", ["sklearn", "autolog", pytest.param("keras", marks=pytest.mark.slow)])
def test_examples_are_the_same_with_and_without_the_plugin(guest, name):
    if name == "keras":
        pytest.importorskip("tensorflow")
    clone = guest.repository(f"example-{name}")
    shutil.copytree(EXAMPLES / name, clone, dirs_exist_ok=True)
    answer = guest.compare(clone)
    assert answer.code == 0
    assert answer.stored
