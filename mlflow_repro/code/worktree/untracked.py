"""The files that git neither tracks nor ignores: which are taken, how they are packed, and unpacked safely."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.git import GitError
from mlflow_repro.code.worktree.screen import (
    decode_path,
    encode_path,
    file_path,
    holds_secret,
    is_unsafe_path,
    link_leaves,
)
from mlflow_repro.errors import RefusedError
from mlflow_repro.text.filenames import is_secret_file
from mlflow_repro.text.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlflow_repro.code.worktree.calls import GitCalls
    from mlflow_repro.code.worktree.values import TreeLimits

FILE_MODE, PROGRAM_MODE, LINK_MODE = "100644", "100755", "120000"
_PERMISSIONS = {FILE_MODE: 0o644, PROGRAM_MODE: 0o755}

# What is likely to be code comes first: when there is too much, it is data that is left out.
_CODE = (
    *(".py", ".pyi", ".pyx", ".pxd", ".ipynb", ".r", ".jl", ".sh", ".sql", ".c", ".cc", ".cpp", ".cu", ".h", ".hpp"),
    *(".rs", ".go", ".java", ".scala", ".js", ".ts", ".toml", ".yaml", ".yml", ".cfg", ".ini", ".md", ".rst"),
)
_CODE_NAMES = ("mlproject", "makefile", "dockerfile", "requirements.txt", "setup.py")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a tree: its path with slashes, git's mode for it, and its content, or a link's target."""

    path: str
    mode: str
    content: bytes

    def object_name(self, algorithm: str) -> str:
        """Give git's name for the content, ``algorithm`` being ``sha1`` or ``sha256``."""
        header = b"blob %d\0" % len(self.content)
        return hashlib.new(algorithm, header + self.content, usedforsecurity=False).hexdigest()


@dataclass
class LeftOut:
    """The files that were not taken. The first are named, the rest is counted by reason."""

    limit: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    """What the program has written itself."""
    _more: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, path: str, reason: str, size: int | None = None) -> None:
        """Note one file, and its size in bytes when it is known."""
        if len(self.rows) < self.limit:
            self.rows.append({"path": redact_value(path), "reason": reason, "size": size})
            return
        count, total = self._more.get(reason, (0, 0))
        self._more[reason] = (count + 1, total + (size or 0))

    def all_rows(self) -> tuple[dict[str, Any], ...]:
        """The named ones, then a row with the path ``*`` for each reason that others were left out for."""
        counted = (
            {"path": "*", "reason": f"{count:,} more files: {reason}", "size": total}
            for reason, (count, total) in sorted(self._more.items())
        )
        return (*self.rows, *counted)


def choose_untracked(
    paths: Iterable[str], *, calls: GitCalls, limits: TreeLimits, left_out: LeftOut
) -> tuple[list[Entry], str]:
    """Read the untracked files at ``paths`` that may be taken, and note the others in ``left_out``.

    Returns them sorted, with the reason why there are not more when the deadline has passed. Raises nothing.
    """
    taken: list[Entry] = []
    total = 0
    ordered = sorted(paths, key=lambda path: (not is_code(path), path))
    for index, path in enumerate(ordered):
        try:
            calls.check_time("read all untracked files")
            entry = _read_entry(calls, path, limits, count=len(taken), total=total)
        except _NotTakenError as error:
            left_out.add(path, error.reason, error.size)
        except _OutputError:
            left_out.outputs.append(path)
        except OSError as error:
            left_out.add(path, f"it cannot be read: {error.strerror}")
        except GitError as error:
            for late in ordered[index:]:
                left_out.add(late, error.message)
            return _sorted(taken), error.message
        else:
            taken.append(entry)
            total += len(entry.content)
    return _sorted(taken), ""


def is_code(path: str) -> bool:
    """True for what is likely to be code, by its name."""
    lowered = path.lower()
    return lowered.endswith(_CODE) or lowered.rpartition("/")[2] in _CODE_NAMES


def _sorted(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: encode_path(entry.path))


class _NotTakenError(Exception):
    """A file is left out, for this reason; its size in bytes is None when it does not matter."""

    def __init__(self, reason: str, size: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.size = size


class _OutputError(Exception):
    """A file is no part of the tree, for the program has written it."""


def _read_entry(calls: GitCalls, path: str, limits: TreeLimits, *, count: int, total: int) -> Entry:
    """One file; ``count`` and ``total`` (bytes) are what was taken before.

    Raises _NotTakenError, _OutputError, GitError, OSError.
    """
    full = file_path(calls.directory, path)
    found = os.lstat(full)
    size = found.st_size
    if limits.is_output(full, found):
        raise _OutputError(path)
    _check_kind(path, found)
    if count >= limits.untracked_files:
        raise _NotTakenError(f"there are more than {limits.untracked_files:,} untracked files", size)
    if stat.S_ISLNK(found.st_mode):
        target = decode_path(os.readlink(full))
        if link_leaves(path, target):
            raise _NotTakenError("it is a link that leaves the repository")
        return Entry(path=path, mode=LINK_MODE, content=encode_path(target))
    if size > limits.untracked_file_bytes:
        raise _NotTakenError(f"more than {limits.untracked_file_bytes / 1e6:g} MB", size)
    if total + size > limits.untracked_bytes:
        raise _NotTakenError(f"more than {limits.untracked_bytes / 1e6:g} MB in all", size)
    content = read_regular(full, size)
    if content is None:
        raise _NotTakenError("it changed while it was read", size)
    if holds_secret(content, lambda: calls.check_time("look through all untracked files")):
        raise _NotTakenError("it holds a secret", size)
    return Entry(path=path, mode=_mode_of(found), content=content)


def _check_kind(path: str, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise _NotTakenError("it is a repository of its own")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        raise _NotTakenError("it is no regular file")
    if is_unsafe_path(path):
        raise _NotTakenError("its name is not safe on every file system")
    if is_secret_file(path):
        raise _NotTakenError("its name announces a secret", found.st_size)


def _mode_of(found: os.stat_result) -> str:
    return PROGRAM_MODE if found.st_mode & stat.S_IXUSR else FILE_MODE


def read_back(top: str, entry: Entry) -> Entry:
    """The entry as it is on the disk now. Raises OSError."""
    path = file_path(top, entry.path)
    if entry.mode == LINK_MODE:
        return Entry(path=entry.path, mode=LINK_MODE, content=os.readlink(path))
    content = read_regular(path, len(entry.content)) or b""
    return Entry(path=entry.path, mode=_mode_of(os.lstat(path)), content=content)


def read_regular(path: bytes, limit: int) -> bytes | None:
    """The content of a regular file that is not followed, or None when it is none or longer than ``limit`` bytes.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = file.read(limit + 1)
    return content if len(content) <= limit else None


def pack_entries(entries: Sequence[Entry]) -> bytes:
    """A tar archive that is the same for the same entries; empty when there are none."""
    if not entries:
        return b""
    target = io.BytesIO()
    options: dict[str, Any] = {"format": tarfile.GNU_FORMAT, "encoding": "utf-8", "errors": "surrogateescape"}
    with tarfile.open(fileobj=target, mode="w", **options) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode = _PERMISSIONS.get(entry.mode, 0o777)
            if entry.mode == LINK_MODE:
                member.type = tarfile.SYMTYPE
                member.linkname = decode_path(entry.content)
                archive.addfile(member)
            else:
                member.size = len(entry.content)
                archive.addfile(member, io.BytesIO(entry.content))
    return target.getvalue()


def unpack_entries(archive: bytes) -> list[Entry]:
    """Read what `pack_entries` made, into memory.

    Raises RefusedError for anything that is no regular file and no link that stays inside, for a name that leaves the
    tree or is git's own, for one that is there twice, and for what is no such archive.
    """
    if not archive:
        return []
    options: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape"}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", **options) as opened:
            entries = list(_members(opened))
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise _refuse(f"cannot be read: {error}") from error
    paths = [entry.path for entry in entries]
    if len(set(paths)) != len(paths):
        raise _refuse("holds a file twice")
    others = {entry.path for entry in entries}
    for path in paths:
        if any(parent in others for parent in parents_of(path)):
            raise _refuse(f"writes through {path!r}, which is below a file")
    return entries


def parents_of(path: str) -> Iterator[str]:
    """The folders above ``path``, the outermost first."""
    steps = path.split("/")
    return ("/".join(steps[:count]) for count in range(1, len(steps)))


def _members(archive: tarfile.TarFile) -> Iterator[Entry]:
    for member in archive:
        if is_unsafe_path(member.name):
            raise _refuse(f"holds the path {member.name!r}")
        if member.type == tarfile.SYMTYPE:
            if link_leaves(member.name, member.linkname):
                raise _refuse(f"holds the link {member.name!r}, which leaves the repository")
            yield Entry(path=member.name, mode=LINK_MODE, content=encode_path(member.linkname))
        elif member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not member.issparse():
            file = archive.extractfile(member)
            content = b"" if file is None else file.read()
            if len(content) != member.size:
                raise _refuse(f"is cut short in {member.name!r}")
            mode = PROGRAM_MODE if member.mode & stat.S_IXUSR else FILE_MODE
            yield Entry(path=member.name, mode=mode, content=content)
        elif member.type != tarfile.DIRTYPE:
            raise _refuse(f"holds {member.name!r}, which is neither a file nor a link")


def _refuse(what: str) -> RefusedError:
    return RefusedError(f"the archive of untracked files {what}", "it was not made by mlflow-repro, or is damaged")


def write_entries(top: str, entries: Iterable[Entry]) -> None:
    """Write files into a folder of our own, through no link and over nothing.

    Raises RefusedError when something stands in the way, OSError when the disk does.
    """
    for entry in entries:
        for parent in parents_of(entry.path):
            folder = file_path(top, parent)
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(folder).st_mode):
                    raise _refuse(f"writes through {parent!r}") from None
        try:
            _write_entry(file_path(top, entry.path), entry)
        except FileExistsError:
            raise _refuse(f"holds {entry.path!r}, which is there already") from None


def remove_file(top: str, path: str) -> None:
    """Remove a file from a folder of our own, and then the folders above it that are empty. Raises OSError."""
    folders = [file_path(top, parent) for parent in parents_of(path)]
    if all(stat.S_ISDIR(os.lstat(folder).st_mode) for folder in folders):
        os.unlink(file_path(top, path))
    with suppress(OSError):  # one that holds something else
        for folder in reversed(folders):
            os.rmdir(folder)


def _write_entry(full: bytes, entry: Entry) -> None:
    if entry.mode == LINK_MODE:
        os.symlink(entry.content, full)
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(full, flags, 0o666), "wb") as file:
        file.write(entry.content)
        if entry.mode == PROGRAM_MODE:
            wanted = os.fstat(file.fileno()).st_mode
            os.fchmod(file.fileno(), wanted | (wanted & 0o444) >> 2)
