"""What comparing two histories costs, as a ratio to reading both by MLflow's client, from SQLite and over HTTP.

For each length it prints the seconds of ``client.get_metric_history`` for both runs, those of comparing them (read,
compared and measured), their ratio, and the microseconds for each point of both; then what finding the
first of differences costs that begin after a tenth of the history (``--histories first``) and after nine tenths of it
(``--histories sampled``), the latter as a ratio to the client, too. The sides take turns and medians are compared; of
the longest histories each is measured once. The peak of memory is that of the whole process.

Usage: python benchmarks/histories.py [--longest 1000000] [--only sqlite|http]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow import MlflowClient

LENGTHS = (1_000, 10_000, 100_000, 1_000_000)
TIMES = {1_000: 7, 10_000: 5, 100_000: 3}  # a longer history is measured once
DIFFERENT_FROM = {"reference": 1.0, "same": 1.0, "early": 0.1, "late": 0.9}  # of the history
START = 1_700_000_000_000  # milliseconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--only", choices=("sqlite", "http"))
    arguments = parser.parse_args()
    lengths = [length for length in LENGTHS if length <= arguments.longest]
    with tempfile.TemporaryDirectory(prefix="histories-") as folder:
        path = Path(folder, "mlflow.db")
        runs = make_store(path, lengths)
        print(
            f"{'store':<7}{'points':>9}{'client s':>10}{'compare s':>11}{'ratio':>7}{'us/point':>10}{'first s':>9}"
            f"{'sampled s':>11}{'ratio':>7}"
        )
        with ExitStack() as stack:
            for kind in ("sqlite", "http"):
                if arguments.only in (None, kind):
                    uri = f"sqlite:///{path}" if kind == "sqlite" else stack.enter_context(serve(path))
                    for length in lengths:
                        print_row(kind, uri, runs, length)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def make_store(path: Path, lengths: list[int]) -> dict[tuple[str, int], str]:
    """Four runs for each length, as `DIFFERENT_FROM` has them, written as rows.

    Logging a million points by the client takes minutes.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    runs = {}
    with sqlite3.connect(path) as database:
        for length in lengths:
            for side, share in DIFFERENT_FROM.items():
                run_id = client.create_run("0").info.run_id
                runs[side, length] = run_id
                write_history(database, run_id, length, different_from=share * length)
    return runs


def write_history(database: sqlite3.Connection, run_id: str, length: int, *, different_from: float) -> None:
    """One metric, ``loss``; from a step on it is a little greater."""
    generator = random.Random(0)  # noqa: S311 - any numbers
    rows = []
    for step in range(length):
        value = generator.random() * (1 + 1e-6 if step >= different_from else 1)
        rows.append(("loss", value, START + step, run_id, step, False))
    columns = "(key, value, timestamp, run_uuid, step, is_nan) values (?, ?, ?, ?, ?, ?)"
    database.executemany(f"insert into metrics {columns}", rows)
    database.execute(f"insert into latest_metrics {columns}", rows[-1])
    database.commit()


def print_row(kind: str, uri: str, runs: dict[tuple[str, int], str], length: int) -> None:
    """Measure one length in one store."""
    from mlflow import MlflowClient

    from mlflow_repro.judging.histories import compare_run_histories
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.store import open_store
    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run

    client, store = MlflowClient(tracking_uri=uri), open_store(uri)
    pair = runs["reference", length], runs["same", length]

    def compare(other: str, mode: str) -> None:
        names = runs["reference", length], runs[other, length]
        sides = tuple(Side(run=Run(run_id=name), store=store) for name in names)
        (row,) = compare_run_histories(sides, ["loss"], Rules(), mode)
        expected = None if other == "same" else DIFFERENT_FROM[other] * length
        if row.details.get("first_different_step") != expected:
            raise SystemExit(f"{kind}, {length}: {row}")

    by_client, by_us, first, sampled = [], [], [], []
    for _ in range(TIMES.get(length, 1)):
        by_client.append(measure(lambda: read_by_client(client, pair)))
        by_us.append(measure(lambda: compare("same", "full")))
        first.append(measure(lambda: compare("early", "first")))
        sampled.append(measure(lambda: compare("late", "sampled")))
    client_s, us_s = statistics.median(by_client), statistics.median(by_us)
    figures = f"{client_s:>10.3f}{us_s:>11.3f}{us_s / client_s:>7.2f}{1e6 * us_s / (2 * length):>10.1f}"
    sampled_s = statistics.median(sampled)
    figures += f"{statistics.median(first):>9.3f}{sampled_s:>11.3f}{sampled_s / client_s:>7.2f}"
    print(f"{kind:<7}{length:>9}{figures}", flush=True)


def read_by_client(client: MlflowClient, pair: tuple[str, str]) -> None:
    """Both histories, as MLflow's own client gives them."""
    for run_id in pair:
        client.get_metric_history(run_id, "loss")


def measure(work: Callable[[], None]) -> float:
    """The seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def serve(path: Path) -> Iterator[str]:
    """The URL of a tracking server of that store, as ``mlflow server`` starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port),
        "--backend-store-uri", f"sqlite:///{path}", "--artifacts-destination", str(path.parent / "artifacts"),
    ]  # fmt: skip
    with path.with_suffix(".log").open("w") as log:
        server = subprocess.Popen(command, cwd=path.parent, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310 - http, on loopback
                break
            except OSError:
                if server.poll() is not None:
                    raise SystemExit(path.with_suffix(".log").read_text()) from None
                time.sleep(0.2)
        yield url
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
        shutil.rmtree(path.parent / "artifacts", ignore_errors=True)


if __name__ == "__main__":
    main()
