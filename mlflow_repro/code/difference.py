"""Two folders of code side by side, file by file."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.text.filenames import is_leftover

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_TEXT_LIMIT = 500_000  # bytes of a file whose lines are counted
_SOURCE_LIMIT = 300  # Python files that are read


@dataclass(frozen=True, kw_only=True)
class FileDifference:
    """A file that is not the same in two folders: ``changed``, ``added`` or ``removed``, and how many lines of it."""

    path: str
    how: str
    lines: int = 0


def diff_folders(one: Path, other: Path) -> list[FileDifference]:
    """What ``other`` has changed, added or removed against ``one``, by path; what running leaves behind is left out."""
    here, there = set(_list_files(one)), set(_list_files(other))
    found = [FileDifference(path=path, how="removed") for path in here - there]
    found += [FileDifference(path=path, how="added") for path in there - here]
    for path in here & there:
        contents = [_read(folder / path) for folder in (one, other)]
        if contents[0] != contents[1]:
            found.append(FileDifference(path=path, how="changed", lines=_count_lines(*contents)))
    return sorted(found, key=lambda file: file.path)


def read_sources(folder: Path, paths: Collection[str] | None = None) -> dict[str, str]:
    """The text of the Python files in ``folder`` by path, up to 300 of them; with ``paths`` of these only."""
    found = (path for path in (_list_files(folder) if paths is None else paths) if path.endswith(".py"))
    chosen = sorted(path for path in found if (folder / path).is_file())[:_SOURCE_LIMIT]
    return {path: _read(folder / path).decode("utf-8", "replace") for path in chosen}


def _list_files(folder: Path) -> Iterator[str]:
    for directory, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != ".git" and not is_leftover(name)]
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), folder)
            if not is_leftover(path):
                yield path


def _read(path: Path) -> bytes:
    try:
        return os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
    except OSError:
        return b""


def _count_lines(one: bytes, other: bytes) -> int:
    if b"\0" in one or b"\0" in other or max(len(one), len(other)) > _TEXT_LIMIT:
        return 0
    here, there = one.split(b"\n"), other.split(b"\n")
    matcher = difflib.SequenceMatcher(a=here, b=there, autojunk=False)
    return sum(max(a2 - a1, b2 - b1) for tag, a1, a2, b1, b2 in matcher.get_opcodes() if tag != "equal")
