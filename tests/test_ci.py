"""What a CI system uses: the composite action as it stands in its file, and the helper for test suites."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import git

from mlflow_repro.compare import compare_records
from mlflow_repro.errors import LaunchError, UsageError
from mlflow_repro.plan.launch import PlanOptions, check_options, plan_launch
from mlflow_repro.report.json_format import render_json
from mlflow_repro.testing import _first_divergence, assert_reproduces
from mlflow_repro.values.comparison import Finding, JudgedPair, Status
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import Run

ACTION = Path(__file__).resolve().parent.parent / "action.yml"
DOC = Path(__file__).resolve().parent.parent / "docs" / "ci.md"
TRAIN = """\
import mlflow
from factor import FACTOR
with mlflow.start_run():
    for step in range(5):
        mlflow.log_metric("loss", (FACTOR if step > 2 else 1) / (1 + step), step)
"""


def read_steps() -> dict[str, dict]:
    return {step["name"]: step for step in yaml.safe_load(ACTION.read_text())["runs"]["steps"]}


class TestAction:
    """The file that GitHub reads."""

    def test_no_input_is_pasted_into_a_script(self):
        assert all("${{" not in step["run"] for step in read_steps().values())

    def test_each_input_reaches_a_step_and_each_output_comes_from_one(self):
        action = yaml.safe_load(ACTION.read_text())
        used = {value for step in read_steps().values() for value in step["env"].values()}
        assert used == {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]}
        script = read_steps()["Reproduce"]["run"]
        assert all(f'echo "{name}=' in script for name in action["outputs"])

    def test_recipe_uses_what_there_is(self):
        (step,) = (step for step in read_recipe() if "mlflow-repro" in step.get("uses", ""))
        assert set(step["with"]) <= set(yaml.safe_load(ACTION.read_text())["inputs"])

    def test_recipe_gets_the_action_from_any_copy_of_the_repository(self, tmp_path: Path):
        """The step's own lines, with a URL and a commit as the page says; the next step then finds the action there."""
        source, job = tmp_path / "source", tmp_path / "job"
        for folder in (source, job):
            folder.mkdir()
            git("init", "--quiet", cwd=folder)
        commits = []
        for text in (ACTION.read_text(), "another one"):
            (source / "action.yml").write_text(text)
            git("add", ".", cwd=source)
            git("commit", "--quiet", "--message", "x", cwd=source)
            commits.append(git("rev-parse", "HEAD", cwd=source))
        (get,) = (step for step in read_recipe() if step.get("name") == "Get the action")
        (use,) = (step for step in read_recipe() if "mlflow-repro" in step.get("uses", ""))
        environment = {**os.environ, "MLFLOW_REPRO_URL": source.as_uri(), "MLFLOW_REPRO_COMMIT": commits[0]}
        subprocess.run(["bash", "-e", "-c", get["run"]], cwd=job, env=environment, check=True)
        assert (job / use["uses"] / "action.yml").read_text() == ACTION.read_text()
        environment["MLFLOW_REPRO_COMMIT"] = ""
        shutil.rmtree(job / use["uses"])
        subprocess.run(["bash", "-e", "-c", get["run"]], cwd=job, env=environment, check=True)
        assert (job / use["uses"] / "action.yml").read_text() == "another one"

    @pytest.mark.parametrize(
        ("wanted", "installed"),
        [("", ["/the/action", "uv"]), ("mlflow-repro==1", ["mlflow-repro==1", "uv"]), ("none", [])],
    )
    def test_what_is_installed(self, tmp_path: Path, wanted: str, installed: list[str]):
        """A `python` of the test's own writes down what it is called with."""
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nfor word; do echo "$word"; done > {tmp_path}/called\n')
        python.chmod(0o755)
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        variables = {"PATH": path, "INSTALL": wanted, "GITHUB_ACTION_PATH": "/the/action"}
        subprocess.run(["bash", "-e", "-c", read_steps()["Install mlflow-repro"]["run"]], env=variables, check=True)
        called = (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []
        assert called == (["-m", "pip", "install", "--quiet", *installed] if installed else [])


def read_recipe() -> list[dict]:
    """The steps of the job that the page shows."""
    recipe = yaml.safe_load(DOC.read_text().partition("```yaml\n")[2].partition("```")[0])
    return recipe["jobs"]["champion"]["steps"]


def run_step(root: Path, workspace: Path, *, search_path: str = "", **inputs: str) -> tuple[int, dict[str, str], str]:
    """The step's shell lines as GitHub runs them, with ``search_path`` as the PATH: exit code, outputs, summary."""
    step = read_steps()["Reproduce"]
    defaults = {name: row["default"] for name, row in yaml.safe_load(ACTION.read_text())["inputs"].items()}
    variables = {
        name: {**defaults, **inputs}[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    files = {name: root / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in files.values():
        path.write_text("")
    script = root / "script.sh"
    script.write_text(step["run"])
    environment = {
        **os.environ,
        "PATH": search_path or os.environ["PATH"],
        **variables,
        **{name: str(path) for name, path in files.items()},
    }
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(script)],
        cwd=workspace,
        env={**environment, "GITHUB_WORKSPACE": str(workspace)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    # What is printed in between is for people alone, and nobody can guess the word that ends it.
    first, *_, last = done.stdout.splitlines()
    token = first.removeprefix("::stop-commands::")
    assert re.fullmatch(r"[0-9a-f]{32}", token)
    assert last == f"::{token}::"
    assert done.stdout.count(token) == 2
    assert token not in done.stderr
    lines = files["GITHUB_OUTPUT"].read_text().splitlines()
    return done.returncode, dict(line.split("=", 1) for line in lines), files["GITHUB_STEP_SUMMARY"].read_text()


VALUES = {"IDENTICAL": 1.0, "WITHIN_TOLERANCE": 1.0 + 1e-12, "DIFFERENT": 2.0, "INCONCLUSIVE": None}


def make_report(verdicts: list[str]) -> Report:
    """The report of a run, and of children, whose pairs have these verdicts by themselves."""
    comparisons = []
    for number, verdict in enumerate(verdicts):
        ids = f"{number}" * 32, f"{number + 5}" * 32
        sides = [
            Run(run_id=run_id, metrics={} if value is None else {"loss": value})
            for run_id, value in zip(ids, (1.0 if VALUES[verdict] else None, VALUES[verdict]), strict=True)
        ]
        comparisons.append(compare_records(*sides))
        assert comparisons[-1].verdict.value == verdict
    children = tuple(
        JudgedPair(name="child", reference_run_id="", reproduction_run_id="", status=Status.IDENTICAL, comparison=one)
        for one in comparisons[1:]
    )
    return Report(plan=None, reference=sides[0], reproduction=sides[1], comparison=comparisons[0], children=children)


@pytest.mark.parametrize("verdicts", [*itertools.product(VALUES, repeat=2), ("IDENTICAL",)], ids="-".join)
def test_outputs_are_of_the_whole_launch(tmp_path: Path, verdicts: tuple[str, ...]):
    """A `python` of the test's own stands for the reproduction: it hands out the report of a run with children."""
    report = make_report(list(verdicts))
    assert "DIFFERENT" not in verdicts or report.verdict.value == "DIFFERENT"
    run_stub(tmp_path, report)


def test_outputs_of_a_plan(tmp_path: Path):
    run_stub(tmp_path, Report(plan=None, reference=Run(run_id="a" * 32)))


def run_stub(root: Path, report: Report) -> None:
    """Run the step with a reproduction that gives this report; its outputs must be those of the report."""
    (root / "report.json").write_text(render_json(report))
    folder = root / "bin"
    folder.mkdir()
    (folder / "python").write_text(
        f"""#!/bin/sh
[ "$2" = mlflow_repro.reproduce ] || exec {sys.executable} "$@"
for word; do case $word in *.json) cp {root}/report.json "$word";; esac; done
exit {int(report.exit_code)}
"""
    )
    (folder / "python").chmod(0o755)
    code, outputs, _ = run_step(root, root, search_path=os.pathsep.join([str(folder), os.environ["PATH"]]))
    assert (code, outputs["exit-code"]) == (report.exit_code, str(int(report.exit_code)))
    assert outputs["verdict"] == (report.verdict.value if report.verdict else "")


def test_assertion_names_the_child_whose_history_parts():
    """Where the run's own histories are the same."""
    row = Finding(
        kind="history", name="loss", reference=9.0, reproduction=9.0, status=Status.DIFFERENT,
        details={"first_different_step": 4},
    )  # fmt: skip
    report = make_report(["IDENTICAL", "DIFFERENT"])
    (child,) = report.children
    child = replace(child, comparison=replace(child.comparison, findings=(row, *child.comparison.findings)))
    assert _first_divergence(replace(report, children=(child,))) == "loss of child differs from step 4 on"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_change_before_its_merge(bench, tmp_path):
    """A change that keeps the champion's result passes; one that alters it fails, and the reports say how."""
    from mlflow import MlflowClient

    first = bench.repository.commit({"train.py": TRAIN, "factor.py": "FACTOR = 1\n"})
    run_id = bench.train("train.py")
    client = MlflowClient(tracking_uri=f"sqlite:///{bench.store}")
    client.create_registered_model("wine")
    version = client.create_model_version("wine", f"runs:/{run_id}/model", run_id=run_id)
    client.set_registered_model_alias("wine", "champion", version.version)
    bench.repository.commit({"factor.py": "FACTOR = 1.0  # the same\n"})
    workspace = tmp_path / "workspace"  # as actions/checkout leaves it: one commit deep
    git("clone", "--quiet", "--depth=1", f"file://{bench.repository.hub}", str(workspace), cwd=tmp_path)
    inputs = {"model": "models:/wine@champion", "tracking-uri": f"sqlite:///{bench.store}"}
    kept = git("rev-parse", "HEAD", cwd=workspace)
    code, outputs, summary = run_step(tmp_path, workspace, commit=kept, **inputs)
    assert (code, outputs["verdict"]) == (0, "IDENTICAL")
    assert "this asks whether the change keeps the result" in summary

    (workspace / "factor.py").write_text("FACTOR = 2\n")
    git("commit", "--quiet", "--all", "--message", "break it", cwd=workspace)
    broken = git("rev-parse", "HEAD", cwd=workspace)
    code, outputs, summary = run_step(tmp_path, workspace, commit=broken, arguments="--rel_tol=1e-6\n", **inputs)
    assert (code, outputs["exit-code"], outputs["verdict"]) == (1, "1", "DIFFERENT")
    assert "differs from step 3 on" in summary
    suite = ET.parse(workspace / outputs["junit"]).getroot().find("testsuite")  # noqa: S314 - our own
    assert suite.get("failures") == "2"
    assert "DIFFERENT" in (workspace / outputs["html"]).read_text()
    plan = json.loads((workspace / "repro-reports" / "report.json").read_text())["plan"]
    assert (plan["source"]["commit"], first != broken) == (broken, True)

    code, outputs, summary = run_step(tmp_path, workspace, commit="HEAD", **inputs)
    assert (code, outputs["verdict"]) == (2, "")
    assert "exit code 2" in summary
    assert not (workspace / "repro-reports" / "report.json").exists()

    with bench.surroundings(), pytest.raises(AssertionError) as caught:
        assert_reproduces(model="models:/wine@champion", uri=str(workspace), commit=broken)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"run {run_id} was not reproduced: loss differs from step 3 on"
    assert lines[-1] == "Runs equal: False"
    assert "| loss" in str(caught.value)


@pytest.mark.slow
def test_helper_returns_the_report_and_passes_obstacles_on(bench):
    bench.repository.commit({"train.py": TRAIN, "factor.py": "FACTOR = 1\n"})
    run_id = bench.train("train.py")
    with bench.surroundings():
        assert assert_reproduces(run_id).comparison.verdict.value == "IDENTICAL"
        with pytest.raises(LaunchError):
            assert_reproduces(run_id, timeout=0.01)


@pytest.mark.slow
def test_pytest_shows_the_test_and_the_table(bench, tmp_path):
    """A failing test ends at its own line, with the table below it."""
    bench.repository.commit(
        {"train.py": TRAIN.replace("1) /", "__import__('os').urandom(9)[0]) /"), "factor.py": "FACTOR = 1\n"}
    )
    run_id = bench.train("train.py")
    test = tmp_path / "test_it.py"
    test.write_text(
        f"from mlflow_repro.testing import assert_reproduces\ndef test_it():\n    assert_reproduces({run_id!r})\n"
    )
    done = bench.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test))
    assert done.returncode == 1
    assert re.search(f"E +AssertionError: run {run_id} was not reproduced", done.stdout)
    assert "Runs equal: False" in done.stdout
    assert "_first_divergence" not in done.stdout


class TestCommit:
    """``--commit``: other code than the recorded one."""

    @pytest.mark.parametrize("commit", ["HEAD", "abc123", "--upload-pack=x", "A" * 40])
    def test_only_whole_ids_are_taken(self, commit: str):
        with pytest.raises(UsageError, match="not a commit"):
            check_options(PlanOptions(commit=commit))

    def test_plan_has_it_and_says_so(self):
        tags = {
            "repro.launch.cwd": ".",
            "repro.git.commit": "1" * 40,
            "repro.git.uri": "https://h/r.git",
            "repro.launch.argv": '["python", "t.py"]',
        }
        reference = Run(run_id="a", tags={**tags, "repro.launch.script": "t.py"})
        made = plan_launch(reference, PlanOptions(commit="2" * 40))
        assert made.source.commit == "2" * 40
        assert made.caveats[0].startswith("the code is that of commit 222222222222, not of 111111111111")
        assert plan_launch(reference, PlanOptions(commit="1" * 40)).caveats == ()
