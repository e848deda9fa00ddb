"""One recorded root for the entropy that a program draws from the operating system.

``numpy.random.default_rng()`` and ``SeedSequence()`` without a seed ask ``numpy.random.bit_generator.randbits`` for 128
bits (looked up at each call). Here these bits come from a root of 256 bits, which is itself drawn from the operating
system once in a process, and recorded: the n-th answer is a hash of the root, the process's place and n. So the streams
are as unrelated as before, and the same root gives the same streams again.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import sys
from typing import Any

ROOT_BYTES = 32


class Entropy:
    """The root of this process and its place: the forks that lead to it."""

    def __init__(self, root: bytes) -> None:
        self.root = root
        self.place: tuple[int, ...] = ()
        self._draws = itertools.count()
        self._forks = 0

    def draw_bits(self, bits: int) -> int:
        """The next ``bits`` random bits, as `secrets.randbits` gives them."""
        return self.derive("draw", str(next(self._draws)), bits=bits)

    def derive(self, *path: str, bits: int) -> int:
        """``bits`` random bits for a purpose named by ``path``; the same path gives the same bits."""
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
        self._forks = 0
        self._draws = itertools.count()


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
