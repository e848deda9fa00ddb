"""Locks on files, which the kernel frees when the last process that has the descriptor ends, however it ends."""

from __future__ import annotations

import fcntl
import math
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREVER = math.inf
_POLL_SECONDS = 0.1


def lock_descriptor(descriptor: int, *, is_shared: bool = False, wait: float = 0.0) -> None:
    """Lock an open file, waiting up to ``wait`` seconds for those who have it.

    Raises BlockingIOError when they keep it, another OSError where the file system has no locks.
    """
    how = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    if wait == FOREVER:
        fcntl.flock(descriptor, how)
        return
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def lock_file(path: str | Path, *, makes: bool = True, is_shared: bool = False, wait: float = 0.0) -> int:
    """The descriptor of the file at ``path``, locked as `lock_descriptor` does; closing it gives the lock up.

    ``makes``: the file is made where there is none. Raises OSError, of a symbolic link, too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | (os.O_CREAT if makes else 0), 0o600)
    try:
        lock_descriptor(descriptor, is_shared=is_shared, wait=wait)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def hold_lock(path: str | Path, *, makes: bool = True, wait: float = 0.0) -> Iterator[int]:
    """As `lock_file`, given up in the end."""
    descriptor = lock_file(path, makes=makes, wait=wait)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
