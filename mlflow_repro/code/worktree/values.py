"""What is taken of a working tree, and how much of it at most."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class TreeLimits:
    """How much is taken. A record is uploaded with every run, so these are sizes for code and not for data."""

    patch_bytes: int = 10_000_000
    """Of the patch. Changes made by hand are kilobytes; what is more is a generated file or a notebook's pictures."""
    changed_bytes: int = 200_000_000
    """Of the changed tracked files together, which git has to read to compare them: about a second of a disk."""
    untracked_files: int = 1_000
    """More new files than this nobody wrote: they are an output folder that is missing in .gitignore."""
    untracked_bytes: int = 10_000_000
    """Of the untracked files together, as for the patch."""
    untracked_file_bytes: int = 1_000_000
    """Of one untracked file. Source files above it are as good as unknown, data below it is rare."""
    bundle_bytes: int = 50_000_000
    """Of the commits that are on no remote: a whole history of code when nothing was ever pushed."""
    scanned_bytes: int = 64_000_000
    """Of the changes in those commits that are looked through for secrets."""
    listed_bytes: int = 64_000_000
    """Of one list of file names that git gives: about half a million files."""
    named: int = 100
    """How many files that were left out are named one by one."""
    submodules: int = 50
    """How many submodules are looked into."""
    since_ns: int = 0
    """When the program began, in nanoseconds since 1970: what was written since then is its output; 0 for unknown."""
    written: frozenset[str] = frozenset()
    """Absolute paths that the program is known to have opened for writing."""

    def is_output(self, path: bytes, found: os.stat_result) -> bool:
        """True for a file that the program, or a child of it, has created or changed since it began."""
        is_late = self.since_ns and max(found.st_mtime_ns, found.st_ctime_ns) >= self.since_ns
        return bool(is_late) or os.fsdecode(path) in self.written


PARTS = (
    "tree",
    "patch",
    "untracked",
    "bundle",
    "is_pushed",
    "submodules",
    "pointers",
    "remotes",
    "git_version",
)
"""The fields of `TakenTree` that can be missing; the reason then stands in ``withheld`` under the same name."""


@dataclass(frozen=True, kw_only=True)
class TakenTree:
    """Everything of a working tree that its commit does not hold, and what was not taken, with the reason.

    ``tree`` is git's name for the tree of HEAD with all changes and the untracked files that were taken; it leaves out
    what ``left_out`` names. ``patch`` leads from HEAD to the working tree's tracked files, staged and unstaged changes
    together; ``untracked`` is a tar archive, ``bundle`` a git bundle of the commits that are on no remote-tracking
    branch, to be fetched where ``bundle_prerequisites`` are. Each is empty when there is nothing of its kind.
    ``left_out`` has a row ``{"path", "reason", "size"}`` (bytes, None when not known) for each file that was not taken;
    rows with the path ``*`` count those that are not named. ``outputs`` are files that the program has written itself
    since it began: they are no part of the tree, and what stood there before is not known.
    """

    top: str = ""
    commit: str = ""
    tree: str = ""
    patch: bytes = b""
    untracked: bytes = b""
    untracked_paths: tuple[str, ...] = ()
    left_out: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[str, ...] = ()
    bundle: bytes | None = None
    bundle_prerequisites: tuple[str, ...] = ()
    is_pushed: bool | None = None
    submodules: tuple[TakenSubmodule, ...] = ()
    pointers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The tracked files whose content is elsewhere, by the program that keeps it: ``lfs``, ``dvc``, ``annex``."""
    remotes: Mapping[str, str] = field(default_factory=dict)
    """Name and URL, without credentials."""
    conversions: Mapping[str, str] = field(default_factory=dict)
    """The user's settings by which git changes files between the working tree and the repository."""
    git_version: str = ""
    withheld: Mapping[str, str] = field(default_factory=dict)
    """Why a part is missing, by its name (`PARTS`)."""
    withheld_digests: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of a part that was made, and then withheld."""

    @property
    def is_clean(self) -> bool | None:
        """True when the working tree is exactly that of HEAD; None when that could not be found out."""
        if self.patch or self.untracked or self.left_out or "patch" in self.withheld_digests:
            return False
        if any(module.is_dirty for module in self.submodules):
            return False
        return None if {"tree", "patch", "untracked", "submodules"} & set(self.withheld) else True


@dataclass(frozen=True, kw_only=True)
class TakenSubmodule:
    """A submodule with the commit that is checked out in it. ``taken`` is None, with a reason, when it is not."""

    path: str
    commit: str
    url: str = ""
    taken: TakenTree | None = None
    reason: str = ""

    @property
    def is_dirty(self) -> bool:
        """True when it has changes of its own, as far as that was found out."""
        return self.taken is not None and self.taken.is_clean is False

    @property
    def patch(self) -> bytes:
        """Its own patch, relative to its own top; empty when it has no changes."""
        return self.taken.patch if self.taken is not None else b""
