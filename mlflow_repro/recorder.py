"""What happens inside the user's training process, and when.

A context provider's tags reach only runs that are *new*. The child process of ``mlflow run`` resumes a run that its
parent made, so the facts must be written when a run *starts*, whichever way; hence the two hooks below. Nothing here
may raise into the training, draw from its random generators, or keep it waiting: what needs the tracking store is
done on a thread of its own and waited for, for a bounded time, before the run ends.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from mlflow_repro.background import Background

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.model import Fact, Section

# The most that waiting for us may delay the end of the program: a local store does not hang, it is only slow on a busy
# machine; a server may, and then the user's patience is short.
_LOCAL_EXIT_SECONDS = 30.0
_REMOTE_EXIT_SECONDS = 5.0
_FRESH_SECONDS = 2.0  # how long facts hold in an interactive session, where the user edits and commits between runs

_MARK = "_mlflow_repro_hook"

_logger = logging.getLogger("mlflow_repro")
_recorder: Recorder | None = None


class Recorder:
    """One for each process: what is known about it, and which runs it has started."""

    def __init__(self) -> None:
        from mlflow_repro.seeding import RandomControl, SeedLog, watch_generators, watch_imports

        self._lock = threading.Lock()
        self._facts: list[Fact] = []
        self._tags: dict[str, str] = {}
        self._tags_time = 0.0
        self._sections: dict[str, Section] = {}
        self._written: dict[str, dict[str, str]] = {}
        self._run_count = 0
        self._has_warned = False
        self._background = Background(on_error=self.warn)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._enter_child)
        self._seeds = SeedLog()
        self._watch: Callable[[SeedLog], None] = watch_generators
        watch_imports(self._seeds)
        try:
            self._random = RandomControl(self._seeds)
        except ValueError as error:
            self.warn(error)
            self._random = RandomControl(self._seeds, environ={})
        self._random.begin()

    def context_tags(self) -> dict[str, str]:
        """The facts of this process; collected at the first call, then the same dictionary's copy. Never raises."""
        try:
            with self._lock:
                if not self._tags or (_is_interactive() and time.monotonic() - self._tags_time > _FRESH_SECONDS):
                    self._tags = self._collect()
                    self._tags_time = time.monotonic()
                    self._sections = {}
                return dict(self._tags)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            self.warn(error)
            return {}

    def run_started(self, run: Any) -> None:
        """A run is now active in this process, new or resumed. ``run`` is MLflow's ActiveRun."""
        run_id = run.info.run_id
        if run_id in self._written:
            return
        self._watch(self._seeds)
        present = run.data.tags
        index = self._run_count
        self._run_count += 1
        tags = {name: value for name, value in self._tags_at_start(run, index).items() if name not in present}
        self._written[run_id] = tags
        # The last thing before the user's code goes on: it puts back the random state of this moment.
        random_state = self._random.run_started(index) if tags else {}
        uri = _tracking_uri()
        is_remote = "://" in uri and not uri.startswith(("sqlite:", "file:"))
        self._background.exit_seconds = _REMOTE_EXIT_SECONDS if is_remote else _LOCAL_EXIT_SECONDS
        self._background.submit(functools.partial(_write, uri, run_id, tags, random_state))

    def run_ending(self, run_id: str, status: str) -> None:
        """``run_id`` is about to be given its final ``status``."""
        written = self._written.pop(run_id, None)
        if written is None:
            return
        tags = {"repro.status": status or "FINISHED", **self._seed_tags()}
        if not self._tags.get("repro.capture", "").startswith("partial"):
            tags["repro.capture"] = "complete"
        changed = {name: value for name, value in tags.items() if written.get(name) != value}
        self._background.submit(functools.partial(_write, _tracking_uri(), run_id, changed))

    def store_failed(self) -> None:
        """MLflow's own last request failed: what of ours is still waiting for that store is not worth a delay."""
        self._background.exit_seconds = 0.0

    def warn(self, error: BaseException | str) -> None:
        """Say once in a process that something was not recorded."""
        if self._has_warned:
            return
        self._has_warned = True
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        _logger.warning("mlflow-repro could not record everything; the run is not affected: %s", text)

    def _collect(self) -> dict[str, str]:
        from mlflow_repro.capture import collect_facts, facts_to_tags

        self._facts, failures = collect_facts()
        tags = facts_to_tags(self._facts, failures)
        if failures:
            self.warn("; ".join(failures))
        session = os.environ.get("MLFLOW_REPRO_SESSION")
        if session:
            tags["repro.session"] = session
        return tags

    def _tags_at_start(self, run: Any, index: int) -> dict[str, str]:
        facts = self.context_tags()
        present = run.data.tags
        tags = {**facts, **self._seed_tags(), "repro.launch.run_index": str(index)}
        if "mlflow.project.entryPoint" in present:
            tags["repro.launch.params"] = _launch_params(run.data.params)
        uri = facts.get("repro.git.uri", "").partition("#")[0]
        standard = {
            "mlflow.source.git.commit": facts.get("repro.git.commit", ""),
            "mlflow.source.git.branch": facts.get("repro.git.branch", ""),
            "mlflow.source.git.repoURL": uri,
        }
        tags.update({name: value for name, value in standard.items() if value})
        return tags

    def _seed_tags(self) -> dict[str, str]:
        from mlflow_repro.seeding import current_seeds

        return {f"repro.seed.{generator}": seed for generator, seed in current_seeds(self._seeds).items()}

    def _enter_child(self) -> None:
        """After a fork: the runs in our table are the parent's to end, and its lock may be held by nobody."""
        self._written = {}
        self._run_count = 0
        self._lock = threading.Lock()


def _write(tracking_uri: str, run_id: str, tags: dict[str, str], random_state: dict[str, Any] | None = None) -> None:
    from mlflow_repro.capture.record import dump_record
    from mlflow_repro.seeding import encode_random_state
    from mlflow_repro.tracking import RANDOM_STATE_FILE, write_files, write_tags

    if tags:
        write_tags(tracking_uri, run_id, tags)
    if random_state:
        write_files(tracking_uri, run_id, {RANDOM_STATE_FILE: dump_record(encode_random_state(random_state))})


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
    recorder.run_started(run)


def _wrap_set_terminated(recorder: Recorder) -> None:
    """Call ``recorder.run_ending`` before MLflow writes a run's final status."""
    from mlflow import MlflowClient

    client: Any = MlflowClient
    original = client.set_terminated
    if getattr(original, _MARK, False):
        return

    @functools.wraps(original)
    def set_terminated(self: Any, run_id: str, status: str | None = None, *more: Any, **options: Any) -> Any:
        _guarded(recorder, recorder.run_ending, run_id, str(status or "FINISHED"))
        try:
            return original(self, run_id, status, *more, **options)
        except BaseException:
            recorder.store_failed()
            raise

    setattr(set_terminated, _MARK, True)
    client.set_terminated = set_terminated


def _guarded(recorder: Recorder, function: Callable[..., None], *arguments: Any) -> None:
    try:
        function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a guest: not even SystemExit may reach the training
        recorder.warn(error)


def _launch_params(params: dict[str, str]) -> str:
    """The params that a project's run has before its code has logged any, unquoted, as a JSON object."""
    from mlflow_repro.capture import to_tag_value
    from mlflow_repro.quoting import unquote_param
    from mlflow_repro.redact import redact_named

    plain = {name: redact_named(name, unquote_param(value)) for name, value in params.items()}
    return to_tag_value(json.dumps(plain))


def _tracking_uri() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())


def _is_interactive() -> bool:
    return "ipykernel" in sys.modules or hasattr(sys, "ps1")
