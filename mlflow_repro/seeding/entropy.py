"""One recorded root for the entropy that a program draws from the operating system.

``numpy.random.default_rng()`` and ``SeedSequence()`` without a seed ask ``numpy.random.bit_generator.randbits`` for 128
bits (looked up at each call). Here these bits come from a root of 256 bits, which is itself drawn from the operating
system once in a process, and recorded: the n-th answer is a hash of the root, the process's place and n. So the streams
are as unrelated as before, and the same root gives the same streams again.
"""

from __future__ import annotations

import contextlib
import hashlib
import linecache
import os
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.watch import find_namespace, on_unseeding

if TYPE_CHECKING:
    from types import FrameType

ROOT_BYTES = 32
_WORDS = struct.Struct("<624I")
_STATE_VERSION = 3  # of random.getstate(), since Python 3.2
STATE_BITS = 8 * _WORDS.size
ROOT_VARIABLE = "MLFLOW_REPRO_ROOT"


class Entropy:
    """The root of this process and its place: the forks that lead to it."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.place: tuple[int, ...] = ()
        self.users: set[str] = set()
        """What asked for bits: ``draw`` for numpy's unseeded generators, else the first word of the purpose."""
        self.asked = 0
        """How often the program drew that uses what it got: no import of a library, no ``RandomState`` with a seed."""
        self._drawn = 0
        self._forks = 0
        self._lock = threading.Lock()

    def draw_bits(self, bits: int) -> int:
        """The next ``bits`` random bits, as `secrets.randbits` gives them."""
        is_used = _is_used()
        with self._lock:
            number = self._drawn
            self._drawn += 1
            self.asked += is_used
        return self.derive("draw", str(number), bits=bits)

    def derive(self, *path: str, bits: int) -> int:
        """``bits`` random bits for a purpose named by ``path``; the same path gives the same bits."""
        self.users.add(path[0])
        content = "/".join((*map(str, self.place), *path)).encode()
        size = (bits + 7) // 8
        stream = hashlib.shake_256(self.root + content).digest(size)
        return int.from_bytes(stream, "big") >> (8 * size - bits)

    def count_fork(self) -> None:
        """Called before a fork, in the parent."""
        self._forks += 1

    def enter_child(self) -> None:
        """Called after a fork, in the child: another place, so that no stream is drawn twice."""
        self.place = (*self.place, self._forks)
        self._forks = self._drawn = 0
        self._lock = threading.Lock()  # the parent's may be held by a thread that is not here

    def take_position(self) -> dict[str, Any]:
        """The root and what was drawn from it, as plain values, for `put_position`."""
        with self._lock:
            return {"root": self.root.hex(), "place": list(self.place), "drawn": self._drawn, "forks": self._forks}

    def put_position(self, position: dict[str, Any]) -> None:
        """Go on where another `Entropy` was, or, with a position that has only a ``root``, begin there.

        Raises ValueError when ``position`` is not one; then nothing is changed.
        """
        try:
            root = bytes.fromhex(position["root"])
            place = tuple(int(number) for number in position.get("place", ()))
            drawn, forks = int(position.get("drawn", 0)), int(position.get("forks", 0))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a position: {error!r}") from error
        if not root or min(drawn, forks, *place) < 0:
            raise ValueError("not a position: an empty root or a negative number")
        with self._lock:
            self.root, self.place, self._drawn, self._forks = root, place, drawn, forks


def _is_used() -> bool:
    """False when the entropy that is being drawn has no part in a result. Raises nothing.

    Libraries make generators while they are imported. And ``RandomState(seed)`` seeds itself from the operating system
    before it seeds itself with what it was given; that it was called can only be read in the caller's line.
    """
    try:
        frame = sys._getframe(2)  # noqa: SLF001 - whoever asked numpy, which has no frame of its own
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        caller: FrameType | None = frame
        while caller is not None:
            if caller.f_code.co_filename.startswith("<frozen importlib"):
                return False
            caller = caller.f_back
    except Exception:  # noqa: BLE001 - a guest
        return True
    return "RandomState(" not in line or "RandomState()" in line


class _Process:
    """The entropy that this process's libraries draw from, when there is one."""

    entropy: Entropy | None = None


def adopt_entropy(entropy: Entropy) -> None:
    """Let ``entropy`` answer in this process where the operating system would.

    For numpy's unseeded generators, if numpy is loaded (else call `feed_numpy` when it is); for ``random.seed()``; in
    forked children, where Python seeds its generator anew; and for worker processes, which derive theirs.
    """
    if entropy is not _Process.entropy:
        _Process.entropy = entropy
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=entropy.count_fork, after_in_child=lambda: _enter_child(entropy))
    on_unseeding(lambda: fill_python(entropy.draw_bits(STATE_BITS)))
    feed_numpy(entropy)
    os.environ[ROOT_VARIABLE] = entropy.root.hex()


def process_entropy() -> Entropy | None:
    """The entropy of this process, or None when its libraries ask the operating system."""
    return _Process.entropy


def _enter_child(entropy: Entropy) -> None:
    """In a forked child Python has just seeded its generator from the operating system: derive that, too."""
    if entropy is _Process.entropy:
        with contextlib.suppress(Exception):
            entropy.enter_child()
            fill_python(entropy.derive("fork", bits=STATE_BITS))


def fill_python(bits: int) -> None:
    """Put Python's generator where the operating system's entropy would have: a whole state of `STATE_BITS` bits.

    Not by seeding: the seed could be recovered from the state, and would be taken for one that the program set.
    """
    words = list(_WORDS.unpack(bits.to_bytes(_WORDS.size, "little")))
    words[0] = 1 << 31  # as every seeding by more than one word leaves it: the state is never all zero
    (find_namespace("random") or {})["setstate"]((_STATE_VERSION, (*words, len(words)), None))


def new_root() -> bytes:
    """A root from the operating system."""
    return os.urandom(ROOT_BYTES)


def root_from_seed(seed: int) -> bytes:
    """The root that belongs to a seed of the user's."""
    return hashlib.sha256(f"mlflow-repro root {seed}".encode()).digest()


def feed_numpy(entropy: Entropy) -> bool:
    """Let numpy's unseeded generators draw from ``entropy``; False when numpy is not loaded or is another one."""
    module: Any = sys.modules.get("numpy.random.bit_generator")
    if module is None or not hasattr(module, "randbits"):
        return False
    module.randbits = entropy.draw_bits
    return True
