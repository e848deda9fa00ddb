"""Reading a Python command line, held against what the interpreter itself makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.text.command_line import PythonCommand, parse_python_argv

if TYPE_CHECKING:
    from pathlib import Path

TELL = "import json, sys; print(json.dumps([sys.orig_argv, sys.argv]))"


@pytest.mark.parametrize(
    ("argv", "kind", "flags", "target", "arguments"),
    [
        (["train.py"], "script", [], "train.py", []),
        (["train.py", "-m", "x", "--", ""], "script", [], "train.py", ["-m", "x", "--", ""]),
        (["-u", "train.py", "3"], "script", ["-u"], "train.py", ["3"]),
        (["-W", "ignore", "train.py"], "script", ["-W", "ignore"], "train.py", []),
        (["-Wignore", "train.py"], "script", ["-Wignore"], "train.py", []),
        (["-X", "dev", "-X", "utf8=1", "t.py"], "script", ["-X", "dev", "-X", "utf8=1"], "t.py", []),
        (["-Xdev", "t.py", "-W"], "script", ["-Xdev"], "t.py", ["-W"]),
        (["-uW", "ignore", "t.py"], "script", ["-uW", "ignore"], "t.py", []),
        (["-OO", "-I", "t.py"], "script", ["-OO", "-I"], "t.py", []),
        (["--check-hash-based-pycs", "never", "t.py"], "script", ["--check-hash-based-pycs", "never"], "t.py", []),
        (["-m", "pkg.train", "-m"], "module", [], "pkg.train", ["-m"]),
        (["-mpkg.train", "3"], "module", [], "pkg.train", ["3"]),
        (["-um", "pkg.train", "3"], "module", ["-u"], "pkg.train", ["3"]),
        (["-W", "ignore", "-m", "pkg", "-c"], "module", ["-W", "ignore"], "pkg", ["-c"]),
        (["-c", "print(1)", "a"], "command", [], "print(1)", ["a"]),
        (["-cprint(1)", "a"], "command", [], "print(1)", ["a"]),
        (["-Ic", "print(1)"], "command", ["-I"], "print(1)", []),
        ([], "interactive", [], "", []),
        (["-"], "interactive", [], "", []),
        (["-", "a"], "interactive", [], "", ["a"]),
        (["-i"], "interactive", ["-i"], "", []),
        (["-m"], "module", [], "", []),
    ],
    ids=str,
)
def test_forms(argv: list[str], kind: str, flags: list[str], target: str, arguments: list[str]):
    expected = PythonCommand(kind=kind, flags=tuple(flags), target=target, arguments=tuple(arguments))
    assert parse_python_argv(["python", *argv]) == expected


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["{script}", "a b", "-m", "--help", ""], id="script"),
        pytest.param(["-uB", "-W", "ignore", "-X", "utf8=1", "{script}", "-c"], id="script-behind-flags"),
        pytest.param(["-BuWignore", "{script}", "x"], id="cluster-with-a-value"),
        pytest.param(["-BuW", "ignore", "{script}", "x"], id="cluster-with-its-value-behind"),
        pytest.param(["-m", "tell", "-u"], id="module"),
        pytest.param(["-Bmtell", "-u"], id="module-in-a-cluster"),
        pytest.param(["-c", TELL, "a", "-c"], id="command"),
    ],
)
def test_interpreter_agrees(command: list[str], tmp_path: Path):
    """The arguments that we find in ``sys.orig_argv`` are those that the program was given."""
    script = tmp_path / "tell.py"
    script.write_text(TELL, encoding="utf-8")
    words = [str(script) if word == "{script}" else word for word in command]
    answer = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=30
    )
    original, seen = json.loads(answer.stdout)
    parsed = parse_python_argv(original)
    assert list(parsed.arguments) == seen[1:]
    assert parsed.target in (str(script), "tell", TELL)


@given(st.lists(st.text(max_size=4) | st.sampled_from(["-m", "-c", "-W", "-X", "-u", "-", "-um", "--", "x.py"])))
def test_any_command_line_can_be_read(argv: list[str]):
    """Never an exception, and nothing behind the program is taken from its arguments."""
    command = parse_python_argv(["python", *argv])
    assert command.kind in ("script", "module", "command", "interactive")
    count = len(command.arguments)
    assert list(command.arguments) == argv[len(argv) - count :]
