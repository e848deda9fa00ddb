"""Put the taken parts back into a checkout of our own. Everything is tried out beside it before anything is written."""

from __future__ import annotations

import os
import re
import tempfile
import time
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.gitrepo import GitError
from mlflow_repro.gittree.calls import RAW_OPTIONS, GitCalls
from mlflow_repro.gittree.patchtext import check_patch
from mlflow_repro.gittree.paths import decode_path, file_path
from mlflow_repro.gittree.screen import is_unsafe_path, link_leaves
from mlflow_repro.gittree.snapshot import LINK_MODE, SUBMODULE_MODE, Place, Snapshot, locate, read_rows
from mlflow_repro.gittree.untracked import (
    PROGRAM_MODE,
    Entry,
    parents_of,
    read_regular,
    unpack_entries,
    write_entries,
)

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


def restore_tree(checkout: Path, *, patch: bytes, untracked: bytes, expected_tree: str) -> None:
    """Turn a clean checkout of the recorded commit, in a place of our own, into the recorded working tree.

    ``patch``, ``untracked`` and ``expected_tree`` are those of a `TakenTree`; either part may be empty. Raises
    RefusedError when a part would write outside the tree or into git's own folder, CannotJudgeError when a part is
    damaged, does not fit the commit, or does not lead to ``expected_tree``. In all these cases nothing has been written
    but for a checkout that was not clean.
    """
    if patch:
        check_patch(patch)
    entries = unpack_entries(untracked)
    deadline = time.monotonic() + RESTORE_SECONDS
    calls = GitCalls(os.path.abspath(checkout), deadline=deadline, settings=_SETTINGS)
    try:
        place = locate(calls)
        calls = calls.inside(place.top)
        with tempfile.TemporaryDirectory(prefix="mlflow-repro-") as folder:
            _rehearse(Snapshot(place, calls, folder), patch, entries, expected_tree)
        before = _find_changes(calls)
        if patch:
            _apply(calls, "--index", patch=patch)
        write_entries(place.top, entries)
        with tempfile.TemporaryDirectory(prefix="mlflow-repro-") as folder:
            _verify(Snapshot(place, calls, folder), before, entries, expected_tree)
    except GitError as error:
        raise CannotJudgeError(f"the recorded changes cannot be put back: {error.message}") from error
    except OSError as error:
        raise CannotJudgeError(f"the recorded changes cannot be put back: {error}") from error


def _rehearse(snapshot: Snapshot, patch: bytes, entries: Sequence[Entry], expected_tree: str) -> None:
    """Do it in an index of our own, and look at what git made of it."""
    if patch:
        _apply(snapshot.both, "--cached", patch=patch)
    for row in snapshot.changes():
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
        _refuse_conflicts(snapshot, entries)
        snapshot.add_entries(entries)
    _compare(snapshot.write_tree(), expected_tree)


def _refuse_conflicts(snapshot: Snapshot, entries: Sequence[Entry]) -> None:
    """Untracked files lie beside the tracked ones: over none of them, and below none of them."""
    tracked = set(map(decode_path, snapshot.both.ask("ls-files", "-z").split(b"\0")[:-1]))
    for entry in entries:
        for path in (*parents_of(entry.path), entry.path):
            if path in tracked:
                raise RefusedError(
                    f"the archive of untracked files writes {entry.path!r}, where the repository has {path!r}",
                    "it was not made by mlflow-repro",
                )


def _apply(calls: GitCalls, *options: str, patch: bytes) -> None:
    """``git apply``, which does all or nothing. Raises RefusedError or CannotJudgeError."""
    try:
        calls.ask("apply", *options, *_APPLY, stdin=patch)
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


def _find_changes(calls: GitCalls) -> set[str]:
    """What git takes for changed in the working tree: some repositories are never clean, for their line ends."""
    calls.ask("update-index", "-q", "--refresh", accept=(0, 1))
    return {row.path for row in read_rows(calls.ask("diff-files", *RAW_OPTIONS))}


def _verify(snapshot: Snapshot, before: set[str], entries: Sequence[Entry], expected_tree: str) -> None:
    """Look at what is on the disk now."""
    changed = [row.path for row in snapshot.refresh([]) if row.path not in before and row.new_mode != SUBMODULE_MODE]
    if changed:
        raise CannotJudgeError(f"the working tree is not what was written to it: {changed[0]!r} differs")
    snapshot.add_entries([_read_back(snapshot.place, entry) for entry in entries])
    _compare(snapshot.write_tree(), expected_tree)


def _read_back(place: Place, entry: Entry) -> Entry:
    path = file_path(place.top, entry.path)
    if entry.mode == LINK_MODE:
        return Entry(path=entry.path, mode=LINK_MODE, content=os.readlink(path))
    content = read_regular(path, len(entry.content))
    mode = PROGRAM_MODE if os.access(path, os.X_OK) else "100644"
    return Entry(path=entry.path, mode=mode, content=b"" if content is None else content)


def _compare(tree: str, expected: str) -> None:
    if tree != expected:
        raise CannotJudgeError(
            f"the restored files are the tree {tree[:12]}, and {expected[:12]} was recorded",
            "a part of the record is missing or damaged, or the commit is another one",
        )
