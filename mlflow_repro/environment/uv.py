"""The only door to uv: find it, run it, and say in one line what went wrong."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.system.processes import run_whole
from mlflow_repro.text.redact import redact_text
from mlflow_repro.text.versions import read_release

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MINIMUM = (0, 5, 0)
INSTALL_HINT = "install it with: pip install -U uv; or pass --env current"

# What a user may have set for projects of their own: it would send an installation elsewhere, or change what is found.
_SCRUBBED = (
    "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "UV_BREAK_SYSTEM_PACKAGES", "UV_BUILD_CONSTRAINT", "UV_CONSTRAINT",
    "UV_EXCLUDE", "UV_EXCLUDE_NEWER", "UV_NO_BINARY", "UV_NO_BUILD", "UV_NO_VERIFY_HASHES", "UV_OVERRIDE",
    "UV_PRERELEASE", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_PYTHON_PREFERENCE", "UV_REQUIRE_HASHES",
    "UV_RESOLUTION", "UV_SYSTEM_PYTHON", "UV_VENV_CLEAR", "UV_VENV_SEED", "VIRTUAL_ENV",
)  # fmt: skip
_SET = {
    "GIT_ALLOW_PROTOCOL": "https:ssh",
    "GIT_TERMINAL_PROMPT": "0",
    "NO_COLOR": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_INSTALL_BIN": "0",  # no `python3.12` in the user's ~/.local/bin
}
_LINE_LIMIT = 300  # characters of an explanation


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What uv said: ``error`` is its standard error as one line, with secrets taken out; empty when it went well."""

    output: str
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Uv:
    """A uv that is new enough. ``directory`` is where it runs: no project of the user's is above it."""

    path: str
    directory: Path
    inherited: tuple[int, ...] = ()
    """File descriptors that uv inherits: what they lock stays locked until uv has ended, whatever becomes of us."""

    def run(self, arguments: Iterable[str], *, text: str = "", **variables: str) -> Answer:
        """Run one command; ``text`` is its standard input. Raises CannotJudgeError when uv cannot be started."""
        environment = {name: value for name, value in os.environ.items() if name not in _SCRUBBED}
        try:
            done = run_whole(
                [self.path, *arguments],
                text=text,
                cwd=self.directory,
                env={**environment, **_SET, **variables},
                pass_fds=self.inherited,
            )
        except OSError as error:
            raise CannotJudgeError(f"uv cannot be started: {error}", INSTALL_HINT) from error
        failure = _to_line(done.stderr) or f"exit code {done.returncode}"
        return Answer(output=done.stdout, error=failure if done.returncode else "")


def find_uv(directory: Path, inherited: tuple[int, ...] = ()) -> Uv:
    """The uv on ``PATH``, or the one beside this Python. Raises CannotJudgeError when none is new enough."""
    beside = os.path.dirname(sys.executable)
    path = shutil.which("uv") or shutil.which("uv", path=beside)
    if path is None:
        raise CannotJudgeError("the recorded environment is rebuilt with uv, which is not installed", INSTALL_HINT)
    uv = Uv(path=path, directory=directory, inherited=inherited)
    answer = uv.run(["--version"])
    match = re.match(r"uv (\S+)", answer.output)
    release = read_release(match[1]) if match else None
    if release is None:
        raise CannotJudgeError(
            f"{path} does not say which uv it is: {answer.error or answer.output[:80]}", INSTALL_HINT
        )
    if release < MINIMUM:
        here, needed = (".".join(map(str, numbers)) for numbers in (release, MINIMUM))
        raise CannotJudgeError(f"{path} is uv {here}, and {needed} is needed", INSTALL_HINT)
    return uv


def explain(error: str) -> str:
    """The telling part of uv's words, in which ``error`` is all that it said on one line."""
    because = re.search(r"Because (.+?)(?:,? and you require|, we can conclude|$)", error)
    if because:
        return because[1][:_LINE_LIMIT]
    causes = re.split(r"\s(?:cause:|Caused by:|├─▶|╰─▶)\s", error)
    telling = causes[0] if len(causes) == 1 else f"{causes[0]}: {causes[-1]}"
    return telling.removeprefix("error: ")[:_LINE_LIMIT]


def _to_line(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith(("warning:", "hint:"))]
    return redact_text(" ".join(" ".join(lines or text.splitlines()).replace("│", " ").replace("\u00d7", " ").split()))
