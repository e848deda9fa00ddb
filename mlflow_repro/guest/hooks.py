"""When something happens inside the user's training process: the hooks of the plugin.

A context provider's tags reach only runs that are *new*. The child process of ``mlflow run`` resumes a run that its
parent made, so the facts must be written when a run *starts*, whichever way; hence the two hooks below. Nothing here
may raise into the training, draw from its random generators, or keep it waiting: what needs the tracking store is
done on a thread of its own, and waited for, for a bounded time, when the program ends.

This module is loaded in the middle of ``import mlflow``; what only a run needs (`recording`) is loaded with the first.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.guest.background import Background
from mlflow_repro.seeding.control import RandomControl
from mlflow_repro.seeding.log import process_log
from mlflow_repro.system.beginning import remember_beginning
from mlflow_repro.system.spool import process_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.guest.options import AutologOptions
    from mlflow_repro.guest.recording import Recording

TRACK_VARIABLE = "MLFLOW_REPRO_TRACK_FILES"
FILE_ORDER_VARIABLE = "MLFLOW_REPRO_FILE_ORDER"  # `variables` has it too, and more than this module may load
_MARK = "_mlflow_repro_hook"
_WARNING_LIMIT = 1_000  # characters

_logger = logging.getLogger("mlflow_repro")
_recorder: Recorder | None = None


class Recorder:
    """One for each process: its randomness from the import on, its runs from the first one on."""

    def __init__(self) -> None:
        remember_beginning()
        self._has_warned = False
        self._recording: Recording | None = None
        process_path()  # now, so that every process that this one starts is known as its child
        # Made now, so that its exit handler is older than MLflow's, which ends an open run, and runs after it.
        self._background = Background(on_error=self.warn)
        self._seeds = process_log()
        try:
            self._random = RandomControl(self._seeds)
        except ValueError as error:
            self.warn(error)
            self._random = RandomControl(self._seeds, environ={})
        self._random.begin()
        if os.environ.get(FILE_ORDER_VARIABLE):
            from mlflow_repro.guest.fileorder import reverse_file_order

            reverse_file_order()
        if os.environ.get(TRACK_VARIABLE):
            from mlflow_repro.data.opened import track_opened_files

            track_opened_files()

    @property
    def recording(self) -> Recording:
        """What records the runs of this process."""
        if self._recording is None:
            from mlflow_repro.guest.recording import Recording

            self._recording = Recording(self._seeds, self._random, self._background, self.warn)
        return self._recording

    def context_tags(self) -> dict[str, str]:
        """The facts of this process as tags. Never raises."""
        try:
            return self.recording.context_tags()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a guest: not even SystemExit may reach the training
            self.warn(error)
            return {}

    def configure(self, options: AutologOptions) -> None:
        """Record of the runs that start from now on what ``options`` ask for. Never raises."""
        _guarded(self, lambda: self.recording.configure(options))
        if options.rng_trace:
            _guarded(self, _wrap_logging, self)

    def record_run(self, run: Any) -> None:
        """Record a run that was active before this recorder was. Never raises."""
        _guarded(self, _started, self, run)

    def warn(self, error: BaseException | str) -> None:
        """Say once in a process, in one line, that something was not recorded. Never raises."""
        try:
            if self._has_warned:
                return
            self._has_warned = True
            text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
            from mlflow_repro.text.redact import redact_text

            # What a library says of an address has the password in it.
            line = " ".join(redact_text(text[:_WARNING_LIMIT]).split())
            _logger.warning("mlflow-repro could not record everything; the run is not affected: %s", line)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001, S110 - a handler of the user's, or no stack or memory left to say it
            pass


def install_recorder() -> Recorder:
    """Start recording in this process; the same recorder when called again. Called while mlflow is being imported."""
    global _recorder  # noqa: PLW0603 - one process, one recorder
    if _recorder is None:
        _recorder = Recorder()
        _hook_active_run(_recorder)
    return _recorder


def _hook_active_run(recorder: Recorder) -> None:
    """Call ``recorder.run_started`` whenever MLflow makes an ActiveRun.

    At this point of the import the module that defines the class is not there yet (3.x) or half there (2.x), so we
    wait for the moment of its definition: it derives from Run.
    """
    fluent = sys.modules.get("mlflow.tracking.fluent")
    active_run = getattr(fluent, "ActiveRun", None)
    if active_run is not None:
        _wrap_active_run(active_run, recorder)
        return
    from mlflow.entities.run import Run

    base: Any = Run
    inherited = base.__dict__.get("__init_subclass__")

    def on_subclass(cls: Any, /, **options: Any) -> None:
        super(base, cls).__init_subclass__(**options)
        if cls.__name__ == "ActiveRun" and cls.__module__ == "mlflow.tracking.fluent":
            if inherited is None:
                del base.__init_subclass__
            else:
                base.__init_subclass__ = inherited
            _wrap_active_run(cls, recorder)

    base.__init_subclass__ = classmethod(on_subclass)


def _wrap_active_run(active_run: Any, recorder: Recorder) -> None:
    original = active_run.__init__

    @functools.wraps(original)
    def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807 - it is that method
        original(self, *arguments, **options)
        _guarded(recorder, _started, recorder, self)

    active_run.__init__ = __init__


def _started(recorder: Recorder, run: Any) -> None:
    _wrap_set_terminated(recorder)
    recorder.recording.run_started(run)


def _ending(recorder: Recorder, run_id: str, status: str) -> None:
    recorder.recording.run_ending(run_id, status)


def _ended(recorder: Recorder, run_id: str) -> None:
    recorder.recording.run_ended(run_id)


def _store_failed(recorder: Recorder) -> None:
    recorder.recording.store_failed()


def _wrap_set_terminated(recorder: Recorder) -> None:
    """Call ``run_ending`` before MLflow writes a run's final status, and ``run_ended`` after."""
    from mlflow import MlflowClient

    client: Any = MlflowClient
    original = client.set_terminated
    if getattr(original, _MARK, False):
        return

    @functools.wraps(original)
    def set_terminated(self: Any, run_id: str, status: str | None = None, *more: Any, **options: Any) -> Any:
        _guarded(recorder, _ending, recorder, run_id, str(status or "FINISHED"))
        try:
            return original(self, run_id, status, *more, **options)
        except BaseException:
            _guarded(recorder, _store_failed, recorder)
            raise
        finally:
            _guarded(recorder, _ended, recorder, run_id)

    setattr(set_terminated, _MARK, True)
    client.set_terminated = set_terminated


def _wrap_logging(recorder: Recorder) -> None:
    """Call ``metrics_logged`` before MLflow writes metrics, with their steps."""
    from mlflow import MlflowClient

    client: Any = MlflowClient
    log_metric, log_batch = client.log_metric, client.log_batch
    if getattr(log_metric, _MARK, False):
        return

    @functools.wraps(log_metric)
    def traced_metric(self: Any, run_id: str, key: str, value: float, *more: Any, **options: Any) -> Any:
        step = options.get("step", more[1] if len(more) > 1 else None)
        _guarded(recorder, recorder.recording.metrics_logged, run_id, [int(step or 0)])
        return log_metric(self, run_id, key, value, *more, **options)

    @functools.wraps(log_batch)
    def traced_batch(self: Any, run_id: str, metrics: Any = (), *more: Any, **options: Any) -> Any:
        metrics = list(metrics or ())
        _guarded(recorder, recorder.recording.metrics_logged, run_id, [int(metric.step or 0) for metric in metrics])
        return log_batch(self, run_id, metrics, *more, **options)

    setattr(traced_metric, _MARK, True)
    client.log_metric, client.log_batch = traced_metric, traced_batch


def _guarded(recorder: Recorder, function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a guest: not even SystemExit may reach the training
        recorder.warn(error)
