"""What surrounds the program: a notebook and its cells, a launcher such as torchrun, its place among processes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from mlflow_repro.capture.notebooks import find_notebook, list_cells
from mlflow_repro.capture.places import find_places
from mlflow_repro.redact import redact_argv, redact_text
from mlflow_repro.section import Section, missing

if TYPE_CHECKING:
    from collections.abc import Mapping

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
