"""Show on standard error what is being done: what the child prints, and a line that tells how far it is.

On a terminal that line stays at the bottom (by rich, imported only then); elsewhere it is printed now and then.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from contextlib import AbstractContextManager, suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING

from mlflow_repro.commands.output import disarm, print_note, wants_colour
from mlflow_repro.text.redact import show
from mlflow_repro.values.progress import DONE, RUNNING, Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_repro.values.progress import Arrival

_CONTROL_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_LAUNCH_REMARK = " INFO mlflow.projects"
_SHOWN = 3  # metrics that the line has room for, the last that moved
_PAUSES = (10.0, 20.0, 30.0, 60.0)  # seconds before each line of a log; the last is kept


class Display(AbstractContextManager["Display"]):
    """What is shown of one command: nothing. A context, so that a terminal is left as it was."""

    def line(self, text: str) -> None:
        """Show a line of the child's output."""

    def tell(self, moment: Moment) -> None:
        """Show what is being done now."""

    def __exit__(self, *_: object) -> None:
        """There is nothing to put back."""


class LineDisplay(Display):
    """Lines only, for a log: the child's at once, how far it is after ten seconds, and then less and less often."""

    def __init__(
        self,
        write: Callable[[str], None],
        *,
        pauses: Sequence[float] = _PAUSES,
        is_verbose: bool = False,
    ) -> None:
        self._write, self._pauses, self._is_verbose = write, pauses, is_verbose
        self._moments = _Moments()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._report, name="mlflow-repro-progress", daemon=True)

    def __enter__(self) -> LineDisplay:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(1.0)

    def line(self, text: str) -> None:
        """As of `Display`."""
        if self._is_verbose or _LAUNCH_REMARK not in text:
            self._say(f"  | {clean_line(text)}")

    def tell(self, moment: Moment) -> None:
        """As of `Display`."""
        self._moments.take(moment)

    def _report(self) -> None:
        for pause in chain(self._pauses, repeat(self._pauses[-1])):
            if self._is_over.wait(pause):
                return
            text = self._moments.describe()
            if text:
                self._say(f"progress: {text}")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # whoever read it has gone: the reproduction goes on
            self._write(text)


class LiveDisplay(Display):
    """The child's lines scroll, and below them one line says how far it is."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn
        from rich.table import Column

        self._is_verbose = is_verbose
        self._moments = _Moments()
        # No markup: names of metrics and lines of the child are text, whatever is in them.
        self._console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        column = TextColumn(
            "{task.fields[show]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        )
        self._progress = Progress(SpinnerColumn("line"), column, console=self._console, transient=True, expand=True)

    def __enter__(self) -> LiveDisplay:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        self._progress.start()
        self._progress.add_task("", total=None, show=_Late(self._moments.describe))
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def line(self, text: str) -> None:
        """As of `Display`."""
        if self._is_verbose or _LAUNCH_REMARK not in text:
            with suppress(OSError, ValueError):  # as of `LineDisplay`
                self._console.print(disarm(f"  | {clean_line(text)}"), soft_wrap=True)

    def tell(self, moment: Moment) -> None:
        """As of `Display`."""
        self._moments.take(moment)


class _Late:
    """Text that is made at the moment when it is formatted."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make

    def __format__(self, _: str) -> str:
        return disarm(self._make())


class _Moments:
    """What is being done now, by the number of the repeat, and when that began."""

    def __init__(self) -> None:
        self._now: dict[int, tuple[Moment, float]] = {}
        self._done = 0
        self._lock = threading.Lock()  # several repeats and their watches speak at once

    def take(self, moment: Moment) -> None:
        with self._lock:
            before = self._now.pop(moment.repeat, None)
            if moment.phase == DONE:
                self._done += 1
                return
            is_same = before is not None and before[0].phase == moment.phase
            self._now[moment.repeat] = moment, before[1] if before is not None and is_same else time.monotonic()

    def describe(self) -> str:
        with self._lock:
            now = list(self._now.values())
        parts = [describe_moment(moment, time.monotonic() - since) for moment, since in now]
        if self._done:
            parts.insert(0, f"{self._done} done")
        return " | ".join(parts)


def open_display(*, is_quiet: bool, is_verbose: bool) -> Display:
    """The display that fits where standard error goes; a quiet one shows nothing."""
    if is_quiet:
        return Display()
    if sys.stderr.isatty() and wants_colour(sys.stderr):
        return LiveDisplay(is_verbose=is_verbose)
    return LineDisplay(print_note, is_verbose=is_verbose)


def describe_moment(moment: Moment, elapsed: float) -> str:
    """One line: what is being done, for how long, how long the reference took, and the metrics that moved last."""
    text = moment.phase
    if moment.repeat:
        text = f"repeat {moment.repeat} of {moment.repeats}, {text}"
    text += f" for {_duration(elapsed)}"
    if moment.phase == RUNNING and moment.expected:
        text += f", the reference took {_duration(moment.expected)}"
    shown = moment.arrivals[-_SHOWN:]
    more = len(moment.arrivals) - len(shown)
    parts = [_describe_arrival(arrival) for arrival in reversed(shown)] + ([f"{more} more"] if more else [])
    return f"{text}: {'; '.join(parts)}" if parts else text


def clean_line(text: str) -> str:
    """A line of somebody's output without what would move the cursor: of a progress bar, what it showed last."""
    text = _CONTROL_SEQUENCE.sub("", text).rstrip("\r").rpartition("\r")[2]
    return show(text.expandtabs(4))


def _describe_arrival(arrival: Arrival) -> str:
    beside = "" if arrival.reference is None else f" (reference {arrival.reference:.6g})"
    return f"{show(arrival.name)} {arrival.value:.6g}{beside} at step {arrival.step}"


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
