"""Bring a notebook back: decide what papermill is to execute, and with which parameters.

The cells that were run are the truth. Where the notebook's file in the checkout begins with just these, it is executed
itself; where it does not (cells were run in another order, edited later, never saved, or nobody told where the file
is), a notebook is made of the cells in the order in which they were run.
"""

from __future__ import annotations

import ast
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.text.redact import REDACTED, redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlflow_repro.values.plan import LaunchPlan
    from mlflow_repro.values.sections import NotebookFacts

NEEDED = ("papermill", "ipykernel")
"""What has to be installed where the notebook is executed; the extra ``notebook``."""
_KERNEL = "python3"
_INJECTED = "# Parameters"  # the first line of the cell that papermill puts in
_INJECTED_TAG, _PARAMETERS_TAG, _SKIPPED_TAG = "injected-parameters", "parameters", "skip-execution"
_FILE = "cells.ipynb"
_LARGEST = 50 * 2**20  # bytes of a notebook's file


@dataclass(frozen=True, kw_only=True)
class RecordedNotebook:
    """What a run recorded of its notebook: the cells that were run, whether these are all, and its file.

    ``path`` is relative to the repository, empty when the file is elsewhere or not known.
    """

    cells: tuple[str, ...] = ()
    is_whole: bool = True
    path: str = ""


@dataclass(frozen=True, kw_only=True)
class _Code:
    """The code cells of a notebook's file that are executed, and the numbers of those that bear a tag."""

    sources: tuple[str, ...]
    tagged: Mapping[str, int] = field(default_factory=dict)


def read_recorded_notebook(facts: NotebookFacts | None, content: bytes | None) -> RecordedNotebook:
    """What a record and the artifact with the cells say of a notebook. Raises nothing."""
    path = (facts.path or "") if facts and facts.place == "repository" else ""
    try:
        cells = json.loads(content or b"[]")
    except (ValueError, RecursionError):
        cells = None
    if not isinstance(cells, list) or not all(isinstance(cell, str) for cell in cells):
        return RecordedNotebook(is_whole=False, path=path)
    return RecordedNotebook(
        cells=tuple(cell for cell in cells if cell.strip()),
        is_whole=facts is not None and len(cells) == facts.cells,
        path=path,
    )


def fit_notebook(
    plan: LaunchPlan, recorded: RecordedNotebook, checkout: Path, work_directory: Path
) -> tuple[tuple[str, ...], list[str]]:
    """The command that executes the notebook, with the parameters that the user has set, and what is to be said of it.

    Raises CannotJudgeError when neither the file nor the cells are there to be executed.
    """
    found = _read_file(checkout, recorded.path)
    notes: list[str] = []
    if found is not None and _begins_with(found, recorded):
        file = checkout / recorded.path
    else:
        _check_cells(recorded, found)
        notes.append(_why_cells(recorded, found))
        file = work_directory / _FILE
        file.write_text(json.dumps(_make_notebook(recorded.cells)), encoding="utf-8")
    path = os.path.relpath(file, checkout / plan.working_directory)
    path = os.path.join(".", path) if path.startswith("-") else path  # not an option of papermill's
    parameters = {
        name: value for name, value in _read_parameters(recorded.cells).items() if name not in plan.parameters
    }
    for name, value in parameters.items():
        if REDACTED in str(value):
            raise CannotJudgeError(
                f"parameter {name!r} was a secret and is not recorded", f"set it with -P {name}=VALUE"
            )
    words = ["--parameters_yaml", yaml.safe_dump(parameters, default_flow_style=True, width=2**30).strip()]
    command = [*plan.command, path, os.devnull, "--kernel", _KERNEL, "--language", "python"]
    command += ["--no-progress-bar", "--log-output", *(words if parameters else ())]
    for name, value in plan.parameters.items():
        command += ["--parameters", name, value]
    return tuple(command), notes


def check_installed(names: Iterable[str] | None, where: str) -> None:
    """Raise CannotJudgeError when ``names``, which are installed ``where``, lack what executes a notebook.

    None means that they are not known yet.
    """
    found = set(NEEDED if names is None else names)
    lacking = [name for name in NEEDED if name not in found]
    if lacking:
        raise CannotJudgeError(
            f"the run was made in a notebook, and {' and '.join(lacking)} is not installed in {where}",
            "install the extra there: pip install 'mlflow-repro[notebook]'; --env current takes this environment",
        )


def write_kernel(directory: Path) -> dict[str, str]:
    """Make the kernel ``python3`` that of the Python which runs papermill; the variables that say so.

    A kernel of that name which the user has installed may be another Python.
    """
    folder = directory / "jupyter" / "kernels" / _KERNEL
    folder.mkdir(parents=True, exist_ok=True)
    argv = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")
    return {"JUPYTER_PATH": os.pathsep.join(filter(None, (str(directory / "jupyter"), os.environ.get("JUPYTER_PATH"))))}


def _read_file(checkout: Path, path: str) -> _Code | None:
    """The code cells of the notebook at ``path``, None when there is none that can be read."""
    file = (checkout / path).resolve()
    if not path or not file.is_file() or not file.is_relative_to(checkout.resolve()):
        return None
    try:
        if file.stat().st_size > _LARGEST:
            return None
        plain = json.loads(file.read_text(encoding="utf-8"))
        cells = [cell for cell in plain["cells"] if cell["cell_type"] == "code"]
        sources = [(_to_text(cell["source"]), list(cell.get("metadata", {}).get("tags", ()))) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    executed = [(source, tags) for source, tags in sources if source.strip() and _SKIPPED_TAG not in tags]
    tagged: dict[str, int] = {}
    for number, (_, tags) in enumerate(executed):
        for tag in tags:
            tagged.setdefault(str(tag), number)
    return _Code(sources=tuple(source for source, _ in executed), tagged=tagged)


def _to_text(source: Any) -> str:
    return source if isinstance(source, str) else "".join(source)


def _begins_with(code: _Code, recorded: RecordedNotebook) -> bool:
    """True when executing the file runs the recorded cells, in their order, before anything else."""
    if not recorded.cells:
        return True  # nothing is known that speaks against it
    if not recorded.is_whole:
        return False
    for sources in (code.sources, _insert_parameters(code, recorded.cells)):
        if tuple(map(redact_text, sources[: len(recorded.cells)])) == recorded.cells:
            return True
    return False


def _insert_parameters(code: _Code, cells: Sequence[str]) -> tuple[str, ...]:
    """The cells of the file with papermill's own cell where papermill puts it."""
    cell = next((cell for cell in cells if cell.startswith(_INJECTED)), "")
    before = code.tagged.get(_INJECTED_TAG)
    if before is not None:
        return (*code.sources[:before], cell, *code.sources[before + 1 :])
    before = code.tagged.get(_PARAMETERS_TAG, -1) + 1
    return (*code.sources[:before], cell, *code.sources[before:])


def _read_parameters(cells: Sequence[str]) -> dict[str, Any]:
    """The parameters that papermill gave; empty when it gave none, or one that is no plain value."""
    cell = next((cell for cell in cells if cell.startswith(_INJECTED)), "")
    parameters: dict[str, Any] = {}
    try:
        for node in ast.parse(cell).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
                return {}
            parameters[node.targets[0].id] = _evaluate(node.value)
    except (ValueError, SyntaxError, TypeError, RecursionError):
        return {}
    return parameters


def _evaluate(node: ast.expr) -> Any:
    """The value of a literal, or of ``float('nan')``, as papermill writes what has no literal. Raises ValueError."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "float"
        and len(node.args) == 1
    ):
        return float(ast.literal_eval(node.args[0]))
    if isinstance(node, ast.List):
        return [_evaluate(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key or node): _evaluate(item) for key, item in zip(node.keys, node.values, strict=True)
        }
    return ast.literal_eval(node)


def _why_cells(recorded: RecordedNotebook, found: _Code | None) -> str:
    if not recorded.path:
        why = "its file is not known, or not in the repository"
    elif found is None:
        why = f"{recorded.path} is not in the commit, or is no notebook"
    else:
        why = f"{recorded.path} has other cells, or has them in another order"
    return f"the notebook is executed as the cells that were run, in their order: {why}"


def _check_cells(recorded: RecordedNotebook, found: _Code | None) -> None:
    why = ""
    if not recorded.cells:
        why = "it recorded no cells"
    elif not recorded.is_whole:
        why = "its cells were too long to be recorded whole"
    elif any(REDACTED in cell for cell in recorded.cells if not _is_replaced(cell)):
        why = "a cell had a secret, which is not recorded"
    if why:
        is_there = "what is there has other cells" if found is not None else "is not there"
        file = f"its file {recorded.path} {is_there}" if recorded.path else "its file is not known"
        raise CannotJudgeError(
            f"the notebook cannot be executed again: {file}, and {why}", "commit it before it is run"
        )


def _is_replaced(cell: str) -> bool:
    """True for papermill's cell, which it writes anew from the parameters that it is given."""
    return cell.startswith(_INJECTED) and bool(_read_parameters([cell]))


def _make_notebook(cells: Sequence[str]) -> dict[str, Any]:
    """The form that nbformat 4.4 has for code cells; the parameters' cell is marked, so that papermill replaces it."""
    tags = {True: {"tags": [_INJECTED_TAG]}, False: {}}
    return {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "metadata": tags[_is_replaced(cell)],
                "outputs": [],
                "source": cell,
            }
            for cell in cells
        ],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": _KERNEL},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 4,
    }
