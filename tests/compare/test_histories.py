"""Histories: how two streams of points are compared, and that each way of reading gives the same points."""

from __future__ import annotations

import ast
import math
import re
import shutil
import sys
from contextlib import ExitStack
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

import mlflow_repro
from mlflow_repro.compare.figures import describe_growth
from mlflow_repro.compare.histories import close, compare_history, count_ulps, find_interval, identical
from mlflow_repro.compare.metrics import compare_value, is_close, is_identical, ulp_distance
from mlflow_repro.errors import UsageError
from mlflow_repro.store import open_store
from mlflow_repro.store.histories import _SAMPLES_BY_ROW, ClientHistories, RestHistories, SqlHistories
from mlflow_repro.text.versions import read_release
from mlflow_repro.values.comparison import Finding, Status, Verdict
from mlflow_repro.values.rules import EXACT, Rules, Tolerances

if TYPE_CHECKING:
    from pathlib import Path

Rows = list[tuple[int, float]]
small_histories = st.lists(st.tuples(st.integers(-3, 6), strategies.numbers), max_size=12).map(
    lambda rows: sorted(rows, key=lambda row: row[0])
)
cuts = st.lists(st.integers(0, 12), max_size=4)


def stream(rows: Rows, cuts: list[int] = ()):
    """``rows`` as a reader gives them, in blocks that end at ``cuts``."""
    bounds = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    for start, end in pairwise(bounds):
        yield in_columns(rows[start:end])


def compare(one: Rows, other: Rows, tolerances: Tolerances | None = None, **options: str) -> Finding | None:
    return compare_history("loss", stream(one), stream(other), tolerances or Tolerances(), **options)


def line(values: list[float], start: int = 0) -> Rows:
    return list(enumerate(values, start))


class TestLaws:
    """What holds for any two histories."""

    @given(small_histories, small_histories, cuts, cuts, strategies.tolerances)
    def test_where_the_blocks_end_makes_no_difference(
        self, one: Rows, other: Rows, cuts: list[int], cuts_there: list[int], tolerances: Tolerances
    ):
        whole = compare(one, other, tolerances)
        cut = compare_history("loss", stream(one, cuts), stream(other, cuts_there), tolerances)
        assert repr(cut) == repr(whole)

    @given(small_histories, strategies.tolerances)
    def test_a_history_is_identical_to_itself(self, rows: Rows, tolerances: Tolerances):
        found = compare(rows, rows, tolerances)
        assert found is None if len(rows) == 1 else found.status is (Status.IDENTICAL if rows else Status.UNKNOWN)

    @given(small_histories)
    def test_a_side_without_a_point_cannot_be_judged(self, rows: Rows):
        """A metric that both runs have has a point: a store that gives none leaves it out."""
        for found, side in ((compare(rows, []), "reproduction"), (compare([], rows), "reference")):
            assert found.status is Status.UNKNOWN
            assert side in found.note

    @given(small_histories, small_histories)
    def test_swapping_the_sides_mirrors(self, one: Rows, other: Rows):
        forth, back = compare(one, other), compare(other, one)
        assert (forth is None) == (back is None)
        if forth is not None:
            swapped = {"missing_points": "extra_points", "extra_points": "missing_points"}
            assert back.status is forth.status
            mirrored = {swapped.get(key, key): repr(value) for key, value in back.details.items()}
            assert mirrored == {key: repr(value) for key, value in forth.details.items()}

    @given(small_histories, small_histories, strategies.tolerances)
    def test_counts_are_those_of_a_plain_loop(self, one: Rows, other: Rows, tolerances: Tolerances):
        found = compare(one, other, tolerances)
        pairs, missing, extra = align(one, other)
        rules = Rules(default=tolerances)
        rows = [compare_value("metric", "loss", left, right, rules) for _, left, right in pairs]
        if found is None:
            assert len(one) <= 1
            assert not missing + extra
            return
        different = [step for (step, *_), row in zip(pairs, rows, strict=True) if row.status is Status.DIFFERENT]
        inexact = [step for (step, *_), row in zip(pairs, rows, strict=True) if row.status is not Status.IDENTICAL]
        assert (found.reference, found.reproduction) == (len(one), len(other))
        assert found.details["points"] == len(pairs)
        assert (found.details["missing_points"], found.details["extra_points"]) == (missing, extra)
        assert (found.details["different"], found.details["unequal"]) == (len(different), len(inexact))
        assert found.details.get("first_different_step") == (different[0] if different else None)
        assert found.details.get("first_inexact_step") == (inexact[0] if inexact else None)

    @given(st.lists(st.tuples(strategies.numbers, strategies.numbers), min_size=1, max_size=8), strategies.tolerances)
    def test_arrays_are_judged_as_single_numbers_are(self, pairs: list[tuple[float, float]], tolerances: Tolerances):
        one, other = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
        assert close(one, other, tolerances).tolist() == [is_close(*pair, tolerances) for pair in pairs]
        assert close(one, other, EXACT).tolist() == [is_identical(*pair) for pair in pairs]
        for pair, same in zip(pairs, identical(one, other).tolist(), strict=True):
            expected = compare_value("metric", "x", *pair, Rules()).status is Status.IDENTICAL
            assert same is expected
        finite = np.isfinite(one) & np.isfinite(other)
        expected = [ulp_distance(*pair) for pair, kept in zip(pairs, finite, strict=True) if kept]
        assert count_ulps(one[finite], other[finite]).tolist() == expected


def align(one: Rows, other: Rows) -> tuple[list[tuple[int, float, float]], int, int]:
    """The pairs of points, and how many have no counterpart; the plain way."""
    pairs, missing, extra = [], 0, 0
    for step in sorted({step for step, _ in one + other}):
        left, right = ([value for at, value in side if at == step] for side in (one, other))
        common = min(len(left), len(right))
        pairs += [(step, *pair) for pair in zip(left, right, strict=False)]
        missing, extra = missing + len(left) - common, extra + len(right) - common
    return pairs, missing, extra


@given(small_histories, small_histories, st.sets(st.integers(-3, 6)), strategies.tolerances)
@example([(0, -math.inf)], [(0, -sys.float_info.max)], {0}, EXACT)  # which is how a SQL store keeps it
def test_interval_between_samples_has_a_difference(one: Rows, other: Rows, kept: set[int], tolerances: Tolerances):
    """Whatever steps the samples are of."""
    samples = [[row for row in rows if row[0] in kept] for rows in (one, other)]
    pairs = align(*samples)[0]
    rules = Rules(default=tolerances)
    rows = [compare_value("metric", "loss", left, right, rules) for _, left, right in pairs]
    first = next((at for at, row in enumerate(rows) if not row.is_equal), None)
    interval = find_interval(*map(in_columns, samples), tolerances)
    assert (interval and interval.equal) == first
    if interval is not None:
        inside = [[row for row in rows if interval.low <= row[0] <= interval.high] for rows in (one, other)]
        found = compare(*inside, tolerances, reading="part")
        assert found.status is Status.DIFFERENT
        assert all(step < interval.low or step == interval.high for step, *_ in pairs[:first])


def in_columns(rows: Rows):
    steps, values = zip(*rows, strict=True) if rows else ((), ())
    return np.array(steps, np.int64), np.array(values, np.float64)


class TestFinding:
    """What a person reads about a history."""

    def test_difference_is_located_and_measured(self):
        values = [1.0 + step for step in range(100)]
        found = compare(line(values), line([*values[:50], *(value * 1.01 for value in values[50:])]))
        assert found.status is Status.DIFFERENT
        assert (found.reference, found.reproduction) == (100.0, 100.0)
        assert found.note == (
            "differs from step 50 on, 50 of 100 points, relative error up to 0.0099, median 0.0099,"
            " up to 8.87e+13 ULP, constant"
        )

    def test_difference_within_tolerance(self):
        found = compare(line([1.0] * 9), line([1.0] * 8 + [math.nextafter(1.0, 2.0)]))
        assert found.status is Status.CLOSE
        assert found.note.startswith("differs within tolerance from step 8 on, 1 of 9 points")
        assert found.details["max_ulp"] == 1

    def test_missing_step_is_named(self):
        """Histories of different length differ, and the step where a point is missing is said."""
        values = [float(step) for step in range(10)]
        found = compare(line(values), line(values)[:4] + line(values)[5:])
        assert (found.status, found.note) == (Status.DIFFERENT, "1 points only in the reference, the first at step 4")
        assert compare(line(values), line([*values, 1.0])).note == (
            "1 points only in the reproduction, the first at step 10"
        )

    def test_nan_at_a_step(self):
        found = compare(line([1.0, math.nan, 2.0]), line([1.0, 1.5, 2.0]))
        assert found.note == "differs from step 1 on, 1 of 3 points, NaN or infinite on one side"
        assert compare(line([1.0, math.nan]), line([1.0, math.nan])).status is Status.IDENTICAL

    def test_duplicates_of_a_step_are_compared_in_their_order(self):
        one, other = [(0, 1.0), (0, 2.0), (1, 3.0)], [(0, 2.0), (0, 1.0), (1, 3.0)]
        assert compare(one, other).details["different"] == 2

    def test_single_points_say_no_more_than_the_final_value(self):
        assert compare([(3, 1.0)], [(3, 2.0)]) is None
        assert compare([(3, 1.0)], [(4, 1.0)]).status is Status.DIFFERENT

    def test_steps_beyond_53_bits(self):
        """CMP-11."""
        far = 2**62
        found = compare([(-5, 1.0), (far, 1.0), (far + 1, 1.0)], [(-5, 1.0), (far, 1.0), (far + 1, 2.0)])
        assert found.details["first_different_step"] == far + 1

    def test_reading_stops_at_the_first_difference(self):
        read = []

        def blocks(scale: float):
            for start in range(0, 1000, 10):
                read.append(start)
                yield np.arange(start, start + 10), np.full(10, scale if start >= 500 else 1.0)

        found = compare_history("x", blocks(1.0), blocks(2.0), Tolerances(), reading="first")
        assert found.details["first_different_step"] == 500
        assert found.note.endswith("not read any further")
        assert max(read) <= 520


@pytest.mark.parametrize(
    ("errors", "word"),
    [
        ([1e-9] * 7, ""),
        ([1e-9] * 100, "constant"),
        ([1e-9 * (1 + step % 3 / 4) for step in range(100)], "constant"),
        ([1e-9 * 1.1**step for step in range(100)], "growing"),
        ([1e-3 * 0.9**step for step in range(100)], "shrinking"),
        ([1e-9] * 40 + [1e-2] * 60, "jump at step 40"),
        ([1e-9] * 90 + [1e-2] * 10, "jump at step 90"),
        ([0.0] * 50 + [1.0] * 50, "jump at step 50"),
        ([0.0] * 20, "constant"),
    ],
)
def test_growth(errors: list[float], word: str):
    assert describe_growth(np.arange(len(errors)), np.array(errors)) == word


HISTORIES = {
    "plain": [(step, step / 7, 1000 + step) for step in range(40)],
    "duplicates": [(step // 3, float(step % 5), 1000 + step) for step in range(30)],
    "late first": [(9 - step, float(step), 1000 + step) for step in range(10)],
    "far apart": [(step, 1.0, 1000) for step in (-5, 0, 3, 10**6, 2**40, 2**62)],
    "not numbers/ä": [(0, math.nan, 1), (1, math.inf, 2), (2, -math.inf, 3), (3, -0.0, 4), (4, 5e-324, 5)],
    "one": [(3, 0.1, 7)],
    "dense": [(step, step / 3, 1000 + step) for step in range(3000)],
    "one step": [(0, step / 3, 1000 + step) for step in range(2600)],
}


def log(client, rows_of: dict[str, list[tuple[int, float, int]]]) -> str:
    from mlflow.entities import Metric

    run_id = client.create_run("0").info.run_id
    for name, rows in rows_of.items():
        for start in range(0, len(rows), 1000):
            batch = [Metric(name, value, time, step) for step, value, time in rows[start : start + 1000]]
            client.log_batch(run_id, metrics=batch)
    client.set_terminated(run_id)
    return run_id


def expected_points(client, run_id: str, name: str) -> list[str]:
    """What MLflow's own client gives, in the order that a reader has to keep."""
    points = client.get_metric_history(run_id, name)
    ordered = sorted(points, key=lambda point: (point.step, point.timestamp, point.value))
    return [repr((point.step, point.value)) for point in ordered]


def points_of(reader, run_id: str, name: str) -> list[str]:
    return [
        repr((step, value))
        for steps, values in reader.stream(run_id, name)
        for step, value in zip(steps.tolist(), values.tolist(), strict=True)
    ]


def noted(read: list, asked: tuple, points):
    read.append((asked[2], len(points[0])))
    return points


def spy(read: list, asked: tuple, blocks):
    """The blocks as they are; how many points of which metric they have is kept in ``read``."""
    for block in blocks:
        yield noted(read, asked, block)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, empty_store: Path):
    """A SQLite store with a run that has `HISTORIES`."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("histories") / "mlflow.db"
    shutil.copy(empty_store, path)
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    return client, open_store(f"sqlite:///{path}"), log(client, HISTORIES)


@pytest.fixture(scope="module")
def served(tracking_server: str):
    """The same on a tracking server."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_server)
    return client, open_store(tracking_server), log(client, HISTORIES)


class TestReaders:
    """Each way of reading gives what MLflow's own client does, in the order of the steps."""

    @pytest.mark.parametrize("name", HISTORIES)
    def test_of_a_sql_store(self, stored, name: str):
        client, store, run_id = stored
        assert points_of(SqlHistories(store.sql_engine), run_id, name) == expected_points(client, run_id, name)
        reader = ClientHistories(store.read_points, store.read_last_points)
        assert points_of(reader, run_id, name) == expected_points(client, run_id, name)

    def test_single_points_are_known_without_reading(self, stored):
        _, store, run_id = stored
        assert SqlHistories(store.sql_engine).read_single_steps(run_id) == {"one": 3}

    @pytest.mark.parametrize("version", ["", "2.9.2"], ids=["by ranges", "by pages"])
    def test_of_a_tracking_server(self, served, version: str):
        """Of the version that it says, and as if it were an older one."""
        client, store, run_id = served
        with RestHistories(store.get_json, server_version=version or store.read_server_version()) as reader:
            for name in HISTORIES:
                assert points_of(reader, run_id, name) == expected_points(client, run_id, name), name

    def test_metric_that_is_not_there_has_no_points(self, stored, served):
        for _, store, run_id in (stored, served):
            with ExitStack() as stack:
                if store.sql_engine:
                    reader = SqlHistories(store.sql_engine)
                else:
                    reader = stack.enter_context(
                        RestHistories(store.get_json, server_version=store.read_server_version())
                    )
                assert points_of(reader, run_id, "none") == []

    def test_runs_are_compared_in_both(self, stored, served):
        """A point that differs in the middle turns the verdict, though the final values are the same."""
        changed = {name: list(rows) for name, rows in HISTORIES.items()}
        changed["dense"][1321] = (1321, 9.0, 2321)
        for client, store, run_id in (stored, served):
            other = log(client, changed)
            same = mlflow_repro.compare_runs(run_id, log(client, HISTORIES), tracking_uri=store.uri)
            assert same.verdict is Verdict.IDENTICAL
            assert {row.name for row in same.of_kind("history")} == {*HISTORIES} - {"one"}
            found = mlflow_repro.compare_runs(run_id, other, tracking_uri=store.uri)
            assert found.verdict is Verdict.DIFFERENT
            (row,) = (row for row in found.of_kind("history") if row.status is not Status.IDENTICAL)
            assert (row.name, row.details["first_different_step"], row.details["different"]) == ("dense", 1321, 1)
            final = mlflow_repro.compare_runs(run_id, other, tracking_uri=store.uri, histories="off")
            assert final.verdict is Verdict.IDENTICAL

    def test_samples_find_a_late_difference_without_reading_what_is_before(self, stored, served, monkeypatch):
        """The step is the first that differs; a history of which no sample differs is read whole."""
        monkeypatch.setattr("mlflow_repro.judging.histories._FEW_STEPS", 1000)
        read = []
        for kind in (SqlHistories, RestHistories):
            stream, read_range = kind.stream, kind.read_range
            monkeypatch.setattr(kind, "stream", lambda *asked, stream=stream: spy(read, asked, stream(*asked)))
            monkeypatch.setattr(kind, "read_range", lambda *asked, old=read_range: noted(read, asked, old(*asked)))
        late = {name: list(rows) for name, rows in HISTORIES.items()}
        late["dense"][2507:] = [(step, value + 1, time) for step, value, time in late["dense"][2507:]]
        late["plain"][7] = (7, 0.0, 1007)
        late["one step"].pop()
        hidden = {"dense": list(HISTORIES["dense"])}
        hidden["dense"][1321] = (1321, 9.0, 2321)
        for client, store, run_id in (stored, served):
            if store.sql_engine is None and (read_release(store.read_server_version()) or ()) < _SAMPLES_BY_ROW:
                continue  # an older server gives no samples: all is read
            other = log(client, late)
            read.clear()
            found = mlflow_repro.compare_runs(run_id, other, tracking_uri=store.uri, histories="sampled")
            rows = {row.name: row for row in found.of_kind("history")}
            dense = rows["dense"]
            assert (dense.status, dense.details["first_different_step"]) == (Status.DIFFERENT, 2507)
            assert dense.details["whole"] == "no"
            assert re.search(
                r"; found by samples: before it \d+ samples are equal, and the rest was not read$", dense.note
            )
            assert 0 < sum(count for name, count in read if name == "dense") <= 2 * 40
            different = {name for name, row in rows.items() if row.status is Status.DIFFERENT}
            assert different == {"dense", "plain", "one step"}
            found = mlflow_repro.compare_runs(run_id, log(client, hidden), tracking_uri=store.uri, histories="sampled")
            (row,) = found.of_kind("history")
            assert (row.details["first_different_step"], row.details["whole"]) == (1321, "yes")

    @pytest.mark.parametrize("steps", [[3, 5, 9], []])
    def test_short_history_takes_one_request(self, steps: list[int]):
        asked = []

        def get(_: str, parameters) -> dict:
            asked.append(parameters)
            return {"metrics": [{"step": str(step), "value": 1.0} for step in steps]}

        with RestHistories(get, server_version="3.17.0") as reader:
            assert [step for step, _ in map(ast.literal_eval, points_of(reader, "r", "m"))] == steps
        assert len(asked) == 1

    def test_last_step_that_a_sample_lacks_is_read_all_the_same(self):
        """A server gives the samples that it likes: nothing is lost when the last step is not among them."""
        steps = range(10_000)

        def get(_: str, asked) -> dict:
            inside = [step for step in steps if asked["start_step"] <= step <= asked["end_step"]]
            if len(inside) > asked["max_results"]:
                inside = inside[: asked["max_results"]]
            return {"metrics": [{"step": str(step), "value": float(step)} for step in inside]}

        with RestHistories(get, server_version="3.17.0") as reader:
            read = [step for block, _ in reader.stream("r", "m") for step in block.tolist()]
        assert read == list(steps)

    def test_unknown_mode_is_refused(self, stored):
        _, store, run_id = stored
        with pytest.raises(UsageError, match="histories is 'some'"):
            mlflow_repro.compare_runs(run_id, run_id, tracking_uri=store.uri, histories="some")
