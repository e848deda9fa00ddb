"""A process that has imported mlflow, and forks into the programs that tests start: the import takes seconds.

`Preloaded` is the tests' side, `Server` the process. A folder holds a `python` for the front of PATH, which takes less
than a tenth of a second: it has the process fork, gives its arguments, folder, environment and standard streams to the
fork, passes signals on, and ends as that ends. In the fork the plugin, which was loaded through its entry point and
switched off, is switched on by the first ``import mlflow``, as a real one would be. What such a fork cannot be (options
of the interpreter, variables that are read when Python or a library starts) is started as a real process.
Where it matters how a process begins, tests have the mark ``real_processes``.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import json
import os
import random
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import process as multiprocessing_process
from types import ModuleType
from typing import Any

from mlflow_repro.system import spool

_DESCRIPTORS = 16  # at most for one program
_SIZE = 8  # bytes that say how long a request is
_REAL = b"real\n"
# Variables that a fork can still heed; others that Python or a library reads at its start ask for a real process.
_HEEDED = ("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "TZ", "MLFLOW_REPRO_SEED")
_AT_START = ("PYTHON", "MLFLOW_LOGGING_LEVEL", "MLFLOW_CONFIGURE_LOGGING")

SHIM = f"""\
#!{sys.executable} -ISE
import json, os, signal, socket, sys

def become_real():
    os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])

def pass_on(number, _):
    connection.send(bytes([number]))

words = sys.argv[1:]
if not (len(words) > 1 and words[0] == "-m" or words and words[0][:1] != "-" and os.path.isfile(words[0])):
    become_real()
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "socket"))
asked = {{"arguments": words, "cwd": os.getcwd(), "env": dict(os.environ), "fds": [0, 1, 2], "pid": os.getpid()}}
request = json.dumps(asked).encode()
socket.send_fds(connection, [len(request).to_bytes({_SIZE}, "big")], [0, 1, 2])
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, pass_on)
connection.sendall(request)
answers = connection.makefile("rb")
if answers.readline() == {_REAL!r}:
    become_real()
code = int(answers.readline() or 1)
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Preloaded:
    """Starts programs in forks of a process that is made with the first of them."""

    def __init__(self, store: str) -> None:
        """``store`` is a SQLite file that may be written to."""
        self._store = store
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._root = ""

    def folder(self) -> str:
        """The folder with the quick ``python``."""
        with self._lock:
            if self._process is None:
                self._begin()
        return os.path.join(self._root, "bin")

    def connect(self) -> socket.socket:
        self.folder()
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.path.join(self._root, "socket"))
        return connection

    def close(self) -> None:
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait(20)
            shutil.rmtree(self._root)

    def _begin(self) -> None:
        self._root = tempfile.mkdtemp()  # a short path: that of a socket is limited
        os.mkdir(os.path.join(self._root, "bin"))
        shim = os.path.join(self._root, "bin", "python")
        with open(shim, "w", encoding="utf-8") as file:
            file.write(SHIM)
        os.chmod(shim, 0o700)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.join(self._root, "socket"))
            listener.listen(64)  # from now on whoever asks waits until the process is ready
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), self._store],
                env={**os.environ, "MLFLOW_REPRO_DISABLE": "1"},
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )


class Program:
    """What `subprocess.Popen` is for a program that was started in a fork, whatever its environment says."""

    def __init__(
        self, preloaded: Preloaded, arguments: list[str], *, cwd: str, env: dict[str, str], fds: dict[int, int]
    ) -> None:
        """``fds`` are descriptors of this process by those of the program."""
        self.args = arguments
        self.stdout: io.RawIOBase | None = None
        self.returncode: int | None = None
        self._connection = preloaded.connect()
        asked = {
            "arguments": arguments,
            "cwd": cwd,
            "env": env,
            "fds": list(fds),
            "pid": os.getpid(),
            "is_always_forked": True,
        }
        request = json.dumps(asked).encode()
        socket.send_fds(self._connection, [len(request).to_bytes(_SIZE, "big")], list(fds.values()))
        self._connection.sendall(request)
        self._answers = self._connection.makefile("rb")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = int(self._answers.readline())
            self._connection.close()
        return self.returncode

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
                os.kill(self.pid, signal.SIGKILL)


def start_worker(preloaded: Preloaded, is_quick: bool, command: list[str], **options: Any) -> Program:  # noqa: FBT001
    """As `subprocess.Popen(command, **options)` for the process that launches a run.

    With ``is_quick`` the training that it starts is a fork, too.
    """
    assert command[:3] == [sys.executable, "-m", "mlflow_repro.launch.worker"], command
    assert options["start_new_session"]
    environment = dict(options["env"])
    if is_quick:
        environment["PATH"] = os.pathsep.join([preloaded.folder(), environment["PATH"]])
    read, write = os.pipe()
    with open(os.devnull, "rb") as nothing:
        fds = {0: nothing.fileno(), 1: write, 2: write, **{number: number for number in options["pass_fds"]}}
        program = Program(preloaded, command[1:], cwd=str(options["cwd"]), env=environment, fds=fds)
    os.close(write)
    program.stdout = os.fdopen(read, "rb", buffering=0)
    return program


class Server:
    """Answers until the tests are through."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._callers: dict[int, socket.socket] = {}
        self._awake, self._wake = os.pipe()  # a byte for each child that has ended
        for descriptor in self._awake, self._wake:
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)

    def serve(self) -> dict[str, Any] | None:
        """In each fork, the program that it is to be."""
        tests = sys.stdin.buffer.fileno()
        while True:
            ready, _, _ = select.select([tests, self._awake, self._listener, *self._callers.values()], [], [])
            if tests in ready:
                for child in self._callers:
                    end_group(child)
                return None
            if self._awake in ready:
                os.read(self._awake, 4096)
            for child, caller in list(self._callers.items()):
                if caller in ready and not pass_signals(child, caller):
                    end_group(child)
                    self._callers.pop(child).close()
            self._tell_ended()
            if self._listener in ready:
                asked = self._accept()
                if asked is not None:
                    return asked

    def _tell_ended(self) -> None:
        for child, status in ended_children():
            if child in self._callers:
                with self._callers.pop(child) as caller, contextlib.suppress(OSError):
                    caller.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))

    def _accept(self) -> dict[str, Any] | None:
        """Fork; what is asked for in the child, None in this process."""
        caller, _ = self._listener.accept()
        asked = receive(caller)
        can_be = asked.get("is_always_forked") or ("env" in asked and can_be_forked(asked["env"]))
        child = os.fork() if can_be else -1
        if child == 0:
            self._leave(caller)
            return asked
        for descriptor in asked["mine"]:
            os.close(descriptor)
        if can_be:
            self._callers[child] = caller
        with contextlib.suppress(OSError):  # it is gone: what it asked for is ended when that is read
            caller.sendall(b"%d\n" % child if can_be else _REAL)
        if not can_be:
            caller.close()
        return None

    def _leave(self, caller: socket.socket) -> None:
        """In a child: keep nothing of the server's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        for inherited in (self._listener, caller, *self._callers.values()):
            inherited.close()
        for descriptor in self._awake, self._wake:
            os.close(descriptor)


def receive(caller: socket.socket) -> dict[str, Any]:
    """What is asked for, with its descriptors here as ``mine``, and nothing else when the caller is gone."""
    head, descriptors, _, _ = socket.recv_fds(caller, _SIZE, _DESCRIPTORS)
    size, request = int.from_bytes(head, "big"), b""
    while len(request) < size and (part := caller.recv(size - len(request))):
        request += part
    asked = json.loads(request) if size and len(request) == size else {}
    return {**asked, "mine": descriptors}


def can_be_forked(environment: dict[str, str]) -> bool:
    """Whether a program with this environment would begin as this process did."""
    from mlflow_repro.text.variables import is_recorded

    return not any(
        (is_recorded(name) or name.startswith(_AT_START)) and environment.get(name) != os.environ.get(name)
        for name in {*environment, *os.environ}.difference(_HEEDED)
    )


def pass_signals(child: int, caller: socket.socket) -> bool:
    """Send the child what its caller was sent; False when the caller is gone."""
    try:
        numbers = caller.recv(64)
    except OSError:
        return False
    for number in numbers:
        os.kill(child, number)  # not yet waited for, so it is there
    return bool(numbers)


def end_group(child: int) -> None:
    for end in os.kill, os.killpg:  # it may not have made its group yet
        with contextlib.suppress(ProcessLookupError):
            end(child, signal.SIGKILL)


def ended_children() -> list[tuple[int, int]]:
    found = []
    with contextlib.suppress(ChildProcessError):
        while (pair := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(pair)
    return found


def become(asked: dict[str, Any], path: list[str]) -> None:
    """Be the program that was asked for; ``path`` is what every program imports from."""
    import numpy as np

    from mlflow_repro.system.beginning import remember_beginning

    place_descriptors(dict(zip(asked["fds"], asked["mine"], strict=True)))
    os.environ.clear()
    os.environ.update(asked["env"])
    remember_beginning(asked["env"])
    time.tzset()
    os.chdir(asked["cwd"])
    multiprocessing_process.ORIGINAL_DIR = os.getcwd()
    reopen_streams()
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:] = [*filter(None, asked["env"].get("PYTHONPATH", "").split(os.pathsep)), *path]
    # Every fork has the generators of this process in the same state.
    random.seed()
    np.random.seed()
    spool._Process.parent = asked["pid"]
    switch_on_at_import()
    script, *arguments = asked["arguments"]
    if script != "-m":
        prepare_main(script, arguments)
        run_script(script)
        return
    prepare_main("-m", arguments[1:])
    sys.orig_argv = ["python", *asked["arguments"]]
    sys.path[0] = os.getcwd()
    run_as_main(lambda: runpy._run_module_as_main(arguments[0]))


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


def reopen_streams() -> None:
    """Give the program standard streams of its own, buffered as it asks."""
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        mode = "wb" if number else "rb"
        raw = open(number, mode, buffering=0 if number and is_unbuffered else -1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            raw,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=(number == 2 or os.isatty(number)) and not is_unbuffered,
            write_through=bool(number) and is_unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def prepare_main(script: str, arguments: list[str]) -> ModuleType:
    """Make this process look as if it had been started as ``python script arguments``."""
    path = os.path.abspath(script)
    module = ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    sys.argv = [script, *arguments]
    sys.orig_argv = ["python", *sys.argv]
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    return module


def run_script(script: str) -> None:
    """Run the user's program as the main module."""
    with open(script, "rb") as file:
        program = compile(file.read(), os.path.abspath(script), "exec", dont_inherit=True)
    run_as_main(lambda: exec(program, sys.modules["__main__"].__dict__))  # noqa: S102 - the test's program


def run_as_main(run: Any) -> None:
    """Run it; an exception that nobody catches is shown with the program's own lines alone."""
    try:
        run()
    except Exception as error:  # noqa: BLE001 - as the interpreter does
        trace = error.__traceback__.tb_next.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


def switch_on_at_import() -> None:
    """Have the plugin switched on by the program's first ``import mlflow``, when it would be loaded."""
    original = builtins.__import__

    def watch(name: str, *arguments: Any, **named: Any) -> ModuleType:
        if name == "mlflow" or name.startswith("mlflow."):
            builtins.__import__ = original
            switch_on()
        return original(name, *arguments, **named)

    builtins.__import__ = watch


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

    assert "mlflow_repro.guest.hooks" not in sys.modules, "the plugin must be switched off at first"
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}")
    run = client.create_run("0")
    client.log_metric(run.info.run_id, "m", 1)
    client.set_terminated(run.info.run_id)


if __name__ == "__main__":
    warm_up(sys.argv[2])
    # What MLflow and the plugin load when a run starts: half a second each time.
    for name in ("git", "IPython.core.interactiveshell", "mlflow.projects", "mlflow_repro.guest.writer",
                 "mlflow_repro.store.loopback", "mlflow_repro.text.redact", "mlflow_repro.text.variables"):  # fmt: skip
        with contextlib.suppress(ModuleNotFoundError):  # IPython is an extra's
            importlib.import_module(name)
    # Less this file's own folder and what the tests' own PYTHONPATH says.
    own = [os.path.dirname(os.path.abspath(__file__)), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    common = [folder for folder in sys.path if folder not in own]
    program = Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if program is not None:
        become(program, common)
