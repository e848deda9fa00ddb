"""What the processes of one launch know of each other, while it lasts: who belongs to it, and what each began with.

The first process that has the plugin makes a folder, named after itself; a process that it started, at any remove,
finds the folder by asking the system for its ancestors. So nothing is added to the environment of the user's children.
Each process appends one line to a file in there: how it is called, and what it reports of itself. The folder is for its
owner only, bounded in size, and removed with the first process; what a killed one leaves is swept by a later one.

A process has two names. Its *path* is unique: ``0f1e2d3c4b5a6978`` is the first process,
``0f1e2d3c4b5a6978/8796a5b4c3d2e1f0`` another program that it started, ``0f1e2d3c4b5a6978.8796a5b4c3d2e1f0`` a worker of
the same program, forked or made by `multiprocessing`. Its *key* says in which order it came to be, so that a relaunch
can find the process that corresponds to it: ``+fork1``, ``+SpawnPoolWorker-2``, ``/eval.py``. Nothing random follows
from either.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from typing import Any

from mlflow_repro.system.processes import look_at

ABOVE_VARIABLE = "MLFLOW_REPRO_ABOVE"
"""For the processes of a relaunch alone: the tool's own process, where their search for ancestors ends."""

PREFIX = "mlflow-repro-launch-"
SIZE_LIMIT = 16 << 20
"""Bytes of reports of one launch; a process that begins when there are as many is not reported."""
_FILE = "processes.jsonl"
_ID_BYTES = 8
_LONGEST = 1_000  # characters of a path; below that a launch begins anew
_GENERATIONS = 64  # of ancestors that are asked for
_KEY_LIMIT = 500
_MARGIN = 0.01  # seconds: a tick, below which the system does not tell; an interpreter takes as long to begin
_SEPARATORS = re.compile(r"[+/]")


class _Process:
    """Who this process is. A forked child inherits it with the rest of the memory, and makes its own of it."""

    pid = 0
    path = ""
    key = ""
    folder = ""
    """Of the launch; empty when there is none."""
    is_first = False
    forks = 0
    is_hooked = False
    parent = 0
    """Who has asked for this process, where that is not the one that made it, as with a server of forks."""


def process_path() -> str:
    """The path of this process, made at the first call in it and then always the same."""
    _enter()
    return _Process.path


def process_key() -> str:
    """The key of this process; empty for the first one of a launch."""
    _enter()
    return _Process.key


def is_worker() -> bool:
    """True for a process that was made by `multiprocessing` or one that takes after it, by whatever method."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.current_process().name != "MainProcess"


def report_process(facts: dict[str, Any]) -> None:
    """Leave ``facts`` of this process for the others of its launch, if there is room. Raises nothing."""
    _enter()
    if _Process.folder:
        _append({"id": _name_process(os.getpid()), "path": _Process.path, "key": _Process.key, **facts})


def read_reports(offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """What the processes below this one have reported since ``offset``, and the offset to go on from.

    A line that was cut, or that is none of ours, is passed over. Raises nothing.
    """
    _enter()
    reports: list[dict[str, Any]] = []
    content = _read(offset)
    whole = content.rpartition(b"\n")[0]
    for line in whole.splitlines():
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            found = json.loads(line)
            if found["path"].startswith((f"{_Process.path}.", f"{_Process.path}/")):
                reports.append({name: value for name, value in found.items() if name != "id"})
    return reports, offset + len(whole) + bool(whole)


def sweep_launches() -> list[str]:
    """Remove the folders of launches whose first process is gone; their paths. Raises nothing."""
    swept = []
    with contextlib.suppress(OSError):
        start = os.path.basename(_folder_of(""))
        for name in os.listdir(tempfile.gettempdir()):
            if not name.startswith(start):
                continue
            folder = os.path.join(tempfile.gettempdir(), name)
            pid = name.removeprefix(start).partition("-")[0]
            if pid.isdigit() and _folder_of(_name_process(int(pid))) != folder and _is_ours(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
    return swept


def program_start() -> float:
    """When the program began, in seconds since 1970, a moment later than that; 0 when the system does not tell.

    The program of a worker is that of its launch.
    """
    _enter()
    is_work = is_worker() or "." in _Process.path.rpartition("/")[2]
    name = _Process.folder if is_work and _Process.folder else _name_process(os.getpid())
    start = name.rpartition("-")[2]
    try:
        if os.path.exists("/proc/self/stat"):  # in ticks since the system began, on a clock that never jumps
            age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(start) / os.sysconf("SC_CLK_TCK")
            return time.time() - age + _MARGIN
        return int(start) / 100 + _MARGIN  # as `look_at` has it
    except (AttributeError, OSError, ValueError):
        return 0.0


def this_process() -> str:
    """The name of this process for `ABOVE_VARIABLE`."""
    return _name_process(os.getpid())


def _enter() -> None:
    """Find the launch of this process, or begin one; cheap when that is done."""
    if _Process.pid == os.getpid():
        return
    if _Process.pid:  # forked where no hook could say so
        _enter_fork()
        return
    above = _find_above()
    own = os.urandom(_ID_BYTES).hex()
    sign = "." if is_worker() else "/"
    path = above.get("path", "")
    _Process.pid, _Process.forks = os.getpid(), 0
    _Process.path = f"{path}{sign}{own}" if path and len(path) < _LONGEST else own
    _Process.key = f"{above.get('key', '')}{_own_key()}"[-_KEY_LIMIT:] if above else ""
    _Process.is_first = not above
    _Process.folder = above.get("folder", "") or _make_folder()
    if _Process.is_first:
        report_process({})  # its children look for it
    if not _Process.is_hooked and hasattr(os, "register_at_fork"):
        _Process.is_hooked = True
        os.register_at_fork(before=_count_fork, after_in_child=_enter_fork)


def _own_key() -> str:
    if is_worker():
        return f"+{_SEPARATORS.sub('_', sys.modules['multiprocessing.process'].current_process().name)}"
    script = os.path.basename(str(getattr(sys.modules.get("__main__"), "__file__", "") or ""))
    return f"/{_SEPARATORS.sub('_', script)}"


def _count_fork() -> None:
    _Process.forks += 1


def _enter_fork() -> None:
    """In a forked child, which is a worker of the same program."""
    _Process.pid, _Process.parent, _Process.is_first = os.getpid(), 0, False
    _Process.path = f"{_Process.path}.{os.urandom(_ID_BYTES).hex()}"[-_LONGEST:]
    _Process.key = f"{_Process.key}+fork{_Process.forks}"[-_KEY_LIMIT:]
    _Process.forks = 0


def _find_above() -> dict[str, str]:
    """Path, key and folder of the nearest ancestor that has the plugin, empty when there is none."""
    end = os.environ.get(ABOVE_VARIABLE, "")
    chain: list[str] = []
    pid = _parent_of(os.getpid())
    while pid > 1 and len(chain) < _GENERATIONS:
        name = _name_process(pid)
        if not name or name == end:
            break
        chain.append(name)
        folder = _folder_of(name)
        if _is_ours(folder):
            return _find_nearest(folder, chain)
        pid = _parent_of(pid)
    return {}


def _find_nearest(folder: str, chain: list[str]) -> dict[str, str]:
    """The nearest of the processes ``chain`` that has a line in ``folder``."""
    with contextlib.suppress(OSError), open(os.path.join(folder, _FILE), "rb") as file:
        content = file.read(2 * SIZE_LIMIT)
        for name in chain:
            start = content.rfind(f'{{"id": "{name}"'.encode())
            if start >= 0:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    found = json.loads(content[start:].partition(b"\n")[0])
                    return {"path": str(found["path"]), "key": str(found["key"]), "folder": folder}
    return {}


def _make_folder() -> str:
    """The folder of the launch that begins with this process; empty where none can be made."""
    with contextlib.suppress(OSError):
        folder = _folder_of(_name_process(os.getpid()))
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if _is_ours(folder):
            atexit.register(_remove, folder, os.getpid())
            return folder
    return ""


def _remove(folder: str, pid: int) -> None:
    if pid == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


def _is_ours(folder: str) -> bool:
    """True for a folder that only this user could have made and can look into."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _append(line: dict[str, Any]) -> None:
    """Append a line by one write, which no other process can come between."""
    with contextlib.suppress(OSError, ValueError):
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(os.path.join(_Process.folder, _FILE), flags, 0o600)
        try:
            if os.fstat(descriptor).st_size < SIZE_LIMIT:
                os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)


def _read(offset: int) -> bytes:
    with contextlib.suppress(OSError), open(os.path.join(_Process.folder, _FILE), "rb") as file:
        file.seek(offset)
        return file.read(2 * SIZE_LIMIT)
    return b""


def _folder_of(name: str) -> str:
    """Where the launch that begins with the process ``name`` has its folder."""
    return os.path.join(tempfile.gettempdir(), f"{PREFIX}{os.geteuid()}-{_name_host()}-{name}")


def _name_host() -> str:
    """This machine since its start, and the container: a process's number is its own only in there."""
    words = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        with contextlib.suppress(OSError):
            if path.endswith("pid"):
                words.append(os.readlink(path))
            else:
                with open(path, encoding="ascii") as file:
                    words.append(file.read())
    return hashlib.sha256("".join(words).encode()).hexdigest()[:8]


def _name_process(pid: int) -> str:
    """Number and start of a process, which no other has; empty when it is not there."""
    found = look_at(pid)
    return f"{pid}-{found.start}" if found else ""


def _parent_of(pid: int) -> int:
    if pid == os.getpid():
        return _Process.parent or os.getppid()
    found = look_at(pid)
    return found.parent if found else 0
