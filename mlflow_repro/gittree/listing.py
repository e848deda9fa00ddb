"""The list of tracked files: those about which something is special, and the first of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mlflow_repro.gittree.paths import decode_path

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
