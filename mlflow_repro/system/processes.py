"""Processes of this machine: who started which, and how a whole tree of them is ended.

A process is known by its number and its start: the system gives the number to another one later. A tree is what a
process has started, at any remove, and what is in the session that one of them leads: a process whose parent has died
belongs to nobody, but it stays in its session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable, Sequence

_POLL_SECONDS = 0.05
_DEATH_SECONDS = 5.0  # for a killed process to be gone; one that waits for a dead file server never is
_STOPPING_ROUNDS = 20  # looks in which something new was found


class Process(NamedTuple):
    """A process as it was when it was looked at."""

    number: int
    start: str
    parent: int
    session: int
    is_over: bool
    """True when only its exit code is left, which its parent has not asked for."""

    @property
    def name(self) -> tuple[int, str]:
        """What no other process has."""
        return self.number, self.start


def look_at(number: int) -> Process | None:
    """The process with this number; None when there is none, or it may not be looked at."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        with open(f"/proc/{number}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()  # the name before it may hold anything
        state, parent, session, start = words[0], int(words[1]), int(words[3]), words[19].decode("ascii")
        return Process(number, start, parent, session, state in (b"Z", b"X"))
    if not os.path.exists("/proc/self/stat"):
        with contextlib.suppress(Exception):
            return _ask_psutil(number)
    return None


def _ask_psutil(number: int) -> Process:
    """As other systems tell it."""
    import psutil

    process = psutil.Process(number)
    start = f"{process.create_time():.2f}".replace(".", "")
    return Process(number, start, process.ppid(), os.getsid(number), process.status() == psutil.STATUS_ZOMBIE)


def list_processes() -> dict[int, Process]:
    """All processes that may be looked at, by their numbers."""
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:  # another system's
        import psutil

        numbers = psutil.pids()
    return {number: found for number in numbers if (found := look_at(number)) is not None}


def send_signal(process: Process, number: int) -> bool:
    """Send a signal; False when the process is gone, another one has its number, or it is not ours to signal."""
    found = look_at(process.number)
    if found is None or found.start != process.start:
        return False
    try:
        os.kill(process.number, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


class ProcessTree:
    """A process and what it has started. Make it while the process is certainly there: its start is noted then."""

    def __init__(self, number: int) -> None:
        """``number`` is that of the process at the root."""
        self._root = number
        self._known: dict[tuple[int, str], Process] = {}
        root = look_at(number)
        if root is not None:
            self._known[root.name] = root

    def find(self) -> list[Process]:
        """Those of the tree that run now, its root included."""
        now = list_processes()
        found: dict[tuple[int, str], Process] = {}
        while True:
            mine = {one.number for one in self._known.values() if _is_same(one, now.get(one.number))}
            sessions = {one.session for one in self._known.values() if _leads(one, now.get(one.number))}
            new = {
                one.name: one
                for one in now.values()
                if one.name not in self._known and (one.parent in mine or one.session in sessions)
            }
            if not new:
                break
            self._known |= new
        found = {name: now[name[0]] for name in self._known if _is_same(self._known[name], now.get(name[0]))}
        return [one for one in found.values() if not one.is_over]

    def end(self, *, grace: float = 0.0, spares_root: bool = False) -> None:
        """SIGTERM to all; SIGKILL to what is left after ``grace`` seconds, and to what was started meanwhile.

        Without a grace it is SIGKILL at once. ``spares_root`` ends only what the root has started. Processes of other
        users are left, and not waited for. Raises nothing. Whoever has started the root still asks for its exit code.
        """
        spared = self._root if spares_root else 0
        if grace > 0:
            self._end_politely(grace, spared)
        deadline = time.monotonic() + _DEATH_SECONDS
        while self._list_ours(spared) and time.monotonic() < deadline:
            _signal_all(self._stop(spared), signal.SIGKILL)
            time.sleep(_POLL_SECONDS / 10)

    def _end_politely(self, grace: float, spared: int) -> None:
        """Wait also for those that come meanwhile: a program may clear up with them."""
        deadline = time.monotonic() + grace
        _signal_all(self._list_ours(spared), signal.SIGTERM)
        while self._list_ours(spared) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _stop(self, spared: int) -> list[Process]:
        """Stop all, so that none can start another while they are killed one after the other."""
        stopped: list[Process] = []
        for _ in range(_STOPPING_ROUNDS):
            names = {one.name for one in stopped}
            new = _signal_all([one for one in self._list_ours(spared) if one.name not in names], signal.SIGSTOP)
            if not new:
                break
            stopped += new
        return stopped

    def _list_ours(self, spared: int) -> list[Process]:
        return [one for one in self.find() if one.number != spared and _is_ours(one)]


def run_whole(
    command: Sequence[str], *, timeout: float | None = None, text: str = "", **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program that is told ``text``, and keep what it prints. Other ``options`` are those of `subprocess.Popen`.

    When it takes too long, or we are interrupted, what it has started ends with it. Raises OSError and
    `subprocess.TimeoutExpired`.
    """
    import subprocess

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {"encoding": "utf-8", "errors": "replace", **pipes, **options}
    with subprocess.Popen(command, **options) as process:
        tree = ProcessTree(process.pid)
        try:
            output, words = process.communicate(text, timeout=timeout)
        except BaseException:
            tree.end()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output, words)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was started with a group of its own, and the helpers in it. Quick: it looks at no other."""
    if process.returncode is None:  # else its number may be another's
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _signal_all(processes: Iterable[Process], number: int) -> list[Process]:
    """Those that got the signal."""
    return [one for one in processes if send_signal(one, number)]


def _is_ours(process: Process) -> bool:
    try:
        os.kill(process.number, 0)
    except PermissionError:
        return False
    except ProcessLookupError:  # it has ended meanwhile, perhaps after it has started another: look again
        pass
    return True


def _is_same(known: Process, found: Process | None) -> bool:
    return found is not None and found.start == known.start


def _leads(known: Process, found: Process | None) -> bool:
    """Whether a process leads its session, or did before it ended.

    A number is given to no other process as long as a session has it. So one that has it now, and is another, says
    that the session is gone.
    """
    return known.session == known.number and (found is None or found.start == known.start)
