"""The record of the seeds that were seen."""

from __future__ import annotations

import contextlib
import hashlib
import operator
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.seeding.mt19937 import Seed

Generator = Literal["python", "numpy", "tensorflow", "torch"]

NO_SEED = "none"
"""The value of a call that seeds from the operating system, such as ``random.seed()``."""

_TEXT_LENGTH = 64
_DECIMAL_BITS = 256


@dataclass(frozen=True)
class SeedCall:
    """One observation of a seed.

    ``value`` is the seed as text (`describe_seed`), ``when`` the `time.time()` of the call or of the
    observation, ``where`` the caller's ``file:line`` (empty unless called). ``how``: ``called`` was seen as
    it happened, ``recovered`` was computed from the generator's state, ``read`` was asked of the library.
    """

    generator: Generator
    value: str
    when: float
    where: str
    how: Literal["called", "recovered", "read"]


class SeedLog:
    """A record of the seeds that were seen; safe to use from several threads and in forked children."""

    LIMIT = 1_000

    def __init__(self) -> None:
        self._calls: list[SeedCall] = []
        self._dropped = 0
        self.assigned: dict[str, int] = {}
        """Seeds of ``MLFLOW_REPRO_SEED`` that `RandomControl` gave to generators that the program had not seeded."""
        self._unrepeatable: dict[str, int] = {}
        self._last: dict[str, SeedCall] = {}
        self._examined: dict[str, tuple[Sequence[int], Seed | None]] = {}
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def record(self, call: SeedCall) -> None:
        """Keep ``call`` as the last one; beyond `LIMIT` calls, only count it in the list."""
        self._notice_fork()
        with self._lock:
            self._last[call.generator] = call
            if len(self._calls) < self.LIMIT:
                self._calls.append(call)
            else:
                self._dropped += 1

    def find_last(self, generator: Generator) -> SeedCall | None:
        """Find the last observation of ``generator`` that still holds in this process."""
        self._notice_fork()
        return self._last.get(generator)

    @property
    def calls(self) -> tuple[SeedCall, ...]:
        """The first `LIMIT` observations, oldest first; in a forked child its parent's, too."""
        return tuple(self._calls)

    @property
    def dropped(self) -> int:
        """How many observations there were beyond `LIMIT`."""
        return self._dropped

    def note_unrepeatable(self, draw: str) -> None:
        """Note a draw that neither a seed of the program's nor ours governs; beyond `LIMIT` kinds, none is added."""
        with self._lock:
            if draw in self._unrepeatable or len(self._unrepeatable) < self.LIMIT:
                self._unrepeatable[draw] = self._unrepeatable.get(draw, 0) + 1

    @property
    def unrepeatable(self) -> tuple[str, ...]:
        """The draws of `note_unrepeatable`, each once, in the order in which they were noted first."""
        return tuple(self._unrepeatable)

    def find_examined(self, generator: Generator) -> tuple[Sequence[int], Seed | None] | None:
        """Find the words of the state that was searched last for a seed, and the seed that was found."""
        return self._examined.get(generator)

    def record_examined(self, generator: Generator, words: Sequence[int], seed: Seed | None) -> None:
        """Keep the result of a search, so that the next one need not go further back."""
        self._examined[generator] = (words, seed)

    def _notice_fork(self) -> None:
        """Start anew in a forked child: the lock may be held by a thread that is not here.

        Python seeds its generator from the operating system in every forked child (the last lines of
        ``random.py``), so what was known of it no longer holds; the others go on with their parent's state.
        """
        pid = os.getpid()
        if pid != self._pid:
            self._pid, self._lock = pid, threading.RLock()
            self._last.pop("python", None)


class _Process:
    """The log of this process."""

    log: SeedLog | None = None


def process_log() -> SeedLog:
    """The log of this process, made when it is asked for first."""
    if _Process.log is None:
        _Process.log = SeedLog()
    return _Process.log


def describe_seed(value: object) -> str:
    """Write a seed as one short line: an integer in decimal, None as ``none``, anything else as its repr.

    What is longer than 64 characters is cut there and followed by the first 16 digits of its SHA-256
    (integers of more than 256 bits are written in hexadecimal, to be cut); arrays and the like carry the
    digest always.
    """
    if value is None:
        return NO_SEED
    with contextlib.suppress(TypeError):
        number = operator.index(value)  # type: ignore[arg-type]
        return str(number) if number.bit_length() <= _DECIMAL_BITS else _shorten(hex(number))
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- the user's class; the call itself was good
        text = f"<{type(value).__name__}>"
    if isinstance(value, (str, bytes, bytearray, float)):
        return _shorten(text)
    try:
        content = memoryview(value).tobytes()  # type: ignore[arg-type]
    except (TypeError, ValueError, NotImplementedError):
        content = text.encode("utf-8", "backslashreplace")
    return f"{' '.join(text.split())[:_TEXT_LENGTH]} sha256:{shorten_digest(content)}"


def _shorten(text: str) -> str:
    if len(text) <= _TEXT_LENGTH:
        return text
    return f"{text[:_TEXT_LENGTH]} sha256:{shorten_digest(text.encode('utf-8', 'backslashreplace'))}"


def shorten_digest(content: bytes) -> str:
    """Take the first 16 hexadecimal digits of the SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()[:16]
