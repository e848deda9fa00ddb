"""Tracked files whose content is somewhere else: kept by Git LFS, DVC or git-annex."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlflow_repro.code.worktree.calls import GitCalls
from mlflow_repro.code.worktree.screen import decode_path, file_path
from mlflow_repro.code.worktree.snapshot import LFS_POINTER, locate
from mlflow_repro.code.worktree.untracked import read_regular
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.redact import show

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mlflow_repro.code.worktree.snapshot import Place

KEEPERS = {
    "lfs": ("Git-LFS", "install git-lfs"),
    "dvc": ("DVC", "nothing here fetches them; commit them, or read them from outside of the repository"),
    "annex": ("git-annex", "nothing here fetches them; commit them, or read them from outside of the repository"),
}
"""What people call the programs that keep contents elsewhere, and what helps where one is missing."""
_SHOWN = 3
_SECONDS = 60.0
_SIZES = range(50, 400)  # bytes that a pointer has
_LIMIT = 1_000_000  # of a file with attributes
_POINTERS = ((LFS_POINTER, "lfs"), (b"/annex/objects/", "annex"))
_ANNEX_LINK = re.compile(rb"(?:^|/)\.git/annex/objects/")


def find_pointers(place: Place, listing: Listing, calls: GitCalls) -> dict[str, tuple[str, ...]]:
    """The paths by keeper, as far as attributes, names and links tell, and the content of the first 500 files.

    Raises GitError.
    """
    found: dict[str, set[str]] = {keeper: set() for keeper in KEEPERS}
    for file in listing.special:
        name = file.path.rpartition("/")[2]
        if name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc"):
            found["dvc"].add(file.path)
        elif file.mode == "120000":
            calls.check_time("look for pointers to content that is elsewhere")
            if _ANNEX_LINK.search(_read_link(file_path(place.top, file.path))):
                found["annex"].add(file.path)
    if _attributes_mention(place, listing.special, b"filter=lfs"):
        answer = calls.ask("ls-files", "-z", "--", ":(attr:filter=lfs)")
        found["lfs"].update(map(decode_path, answer.split(b"\0")[:-1]))
    if os.path.isdir(os.path.join(place.common, "annex")):
        answer = calls.ask("grep", "--cached", "-l", "-z", "--no-color", "-e", "^/annex/objects/", accept=(0, 1))
        found["annex"].update(map(decode_path, answer.split(b"\0")[:-1]))
    regular = [file.path for file in listing.first if file.mode.startswith("100")]
    for path, keeper in _look_into(place, regular, calls):
        found[keeper].add(path)
    return {keeper: tuple(sorted(paths)) for keeper, paths in found.items()}


def _read_link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b""


def _attributes_mention(place: Place, files: Iterable[Listed], words: bytes) -> bool:
    paths = [file_path(place.top, file.path) for file in files if file.path.endswith(".gitattributes")]
    paths.append(os.fsencode(os.path.join(place.common, "info", "attributes")))
    return any(words in _read_beginning(path, _LIMIT) for path in paths)


def _read_beginning(path: bytes, limit: int) -> bytes:
    try:
        return read_regular(path, limit) or b""
    except OSError:
        return b""


def _look_into(place: Place, paths: Iterable[str], calls: GitCalls) -> Iterator[tuple[str, str]]:
    for path in paths:
        calls.check_time("look for pointers to content that is elsewhere")
        full = file_path(place.top, path)
        keeper = _find_keeper(full)
        if keeper:
            yield path, keeper


def _find_keeper(full: bytes) -> str:
    """Whose pointer a file is by its content; empty when it is none."""
    try:
        size = os.lstat(full).st_size
    except OSError:
        return ""
    content = _read_beginning(full, _SIZES.stop) if size in _SIZES else b""
    return next((keeper for beginning, keeper in _POINTERS if content.startswith(beginning)), "")


def describe_missing(directory: Path) -> list[str]:
    """A caveat for each keeper of whose files a checkout has the pointers and not the contents. Raises GitError."""
    calls = GitCalls(str(directory), deadline=time.monotonic() + _SECONDS)
    place = locate(calls)
    found = find_pointers(place, read_listing(calls.ask(*LIST_ARGUMENTS)), calls)
    caveats = []
    for keeper, paths in found.items():
        missing = [path for path in paths if _lacks_content(file_path(place.top, path), keeper)]
        if missing:
            name, advice = KEEPERS[keeper]
            shown = list_some(list(map(show, missing)), _SHOWN, joint=", ")
            caveats.append(f"{len(missing)} files are {name} pointers without their content ({shown}): {advice}")
    return caveats


def _lacks_content(full: bytes, keeper: str) -> bool:
    if keeper == "dvc":  # a pipeline makes what its lock names
        return full.endswith(b".dvc") and not os.path.lexists(full.removesuffix(b".dvc"))
    is_dead_link = keeper == "annex" and os.path.islink(full) and not os.path.exists(full)
    return is_dead_link or _find_keeper(full) == keeper


LIST_ARGUMENTS = ("ls-files", "-v", "-s", "-z")
_SPECIAL_NAMES = (b".dvc", b"dvc.lock", b".gitattributes")
_FIRST = 500


class Listed(NamedTuple):
    """A tracked file: git's letter for how it is looked at, its mode, the name of its content, its path."""

    tag: str
    mode: str
    object_name: str
    path: str

    @property
    def is_skipped(self) -> bool:
        """True when git was told not to look at the file in the working tree (``--skip-worktree``)."""
        return self.tag in "Ss"

    @property
    def is_assumed(self) -> bool:
        """True when git was told to assume that the file does not change (``--assume-unchanged``)."""
        return self.tag.islower()


@dataclass(frozen=True, kw_only=True)
class Listing:
    """``special`` are files with a flag, of another kind than a regular file, or of one of a few names."""

    special: tuple[Listed, ...] = ()
    first: tuple[Listed, ...] = ()
    """The first 500 of all."""


def read_listing(answer: bytes) -> Listing:
    """What ``git ls-files -v -s -z`` gives."""
    rows = answer.split(b"\0")
    rows.pop()
    # One row for each file of the repository: what is done for each of them must be quick.
    special = [row for row in rows if row[:5] != b"H 100" or row.endswith(_SPECIAL_NAMES)]
    return Listing(special=tuple(map(_read_row, special)), first=tuple(map(_read_row, rows[:_FIRST])))


def _read_row(row: bytes) -> Listed:
    facts, _, path = row.partition(b"\t")
    tag, mode, object_name, _ = facts.decode("ascii").split(" ")
    return Listed(tag, mode, object_name, decode_path(path))
