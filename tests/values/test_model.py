"""The values of the pipeline: what they refuse, and that their stored form loses nothing."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import strategies
from hypothesis import given

import mlflow_repro
from mlflow_repro.errors import (
    CannotJudgeError,
    ExitCode,
    LaunchError,
    RefusedError,
    ReproError,
    UnreachableError,
    UsageError,
)
from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair, Status, Verdict
from mlflow_repro.values.plain import plain_number
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.report import SCHEMA_VERSION, Cause, Report
from mlflow_repro.values.rules import Rules, ToleranceRule, Tolerances
from mlflow_repro.values.run import Fact, Run, absent

GOLDEN_FIELDS = Path(__file__).parents[1] / "golden" / "report_fields.json"

ROUND_TRIPS = {
    Run: strategies.run_records,
    LaunchPlan: strategies.launch_plans,
    Finding: strategies.metric_findings | strategies.param_findings | strategies.artifact_findings,
    Comparison: strategies.comparisons,
    Report: strategies.reports,
}


def store(value: object) -> str:
    """The stored form as strict JSON; two values are the same when it is."""
    return json.dumps(value.to_dict(), allow_nan=False, sort_keys=True)


def finding(status: Status, *, kind: str = "metric") -> Finding:
    return Finding(kind=kind, name="x", reference=1.0, reproduction=2.0, status=status)


def comparison(*statuses: Status, facts: tuple[Status, ...] = ()) -> Comparison:
    """A comparison whose metrics have these statuses, and its parameters those of ``facts``."""
    findings = (*map(finding, statuses), *(finding(status, kind="param") for status in facts))
    return Comparison(reference_run_id="a", reproduction_run_id="b", findings=findings, rules=Rules())


def test_fact_has_a_value_or_a_reason():
    assert Fact(name="git.commit", value="abc").tag == "repro.git.commit"
    assert Fact(name="launch.params", value="").value == ""
    assert absent("git.commit", "no git") == Fact(name="git.commit", reason="no git")


@pytest.mark.parametrize("content", [{}, {"value": "abc", "reason": "no git"}], ids=["neither", "both"])
def test_fact_refuses_neither_and_both(content: dict[str, str]):
    with pytest.raises(ValueError, match=r"fact 'git\.commit' needs a value or a reason"):
        Fact(name="git.commit", **content)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param({"repro.git.commit": "abc"}, Fact(name="git.commit", value="abc"), id="recorded"),
        pytest.param({"repro.capture": "complete"}, absent("git.commit", "not recorded"), id="captured-without-it"),
        pytest.param({}, absent("git.commit", "the run was made without mlflow-repro"), id="without-the-plugin"),
    ],
)
def test_record_gives_a_fact_or_says_why_there_is_none(tags: dict[str, str], expected: Fact):
    assert Run(run_id="a", tags=tags).fact("git.commit") == expected


@pytest.mark.parametrize(("subdirectory", "expected"), [("", "https://h/r.git"), ("a/b.c", "https://h/r.git#a/b.c")])
def test_project_uri_is_the_form_that_mlflow_uses(subdirectory: str, expected: str):
    assert Source(uri="https://h/r.git", commit="abc", subdirectory=subdirectory).project_uri == expected


@pytest.mark.parametrize("kind", ROUND_TRIPS, ids=lambda kind: kind.__name__)
def test_stored_form_reads_back_as_the_same_value(kind: type):
    """``from_dict(json(to_dict(x)))`` is x, for NaN, infinities, -0.0 and any text; the JSON is strict."""

    @given(ROUND_TRIPS[kind])
    def round_trip(value: object) -> None:
        text = store(value)
        again = kind.from_dict(json.loads(text))
        assert store(again) == text
        if "NaN" not in text:  # NaN equals nothing, itself included
            assert again == value

    round_trip()


@given(strategies.numbers)
def test_a_stored_number_reads_back_with_the_same_bits(number: float):
    again = float(json.loads(json.dumps(plain_number(number), allow_nan=False)))
    assert math.copysign(1, again) == math.copysign(1, number) or math.isnan(number)
    assert again == number or (math.isnan(again) and math.isnan(number))


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (Status.IDENTICAL, Verdict.IDENTICAL),
        (Status.CLOSE, Verdict.WITHIN_TOLERANCE),
        (Status.DIFFERENT, Verdict.DIFFERENT),
        (Status.MISSING, Verdict.DIFFERENT),
        (Status.EXTRA, Verdict.DIFFERENT),
        (Status.IGNORED, Verdict.IDENTICAL),
    ],
)
def test_artifacts_judge_beside_the_metrics(status: Status, verdict: Verdict):
    rows = (finding(Status.IDENTICAL), finding(status, kind="artifact"))
    made = Comparison(reference_run_id="a", reproduction_run_id="b", findings=rows, rules=Rules())
    assert made.verdict is verdict


def test_text_of_a_parameter_is_never_read_as_a_number():
    row = Finding(kind="param", name="x", reference="NaN", reproduction="1e-3", status=Status.DIFFERENT)
    assert Finding.from_dict(row.to_dict()) == row


def field_names(plain: object) -> object:
    """The shape of a stored value: names of fields for an object, the shape of its rows for a list."""
    if isinstance(plain, dict):
        return {name: field_names(value) for name, value in plain.items()}
    if isinstance(plain, list):
        return [field_names(row) for row in plain[:1]]
    return "value"


def test_field_list_of_the_stored_form_is_pinned():
    """A field that comes, goes or moves needs a new schema number and a reader for the old form."""
    record = Run(run_id="a")
    report = Report(
        plan=LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="c")),
        reference=record,
        reproduction=record,
        comparison=comparison(Status.IDENTICAL),
        causes=(Cause(kind="seed", what="x", confidence=0.5),),
        children=(
            JudgedPair(
                name="x",
                reference_run_id="a",
                reproduction_run_id="b",
                status=Status.IDENTICAL,
                comparison=comparison(Status.IDENTICAL),
            ),
        ),
    )
    shape = {"schema": SCHEMA_VERSION, "fields": field_names(report.to_dict())}
    assert GOLDEN_FIELDS.is_file(), f"{GOLDEN_FIELDS} is missing; it should hold:\n{json.dumps(shape, indent=2)}"
    assert shape == json.loads(GOLDEN_FIELDS.read_text(encoding="utf-8"))


def test_report_of_schema_1_is_read():
    """It had two tolerances where the rules are now."""
    reference = Run(run_id="a")
    plan = LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="c"))
    made = Report(plan=plan, reference=reference, reproduction=reference, comparison=comparison(Status.CLOSE))
    old = made.to_dict()
    old["schema"] = 1
    for name in ("causes", "children", "verdict", "runs_equal"):
        del old[name]
    del old["comparison"]["rules"]
    old["comparison"]["tolerances"] = {"rel_tol": 0.5, "abs_tol": 0.25}
    read = Report.from_dict(old)
    assert read.comparison.rules == Rules(default=Tolerances(rel_tol=0.5, abs_tol=0.25))
    assert read.comparison.findings == made.comparison.findings


def test_report_of_another_schema_is_refused():
    plain = Report(
        plan=LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="c")), reference=Run(run_id="a")
    ).to_dict()
    with pytest.raises(ValueError, match="schema is 999, not 2"):
        Report.from_dict({**plain, "schema": 999})


@pytest.mark.parametrize(
    ("verdict", "exit_code", "word"),
    [
        (Verdict.IDENTICAL, 0, "True"),
        (Verdict.WITHIN_TOLERANCE, 0, "True"),
        (Verdict.CONSISTENT, 0, "True"),
        (Verdict.DIFFERENT, 1, "False"),
        (Verdict.INCONCLUSIVE, 3, "Unknown"),
    ],
    ids=lambda value: str(getattr(value, "value", value)),
)
def test_verdict_has_its_exit_code_and_word(verdict: Verdict, exit_code: int, word: str):
    assert (verdict.exit_code, verdict.runs_equal) == (exit_code, word)


def test_each_verdict_is_in_the_table_above():
    assert len(Verdict) == 5


@pytest.mark.parametrize(
    ("statuses", "facts", "verdict"),
    [
        pytest.param([Status.IDENTICAL, Status.IDENTICAL], (), Verdict.IDENTICAL, id="identical"),
        pytest.param([Status.IDENTICAL, Status.CLOSE], (), Verdict.WITHIN_TOLERANCE, id="close"),
        pytest.param([Status.IDENTICAL, Status.DIFFERENT], (), Verdict.DIFFERENT, id="different"),
        pytest.param([Status.IDENTICAL, Status.MISSING], (), Verdict.DIFFERENT, id="missing"),
        pytest.param([Status.IDENTICAL, Status.EXTRA], (), Verdict.DIFFERENT, id="extra"),
        pytest.param([Status.IDENTICAL, Status.IGNORED], (), Verdict.IDENTICAL, id="ignored-beside"),
        pytest.param([Status.CLOSE, Status.CONSISTENT], (), Verdict.CONSISTENT, id="consistent"),
        pytest.param([Status.IDENTICAL, Status.UNKNOWN], (), Verdict.INCONCLUSIVE, id="unknown-beside"),
        pytest.param([Status.DIFFERENT, Status.UNKNOWN], (), Verdict.DIFFERENT, id="different-and-unknown"),
        pytest.param([Status.IGNORED], (), Verdict.INCONCLUSIVE, id="only-ignored"),
        pytest.param([], (), Verdict.INCONCLUSIVE, id="nothing"),
        pytest.param([], (Status.IDENTICAL,), Verdict.INCONCLUSIVE, id="only-facts"),
        pytest.param([Status.IDENTICAL], (Status.DIFFERENT,), Verdict.IDENTICAL, id="facts-never-judge"),
    ],
)
def test_verdict_is_derived_from_the_judged_findings(
    statuses: list[Status], facts: tuple[Status, ...], verdict: Verdict
):
    assert comparison(*statuses, facts=facts).verdict is verdict


def test_verdict_cannot_be_stored_by_hand():
    """A stored comparison that claims another verdict than its findings give is not believed."""
    plain = {**comparison(Status.DIFFERENT).to_dict(), "verdict": "IDENTICAL", "runs_equal": "True"}
    assert Comparison.from_dict(plain).verdict is Verdict.DIFFERENT


def test_report_of_a_dry_run_is_no_difference():
    plan = LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="c"))
    assert Report(plan=plan, reference=Run(run_id="a")).exit_code is ExitCode.EQUAL


@pytest.mark.parametrize("value", [-1.0, -5e-324, math.nan, math.inf, -math.inf], ids=repr)
@pytest.mark.parametrize("name", ["rel_tol", "abs_tol"])
def test_tolerance_is_a_finite_number_that_is_not_negative(name: str, value: float):
    """CMP-16: a tolerance of NaN would make everything different, a negative one nothing equal to itself."""
    with pytest.raises(UsageError, match=name):
        Tolerances(**{name: value})


@pytest.mark.parametrize("value", [0.0, -0.0, 5e-324, 1e300], ids=repr)
def test_any_other_tolerance_is_accepted(value: float):
    assert Tolerances(rel_tol=value, abs_tol=value).rel_tol == value


@pytest.mark.parametrize("confidence", [-0.1, 1.5, float("nan")])
def test_confidence_is_from_0_to_1(confidence: float):
    with pytest.raises(ValueError, match="confidence"):
        Cause(kind="seed", what="x", confidence=confidence)


@pytest.mark.parametrize(
    "kind", [Cause, Fact, Run, LaunchPlan, Finding, Comparison, Report, Rules, ToleranceRule, Tolerances]
)
def test_values_are_frozen(kind: type):
    assert dataclasses.fields(kind)
    assert kind.__dataclass_params__.frozen


@pytest.mark.parametrize(
    ("kind", "exit_code", "builtin"),
    [
        (UsageError, 2, ValueError),
        (CannotJudgeError, 3, ReproError),
        (LaunchError, 4, ReproError),
        (UnreachableError, 5, ConnectionError),
        (RefusedError, 6, ReproError),
    ],
)
def test_obstacle_carries_its_exit_code_and_hint(kind: type[ReproError], exit_code: int, builtin: type):
    error = kind("what is wrong", "what to do")
    assert (error.exit_code, str(error)) == (exit_code, "what is wrong (what to do)")
    assert isinstance(error, builtin)
    assert str(kind("what is wrong")) == "what is wrong"


def test_name_that_users_import_is_the_same_type():
    assert mlflow_repro.RunRecord is mlflow_repro.Run is Run
