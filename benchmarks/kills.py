"""Kill the tool at random moments, and look at what is left.

A small run is reproduced, compared, explained and isolated again and again; each time the tool, the launching process
with it now and then, gets a SIGKILL at a moment that is drawn at random. After each kill the next command must work.
Printed is how many of them left

* a run without an end, or without a reason, once the next command has been there;
* a folder of ours in the folder for temporary files, once two minutes have passed;
* something changed in the user's repository, or a lock in the cache (the next command failed).

The exit code is 1 when anything was left. The moments follow from --seed.

Usage: python benchmarks/kills.py [--kills N] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import clean_environment, run_git

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Run

TRAIN = """\
import os, random, time
import mlflow
with mlflow.start_run():
    for step in range(20):
        mlflow.log_metric("m", step / 7 + float(os.environ.get("SHIFT", 0)), step=step)
        time.sleep(0.02)
"""
PATIENCE = 120.0  # seconds until what is left counts as left
KINDS = ("commands that failed", "runs without an end or a reason", "changes of the repository", "folders")
_WEIGHTS = (6, 1, 1, 2)  # how often each command is killed; most of what can be left is reproduce's
_WHOLE_SHARE = 0.3  # of the kills that take with them what the tool has started
_ROUND = 10  # kills until it is looked what is left


class World:
    """A repository with a script, a store, a cache, a HOME and a folder for temporary files, all their own."""

    def __init__(self, root: Path) -> None:
        self.repository, self.temporary = root / "repository", root / "tmp"
        for folder in (self.repository, self.temporary, root / "home"):
            folder.mkdir()
        (self.repository / "train.py").write_text(TRAIN)
        for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "train"]):
            run_git(*command, cwd=self.repository)
        (self.repository / "train.py").write_text(f"{TRAIN}# changed\n")
        self.uri = f"sqlite:///{root}/mlflow.db"
        self.variables = {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.uri,
            "MLFLOW_REPRO_CACHE": str(root / "cache"),
            "HOME": str(root / "home"),
            "TMPDIR": str(self.temporary),
        }
        self.runs = [self._train(shift) for shift in ("0", "1")]
        self.state = self.describe()

    def _train(self, shift: str) -> str:
        before = {run.info.run_id for run in self.list_runs()} if Path(self.uri[10:]).exists() else set()
        command = [sys.executable, "train.py"]
        subprocess.run(command, cwd=self.repository, env={**self.variables, "SHIFT": shift}, check=True, text=True)
        (made,) = {run.info.run_id for run in self.list_runs()} - before
        return made

    def list_runs(self) -> list[Run]:
        """All runs of the store."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=self.uri)
        return list(client.search_runs([one.experiment_id for one in client.search_experiments()], max_results=50_000))

    def describe(self) -> tuple[str, ...]:
        """What must be as it was: the user's repository."""
        names = (
            ["status", "--porcelain"],
            ["for-each-ref"],
            ["fsck", "--no-dangling"],
            ["worktree", "list"],
            ["stash", "list"],
        )
        return tuple(run_git(*command, cwd=self.repository) for command in names)

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Start the tool, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow_repro", *command],
            cwd=self.temporary.parent,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: list[str]) -> tuple[int, str, float]:
        """Exit code, output and seconds of a command that nobody kills."""
        begin = time.monotonic()
        process = self.start(command)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output, time.monotonic() - begin

    def find_folders(self) -> list[str]:
        """The folders of ours that are there now."""
        return sorted(path.name for path in self.temporary.iterdir() if path.name.startswith("mlflow-repro-"))

    def find_open(self) -> list[str]:
        """What is not as it should be among the runs: without an end, or killed without a reason."""
        return [
            f"{run.info.run_id} {run.info.status}"
            for run in self.list_runs()
            if run.info.status in ("RUNNING", "SCHEDULED")
            or (run.info.status == "KILLED" and not {"repro.error", "mlflow.note.content"} & run.data.tags.keys())
        ]


def kill(process: subprocess.Popen[str], *, whole: bool) -> None:
    """Kill the tool; with ``whole`` what it has started directly as well."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children() if whole else []
        process.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def wait_for_none(find: Callable[[], list[str]]) -> list[str]:
    """What ``find`` still finds when it has been given the time that it may take."""
    deadline = time.monotonic() + PATIENCE
    while (left := find()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def main() -> int:
    """Kill, look, and print what was left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    clean_environment()
    draw = random.Random(options.seed)  # noqa: S311 - nothing is secret here
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        world = World(Path(folder))
        one, other = world.runs
        commands = {
            "reproduce": ["reproduce", "--run_id", one, "--quiet"],
            "compare": ["compare", one, other],
            "explain": ["explain", one, other],
            "isolate": ["isolate", one, "--other", other],
        }
        seconds = {name: world.run(command)[2] for name, command in commands.items()}
        print(*(f"{name} takes {took:.1f} s" for name, took in seconds.items()), sep=", ", flush=True)
        left: Counter[str] = Counter()
        late = 0
        for number in range(1, options.kills + 1):
            name = draw.choices(list(commands), weights=_WEIGHTS)[0]
            moment, whole = draw.random() * seconds[name], draw.random() < _WHOLE_SHARE
            process = world.start(commands[name])
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=moment)
                late += 1
            kill(process, whole=whole)
            if number % _ROUND == 0 or number == options.kills:
                left.update(look_after(world, commands["reproduce"], f"{number} kills"))
        print(f"{options.kills} kills, {late} of them too late, seed {options.seed}")
        for what in KINDS:
            print(f"{what}: {left[what]}")
        return int(any(left.values()))


def look_after(world: World, command: list[str], when: str) -> Counter[str]:
    """What the last kills have left when the next command has been there; each is printed."""
    code, output, _ = world.run(command)
    found = {
        "commands that failed": [f"exit code {code}: {output[-500:]}"] if code else [],
        "runs without an end or a reason": wait_for_none(world.find_open),
        "changes of the repository": [] if world.describe() == world.state else ["it is not as it was"],
    }
    found["folders"] = wait_for_none(lambda: world.find_folders() and world.run(command) and world.find_folders())
    for what, rows in found.items():
        for row in rows:
            print(f"after {when}: {what}: {row}", flush=True)
    return Counter({what: len(rows) for what, rows in found.items()})


if __name__ == "__main__":
    sys.exit(main())
