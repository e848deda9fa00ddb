"""Keep the runs of a relaunch where the reproduction is, whatever its script says about stores and experiments.

Most training scripts call ``mlflow.set_experiment``, many ``mlflow.set_tracking_uri``. In a relaunch the first makes
``start_run`` fail ("active experiment ID does not match"), and the second sends the run to a store where nobody looks.
So in a relaunch, and nowhere else, these two calls keep the store and the experiment of the reproduction, and what was
overruled is recorded as ``repro.launch.overruled``. And what the script writes goes to runs of the relaunch only: see
`overlay`.

The functions do not exist yet when the plugin is loaded, in the middle of ``import mlflow``; the end of the import puts
ours in place.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay import install_overlay
from mlflow_repro.system.spool import process_path
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.variables import DESTINATION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

_LIMIT = 10  # calls that are recorded
_EXIT_CODE = 70
_overruled: list[str] = []


def redirect_runs() -> None:
    """In a relaunch, see to it that its runs stay together, and that it writes to them only.

    Called while mlflow is being imported, or after.
    """
    text = os.environ.get(DESTINATION_VARIABLE)
    module = sys.modules.get("mlflow")
    if not text or module is None:
        return
    destination = json.loads(text)
    first_run_id = destination.get("first_run_id", "")
    if set(process_path()) & {"/", "."}:
        _leave_first_run(first_run_id)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=functools.partial(_leave_first_run, first_run_id))
    spec = module.__spec__
    if spec is not None and type(spec) is ModuleSpec and getattr(spec, "_initializing", False):
        spec.__class__ = _Importing
        _Importing.finish = functools.partial(_begin, destination)
    else:
        _begin(destination)


def overruled_calls() -> list[str]:
    """The calls that were overruled so far, as they stand in the script's language."""
    return list(_overruled)


def _leave_first_run(first_run_id: str) -> None:
    """Only the process that a script begins with resumes the run that was made for it; others make their own."""
    if os.environ.get("MLFLOW_RUN_ID") == first_run_id:
        os.environ.pop("MLFLOW_RUN_ID", None)


class _Importing(ModuleSpec):
    """What Python knows of mlflow while it is being imported; afterwards it is an ordinary one again."""

    finish: Callable[[], None]

    @property
    def _initializing(self) -> bool:
        return True

    @_initializing.setter
    def _initializing(self, value: bool) -> None:
        if not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            self._initializing = False
            if "mlflow" in sys.modules:  # else the import failed
                _Importing.finish()


def _begin(destination: dict[str, str]) -> None:
    """Put everything in place. A process of a relaunch that could write anywhere is ended: it must not go on."""
    try:
        install_overlay()
        _replace(sys.modules["mlflow"], destination)
    except BaseException as error:  # noqa: BLE001 - whatever it is
        print(  # noqa: T201 - the one line that says why
            f"mlflow-repro: this relaunch cannot be kept from writing to other runs: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(_EXIT_CODE)


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
