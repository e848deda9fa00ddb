"""Do work off the caller's thread, in order, and wait for it a bounded time when the program ends."""

from __future__ import annotations

import atexit
import builtins
import os
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

_GRACE_SECONDS = 0.05  # by then MLflow has returned to the user's code, or he has started the next run
_LATEST_SECONDS = 1.0  # so much may a killed program lose of what it had submitted
_FORK_SECONDS = 2.0  # the most that a fork waits for a piece of work; a local store needs milliseconds


class Background:
    """Runs one piece of work after another, on a thread that lives as long as there is work.

    There is no thread while there is no work: a program that forks is warned about every thread that is alive, and a
    child has none of its parent's. The thread is a daemon, so work that hangs (a tracking server that is gone) does
    not keep the program from ending: ``exit_seconds`` is the most that its end is delayed.

    Work begins when for a moment nothing was submitted, or a second after it was, unless somebody waits for it: whoever
    submits is in the middle of starting or ending a run, the end of one is often followed by the start of another,
    and a second thread would take the interpreter from him for milliseconds at a time.
    """

    def __init__(self, *, on_error: Callable[[BaseException], None]) -> None:
        self.exit_seconds = 0.0
        self._on_error = on_error
        self._is_forked = False
        self._guard = ForkGuard()
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()
        self._last_submission = 0.0
        self._thread: threading.Thread | None = None
        self._is_busy = False
        self._hurry = threading.Event()
        self._turn = threading.RLock()  # work that is done at once may submit more
        atexit.register(self._join_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def hold_forks(self) -> AbstractContextManager[None]:
        """While it lasts, a fork of this process waits: see `ForkGuard`."""
        return self._guard.hold()

    def submit(self, work: Callable[[], None]) -> None:
        """Do ``work`` after everything that was submitted before. Its errors go to ``on_error``."""
        self._last_submission = time.monotonic()
        self._queue.append((self._last_submission, work))
        self._see_to_it()

    def join(self, seconds: float) -> bool:
        """Wait until everything is done, for ``seconds`` at the most; True when it is."""
        if self._queue:
            self._see_to_it()
        thread = self._thread
        if thread is not None and thread.is_alive():
            self._hurry.set()
            thread.join(seconds)
        return not (self._queue or self._is_busy)

    def _see_to_it(self) -> None:
        """Have a thread that does the work. No lock is held here: Ctrl-C between two lines would leave it taken."""
        thread = self._thread
        if thread is not None and thread.is_alive():
            return
        thread = self._thread = threading.Thread(target=self._drain, name="mlflow-repro", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            self._hurry.set()
            self._drain()

    def _drain(self) -> None:
        """Do all work there is, the oldest first; a second thread waits for its turn, and finds nothing left."""
        with self._turn:
            self._is_busy = True
            try:
                while self._queue or not self._leave():
                    submitted, work = self._queue.popleft()
                    self._wait_for_quiet(submitted + _LATEST_SECONDS)
                    try:
                        work()
                    except BaseException as error:  # noqa: BLE001 - the thread's only witness is this call
                        with suppress(Exception):  # nor may the witness stop the work that follows
                            self._on_error(error)
            finally:
                self._is_busy = False

    def _wait_for_quiet(self, latest: float) -> None:
        """Wait until nothing was submitted for a moment, until the time ``latest``, or until somebody waits for us."""
        while (left := min(self._last_submission + _GRACE_SECONDS, latest) - time.monotonic()) > 0:
            if self._hurry.wait(left):
                return

    def _leave(self) -> bool:
        """Let whoever submits from here on start another thread; False when somebody did submit just before."""
        self._thread = None
        if self._queue:
            return False
        self._hurry.clear()
        return True

    def _join_at_exit(self) -> None:
        # Another exit handler, MLflow's that ends an open run, may have submitted work while this one was running.
        deadline = time.monotonic() + self.exit_seconds
        while not self.join(max(0.0, deadline - time.monotonic())) and time.monotonic() < deadline:
            pass
        _stay_interrupted()

    @property
    def is_left_abruptly(self) -> bool:
        """True when this process ends without exit handlers, as a fork and every worker of `multiprocessing` do."""
        process = sys.modules.get("multiprocessing.process")
        return self._is_forked or (process is not None and process.parent_process() is not None)

    def _forget(self) -> None:
        self._is_forked = True
        self._queue.clear()
        self._thread = None
        self._is_busy = False
        self._hurry = threading.Event()
        self._turn = threading.RLock()  # work that is done at once may submit more


def _stay_interrupted() -> None:
    """Let a program that an interrupt has ended end by that signal, as it would without us.

    Python forgets that a KeyboardInterrupt was its end when it next executes a text, as the making of a dataclass in a
    module that is loaded only now does (``run_eval_code_obj`` in CPython's ``pythonrun.c``); and so it is reminded.
    """
    is_script = not hasattr(sys, "ps1") and not hasattr(builtins, "get_ipython")
    if is_script and getattr(sys, "last_type", None) is KeyboardInterrupt:
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - a text of ours


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
