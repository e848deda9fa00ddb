"""Why two runs differ: rules, the shape of the difference, lines of the program, and ``mlflow-repro explain``."""

from __future__ import annotations

import copy
import io
import json
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record_of

from mlflow_repro.cli import main
from mlflow_repro.compare.facts import compare_facts
from mlflow_repro.explain import explain
from mlflow_repro.explain.evidence import ChangedFile, CodeHint, Divergence, Evidence
from mlflow_repro.explain.fixes import give_seed_line, give_switch_line, give_variable_lines
from mlflow_repro.explain.randomness import compare_traces
from mlflow_repro.explain.shape import _LIKELIHOODS, find_shape
from mlflow_repro.text.command_line import change_arguments, diff_arguments, split_arguments, value_of
from mlflow_repro.values.comparison import Comparison, Finding, Status
from mlflow_repro.values.report import KINDS
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run

RECORD: dict[str, Any] = {
    "code": {"commit": "c" * 40, "tree": "t1"},
    "launch": {
        "argv": ["python", "train.py", "--alpha", "0.5"],
        "script": "train.py",
        "cwd": ".",
        "variables": {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
    },
    "seeds": {
        "numpy": "1",
        "calls": [],
        "digests": {"start": {"python": "p", "numpy": "n"}, "end": {"python": "p", "numpy": "m"}},
        "entropy": {"root": "r", "asked": 0, "users": []},
    },
    "environment": {
        "python": "3.11.7",
        "distributions": {"numpy": "2.1.0", "scikit-learn": "1.5.0", "requests": "2.0.0", "polars": "1.0.0"},
        "imported": ["numpy", "scikit-learn", "requests"],
    },
    "machine": {
        "cpu": {"flags": ["avx2", "fma"], "model": "one"},
        "libraries": [{"library": "openblas", "version": "0.3", "threads": 4, "architecture": "Haswell"}],
    },
    "data": {"params": [{"param": "data", "path": "a.csv", "size": 10, "sha256": "a" * 64}]},
}


def history(name: str = "loss", *, first: float = 0.1, step: int = 0, start: int = 0) -> Finding:
    """A history that differs from ``step`` on, at first by ``first`` of its value."""
    details: dict[str, float | str] = {
        "points": 10, "unequal": 5, "different": 5, "missing_points": 0, "extra_points": 0, "first_step": start,
        "first_inexact_step": step, "first_different_step": step, "first_relative": first, "median_relative": 0.1,
    }  # fmt: skip
    return Finding(
        kind="history", name=name, reference=10.0, reproduction=10.0, status=Status.DIFFERENT, details=details
    )


def evidence_of(other: dict[str, Any], *outcomes: Finding, one: dict[str, Any] = RECORD, **more: Any) -> Evidence:
    comparison = Comparison(
        reference_run_id="a", reproduction_run_id="b", findings=outcomes or (history(),), rules=Rules()
    )
    records = record_of(one), record_of(other)
    facts = (*compare_facts(*records), *more.pop("facts", ()))
    runs = {"reference": Run(run_id="a", start_time=1000), "reproduction": Run(run_id="b", start_time=9000)}
    return Evidence(comparison=comparison, facts=facts, records=records, **{**runs, **more})


def changed(path: str, value: Any, record: dict[str, Any] = RECORD) -> dict[str, Any]:
    """``record`` with one value changed."""
    other = copy.deepcopy(record)
    *parents, last = path.split("/")
    place = other
    for key in parents:
        place = place[key]
    place[last] = value
    return other


UNSEEDED = changed("seeds/numpy", None)
CASES = [
    pytest.param(
        changed("launch/argv", ["python", "train.py", "--alpha", "0.4"]),
        {},
        "parameter",
        "alpha: 0.5 -> 0.4",
        "--alpha 0.5",
        id="argument",
    ),
    pytest.param(
        changed("launch/argv", ["python", "train.py", "--alpha=0.5", "--seed=3"]),
        {},
        "seed",
        "seed: nothing -> 3",
        "without --seed",
        id="seed-argument",
    ),
    pytest.param(
        changed("code/tree", "t2"),
        {
            "changed_files": (
                ChangedFile(path="README.md", how="changed", lines=90),
                ChangedFile(path="src/model.py", how="changed", lines=1),
            )
        },
        "code",
        "src/model.py differs",
        "commit",
        id="code",
    ),
    pytest.param(
        changed("code/tree", "t2"),
        {"changed_files": (ChangedFile(path="data/x.csv", how="changed"),)},
        "data",
        "data/x.csv",
        "git checkout",
        id="committed-data",
    ),
    pytest.param(changed("code/tree", "t2"), {}, "code", "another one", "changes.patch", id="code-not-at-hand"),
    pytest.param(changed("seeds/numpy", "7"), {}, "seed", "1 -> 7", "np.random.seed(1)", id="seed"),
    pytest.param(
        changed("data/params", [{"param": "data", "path": "a.csv", "size": 10, "sha256": "b" * 64}]),
        {},
        "data",
        "a.csv has another content",
        "a" * 16,
        id="data",
    ),
    pytest.param(
        changed("environment/distributions", {**RECORD["environment"]["distributions"], "numpy": "1.26.4"}),
        {},
        "package",
        "numpy 2.1.0 -> 1.26.4",
        "pip install numpy==2.1.0",
        id="package",
    ),
    pytest.param(
        changed("environment/python", "3.12.1"), {}, "python", "3.11.7 -> 3.12.1", "--env recorded", id="python"
    ),
    pytest.param(
        changed("launch/variables", {"PYTHONHASHSEED": "4", "OMP_NUM_THREADS": "1"}),
        {},
        "hash_seed",
        "PYTHONHASHSEED: 0 -> 4",
        "export PYTHONHASHSEED=0",
        id="hash-seed",
    ),
    pytest.param(
        changed("launch/variables", {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "LC_ALL": "C"}),
        {},
        "locale",
        "LC_ALL: not set -> C",
        "unset LC_ALL",
        id="locale",
    ),
    pytest.param(
        changed("launch/variables", {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "TZ": "UTC"}),
        {},
        "time",
        "TZ: not set -> UTC",
        "unset TZ",
        id="time-zone",
    ),
    pytest.param(
        changed("launch/script", "other.py"), {}, "code", "script of the launch", "start train.py", id="script"
    ),
]


class TestRules:
    """One difference at a time, and what is made of it."""

    @pytest.mark.parametrize(("other", "more", "kind", "what", "fix"), CASES)
    def test_names_the_cause_and_the_fix(self, other, more, kind, what, fix):
        first = explain(evidence_of(other, **more))[0]
        assert first.kind == kind
        assert what in first.what
        assert fix in first.fix
        assert first.evidence

    @pytest.mark.parametrize("first", [1e-16, 3e-8])
    @pytest.mark.parametrize(
        ("path", "value", "kind"),
        [
            ("machine/libraries", [{**RECORD["machine"]["libraries"][0], "threads": 2}], "threads"),
            ("machine/libraries", [{**RECORD["machine"]["libraries"][0], "version": "0.4"}], "blas"),
            ("machine/libraries", [{**RECORD["machine"]["libraries"][0], "architecture": "Zen"}], "cpu"),
            ("machine/cpu", {"flags": ["avx2"], "model": "two"}, "cpu"),
            ("launch/variables", {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "2"}, "threads"),
        ],
    )
    def test_a_few_ulp_from_the_first_step_on_are_the_machines(self, path, value, kind, first):
        """Beside a package and an argument that differ as well, and would be blamed for a larger difference."""
        other = changed("launch/argv", ["python", "train.py", "--alpha", "0.4"], changed(path, value))
        causes = explain(evidence_of(other, history(first=first)))
        assert causes[0].kind == kind
        assert explain(evidence_of(other, history(first=0.2)))[0].kind == "parameter"

    def test_a_seed_that_an_argument_gave_is_one_cause(self):
        """Also where the reference had the default."""
        other = changed(
            "seeds/numpy", "6", changed("launch/argv", ["python", "train.py", "--alpha", "0.5", "--seed", "6"])
        )
        causes = explain(evidence_of(other))
        assert [cause.what for cause in causes if cause.kind == "seed"] == ["seed seed: nothing -> 6"]

    def test_an_unseeded_generator_that_drew_is_named(self):
        other = changed("seeds/digests", {"start": {"python": "q", "numpy": "x"}, "end": {"python": "q", "numpy": "y"}})
        other["seeds"]["numpy"] = None
        first, *rest = explain(evidence_of(other, one=UNSEEDED))
        assert (first.kind, first.what) == ("random_state", "numpy's global generator is not seeded")
        assert "np.random.seed(0)" in first.fix
        assert "random_state=0" in first.fix  # scikit-learn was imported
        assert not any("Python's random" in cause.what for cause in rest)  # it differs and drew nothing

    def test_draws_before_the_import_of_mlflow_are_named(self):
        other = changed("seeds/drew_early", ["numpy"], UNSEEDED)
        first = explain(evidence_of(other, one=changed("seeds/drew_early", ["numpy"], UNSEEDED)))[0]
        assert first.what == "numpy's global generator is not seeded and drew before mlflow was imported"
        assert "import mlflow before" in first.fix

    def test_a_seeded_generator_is_not_blamed_for_what_it_was_before(self):
        other = changed("seeds/digests", {"start": {"numpy": "x"}, "end": {"numpy": "m"}})
        assert explain(evidence_of(other))[0].kind == "nondeterminism"

    def test_entropy_is_blamed_only_where_it_was_asked_for(self):
        one = changed("seeds/entropy", {"root": "r", "asked": 1, "users": ["draw"]})
        other = changed("seeds/entropy", {"root": "s", "asked": 1, "users": ["draw"]})
        assert "default_rng()" in explain(evidence_of(other, one=one))[0].what
        assert explain(evidence_of(changed("seeds/entropy", {"root": "s", "asked": 0, "users": []})))[0].kind == (
            "nondeterminism"
        )

    def test_packages_are_ranked_by_what_the_run_imported(self):
        versions = {"numpy": "2.0.1", "scikit-learn": "1.4.0", "requests": "1.0.0", "polars": "0.9"}
        causes = explain(evidence_of(changed("environment/distributions", versions)))
        assert [cause.what.split()[0] for cause in causes[:2]] == ["scikit-learn", "numpy"]
        rest = next(cause for cause in causes if "1 package " in cause.what)
        assert rest.evidence == ("other versions of requests",)  # it serves the web
        assert "polars" not in str(causes)  # not imported

    def test_nothing_differs_means_that_the_run_differs_from_itself(self):
        unset = changed("launch/variables", {})
        first, *_ = explain(evidence_of(unset, history(first=1e-16), one=unset))
        assert (first.kind, first.what) == ("nondeterminism", "the run differs from itself")
        assert any("4 threads" in fact for fact in first.evidence)
        assert any("8 s apart" in fact for fact in first.evidence)
        assert first.fix == "mlflow-repro isolate a --other b"
        there = replace(evidence_of(unset, history(first=1e-16), one=unset), store="http://h:5000")
        assert explain(there)[0].fix == "mlflow-repro isolate a --other 'http://h:5000#b'"

    def test_a_line_of_the_program_names_what_nothing_recorded_shows(self):
        unset = changed("launch/variables", {})
        hints = (CodeHint(topic="hash_seed", where="train.py:7", text="iterates over a set"),)
        first = explain(evidence_of(unset, one=unset, hints=hints, has_sources=True))[0]
        assert first.kind == "hash_seed"
        assert "train.py:7 iterates over a set" in first.evidence
        assert "PYTHONHASHSEED=0" in first.fix

    def test_a_variable_that_the_program_does_not_read_is_not_blamed_before_a_clock_that_it_does(self):
        other = changed("launch/variables", {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "LC_ALL": "C"})
        hints = (CodeHint(topic="time", where="train.py:3", text="calls time.time()"),)
        causes = explain(evidence_of(other, hints=hints, has_sources=True))
        assert [cause.kind for cause in causes][:2] == ["time", "nondeterminism"]

    def test_a_run_without_record_is_explained_by_its_tags(self):
        facts = [Finding(kind="param", name="lr", reference="1", reproduction="2", status=Status.DIFFERENT)]
        first = explain(evidence_of({}, one={}, facts=facts))[0]
        assert (first.kind, first.what) == ("parameter", "parameter lr: 1 -> 2")

    def test_a_logged_parameter_is_no_cause_where_an_argument_explains_it(self):
        facts = [Finding(kind="param", name="alpha", reference="0.5", reproduction="0.4", status=Status.DIFFERENT)]
        other = changed("launch/argv", ["python", "train.py", "--alpha", "0.4"])
        assert sum("alpha" in cause.what for cause in explain(evidence_of(other, facts=facts))) == 1

    def test_what_could_not_be_put_back_is_a_cause(self):
        caveats = (
            "3 files are Git-LFS pointers without their content (a.bin, ...): install git-lfs",
            "it has submodules",
        )
        first = explain(evidence_of(RECORD, caveats=caveats))[0]
        assert (first.kind, first.evidence[0]) == ("not_restored", caveats[0])

    def test_equal_runs_have_no_cause(self):
        same = Finding(kind="metric", name="x", reference=1.0, reproduction=1.0, status=Status.IDENTICAL)
        assert explain(evidence_of(changed("environment/python", "3.12.1"), same)) == ()

    def test_secrets_are_not_shown(self):
        other = changed("launch/argv", ["python", "train.py", "--alpha", "0.5", "--api-token", "hunter2hunter2"])
        assert "hunter2" not in str(explain(evidence_of(other)))

    @given(st.data())
    def test_confidences_are_ordered_and_sum_to_less_than_one(self, data: st.DataObject):
        """Whatever differs at once."""
        other = copy.deepcopy(RECORD)
        for case in data.draw(st.lists(st.sampled_from(CASES), max_size=5)):
            for section, facts in case.values[0].items():
                other[section].update({key: value for key, value in facts.items() if value != RECORD[section].get(key)})
        size = data.draw(st.sampled_from([1e-16, 1e-7, 0.5]))
        causes = explain(evidence_of(other, history(first=size, step=data.draw(st.integers(0, 3)))))
        confidences = [cause.confidence for cause in causes]
        assert confidences == sorted(confidences, reverse=True)
        assert 0 < sum(confidences) < 1.01


class TestFixes:
    """The line to add, as it can be copied."""

    @pytest.mark.parametrize(
        ("generator", "imported", "line"),
        [
            ("python", (), "random.seed(7) "),
            ("numpy", (), "np.random.seed(7) "),
            ("numpy", ("scikit-learn",), "random_state=7"),
            ("torch", ("torch",), "torch.manual_seed(7) "),
            ("tensorflow", ("tensorflow-cpu",), "tf.random.set_seed(7) "),
            ("numpy", ("keras", "tensorflow"), "keras.utils.set_random_seed(7) "),
            ("entropy", ("keras", "numpy"), "np.random.default_rng(7) "),
        ],
    )
    def test_seeds_by_what_the_run_imported(self, generator: str, imported: tuple[str, ...], line: str):
        assert line in give_seed_line(generator, imported, "7")

    def test_variables(self):
        lines = give_variable_lines({"A": "1", "B": "two words; rm", "C": None, "API_TOKEN": "hunter2hunter2"})
        assert lines.startswith("export A=1 B='two words; rm' API_TOKEN=")
        assert lines.endswith("; unset C")
        assert "hunter2" not in lines

    @pytest.mark.parametrize(
        ("switch", "one", "other", "line"),
        [
            ("tensorflow.op_determinism", True, False, "tf.config.experimental.enable_op_determinism()"),
            ("tensorflow.intra_op_threads", "default", 2, "set_intra_op_parallelism_threads(0)"),
            ("torch.deterministic_algorithms", False, True, "torch.use_deterministic_algorithms(True)"),
            ("torch.float32_matmul_precision", "highest", "high", "torch.set_float32_matmul_precision('highest')"),
            ("torch.threads", 4, 2, "torch.set_num_threads(4)"),
            ("torch.cuda_version", "1", "2", "mlflow_repro.make_deterministic()"),
        ],
    )
    def test_switches_of_frameworks(self, switch: str, one: object, other: object, line: str):
        assert line in give_switch_line(switch, one)
        framework, _, name = switch.partition(".")
        machine = [{**RECORD["machine"], "frameworks": {framework: {name: value}}} for value in (one, other)]
        sides = [{**RECORD, "machine": side} for side in machine]
        first = explain(evidence_of(sides[1], history(first=1e-7), one=sides[0]))[0]
        assert first.kind in ("determinism", "threads")
        assert line in first.fix

    def test_a_gpu_without_deterministic_operations(self):
        torch = {"torch": {"deterministic_algorithms": False}}
        same = {**RECORD, "machine": {**RECORD["machine"], "gpus": {"devices": [{"name": "g"}]}, "frameworks": torch}}
        first = explain(evidence_of(same, history(first=1e-7), one=same))[0]
        assert (first.kind, first.fix.split()[0]) == ("determinism", "torch.use_deterministic_algorithms(True)")

    def test_a_relaunch_names_the_run(self):
        cause = explain(evidence_of(changed("environment/python", "3.12.1")))[0]
        assert cause.fix == "mlflow-repro reproduce --run_id a --env recorded"

    def test_a_folder_of_data_of_the_same_size(self):
        rows = [
            {"param": "data", "path": "/d", "size": 10, "kind": "directory", "merkle_sha256": digest * 64}
            for digest in "ab"
        ]
        one, other = (changed("data/params", [row]) for row in rows)
        first = explain(evidence_of(other, one=one))[0]
        assert (first.kind, first.what) == ("data", "the data /d has another content")
        assert "a" * 16 in first.fix


def test_each_kind_of_cause_has_a_likelihood_and_is_documented():
    assert set(_LIKELIHOODS) == set(KINDS)
    text = (Path(__file__).resolve().parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in text] == []


class TestShape:
    """How large a difference is where it begins."""

    @pytest.mark.parametrize(
        ("first", "size"), [(1e-16, "ulp"), (1e-7, "rounding"), (1e-3, "visible"), (0.5, "visible")]
    )
    def test_size(self, first: float, size: str):
        assert find_shape(evidence_of({}, history(first=first)).comparison).size == size

    def test_the_largest_first_error_of_several_counts(self):
        shape = find_shape(
            evidence_of({}, history("a", first=1e-16, step=2), history("b", first=0.5, step=4)).comparison
        )
        assert (shape.metric, shape.size, shape.step, shape.is_later) == ("b", "visible", 2, True)

    def test_what_only_one_side_has_is_structure(self):
        only = Finding(kind="metric", name="x", reference=1.0, reproduction=None, status=Status.MISSING)
        assert find_shape(evidence_of({}, history(), only).comparison).size == "structure"

    def test_artifacts_alone(self):
        file = Finding(kind="artifact", name="x", reference="1", reproduction="2", status=Status.DIFFERENT)
        shape = find_shape(evidence_of({}, file).comparison)
        assert (shape.size, shape.describe()) == ("files", "only artifacts differ")

    def test_nan_is_a_large_error(self):
        row = Finding(kind="metric", name="x", reference=1.0, reproduction=float("nan"), status=Status.DIFFERENT)
        assert find_shape(evidence_of({}, row).comparison).relative == 1.0


class TestTraces:
    """From which step on draws differ."""

    def trace(self, *digests: str) -> dict[str, Any]:
        return {
            "schema": 1,
            "steps": {str(step): {"numpy": digest, "python": "p"} for step, digest in enumerate(digests)},
        }

    def test_first_step_that_differs(self):
        found = compare_traces(self.trace("a", "b", "c", "d"), self.trace("a", "b", "x", "y"))
        assert found == (Divergence(generator="numpy", step=2, before=1),)

    def test_steps_are_numbers(self):
        one = {"steps": {str(step): {"numpy": "a"} for step in range(12)}}
        other = copy.deepcopy(one)
        other["steps"]["11"] = {"numpy": "b"}
        assert compare_traces(one, other) == (Divergence(generator="numpy", step=11, before=10),)

    def test_draws_that_part_before_the_result_does_are_the_cause(self):
        traces = (Divergence(generator="keras layers", step=120, before=119),)
        first = explain(evidence_of(RECORD, history(step=120), traces=traces))[0]
        assert first.what == "the draws of Keras' layers (dropout, noise) differ from step 120 on"
        assert "119" in first.evidence[0]

    def test_draws_that_part_after_the_result_did_are_not(self):
        traces = (Divergence(generator="numpy", step=130, before=129),)
        assert explain(evidence_of(RECORD, history(step=120), traces=traces))[0].kind == "nondeterminism"

    def test_states_that_never_part_clear_the_generators(self):
        other = changed("seeds/digests", {"start": {"numpy": "x"}, "end": {"numpy": "y"}}, UNSEEDED)
        assert explain(evidence_of(other, one=UNSEEDED))[0].kind == "random_state"
        first = explain(evidence_of(other, one=UNSEEDED, traces=()))[0]
        assert first.kind == "nondeterminism"
        assert any("not a draw" in fact for fact in first.evidence)


words = st.lists(st.sampled_from(["--a", "--b=1", "-c", "x", "-3", "--", "--a=2", "y z", ""]), max_size=8)


class TestArguments:
    """Command lines, option by option."""

    def test_options_and_positional_arguments(self):
        found = split_arguments(["in.csv", "--lr", "0.1", "--flag", "--x=1", "--n", "-3"])
        assert {name: value_of(group) for name, group in found.items()} == {
            "argument 1": "in.csv", "--lr": "0.1", "--flag": "set", "--x": "1", "--n": "-3",
        }  # fmt: skip

    def test_two_spellings_of_the_same_are_the_same(self):
        assert diff_arguments(["--lr", "0.1"], ["--lr=0.1"]) == []

    @given(words, words)
    def test_all_changes_make_the_other_line(self, one: list[str], other: list[str]):
        """What is changed is the whole difference: the values are those of the other line."""
        result = change_arguments(one, diff_arguments(one, other))
        assert diff_arguments(result, other) == []

    @given(words)
    def test_a_line_does_not_differ_from_itself_and_comes_back_whole(self, line: list[str]):
        assert diff_arguments(line, line) == []
        assert change_arguments(line, []) == line


def command(bench, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with bench.surroundings(), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class TestCommand:
    """Through the command line and the API, with real runs."""

    def test_two_real_runs(self, tiny):
        """An argument and a line of the code; the report of `compare` has the same causes before its last line."""
        import mlflow_repro

        folder = tiny.repository.clone / "ml" / "tiny"
        one = tiny.train("train.py", "--alpha", "0.25", cwd=folder)
        source = (folder / "train.py").read_text()
        (folder / "train.py").write_text(source.replace("1 / (1 +", "2 / (1 +"))
        other = tiny.train("train.py", "--alpha", "0.75", cwd=folder)
        code, out, err = command(tiny, "explain", one, other)
        assert (code, err) == (1, "")
        lines = out.splitlines()
        assert lines[1] == "Why they differ, the most likely first:"
        assert "parameter alpha: 0.25 -> 0.75" in lines[2]
        assert any("the code: ml/tiny/train.py differs" in line for line in lines)
        assert any("ml/tiny/train.py was changed (1 line)" in line for line in lines)
        assert any("start it with --alpha 0.25" in line for line in lines)
        assert lines[-1] == "Runs equal: False"
        _, compared, _ = command(tiny, "compare", one, other)
        assert lines[2] in compared.splitlines()
        assert compared.splitlines()[-1] == "Runs equal: False"
        code, out, _ = command(tiny, "explain", one, other, "--format", "json")
        plain = json.loads(out)
        assert (code, plain["causes"][0]["kind"], plain["exit_code"]) == (1, "parameter", 1)
        with tiny.surroundings():
            causes = mlflow_repro.explain_runs(one, other)
        assert [cause.to_dict() for cause in causes] == plain["causes"]

    def test_equal_runs(self, tiny):
        run = tiny.mlflow_run(f"{tiny.repository.clone}#ml/tiny")
        code, out, _ = command(tiny, "explain", run, run)
        assert code == 0
        assert "There is no difference to explain." in out
        assert out.splitlines()[-1] == "Runs equal: True"

    def test_a_damaged_record_costs_no_verdict(self, tiny):
        """The comparison stands; the damage is said, and is no cause."""
        client = tiny.client()
        runs = []
        for value in (1.0, 2.0):
            run = client.create_run("0").info.run_id
            client.log_metric(run, "x", value)
            damaged = {"schema": 1, "seeds": {"digests": {"start": [value]}, "entropy": 3}, "data": {"params": [[]]}}
            client.log_text(run, json.dumps(damaged), "repro/record.json")
            client.set_terminated(run)
            runs.append(run)
        code, out, err = command(tiny, "compare", *runs)
        assert (code, err, out.splitlines()[-1]) == (1, "", "Runs equal: False")
        code, out, err = command(tiny, "explain", *runs)
        assert (code, err, out.splitlines()[-1]) == (1, "", "Runs equal: False")
        assert "seeds.digests.start is a list, not a table" in out

    def test_no_such_run(self, tiny):
        code, out, err = command(tiny, "explain", "a" * 32, "b" * 32)
        assert (code, out) == (3, "")
        assert len(err.splitlines()) == 1
