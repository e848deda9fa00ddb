"""Verdicts from repeats: the formulas against published numbers, and how often a verdict is wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.cli import main
from mlflow_repro.compare.repeats import compare_repeats
from mlflow_repro.compare.statistics import (
    count_repeats,
    find_interval,
    find_limit,
    judge_difference,
    judge_equivalence,
    judge_value,
    learn_tolerance,
    reject_holm,
    spread,
    trim_mean,
)
from mlflow_repro.errors import LaunchError, UsageError
from mlflow_repro.judging.options import Judging, SpreadOptions
from mlflow_repro.report.text import render_comparison
from mlflow_repro.reproduce.options import ReproduceOptions
from mlflow_repro.reproduce.pipeline import Order, _reproduce_once
from mlflow_repro.reproduce.prepare import Parts
from mlflow_repro.reproduce.repeats import run_repeats
from mlflow_repro.values.comparison import Comparison, Status, Verdict
from mlflow_repro.values.report import Report
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from pathlib import Path

TRIALS = 4000
# Three standard errors of a rate of 5 % from 4000 trials.
SLACK = 3 * math.sqrt(0.05 * 0.95 / TRIALS)


def compare(references: list[dict[str, float]], reproductions: list[dict[str, float]], **margins: float) -> Comparison:
    sides = [
        [Run(run_id=f"{side}{number}", metrics=metrics) for number, metrics in enumerate(runs)]
        for side, runs in (("a", references), ("b", reproductions))
    ]
    return compare_repeats(*sides, Rules(), margins)


def metric(values: list[float], name: str = "x") -> list[dict[str, float]]:
    return [{name: value} for value in values]


class TestFormulas:
    """Against numbers that were published, to the digits given."""

    @pytest.mark.parametrize(("count", "width"), [(3, 4.97), (5, 3.04), (10, 2.37), (20, 2.14)])
    def test_width_of_the_prediction_interval(self, count: int, width: float):
        """In standard deviations, at 5 %."""
        values = [float(number) for number in range(count)]
        low, high = find_interval(values)
        assert round((high - low) / 2 / spread(values), 2) == width
        assert round(judge_value(values, high), 12) == 0.05

    @pytest.mark.parametrize(("ratio", "count"), [(1, 18), (1.5, 9), (2, 6), (3, 3)])
    def test_repeats_that_show_equivalence(self, ratio: float, count: int):
        """A side, for 80 % power at zero difference; margin in standard deviations."""
        assert count_repeats(ratio) == count

    def test_more_than_a_thousand_repeats_are_none(self):
        assert count_repeats(0.01) is None

    def test_welch(self):
        """Against scipy's own."""
        from scipy.stats import ttest_ind

        one, other = [1.0, 2.0, 4.0, 3.5], [2.5, 6.0, 3.0, 8.0, 5.0]
        assert judge_difference(one, other) == pytest.approx(ttest_ind(one, other, equal_var=False).pvalue, rel=1e-12)
        shifted = [value + 3 for value in one]
        sides = (
            ttest_ind(one, [v - 3 for v in other], equal_var=False, alternative="greater").pvalue,
            ttest_ind([v - 3 for v in one], other, equal_var=False, alternative="less").pvalue,
        )
        assert judge_equivalence(one, other, 3.0).p == pytest.approx(max(sides), rel=1e-9)
        assert judge_equivalence(shifted, shifted, 100.0).p < 0.05

    @given(st.lists(st.floats(-10, 10), min_size=3, max_size=6), st.floats(0.1, 20))
    def test_equivalent_means_that_the_interval_lies_within_the_margin(self, values: list[float], margin: float):
        one, other = values, [value + 0.5 for value in reversed(values)]
        if spread(one) < 1e-6:
            return
        found = judge_equivalence(one, other, margin)
        assert (found.p < 0.05) is (-margin < found.low and found.high < margin)

    @pytest.mark.parametrize(
        ("values", "mean", "limit"),
        [
            ([16, 14, 16, 17, 16, 16, 15, 16, 15, 16], 15.75, 15.21),
            ([20, 21, 21, 20, 22, 22, 21, 21, 20, 20], 20.75, 19.93),
        ],
    )
    def test_limit_of_as_good_as(self, values: list[float], mean: float, limit: float):
        """MLPerf's, for five submissions."""
        assert trim_mean(values) == mean
        assert round(find_limit(values, 5), 2) == limit

    def test_holm(self):
        assert reject_holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == {"a", "d"}
        assert reject_holm({"a": 0.02, "b": 0.04}) == {"a", "b"}
        assert reject_holm({}) == set()

    @pytest.mark.parametrize(
        ("values", "kind", "tolerance"),
        [
            ([1.0, 1.0, 1.0], "rel", 0.001),
            ([1.0, 1.1, 1.2], "rel", 1.5 * 0.1 / 1.1),
            ([-2.0, -2.5, -1.5], "rel", 1.5 * 0.25),
            ([0.0, 0.0], "abs", 0.0),
            ([-1.0, 1.0], "abs", 1.5),
        ],
    )
    def test_learned_tolerance(self, values: list[float], kind: str, tolerance: float):
        assert learn_tolerance(values) == (kind, pytest.approx(tolerance))


class TestRateOfFalseVerdicts:
    """Runs of one distribution are called different as often as the level says, for the sizes offered."""

    @pytest.mark.parametrize("count", [3, 5, 10, 20])
    def test_one_reference_against_repeats(self, count: int):
        draws = np.random.default_rng(count).normal(0.9, 0.01, (TRIALS, count + 1)).tolist()
        rate = np.mean([judge_value(rest, first) < 0.05 for first, *rest in draws])
        assert abs(rate - 0.05) < SLACK

    @pytest.mark.parametrize("count", [3, 5, 10, 20])
    def test_five_metrics_at_once(self, count: int):
        """By Holm's procedure the chance of any false one among them stays at the level."""
        draws = np.random.default_rng(count).normal(size=(600, 5, count + 1)).tolist()
        false = 0
        for run in draws:
            reference, *repeats = (dict(zip("abcde", values, strict=True)) for values in zip(*run, strict=True))
            false += compare([reference], repeats).verdict is Verdict.DIFFERENT
        assert false / len(draws) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(draws))

    @pytest.mark.parametrize("count", [3, 5, 10, 20])
    def test_repeats_on_both_sides(self, count: int):
        """Welch's test is conservative with few repeats, and never above its level."""
        draws = np.random.default_rng(count).normal(size=(TRIALS, 2 * count)).tolist()
        rate = np.mean([judge_difference(row[:count], row[count:]) < 0.05 for row in draws])
        assert rate < 0.05 + SLACK

    @pytest.mark.parametrize("count", [3, 5, 10, 20])
    @pytest.mark.parametrize("deviation", [0.1, 0.3, 1.0])
    def test_means_a_margin_apart_are_not_called_equivalent(self, count: int, deviation: float):
        """The false verdict of an equivalence test is "equivalent", and this is where it is most likely."""
        draws = np.random.default_rng(count).normal(0, deviation, (TRIALS, 2 * count))
        draws[:, :count] += 1.0
        rate = np.mean([judge_equivalence(row[:count], row[count:], 1.0).p < 0.05 for row in draws.tolist()])
        assert rate < 0.05 + SLACK

    @pytest.mark.parametrize(("references", "count"), [(12, 3), (20, 5), (40, 10), (80, 20)])
    def test_equal_runs_are_as_good_as_the_references(self, references: int, count: int):
        """By trimmed means, with a spread that trimming makes too small: a little above its level at these sizes."""
        draws = np.random.default_rng(count).normal(size=(TRIALS, references + count)).tolist()
        rate = np.mean([trim_mean(row[:count]) < find_limit(row[count:], count) for row in draws])
        assert rate < 0.07 + SLACK


class TestVerdict:
    """What is said of runs that were repeated."""

    def test_bits_and_tolerances_come_first(self):
        assert compare(metric([0.5]), metric([0.5] * 3)).verdict is Verdict.IDENTICAL
        assert compare(metric([0.5]), metric([0.5, 0.5 + 1e-12, 0.5])).verdict is Verdict.WITHIN_TOLERANCE

    def test_reference_within_the_spread_of_repeats(self):
        result = compare(metric([0.905]), metric([0.90, 0.91, 0.92]))
        (row,) = result.of_kind("metric")
        assert (result.verdict, row.status) == (Verdict.CONSISTENT, Status.CONSISTENT)
        assert row.reproduction == pytest.approx(0.91)
        assert row.details["low"] < 0.905 < row.details["high"]
        assert render_comparison(result).endswith(
            "\nVerdict: CONSISTENT, from 1 metric and 1 reference against 3 reproductions (rel:1e-09)"
            "\nRuns equal: True (statistically consistent, n=4)"
        )

    def test_reference_outside_of_it(self):
        result = compare(metric([0.5]), metric([0.90, 0.91, 0.92]))
        assert result.verdict is Verdict.DIFFERENT
        assert result.of_kind("metric")[0].note.startswith("outside of what repeats do: the reference against the 95%")

    def test_one_reproduction_against_repeats_of_the_reference(self):
        assert compare(metric([0.90, 0.91, 0.92]), metric([0.905])).verdict is Verdict.CONSISTENT

    def test_two_repeats_cannot_say(self):
        """CMP-17: and no p value is invented."""
        result = compare(metric([0.5]), metric([0.6, 0.7]))
        (row,) = result.of_kind("metric")
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "2 repeats cannot say whether by chance; 3 would be the fewest" in row.note
        assert "p" not in row.details

    def test_repeats_that_agree_to_the_bit(self):
        """CMP-18: no spread, no division by it."""
        assert compare(metric([0.5]), metric([0.6] * 3)).verdict is Verdict.DIFFERENT
        assert compare(metric([0.5] * 3), metric([0.6] * 3)).verdict is Verdict.DIFFERENT
        assert compare(metric([0.5] * 3), metric([0.6, 0.7, 0.8])).verdict in (Verdict.DIFFERENT, Verdict.INCONCLUSIVE)

    def test_wide_interval_is_weak_evidence(self):
        note = compare(metric([0.9]), metric([0.8, 0.9, 1.0]), x=0.1).of_kind("metric")[0].note
        assert "weak evidence: the interval is wider than the margin of 0.1" in note
        assert "weak" not in compare(metric([0.9]), metric([0.8, 0.9, 1.0]), x=10).of_kind("metric")[0].note

    def test_both_sides_repeated(self):
        one, other = [0.90, 0.91, 0.92, 0.915], [0.905, 0.915, 0.91, 0.92]
        assert compare(metric(one), metric(other), **{"*": 0.05}).verdict is Verdict.CONSISTENT
        row = compare(metric(one), metric(other), **{"*": 0.001}).of_kind("metric")[0]
        assert row.status is Status.UNKNOWN
        assert row.note.endswith(f"{row.details['needed']} repeats a side would decide")
        assert row.details["needed"] > 100
        far = compare(metric(one), metric([value + 0.1 for value in other]))
        assert far.verdict is Verdict.DIFFERENT
        assert "the means differ (p = " in far.of_kind("metric")[0].note

    def test_as_good_as_is_one_sided(self):
        references = [float(number % 7) for number in range(12)]
        for values, direction, verdict in (
            ([9.0, 9.5, 10.0], "higher", Verdict.CONSISTENT),
            ([9.0, 9.5, 10.0], "lower", Verdict.DIFFERENT),
            ([-9.0, -9.5, -10.0], "lower", Verdict.CONSISTENT),
            ([-9.0, -9.5, -10.0], "higher", Verdict.DIFFERENT),
        ):
            sides = [[Run(run_id="a", metrics=row) for row in metric(side)] for side in (references, values)]
            assert compare_repeats(*sides, Rules(), {}, {"*": direction}).verdict is verdict
        few = compare_repeats(sides[0][:5], sides[1], Rules(), {}, {"x": "higher"})
        assert few.verdict is Verdict.INCONCLUSIVE
        assert "it takes 3 and more, and 4 times as many references" in few.of_kind("metric")[0].note

    def test_default_margin_is_two_standard_deviations_of_the_references(self):
        row = compare(metric([1.0, 2.0, 3.0]), metric([1.5, 2.5, 2.0])).of_kind("metric")[0]
        assert row.details["margin"] == pytest.approx(2.0)

    @pytest.mark.parametrize(
        ("references", "reproductions", "verdict"),
        [
            ([math.nan], [math.nan] * 3, Verdict.IDENTICAL),
            ([1.0], [math.nan] * 3, Verdict.DIFFERENT),
            ([1.0], [1.0, math.nan, 2.0], Verdict.INCONCLUSIVE),
            ([math.nan], [1.0, 2.0, 3.0], Verdict.DIFFERENT),
            ([math.nan], [1.0, 2.0, math.nan], Verdict.INCONCLUSIVE),
            ([math.nan], [1.0, math.nan, math.nan], Verdict.INCONCLUSIVE),
            ([math.nan] * 3, [1.0, math.nan, math.nan], Verdict.INCONCLUSIVE),
            ([math.nan] * 3, [1.0] * 3, Verdict.DIFFERENT),
            ([math.nan], [1.0, 2.0], Verdict.INCONCLUSIVE),
            ([math.inf], [-math.inf] * 3, Verdict.DIFFERENT),
            ([math.inf], [math.nan] * 3, Verdict.DIFFERENT),
            ([math.inf], [1.0, sys.float_info.max, 2.0], Verdict.INCONCLUSIVE),
        ],
    )
    def test_numbers_that_are_not_finite(self, references: list[float], reproductions: list[float], verdict: Verdict):
        assert compare(metric(references), metric(reproductions)).verdict is verdict

    @given(st.lists(st.sampled_from((1.0, 2.0, math.nan, math.inf, -math.inf)), min_size=1, max_size=5))
    def test_a_run_that_is_like_one_of_the_repeats_is_never_different(self, repeats: list[float]):
        """Whatever the others are."""
        for value in repeats:
            if not all(map(math.isfinite, repeats)):
                assert compare(metric([value]), metric(repeats)).verdict is not Verdict.DIFFERENT

    @pytest.mark.parametrize("scale", [5e-324, 1e-200, 1e200, 1.7e308])
    def test_numbers_at_the_ends_of_the_floats(self, scale: float):
        """CMP-04: no overflow, no division by zero."""
        one, other = [scale * number for number in (1, -1, 0)], [scale * number for number in (-1, 0, 1, 1)]
        for sides in (([scale], one), (one, other), (other, one), (other, [0.0])):
            assert compare(*map(metric, sides)).verdict in (Verdict.CONSISTENT, Verdict.INCONCLUSIVE)
        assert learn_tolerance(one)[0] == "abs"
        assert find_limit(one * 4, 3) <= scale

    def test_metric_that_one_repeat_lacks(self):
        result = compare(metric([1.0]), [{"x": 1.0}, {"x": 1.0, "y": 1.0}, {"x": 1.0}])
        assert result.verdict is Verdict.DIFFERENT
        assert result.of_kind("metric")[1].note == "only 1 of 4 runs have it"

    def test_each_run_is_a_row(self):
        found = compare(metric([1.0, 2.0]), metric([1.0])).of_kind("run")
        assert [(row.name, row.reference or row.reproduction) for row in found] == [
            ("reference 1 of 2", "a0"), ("reference 2 of 2", "a1"), ("reproduction 1 of 1", "b0"),
        ]  # fmt: skip

    @given(
        st.lists(strategies.metric_maps, min_size=1, max_size=4),
        st.lists(strategies.metric_maps, min_size=1, max_size=4),
    )
    def test_any_runs_can_be_judged(self, references: list[dict], reproductions: list[dict]):
        result = compare(references, reproductions)
        assert [row.name for row in result.of_kind("metric")] == sorted(
            {n for m in references + reproductions for n in m}
        )
        assert Comparison.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))).verdict is result.verdict

    @given(st.lists(strategies.metric_maps, min_size=2, max_size=4), strategies.numbers)
    def test_one_more_equal_metric_turns_no_verdict(self, runs: list[dict], value: float):
        before = compare(runs[:1], runs[1:]).verdict
        after = compare([{**runs[0], "\0": value}], [{**run, "\0": value} for run in runs[1:]]).verdict
        assert after is before or before in (Verdict.INCONCLUSIVE, Verdict.IDENTICAL)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "x=", "x=inf", "x=abc"])
def test_margin_that_is_none(text: str):
    with pytest.raises(UsageError, match="margin is"):
        SpreadOptions(margin=(text,)).check()


@pytest.mark.parametrize("text", ["x", "x=best", "=higher", ""])
def test_direction_that_is_none(text: str):
    with pytest.raises(UsageError, match="as_good_as is"):
        SpreadOptions(as_good_as=(text,)).check()


def test_margins():
    assert SpreadOptions(margin=("val_*=0.5", "0.1")).margins == {"val_*": 0.5, "*": 0.1}
    with pytest.raises(UsageError, match="given twice for 'x'"):
        SpreadOptions(margin=("x=1", "x=2")).check()


class TestCommands:
    """Through the command line, with real stores."""

    @pytest.fixture
    def runs(self, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        ids = []
        for value in (0.905, 0.90, 0.91, 0.92):
            ids.append(client.create_run("0").info.run_id)
            client.log_metric(ids[-1], "acc", value)
            client.log_metric(ids[-1], "fit_time", value)
            client.set_terminated(ids[-1])
        return ids

    @staticmethod
    def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
        code = main([*arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    def test_several_reproductions(self, runs: list[str], capsys: pytest.CaptureFixture[str]):
        code, out, err = self.run(capsys, "compare", *runs)
        assert (code, err) == (0, "")
        assert out.endswith("Runs equal: True (statistically consistent, n=4)\n")
        assert self.run(capsys, "compare", *runs[:2])[0] == 1
        assert self.run(capsys, "compare", *runs[:3])[0] == 3

    def test_more_references(self, runs: list[str], capsys: pytest.CaptureFixture[str]):
        code, out, _ = self.run(capsys, "compare", runs[1], runs[0], "--against", f"{runs[2]},{runs[3]}")
        assert code == 0
        assert "the reproduction against the 95% prediction interval" in out

    def test_run_that_is_named_twice(self, runs: list[str], capsys: pytest.CaptureFixture[str]):
        code, _, err = self.run(capsys, "compare", runs[0], runs[1], runs[1])
        assert (code, "named twice" in err) == (2, True)

    @pytest.mark.parametrize(
        "options",
        [
            ["--repeats", "0"],
            ["--jobs", "2"],
            ["--repeats", "3", "--jobs", "0"],
            ["--repeats", "2", "--fail-fast"],
            ["--repeats", "2", "--resume", "b" * 32],
            ["--against", "x/y"],
            ["--margin", "0"],
        ],
    )
    def test_bad_input_of_reproduce(self, options: list[str], capsys: pytest.CaptureFixture[str]):
        assert self.run(capsys, "reproduce", "--run_id", "a" * 32, *options)[0] == 2


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_run_is_reproduced_several_times(bench):
    """A run whose numbers the operating system draws: three repeats say that it is no further off than they are.

    They run at once, and what each prints bears its number.
    """
    train = (
        "import os, mlflow\n"
        "print('begin')\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_metric('x', 1 + int.from_bytes(os.urandom(4), 'big') / 2**32)\n"
    )
    bench.repository.commit({"train.py": train})
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id, "--repeats", "3", "--jobs", "3", "--json")
    assert {f"  | [{number}] begin" for number in (1, 2, 3)} <= set(answer.stderr.splitlines())
    plain = json.loads(answer.stdout)
    assert answer.returncode in (0, 1), answer.stderr
    assert plain["comparison"]["verdict"] in ("CONSISTENT", "DIFFERENT")
    (row,) = (row for row in plain["comparison"]["findings"] if row["kind"] == "metric")
    assert (row["details"]["references"], row["details"]["reproductions"]) == (1, 3)
    assert len(bench.run_ids()) == 5  # with the one that groups the repeats


def one_report(number: int) -> Report:
    return Report(plan=None, reference=Run(run_id="a"), reproduction=Run(run_id=f"b{number}"))


class TestAtOnce:
    """Several relaunches at a time."""

    def test_as_many_as_were_asked_for_run_at_once(self):
        together = threading.Barrier(3)

        def run_one(number: int, is_over: threading.Event) -> Report:
            together.wait(60)
            return one_report(number)

        reports = run_repeats(6, 3, run_one)
        assert [report.reproduction.run_id for report in reports] == [f"b{number}" for number in range(1, 7)]

    def test_failure_of_one_does_not_lose_the_others(self):
        def run_one(number: int, is_over: threading.Event) -> Report:
            if number == 2:
                raise LaunchError("exit code 3", "look")
            return one_report(number)

        with pytest.raises(LaunchError) as caught:
            run_repeats(4, 1, run_one)
        assert caught.value.message == "repeat 2 of 4 failed: exit code 3"
        assert caught.value.hint == "look; 3 repeats are done, to judge them: mlflow-repro compare a b1 b3 b4"

    def test_nothing_more_is_begun_when_the_first_fails(self):
        begun = []

        def run_one(number: int, is_over: threading.Event) -> Report:
            begun.append(number)
            raise LaunchError("no")

        with pytest.raises(LaunchError, match="repeat 1 of 9 failed: no"):
            run_repeats(9, 1, run_one)
        assert begun == [1]

    def test_interrupt_ends_all(self):
        """The main thread, which only waits, is interrupted; each relaunch is told."""
        together, ended = threading.Barrier(3), []

        def run_one(number: int, is_over: threading.Event) -> Report:
            if together.wait(60) == 0:
                os.kill(os.getpid(), signal.SIGINT)  # to the main thread
            assert is_over.wait(60)
            ended.append(number)
            return one_report(number)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                run_repeats(9, 3, run_one)
        finally:
            signal.signal(signal.SIGINT, before)
        assert sorted(ended) == [1, 2, 3]

    def test_relaunch_that_is_over_is_ended(self, bench):
        """Its tree, too: it would wait for ever."""
        bench.repository.commit({"train.py": "import mlflow\nwith mlflow.start_run():\n    print('begun')\n"})
        run_id = bench.train("train.py")
        script = "import mlflow, time\nwith mlflow.start_run():\n    print('begun')\n    time.sleep(3600)\n"
        commit = bench.repository.commit({"train.py": script})
        bench.client().set_tag(run_id, "repro.git.commit", commit)
        is_over = threading.Event()
        options = ReproduceOptions(run_id=run_id, show=lambda line: is_over.set() if line == "begun" else None)
        with bench.surroundings(), pytest.raises(LaunchError, match="interrupted"):
            _reproduce_once(Order(options=options, judging=Judging(), parts=Parts(), is_over=is_over))
        reproduction = bench.reproduction_of(run_id)
        assert reproduction.info.status == "KILLED"
        assert reproduction.data.tags["repro.error"] == "the reproduction was ended: interrupted"
