"""How the program was started: its command line, its working directory, its notebook, its place among processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.head import find_top
from mlflow_repro.code.places import find_places
from mlflow_repro.code.program import is_installed, main_script, program_directory, relative_to_top
from mlflow_repro.text.command_line import parse_python_argv
from mlflow_repro.text.redact import redact_argv, redact_text
from mlflow_repro.values.captured import Section, missing
from mlflow_repro.values.run import Fact, absent

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

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
    top = find_top(program_directory())  # without starting git
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


def _place(name: str, path: str, top: str) -> Fact:
    """A path relative to the repository's top; absent when it lies outside, for it means nothing elsewhere."""
    if not top:
        return absent(name, "there is no repository")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(top)):
        return absent(name, "it lies outside the repository")
    return Fact(name=name, value=relative_to_top(top, path) or ".")


_SUFFIX = ".ipynb"


def is_notebook() -> bool:
    """True in a kernel of Jupyter, whoever started it; not where a script has merely imported ipykernel."""
    return find_shell() is not None


def find_shell() -> Any:
    """IPython's shell of a kernel, or None."""
    if "ipykernel" not in sys.modules:
        return None
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def list_cells() -> list[str] | None:
    """The sources of the cells as they were typed, in the order in which they were run; None outside a notebook."""
    history = getattr(getattr(find_shell(), "history_manager", None), "input_hist_raw", None)
    return [str(cell) for cell in history[1:]] if isinstance(history, list) else None


def find_notebook(environ: Mapping[str, str], parent: Sequence[str], parent_directory: str = "") -> str:
    """The absolute path of the notebook's file, empty when nobody tells it.

    Visual Studio Code tells it in the kernel's namespace, Jupyter's servers in a variable (relative to a folder that
    the kernel does not know), papermill and nbconvert by their own command line, which is the ``parent``'s here.
    """
    namespace = getattr(find_shell(), "user_ns", None) or {}
    told = [str(namespace.get("__vsc_ipynb_file__") or ""), environ.get("JPY_SESSION_NAME", "")]
    told += [word for word in parent[1:] if word.endswith(_SUFFIX)]
    for path in filter(None, told):
        for candidate in (os.path.join(parent_directory, path), path, os.path.basename(path)):
            found = os.path.abspath(candidate)
            if found.endswith(_SUFFIX) and os.path.isfile(found):
                return found
    return ""


CELLS_FILE = "repro/launch/cells.json"
"""The artifact that holds the cells of a notebook, a list of their sources."""
_CELL_LIMIT = 1_000_000  # characters of all cells together that are kept
_LAUNCHERS = {
    "torchrun": "TORCHELASTIC_RUN_ID",
    "accelerate": "ACCELERATE_MIXED_PRECISION",
    "deepspeed": "DLTS_JOB_ID",
    "mpirun": "OMPI_COMM_WORLD_SIZE",
    "slurm": "SLURM_JOB_ID",
    "ray": "RAY_JOB_ID",
    "kubernetes": "KUBERNETES_SERVICE_HOST",
}
_RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID")


def record_session(environ: Mapping[str, str] | None = None, *, count: int | None = None) -> Section:
    """The facts ``launcher``, ``ranks``, ``parent`` and ``notebook``; of a notebook the cells that were run, too.

    ``count`` is how many of the cells belong to the run: a later one may be running by now.
    """
    environ = os.environ if environ is None else environ
    launchers = [name for name, variable in _LAUNCHERS.items() if variable in environ]
    parent = _parent_command()
    facts: dict[str, Any] = {
        "launcher": launchers or missing("no launcher is known to have started this process"),
        "ranks": {name: environ[name] for name in _RANKS if environ.get(name, "").isdigit()},
        "parent": redact_argv(parent) if parent else missing("the parent's command line cannot be read here"),
    }
    cells = list_cells()
    if cells is None:
        return Section(facts={**facts, "notebook": missing("the program is not a notebook")})
    cells = cells[:count]
    kept = _keep_cells(cells)
    facts["notebook"] = {
        **_describe_path(find_notebook(environ, parent, _parent_directory())),
        "cells": len(cells),
        "cells_kept": len(kept),
        "file": CELLS_FILE,
    }
    content = json.dumps(kept, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
    return Section(facts=facts, files={CELLS_FILE.removeprefix("repro/"): content})


def _describe_path(path: str) -> dict[str, Any]:
    """Where the notebook's file is, as a path of the repository when it lies there."""
    if not path:
        return {"path": missing("who started the kernel does not tell it"), "place": "unknown"}
    return find_places().name(path)


def _parent_command() -> list[str]:
    """The command line of the parent process, where the system shows it (Linux)."""
    try:
        with open(f"/proc/{os.getppid()}/cmdline", "rb") as file:
            content = file.read(65536)
    except OSError:
        return []
    return [word.decode("utf-8", "backslashreplace") for word in content.rstrip(b"\0").split(b"\0")] if content else []


def _parent_directory() -> str:
    """The working directory of the parent process, empty where the system does not show it."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/cwd")
    except OSError:
        return ""


def _keep_cells(cells: list[str]) -> list[str]:
    """The last cells that fit, with secrets taken out."""
    kept: list[str] = []
    size = 0
    for cell in reversed(cells):
        size += len(cell)
        if size > _CELL_LIMIT:
            break
        kept.append(redact_text(cell))
    return kept[::-1]
