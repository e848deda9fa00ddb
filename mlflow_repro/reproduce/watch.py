"""Follow a run while it goes on: its metrics beside the reference's, and where they first leave the tolerance.

The store is read on a thread of its own, by what is new since the last time, and rested from between: a watch takes
at most a twentieth of the time. Whatever goes wrong here, the run goes on without being watched.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.live import find_divergence
from mlflow_repro.judging.histories import open_histories
from mlflow_repro.values.progress import Arrival, Divergence

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from mlflow_repro.compare.histories import Points
    from mlflow_repro.store.histories import HistoryReader
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run

_PAUSE_SECONDS = 1.0
_PAUSE_SHARE = 20  # a pause is at least this many times as long as the look before it
_LONGEST_PAUSE = 60.0
_BEGINNING = -(2**63)
_PATIENCE = 5.0  # seconds that are waited for the last look when the run has ended


class Watch:
    """A context in which a run is followed. ``tell`` gets the latest points whenever there are new ones."""

    def __init__(
        self,
        reference: Run,
        store: TrackingStore,
        rules: Rules,
        *,
        find_run: Callable[[], str],
        tell: Callable[[tuple[Arrival, ...]], None],
    ) -> None:
        """``find_run`` gives the id of the run that is judged, empty as long as it is not there."""
        self.divergence: Divergence | None = None
        self.run_id = ""
        self._reference, self._store, self._rules = reference, store, rules
        self._find_run, self._tell = find_run, tell
        self._started = time.monotonic()
        self._seen: dict[str, int] = {}
        self._points: dict[str, int] = {}
        self._arrivals: dict[str, Arrival] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow-repro-watch", daemon=True)

    def __enter__(self) -> Watch:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(_PATIENCE)

    @property
    def has_diverged(self) -> bool:
        """True from the moment on at which a judged metric has left the tolerance."""
        return self.divergence is not None

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._started

    def _follow(self) -> None:
        pause, reader = _PAUSE_SECONDS, None
        with ExitStack() as stack:
            while not self._is_over.wait(pause):
                began = time.monotonic()
                try:
                    reader = reader or stack.enter_context(open_histories(self._store))
                    self._look(reader)
                except Exception:  # noqa: BLE001 - the store may be busy or gone for a moment; the run goes on
                    began -= _PAUSE_SECONDS
                pause = min(max(_PAUSE_SECONDS, _PAUSE_SHARE * (time.monotonic() - began)), _LONGEST_PAUSE)

    def _look(self, reader: HistoryReader) -> None:
        """Read what is new, and say it."""
        self.run_id = self.run_id or self._find_run()
        if not self.run_id:
            return
        latest = reader.read_latest(self.run_id)
        moved = {
            name: point
            for name, point in latest.items()
            if point[0] > self._seen.get(name, _BEGINNING) and not self._rules.why_ignored(name)
        }
        for name, (step, value) in sorted(moved.items()):
            if self._is_over.is_set():
                return
            self._take(reader, name, step, value)
        if moved:
            self._tell(tuple(self._arrivals.values()))

    def _take(self, reader: HistoryReader, name: str, step: int, value: float) -> None:
        """Compare the new points of a metric, up to ``step``, where its last one is."""
        arrival = Arrival(name=name, step=step, value=value)
        if name in self._reference.metrics:
            low = self._seen.get(name, _BEGINNING) + 1
            there = reader.read_range(self.run_id, name, low, step)
            if len(there[0]):
                step, arrival = _last_point(name, there)
            here = reader.read_range(self._reference.run_id, name, low, step)
            found = find_divergence(name, here, there, self._rules.tolerances_of(name), open_step=step)
            before = self._points.get(name, 0)
            self._points[name] = before + len(there[0])
            if found is not None and self.divergence is None:
                self.divergence = replace(found, points=before + found.points, elapsed=self.elapsed)
            at_step = here[1][here[0] == step]
            if len(at_step):
                arrival = replace(arrival, reference=float(at_step[-1]))
            if len(at_step) > 1:  # more points of this step may come, so it is read again
                self._points[name] -= int((there[0] == step).sum())
                step -= 1
        self._seen[name] = step
        self._arrivals.pop(name, None)  # what moved last comes last
        self._arrivals[name] = arrival


def _last_point(name: str, points: Points) -> tuple[int, Arrival]:
    step = int(points[0][-1])
    return step, Arrival(name=name, step=step, value=float(points[1][-1]))
