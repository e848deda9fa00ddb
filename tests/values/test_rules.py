"""Tolerances and rules: what they mean, where they are read, and that a contradiction or a slip is never silent."""

from __future__ import annotations

import math
import shutil
from typing import TYPE_CHECKING

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.cli import main
from mlflow_repro.compare import compare_records
from mlflow_repro.compare.learned import learn_rules
from mlflow_repro.compare.metrics import is_close, ulp_distance
from mlflow_repro.errors import UsageError
from mlflow_repro.judging.config import read_rules, write_rules
from mlflow_repro.judging.options import JudgeOptions
from mlflow_repro.values.comparison import Status, Verdict
from mlflow_repro.values.rules import EXACT, Rules, RuleSettings, Tolerances, make_rules, parse_rule, parse_tolerances
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from pathlib import Path

MAX = 1.7976931348623157e308


def rules(**settings: object) -> Rules:
    return make_rules(RuleSettings(**settings))


def statuses(one: dict[str, float], other: dict[str, float], **settings: object) -> dict[str, str]:
    result = compare_records(Run(run_id="a", metrics=one), Run(run_id="b", metrics=other), rules(**settings))
    return {row.name: row.status.value for row in result.of_kind("metric")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rel:1e-3", Tolerances(rel_tol=1e-3)),
        ("abs:0.01", Tolerances(rel_tol=0.0, abs_tol=0.01)),
        ("ulp:4", Tolerances(rel_tol=0.0, ulp=4)),
        ("rel:1e-3,abs:1e-6", Tolerances(rel_tol=1e-3, abs_tol=1e-6)),
        (" rel : 0.5 , ulp : 2 ", Tolerances(rel_tol=0.5, ulp=2)),
        ("exact", EXACT),
    ],
)
def test_tolerance_as_it_is_written(text: str, expected: Tolerances):
    """What is not named is zero; and the text that is shown reads back as the same."""
    assert parse_tolerances(text) == expected
    assert parse_tolerances(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val_*", "names no metric"),
        ("=rel:1", "names no metric"),
        ("x=", "not a tolerance: ''"),
        ("x=1e-3", "not a tolerance: '1e-3'"),
        ("x=relative:1", "not a tolerance"),
        ("x=rel:", "not a number: ''"),
        ("x=rel:abc", "not a number: 'abc'"),
        ("x=ulp:1.5", "not a number: '1.5'"),
        ("x=rel:nan", "rel_tol is nan"),
        ("x=abs:-1", "abs_tol is -1.0"),
        ("x=rel:inf", "rel_tol is inf"),
        ("x=ulp:-4", "ulp is -4"),
        ("x=rel:1,rel:2", "gives rel twice"),
        ("x=exact,rel:1", "not a tolerance: 'exact'"),
    ],
)
def test_what_is_no_tolerance_is_refused(text: str, words: str):
    """CMP-16."""
    with pytest.raises(UsageError, match=words):
        parse_rule(text)


def test_pattern_may_hold_an_equals_sign():
    assert parse_rule("f1@k=5=abs:1").pattern == "f1@k=5"


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        (1.0, 1.0, 0),
        (1.0, math.nextafter(1.0, 2.0), 1),
        (1.0, math.nextafter(1.0, 0.0), 1),
        (-0.0, 0.0, 0),
        (-5e-324, 5e-324, 2),
        (1.0, 2.0, 2**52),
        (MAX, math.inf, math.inf),
        (math.nan, 1.0, math.inf),
    ],
)
def test_ulp_distance(one: float, other: float, distance: float):
    assert ulp_distance(one, other) == ulp_distance(other, one) == distance
    assert is_close(one, other, Tolerances(rel_tol=0.0, ulp=2)) is (distance <= 2)


@given(strategies.numbers, strategies.numbers)
def test_ulp_distance_counts_what_nextafter_walks(one: float, other: float):
    distance = ulp_distance(one, other)
    assert distance == ulp_distance(other, one)
    if 0 < distance < math.inf:
        assert ulp_distance(math.nextafter(one, other), other) in (distance - 1, distance)


class TestWhichRuleDecides:
    """The first that matches, the command line before the file."""

    def test_first_match(self):
        one, other = {"val_loss": 1.0, "loss": 1.0}, {"val_loss": 1.1, "loss": 1.1}
        tolerance = ("val_loss=exact", "*loss=rel:0.5")
        assert statuses(one, other, tolerance=tolerance) == {"loss": "close", "val_loss": "different"}
        assert set(statuses(one, other, tolerance=tolerance[::-1]).values()) == {"close"}

    def test_rule_takes_the_place_of_the_default(self):
        one, other = {"acc": 1000.0, "x": 1000.0}, {"acc": 1000.5, "x": 1000.5}
        assert statuses(one, other, tolerance=("acc=abs:0.1",), rel_tol=0.1) == {"acc": "different", "x": "close"}

    def test_exact_takes_the_same_bits_only(self):
        one, other = {"x": 0.0, "y": 1.0, "nan": math.nan}, {"x": -0.0, "y": math.nextafter(1, 2), "nan": math.nan}
        assert set(statuses(one, other).values()) == {"close", "identical"}
        assert statuses(one, other, exact=True) == {"x": "different", "y": "different", "nan": "identical"}

    def test_only_and_ignore_and_judge(self):
        metrics = {"val_loss": 1.0, "val_acc": 1.0, "loss": 1.0, "fit_time": 1.0}
        other = dict.fromkeys(metrics, 2.0)
        found = statuses(metrics, other, only=("val_*", "fit_time"), ignore=("*acc",), judge=("fit_time",))
        judged = {name for name, status in found.items() if status == "different"}
        assert judged == {"val_loss", "fit_time"}
        assert statuses(metrics, other, only=("fit_time",))["fit_time"] == "ignored"

    def test_row_that_is_left_out_names_the_rule(self):
        result = compare_records(
            Run(run_id="a", metrics={"x": 1.0, "y": 1.0}),
            Run(run_id="b", metrics={"x": 2.0, "y": 2.0}),
            rules(ignore=("x",), only=("z", "x")[:1]),
        )
        assert [row.note for row in result.of_kind("metric")] == [
            "left out by the rule ignore x",
            "left out by the rule only z",
        ]
        assert result.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"exact": True, "rel_tol": 0.1}, "exact contradicts rel_tol"),
        ({"exact": True, "abs_tol": 0.0}, "exact contradicts abs_tol"),
        ({"tolerance": ("x=rel:1", "x=rel:2")}, "contradict each other"),
        ({"only": ("a", "b"), "ignore": ("b",)}, "only and ignore both name 'b'"),
        ({"judge": ("b",), "ignore": ("b",)}, "judge and ignore both name 'b'"),
        ({"only": ("",)}, "pattern is empty"),
    ],
)
def test_contradiction_is_an_error(settings: dict, words: str):
    with pytest.raises(UsageError, match=words):
        rules(**settings)


def test_rule_that_decides_nothing_is_a_row():
    result = compare_records(
        Run(run_id="a", metrics={"loss": 1.0, "fit_time": 1.0}),
        Run(run_id="b", metrics={"loss": 1.0, "acc": 1.0}),
        rules(
            tolerance=("vall_*=rel:1", "*=rel:0.1", "acc=exact", "fit_time=abs:1"), ignore=("lr",), judge=("wall_*",)
        ),
    )
    assert {row.name: row.note for row in result.of_kind("rule")} == {
        "tolerance vall_*=rel:1.0": "matches no metric or artifact of either run",
        "tolerance acc=exact": "an earlier rule decides each that it matches",
        "tolerance fit_time=abs:1.0": "matches only what is not judged",
        "ignore lr": "matches no metric or artifact of either run",
        "judge wall_*": "matches no metric of either run",
    }
    assert all(row.status is Status.IGNORED and not row.is_judged for row in result.of_kind("rule"))


@given(strategies.rule_sets)
def test_stored_form_reads_back(value: Rules):
    assert Rules.from_dict(value.to_dict()) == value


FILE = """\
[tool.mlflow-repro]
rel_tol = 1e-6
only = ["val_*", "acc"]
ignore = ["val_lr"]
[tool.mlflow-repro.tolerance]
"val_*" = "rel:1e-3"
acc = "abs:0.01,ulp:4"
"""


class TestFile:
    """Rules that a team keeps in git."""

    def test_of_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        assert read_rules() == Rules()
        (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
        assert read_rules() == Rules()
        (tmp_path / "pyproject.toml").write_text(FILE)
        expected = rules(
            rel_tol=1e-6, only=("val_*", "acc"), ignore=("val_lr",),
            tolerance=("val_*=rel:1e-3", "acc=abs:0.01,ulp:4"),
        )  # fmt: skip
        assert read_rules().to_dict() == {**expected.to_dict(), "origin": "pyproject.toml"}

    def test_of_its_own_may_leave_the_table_out(self, tmp_path: Path):
        path, other = tmp_path / "rules.toml", tmp_path / "pyproject.toml"
        path.write_text(FILE.replace("[tool.mlflow-repro]\n", "").replace("tool.mlflow-repro.", ""))
        other.write_text(FILE)
        assert {**read_rules(str(path)).to_dict(), "origin": ""} == {**read_rules(str(other)).to_dict(), "origin": ""}

    def test_command_line_comes_first(self, tmp_path: Path):
        (tmp_path / "r.toml").write_text(FILE)
        settings = RuleSettings(rel_tol=0.5, tolerance=("acc=exact",), only=("val_lr",), ignore=("val_x",))
        made = JudgeOptions(config=str(tmp_path / "r.toml"), rules=settings).read().rules
        assert [str(rule) for rule in made.tolerances] == ["acc=exact", "val_*=rel:0.001"]
        assert (made.default.rel_tol, made.only, made.ignore) == (0.5, ("val_lr",), ("val_x",))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[tool.other]\n", "has no table"),
            ("not toml", "cannot be read"),
            ("[tool.mlflow-repro]\nrel_tool = 1\n", "unknown key 'rel_tool'"),
            ("[tool.mlflow-repro]\nrel_tol = nan\n", "rel_tol is nan"),
            ("[tool.mlflow-repro]\nrel_tol = -1\n", "rel_tol is -1"),
            ("[tool.mlflow-repro]\nrel_tol = '1'\n", "rel_tol is '1'"),
            ("[tool.mlflow-repro]\nrel_tol = true\n", "rel_tol is True"),
            ("[tool.mlflow-repro]\nexact = 1\n", "exact is 1"),
            ("[tool.mlflow-repro]\nonly = 'x'\n", "only is 'x'"),
            ("[tool.mlflow-repro]\ntolerance = ['x=rel:1']\n", "tolerance is"),
            ("[tool.mlflow-repro.tolerance]\nval.loss = 'rel:1'\n", "tolerance is"),
            ("[tool.mlflow-repro.tolerance]\nx = 'rel:nan'\n", "rel_tol is nan"),
            ("[tool.mlflow-repro]\nexact = true\nabs_tol = 1\n", "exact contradicts abs_tol"),
        ],
    )
    def test_bad_file_is_named(self, tmp_path: Path, text: str, words: str):
        path = tmp_path / "pyproject.toml"
        path.write_text(text)
        with pytest.raises(UsageError, match=words) as caught:
            read_rules(str(path))
        assert str(path) in str(caught.value)

    def test_file_that_is_not_there(self, tmp_path: Path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_rules(str(tmp_path / "none.toml"))


class TestCommandLine:
    """The rules through the door that people use."""

    @pytest.fixture
    def judge(self, tmp_path: Path, empty_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
        """Judge two runs whose metric ``loss`` is 1.0 and 1.01, with more options."""
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        one = client.create_run("0", tags={"mlflow.source.git.commit": "0" * 40, "mlflow.source.git.repoURL": "/x"})
        client.set_tag(one.info.run_id, "mlflow.source.type", "PROJECT")
        client.set_tag(one.info.run_id, "mlflow.project.entryPoint", "main")
        other = client.create_run("0", tags={"repro.reference_run_id": one.info.run_id})
        for run, value in ((one, 1.0), (other, 1.01)):
            client.log_metric(run.info.run_id, "loss", value)
            client.set_terminated(run.info.run_id)
        monkeypatch.chdir(tmp_path)

        def judge(*options: str) -> tuple[int, str, str]:
            code = main(
                [
                    "reproduce", "--run_id", one.info.run_id, "--resume", other.info.run_id,
                    "--tracking_uri", f"sqlite:///{tmp_path}/mlflow.db", *options,
                ]
            )  # fmt: skip
            captured = capsys.readouterr()
            return code, captured.out, captured.err

        return judge

    def test_rules_turn_the_verdict(self, judge, tmp_path: Path):
        assert judge()[0] == 1
        assert judge("--tolerance", "lo*=rel:0.1")[0] == 0
        assert judge("--ignore", "loss")[0] == 3
        (tmp_path / "pyproject.toml").write_text('[tool.mlflow-repro.tolerance]\nloss = "abs:0.5"\n')
        assert judge()[0] == 0
        assert judge("--tolerance", "loss=exact")[0] == 1

    def test_unused_rule_is_a_warning(self, judge):
        code, out, _ = judge("--tolerance", "lo*=rel:0.1", "--tolerance", "los=rel:1")
        assert code == 0
        assert (
            "Warning: the rule tolerance los=rel:1.0 is not used: matches no metric or artifact of either run\n" in out
        )

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (("--exact", "--rel_tol", "0.1"), "exact contradicts rel_tol"),
            (("--tolerance", "loss=rel:nan"), "rel_tol is nan"),
            (("--only", "x", "--ignore", "x"), "both name 'x'"),
            (("--config", "none.toml"), "none.toml cannot be read"),
        ],
    )
    def test_contradiction_is_exit_code_2(self, judge, options: tuple[str, ...], words: str):
        code, out, err = judge(*options)
        assert (code, out) == (2, "")
        assert words in err


class TestLearning:
    """Tolerances that are learned from repeats, and written for others to use."""

    @pytest.fixture
    def runs(self, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        ids = []
        for number, value in enumerate((1.0, 1.1, 1.2, 1.15)):
            ids.append(client.create_run("0").info.run_id)
            for name, logged in {"loss": value, "same": 2.0, "zero": value - 1.1, "fit_time": value}.items():
                client.log_metric(ids[-1], name, logged)
            if number:
                client.log_metric(ids[-1], "late", 1.0)
            client.set_terminated(ids[-1])
        return ids

    def test_file_is_written_and_used(self, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        assert main(["compare", *runs[:2], "--ignore", "late"]) == 1
        assert main(["tolerances", "--from", *runs]) == 0
        out = capsys.readouterr().out
        assert "left out: fit_time: measures time or the machine, not judged\n" in out
        assert "left out: late: only 3 of 4 runs have it\n" in out
        written = {rule.pattern: str(rule.tolerances) for rule in read_rules("mlflow-repro.toml").tolerances}
        assert written == {"loss": "rel:0.152", "same": "rel:1e-09", "zero": "abs:0.169"}
        assert main(["compare", *runs[1:3], "--config", "mlflow-repro.toml"]) == 0
        assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow-repro.toml"}

    @given(strategies.numbers.filter(math.isfinite), st.integers(3, 5), strategies.tolerances | st.just(EXACT))
    def test_repeats_that_the_default_finds_equal_get_no_wider_tolerance(
        self, value: float, count: int, default: Tolerances
    ):
        rules = Rules(default=default)
        learned, _ = learn_rules([Run(run_id=str(n), metrics={"x": value}) for n in range(count)], rules)
        assert [rule.tolerances for rule in learned.tolerances] == [default]
        near = [Run(run_id=str(n), metrics={"x": 1.0 + 1e-10 * n}) for n in range(count)]
        learned, _ = learn_rules(near, Rules())
        assert learned.tolerances_of("x") == Tolerances()
        far = [Run(run_id=str(n), metrics={"x": 1.0 + 1e-8 * n}) for n in range(count)]
        learned, _ = learn_rules(far, Rules())
        assert learned.tolerances_of("x") == Tolerances(rel_tol=1e-3)

    def test_file_that_is_there_is_kept(self, runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        (tmp_path / "r.toml").write_text("mine")
        assert main(["tolerances", "--from", *runs, "--output", "r.toml"]) == 6
        assert (tmp_path / "r.toml").read_text() == "mine"
        assert main(["tolerances", "--from", *runs, "--output", "pyproject.toml"]) == 6
        assert main(["tolerances", "--from", *runs, "--output", "none/r.toml"]) == 2
        assert main(["tolerances", "--from", *runs, "--output", "r.toml", "--overwrite"]) == 0
        assert capsys.readouterr().err.count("\n") == 3

    @pytest.mark.parametrize("count", [1, 2])
    def test_fewer_than_three_runs(self, runs: list[str], count: int, capsys: pytest.CaptureFixture[str]):
        assert main(["tolerances", "--from", *runs[:count]]) == 2
        assert main(["tolerances", "--from", runs[0], runs[1], runs[1]]) == 2
        assert "give 3 or more, each once" in capsys.readouterr().err


same_names = st.dictionaries(st.sampled_from(("loss", "[x]*?", 'a"\\\n')), strategies.numbers, min_size=3)


@given(*[same_names | strategies.metric_maps] * 3, strategies.rule_sets)
def test_what_was_learned_reads_back_and_holds(tmp_path_factory, one: dict, two: dict, three: dict, base: Rules):
    """Whatever a metric is called: the file is read as it was meant, and each repeat is close to their mean."""
    runs = [Run(run_id=str(number), metrics=metrics) for number, metrics in enumerate((one, two, three))]
    learned, left_out = learn_rules(runs, base)
    path = tmp_path_factory.getbasetemp() / "learned.toml"
    write_rules(str(path), learned, overwrite=True)
    assert read_rules(str(path)).to_dict() == {**learned.to_dict(), "origin": str(path)} or learned.default.ulp
    names = {*one, *two, *three}
    assert len(learned.tolerances) + len(left_out) == len(names)
    for name in names:
        if not any(text.startswith(f"{name}: ") for text in left_out):
            assert learned.tolerances_of(name) in [rule.tolerances for rule in learned.tolerances]
