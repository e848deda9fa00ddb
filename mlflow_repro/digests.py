"""Content digests of files and directories: SHA-256, streamed, within a time limit, nothing read twice.

The digest of a **directory** is defined so that anybody can compute it again::

    digest(directory) = SHA-256(b"mlflow-repro merkle-sha256-1\\n" + entry + entry + ...)
    entry             = kind (1 byte) + length of the name in bytes (8 bytes, big-endian) + name + value (32 bytes)

    kind  what it is             value
    f     regular file           SHA-256 of its content
    d     directory              digest(directory)
    l     symbolic link          SHA-256 of its target as bytes; it is not followed
    o     FIFO, socket, device   32 zero bytes; it is never opened

The entries are those of the directory, hidden and empty ones too, in the order of their names compared as bytes.
Owners, permissions (copies and mounts change them, results do not depend on them), times and the directory's own name
are left out. The *listing* digest is the same construction with a file's size in bytes (32 bytes, big-endian) as its
value: it is there even when there was no time to read the files.

Only regular files are opened, never mapped (a file that is cut short would kill the process), and none below
``/proc``, ``/sys`` and ``/dev``, where reading does things.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MERKLE_SCHEME = "merkle-sha256-1"
"""The name of the definition above; another definition gets another name."""

Stamp = tuple[int, int, int, int, int]
"""What a file's content is known by without reading it: device, inode, size, mtime_ns, ctime_ns."""

NO_TIME = "there was no time left"
CHANGED = "it changed while it was read"
SPECIAL = "it is no regular file"
VIRTUAL = "it is a file of the kernel's"
GONE = "it is gone"

_HEADER = f"mlflow-repro {MERKLE_SCHEME}\n".encode()
_CHUNK = 4 << 20  # bytes; each costs two waits for the interpreter's lock, so not a small one
_NAMED = 20  # how many of a directory's files that were not hashed are named
_VIRTUAL = ("/proc/", "/sys/", "/dev/")
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - a file system that holds data, for all that
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# A file written within one tick of the clock of its file system has the same times as before: what is younger is not
# remembered (git calls it "racily clean"). Two seconds is the coarsest clock in use, that of FAT.
_RACY_NS = 2_000_000_000
_CACHE_LIMIT = 100_000
_cache: dict[Stamp, str] = {}


class Deadline:
    """A moment that work on another thread stops at; it can be brought forward while that work goes on."""

    def __init__(self, seconds: float) -> None:
        """Make one that passes in so many ``seconds``; at once when they are not positive."""
        self._at = time.monotonic() + seconds
        self._cut = threading.Event()

    @property
    def passed(self) -> bool:
        """True when there is no time left."""
        return time.monotonic() >= self._at

    def cut(self, seconds: float = 0.0) -> None:
        """Let it pass in ``seconds`` at the latest."""
        self._at = min(self._at, time.monotonic() + seconds)
        self._cut.set()

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``, or until it passes or is cut."""
        self._cut.wait(max(0.0, min(seconds, self._at - time.monotonic())))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be looked at: directory entries, and bytes read."""

    entries: int = 100_000
    size: int = 1 << 40


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """The SHA-256 of a whole file as 64 hex digits, or None and the reason.

    ``size`` (bytes) and ``mtime_ns`` (nanoseconds since 1970) are None when the file could not even be looked at.
    """

    sha256: str | None = None
    reason: str = ""
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class NotHashed:
    """A file in a directory that was not hashed: its path below it, its size in bytes when known, and the reason."""

    path: str
    reason: str
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class DirectoryDigest:
    """The Merkle digest of a directory as 64 hex digits, or None and the reason.

    ``files`` and ``size`` (bytes) count the regular files that were found: all there are when ``listing_sha256`` is not
    None. ``not_hashed`` names the first 20 that could not be hashed, ``not_hashed_files`` and ``not_hashed_size`` count
    all of these.
    """

    sha256: str | None = None
    reason: str = ""
    listing_sha256: str | None = None
    files: int = 0
    size: int = 0
    not_hashed: tuple[NotHashed, ...] = ()
    not_hashed_files: int = 0
    not_hashed_size: int = 0


def stamp_of(found: os.stat_result) -> Stamp:
    """The stamp of what `os.stat` found."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def recall_digest(stamp: Stamp) -> str | None:
    """The digest of a file that this process has hashed when it had that ``stamp``; it may be gone by now."""
    return _cache.get(stamp)


def is_virtual(path: str) -> bool:
    """True for what lies, links followed, in a file system that the kernel makes up."""
    real = os.path.realpath(path) + "/"
    return real.startswith(_VIRTUAL) and not real.startswith(_SHARED_MEMORY)


def digest_file(path: str, *, deadline: Deadline) -> FileDigest:
    """The digest of a regular file, links followed. Raises nothing: what hinders it is the ``reason``.

    A file whose size or times change meanwhile has no digest. Python's lock is free while it reads and hashes.
    """
    try:
        if is_virtual(path):
            return FileDigest(reason=VIRTUAL)
        found = os.stat(path)
    except (OSError, ValueError) as error:
        return FileDigest(reason=_reason(error))
    return _digest_found(path, found, deadline, follow=True)


def digest_directory(path: str, *, deadline: Deadline, limits: Limits | None = None) -> DirectoryDigest:
    """The Merkle digest (see the module's text) of a directory; smaller files are read before bigger ones.

    There is none when any part of it could not be read, within the ``deadline`` and the ``limits``, or changed
    meanwhile; ``reason`` says which. A link as ``path`` itself is followed. Raises nothing.
    """
    limits = limits or Limits()
    try:
        if is_virtual(path):
            return DirectoryDigest(reason=VIRTUAL)
        tree = _Tree(os.path.realpath(path))
    except (OSError, ValueError) as error:
        return DirectoryDigest(reason=_reason(error))
    reason = tree.scan(deadline, limits.entries)
    files = sorted(tree.files(), key=lambda pair: pair[1].size)
    size = sum(entry.size for _, entry in files)
    if reason:
        return DirectoryDigest(reason=reason, files=len(files), size=size)
    failed = _hash_files(tree, files, deadline, limits.size)
    if failed:
        reason = f"{len(failed)} of its files could not be hashed: {failed[0].reason}"
    return DirectoryDigest(
        reason=reason or tree.find_change(),
        sha256=None if reason or tree.find_change() else tree.fold(lambda entry: entry.value),
        listing_sha256=tree.fold(lambda entry: entry.size.to_bytes(32, "big") if entry.kind == b"f" else entry.value),
        files=len(files),
        size=size,
        not_hashed=tuple(failed[:_NAMED]),
        not_hashed_files=len(failed),
        not_hashed_size=sum(item.size or 0 for item in failed),
    )
