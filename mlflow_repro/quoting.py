"""The launch parameters of a project run, with the values that the user typed.

MLflow stores them shell-quoted (``a b`` as ``'a b'``), mixed with what user code and autologging logged. The plugin
records them unquoted at the start of the run; for runs made without it the quoting is undone where that is certain.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_repro.model import RunRecord

ENTRY_POINT_TAG = "mlflow.project.entryPoint"


def unquote_param(stored: str) -> str:
    """Undo `shlex.quote`: the exact inverse where ``stored`` is something that it returns, else unchanged."""
    try:
        words = shlex.split(stored)
    except ValueError:
        return stored
    if len(words) == 1 and shlex.quote(words[0]) == stored:
        return words[0]
    return stored


def is_project_run(record: RunRecord) -> bool:
    """True when the run was launched through an entry point of an MLflow project."""
    return ENTRY_POINT_TAG in record.tags or record.tags.get("mlflow.source.type") == "PROJECT"


def recorded_launch_parameters(record: RunRecord) -> dict[str, str] | None:
    """The launch parameters that the plugin recorded, or None when it recorded none that can be read."""
    stored = record.fact("launch.params").value
    if stored is None:
        return None
    try:
        values = json.loads(stored)
    except ValueError:
        return None
    return {str(name): str(value) for name, value in values.items()} if isinstance(values, dict) else None


def launch_parameters(record: RunRecord) -> dict[str, str]:
    """The launch parameters with their exact values; for a run made without the plugin, all of its params.

    Empty for a run that was not launched through a project's entry point.
    """
    recorded = recorded_launch_parameters(record)
    if recorded is not None:
        return recorded
    if not is_project_run(record):
        return {}
    return {name: unquote_param(value) for name, value in record.params.items()}
