"""Put the taken parts back into a checkout of our own. Everything is tried out beside it before anything is written."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from mlflow_repro.code.git import GitError
from mlflow_repro.code.worktree.calls import GitCalls
from mlflow_repro.code.worktree.patchtext import check_patch
from mlflow_repro.code.worktree.screen import decode_path, encode_path, file_path, is_unsafe_path, link_leaves
from mlflow_repro.code.worktree.snapshot import (
    LINK_MODE,
    NO_MODE,
    REGULAR_MODES,
    SUBMODULE_MODE,
    Row,
    Snapshot,
    is_same_pointer,
    locate,
)
from mlflow_repro.code.worktree.untracked import (
    Entry,
    parents_of,
    read_back,
    read_regular,
    remove_file,
    unpack_entries,
    write_entries,
)
from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.system.folders import hold_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RESTORE_SECONDS = 600.0
_APPLY = ("--binary", "--whitespace=nowarn", "-p1", "-")
# Line ends as they were recorded, whatever this machine's user likes; what .gitattributes says still holds.
_SETTINGS = ("core.autocrlf=false", "core.eol=lf", "core.fileMode=true", "core.symlinks=true")
_UNSAFE = re.compile(
    r"invalid path|beyond a symbolic link|outside repository|unable to write to|bad path", re.IGNORECASE
)
_LONGEST_LINK = 1 << 16
_LONGEST_FILE = 1 << 30


def restore_tree(checkout: Path, *, patch: bytes, untracked: bytes, expected_tree: str) -> None:
    """Turn a clean checkout of the recorded commit, in a place of our own, into the recorded working tree.

    ``patch``, ``untracked`` and ``expected_tree`` are those of a `TakenTree`; either part may be empty. Raises
    RefusedError when a part would write outside the tree or into git's own folder, CannotJudgeError when a part is
    damaged, does not fit the commit, or does not lead to ``expected_tree``, or when the checkout is not clean. In all
    these cases nothing has been written.
    """
    if patch:
        check_patch(patch)
    entries = unpack_entries(untracked)
    deadline = time.monotonic() + RESTORE_SECONDS
    calls = GitCalls(os.path.abspath(checkout), deadline=deadline, settings=_SETTINGS)
    try:
        place = locate(calls)
        calls = calls.inside(place.top)
        with hold_folder() as folder:
            snapshot = Snapshot(place, calls, folder.path)
            before = _check_clean(snapshot)
            rows = _rehearse(snapshot, patch, entries, expected_tree)
        if patch:
            _apply(calls, patch)
            _check_out(calls, rows)
        write_entries(place.top, entries)
        with hold_folder() as folder:
            _verify(Snapshot(place, calls, folder.path), before, entries, expected_tree)
    except GitError as error:
        raise CannotJudgeError(f"the recorded changes cannot be put back: {error.message}") from error
    except OSError as error:
        raise CannotJudgeError(f"the recorded changes cannot be put back: {error}") from error


def _rehearse(snapshot: Snapshot, patch: bytes, entries: Sequence[Entry], expected_tree: str) -> list[Row]:
    """Do it in an index of our own, and look at what git made of it; returns what the patch changes."""
    if patch:
        _apply(snapshot.both, patch)
    rows = snapshot.changes()
    for row in rows:
        if is_unsafe_path(row.path):
            raise RefusedError(f"the recorded patch changes {row.path!r}", "a patch may only change its repository")
        if row.new_mode == LINK_MODE:
            target = decode_path(snapshot.read_object(row.new_object, _LONGEST_LINK))
            if link_leaves(row.path, target):
                raise RefusedError(
                    f"the recorded patch makes {row.path!r} a link that leaves the repository",
                    "it was not made by mlflow-repro",
                )
    if entries:
        _refuse_conflicts(snapshot, entries, gone=[row.path for row in rows if row.new_mode == NO_MODE])
        snapshot.add_entries(entries)
    _compare(snapshot.write_tree(), expected_tree)
    return rows


def _refuse_conflicts(snapshot: Snapshot, entries: Sequence[Entry], *, gone: Sequence[str]) -> None:
    """Untracked files lie beside the tracked ones: over none of them, and below none of them."""
    free = {*gone, *(parent for path in gone for parent in parents_of(path))}
    tracked = set(map(decode_path, snapshot.both.ask("ls-files", "-z").split(b"\0")[:-1]))
    for entry in entries:
        if entry.path not in free and os.path.lexists(file_path(snapshot.place.top, entry.path)):
            raise RefusedError(
                f"the archive of untracked files writes {entry.path!r}, where something is already",
                "the checkout is not clean",
            )
        for path in (*parents_of(entry.path), entry.path):
            if path in tracked:
                raise RefusedError(
                    f"the archive of untracked files writes {entry.path!r}, where the repository has {path!r}",
                    "it was not made by mlflow-repro",
                )


def _apply(calls: GitCalls, patch: bytes) -> None:
    """Apply a patch to the index, all of it or nothing. Raises RefusedError or CannotJudgeError."""
    try:
        calls.ask("apply", "--cached", *_APPLY, stdin=patch)
    except GitError as error:
        if _UNSAFE.search(error.stderr):
            raise RefusedError(f"the recorded patch is not safe to apply: {error.message}") from error
        if error.kind != "failed":
            raise
        words = [line.removeprefix("error: ") for line in error.stderr.splitlines() if line.startswith("error: ")]
        detail = "; ".join(words) or error.message
        raise CannotJudgeError(
            f"the recorded patch does not apply to this commit: {detail}", "the commit is not the one it was made from"
        ) from error


def _check_out(calls: GitCalls, rows: Sequence[Row]) -> None:
    """Make the changed files what the index says.

    ``git apply --index`` would do both, but not for a file whose line ends, in the commit, are not those that
    .gitattributes asks for: such a file is never clean. Raises GitError, OSError.
    """
    for row in rows:
        if row.new_mode == NO_MODE and row.old_mode != SUBMODULE_MODE:
            remove_file(calls.directory, row.path)
    names = [row.path for row in rows if row.new_mode not in (NO_MODE, SUBMODULE_MODE)]
    if names:
        told = b"".join(encode_path(name) + b"\0" for name in names)
        calls.ask("checkout-index", "-f", "-q", "-u", "-z", "--stdin", stdin=told)


def _check_clean(snapshot: Snapshot) -> set[str]:
    """Refuse a checkout in which somebody has been at work. Raises CannotJudgeError, GitError, OSError.

    Returns the files that git takes for changed although they are as it wrote them: those whose line ends, in the
    commit, are not what .gitattributes asks for, and those that Git LFS has put there.
    """
    rows = [row for row in snapshot.refresh([]) if row.new_mode != SUBMODULE_MODE]
    for row in rows:
        if row.new_mode != row.old_mode or row.new_mode not in REGULAR_MODES or not _is_as_written(snapshot, row):
            raise CannotJudgeError(f"the checkout is not clean: {row.path!r} is changed", "use a fresh one")
    return {row.path for row in rows}


def _is_as_written(snapshot: Snapshot, row: Row) -> bool:
    path = file_path(snapshot.place.top, row.path)
    size = os.lstat(path).st_size
    if is_same_pointer(row, path, size, snapshot):
        return True
    written = snapshot.read.ask("cat-file", "--filters", f"--path={row.path}", row.old_object, limit=_LONGEST_FILE)
    content = read_regular(path, size) or b""
    return content.replace(b"\r\n", b"\n") == written.replace(b"\r\n", b"\n")


def _verify(snapshot: Snapshot, before: set[str], entries: Sequence[Entry], expected_tree: str) -> None:
    """Look at what is on the disk now."""
    changed = [row.path for row in snapshot.refresh([]) if row.path not in before and row.new_mode != SUBMODULE_MODE]
    if changed:
        raise CannotJudgeError(f"the working tree is not what was written to it: {changed[0]!r} differs")
    snapshot.add_entries([read_back(snapshot.place.top, entry) for entry in entries])
    _compare(snapshot.write_tree(), expected_tree)


def _compare(tree: str, expected: str) -> None:
    if tree != expected:
        raise CannotJudgeError(
            f"the restored files are the tree {tree[:12]}, and {expected[:12]} was recorded",
            "a part of the record is missing or damaged, or the commit is another one",
        )
