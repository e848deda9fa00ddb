"""What surrounds the program: a notebook and its cells, a launcher such as torchrun, its place among processes."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.redact import redact_argv, redact_text
from mlflow_repro.section import Section, missing

if TYPE_CHECKING:
    from collections.abc import Mapping

_CELLS_FILE = "launch/cells.json"
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


def record_session(environ: Mapping[str, str] | None = None) -> Section:
    """The facts ``launcher``, ``ranks``, ``parent`` and ``notebook``; of a notebook the cells that were run, too."""
    environ = os.environ if environ is None else environ
    launchers = [name for name, variable in _LAUNCHERS.items() if variable in environ]
    parent = _parent_command()
    facts: dict[str, Any] = {
        "launcher": launchers or missing("no launcher is known to have started this process"),
        "ranks": {name: environ[name] for name in _RANKS if environ.get(name, "").isdigit()},
        "parent": redact_argv(parent) if parent else missing("the parent's command line cannot be read here"),
    }
    files: dict[str, bytes] = {}
    cells = _notebook_cells()
    if cells is None:
        facts["notebook"] = missing("the program is not a notebook")
    else:
        kept = _keep_cells(cells)
        files[_CELLS_FILE] = json.dumps(kept, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
        facts["notebook"] = {
            "path": _notebook_path(environ) or missing("the notebook server does not tell its path"),
            "cells": len(cells),
            "cells_kept": len(kept),
            "file": f"repro/{_CELLS_FILE}",
        }
    return Section(facts=facts, files=files)


def _parent_command() -> list[str]:
    """The command line of the parent process, where the system shows it (Linux)."""
    try:
        with open(f"/proc/{os.getppid()}/cmdline", "rb") as file:
            content = file.read(65536)
    except OSError:
        return []
    return [word.decode("utf-8", "backslashreplace") for word in content.rstrip(b"\0").split(b"\0")] if content else []


def _notebook_cells() -> list[str] | None:
    """The sources of the cells in the order in which they were run, or None outside a notebook."""
    kernel = sys.modules.get("ipykernel")
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if kernel is not None and get_ipython is not None else None
    history = getattr(shell, "user_ns", {}).get("In")
    return [str(cell) for cell in history[1:]] if isinstance(history, list) else None


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


def _notebook_path(environ: Mapping[str, str]) -> str:
    """The notebook's file: Jupyter's servers tell it in a variable, Visual Studio Code in the kernel's namespace."""
    namespace = getattr(sys.modules.get("__main__"), "__dict__", {})
    return str(environ.get("JPY_SESSION_NAME") or namespace.get("__vsc_ipynb_file__") or "")
