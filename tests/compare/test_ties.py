"""Points that share a step and a millisecond: equal where one order of logging explains both histories."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

import mlflow_repro
from mlflow_repro.compare.ties import compare_timed
from mlflow_repro.judging.histories import open_histories
from mlflow_repro.store import open_store
from mlflow_repro.store.histories import ClientHistories, SqlHistories
from mlflow_repro.values.comparison import Status, Verdict
from mlflow_repro.values.rules import EXACT, Rules, Tolerances

if TYPE_CHECKING:
    from pathlib import Path

Log = list[tuple[int, float]]
"""Steps and values in the order in which they were logged."""
few_values = st.sampled_from((1.0, 2.0, 3.0, 0.0, -0.0, math.nan, math.inf))
finite_values = few_values.filter(math.isfinite)
logs = st.lists(st.tuples(st.integers(0, 2), few_values), min_size=2, max_size=12)
gaps = st.lists(st.sampled_from((0, 0, 1)), min_size=12, max_size=12)


def stored(log: Log, gaps: list[int]):
    """What a store keeps of a log whose points are ``gaps`` milliseconds apart: columns by step, time and value."""
    times = np.cumsum(gaps[: len(log)])
    steps, values = (np.array(column) for column in zip(*log, strict=True))
    order = np.lexsort((values, times, steps))
    return steps[order].astype(np.int64), values[order].astype(np.float64), times[order].astype(np.int64)


class TestLaws:
    """What holds for any two histories."""

    @given(logs, gaps, gaps)
    def test_one_log_is_equal_whatever_the_pace(self, log: Log, one: list[int], other: list[int]):
        found = compare_timed("x", stored(log, one), stored(log, other), EXACT)
        assert found is None or found.status is Status.IDENTICAL

    @given(logs, st.randoms(use_true_random=False))
    def test_without_ties_the_order_counts(self, log: Log, random):
        again = random.sample(log, len(log))
        found = compare_timed("x", stored(log, [1] * 12), stored(again, [1] * 12), EXACT)
        by_step = [
            [[math.copysign(1, v), str(v)] for s, v in side if s == step] for step in range(3) for side in (log, again)
        ]
        is_same = all(one == other for one, other in zip(by_step[::2], by_step[1::2], strict=True))
        assert found is None or (found.status is Status.IDENTICAL) is is_same
        assert found is None or "unordered" not in found.details

    @given(logs, gaps, gaps, st.integers(0, 11))
    def test_another_value_is_never_equal(self, log: Log, one: list[int], other: list[int], place: int):
        step, _ = log[place % len(log)]
        changed = [*log]
        changed[place % len(log)] = step, 0.25
        found = compare_timed("x", stored(log, one), stored(changed, other), Tolerances())
        assert found is not None
        assert found.status is Status.DIFFERENT

    @given(
        st.lists(few_values.filter(math.isfinite), min_size=2, max_size=6),
        gaps,
        gaps,
        st.randoms(use_true_random=False),
    )
    def test_equal_is_said_only_where_an_order_explains_both(self, values, one, other, random):
        from itertools import permutations

        again = random.sample(values, len(values))
        sides = [stored([(0, value) for value in side], gap) for side, gap in ((values, one), (again, other))]

        def explain(side) -> set[tuple[str, ...]]:
            """Every order that a side can have been logged in."""
            steps, kept, times = side
            cuts = [0, *(np.flatnonzero(np.diff(times)) + 1).tolist(), len(steps)]
            orders = {()}
            for start, end in pairwise(cuts):
                group = [repr(float(value)) for value in kept[start:end]]
                orders = {(*order, *rest) for order in orders for rest in set(permutations(group))}
            return orders

        found = compare_timed("x", *sides, EXACT)
        assert (found.status is Status.IDENTICAL) is bool(explain(sides[0]) & explain(sides[1]))


def test_values_that_are_near_may_be_in_another_order():
    one = stored([(0, 1.0), (0, 2.0), (0, 3.0)], [0] * 3)
    other = stored([(0, 3.0 + 1e-12), (0, 1.0), (0, 2.0)], [0, 1, 1])
    found = compare_timed("x", one, other, Tolerances())
    assert (found.status, found.details["unequal"], found.details["unordered"]) == (Status.CLOSE, 1, 3)
    assert "the order of 3 points is unknown, as they share a step and a millisecond" in found.note


def test_many_points_of_one_step():
    count = 20_000
    values = np.random.default_rng(0).normal(size=count)
    sides = [
        stored([(0, value) for value in values.tolist()], np.random.default_rng(n).integers(0, 2, count).tolist())
        for n in (1, 2)
    ]
    assert compare_timed("x", *sides, EXACT).status is Status.IDENTICAL


@pytest.fixture
def store(tmp_path: Path, empty_store: Path):
    """A SQLite store with a way to log a run whose points have the times that are given."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)

    def log(values: list[float], times: list[int], step: int = 0) -> str:
        run_id = client.create_run("0").info.run_id
        client.log_batch(
            run_id, [Metric("loss", value, 1000 + time, step) for value, time in zip(values, times, strict=True)]
        )
        client.set_terminated(run_id)
        return run_id

    return uri, log


VALUES = [float((7 * number) % 31) for number in range(30)]


@pytest.mark.parametrize("mode", ["full", "first", "sampled"])
def test_runs_that_logged_without_a_step_are_equal_at_any_pace(store, mode: str):
    """The last value, too: the store takes the greatest one of the last millisecond for it."""
    uri, log = store
    one = log(VALUES, [number // 10 for number in range(30)])
    other = log(VALUES, [number // 7 for number in range(30)])
    result = mlflow_repro.compare_runs(one, other, tracking_uri=uri, histories=mode)
    assert result.verdict is Verdict.IDENTICAL
    (row,) = result.of_kind("history")
    assert "points is unknown" in row.note
    (metric,) = result.of_kind("metric")
    assert metric.reference != metric.reproduction
    assert "nobody knows which is the last" in metric.note


@pytest.mark.parametrize("change", ["value", "order", "last"])
def test_runs_that_differ_beside_the_order_are_different(store, change: str):
    uri, log = store
    values = [*VALUES]
    if change == "value":
        values[3] += 1
    elif change == "order":  # across the border of two milliseconds
        values[9], values[10] = values[10], values[9]
    else:
        values[-1] += 1
    times = [number // 10 for number in range(30)]
    result = mlflow_repro.compare_runs(log(VALUES, times), log(values, times), tracking_uri=uri)
    assert result.verdict is Verdict.DIFFERENT


@pytest.mark.parametrize(
    ("one", "other", "gap", "verdict"),
    [
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], 1, Verdict.INCONCLUSIVE),
        ([1.0, 2.0, 2.0], [1.0, 2.0, 2.0], 5, Verdict.INCONCLUSIVE),
        ([1.0, 1.0, 2.0], [1.0, 1.0, 3.0], 1, Verdict.DIFFERENT),
        ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0], 5000, Verdict.DIFFERENT),
        ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], 1, Verdict.IDENTICAL),
    ],
)
def test_equal_points_of_one_millisecond_of_which_a_sql_store_keeps_one(store, one, other, gap, verdict):
    """Nobody knows how many there were; a point that came long after another was not lost for this."""
    uri, log = store
    ids = log(one, [0, 0, 0]), log(other, [0, gap, 2 * gap])
    assert mlflow_repro.compare_runs(*ids, tracking_uri=uri).verdict is verdict
    assert mlflow_repro.compare_runs(*ids[::-1], tracking_uri=uri).verdict is verdict


def test_a_missing_step_is_no_lost_point(store):
    uri, log = store
    one, other = log([1.0, 1.0], [0, 1], 1), log([1.0, 1.0], [0, 1], 2)
    assert mlflow_repro.compare_runs(one, other, tracking_uri=uri).verdict is Verdict.DIFFERENT


def test_late_steps_with_several_points_are_found_equal_by_samples(store):
    uri, log = store
    one, other = log([2.0, 1.0, 3.0], [0, 0, 1], 20_000), log([2.0, 1.0, 3.0], [0, 1, 1], 20_000)
    assert mlflow_repro.compare_runs(one, other, tracking_uri=uri, histories="sampled").verdict is Verdict.IDENTICAL


def test_each_reader_gives_the_times(store):
    uri, log = store
    run_id = log(VALUES, [number // 10 for number in range(30)])
    opened = open_store(uri)
    with open_histories(opened) as quick:
        assert isinstance(quick, SqlHistories)
        slow = ClientHistories(opened.read_points, opened.read_last_points)
        for one, other in zip(quick.read_timed(run_id, "loss"), slow.read_timed(run_id, "loss"), strict=True):
            assert one.tolist() == other.tolist()
        assert [len(column) for column in slow.read_timed(run_id, "none")] == [0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 3), strategies.numbers), max_size=8), gaps)
def test_rules_without_ties_give_what_histories_give(log: Log, pace: list[int]):
    """A history with its times is itself under any rule."""
    if log:
        side = stored(log, pace)
        found = compare_timed("x", side, side, Rules().default)
        assert found is None or found.status is Status.IDENTICAL
