"""Relaunch a run by `mlflow.projects.run`, in a process tree that can be ended as a whole."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING

from mlflow_repro.errors import UsageError
from mlflow_repro.launch.worker import GRACE_SECONDS
from mlflow_repro.store.sessions import describe_session
from mlflow_repro.system.folders import DUTY_FILE, cache_directory
from mlflow_repro.system.processes import ProcessTree
from mlflow_repro.system.spool import ABOVE_VARIABLE, this_process
from mlflow_repro.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from mlflow_repro.system.folders import HeldFolder

SESSION_VARIABLE = "MLFLOW_REPRO_SESSION"
LOG_LIMIT = 10 * 1024 * 1024  # bytes of the child's output that are kept
_TAIL_LINES = 20
_DISTRIBUTION = "mlflow-repro"
# What the surroundings of the tool may hold and the child must not take for its own.
_SCRUBBED = (
    "MLFLOW_RUN_ID",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_REPRO_SESSION",
    "MLFLOW_REPRO_DESTINATION",
    "MLFLOW_RUN_CONTEXT",
)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the launching process is told. An empty ``run_id`` lets the backend create the run."""

    directory: str
    entry_point: str
    parameters: Mapping[str, str]
    run_id: str
    experiment_id: str
    tracking_uri: str
    is_command: bool = False
    """True for a program that was not started by MLflow, so that no run was made for it."""
    backend: str = "local"
    backend_config: Mapping[str, object] = field(default_factory=dict)
    env_manager: str = "local"
    storage_directory: str = ""
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """Environment variables for the child alone; None takes one away."""
    environment: str = ""
    """The folder of the environment that the child runs in; empty for what ``env_manager`` says."""
    import_path: tuple[str, ...] = ()
    """Folders that the child imports from beside those of its environment."""
    reference: tuple[str, ...] = ()
    """The ids of the runs that are reproduced."""
    began: float = 0.0
    """When the first of them began, in seconds since 1970; 0 when that is not known."""
    ledger: str = ""
    """The file in which the processes of the child note what they make, and what was held back of what they write."""
    allow_registry: bool = False
    """Whether the child may write to the model registry."""
    served_artifact_root: str = ""
    """Where new experiments keep their artifacts, when the child gets the store through a server on loopback."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the launch ended: ``error`` is empty when it went well; a negative exit code is a signal's number."""

    run_id: str
    error: str = ""
    exit_code: int | None = None
    is_timeout: bool = False
    is_stopped: bool = False
    log_tail: str = field(default="", repr=False)


class Launcher:
    """A process that stands ready to launch one run. Use it as a context manager: leaving it ends the tree."""

    def __init__(self, place: HeldFolder, *, session: str, show: Callable[[str], None] | None = None) -> None:
        """``place`` is the work directory; ``show`` is called with each line of the child's output."""
        self._directory = Path(place.path)
        self.session = session
        self._show = show
        self._log = _Log()
        self._is_announced = False
        control_read, self._control = os.pipe()
        self._result, result_write = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow_repro.launch.worker", str(control_read), str(result_write)],
                cwd=self._directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(control_read, result_write, place.lock),  # when we are killed it still works there
                start_new_session=True,
            )
        finally:
            os.close(control_read)
            os.close(result_write)
        self._tree = ProcessTree(self._process.pid)

    def __enter__(self) -> Launcher:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def announce(self, tracking_uri: str) -> None:
        """Say, before it is made, where the session's run will be: who outlives this process closes it."""
        self._is_announced = True
        Path(self._directory, DUTY_FILE).write_text(describe_session(tracking_uri, self.session), encoding="utf-8")
        self._send({"tracking_uri": tracking_uri, "session": self.session})

    def run(self, job: Job, *, timeout: float | None = None, is_enough: Callable[[], bool] = lambda: False) -> Outcome:
        """Launch and wait, and announce it before unless that was done.

        The run is ended after ``timeout`` seconds, and as soon as ``is_enough`` says so.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        # An environment that MLflow builds does not list this package; "local" is the one that runs us.
        is_ours = job.env_manager == "local" and not job.environment
        plugin_path = "" if is_ours else str(link_plugin(self._directory / "plugin"))
        if not self._is_announced:
            self.announce(job.tracking_uri)
        self._send({**asdict(job), "plugin_path": plugin_path})
        reason = self._pump(deadline, is_enough)
        if reason:
            self.end()
            return Outcome(
                run_id=job.run_id,
                error=reason,
                is_timeout=reason == "timeout",
                is_stopped=reason == "stopped",
                log_tail=self._log.tail(),
            )
        answer = _read_all(self._result)
        if not answer:
            code = self._process.wait()
            return Outcome(
                run_id=job.run_id,
                error="the launching process died",
                exit_code=code,
                log_tail=self._log.tail(),
            )
        result = json.loads(answer)
        return Outcome(
            run_id=result["run_id"],
            error=redact_text(result["error"]),
            exit_code=result["exit_code"],
            log_tail=self._log.tail(),
        )

    def _send(self, message: Mapping[str, object]) -> None:
        with suppress(BrokenPipeError):  # a worker that died says why in its output
            _write_all(self._control, json.dumps(message).encode() + b"\n")

    def end(self) -> None:
        """End the whole process tree: SIGTERM, a grace, SIGKILL. Safe to call again."""
        control, self._control = self._control, -1
        if control >= 0:  # closed a second time it may be somebody else's
            os.close(control)
        # First what it has launched, which gets its time; also what a worker that has died has left behind.
        self._tree.end(grace=GRACE_SECONDS, spares_root=True)
        self._tree.end()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _pump(self, deadline: float | None, is_enough: Callable[[], bool]) -> str:
        """Read the child's output until the worker has ended; why not, when something else came first."""
        stream = self._process.stdout
        if stream is None:  # never: it was asked for
            return ""
        os.set_blocking(stream.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                if deadline is not None and time.monotonic() >= deadline:
                    return "timeout"
                if is_enough():
                    return "stopped"
                # Wake up now and then: a grandchild may hold the pipe open after the worker has ended.
                if selector.select(timeout=0.2):
                    if not self._take(stream):
                        self._process.wait()
                        return ""
                elif self._process.poll() is not None:
                    return ""

    def _take(self, stream: IO[bytes]) -> bool:
        data = os.read(stream.fileno(), 65536)
        for line in self._log.add(data):
            if self._show is not None:
                self._show(line)
        return bool(data)

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in _SCRUBBED}
        environment[SESSION_VARIABLE] = self.session
        environment[ABOVE_VARIABLE] = this_process()
        # MLflow's "local" runs the first `python` on the path: make that the one that runs us.
        path = [os.path.dirname(sys.executable), environment.get("PATH", os.defpath)]
        environment["PATH"] = os.pathsep.join(path)
        environment["PYTHONUNBUFFERED"] = "1"
        environment.setdefault("MLFLOW_ENV_ROOT", str(cache_directory() / "envs"))
        return environment


def read_backend_config(text: str) -> dict[str, object]:
    """A JSON object given as text, or as the path of a file that ends in ``.json``. Raises UsageError."""
    if not text:
        return {}
    try:
        plain = json.loads(Path(text).read_text(encoding="utf-8") if text.endswith(".json") else text)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"cannot read the backend configuration {text[:80]!r}: {error}", "give JSON, or a .json file"
        ) from error
    if not isinstance(plain, dict):
        raise UsageError("the backend configuration is not a JSON object", 'the form is {"key": value}')
    return plain


def link_plugin(directory: Path) -> Path:
    """A folder for PYTHONPATH that holds this package and its metadata, and nothing else of this environment.

    An environment that MLflow builds for a project does not list us; this makes the plugin load there too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    package = Path(__file__).resolve().parent.parent
    (directory / package.name).symlink_to(package, target_is_directory=True)
    distribution = metadata.distribution(_DISTRIBUTION)
    information = directory / f"mlflow_repro-{distribution.version}.dist-info"
    information.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (information / name).write_text(distribution.read_text(name) or "", encoding="utf-8")
    return directory


class _Log:
    """The end of the child's output, split into lines, with secrets taken out."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._rest = b""

    def add(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LOG_LIMIT:
            whole, self._rest = [*whole, self._rest], b""
        if not data and self._rest:
            whole, self._rest = [*whole, self._rest], b""
        lines = [redact_text(line.decode("utf-8", "replace").rstrip("\r")) for line in whole]
        self._lines.extend(lines)
        self._size += sum(map(len, lines))
        while self._size > LOG_LIMIT and self._lines:
            self._size -= len(self._lines.pop(0))
        return lines

    def tail(self, count: int = _TAIL_LINES) -> str:
        """The last lines, without MLflow's own remarks about launching."""
        told = [line for line in self._lines if line.strip() and " INFO mlflow.projects" not in line]
        return "\n".join(told[-count:])


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, "rb") as pipe:
        return pipe.read().decode("utf-8")
