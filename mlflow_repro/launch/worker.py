"""The process that calls `mlflow.projects.run`, in a session of its own.

It is started early, so that its `import mlflow` happens while the tool reads the reference and fetches the code. It
gets two lines of JSON on the control pipe: in which store the tool is about to make a run, and then its job. It answers
with one line on the result pipe. The control pipe stays open as long as the tool lives: when it closes before the job
is done, the tool is gone (SIGKILL included). Then the runs of the tool's session are marked, and everything in this
process's session is ended, so that no training goes on that nobody waits for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from mlflow_repro.store.loopback import serve_database
from mlflow_repro.store.sessions import close_session
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.system.folders import DUTY_FILE
from mlflow_repro.system.processes import ProcessTree
from mlflow_repro.text.variables import DESTINATION_VARIABLE

GRACE_SECONDS = 5.0
_MARK_SECONDS = 30.0
_LOOK_SECONDS = 0.2
# Settings of the Python that runs this tool, which would send another one to look for its modules here.
_OF_ANOTHER_PYTHON = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONEXECUTABLE",
    "PYTHONPLATLIBDIR",
    "PYTHONUSERBASE",
    "CONDA_PREFIX",
)


def main(control: int, result: int) -> None:
    """Import mlflow, wait for the job, run it, answer."""
    os.set_inheritable(control, False)  # noqa: FBT003 - the signature is the standard library's
    os.set_inheritable(result, False)  # noqa: FBT003
    # The launching process itself is nobody's training. The variable is given back before the child starts.
    disabled_before = os.environ.get("MLFLOW_REPRO_DISABLE")
    os.environ["MLFLOW_REPRO_DISABLE"] = "1"
    from mlflow import projects  # noqa: F401 - now, while the tool is still reading and fetching

    pipe = os.fdopen(control, "rb")
    announced = pipe.readline()
    if not announced.endswith(b"\n"):
        return
    marker = _Marker(**json.loads(announced))
    line = pipe.readline()
    if not line.endswith(b"\n"):
        marker.finish()
        return
    if disabled_before is None:
        del os.environ["MLFLOW_REPRO_DISABLE"]
    else:
        os.environ["MLFLOW_REPRO_DISABLE"] = disabled_before
    # A handler, not SIG_IGN: what is ignored here would stay ignored in the child.
    signal.signal(signal.SIGTERM, lambda *_: None)
    job = json.loads(line)
    abandoned = threading.Event()
    threading.Thread(target=_end_with, args=(pipe, abandoned, marker), daemon=True).start()
    answer = _run(job, abandoned)
    if abandoned.is_set():
        marker.finish()
        return
    with os.fdopen(result, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # nothing is left to do here, and the tool waits for the end of this process


class _Marker:
    """Marks the runs of a session whose tool is gone: first before they are ended, and at last for certain."""

    def __init__(self, *, tracking_uri: str, session: str) -> None:
        self._uri, self._session = tracking_uri, session
        self._duty = Path(DUTY_FILE).absolute()
        self._marked: set[str] = set()
        self._lock = threading.Lock()

    def mark(self) -> bool:
        """Mark what is open, and what was marked before and was then given another end. Raises nothing."""
        with self._lock, suppress(Exception):
            self._marked |= close_session(TrackingStore(self._uri), self._session, ended=self._marked)
            return True
        return False

    def finish(self) -> None:
        """Mark for the last time; when that works nothing is left to do for those who remove the folder."""
        if self.mark():
            self._duty.unlink(missing_ok=True)


def _end_with(pipe: Any, abandoned: threading.Event, marker: _Marker) -> None:
    """Block until the tool is gone, then mark its runs and end this session: politely, after a grace for certain."""
    while pipe.read(65536):
        pass
    abandoned.set()
    deadline = time.monotonic() + _MARK_SECONDS
    # A store that hangs must not keep the training alive.
    threading.Thread(target=marker.mark, daemon=True).start()
    tree = ProcessTree(os.getpid())
    tree.end(grace=GRACE_SECONDS, spares_root=True)
    while time.monotonic() < deadline:  # the main thread, which has lost its child, may just be starting another
        time.sleep(_LOOK_SECONDS)
        tree.end(spares_root=True)
    os.killpg(0, signal.SIGKILL)


def _run(job: dict[str, Any], abandoned: threading.Event) -> dict[str, Any]:
    import mlflow
    from mlflow import projects

    exit_codes = _watch_exit_codes()
    answer: dict[str, Any] = {"run_id": job["run_id"], "error": "", "exit_code": None}
    if job["backend"] != "local":
        with suppress(ImportError, AttributeError):  # another MLflow: a run that fails has no name then
            _watch_backend(answer)
    served = job["served_artifact_root"]
    # Before the environment is the child's: the server is of this one.
    store = serve_database(job["tracking_uri"], Path.cwd(), served) if served else nullcontext(job["tracking_uri"])
    try:
        with store as uri:
            mlflow.set_tracking_uri(uri)
            _enter_environment(job)
            if job["backend"] == "local":  # on another machine the store may have another address
                os.environ[DESTINATION_VARIABLE] = json.dumps(_describe_destination(job, uri))
            if abandoned.is_set():
                return answer
            run_project: Any = projects.run  # MLflow leaves it untyped
            submitted = run_project(
                uri=job["directory"],
                entry_point=job["entry_point"],
                parameters=job["parameters"],
                experiment_id=job["experiment_id"],
                backend=job["backend"],
                backend_config=job["backend_config"] or None,
                env_manager=job["env_manager"],
                storage_dir=job["storage_directory"],
                run_id=job["run_id"] or None,
            )
            answer["run_id"] = submitted.run_id
    except BackendError as error:
        answer["error"] = str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the tool is told, and says it to the user
        answer["error"] = f"{type(error).__name__}: {error}"
    mlflow.set_tracking_uri(job["tracking_uri"])
    answer["exit_code"] = exit_codes[-1] if exit_codes else None
    return answer


def _describe_destination(job: dict[str, Any], uri: str) -> dict[str, Any]:
    """What the processes of the child are told of where their runs go."""
    destination = {
        "tracking_uri": uri,
        "experiment_id": job["experiment_id"],
        "run_id": job["run_id"],
        "reference": job["reference"],
        "allow_registry": job["allow_registry"],
        "began": job["began"],
        "launched": time.time(),
        "ledger": job["ledger"],
    }
    if job["is_command"]:  # in a project's run, whichever process starts a run first resumes it
        destination["first_run_id"] = job["run_id"]
    return destination


def _enter_environment(job: dict[str, Any]) -> None:
    """Make the variables of this process, which the child inherits, those that the child is to have."""
    if job["environment"]:
        for name in _OF_ANOTHER_PYTHON:
            os.environ.pop(name, None)
        folder = os.path.join(job["environment"], "bin")
        os.environ["PATH"] = os.pathsep.join((folder, os.environ.get("PATH", os.defpath)))
        os.environ["VIRTUAL_ENV"] = job["environment"]
    for name, value in job["variables"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    path = (*job["import_path"], os.environ.get("PYTHONPATH"), job["plugin_path"])
    if any(path):
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    if job["env_manager"] == "uv":
        # They would send MLflow's `uv pip install` into another environment than the one that it has made.
        for name in ("UV_PYTHON", "UV_PROJECT_ENVIRONMENT"):
            os.environ.pop(name, None)


class BackendError(Exception):
    """A backend did not do what MLflow expects of it."""


def _watch_backend(answer: dict[str, Any]) -> None:
    """Learn the id of the run that a backend makes as soon as it is made: it may fail afterwards."""
    from mlflow import projects
    from mlflow.projects.backend import loader

    mlflow_loader: Any = loader  # MLflow leaves both untyped
    mlflow_projects: Any = projects
    load, make = mlflow_loader.load_backend, mlflow_projects.get_or_create_run

    def load_watched(name: str) -> Any:
        backend = load(name)
        if backend is not None:
            submit = backend.run

            def run(*arguments: Any, **named: Any) -> Any:
                submitted = submit(*arguments, **named)
                if not getattr(submitted, "run_id", None):
                    raise BackendError(f"the backend {name!r} returned no run")
                answer["run_id"] = str(submitted.run_id)
                return submitted

            backend.run = run
        return backend

    def make_watched(*arguments: Any, **named: Any) -> Any:
        made = make(*arguments, **named)
        answer["run_id"] = made.info.run_id
        return made

    mlflow_loader.load_backend = load_watched
    mlflow_projects.get_or_create_run = make_watched  # how MLflow's own remote backends make theirs


def _watch_exit_codes() -> list[int]:
    """Collect the exit codes of MLflow's child processes; `mlflow.projects.run` says only that one failed."""
    codes: list[int] = []
    try:
        from mlflow.projects.submitted_run import LocalSubmittedRun

        submitted_run: Any = LocalSubmittedRun
        original = submitted_run.wait

        def wait(self: Any) -> Any:
            result = original(self)
            codes.append(self.command_proc.returncode)
            return result

        submitted_run.wait = wait
    except (ImportError, AttributeError):
        pass  # another MLflow: the exit code is not known, the failure is
    return codes


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
