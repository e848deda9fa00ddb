"""How the program was started: its exact command line, its script and its working directory."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.capture.code import is_installed, main_script, program_directory, relative_to_top
from mlflow_repro.capture.notebooks import is_notebook
from mlflow_repro.model import Fact, absent
from mlflow_repro.pyargv import parse_python_argv
from mlflow_repro.redact import redact_argv

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_RELAUNCHABLE = {
    "interactive": "it was started at a prompt or from standard input",
    "command": "it was started by python -c",
}


def probe_launch() -> Iterable[Fact]:
    """The facts ``launch.*``: argv (a JSON list, secrets taken out), kind, script and cwd in the repository.

    ``launch.program`` is the name of an installed program (a console script), in place of a script of the repository.
    """
    argv = list(getattr(sys, "orig_argv", ())) or [sys.executable, *sys.argv]
    kind = _kind(argv)
    top = _repository_top()
    facts = [
        Fact(name="launch.argv", value=json.dumps(redact_argv(argv))),
        Fact(name="launch.kind", value=kind),
        _place("launch.cwd", os.getcwd(), top),
    ]
    script = main_script()
    if script and kind == "script" and is_installed(script):
        facts.append(Fact(name="launch.program", value=os.path.basename(script)))
    facts.append(_place("launch.script", script, top) if script else absent("launch.script", "there is no script"))
    reason = _NOT_RELAUNCHABLE.get(kind)
    if reason:
        facts.append(Fact(name="launch.error", value=reason))
    return facts


def _kind(argv: list[str]) -> str:
    if is_notebook():
        return "notebook"
    return parse_python_argv(argv).kind


def _place(name: str, path: str, top: str | None) -> Fact:
    """A path relative to the repository's top; absent when it lies outside, for it means nothing elsewhere."""
    if top is None:
        return absent(name, "there is no repository")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(top)):
        return absent(name, "it lies outside the repository")
    return Fact(name=name, value=relative_to_top(top, path) or ".")


def _repository_top() -> str | None:
    """The nearest folder above the program with a ``.git``, found without starting git."""
    directory = Path(os.path.realpath(program_directory()))
    return next((str(folder) for folder in (directory, *directory.parents) if (folder / ".git").exists()), None)
