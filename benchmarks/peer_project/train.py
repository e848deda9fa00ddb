"""A tiny training that any of the tools records: the program that `benchmarks/peers.py` measures.

Usage: python train.py --tool NAME --mode train|runs|steady --note TEXT --report FILE [--steps N] [--runs N]

``train`` does ``--steps`` steps inside one recorded run and logs 20 metrics; ``runs`` starts and ends many more;
``steady`` times steps inside a run, when what the tool does at its start is over. What was measured is written to
``--report`` as JSON: times in milliseconds, and the state of the generators for `benchmarks/canaries.py`. It prints
nothing: a tool that records the output would record what it is looked through for.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Log = Callable[[str, float, int], object]
    Body = Callable[[Log], None]

METRICS = 20
SIZE = 160  # of the square matrix that a step multiplies: about half a millisecond
SETTLE_SECONDS = 3.0
PAUSE_SECONDS = 0.25  # a short training: what is done in the background has time
PART_SECONDS = 10.0  # after which no more runs are started for one figure
STATE_WORDS = 12


def load_nothing() -> Callable[[Body], None]:
    """Record nothing."""
    return lambda body: body(lambda _name, _value, _step: None)


def load_mlflow() -> Callable[[Body], None]:
    """MLflow, with this project's plugin where it is installed."""
    import mlflow

    def record(body: Body) -> None:
        with mlflow.start_run():
            body(lambda name, value, step: mlflow.log_metric(name, value, step=step))

    return record


def load_wandb() -> Callable[[Body], None]:
    """Weights & Biases."""
    import wandb

    def record(body: Body) -> None:
        run = wandb.init(project="bench")
        body(lambda name, value, step: run.log({name: value}, step=step))
        run.finish()

    return record


def load_sacred() -> Callable[[Body], None]:
    """Sacred, which wants the run to be a function."""
    from sacred import Experiment
    from sacred.observers import FileStorageObserver

    experiments: list[Any] = []
    bodies: list[Body] = []

    def make() -> Any:
        experiment = Experiment("bench", save_git_info=True)
        experiment.observers.append(FileStorageObserver(os.environ["SACRED_STORE"]))
        experiment.main(lambda _run: bodies[0](_run.log_scalar))
        return experiment

    def record(body: Body) -> None:
        bodies[:] = [body]
        experiments[:] = experiments or [make()]
        experiments[0].run()

    return record


def load_dvclive() -> Callable[[Body], None]:
    """DVCLive, which saves an experiment of DVC when the run ends."""
    from dvclive import Live

    def record(body: Body) -> None:
        with Live() as live:

            def log(name: str, value: float, step: int) -> None:
                live.step = step
                live.log_metric(name, value)

            body(log)

    return record


def load_clearml() -> Callable[[Body], None]:
    """ClearML."""
    from clearml import Task

    def record(body: Body) -> None:
        task = Task.init(project_name="bench", task_name="bench", reuse_last_task_id=False)
        logger = task.get_logger()
        body(lambda name, value, step: logger.report_scalar(name, name, value, step))
        task.close()

    return record


TOOLS = {
    "nothing": load_nothing,
    "mlflow": load_mlflow,
    "wandb": load_wandb,
    "sacred": load_sacred,
    "dvclive": load_dvclive,
    "clearml": load_clearml,
}


def step(matrix: np.ndarray, out: np.ndarray) -> float:
    """Do one step of the training, in memory that is there: new memory costs more or less by what else was loaded."""
    np.matmul(matrix, matrix, out=out)
    return float(np.tanh(out, out=out).mean())


def make_matrix() -> np.ndarray:
    """The matrix that all steps multiply; drawn from no generator."""
    return np.sin(np.arange(SIZE * SIZE, dtype=float)).reshape(SIZE, SIZE)


def train(record: Callable[[Body], None], options: argparse.Namespace) -> dict[str, Any]:
    """One run of ``options.steps`` steps; gives the state of the generators as it began, and its start and end."""
    report: dict[str, Any] = {}
    inside: list[float] = []

    def body(log: Log) -> None:
        inside.append(time.perf_counter())
        report["python_state"] = list(random.getstate()[1][:STATE_WORDS])
        report["numpy_state"] = np.random.get_state()[1][:STATE_WORDS].tolist()
        seed = options.seed_half * 2 + 1
        random.seed(seed)
        np.random.seed(seed)
        matrix, out = make_matrix(), make_matrix()
        for number in range(options.steps):
            value = step(matrix, out)
            if number % max(1, options.steps // METRICS) == 0:
                log("loss", value, number)
        inside.append(time.perf_counter())

    begin = time.perf_counter()
    record(body)
    end = time.perf_counter()
    return {**report, "first": 1000 * (inside[0] - begin + end - inside[1])}


def time_runs(record: Callable[[Body], None], options: argparse.Namespace) -> dict[str, Any]:
    """After a first run, runs with a pause inside, and runs back to back: [start, end] of each."""

    def once(pause: float) -> tuple[float, float]:
        inside: list[float] = []

        def body(log: Log) -> None:
            inside.append(time.perf_counter())
            log("loss", 1.0, 0)
            if pause:
                time.sleep(pause)
            inside.append(time.perf_counter())

        begin = time.perf_counter()
        record(body)
        return 1000 * (inside[0] - begin), 1000 * (time.perf_counter() - inside[1])

    def many(pause: float) -> list[tuple[float, float]]:
        deadline = time.monotonic() + PART_SECONDS
        times = [once(pause)]
        while len(times) < options.runs and time.monotonic() < deadline:
            times.append(once(pause))
        return times

    once(PAUSE_SECONDS)
    return {"paused": many(PAUSE_SECONDS), "back_to_back": many(0.0)}


def time_steps(record: Callable[[Body], None], options: argparse.Namespace) -> dict[str, Any]:
    """The median of the times of ``options.steps`` steps in a run that began `SETTLE_SECONDS` before."""
    times: list[float] = []

    def body(_log: Log) -> None:
        matrix, out = make_matrix(), make_matrix()
        time.sleep(SETTLE_SECONDS)
        for _ in range(options.steps):
            begin = time.perf_counter()
            step(matrix, out)
            times.append(1000 * (time.perf_counter() - begin))

    record(body)
    return {"step": statistics.median(times)}


MODES = {"train": train, "runs": time_runs, "steady": time_steps}


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", choices=TOOLS, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--note", help="a text that is on the command line only")
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed-half", type=int, default=0, help="half of the seed, which is so found in no text")
    options = parser.parse_args()
    report = MODES[options.mode](TOOLS[options.tool](), options)
    options.report.write_text(json.dumps(report))


if __name__ == "__main__":
    main()
