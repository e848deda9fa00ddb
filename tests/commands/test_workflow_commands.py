"""The runners of CI systems read what a job prints, and take some lines for commands: none may be made of a name."""

from __future__ import annotations

import json
import re

import pytest

from mlflow_repro.cli import main
from mlflow_repro.commands.output import disarm, print_report
from mlflow_repro.compare import compare_records
from mlflow_repro.report import RENDERERS
from mlflow_repro.values.comparison import Finding, Status
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import Run

COMMANDS = (
    "##vso[task.complete]x",
    "##teamcity[x]",
    "section_start:1:x",
    "::error::x",
    "::add-mask::0.5",
    "  ::error file=a.py,line=1::x",
    "##[error]x",
    "loss ##[add-mask]0.5",
)


def is_command(line: str) -> bool:
    """As https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs reads a line, and others do."""
    return bool(re.match(r"\s*::[^:]+::|\s*section_start:", line) or re.search(r"##(?:vso|teamcity)?\[[^\]]+\]", line))


def report_of(name: str) -> Report:
    one, other = (
        Run(run_id=side * 32, run_name=name, metrics={name: value}) for side, value in (("a", 1.0), ("b", 2.0))
    )
    note = Finding(kind="artifact", name=name, reference="1", reproduction="2", status=Status.DIFFERENT, note=name)
    return Report(plan=None, reference=one, reproduction=other, comparison=compare_records(one, other, fetched=[note]))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("format_", RENDERERS)
def test_no_line_of_a_report_is_a_command(capsys, format_: str, name: str):
    print_report(report_of(name), format_, show_all=True)
    printed = capsys.readouterr().out
    assert [line for line in printed.split("\n") if is_command(line)] == []
    if format_ == "json":
        assert json.loads(printed) == json.loads(RENDERERS["json"](report_of(name), True))  # noqa: FBT003


def test_one_was_a_command_before():
    text = RENDERERS["text"](report_of("##[error]x"), False)  # noqa: FBT003 - a renderer's form
    assert [line for line in text.split("\n") if is_command(line)] != []


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("arguments", [(), ("--format", "json")], ids=["text", "json"])
def test_no_line_of_an_error_is_a_command(capsys, arguments: tuple[str, ...], name: str):
    assert main(["show", name, *arguments]) == 2
    printed = capsys.readouterr()
    assert [line for line in (printed.out + printed.err).split("\n") if is_command(line)] == []
    assert "error" in printed.err


@pytest.mark.parametrize("text", ["a :: b", "a::b", ":", "# [x]", "Metric | ::x", "##", "a\n b"])
def test_other_text_stays(text: str):
    assert disarm(text) == text


def test_escapes_are_those_of_json():
    assert disarm("::a::b\n  ::c::\nx ##[d]") == "\\u003a:a::b\n  \\u003a:c::\nx \\u0023#[d]"
