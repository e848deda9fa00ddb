"""One root for the entropy that a process draws from the operating system, so that it can be given again.

``numpy.random.default_rng()`` and ``SeedSequence()`` without a seed ask ``numpy.random.bit_generator.randbits`` for 128
bits (looked up at each call). Here these bits come from a root of 256 bits that each process draws from the operating
system for itself, and anew after every fork: the n-th answer is a part of a hash of the root and n. Nothing of it is
inherited, so no two processes can share a stream; what a process drew is recorded, and the same root gives the same
streams again.
"""

from __future__ import annotations

import hashlib
import itertools
import linecache
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType

ROOT_BYTES = 32
_SCHEMA = 2  # of how the n-th answer comes from the root: 1 hashes each, 2 many at once, which is quicker
_DRAW_BITS = 128  # as many as a SeedSequence asks for
_DRAW_BYTES = _DRAW_BITS // 8
_BLOCK_DRAWS = 64
_SITES = 1_024  # places in a program that make generators; those beyond are taken to use what they get
_LOOKS = 16  # at the stack above a place, to see whether a library is being imported there


class Entropy:
    """The root of this process, and how much was drawn from it."""

    def __init__(self, root: bytes) -> None:
        self.users: set[str] = set()
        """What asked for bits: ``draw`` for numpy's unseeded generators, else the first word of the purpose."""
        self._sites: dict[tuple[int, int], tuple[CodeType, int]] = {}
        self._begin(root, 0, schema=_SCHEMA)

    def _begin(self, root: bytes, drawn: int, *, schema: int) -> None:
        self.root, self._pid, self._schema = root, os.getpid(), schema
        self.asked = 0
        """How often the program drew that uses what it got: no import of a library, no ``RandomState`` with a seed."""
        self.drawn = drawn
        self._block: tuple[int, bytes] = (-1, b"")
        # One call of C, which neither a thread nor a signal handler can come between: no number is given twice.
        self._numbers = itertools.count(drawn)

    def draw_bits(self, bits: int) -> int:
        """The next ``bits`` random bits, as `secrets.randbits` gives them."""
        if self._pid != os.getpid():
            self.renew()
        number = next(self._numbers)
        self.drawn = number + 1
        self.asked += self._is_used()
        if bits != _DRAW_BITS or self._schema == 1:
            return self.derive("draw", str(number), bits=bits)
        index, start = number // _BLOCK_DRAWS, number % _BLOCK_DRAWS * _DRAW_BYTES
        block = self._block
        if block[0] != index:
            self.users.add("draw")
            content = hashlib.shake_256(b"%bdraws/%d" % (self.root, index)).digest(_BLOCK_DRAWS * _DRAW_BYTES)
            block = self._block = index, content
        return int.from_bytes(block[1][start : start + _DRAW_BYTES], "big")

    def derive(self, *path: str, bits: int) -> int:
        """``bits`` random bits for a purpose named by ``path``; the same path gives the same bits in this process."""
        if self._pid != os.getpid():
            self.renew()
        self.users.add(path[0])
        size = (bits + 7) // 8
        stream = hashlib.shake_256(self.root + "/".join(path).encode()).digest(size)
        return int.from_bytes(stream, "big") >> (8 * size - bits)

    def renew(self) -> None:
        """Draw another root from the operating system: this is a forked child, and the old one is its parent's."""
        self._begin(new_root(), 0, schema=_SCHEMA)

    def take_position(self) -> dict[str, Any]:
        """The root and how much was drawn from it, as plain values, for `put_position`."""
        return {"root": self.root.hex(), "drawn": self.drawn, "schema": self._schema}

    def put_position(self, position: dict[str, Any]) -> None:
        """Go on where another `Entropy` was, or, with a position that has only a ``root``, begin there.

        Raises ValueError when ``position`` is not one; then nothing is changed.
        """
        try:
            root, drawn = bytes.fromhex(position["root"]), int(position.get("drawn", 0))
            schema = int(position.get("schema", _SCHEMA))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a position: {error!r}") from error
        if not root or drawn < 0:
            raise ValueError("not a position: an empty root or a negative number")
        self._begin(root, drawn, schema=schema)

    def _is_used(self) -> bool:
        """False when the entropy that is being drawn has no part in a result. Raises nothing.

        Libraries make generators while they are imported. And ``RandomState(seed)`` seeds itself from the operating
        system before it seeds itself with what it was given; that it was called can only be read in the caller's line.
        What was found of a place in the program holds for it from then on, so that a draw costs the same at any depth
        of the stack.
        """
        try:
            frame = sys._getframe(2)  # noqa: SLF001 - whoever asked numpy, which has no frame of its own
            code = frame.f_code
            site = id(code), frame.f_lasti
            looks = self._sites[site][1] if site in self._sites else 0
            if 0 <= looks < _LOOKS:
                if len(self._sites) >= _SITES:
                    return True
                looks = _examine(frame, looks)
                self._sites[site] = code, looks  # with the code, or another could get its id
        except Exception:  # noqa: BLE001 - a guest
            return True
        return looks >= _LOOKS


def _examine(frame: FrameType, looks: int) -> int:
    """How a place is to be kept: -1 when it never uses what it draws, `_LOOKS` when it does, else one look more."""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    if "RandomState(" in line and "RandomState()" not in line:
        return -1
    caller: FrameType | None = frame
    while caller is not None:
        if caller.f_code.co_filename.startswith("<frozen importlib"):
            return looks + 1
        caller = caller.f_back
    return _LOOKS


class _Process:
    """The entropy that this process's libraries draw from, when there is one."""

    entropy: Entropy | None = None


def adopt_entropy(entropy: Entropy) -> None:
    """Let numpy's unseeded generators of this process draw from ``entropy``.

    Where numpy is not loaded yet, call `feed_numpy` when it is.
    """
    if entropy is not _Process.entropy:
        _Process.entropy = entropy
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=entropy.renew)
    feed_numpy(entropy)


def process_entropy() -> Entropy | None:
    """The entropy of this process, or None when its libraries ask the operating system."""
    return _Process.entropy


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
