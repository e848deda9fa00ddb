"""What the plugin and the tool cost, as ratios to bare MLflow measured in the same run.

Prints one line for each figure: importing mlflow, starting and ending a run (SQLite, and a tracking server on
loopback), and reproducing a run against running it once more by ``mlflow run``. The two sides take turns, so that a
machine whose speed drifts is unfair to neither; medians are compared. "Bare" is the same environment with this plugin's
entry point hidden from MLflow.

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
    begin = time.perf_counter()
    mlflow.start_run()
    started = time.perf_counter()
    mlflow.log_metric("m", 1.0)
    time.sleep(pause)
    ending = time.perf_counter()
    mlflow.end_run()
    return 1000 * (started - begin), 1000 * (time.perf_counter() - ending)
PAUSE = 0.25  # a short training: what is done in the background has time
runs = range(int(sys.argv[1]))
told = {"first": [once(PAUSE)], "paused": [once(PAUSE) for _ in runs], "back to back": [once(0.0) for _ in runs]}
print(json.dumps({part: [sum(both) for both in times] for part, times in told.items()}))
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
    in the background competes with the caller's thread.
    """
    parts = ("paused", "back to back", "first")
    samples: dict[str, dict[str, list[float]]] = {side: {part: [] for part in parts} for side in ("with", "bare")}
    for number, side in take_turns(("bare", "with"), rounds + 1):
        told = json.loads(run_side(side, RUNS, str(runs))[1].splitlines()[-1])  # MLflow prints as well
        if number:  # the first round makes the store
            for part in parts:
                samples[side][part] += told[part]
    for part in parts:
        with_plugin, bare = (statistics.median(samples[side][part]) for side in ("with", "bare"))
        print(
            f"start and end of a run, {title}, {part}: {with_plugin:.1f} ms with, {bare:.1f} ms bare,"
            f" ratio {with_plugin / bare:.2f}, {with_plugin - bare:+.1f} ms"
            + ("" if part == "first" else " (target <= +10 ms)")
        )


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
            measure_runs("server", 2 if quick else 5, 10 if quick else 20)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
        measure_reproduce(root, 2 if quick else 7)


if __name__ == "__main__":
    main()
