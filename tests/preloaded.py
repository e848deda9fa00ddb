"""A process that has imported mlflow, and forks into the programs that tests start: the import takes seconds.

`Preloaded` is the tests' side, `serve` the process. A program is asked for as one JSON object, with the descriptors
that it is to have; its pid and, when it has ended, its exit code come back. The plugin was loaded through its entry
point, switched off; in a training it is switched on, as if mlflow were imported there and then. Where it matters how a
process begins (what is recorded of it, its first random numbers), tests start a real one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import io

_DESCRIPTORS = 8  # at most for one program


class Preloaded:
    """Starts programs in forks of a process that is made with the first of them."""

    def __init__(self, store: str) -> None:
        """``store`` is a SQLite file that may be written to."""
        self._store = store
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._unread = b""
        self.codes: dict[int, int] = {}

    def start(self, kind: str, arguments: list[str], *, cwd: str, env: dict[str, str], fds: dict[int, int]) -> int:
        """The pid of a program: ``kind`` is ``script`` or ``worker``, ``fds`` are descriptors here by those there."""
        with self._lock:
            if self._socket is None:
                self._begin()
            asked = {"kind": kind, "arguments": arguments, "cwd": cwd, "env": env, "fds": list(fds)}
            socket.send_fds(self._socket, [json.dumps(asked).encode() + b"\n"], list(fds.values()))
            while True:
                answer = self._read(timeout=60)
                if "pid" in answer:
                    self.codes.pop(answer["pid"], None)  # the number may be used again
                    return answer["pid"]

    def poll(self, pid: int) -> int | None:
        """The exit code of a program that was started, None while it runs."""
        with self._lock:
            while pid not in self.codes and select.select([self._socket], [], [], 0)[0]:
                self._read(timeout=0)
            return self.codes.get(pid)

    def close(self) -> None:
        if self._process is not None:
            self._socket.close()
            self._process.wait(20)

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        environment = {**os.environ, "MLFLOW_REPRO_DISABLE": "1"}
        command = [sys.executable, __file__, str(theirs.fileno()), self._store]
        self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._socket = ours

    def _read(self, timeout: float) -> dict[str, int]:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            if not select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the process that has imported mlflow does not answer")
            part = self._socket.recv(65536)
            if not part:
                raise RuntimeError("the process that has imported mlflow has ended")
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\n")
        answer = json.loads(line)
        if "ended" in answer:
            self.codes[answer["ended"]] = answer["code"]
        return answer


class Program:
    """What `subprocess.Popen` is for a program that was started in a fork."""

    def __init__(self, preloaded: Preloaded, kind: str, arguments: list[str], **place: Any) -> None:
        self.args = arguments
        self._preloaded = preloaded
        self.pid = preloaded.start(kind, arguments, **place)
        self.stdout: io.RawIOBase | None = None

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        return self._preloaded.poll(self.pid)

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)


def start_worker(preloaded: Preloaded, command: list[str], **options: Any) -> Program:
    """As `subprocess.Popen(command, **options)` for the process that launches a run."""
    assert command[:3] == [sys.executable, "-m", "mlflow_repro.launch_worker"], command
    assert options["start_new_session"]
    read, write = os.pipe()
    with open(os.devnull, "rb") as nothing:
        fds = {0: nothing.fileno(), 1: write, 2: write, **{number: number for number in options["pass_fds"]}}
        program = Program(preloaded, "worker", command[3:], cwd=str(options["cwd"]), env=options["env"], fds=fds)
    os.close(write)
    program.stdout = os.fdopen(read, "rb", buffering=0)
    return program


def serve(connection: socket.socket) -> dict[str, Any] | None:
    """Answer until the tests are through; in each fork return the program that it is to be."""
    unread, received, running = b"", [], set()
    while True:
        if select.select([connection], [], [], 0.005 if running else None)[0]:
            part, descriptors, _, _ = socket.recv_fds(connection, 65536, _DESCRIPTORS)
            if not part:
                return None
            unread, received = unread + part, received + descriptors
            while b"\n" in unread:
                line, _, unread = unread.partition(b"\n")
                asked = json.loads(line)
                count = len(asked["fds"])
                mine, received = received[:count], received[count:]
                child = os.fork()
                if child == 0:
                    connection.close()
                    return {**asked, "mine": mine}
                for descriptor in mine:
                    os.close(descriptor)
                running.add(child)
                connection.sendall(json.dumps({"pid": child}).encode() + b"\n")
        for child in list(running):
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                running.discard(child)
                answer = {"ended": child, "code": os.waitstatus_to_exitcode(status)}
                connection.sendall(json.dumps(answer).encode() + b"\n")


def become(asked: dict[str, Any]) -> None:
    """Be the program that was asked for."""
    os.setsid()
    place_descriptors(dict(zip(asked["fds"], asked["mine"], strict=True)))
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.path[:0] = filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(asked["cwd"])
    if asked["kind"] == "worker":
        from mlflow_repro.launch_worker import main

        main(*map(int, asked["arguments"]))
        return
    script, *arguments = asked["arguments"]
    if "MLFLOW_REPRO_DISABLE" not in os.environ:
        switch_on_with(script, arguments)
    run_script(script)


def place_descriptors(wanted: dict[int, int]) -> None:
    """Give each descriptor the number that it is to have; none is lost when the numbers overlap."""
    free = 1 + max(*wanted, *wanted.values(), 2)
    moved = {}
    for number, descriptor in wanted.items():
        moved[number] = os.dup2(descriptor, free)
        os.close(descriptor)
        free += 1
    for number, descriptor in moved.items():
        os.dup2(descriptor, number)
        os.close(descriptor)


def switch_on_with(script: str, arguments: list[str]) -> None:
    """Switch the plugin on in a process that was started as ``python script arguments``."""
    prepare_main(script, arguments)
    switch_on()


def prepare_main(script: str, arguments: list[str]) -> ModuleType:
    """Make this process look as if it had been started as ``python script arguments``."""
    path = os.path.abspath(script)
    module = ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [script, *arguments]
    sys.orig_argv = ["python", *sys.argv]
    sys.path.insert(0, os.path.dirname(path))
    return module


def run_script(script: str) -> None:
    """Run the user's program as the main module."""
    with open(script, encoding="utf-8") as file:
        program = compile(file.read(), os.path.abspath(script), "exec")
    exec(program, sys.modules["__main__"].__dict__)  # noqa: S102 - the test's program


def switch_on() -> None:
    """Load the plugin as at the import of mlflow."""
    from mlflow.tracking.context import registry

    (provider,) = [
        provider
        for provider in registry._run_context_provider_registry
        if type(provider).__name__ == "ReproContextProvider"
    ]
    provider.__init__()


def warm_up(store: str) -> None:
    """What takes a second once in a process: the database's mappings, and what MLflow loads with the first run."""
    import mlflow

    assert "mlflow_repro.recorder" not in sys.modules, "the plugin must be switched off at first"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}")
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "m", 1)
    client.set_terminated(run.info.run_id)


if __name__ == "__main__":
    warm_up(sys.argv[2])
    importlib.import_module("mlflow.projects")
    program = serve(socket.socket(fileno=int(sys.argv[1])))
    if program is not None:
        become(program)
