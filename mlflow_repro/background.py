"""Do work off the caller's thread, in order, and wait for it a bounded time when the program ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_FORK_SECONDS = 2.0  # the most that a fork waits for a piece of work; a local store needs milliseconds


class Background:
    """Runs one piece of work after another, each on a short-lived thread.

    There is no thread while there is no work: a program that forks is warned about every thread that is alive, and a
    child has none of its parent's. The threads are daemons, so work that hangs (a tracking server that is gone) does
    not keep the program from ending: ``exit_seconds`` is the most that its end is delayed.
    """

    def __init__(self, *, on_error: Callable[[BaseException], None]) -> None:
        self.exit_seconds = 0.0
        self._on_error = on_error
        self._is_forked = False
        self._last: threading.Thread | None = None
        self._lock = threading.Lock()
        self._guard = ForkGuard()
        atexit.register(self._join_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def hold_forks(self) -> AbstractContextManager[None]:
        """While it lasts, a fork of this process waits: see `ForkGuard`."""
        return self._guard.hold()

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work`` after everything that was submitted before. Its errors go to ``on_error``."""
        with self._lock:
            before = self._last
            thread = threading.Thread(target=self._run, args=(before, work), name="mlflow-repro", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down and starts no more threads
                is_started = False
            else:
                is_started, self._last = True, thread
        if not is_started:
            self._run(before, work)

    def join(self, seconds: float) -> bool:
        """Wait until everything is done, for ``seconds`` at the most; True when it is."""
        last = self._last
        if last is not None:
            last.join(seconds)
        return last is None or not last.is_alive()

    def _run(self, before: threading.Thread | None, work: Callable[[], None]) -> None:
        if before is not None:
            before.join()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the thread's only witness is this call
            self._on_error(error)

    def _join_at_exit(self) -> None:
        # Another exit handler, MLflow's that ends an open run, may have submitted work while this one was running.
        deadline = time.monotonic() + self.exit_seconds
        while not self.join(max(0.0, deadline - time.monotonic())) and time.monotonic() < deadline:
            pass

    @property
    def is_left_abruptly(self) -> bool:
        """True when this process ends without exit handlers, as a fork and every worker of `multiprocessing` do."""
        process = sys.modules.get("multiprocessing.process")
        return self._is_forked or (process is not None and process.parent_process() is not None)

    def _forget(self) -> None:
        self._is_forked = True
        self._last = None
        self._lock = threading.Lock()


class ForkGuard:
    """Keeps a fork waiting, for a bounded time, while a thread of ours talks to the tracking store.

    A child inherits memory and no threads. SQLite in the child would take a transaction that our thread had begun
    for one that goes on, and refuse the child's own for ever; a lock of an HTTP pool would stay taken likewise.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before, after_in_parent=self._after, after_in_child=self._renew)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Let no fork happen inside."""
        with self._lock:
            try:
                yield
            finally:
                self._is_stuck = False

    def _before(self) -> None:
        # A store that hangs delays one fork, not each of them.
        is_held = self._lock.acquire(timeout=0.0 if self._is_stuck else _FORK_SECONDS)
        self._is_stuck = not is_held
        self._forking.is_held = is_held

    def _after(self) -> None:
        if getattr(self._forking, "is_held", False):
            self._forking.is_held = False
            self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()  # our own thread may fork
        self._forking = threading.local()
        self._is_stuck = False
