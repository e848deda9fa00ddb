"""Whether a run will reproduce, told from what it recorded."""

from __future__ import annotations

import copy
import io
import json
from contextlib import redirect_stderr, redirect_stdout

import pytest
from records import record_of

from mlflow_repro.cli import main
from mlflow_repro.errors import ExitCode
from mlflow_repro.plan.launch import PlanOptions
from mlflow_repro.plan.readiness import grade_run
from mlflow_repro.values.report import Grade
from mlflow_repro.values.run import Run

TAGS = {
    "repro.capture": "complete",
    "repro.git.uri": "https://host/repo.git",
    "repro.git.commit": "0123456789abcdef0123456789abcdef01234567",
    "repro.launch.argv": '["/usr/bin/python3", "train.py"]',
    "repro.launch.cwd": ".",
    "repro.launch.script": "train.py",
}
REFERENCE = Run(run_id="a", status="FINISHED", metrics={"loss": 1.0}, tags=TAGS)
RECORD = {
    "schema": 1,
    "complete": True,
    "code": {
        "commit": TAGS["repro.git.commit"],
        "is_clean": True,
        "is_pushed": True,
        "tree": "b" * 40,
        "patch": {"absent": "no tracked file is changed"},
        "untracked": {"absent": "there is no untracked file to record"},
        "bundle": {"absent": "every commit is on a remote"},
        "left_out": [],
    },
    "launch": {"script": "train.py", "variables": {"PYTHONHASHSEED": "0"}},
    "seeds": {"mode": "auto", "not_repeatable": []},
    "environment": {
        "locks": [{"file": "repro/environment/requirements.lock", "index": "default", "packages": 3}],
        "left_out_of_locks": {"mlflow-repro": "a reproduction brings its own", "odd": "no index is known"},
        "imported": ["mlflow"],
    },
    "data": {"params": [], "inputs": [], "not_hashed": {"files": 0, "size": 0}, "opened": {"absent": "not tracked"}},
}


def change(path: str, value: object) -> dict:
    record = copy.deepcopy(RECORD)
    *folders, last = path.split(".")
    place = record
    for folder in folders:
        place = place[folder]
    place[last] = value
    return record


def rows(record: dict | None, reference: Run = REFERENCE) -> dict[str, tuple[Grade, str]]:
    return {
        check.name: (check.grade, check.text)
        for check in grade_run(reference, record_of(record or {}), PlanOptions()).checks
    }


def test_run_that_recorded_everything_is_ready():
    readiness = grade_run(REFERENCE, record_of(RECORD), PlanOptions())
    assert {check.grade for check in readiness.checks} == {Grade.READY}
    assert (readiness.grade, readiness.exit_code) == (Grade.READY, ExitCode.EQUAL)
    assert [check.name for check in readiness.checks] == [
        "reference", "launch", "metrics", "commit", "changes", "randomness", "environment", "data",
    ]  # fmt: skip


WITHHELD = {"absent": "the changes of 'train.py' hold a secret", "withheld": True}
CASES = {
    "patch withheld": ("code.patch", WITHHELD, "changes", Grade.OBSTACLE, "hold a secret"),
    "script ignored": ("code.script", "untracked", "script", Grade.OBSTACLE, "git does not track 'train.py'"),
    "tree unknown": ("code.tree", {"absent": "timeout"}, "changes", Grade.OBSTACLE, "timeout"),
    "left out": (
        "code.left_out",
        [{"path": "big.csv", "reason": "more than 1 MB", "size": 2}],
        "left out",
        Grade.WARNING,
        "big.csv",
    ),
    "unpushed, no bundle": ("code.is_pushed", False, "commit", Grade.WARNING, "may be on no remote"),
    "seeds off": ("seeds.mode", "off", "randomness", Grade.WARNING, "not recorded"),
    "unrepeatable draws": (
        "seeds.not_repeatable",
        ["tensorflow: random_uniform in f"],
        "randomness",
        Grade.WARNING,
        "random_uniform",
    ),
    "hash seed": ("launch.variables", {}, "hash seed", Grade.WARNING, "order of sets"),
    "no locks": ("environment.locks", {"absent": "time was up"}, "environment", Grade.WARNING, "time was up"),
    "imported package without a lock": (
        "environment.imported",
        ["odd"],
        "environment",
        Grade.WARNING,
        "odd: no index is known",
    ),
    "data without digests": ("data.not_hashed", {"files": 2, "size": 9}, "data", Grade.WARNING, "2 files"),
    "killed": ("complete", False, "data", Grade.WARNING, "ended before its data was recorded"),
}


@pytest.mark.parametrize(("path", "value", "name", "grade", "words"), CASES.values(), ids=CASES)
def test_what_is_missing_is_a_row_of_its_own(path, value, name, grade, words):
    found = rows(change(path, value))
    assert found[name][0] is grade
    assert words in found[name][1]
    others = {other: row for other, row in found.items() if other != name}
    assert {row[0] for row in others.values()} == {Grade.READY}


@pytest.mark.parametrize(("kept", "grade"), [(3, Grade.READY), (1, Grade.WARNING)])
def test_notebook(kept, grade):
    found = rows(change("launch.notebook", {"cells": 3, "cells_kept": kept, "file": "repro/launch/cells.json"}))
    assert found["notebook"][0] is grade
    assert "notebook" not in rows(RECORD)


def test_bundle_stands_for_a_push():
    record = change("code.is_pushed", value=False)
    record["code"]["bundle"] = {"file": "repro/code/commits.bundle"}
    assert rows(record)["commit"] == (Grade.READY, "its commit is in the record, as it was on no remote")


@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"status": "RUNNING"}, "reference", "has not ended"),
        ({"metrics": {}}, "metrics", "no metric"),
        ({"tags": {**TAGS, "repro.git.commit": ""}}, "launch", "no git commit"),
        ({"tags": {**TAGS, "repro.launch.error": "it was started in a notebook"}}, "launch", "notebook"),
    ],
)
def test_what_reproduce_would_refuse_is_an_obstacle(changes, name, words):
    fields = {"run_id": "a", "status": "FINISHED", "metrics": {"loss": 1.0}, "tags": TAGS, **changes}
    found = rows(RECORD, Run(**fields))
    assert found[name][0] is Grade.OBSTACLE
    assert words in found[name][1]


def test_run_without_a_record_says_so():
    tags = {
        "mlflow.source.git.commit": "c" * 40,
        "mlflow.source.git.repoURL": "https://host/r",
        "mlflow.source.name": "t.py",
    }
    found = rows(None, Run(run_id="a", status="FINISHED", metrics={"m": 1.0}, tags=tags))
    assert found["record"] == (Grade.WARNING, "there is no record: the run was made without mlflow-repro")


def test_check_of_a_real_run(bench):
    """The exit code is for CI; a run of a plain script has only its hash seed against it."""
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py", PYTHONHASHSEED="0")

    def check(*arguments: str) -> tuple[int, str]:
        out = io.StringIO()
        with bench.surroundings(), redirect_stdout(out), redirect_stderr(io.StringIO()):
            code = main(["check", *arguments])
        return code, out.getvalue()

    code, text = check(run_id)
    assert text.splitlines()[-1] == ("Will reproduce: yes" if code == 0 else "Will reproduce: probably"), text
    assert "  ok      changes" in text
    code, text = check(run_id, "--format", "json")
    plain = json.loads(text)
    assert (plain["exit_code"], plain["run_id"]) == (code, run_id)
    assert {"commit", "changes", "randomness", "environment", "data"} <= {row["name"] for row in plain["checks"]}
    assert check("0" * 32) == (3, "")
