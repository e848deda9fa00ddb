"""What a report costs: seconds to compare and to render, and how large it gets.

Two runs in a SQLite store have METRICS metrics with POINTS points in all, and differ from the middle on. The first row
is comparing them with no report in mind, the second with the histories thinned out for plots; they take turns, and the
least of three counts.

Usage: python benchmarks/reports.py [--metrics 500] [--points 1000000]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.compare.curves import CurveSampler
from mlflow_repro.judging import JudgeOptions, Side, judge_runs
from mlflow_repro.model import Report
from mlflow_repro.report import RENDERERS
from mlflow_repro.tracking import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", type=int, default=500)
    parser.add_argument("--points", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        path = Path(folder, "mlflow.db")
        ids = make_runs(path, arguments.metrics, arguments.points // arguments.metrics)
        store = open_store(f"sqlite:///{path}")
        one, other = (Side(record=store.read_run(run_id), store=store) for run_id in ids)
        options = JudgeOptions(artifacts=None)
        samplers: list[CurveSampler] = []

        def compare_and_watch() -> None:
            samplers.append(CurveSampler())
            judge_runs(one, other, options, sampler=samplers[-1])

        plain, watched = measure_in_turns(lambda: judge_runs(one, other, options), compare_and_watch)
        print(f"{'compare':<22}{plain:>8.2f} s")
        print(f"{'compare, with curves':<22}{watched:>8.2f} s  ratio {watched / plain:.2f}")
        comparison = judge_runs(one, other, options)
        report = Report(
            plan=None,
            reference=one.record,
            reproduction=other.record,
            comparison=comparison,
            curves=samplers[-1].curves(comparison.findings),
        )
        for name, render in RENDERERS.items():
            start = time.perf_counter()
            text = render(report, False)  # noqa: FBT003 - a renderer's form
            seconds = time.perf_counter() - start
            print(f"{name:<22}{seconds:>8.2f} s  {len(text.encode()) / 1e6:.2f} MB")


def measure_in_turns(*jobs: Callable[[], object]) -> list[float]:
    """The least of three times of each."""
    times: list[list[float]] = [[] for _ in jobs]
    for _ in range(TIMES):
        for job, taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def make_runs(path: Path, metrics: int, points: int) -> list[str]:
    """Two runs that are the same up to the middle. Rows are written by SQL: the client would take minutes."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    ids = [client.create_run("0").info.run_id for _ in range(2)]
    draw = random.Random(1)  # noqa: S311 - no secret
    with sqlite3.connect(path) as database:
        for number in range(metrics):
            name = f"layer.{number}/loss"
            values = [draw.random() / (1 + step) for step in range(points)]
            for side, run_id in enumerate(ids):
                rows = [
                    (name, value * (1 + 1e-3 * side * (step > points / 2)), step, step, run_id, 0)
                    for step, value in enumerate(values)
                ]
                columns = "(key, value, timestamp, step, run_uuid, is_nan)"
                database.executemany(f"insert into metrics {columns} values (?, ?, ?, ?, ?, ?)", rows)  # noqa: S608
                last = f"insert into latest_metrics {columns} values (?, ?, ?, ?, ?, ?)"  # noqa: S608
                database.execute(last, rows[-1])
    for run_id in ids:
        client.set_terminated(run_id)
    return ids


if __name__ == "__main__":
    main()
