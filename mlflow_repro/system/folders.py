"""Folders and files of this machine: temporary ones that are removed in the end, and the cache.

A temporary folder is removed by a later process when ours is killed first. It has a file in it that is locked as long
as a process works there. The kernel frees the lock when that process dies, however it dies: what is not locked any more
nobody needs.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.system.locks import hold_lock, lock_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFIX = "mlflow-repro-"
_LOCK_FILE = ".mlflow-repro-lock"
DUTY_FILE = ".mlflow-repro-duty"
"""In a folder whose process has something to do before it ends: what a later one does for it, should it be killed."""
_DUTY_SECONDS = 30 * 86_400.0  # so long a later process may come that can do it


@dataclass(frozen=True, kw_only=True)
class HeldFolder:
    """A folder that is ours as long as the descriptor ``lock``, or a copy that a child has inherited, is open."""

    path: str
    lock: int
    held: list[int] = field(default_factory=list)
    """Descriptors of other locks that are given up with it."""


@contextmanager
def hold_folder(parent: str = "") -> Iterator[HeldFolder]:
    """A new folder below ``parent`` (the system's folder for temporary files unless given). Raises OSError."""
    held = _make_folder(parent)
    try:
        yield held
    finally:
        _remove(held.path)
        for descriptor in (held.lock, *held.held):
            os.close(descriptor)


def sweep_folders(parent: str = "", fulfil: Callable[[str], bool] = lambda _: False) -> list[str]:
    """Remove the folders below ``parent`` that processes of this user have left behind when they died; their paths.

    ``fulfil`` gets the text of a `DUTY_FILE` and does what it says. A folder where it answers False is left to others.
    """
    parent = parent or tempfile.gettempdir()
    swept = []
    with suppress(OSError):
        for name in os.listdir(parent):
            path = os.path.join(parent, name)
            if name.startswith(PREFIX) and _sweep(path, fulfil):
                swept.append(path)
    return swept


def _make_folder(parent: str) -> HeldFolder:
    while True:
        path = os.path.realpath(tempfile.mkdtemp(prefix=PREFIX, dir=parent or None))
        try:
            descriptor = os.open(os.path.join(path, _LOCK_FILE), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            os.rmdir(path)  # without its lock nobody would know it as ours
            raise
        try:
            lock_descriptor(descriptor)
        except BlockingIOError:  # a sweeper came between the two calls, and removes it
            os.close(descriptor)
            continue
        except OSError:  # a file system without such locks: nobody else can take one either
            return HeldFolder(path=path, lock=descriptor)
        if os.fstat(descriptor).st_nlink:
            return HeldFolder(path=path, lock=descriptor)
        os.close(descriptor)


def _sweep(path: str, fulfil: Callable[[str], bool]) -> bool:
    """Remove one folder when it is ours and nobody works in it."""
    try:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        with hold_lock(os.path.join(path, _LOCK_FILE), makes=False):
            if _owes(path) and not fulfil(try_read(os.path.join(path, DUTY_FILE))):
                return False
            _remove(path)
    except OSError:  # there is no such file, or somebody has it: not ours, or in use
        return False
    return not os.path.lexists(path)


def _owes(path: str) -> bool:
    """True when there is something to do before the folder goes, and it is not too long ago."""
    try:
        return time.time() - os.lstat(os.path.join(path, DUTY_FILE)).st_mtime < _DUTY_SECONDS
    except OSError:
        return False


def _remove(path: str) -> None:
    """Remove a folder, its lock last of all: what is left when we are killed here is still known as ours."""
    with suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _LOCK_FILE:
                with suppress(OSError):
                    os.unlink(entry.path)
    shutil.rmtree(path, ignore_errors=True)


def cache_directory() -> Path:
    """``MLFLOW_REPRO_CACHE``, else ``mlflow-repro`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("MLFLOW_REPRO_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mlflow-repro"


def read_text(path: str, limit: int = 65_536) -> str:
    """The first ``limit`` bytes of a file as text. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 for the kernel's files, whose length is known when they are read
        return file.read(min(limit, size or limit)).decode("utf-8", "backslashreplace")


def try_read(path: str, limit: int = 65_536) -> str:
    """As `read_text`; empty when the file cannot be read."""
    try:
        return read_text(path, limit)
    except OSError:
        return ""
