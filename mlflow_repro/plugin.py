"""The MLflow entry point (group ``mlflow.run_context_provider``).

MLflow imports this module and instantiates the class in the middle of ``import mlflow``, and any error but an
ImportError would end that import. So nothing here may fail: the standard library only, syntax that an old Python
can read (an environment of a project may have one), everything else imported later and behind a guard.
"""

import logging
import os
import sys

DISABLE_VARIABLE = "MLFLOW_REPRO_DISABLE"
_DESTINATION_VARIABLE = "MLFLOW_REPRO_DESTINATION"
_OLDEST_PYTHON = (3, 10)


def is_disabled():  # noqa: ANN201 - an old Python reads the comment
    # type: () -> bool
    """Say whether the user has switched the recording off."""
    return os.environ.get(DISABLE_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def _redirect():  # noqa: ANN202 - an old Python reads the comment
    # type: () -> None
    """In a relaunch, keep this process from writing to other runs, also when it records nothing.

    What goes wrong here ends the process: one that could write anywhere must not go on.
    """
    if os.environ.get(_DESTINATION_VARIABLE):
        from mlflow_repro.guest.redirection import redirect_runs

        redirect_runs()


class ReproContextProvider:
    """Gives each new run its ``repro.*`` tags, and sees to it that resumed runs get theirs."""

    def __init__(self):  # noqa: ANN204 - an old Python reads the comment
        # type: () -> None
        self._recorder = None
        if sys.version_info < _OLDEST_PYTHON:
            return
        _redirect()
        if is_disabled():
            return
        try:
            from mlflow_repro.guest.hooks import install_recorder

            self._recorder = install_recorder()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            logging.getLogger("mlflow_repro").warning(
                "mlflow-repro records nothing: %s: %s", type(error).__name__, error
            )

    def in_context(self):  # noqa: ANN201
        # type: () -> bool
        """Tell MLflow whether there are tags."""
        return self._recorder is not None

    def tags(self):  # noqa: ANN201
        # type: () -> dict[str, str]
        """Give the facts of this process; the same ones each time."""
        return self._recorder.context_tags() if self._recorder is not None else {}
