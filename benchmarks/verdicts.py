"""Judge a table of labelled pairs of runs, and print the confusion matrix.

Each pair is a small training (stochastic gradient descent in numpy, its loss at each step) and what was done to the
second one: the same seed, another seed, sums in another order as other threads make them, single precision as another
library has it, and differences that were put in by hand, in the losses or in an array that the run logged as an
artifact. The runs are logged to a SQLite store and compared as
``mlflow-repro compare`` does. Beside them stand the pairs of `verdict_cases.py`, which differ in files of many formats
or in the pace of their points. The label is what a person knows from how the pair was made. The exit code is 1 when a
verdict is wrong.

Usage: python benchmarks/verdicts.py [--seeds 20]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from verdict_cases import list_cases

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient
    from verdict_cases import Side

STEPS = 40
IDENTICAL, WITHIN, DIFFERENT = "IDENTICAL", "WITHIN_TOLERANCE", "DIFFERENT"
Histories = dict[str, list[float]]
"""By metric; where ``WEIGHTS`` is among them, that is an array, and logged as an artifact."""
WEIGHTS = "weights.npy"


def train(seed: int, *, chunks: int = 1, dtype: type = np.float64) -> Histories:
    """Linear regression by gradient descent; its gradient is summed in ``chunks`` pieces, as so many threads do."""
    generator = np.random.default_rng(seed)
    data = generator.normal(size=(256, 8)).astype(dtype)
    target = data @ np.arange(8, dtype=dtype) + generator.normal(size=256).astype(dtype)
    weights = generator.normal(size=8).astype(dtype)
    loss, norm = [], []
    for _ in range(STEPS):
        error = data @ weights - target
        parts = [part.sum(axis=0) for part in np.array_split(data * error[:, None], chunks)]
        weights = weights - dtype(0.002) * np.sum(parts, axis=0)
        loss.append(float(sum(part.sum() for part in np.array_split(error * error, chunks)) / dtype(256)))
        norm.append(float(np.sqrt((weights * weights).sum())))
    return {"loss": loss, "norm": norm}


def change(histories: Histories, edit: Callable[[list[float]], None]) -> Histories:
    """A copy in which the losses are edited."""
    losses = list(histories["loss"])
    edit(losses)
    return {**histories, "loss": losses}


def scale_from(start: int, factor: float) -> Callable[[list[float]], None]:
    """Multiply each value from a step on."""

    def edit(values: list[float]) -> None:
        values[start:] = [value * factor for value in values[start:]]

    return edit


def set_at(step: int, value: Callable[[float], float]) -> Callable[[list[float]], None]:
    """Change one value."""

    def edit(values: list[float]) -> None:
        values[step] = value(values[step])

    return edit


def one_ulp(value: float) -> float:
    """The next float64."""
    return math.nextafter(value, math.inf)


def with_weights(seed: int, one: Histories, edit: Callable[[np.ndarray], None] = lambda _: None) -> Any:
    """The same metrics beside a matrix of a thousand weights, in which something is edited."""
    weights = np.random.default_rng(seed).normal(size=(40, 25))
    edit(weights)
    return {**one, WEIGHTS: weights}


def flip(weights: np.ndarray) -> None:
    """Change the sign of one element."""
    weights[17, 11] *= -1


def raise_by_one_ulp(weights: np.ndarray) -> None:
    """Change the last bit of one element."""
    weights[17, 11] = np.nextafter(weights[17, 11], np.inf)


EXACT = {"exact": True}
# By name: how the second run comes from the seed and the first run; the rules; the verdict that is right.
KINDS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "same seed": (lambda seed, _: train(seed), {}, IDENTICAL),
    "other seed": (lambda seed, _: train(seed + 1000), {}, DIFFERENT),
    "other seed, loose": (lambda seed, _: train(seed + 1000), {"rel_tol": 1e-3}, DIFFERENT),
    "other thread count": (lambda seed, _: train(seed, chunks=7), {}, WITHIN),
    "other thread count, exact": (lambda seed, _: train(seed, chunks=7), EXACT, DIFFERENT),
    "library changed": (lambda seed, _: train(seed, dtype=np.float32), {}, DIFFERENT),
    "library changed, loose": (lambda seed, _: train(seed, dtype=np.float32), {"rel_tol": 1e-3}, WITHIN),
    "1 ULP at one step": (lambda _, one: change(one, set_at(20, one_ulp)), {}, WITHIN),
    "1 ULP, ulp:1": (lambda _, one: change(one, set_at(20, one_ulp)), {"tolerance": ("*=ulp:1",)}, WITHIN),
    "1 ULP, exact": (lambda _, one: change(one, set_at(20, one_ulp)), EXACT, DIFFERENT),
    "1e-9 from the middle on": (lambda _, one: change(one, scale_from(20, 1 + 2e-9)), {}, DIFFERENT),
    "1e-9, rel:1e-8": (lambda _, one: change(one, scale_from(20, 1 + 2e-9)), {"rel_tol": 1e-8}, WITHIN),
    "0.1 % at one step": (lambda _, one: change(one, set_at(7, lambda value: value * 1.001)), {}, DIFFERENT),
    "1 % at the end": (lambda _, one: change(one, scale_from(STEPS - 1, 1.01)), {"rel_tol": 1e-3}, DIFFERENT),
    "1 %, allowed": (lambda _, one: change(one, scale_from(0, 1.01)), {"tolerance": ("loss=rel:0.02",)}, WITHIN),
    "missing step": (lambda _, one: change(one, lambda values: values.__setitem__(5, None)), {}, DIFFERENT),
    "missing last step": (lambda _, one: change(one, lambda values: values.pop()), {}, DIFFERENT),
    "extra metric": (lambda _, one: {**one, "extra": [1.0]}, {}, DIFFERENT),
    "extra metric, ignored": (lambda _, one: {**one, "extra": [1.0]}, {"ignore": ("extra",)}, IDENTICAL),
    "other time": (lambda _, one: {**one, "fit_time": [1.0]}, {}, IDENTICAL),
    "NaN at a step": (lambda _, one: change(one, set_at(11, lambda _: math.nan)), {}, DIFFERENT),
    "NaN at a step, loose": (lambda _, one: change(one, set_at(11, lambda _: math.nan)), {"rel_tol": 1.0}, DIFFERENT),
    "same tensor": (with_weights, {}, IDENTICAL),
    "tensor element flipped": (lambda seed, one: with_weights(seed, one, flip), {}, DIFFERENT),
    "tensor element 1 ULP": (lambda seed, one: with_weights(seed, one, raise_by_one_ulp), {}, WITHIN),
    "tensor element 1 ULP, exact": (lambda seed, one: with_weights(seed, one, raise_by_one_ulp), EXACT, DIFFERENT),
    "tensor is missing": (lambda _, one: {**one, WEIGHTS: None}, {}, DIFFERENT),
}


def log(client: MlflowClient, histories: Histories) -> str:
    """Log a finished run; None stands for a step that was not logged."""
    from mlflow.entities import Metric

    run_id = client.create_run("0").info.run_id
    weights: Any = histories.get(WEIGHTS)
    if weights is not None:
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/{WEIGHTS}", weights)
            client.log_artifact(run_id, f"{folder}/{WEIGHTS}")
    points = [
        Metric(name, value, 1_700_000_000_000 + step, step)
        for name, values in histories.items()
        if name != WEIGHTS
        for step, value in enumerate(values)
        if value is not None
    ]
    client.log_batch(run_id, metrics=points)
    client.set_terminated(run_id)
    return run_id


def log_side(client: MlflowClient, side: Side) -> str:
    """Log a finished run with files, and points that have no step."""
    from mlflow.entities import Metric

    run_id = client.create_run("0").info.run_id
    with tempfile.TemporaryDirectory() as folder:
        for name, content in side.files.items():
            Path(folder, name).write_bytes(content)
        client.log_artifacts(run_id, folder)
    client.log_batch(run_id, [Metric("loss", value, 1_700_000_000_000 + time, 0) for value, time in side.points])
    client.set_terminated(run_id)
    return run_id


def judge_cases(client: MlflowClient, uri: str) -> Counter[tuple[str, str]]:
    """Judge each case of `verdict_cases.py`, print a line for each kind, and count expected and given verdicts."""
    from mlflow_repro.judging.causes import compare_and_explain
    from mlflow_repro.judging.options import CompareOptions
    from mlflow_repro.values.options import make_options

    found: dict[tuple[str, str], Counter[str]] = {}
    for case in list_cases():
        ids = [log_side(client, side) for side in (case.reference, *case.reproductions)]
        report = compare_and_explain(
            ids[0], ids[1:], make_options(CompareOptions, {**case.rules, "tracking_uri": uri, "children": False})
        )
        verdict = report.verdict.value
        found.setdefault((case.kind, case.expected), Counter())[verdict] += 1
        if verdict != case.expected:
            print(f"wrong: {case.kind}, {[*case.reference.files]}", flush=True)
    for (kind, expected), given in found.items():
        print_kind(kind, expected, given)
    matrix: Counter[tuple[str, str]] = Counter()
    for (_, expected), given in found.items():
        matrix.update({(expected, verdict): count for verdict, count in given.items()})
    print(f"{matrix.total()} pairs and repeats of verdict_cases.py")
    return matrix


def print_kind(name: str, expected: str, given: Counter[str]) -> None:
    """A line for a kind of pair."""
    shown = ", ".join(f"{count} {verdict}" for verdict, count in given.items())
    print(f"{name:<31}expected {expected:<18}{shown}", flush=True)


def main() -> int:
    """Print a line for each kind of pair and the confusion matrix; 1 when a verdict is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    seeds = range(parser.parse_args().seeds)
    from mlflow import MlflowClient

    import mlflow_repro

    matrix: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="verdicts-") as folder:
        uri = f"sqlite:///{Path(folder, 'mlflow.db')}"
        client = MlflowClient(tracking_uri=uri)
        firsts = {seed: train(seed) for seed in seeds}
        ids = {(seed, False): log(client, first) for seed, first in firsts.items()}
        ids |= {(seed, True): log(client, with_weights(seed, first)) for seed, first in firsts.items()}
        for name, (make, rules, expected) in KINDS.items():
            given: Counter[str] = Counter()
            for seed in seeds:
                made = make(seed, firsts[seed])
                pair = ids[seed, WEIGHTS in made], log(client, made)
                given[mlflow_repro.compare_runs(*pair, tracking_uri=uri, **rules).verdict.value] += 1
            matrix.update({(expected, verdict): count for verdict, count in given.items()})
            print_kind(name, expected, given)
        matrix += judge_cases(client, uri)
    return print_matrix(matrix)


def print_matrix(matrix: Counter[tuple[str, str]]) -> int:
    """Expected verdicts down, given ones across; 1 when one lies off the diagonal."""
    names = sorted({name for pair in matrix for name in pair})
    print(f"\n{'expected, given':<20}" + "".join(f"{name:>18}" for name in names))
    for expected in names:
        print(f"{expected:<20}" + "".join(f"{matrix[expected, given]:>18}" for given in names))
    wrong = sum(count for (expected, given), count in matrix.items() if expected != given)
    print(f"{matrix.total()} pairs, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
