r"""Content digests of files and directories: SHA-256, streamed, within a time limit, nothing read twice.

The digest of a **directory** is defined so that anybody can compute it again::

    digest(directory) = SHA-256(b"mlflow-repro merkle-sha256-1\n" + entry + entry + ...)
    entry             = kind (1 byte) + length of the name in bytes (8 bytes, big-endian) + name + value (32 bytes)

    kind  what it is             value
    f     regular file           SHA-256 of its content
    d     directory              digest(directory)
    l     symbolic link          SHA-256 of its target as bytes; it is not followed
    o     FIFO, socket, device   32 zero bytes; it is never opened

The entries are those of the directory, hidden ones and empty directories too, in the order of their names compared as
bytes. Left out are owners and permissions (copies and mounts change them, results do not depend on them), times, and
the directory's own name. The *listing* digest is the same construction with a file's size in bytes (32 bytes,
big-endian) as its value: it is there even when there was no time to read the files.

Only regular files are opened, never mapped (a file that is cut short would kill the process), and none below
``/proc``, ``/sys`` and ``/dev``, where reading does things.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MERKLE_SCHEME = "merkle-sha256-1"
"""The name of the definition above; another definition gets another name."""

Stamp = tuple[int, int, int, int, int]
"""What a file's content is known by without reading it: device, inode, size, mtime_ns, ctime_ns."""

NO_TIME = "there was no time left"
CHANGED = "it changed while it was read"
SPECIAL = "it is no regular file"
VIRTUAL = "it is in a file system that the kernel makes up"
GONE = "it is gone"

_HEADER = f"mlflow-repro {MERKLE_SCHEME}\n".encode()
_CHUNK = 4 << 20  # bytes; each costs two waits for Python's lock, so not a small one
_STINT = 0.002  # seconds of work between two rests
_NAMED = 20  # how many of a directory's files that were not hashed are named
_VIRTUAL = ("/proc/", "/sys/", "/dev/")
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - data lies there
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW

# A file that is written twice within one tick of its file system's clock has the same times before and after. So the
# digest of a younger file is not remembered (git calls it "racily clean"). The coarsest clock, FAT's, ticks in 2 s.
_RACY_NS = 2_000_000_000
_CACHE_LIMIT = 100_000  # files, a quarter of a kilobyte each; when it is full it takes no more
_cache: dict[Stamp, bytes] = {}  # of this process; single operations on it only, so it needs no lock


class Deadline:
    """The moment at which work on another thread stops. It can be brought forward while that work goes on."""

    def __init__(self, seconds: float, *, share: float = 1.0) -> None:
        """Let it pass in so many ``seconds``; it has passed when they are not positive.

        A ``share`` below 1 makes the work rest in between, so that it takes that part of the time until it is cut.
        """
        self._begun = time.monotonic()
        self._at = self._begun + seconds
        self._cut = threading.Event()
        self._rest = 1 / share - 1  # seconds for each second of work

    @classmethod
    def at(cls, moment: float) -> Deadline:
        """The one that passes at a ``moment`` of `time.monotonic`, in seconds."""
        return cls(moment - time.monotonic())

    @property
    def passed(self) -> bool:
        """True when there is no time left."""
        return time.monotonic() >= self._at

    def cut(self, seconds: float = 0.0) -> None:
        """Let it pass in ``seconds`` at the latest, and work without a rest until then."""
        self._at = min(self._at, time.monotonic() + seconds)
        self._cut.set()

    def wait(self, seconds: float) -> None:
        """Sleep for ``seconds``, but not beyond the deadline nor after it was cut."""
        self._cut.wait(max(0.0, min(seconds, self._at - time.monotonic())))
        self._begun = time.monotonic()

    def rest(self) -> None:
        """Sleep as long as the work since the last sleep asks for; called often, by the working thread."""
        worked = time.monotonic() - self._begun
        if self._rest and worked > _STINT:
            self.wait(worked * self._rest)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may be looked at: names in a directory and below it, and bytes that are read."""

    entries: int = 100_000
    size: int = 1 << 40


@dataclass(frozen=True, kw_only=True)
class FileDigest:
    """The SHA-256 of a whole file as 64 hex digits, or None and the reason.

    ``size`` (bytes) and ``mtime_ns`` (nanoseconds since 1970) are None when it could not even be looked at.
    """

    sha256: str | None = None
    reason: str = ""
    size: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class NotHashed:
    """A file in a directory that was not hashed: its path below it, its size in bytes, and the reason."""

    path: str
    size: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class DirectoryDigest:
    """The Merkle digest of a directory as 64 hex digits, or None and the reason.

    ``files`` and ``size`` (bytes) count its regular files; when ``listing_sha256`` is None, only those that were found
    until ``reason`` stopped it. ``not_hashed`` names the first 20 files that have no digest; ``not_hashed_files`` and
    ``not_hashed_size`` count all of them.
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
    known = _cache.get(stamp)
    return None if known is None else known.hex()


def is_young(stamp: Stamp) -> bool:
    """True when a file changed within the last two seconds, so that its digest would not be remembered."""
    return max(stamp[3:]) > time.time_ns() - _RACY_NS


def is_virtual(real: str) -> bool:
    """True for a path without links below ``/proc``, ``/sys`` or ``/dev`` (but not ``/dev/shm``)."""
    return f"{real}/".startswith(_VIRTUAL) and not f"{real}/".startswith(_SHARED_MEMORY)


def digest_file(path: str, *, deadline: Deadline) -> FileDigest:
    """The digest of a regular file, links followed. Raises nothing: what hinders it is the ``reason``.

    A file whose size or times change meanwhile has no digest. Python's lock is free while it reads and hashes.
    """
    try:
        real = os.path.realpath(path)
        if is_virtual(real):
            return FileDigest(reason=VIRTUAL)
        found = os.stat(real)
    except (OSError, ValueError) as error:
        return FileDigest(reason=_explain(error))
    if not stat.S_ISREG(found.st_mode):
        return FileDigest(reason=SPECIAL)
    value, reason = _digest_regular(real, stamp_of(found), deadline)
    return FileDigest(
        sha256=value.hex() if value else None, reason=reason, size=found.st_size, mtime_ns=found.st_mtime_ns
    )


def digest_directory(path: str, *, deadline: Deadline, limits: Limits | None = None) -> DirectoryDigest:
    """The Merkle digest (see the module's text) of a directory; smaller files are read before bigger ones.

    There is none when a part of it could not be read within the ``deadline`` and the ``limits``, or when it changed
    meanwhile; ``reason`` says which. A link as ``path`` itself is followed. Raises nothing.
    """
    limits = limits or Limits()
    try:
        tree = _Tree(os.path.realpath(path))
        reason = tree.scan(deadline, limits.entries)
    except (OSError, ValueError) as error:
        return DirectoryDigest(reason=_explain(error))
    files = sorted(tree.list_files(), key=lambda pair: pair[1].size)
    size = sum(entry.size for _, entry in files)
    if reason:
        return DirectoryDigest(reason=reason, files=len(files), size=size)
    listing = tree.fold(lambda entry: entry.size.to_bytes(32, "big") if entry.kind == b"f" else entry.value)
    failed = _hash_files(files, tree.root, deadline, limits.size)
    changed = CHANGED if tree.has_changed() else ""
    reason = f"{len(failed)} of its files have no digest: {failed[0].reason}" if failed else changed
    return DirectoryDigest(
        sha256=None if reason else tree.fold(lambda entry: entry.value).hex(),
        reason=reason,
        listing_sha256=None if changed else listing.hex(),
        files=len(files),
        size=size,
        not_hashed=tuple(failed[:_NAMED]),
        not_hashed_files=len(failed),
        not_hashed_size=sum(item.size for item in failed),
    )


@dataclass(slots=True)
class _Entry:
    """One name in a directory. The value of a file is empty until it is hashed."""

    name: bytes
    kind: bytes
    size: int = 0
    value: bytes = bytes(32)
    folder: _Folder | None = None


@dataclass(slots=True)
class _Folder:
    path: str
    found: os.stat_result
    above: _Folder | None = None
    entries: list[_Entry] = field(default_factory=list)

    @property
    def identity(self) -> tuple[int, int]:
        return self.found.st_dev, self.found.st_ino

    def is_in_itself(self) -> bool:
        """True when a mount makes it one of the directories that it lies in."""
        folder = self.above
        while folder is not None and folder.identity != self.identity:
            folder = folder.above
        return folder is not None


class _Tree:
    """A directory and all below it, parents before children; without recursion, for it may be deep."""

    def __init__(self, path: str) -> None:
        """Begin at a ``path`` without links. Raises OSError when it is no directory."""
        self.root = path
        self._folders = [_Folder(path, os.stat(path))]

    def scan(self, deadline: Deadline, limit: int) -> str:
        """Find up to ``limit`` names; the reason why these are not all, or empty. Raises OSError."""
        count = 0
        known: set[tuple[int, int]] = set()
        for folder in self._folders:  # which grows meanwhile
            if is_virtual(folder.path):
                return VIRTUAL if folder.above is None else f"a part of it cannot be read: {VIRTUAL}"
            if folder.identity in known and folder.is_in_itself():
                return "a directory in it leads back to one that it lies in"
            known.add(folder.identity)
            with os.scandir(folder.path) as names:
                for name in names:
                    count += 1
                    if count > limit:
                        return f"it has more than {limit} entries"
                    if deadline.passed:
                        return NO_TIME
                    folder.entries.append(self._look(folder, name))
                    deadline.rest()
            folder.entries.sort(key=lambda entry: entry.name)
        return ""

    def list_files(self) -> list[tuple[str, _Entry]]:  # each with the path of its directory
        return [(folder.path, entry) for folder in self._folders for entry in folder.entries if entry.kind == b"f"]

    def has_changed(self) -> bool:
        """True when names were added or taken away since the scan; a file's content is not looked at."""
        try:
            return any(os.lstat(folder.path).st_mtime_ns != folder.found.st_mtime_ns for folder in self._folders)
        except OSError:
            return True

    def fold(self, value_of: Callable[[_Entry], bytes]) -> bytes:
        """The digest of the whole, with what ``value_of`` gives for everything that is no directory."""
        digests: dict[int, bytes] = {}
        for folder in reversed(self._folders):
            whole = hashlib.sha256(_HEADER)
            for entry in folder.entries:
                value = digests[id(entry.folder)] if entry.folder else value_of(entry)
                whole.update(entry.kind + struct.pack(">Q", len(entry.name)) + entry.name + value)
            digests[id(folder)] = whole.digest()
        return digests[id(self._folders[0])]

    def _look(self, folder: _Folder, name: os.DirEntry[str]) -> _Entry:
        found = name.stat(follow_symlinks=False)
        raw = os.fsencode(name.name)
        if stat.S_ISREG(found.st_mode):
            return _Entry(raw, b"f", found.st_size, _cache.get(stamp_of(found), b""))
        if stat.S_ISLNK(found.st_mode):
            return _Entry(raw, b"l", 0, hashlib.sha256(os.fsencode(os.readlink(name.path))).digest())
        if not stat.S_ISDIR(found.st_mode):
            return _Entry(raw, b"o")
        child = _Folder(name.path, found, folder)
        self._folders.append(child)
        return _Entry(raw, b"d", folder=child)


def _hash_files(files: list[tuple[str, _Entry]], root: str, deadline: Deadline, limit: int) -> list[NotHashed]:
    """Give each file that has none its value, in the order given; path, size and reason of those that got none."""
    failed = []
    for folder, entry in files:
        if entry.value:
            continue
        path = os.path.join(folder, os.fsdecode(entry.name))
        reason = NO_TIME
        if entry.size > limit:
            reason = "the limit of bytes was reached"
        elif not deadline.passed:
            limit -= entry.size
            entry.value, reason = _digest_entry(path, entry.size, deadline)
            deadline.rest()
        if reason:
            failed.append(NotHashed(path=path[len(root) :].lstrip("/"), size=entry.size, reason=reason))
    return failed


def _digest_entry(path: str, size: int, deadline: Deadline) -> tuple[bytes, str]:
    """The digest of a file of a directory, which the scan found to be regular and of that ``size``, or the reason."""
    try:
        found = os.lstat(path)
    except OSError as error:
        return b"", _explain(error)
    is_same = stat.S_ISREG(found.st_mode) and found.st_size == size
    return _digest_regular(path, stamp_of(found), deadline) if is_same else (b"", CHANGED)


def _digest_regular(path: str, stamp: Stamp, deadline: Deadline) -> tuple[bytes, str]:
    """The digest of a regular file, remembered or read, or empty and the reason. ``path`` is no link."""
    known = _cache.get(stamp)
    if known:
        return known, ""
    if deadline.passed:
        return b"", NO_TIME
    lasting = not is_young(stamp)
    try:
        # Should it have become something else since it was looked at: opening a FIFO with O_NONBLOCK does not wait.
        descriptor = os.open(path, _OPEN_FLAGS)
        try:
            if stamp_of(os.fstat(descriptor)) != stamp:
                return b"", CHANGED
            value, reason = _read(descriptor, stamp[2], deadline)
            if not reason and stamp_of(os.fstat(descriptor)) != stamp:
                return b"", CHANGED
        finally:
            os.close(descriptor)
    except (OSError, ValueError, MemoryError) as error:
        return b"", _explain(error)
    if value and lasting and len(_cache) < _CACHE_LIMIT:
        _cache[stamp] = value
    return value, reason


def _read(descriptor: int, size: int, deadline: Deadline) -> tuple[bytes, str]:
    """The SHA-256 of the first ``size`` bytes. Not to the end: a file that grows as fast as it is read has none."""
    whole = hashlib.sha256()
    buffer = memoryview(bytearray(min(size, _CHUNK)))
    left = size
    while left:
        if deadline.passed:
            return b"", NO_TIME
        count = os.readv(descriptor, (buffer[:left],))
        if not count:
            return b"", CHANGED
        whole.update(buffer[:count])
        left -= count
        deadline.rest()
    return whole.digest(), ""


def _explain(error: Exception) -> str:
    """The reason without the path, which the reader has."""
    if isinstance(error, FileNotFoundError):
        return GONE
    if isinstance(error, OSError) and error.errno:
        return f"it cannot be read: {os.strerror(error.errno)}"
    return f"it cannot be read: {type(error).__name__}"
