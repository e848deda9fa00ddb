"""What a report costs: seconds to compare, to render and to show, and how large it gets.

Two runs in a SQLite store have METRICS metrics with POINTS points in all, and differ from the middle on. The first row
is comparing them with no report in mind, the second with the histories thinned out for plots; they take turns, and the
least of three counts. Beside them stands what MLflow's client needs to read the same histories once, which whoever
makes a report with it has to do first. Where there is Chromium with its driver (and selenium), it opens the page: the
time until it is loaded, until it is scrolled to its end, and until all that is folded is open.

Usage: python benchmarks/reports.py [--metrics 500] [--points 1000000] [--no-client]
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.compare.curves import CurveSampler
from mlflow_repro.judging.judge import judge_runs
from mlflow_repro.judging.options import Judging
from mlflow_repro.judging.sides import Side
from mlflow_repro.report import RENDERERS
from mlflow_repro.store import open_store
from mlflow_repro.values.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 3
# Two frames later what was asked for is on the screen.
SHOWN = """
const [change, done] = [arguments[0], arguments[1]], start = performance.now();
if (change === "scroll") scrollTo(0, document.body.scrollHeight);
if (change === "open") for (const part of document.querySelectorAll("details")) part.open = true;
requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - start) / 1000)));
"""
LOADED = """
const [page] = performance.getEntriesByType("navigation");
return [page.loadEventEnd / 1000, document.querySelectorAll("*").length];
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", type=int, default=500)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--no-client", action="store_true", help="do not read the histories by MLflow's client as well")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reports-") as folder:
        path = Path(folder, "mlflow.db")
        ids = make_runs(path, arguments.metrics, arguments.points // arguments.metrics)
        store = open_store(f"sqlite:///{path}")
        one, other = (Side(run=store.read_run(run_id), store=store) for run_id in ids)
        options = Judging()
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
            reference=one.run,
            reproduction=other.run,
            comparison=comparison,
            curves=samplers[-1].curves(comparison.findings),
        )
        page, rendered = Path(folder, "report.html"), {}
        for name, render in RENDERERS.items():
            start = time.perf_counter()
            text = render(report, False)  # noqa: FBT003 - a renderer's form
            rendered[name] = time.perf_counter() - start
            print(f"{name:<22}{rendered[name]:>8.2f} s  {len(text.encode()) / 1e6:.2f} MB")
            if name == "html":
                page.write_text(text, encoding="utf-8")
        if not arguments.no_client:
            client = measure_in_turns(lambda: read_by_client(path, ids), times=1)[0]
            whole = watched + rendered["html"]
            print(
                f"{'client reads them':<22}{client:>8.2f} s  the whole HTML report takes {whole / client:.2f} of that"
            )
        show_in_browser(page)


def read_by_client(path: Path, ids: list[str]) -> None:
    """Every point of every metric of the runs, as MLflow's own client gives them."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    for run_id in ids:
        for name in client.get_run(run_id).data.metrics:
            client.get_metric_history(run_id, name)


def show_in_browser(page: Path) -> None:
    """Open the page in Chromium, and print how long a reader waits."""
    chromium, driver_path = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        chromium = None
    if not (chromium and driver_path):
        print("no Chromium, chromedriver or selenium: the page was not opened")
        return
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        browser.get(f"file://{page}")
        loaded, elements = browser.execute_script(LOADED)
        print(f"{'browser, loaded':<22}{loaded:>8.2f} s  {elements} elements")
        for change, words in (("scroll", "scrolled to its end"), ("open", "all tables open")):
            print(f"{'browser, ' + words:<28}{browser.execute_async_script(SHOWN, change):>.2f} s")
    finally:
        browser.quit()


def measure_in_turns(*jobs: Callable[[], object], times: int = TIMES) -> list[float]:
    """The least of so many times of each."""
    all_taken: list[list[float]] = [[] for _ in jobs]
    for _ in range(times):
        for job, taken in zip(jobs, all_taken, strict=True):
            start = time.perf_counter()
            job()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in all_taken]


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
