"""The comparison: its laws, and the cases of the table of faults (group CMP)."""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import replace

import pytest
import strategies
from hypothesis import assume, given
from hypothesis import strategies as st

from mlflow_repro.compare import compare_records
from mlflow_repro.compare.metrics import describe_error, is_close
from mlflow_repro.judging.judge import compare_runs
from mlflow_repro.values.comparison import MIRRORED, Comparison, Finding, Status, Verdict
from mlflow_repro.values.rules import MACHINE_METRICS, Rules, Tolerances, measures_machine
from mlflow_repro.values.run import Run

NAN, INF, MAX = math.nan, math.inf, sys.float_info.max
EQUAL_VERDICTS = (Verdict.IDENTICAL, Verdict.WITHIN_TOLERANCE)
EXACT = Tolerances(rel_tol=0.0, abs_tol=0.0)


def compare(
    reference: dict[str, float], reproduction: dict[str, float], tolerances: Tolerances | None = None
) -> Comparison:
    rules = Rules(default=tolerances or Tolerances())
    return compare_records(Run(run_id="a", metrics=reference), Run(run_id="b", metrics=reproduction), rules)


def compare_values(one: float, other: float, **tolerances: float) -> Finding:
    return compare({"x": one}, {"x": other}, Tolerances(**tolerances)).findings[0]


def compare_params(
    reference: dict[str, str], reproduction: dict[str, str], tags: dict[str, str] | None = None
) -> tuple[Finding, ...]:
    """The findings about parameters, of a reference that has ``tags``."""
    return compare_records(
        Run(run_id="a", params=reference, tags=tags or {}), Run(run_id="b", params=reproduction)
    ).of_kind("param")


class TestLaws:
    """What holds for any two runs."""

    @given(strategies.run_records, strategies.tolerances)
    def test_a_run_is_equal_to_itself(self, record: Run, tolerances: Tolerances):
        """NaN, infinities, -0.0 and subnormal numbers included, whatever the tolerance."""
        result = compare_records(record, record, Rules(default=tolerances))
        ended = record.fact("status").value or record.status != "RUNNING"
        allowed = (Status.IDENTICAL, Status.IGNORED) if ended else (Status.IDENTICAL, Status.IGNORED, Status.UNKNOWN)
        assert all(row.status in allowed for row in result.findings)
        judged = any(row.is_judged for row in result.of_kind("metric"))
        assert result.verdict is (Verdict.IDENTICAL if judged and ended else Verdict.INCONCLUSIVE)

    @given(strategies.numbers, strategies.numbers, strategies.tolerances, strategies.tolerances)
    def test_widening_a_tolerance_never_makes_equal_values_differ(
        self, one: float, other: float, first: Tolerances, second: Tolerances
    ):
        narrow, wide = (
            Tolerances(
                rel_tol=pick(first.rel_tol, second.rel_tol),
                abs_tol=pick(first.abs_tol, second.abs_tol),
                ulp=pick(first.ulp, second.ulp),
            )
            for pick in (min, max)
        )
        before, after = compare({"x": one}, {"x": other}, narrow), compare({"x": one}, {"x": other}, wide)
        assert after.findings[0].is_equal or not before.findings[0].is_equal

    @given(strategies.run_records, strategies.run_records, strategies.tolerances)
    def test_swapping_the_sides_mirrors_the_findings(self, one: Run, other: Run, tolerances: Tolerances):
        """MISSING and EXTRA change places, the values too; verdict, order and notes stay."""
        rules = Rules(default=tolerances)
        forth, back = compare_records(one, other, rules), compare_records(other, one, rules)
        assert back.verdict is forth.verdict
        assert len(back.findings) == len(forth.findings)
        for there, here in zip(forth.findings, back.findings, strict=True):
            assert here.status is MIRRORED.get(there.status, there.status)
            assert (here.kind, here.name) == (there.kind, there.name)
            assert repr((here.reference, here.reproduction)) == repr((there.reproduction, there.reference))
            assert here.note == there.note or there.status in MIRRORED

    @given(strategies.metric_maps, strategies.metric_maps, strategies.names, strategies.numbers)
    def test_one_more_equal_metric_never_turns_the_verdict(
        self, one: dict[str, float], other: dict[str, float], name: str, value: float
    ):
        assume(name not in one)
        assume(name not in other)
        before = compare(one, other).verdict
        after = compare({**one, name: value}, {**other, name: value}).verdict
        assert after is not Verdict.DIFFERENT or before is Verdict.DIFFERENT
        assert before is not Verdict.DIFFERENT or after is Verdict.DIFFERENT
        assert before not in EQUAL_VERDICTS or after in EQUAL_VERDICTS

    @given(strategies.run_records, strategies.run_records)
    def test_each_name_of_either_run_has_one_row(self, one: Run, other: Run):
        """The union of the keys, in order, an equal pair included: what was compared is never lost."""
        result = compare_records(one, other)
        assert [row.name for row in result.of_kind("metric")] == sorted({**one.metrics, **other.metrics})
        assert [row.name for row in result.of_kind("param")] == sorted({**one.params, **other.params})

    @given(strategies.run_records, strategies.run_records)
    def test_a_row_holds_the_values_of_both_runs(self, one: Run, other: Run):
        for row in compare_records(one, other).of_kind("metric"):
            assert repr(row.reference) == repr(one.metrics.get(row.name))
            assert repr(row.reproduction) == repr(other.metrics.get(row.name))

    @given(st.floats(allow_nan=False), st.floats(allow_nan=False), strategies.tolerances)
    def test_close_is_what_math_isclose_says(self, one: float, other: float, tolerances: Tolerances):
        expected = math.isclose(one, other, rel_tol=tolerances.rel_tol, abs_tol=tolerances.abs_tol)
        assert is_close(one, other, replace(tolerances, ulp=0)) is expected

    @given(strategies.numbers, strategies.numbers)
    def test_any_two_values_can_be_described(self, one: float, other: float):
        """No overflow and no division by zero, and the same words both ways."""
        assert describe_error(one, other) == describe_error(other, one) != ""


@pytest.mark.parametrize(
    ("one", "other", "status", "note"),
    [
        pytest.param(NAN, NAN, Status.IDENTICAL, "", id="CMP-01-nan-nan"),
        pytest.param(NAN, 1.0, Status.DIFFERENT, "NaN on one side only", id="CMP-01-nan-number"),
        pytest.param(NAN, INF, Status.DIFFERENT, "NaN on one side only", id="CMP-01-nan-inf"),
        pytest.param(INF, INF, Status.IDENTICAL, "", id="CMP-02-inf"),
        pytest.param(INF, -INF, Status.DIFFERENT, "infinite with opposite signs", id="CMP-02-opposite-infinities"),
        pytest.param(INF, 1e300, Status.DIFFERENT, "infinite on one side only", id="CMP-02-inf-number"),
        pytest.param(
            INF,
            MAX,
            Status.IDENTICAL,
            "a SQL store keeps infinity as the greatest float; taken as the same",
            id="CMP-02-stored-inf",
        ),
        pytest.param(
            -MAX,
            -INF,
            Status.IDENTICAL,
            "a SQL store keeps infinity as the greatest float; taken as the same",
            id="CMP-02-stored-minus-inf",
        ),
        pytest.param(INF, -MAX, Status.DIFFERENT, "infinite on one side only", id="CMP-02-stored-inf-of-other-sign"),
        pytest.param(-0.0, 0.0, Status.CLOSE, "zeros of different sign", id="CMP-03-minus-zero"),
        pytest.param(-0.0, -0.0, Status.IDENTICAL, "", id="CMP-03-minus-zero-twice"),
        pytest.param(5e-324, 5e-324, Status.IDENTICAL, "", id="CMP-04-subnormal"),
        pytest.param(5e-324, 1e-323, Status.DIFFERENT, "differs by 4.94e-324 (relative 0.5)", id="CMP-04-subnormals"),
        pytest.param(MAX, MAX, Status.IDENTICAL, "", id="CMP-04-greatest"),
        pytest.param(MAX, -MAX, Status.DIFFERENT, "differs by more than the greatest float", id="CMP-04-overflow"),
        pytest.param(
            0.0,
            1e-12,
            Status.DIFFERENT,
            "differs by 1e-12 (relative 1; from zero only an absolute tolerance counts)",
            id="CMP-05-zero",
        ),
        pytest.param(2.0**53, 2.0**53 + 1, Status.IDENTICAL, "", id="CMP-06-beyond-double"),
        pytest.param(
            0.1, 0.10000000149011612, Status.DIFFERENT, "differs by 1.49e-09 (relative 1.49e-08)", id="CMP-06-float32"
        ),
        pytest.param(0.0885112, 0.0897533, Status.DIFFERENT, "differs by 0.00124 (relative 0.0138)", id="seed-keras"),
        pytest.param(1.0, 1.0 + 2**-52, Status.CLOSE, "differs by 2.22e-16 (relative 2.22e-16)", id="one-ulp-apart"),
    ],
)
def test_two_final_values(one: float, other: float, status: Status, note: str):
    """With the default tolerances, and the same both ways."""
    for row in (compare_values(one, other), compare_values(other, one)):
        assert (row.status, row.note) == (status, note)


@pytest.mark.parametrize(
    ("tolerances", "status"),
    [
        ({"rel_tol": 0.0, "abs_tol": 0.0}, Status.DIFFERENT),
        ({"rel_tol": 1.0, "abs_tol": 0.0}, Status.CLOSE),
        ({"rel_tol": 0.0, "abs_tol": 1e-12}, Status.CLOSE),
        ({"rel_tol": 0.0, "abs_tol": 9e-13}, Status.DIFFERENT),
    ],
    ids=str,
)
def test_zero_is_near_another_number_by_the_absolute_tolerance(tolerances: dict[str, float], status: Status):
    """CMP-05: a relative tolerance below 1 never reaches from zero to another number."""
    assert compare_values(0.0, 1e-12, **tolerances).status is status


def test_no_tolerance_at_all_still_calls_the_same_bits_identical():
    assert compare({"x": 0.1, "y": NAN}, {"x": 0.1, "y": NAN}, EXACT).verdict is Verdict.IDENTICAL


@pytest.mark.parametrize(
    ("reference", "reproduction", "status", "note"),
    [
        pytest.param({"x": 1.0, "only": NAN}, {"x": 1.0}, Status.MISSING, "only in the reference", id="missing"),
        pytest.param({"x": 1.0}, {"x": 1.0, "only": 0.0}, Status.EXTRA, "only in the reproduction", id="extra"),
    ],
)
def test_metric_of_one_run_only_is_a_difference(
    reference: dict[str, float], reproduction: dict[str, float], status: Status, note: str
):
    """CMP-08: listed and judged, never dropped."""
    result = compare(reference, reproduction)
    row = next(row for row in result.findings if row.name == "only")
    assert (row.status, row.note, result.verdict) == (status, note, Verdict.DIFFERENT)


@pytest.mark.parametrize(
    ("reference", "reproduction", "verdict"),
    [
        pytest.param({}, {}, Verdict.INCONCLUSIVE, id="neither-has-any"),
        pytest.param({"system/cpu": 1.0}, {"system/cpu": 1.0}, Verdict.INCONCLUSIVE, id="only-the-machine-measured"),
        pytest.param({"x": 1.0}, {"y": 1.0}, Verdict.DIFFERENT, id="none-in-common"),
    ],
)
def test_nothing_in_common_is_never_equal(
    reference: dict[str, float], reproduction: dict[str, float], verdict: Verdict
):
    """CMP-09: nothing judged is INCONCLUSIVE (exit 3)."""
    assert compare(reference, reproduction).verdict is verdict


@pytest.mark.parametrize(
    "name",
    [
        "system/cpu_utilization_percentage",
        "system/gpu_0_memory",
        "fit_time",
        "mean_fit_time",
        "train_time_ms",
        "epoch_time_s",
        "wall_seconds",
        "train_samples_per_second",
        "eval_runtime",
        "total_duration_ms",
        "elapsed",
        "Training_Time",
    ],
)
def test_metric_of_time_or_machine_is_shown_and_not_judged(name: str):
    """CMP-13: it differs between any two runs, so it says nothing."""
    result = compare({name: 1.0, "x": 1.0}, {name: 2.0, "x": 1.0})
    row = next(row for row in result.findings if row.name == name)
    assert (row.status, row.note) == (Status.IGNORED, "measures time or the machine, not judged")
    assert result.verdict is Verdict.IDENTICAL


def test_metric_of_time_that_one_run_lacks_is_not_judged_either():
    assert compare({"fit_time": 1.0, "x": 1.0}, {"x": 1.0}).verdict is Verdict.IDENTICAL


@pytest.mark.parametrize(
    "name", ["accuracy", "time_to_event_auc", "lifetime", "sentiment", "ecosystem/x", "secondary_loss", "rate"]
)
def test_metric_whose_name_only_looks_like_one_of_time_is_judged(name: str):
    assert not measures_machine(name)
    assert compare({name: 1.0}, {name: 2.0}).verdict is Verdict.DIFFERENT


def test_list_of_machine_metrics_is_lower_case():
    """Names are matched in lower case, so a pattern with a capital would never match."""
    assert all(pattern == pattern.lower() for pattern in MACHINE_METRICS)


@pytest.mark.parametrize("name", ["x\n", "Größe/東京", " x ", "a/b c", "x\x1b[31m", ""], ids=repr)
def test_names_are_taken_as_they_are(name: str):
    """CMP-14: MLflow accepts a newline at the end of a name, spaces and slashes."""
    (row,) = compare({name: 1.0}, {name: 1.0}).findings
    assert (row.name, row.status) == (name, Status.IDENTICAL)


class TestParameters:
    """They are facts: they explain a verdict and never make one."""

    @pytest.mark.parametrize(
        ("one", "other", "status", "note"),
        [
            ("3", "3", Status.IDENTICAL, ""),
            ("3", "4", Status.DIFFERENT, ""),
            ("1e-3", "0.001", Status.DIFFERENT, "the same number, written differently"),
            ("007", "7", Status.DIFFERENT, ""),
            ("12345678901234567890", "12345678901234567891", Status.DIFFERENT, ""),
            ("None", "none", Status.DIFFERENT, ""),
            ("nan", "NaN", Status.DIFFERENT, ""),
            ("True", "1", Status.DIFFERENT, ""),
        ],
    )
    def test_values_are_compared_as_text(self, one: str, other: str, status: Status, note: str):
        """CMP-15, PAR-12: no guess at a type; the same number in another spelling is said to be that."""
        (row,) = compare_params({"p": one}, {"p": other})
        assert (row.status, row.note) == (status, note)

    @pytest.mark.parametrize(
        ("one", "other", "status"), [({"p": ""}, {}, Status.MISSING), ({}, {"p": ""}, Status.EXTRA)]
    )
    def test_parameter_of_one_run_only_is_a_row(self, one: dict[str, str], other: dict[str, str], status: Status):
        (row,) = compare_params(one, other)
        assert row.status is status

    def test_they_do_not_judge(self):
        result = compare_records(
            Run(run_id="a", metrics={"x": 1.0}, params={"p": "1"}),
            Run(run_id="b", metrics={"x": 1.0}, params={"p": "2"}),
        )
        assert result.verdict is Verdict.IDENTICAL
        assert not any(row.is_judged for row in result.of_kind("param"))

    @pytest.mark.parametrize(("stored", "plain"), [("'a b'", "a b"), ("''", ""), ("'it'\"'\"'s'", "it's")], ids=repr)
    def test_quotes_that_mlflow_added_make_no_difference(self, stored: str, plain: str):
        """PAR-01: a project's run has its parameters shell-quoted, our reproduction has them as they are."""
        (row,) = compare_params({"p": stored}, {"p": plain}, tags={"mlflow.project.entryPoint": "main"})
        assert (row.status, row.reference) == (Status.IDENTICAL, plain)

    def test_quotes_of_a_run_that_is_no_project_are_its_own(self):
        """Only MLflow's project launcher quotes; a script that logs quotes means them."""
        (row,) = compare_params({"p": "'a b'"}, {"p": "a b"})
        assert row.status is Status.DIFFERENT


class TestStatus:
    """How a run ended sets it apart from another, and makes no two runs equal."""

    @pytest.mark.parametrize(
        ("one", "other", "verdict"),
        [
            ("FINISHED", "FINISHED", Verdict.IDENTICAL),
            ("FINISHED", "FAILED", Verdict.DIFFERENT),
            ("KILLED", "KILLED", Verdict.IDENTICAL),
            ("FINISHED", "RUNNING", Verdict.INCONCLUSIVE),
            ("RUNNING", "RUNNING", Verdict.INCONCLUSIVE),
            ("FINISHED", "", Verdict.IDENTICAL),
        ],
    )
    def test_judges_beside_a_metric(self, one: str, other: str, verdict: Verdict):
        sides = (Run(run_id="a", metrics={"x": 1.0}, status=status) for status in (one, other))
        assert compare_records(*sides).verdict is verdict

    def test_is_not_enough_to_be_equal(self):
        record = Run(run_id="a", status="FINISHED")
        assert compare_records(record, record).verdict is Verdict.INCONCLUSIVE
        assert compare_records(record, Run(run_id="b", status="FAILED")).verdict is Verdict.DIFFERENT

    def test_which_the_run_gave_itself_is_taken(self):
        """MLflow's final status follows the process's exit code."""
        one = Run(run_id="a", metrics={"x": 1.0}, status="FINISHED", tags={"repro.status": "FAILED"})
        assert compare_records(one, one).of_kind("status")[0].reference == "FAILED"
        plain = Run(run_id="b", metrics={"x": 1.0}, status="FINISHED")
        assert compare_records(one, plain).verdict is Verdict.IDENTICAL


class TestModels:
    """Metrics of logged models are outcomes of their own (MLflow 3)."""

    @pytest.fixture
    def store(self, tmp_path, empty_store):
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        return f"sqlite:///{tmp_path}/mlflow.db"

    @staticmethod
    def log(uri: str, values: dict[tuple[str, str], float], digest: str = "d1") -> str:
        """A run with a model for each name, and that model's metrics on a data set."""
        from mlflow import MlflowClient, entities

        client = MlflowClient(tracking_uri=uri)
        if not hasattr(client, "get_logged_model"):
            pytest.skip("this MLflow has no logged models")
        run_id = client.create_run("0").info.run_id
        models: dict[str, str] = {}
        data = {"dataset_name": "test", "dataset_digest": digest}
        for (model, metric), value in values.items():
            if model not in models:
                name = model.partition("#")[0]
                models[model] = client.create_logged_model("0", name=name, source_run_id=run_id).model_id
                client.log_outputs(run_id, [entities.LoggedModelOutput(models[model], len(models))])
            for step, logged in enumerate((0.0, value)):
                client.log_metric(run_id, metric, logged, step=step, model_id=models[model], **data)
        client.set_terminated(run_id)
        return run_id

    def test_are_matched_by_the_name_of_the_model(self, store: str):
        """Ids differ between any two runs; a second model of the same name is the second on the other side as well."""
        values = {("net", "acc"): 0.5, ("net#2", "acc"): 0.75, ("tree", "acc"): 0.25}
        one, same = self.log(store, values), self.log(store, values)
        result = compare_runs(one, same, tracking_uri=store)
        assert result.verdict is Verdict.IDENTICAL
        assert [(row.name, row.reference) for row in result.of_kind("model_metric")] == [
            ("net#2: acc on test", 0.75),
            ("net: acc on test", 0.5),
            ("tree: acc on test", 0.25),
        ]

    def test_differ_though_the_metrics_of_the_runs_do_not(self, store: str):
        """The run keeps the last of several models' values; the models keep their own."""
        one = self.log(store, {("net", "acc"): 0.5, ("tree", "acc"): 0.25})
        other = self.log(store, {("net", "acc"): 0.625, ("tree", "acc"): 0.25}, digest="d2")
        result = compare_runs(one, other, tracking_uri=store, histories="off")
        assert result.of_kind("metric")[0].status is Status.IDENTICAL
        assert result.verdict is Verdict.DIFFERENT
        row = next(row for row in result.of_kind("model_metric") if row.status is Status.DIFFERENT)
        assert (row.name, row.reference, row.reproduction) == ("net: acc on test", 0.5, 0.625)
        assert row.note.endswith("its data sets differ: d1 and d2")

    def test_model_of_one_run_only_is_a_difference(self, store: str):
        one = self.log(store, {("net", "acc"): 0.5})
        other = self.log(store, {("net", "acc"): 0.5, ("tree", "acc"): 0.5})
        found = compare_runs(one, other, tracking_uri=store, histories="off").of_kind("model_metric")
        assert [row.status for row in found] == [Status.IDENTICAL, Status.EXTRA]
