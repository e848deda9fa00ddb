"""What is exact in an artifact: integers, booleans, dates and texts, of whatever size and in whatever format."""

from __future__ import annotations

import json
import pickle
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np
import pytest
import strategies  # noqa: F401 - hypothesis' profile
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_artifacts import hdf5, joblib_bytes, npy, npz, parquet, safetensors

from mlflow_repro.compare.artifacts import compare_artifact
from mlflow_repro.compare.artifacts.scalars import read_number
from mlflow_repro.values.comparison import EQUAL_STATUSES, Status
from mlflow_repro.values.rules import EXACT, Rules, RuleSettings, ToleranceRule, Tolerances, make_rules

if TYPE_CHECKING:
    from collections.abc import Callable

LOOSE = Tolerances(rel_tol=0.5, abs_tol=1e6, ulp=1000)
"""So wide that only what is exact differs; the default of a comparison, which names no file."""


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """Compare two contents of an artifact."""
    folder = tmp_path_factory.mktemp("exact")

    def compare(name: str, one: bytes | str, other: bytes | str, tolerances: Tolerances = LOOSE):
        paths = [folder / "one", folder / "other"]
        for path, content in zip(paths, (one, other), strict=True):
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return compare_artifact(name, *paths, tolerances)

    return compare


def write_integer_array(value: int) -> np.ndarray:
    return np.array([7, value], "u8" if value >= 2**63 else "i8")


INTEGER_WRITERS: dict[str, Callable[[int], bytes | str]] = {
    "a.csv": lambda value: f"id,x\n{value},0.5\n",
    "a.tsv": lambda value: f"id\tx\n{value}\t0.5\n",
    "a.json": lambda value: json.dumps({"ids": [value]}),
    "a.jsonl": lambda value: json.dumps({"id": value}),
    "a.yaml": lambda value: yaml.safe_dump({"id": value}),
    "m/MLmodel": lambda value: yaml.safe_dump({"metadata": {"seed": value}}),
    "a.pkl": lambda value: pickle.dumps({"seed": value}),
    "b.pkl": lambda value: pickle.dumps(write_integer_array(value)),
    "c.pkl": lambda value: pickle.dumps(write_integer_array(value)[1]),
    "a.joblib": lambda value: joblib_bytes({"ids": write_integer_array(value)}),
    "a.npy": lambda value: npy(write_integer_array(value)),
    "b.npy": lambda value: npy(np.array([(1.5, value)], [("x", "f8"), ("id", write_integer_array(value).dtype)])),
    "a.npz": lambda value: npz(ids=write_integer_array(value)),
    "a.parquet": lambda value: parquet({"id": write_integer_array(value)}),
    "b.parquet": lambda value: parquet({"ids": [[value], []]}),
    "a.h5": lambda value: hdf5(write_integer_array(value)),
    "a.safetensors": lambda value: safetensors({"ids": ("U64", np.array([value], "<u8"))}),
}
"""By the name of an artifact, how an integer gets into it."""


@pytest.mark.parametrize("name", INTEGER_WRITERS)
@settings(max_examples=20)
@given(value=st.integers(0, 2**64 - 2) | st.sampled_from((2**53, 2**53 - 1, 10**9, 2**63 - 2, 2**62, 41)))
def test_integers_that_differ_by_one_are_different_whatever_their_size(judge, name, value):
    """Ids, seeds, counts, labels and digests have no tolerance."""
    value = value % (2**63 - 1) if name == "b.parquet" else value
    assume(write_integer_array(value).dtype == write_integer_array(value + 1).dtype)
    one, other = INTEGER_WRITERS[name](value), INTEGER_WRITERS[name](value + 1)
    for tolerances in (LOOSE, Tolerances(), EXACT):
        assert judge(name, one, other, tolerances).status is Status.DIFFERENT
    assert judge(name, one, one, EXACT).status is Status.IDENTICAL


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.json", "a.yaml", "a.pkl"])
@given(value=st.integers(2**64, 10**400))
def test_integers_beyond_any_array_are_exact_as_well(judge, name, value):
    one, other = INTEGER_WRITERS[name](value), INTEGER_WRITERS[name](value + 1)
    assert judge(name, one, other).status is Status.DIFFERENT


@pytest.mark.parametrize("name", INTEGER_WRITERS)
def test_a_rule_that_names_the_file_holds_for_its_integers(judge, name):
    """That of a pattern does; what is set for everything, --rel_tol and --abs_tol, does not."""
    one, other = INTEGER_WRITERS[name](100), INTEGER_WRITERS[name](103)
    for text, status in (("abs:3", Status.CLOSE), ("rel:0.03", Status.CLOSE), ("abs:2.9", Status.DIFFERENT)):
        rules = make_rules(RuleSettings(tolerance=(f"{name}={text}",)))
        assert judge(name, one, other, rules.tolerances_of(name)).status is status
    rules = make_rules(RuleSettings(rel_tol=0.5, abs_tol=10.0, tolerance=("other/*=abs:3",)))
    assert judge(name, one, other, rules.tolerances_of(name)).status is Status.DIFFERENT
    rules = make_rules(RuleSettings(rel_tol=0.5, tolerance=(f"{name}=ulp:100", f"{name}.gz=abs:3")))
    assert judge(name, one, other, rules.tolerances_of(name)).status is Status.DIFFERENT


def test_what_a_rule_allows_integers_is_no_part_of_its_stored_form():
    rule = ToleranceRule(pattern="*", tolerances=Tolerances(abs_tol=1.0))
    rules = Rules(tolerances=(rule,))
    assert rules.tolerances_of("x").integers
    assert not rules.default.integers
    assert rules.tolerances_of("x") == rule.tolerances
    assert Rules.from_dict(rules.to_dict()) == rules
    assert "integers" not in json.dumps(rules.to_dict())


def write_times(moment: datetime, unit: str) -> np.ndarray:
    return np.array([moment.replace(tzinfo=None), "NaT"], f"M8[{unit}]")


TIME_WRITERS: dict[str, Callable[[datetime], bytes | str]] = {
    "a.csv": lambda moment: f"at,x\n{moment.isoformat()},0.5\n",
    "b.csv": lambda moment: f"{moment:%Y%m%d%H%M%S},0.5\n",
    "a.json": lambda moment: json.dumps([moment.isoformat()]),
    "a.yaml": lambda moment: yaml.safe_dump({"at": moment}),
    "b.yaml": lambda moment: f"at: {moment.isoformat()}.123456789\n",
    "c.yaml": lambda moment: f"at: {moment:%H:%M:%S}\nday: {moment:%Y-%m-%d}\n",
    "a.pkl": lambda moment: pickle.dumps([moment, moment.date(), moment - datetime(1970, 1, 1, tzinfo=timezone.utc)]),
    "b.pkl": lambda moment: pickle.dumps(write_times(moment, "ns")),
    "a.npy": lambda moment: npy(write_times(moment, "s")),
    "b.npy": lambda moment: npy(write_times(moment, "ns").astype("m8[ns]")),
    "a.parquet": lambda moment: parquet({"at": write_times(moment, "ns")}),
    "b.parquet": lambda moment: parquet({"at": [moment, None]}),
    "c.parquet": lambda moment: parquet({"at": [[moment.time()]], "for": [timedelta(seconds=moment.timestamp())]}),
}
"""By the name of an artifact, how a time gets into it."""


@pytest.mark.parametrize("name", TIME_WRITERS)
@settings(max_examples=15)
@given(moment=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(timezone.utc)))  # noqa: DTZ001
def test_times_a_second_apart_are_different(judge, name, moment):
    moment = moment.replace(microsecond=0)
    one, other = TIME_WRITERS[name](moment), TIME_WRITERS[name](moment + timedelta(seconds=1))
    rules = make_rules(RuleSettings(tolerance=(f"{name}=abs:1",)))
    for tolerances in (LOOSE, EXACT, *([] if name == "b.csv" else [rules.tolerances_of(name)])):
        assert judge(name, one, other, tolerances).status is Status.DIFFERENT
    assert judge(name, one, one).status is Status.IDENTICAL


def test_of_times_in_yaml_no_digit_is_dropped(judge):
    one, other = (f"at: 2020-01-01 00:00:00.12345678{digit}\n" for digit in (1, 2))
    assert judge("a.yaml", one, other).status is Status.DIFFERENT
    assert judge("a.yaml", f"days: [{date(2020, 1, 1)}]", f"days: [{date(2020, 1, 2)}]").status is Status.DIFFERENT


OTHER_TEXTS = [
    ("007", "7"),
    ("12345678901234567890", "12345678901234567891"),
    ("10000000000000001", "10000000000000000"),
    ("10000000000000001", "1e16"),
    ("+491234567890", "+491234567891"),
    ("+5", "5"),
    ("1_000", "1000"),
    ("0e12345", "0e54321"),  # digests that begin so
    ("1e999", "2e999"),
    ("1e-999", "1e-998"),
    ("0x10", "16"),
    ("00.5", "0.5"),
    ("\u0661", "1"),
    ("1,5", "1.5"),
    ("1.2.3", "1.2.30"),
    ("true", "True"),
    ("", "0"),
    ("", "nan"),
    ("None", "nan"),
    ("a", "a "),
    ("2020-01-01", "2020-1-1"),
]
SAME_NUMBERS = [
    ("1.0", "1.00"),
    ("1e3", "1000.0"),
    ("1", "1.0"),
    ("NaN", "nan"),
    ("-inf", "-Infinity"),
    (" 1.5", "1.5"),
]
NEAR_NUMBERS = [
    ("0.1", "0.10000000000000002"),
    ("0.0", "-0.0"),
    ("0.1", "0.1000000000000000000001"),
    ("1", "1.0000000001"),
]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
class TestCells:
    """A cell is a text; a number in it counts as one where it is written as people and programs write numbers."""

    @staticmethod
    def write(name: str, cell: str) -> str:
        mark = "," if name == "a.csv" else "\t"
        return f'x{mark}y\n1{mark}"{cell}"\n'

    @pytest.mark.parametrize(("one", "other"), OTHER_TEXTS)
    def test_other_texts_are_different(self, judge, name, one, other):
        for tolerances in (LOOSE, Tolerances(), EXACT):
            assert judge(name, self.write(name, one), self.write(name, other), tolerances).status is Status.DIFFERENT

    @pytest.mark.parametrize(("one", "other"), SAME_NUMBERS)
    def test_the_same_number_in_another_form_is_identical(self, judge, name, one, other):
        assert judge(name, self.write(name, one), self.write(name, other), EXACT).status is Status.IDENTICAL

    @pytest.mark.parametrize(("one", "other"), NEAR_NUMBERS)
    def test_floats_may_lie_within_tolerance(self, judge, name, one, other):
        assert judge(name, self.write(name, one), self.write(name, other), Tolerances()).status is Status.CLOSE
        assert judge(name, self.write(name, one), self.write(name, other), EXACT).status is Status.DIFFERENT

    @given(st.text(st.sampled_from("0123456789.eE+-_ naif"), max_size=7), st.floats())
    def test_any_text_is_equal_to_itself_and_to_another_only_as_a_number(self, judge, name, text, number):
        assert judge(name, self.write(name, text), self.write(name, text), EXACT).status is Status.IDENTICAL
        status = judge(name, self.write(name, text), self.write(name, repr(number)), EXACT).status
        is_same = text == repr(number) or (
            read_number(text) is not None and repr(float(read_number(text))) == repr(number)
        )
        assert is_same or status is Status.DIFFERENT


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("a.yaml", "x: 007", "x: 7"),
        ("a.yaml", "x: 0x10", "x: 16"),
        ("a.yaml", "x: 1_000", "x: 1000"),
        ("a.yaml", "x: 1:30", "x: 90"),
        ("a.yaml", "x: 1:30:45.5", "x: 1:30:45.6"),
        ("a.yaml", "x: '7'", "x: 7"),
        ("a.yaml", "1: x", "true: x"),
        ("a.yaml", "1: x", "1.0: x"),
        ("a.yaml", "x: 1.0e+400", "x: 1.0e+401"),
        ("a.json", '{"x": 1e999}', '{"x": 2e999}'),
        ("a.json", '{"x": "007"}', '{"x": "7"}'),
        ("a.json", '{"x": true}', '{"x": 1}'),
        ("a.json", '{"x": 12345678901234567890}', '{"x": 1.2345678901234567e19}'),
        ("a.pkl", pickle.dumps({1: "x"}), pickle.dumps({True: "x"})),
        ("a.pkl", pickle.dumps({1: "x"}), pickle.dumps({1.0: "x"})),
        ("a.pkl", pickle.dumps([1]), pickle.dumps([1.0])),
        ("a.pkl", pickle.dumps([1]), pickle.dumps([True])),
        ("a.pkl", pickle.dumps(["007"]), pickle.dumps(["7"])),
    ],
)
def test_other_values_that_a_reader_takes_for_the_same_are_different(judge, name, one, other):
    for tolerances in (LOOSE, Tolerances(), EXACT):
        assert judge(name, one, other, tolerances).status is Status.DIFFERENT


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "[.inf, -.INF, .NaN, 1.5, 0, -3, 1.0e+3]"), ("a.json", "[1.5]")])
def test_what_documents_write_as_numbers_stays_one(judge, name, text):
    assert judge(name, text, f"{text}\n", EXACT).status is Status.IDENTICAL
    assert judge(name, text, text.replace("1.5", "1.50000000001"), Tolerances()).status is Status.CLOSE


@given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70), st.floats(0, 2), st.integers(0, 10**6))
def test_a_rule_for_integers_is_math_isclose_without_rounding(one, other, rel_tol, abs_tol):
    from fractions import Fraction

    from mlflow_repro.compare.artifacts.scalars import compare_numbers

    rules = Rules(tolerances=(ToleranceRule(pattern="*", tolerances=Tolerances(rel_tol=rel_tol, abs_tol=abs_tol)),))
    limit = max(Fraction(rel_tol) * max(abs(one), abs(other)), abs_tol)
    status = compare_numbers(one, other, rules.tolerances_of("x"))
    assert (status in EQUAL_STATUSES) is (abs(one - other) <= limit)
    assert (status is Status.IDENTICAL) is (one == other)
