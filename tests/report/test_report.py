"""What people and programs read: goldens of the table, and strict JSON."""

from __future__ import annotations

import json
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import strategies
from hypothesis import given

from mlflow_repro.compare import compare_records
from mlflow_repro.compare.metrics import compare_model_metrics
from mlflow_repro.errors import CannotJudgeError, LaunchError
from mlflow_repro.report import RENDERERS
from mlflow_repro.report.json_format import render_json, render_json_error
from mlflow_repro.report.text import render_comparison, render_plan, render_text, shell_commands
from mlflow_repro.text.redact import show
from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair, ModelMetric, Status
from mlflow_repro.values.plan import EnvironmentPlan, LaunchPlan, Source
from mlflow_repro.values.report import Report
from mlflow_repro.values.rules import Rules, parse_rule
from mlflow_repro.values.run import Run

GOLDEN = Path(__file__).parents[1] / "golden" / "report"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CANARY = "hunter2hunter2"
HOSTILE = {
    "ansi": "\x1b[31mred\x1b[0m",
    "newline": "a\nb",
    "carriage-return": "a\rRuns equal: True",
    "right-to-left": "a\u202eb",
    "zero-width": "a\u200bb",
    "nul": "a\0b",
    "bell": "\a",
    "surrogate": "a\udce9b",
    "line-separator": "a\u2028b",
}

SKLEARN_TABLE = """\
+----------+----------+----------+
| Metric   |     Run1 |     Run2 |
|----------+----------+----------|
| mae      | 0.587477 | 0.587477 |
| r2       | 0.283681 | 0.283681 |
| rmse     | 0.749066 | 0.749066 |
+----------+----------+----------+
"""
EQUAL = "Verdict: IDENTICAL, from 3 metrics (rel:1e-09)\nRuns equal: True\n"
KERAS_TABLE = """\
+-----------+-----------+-----------+
| Metric    |      Run1 |      Run2 |
|-----------+-----------+-----------|
| test_acc  | 0.9733    | 0.9733    |
| test_loss | 0.0885112 | 0.0897533 |
+-----------+-----------+-----------+
"""


def record(metrics: dict[str, float], **fields: object) -> Run:
    return Run(run_id="a" * 32, metrics=metrics, **fields)


def report(reference: Run, reproduction: Run, **fields: object) -> Report:
    return Report(
        plan=plan(**fields),
        reference=reference,
        reproduction=reproduction,
        comparison=compare_records(reference, reproduction),
    )


def plan(**fields: object) -> LaunchPlan:
    source = Source(uri="https://host/repo.git", commit=COMMIT, subdirectory="python/sklearn")
    return LaunchPlan(
        **{"reference_run_id": "a" * 32, "source": source, "working_directory": "python/sklearn", **fields}
    )


def table(reference: dict[str, float], reproduction: dict[str, float]) -> str:
    return render_comparison(compare_records(record(reference), record(reproduction))) + "\n"


def with_artifacts(*rows: Finding) -> Comparison:
    """A comparison of runs without metrics that left artifacts behind."""
    return Comparison(reference_run_id="a", reproduction_run_id="b", findings=rows, rules=Rules())


def full_run(**changes: object) -> Run:
    """A run with everything that the verbose form shows."""
    fields = {
        "run_name": "gifted-shrimp-1",
        "experiment_id": "0",
        "experiment_name": "Default",
        "status": "FINISHED",
        "start_time": 1_700_000_000_000,
        "end_time": 1_700_000_005_000,
        "artifact_uri": f"s3://key:{CANARY}@bucket/x",
        "params": {"alpha": "0.5", "api_key": CANARY},
        "tags": {"mlflow.user": "me", "mlflow.source.name": f"https://u:{CANARY}@host/r.git#x"},
    }
    return record(**{"metrics": {"mae": 0.5}, **fields, **changes})


def report_of_everything() -> Report:
    """A history, a metric of a model, the status, rules of a file; what MLflow keeps beside the run's own metrics."""
    reference, reproduction = record({"loss": 0.5}, status="FINISHED"), record({"loss": 0.5}, status="FAILED")
    rules = Rules(
        tolerances=(parse_rule("val_*=rel:0.001,ulp:4"), parse_rule("loss=exact")), ignore=("lr",), origin="rules.toml"
    )
    history = Finding(
        kind="history", name="loss", reference=3.0, reproduction=3.0, status=Status.DIFFERENT,
        note="differs from step 1 on, 1 of 3 points", details={"points": 3},
    )  # fmt: skip
    models = compare_model_metrics(
        [ModelMetric(model="net", name="acc", value=0.5, dataset="test", digest="1a")],
        [ModelMetric(model="net", name="acc", value=0.25, dataset="test", digest="2b")],
        rules,
    )
    return Report(
        plan=plan(),
        reference=reference,
        reproduction=reproduction,
        comparison=compare_records(reference, reproduction, rules, fetched=[history, *models]),
    )


def report_of_tree(count: int) -> Report:
    """A root without metrics, ``count`` children that are the same, one that differs, one that is missing."""
    root = record({}, status="FINISHED")
    same = compare_records(record({"acc": 0.5}), record({"acc": 0.5}))
    other = compare_records(
        record({"acc": 0.5, "f1": 1.0}, params={"C": "1"}), record({"acc": 0.25}, params={"C": "2"})
    )
    children = [
        JudgedPair(
            name=f"fold {number}", reference_run_id=f"{number:032x}", reproduction_run_id=f"{99 - number:032x}",
            status=Status.IDENTICAL, comparison=same,
        )
        for number in range(count)
    ]  # fmt: skip
    children += [
        JudgedPair(
            name="changed\x1b[31m", reference_run_id="c" * 32, reproduction_run_id="d" * 32,
            status=Status.DIFFERENT, comparison=other,
        ),
        JudgedPair(
            name="gone", reference_run_id="e" * 32, reproduction_run_id="",
            status=Status.MISSING, note="only in the reference",
        ),
        JudgedPair(
            name="silent", reference_run_id="1" * 32, reproduction_run_id="2" * 32,
            status=Status.UNKNOWN, comparison=compare_records(root, root),
        ),
    ]  # fmt: skip
    return replace(report(root, root), children=tuple(children))


GOLDENS = {
    "tree": lambda: render_text(report_of_tree(2)),
    "tree_of_many": lambda: render_text(report_of_tree(30)),
    "equal": lambda: render_text(report(record({"mae": 0.587477, "r2": 1.0}), record({"mae": 0.587477, "r2": 1.0}))),
    "different": lambda: render_text(
        report(
            record({"acc": 0.75, "loss": 0.1, "near": 1.0, "nan": math.nan, "zero": 0.0}),
            record({"acc": 0.5, "loss": 0.1, "near": 1.0 + 2**-52, "nan": 1.0, "zero": 1e-12}),
        )
    ),
    "missing": lambda: render_text(
        report(record({"both": 1.0, "gone": 2.0}), record({"both": 1.0, "new": math.inf}))
    ),
    "ignored": lambda: render_text(
        report(
            record({"acc": 0.5, "fit_time": 1.25, "system/cpu": 3.0}), record({"acc": 0.5, "fit_time": 2.5})
        )
    ),
    "nothing": lambda: render_text(report(record({}), record({}))),
    "params": lambda: render_text(
        report(
            record({"acc": 1.0}, params={"same": "1", "lr": "1e-3", "old": "x", "api_key": CANARY}),
            record({"acc": 1.0}, params={"same": "1", "lr": "0.001", "new": "a b", "api_key": "other"}),
            caveats=("the reference was made from a working tree with uncommitted changes, which were not recorded",),
        )
    ),
    "outcomes": lambda: render_text(report_of_everything()),
    "artifacts": lambda: render_comparison(with_artifacts(
        Finding(kind="artifact", name="a.txt", reference="1", reproduction="1", status=Status.IDENTICAL),
        Finding(kind="artifact", name="b.npy", reference="1", reproduction="2", status=Status.CLOSE,
                note="1 of 9 elements differ, the first at [2]: 0.5 and 0.51; by at most 0.01 (relative 0.0196)"),
        Finding(kind="artifact", name="c\x1b.txt", reference="1", reproduction="2", status=Status.DIFFERENT,
                note=f"line 1: 'token={CANARY}' and 'x'"),
        Finding(kind="artifact", name="gone", reference="1", reproduction=None, status=Status.MISSING,
                note="only in the reference"),
        Finding(kind="artifact", name="s/saved_model.pb", reference="1", reproduction="2", status=Status.IGNORED,
                note="not judged: another each time"),
    )),
    "verbose": lambda: render_text(report(full_run(), full_run(start_time=0, end_time=0, tags={})), verbose=True),
    "plan": lambda: render_text(
        Report(
            plan=plan(
                parameters={"alpha": "0.5", "text": "it's a b", "api_key": CANARY},
                tracking_uri="sqlite:////data/mlflow.db",
                experiment_name="my experiment",
                env_manager="virtualenv",
                environment=EnvironmentPlan(kind="project", reason="as the reference"),
                caveats=("the repository has submodules, which were not fetched",),
            ),
            reference=record({}),
        )
    ),
    "plan_command": lambda: render_plan(
        plan(
            entry_point="train.py",
            command=("python", "-u", "train.py", "3", "a b"),
            working_directory="ml",
            tracking_uri=f"https://user:{CANARY}@mlflow.host",
        )
    ),
    "plan_puts_back": lambda: render_plan(
        plan(
            command=("python", "train.py"),
            variables={"OMP_NUM_THREADS": "4", "TZ": None},
            restores=(
                "repro/code/commits.bundle",
                "repro/code/changes.patch",
                "repro/code/untracked.tar",
                "repro/random_state.json",
            ),
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDENS)
def test_text_is_as_reviewed(name: str):
    """A change of what people read is a change of the golden, made by hand and seen in the review."""
    text = GOLDENS[name]() + "\n"
    path = GOLDEN / f"{name}.txt"
    assert path.is_file(), f"{path} is missing; it should hold:\n{text}"
    assert text == path.read_text(encoding="utf-8")
    assert CANARY not in text


def test_each_golden_has_its_test():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(GOLDENS)


class TestSeedTables:
    """The two tables of the document that this program began with, to the letter, and its last line."""

    def test_reproducible_run(self):
        metrics = {"mae": 0.587477, "r2": 0.283681, "rmse": 0.749066}
        assert table(metrics, metrics) == SKLEARN_TABLE + EQUAL

    def test_numbers_have_six_digits_whatever_they_are(self):
        metrics = {"mae": 0.58747712345, "r2": 0.28368109876, "rmse": 0.74906598765}
        assert table(metrics, metrics) == SKLEARN_TABLE + EQUAL

    def test_run_that_is_not_reproducible(self):
        """With two lines more than the seed's: by how much, and what the verdict rests on."""
        text = table({"test_acc": 0.9733, "test_loss": 0.0885112}, {"test_acc": 0.9733, "test_loss": 0.0897533})
        assert text.startswith(KERAS_TABLE)
        assert text.splitlines()[6:] == [
            "Metric test_loss: 0.0885112 and 0.0897533, differs by 0.00124 (relative 0.0138)",
            "Verdict: DIFFERENT, from 2 metrics, 1 not equal (rel:1e-09)",
            "Runs equal: False",
        ]


class TestHostileText:
    """Names and values come from other people's programs (REP-08, CMP-14)."""

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
    def test_control_characters_are_shown_as_escapes(self, text: str):
        shown = show(text)
        assert shown.isprintable()
        assert shown.encode("utf-8")
        assert "\\" in shown

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
    def test_no_part_of_a_report_passes_them_on(self, text: str):
        one = full_run(params={text: "1", "p": text}, tags={text: text}, run_name=text, artifact_uri=text)
        other = full_run(metrics={text: 1.0}, params={"p": "2"}, status=text, experiment_name=text)
        rendered = render_text(report(one, other, caveats=(text,)), verbose=True)
        lines = rendered.split("\n")
        assert text not in rendered
        assert all(line.isprintable() for line in lines)
        assert sum(line.startswith("Runs equal:") for line in lines) == 1

    @pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
    def test_the_description_of_a_plan_does_not_pass_them_on(self, text: str):
        made = plan(parameters={"p": text}, experiment_name=text, caveats=(text,), command=("python", text))
        rendered = render_plan(made)
        assert text not in rendered
        assert all(line.isprintable() for line in rendered.split("\n"))

    @pytest.mark.parametrize("text", ["Zürich", "東京", "a b", "<img onerror=1>", "100%"])
    def test_what_can_be_printed_stays(self, text: str):
        assert show(text) == text

    @pytest.mark.parametrize("name", ["1", "1.50", "1e5", "0.10", "-", "nan", "  x", "007"])
    def test_name_that_looks_like_a_number_is_not_made_one(self, name: str):
        assert f"| {name.strip()} " in table({name: 1.0}, {name: 1.0})


def split_as_bash(command: str) -> list[str]:
    """The words of a command."""
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True, text=True)
    return done.stdout.split("\0")[:-1]


class TestPlanCommands:
    """What a person could type."""

    def test_of_an_entry_point(self):
        made = plan(
            parameters={"alpha": "0.5"}, tracking_uri="http://h:5000", backend="kubernetes", backend_config="k.json"
        )
        run = "mlflow run . -e main --env-manager local --experiment-name Default --backend kubernetes"
        assert shell_commands(made) == [
            "git clone https://host/repo.git reproduction",
            "export MLFLOW_TRACKING_URI=http://h:5000",
            f"git -C reproduction checkout --quiet --detach {COMMIT}",
            "cd reproduction/python/sklearn",
            f"{run} --backend-config k.json -P alpha=0.5",
        ]

    @pytest.mark.parametrize(
        "value",
        ["a b", "it's", '"', "$HOME $(touch pwned) `x`", "a\nb", "", "-x", "*;&|<>#~", "Zürich 東京", "\\", "{x}", "!"],
        ids=repr,
    )
    def test_hostile_values_survive_the_shell(self, value: str):
        """Split as a shell does, each command gives the value back as one word."""
        made = plan(
            parameters={"p": value},
            experiment_name=value,
            tracking_uri=f"sqlite:////{value}",
            working_directory=value,
            variables={"TZ": value},
        )
        _, export, _, variable, cd, run = map(split_as_bash, shell_commands(made))
        assert cd == ["cd", "reproduction/" + value if value else "reproduction"]
        assert variable == ["export", f"TZ={value}"]
        assert export == ["export", f"MLFLOW_TRACKING_URI=sqlite:////{value}"]
        assert run[run.index("--experiment-name") + 1] == value
        assert run[-2:] == ["-P", f"p={value}"]
        *_, experiment, command = map(
            split_as_bash, shell_commands(plan(command=("python", "t.py", value), experiment_name=value))
        )
        assert command == ["python", "t.py", value]
        assert experiment == ["export", f"MLFLOW_EXPERIMENT_NAME={value}"]

    def test_hold_no_secret(self):
        made = plan(
            source=Source(uri=f"https://u:{CANARY}@host/r", commit=COMMIT),
            tracking_uri=f"https://u:{CANARY}@mlflow",
            parameters={"password": CANARY},
        )
        assert CANARY not in render_plan(made)


class TestJson:
    """One strict object for programs."""

    @given(strategies.reports)
    def test_any_report_is_strict_json(self, value: Report):
        plain = json.loads(render_json(value), parse_constant=pytest.fail)
        assert plain["exit_code"] == int(value.exit_code)
        assert list(plain) == [
            "schema",
            "plan",
            "reference",
            "reproduction",
            "comparison",
            "causes",
            "children",
            "verdict",
            "runs_equal",
            "exit_code",
            "error",
        ]
        assert plain["error"] is None

    @pytest.mark.parametrize("error", [CannotJudgeError("what", "hint"), LaunchError("what", "hint", run_id="b" * 32)])
    def test_obstacle_has_the_same_form(self, error: CannotJudgeError | LaunchError):
        plain = json.loads(render_json_error(error))
        made = json.loads(render_json(report(record({}), record({}))))
        assert list(plain) == list(made)
        assert plain["exit_code"] == int(error.exit_code)
        assert plain["error"] == {"message": "what", "hint": "hint", "run_id": getattr(error, "run_id", "")}

    @pytest.mark.parametrize("text", [f'password="{CANARY}"', f"--token '{CANARY}'", f'https://u:{CANARY}@h/"'])
    def test_obstacle_holds_no_secret_and_stays_json(self, text: str):
        """The secret goes before the quotes are escaped, so that the escapes stay whole."""
        text = render_json_error(CannotJudgeError(f"not a run id: {text}", text))
        assert CANARY not in text
        assert json.loads(text)["error"]["message"].startswith("not a run id: ")

    def test_secrets_are_redacted_as_in_the_text(self):
        """REP-14: neither the parameters nor the tags nor the findings show what the table hides."""
        one = full_run()
        other = full_run(params={"alpha": "0.5", "api_key": CANARY + "2"})
        made = report(one, other, parameters={"api_key": CANARY}, tracking_uri=f"https://u:{CANARY}@mlflow")
        assert CANARY not in render_json(made)
        assert json.loads(render_json(made))["reference"]["params"] == {"alpha": "0.5", "api_key": "[redacted]"}

    def test_each_format_is_a_renderer(self):
        value = report(record({"x": 1.0}), record({"x": 1.0}))
        assert set(RENDERERS) == {"text", "json", "markdown", "html", "junit"}
        assert all(isinstance(render(value, False), str) for render in RENDERERS.values())  # noqa: FBT003


def test_what_was_left_out_of_an_artifact_that_is_the_same_is_said():
    notes = {
        "a.log": "same content in other bytes: the lines, without times at the start of lines",
        "b.zip": "same content",
    }
    rows = [
        Finding(kind="artifact", name=name, reference="x", reproduction="y", status=Status.IDENTICAL, note=note)
        for name, note in notes.items()
    ]
    comparison = Comparison(reference_run_id="a", reproduction_run_id="b", findings=tuple(rows), rules=Rules())
    text = render_comparison(comparison)
    assert "Artifacts: 2 of 2 are the same\n" in text
    assert f"Artifact a.log: {notes['a.log']}\n" in text
    assert "b.zip" not in text
