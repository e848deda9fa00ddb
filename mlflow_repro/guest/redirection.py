"""Keep the runs of a relaunch where the reproduction is, whatever its script says about stores and experiments.

Most training scripts call ``mlflow.set_experiment``, many ``mlflow.set_tracking_uri``. In a relaunch the first makes
``start_run`` fail ("active experiment ID does not match"), and the second sends the run to a store where nobody looks.
So in a relaunch, and nowhere else, these two calls keep the store and the experiment of the reproduction, and what was
overruled is recorded as ``repro.launch.overruled``.

The functions do not exist yet when the plugin is loaded, in the middle of ``import mlflow``; the first look at the
module after its import puts ours in place.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import types
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlflow_repro.system.spool import process_path
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.variables import DESTINATION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT = 10  # calls that are recorded
_overruled: list[str] = []


def redirect_runs() -> None:
    """In a relaunch, see to it that its runs stay together. Called while mlflow is being imported."""
    text = os.environ.get(DESTINATION_VARIABLE)
    module = sys.modules.get("mlflow")
    if text and type(module) is types.ModuleType:
        _Importing.destination = json.loads(text)
        module.__class__ = _Importing
        if set(process_path()) & {"/", "."}:
            _leave_first_run()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_leave_first_run)


def overruled_calls() -> list[str]:
    """The calls that were overruled so far, as they stand in the script's language."""
    return list(_overruled)


def _leave_first_run() -> None:
    """Only the process that a script begins with resumes the run that was made for it; others make their own."""
    if os.environ.get("MLFLOW_RUN_ID") == _Importing.destination.get("first_run_id", ""):
        os.environ.pop("MLFLOW_RUN_ID", None)


class _Importing(types.ModuleType):
    """mlflow while it is being imported; afterwards it is an ordinary module again."""

    destination: dict[str, str]

    def __getattribute__(self, name: str) -> Any:
        get = super().__getattribute__
        if not getattr(get("__spec__"), "_initializing", False):
            self.__class__ = types.ModuleType  # type: ignore[assignment]
            with suppress(Exception):
                _replace(self, _Importing.destination)
        return get(name)


def _replace(mlflow: Any, destination: dict[str, str]) -> None:
    originals = {name: getattr(mlflow, name) for name in ("set_tracking_uri", "set_experiment")}
    originals["set_tracking_uri"](destination["tracking_uri"])  # the script may have set MLFLOW_TRACKING_URI
    # A step of a workflow was given a run, in an experiment that the workflow may have chosen for it.
    given = os.environ.get("MLFLOW_EXPERIMENT_ID") if os.environ.get("MLFLOW_RUN_ID") else ""
    stay = functools.partial(originals["set_experiment"], experiment_id=given or destination["experiment_id"])
    replacements: dict[str, Callable[[], Any]] = {"set_tracking_uri": lambda: None, "set_experiment": stay}
    for name, original in originals.items():
        replacement = _overrule(original, replacements[name])
        for module in (mlflow, mlflow.tracking):
            if getattr(module, name, None) is original:
                setattr(module, name, replacement)


def _overrule(original: Callable[..., Any], instead: Callable[[], Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        words = [repr(value) for value in arguments] + [f"{name}={value!r}" for name, value in options.items()]
        call = redact_value(f"{original.__name__}({', '.join(words)})")[:300]
        if call not in _overruled and len(_overruled) < _LIMIT:
            _overruled.append(call)
        return instead()

    return replacement
