"""What the plugin and the tool cost, as ratios to bare MLflow measured in the same run.

Prints one line for each figure: importing mlflow, starting and ending a run (SQLite, and a tracking server on
loopback), the requests that a run makes, the bytes that the runs of a sweep leave, and reproducing a run against
running it once more by ``mlflow run``. The two sides take turns, so that a drifting speed is unfair to neither;
medians are compared. "Bare" is the same environment with this plugin's entry point hidden from MLflow.

Usage: python benchmarks/overhead.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import clean_environment, run_git, run_process, take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIDES = ("with", "bare")
TARGETS = {  # milliseconds, for each store
    "paused": {"SQLite": 1, "server": 1},
    "back to back": {"SQLite": 3, "server": 8},
    "first": {"SQLite": 60, "server": 60},
}
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

# Both sides run this first, so that hiding costs both the same.
PRELUDE = """
import importlib.metadata as metadata, os
find = metadata.entry_points
def entry_points(**wanted):
    found = find(**wanted)
    if os.environ["SIDE"] == "bare" and wanted.get("group") == "mlflow.run_context_provider":
        return [one for one in found if not one.value.startswith("mlflow_repro")]
    return found
metadata.entry_points = entry_points
"""

RUNS = """
import json, sys, time
import mlflow
def once(pause):
    begin, worked = time.perf_counter(), time.thread_time()
    mlflow.start_run()
    started, paused = time.perf_counter(), time.thread_time()
    mlflow.log_metric("m", 1.0)
    time.sleep(pause)
    ending, working = time.perf_counter(), time.thread_time()
    mlflow.end_run()
    wall = time.perf_counter() - ending + started - begin
    return 1000 * wall, 1000 * (time.thread_time() - working + paused - worked)
PAUSE = 0.25  # a short training: what is done in the background has time
runs = range(int(sys.argv[1]))
told = {"first": [once(PAUSE)], "paused": [once(PAUSE) for _ in runs], "back to back": [once(0.0) for _ in runs]}
print(json.dumps(told))
"""

REQUESTS = """
import atexit, time
from requests.adapters import HTTPAdapter
send, paths = HTTPAdapter.send, []
def count(self, request, *arguments, **options):
    paths.append(request.path_url)
    return send(self, request, *arguments, **options)
HTTPAdapter.send = count
atexit.register(lambda: print(len(paths)))  # before the plugin's own, so that it is called after it
import mlflow
with mlflow.start_run():
    mlflow.log_param("p", 1)
    mlflow.log_metric("m", 1.0)
    time.sleep(1.0)
"""

SWEEP = """
import json, mlflow
with mlflow.start_run() as parent:
    for trial in range(5):
        with mlflow.start_run(nested=True) as run:
            mlflow.log_metric("m", trial)
print(json.dumps([parent.info.artifact_uri, run.info.artifact_uri]))
"""


def run_side(side: str, code: str, *arguments: str) -> tuple[float, str]:
    """Run ``code`` in a fresh interpreter with the plugin or without; CPU seconds and standard output."""
    done = run_process([sys.executable, "-c", PRELUDE + code, *arguments], variables={"SIDE": side})
    return done.cpu, done.output


def measure_import(rounds: int) -> None:
    """Print the ratio of CPU seconds of ``import mlflow`` with and without the plugin."""
    seconds: dict[str, list[float]] = {"with": [], "bare": []}
    for number, side in take_turns(("bare", "with"), rounds + 1):
        cpu, _ = run_side(side, "import mlflow\n")
        if number:  # the first round compiles and warms the disk
            seconds[side].append(cpu)
    with_plugin, bare = (statistics.median(seconds[side]) for side in ("with", "bare"))
    print(
        f"import mlflow: {with_plugin:.3f} s with, {bare:.3f} s bare, ratio {with_plugin / bare:.3f} (target <= 1.02)"
    )


def measure_runs(title: str, rounds: int, runs: int) -> None:
    """Print what the plugin adds to the start and the end of a run on the caller's thread, in milliseconds.

    Twice: for runs that last a quarter of a second, and for runs that begin as the last one ends, where what is done
    in the background competes with the caller's thread. Of the time that passed and of the thread's own time on a
    processor, which a busy machine disturbs less, the medians and the smallest.
    """
    samples: dict[str, dict[str, list[list[float]]]] = {side: {part: [] for part in TARGETS} for side in SIDES}
    for number, side in take_turns(("bare", "with"), rounds + 1):
        told = json.loads(run_side(side, RUNS, str(runs))[1].splitlines()[-1])  # MLflow prints as well
        if number:  # the first round makes the store
            for part in TARGETS:
                samples[side][part] += told[part]
    for part, targets in TARGETS.items():
        for column, clock in enumerate(("wall", "processor")):
            with_plugin, bare = ([row[column] for row in samples[side][part]] for side in SIDES)
            one, other = statistics.median(with_plugin), statistics.median(bare)
            print(
                f"start and end of a run, {title}, {part}, {clock}: {one:.1f} ms with, {other:.1f} ms bare, ratio"
                f" {one / other:.2f}, {one - other:+.1f} ms, of the smallest {min(with_plugin) - min(bare):+.1f} ms"
                f" (target <= +{targets[title]} ms)"
            )


def measure_requests() -> None:
    """Print how many requests a run with a parameter and a metric makes of a tracking server."""
    with_plugin, bare = (int(run_side(side, REQUESTS)[1].splitlines()[-1]) for side in SIDES)
    print(f"requests of a run: {with_plugin} with, {bare} bare, {with_plugin - bare:+} (target <= +4)")


def measure_bytes(root: Path) -> None:
    """Print how many bytes are stored of the first run of a sweep and of each of the others, in a changed tree."""
    clone = root / "sweep"
    shutil.copytree(EXAMPLES / "sklearn", clone)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "example"]):
        run_git(*command, cwd=clone)
    (clone / "train.py").write_text(f"{(clone / 'train.py').read_text()}# changed\n")
    (clone / "notes.txt").write_text("".join(f"{number}\n" for number in range(20_000)))
    (clone / "sweep.py").write_text(SWEEP)
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/sweep.db"}
    told = run_process([sys.executable, "sweep.py"], variables=variables, cwd=clone).output
    sizes = [sum(file.stat().st_size for file in Path(uri, "repro").rglob("*") if file.is_file()) for uri in read(told)]
    print(f"bytes stored of a sweep in a changed tree: {sizes[0]:,} for the first run, {sizes[1]:,} for each trial")


def read(told: str) -> list[str]:
    """The folders that a sweep has told of."""
    return [uri.removeprefix("file://") for uri in json.loads(told.splitlines()[-1])]


def measure_reproduce(root: Path, rounds: int) -> None:
    """Print what ``reproduce`` takes longer than ``mlflow run`` of the same project, in seconds."""
    clone = root / "clone"
    shutil.copytree(EXAMPLES / "sklearn", clone)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "example"]):
        run_git(*command, cwd=clone)
    environment = {**os.environ, "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])}
    bare = [sys.executable, "-m", "mlflow", "run", str(clone), "--env-manager", "local"]
    told = subprocess.run(bare, env=environment, cwd=root, stderr=subprocess.PIPE, text=True, check=True).stderr
    run_id = told.rpartition("Run (ID '")[2].partition("'")[0]
    tool = [sys.executable, "-m", "mlflow_repro.reproduce", "--run_id", run_id]
    seconds: dict[str, list[float]] = {"tool": [], "bare": []}
    for _, side in take_turns(("bare", "tool"), rounds):
        begin = time.perf_counter()
        command = tool if side == "tool" else bare
        subprocess.run(command, env=environment, cwd=root, capture_output=True, check=True)
        seconds[side].append(time.perf_counter() - begin)
    one, other = (statistics.median(seconds[side]) for side in ("tool", "bare"))
    print(
        f"reproduce: {one:.1f} s, mlflow run of the same project: {other:.1f} s, ratio {one / other:.2f},"
        f" {one - other:+.1f} s (target <= +1.5 s)"
    )


@contextmanager
def serve(root: Path) -> Iterator[str]:
    """Run a tracking server on loopback; gives its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{root}/server.db",
        "--artifacts-destination",
        str(root / "artifacts"),
    ]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urllib.request.urlopen(f"{url}/health", timeout=5).close())  # noqa: S310
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


def wait_until(works: Callable[[], None], seconds: float = 90.0) -> None:
    """Call ``works`` until it raises no OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            works()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return


def main() -> None:
    """Measure everything; ``--quick`` with fewer rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    quick = parser.parse_args().quick
    clean_environment()
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-bench-") as folder:
        root = Path(folder)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
        measure_import(3 if quick else 15)
        measure_runs("SQLite", 2 if quick else 5, 10 if quick else 20)
        with serve(root) as url:
            os.environ["MLFLOW_TRACKING_URI"] = url
            measure_requests()
            measure_runs("server", 2 if quick else 5, 10 if quick else 20)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
        measure_bytes(root)
        measure_reproduce(root, 2 if quick else 7)


if __name__ == "__main__":
    main()
