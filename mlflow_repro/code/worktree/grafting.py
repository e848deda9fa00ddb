"""The name of a tree that differs from another in some files, from the folders that are concerned alone.

``git write-tree`` makes every tree of the repository anew, and writes it. Here nothing is written, and a large
repository costs no more than a small one. The form of a tree is that of git's own objects:
https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from mlflow_repro.code.git import GitError
from mlflow_repro.code.worktree.screen import encode_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.code.worktree.calls import GitCalls

_FOLDER = b"40000"


class Leaf(NamedTuple):
    """A file in a tree: git's mode and the name of its content."""

    mode: bytes
    object_name: str


Folder = dict[bytes, Leaf]
Changes = dict[bytes, "Leaf | None"]
"""Files by path; None takes one away."""


def make_leaf(mode: str, object_name: str) -> Leaf:
    """A leaf, its mode written as ``git ls-files`` does it."""
    return Leaf(mode.lstrip("0").encode("ascii"), object_name)


def read_folders(calls: GitCalls, tree: str, paths: Iterable[str]) -> dict[bytes, Folder]:
    """The folders of ``tree`` that the files at ``paths`` are in, and those above them. Raises GitError."""
    wanted = sorted({b"", *(folder for path in paths for folder in _folders_above(encode_path(path)))})
    named = [folder for folder in wanted if b"\n" not in folder]
    questions = b"".join(tree.encode("ascii") + b":" + folder + b"\n" for folder in named)
    answers = calls.ask("cat-file", "--batch", stdin=questions)
    width = len(tree) // 2
    found: dict[bytes, Folder] = {}
    at = 0
    for folder in named:
        end = answers.find(b"\n", at)
        facts = answers[at:end].rsplit(b" ", 2)
        at = end + 1
        if len(facts) == 3 and facts[2].isdigit():  # noqa: PLR2004 - object name, type and size; else it is missing
            size = int(facts[2])
            if facts[1] == b"tree":
                found[folder] = _parse(answers[at : at + size], width)
            at += size + 1
    for folder in wanted:
        if b"\n" in folder:  # such a name cannot be asked for, the object can; the folder above comes before
            above, _, name = folder.rpartition(b"/")
            leaf = found.get(above, {}).get(name)
            if leaf is not None and leaf.mode == _FOLDER:
                found[folder] = _parse(calls.ask("cat-file", "tree", leaf.object_name), width)
    return found


def graft(folders: Mapping[bytes, Folder], changes: Changes, *, algorithm: str) -> tuple[str, dict[str, bytes]]:
    """The name of the tree with ``changes``, and by name the trees that are in it at the changed places.

    ``folders`` are those that `read_folders` gives for the changed paths, or for more. Raises GitError when a file
    would stand where a folder is.
    """
    made: dict[bytes, Folder] = {b"": dict(folders.get(b"", {}))}
    added: dict[bytes, list[tuple[bytes, Leaf]]] = {}
    for path, leaf in changes.items():
        for folder in _folders_above(path):
            made.setdefault(folder, dict(folders.get(folder, {})))
        above, _, name = path.rpartition(b"/")
        if leaf is not None:
            added.setdefault(above, []).append((name, leaf))
        elif not _is_folder(made[above], name):
            made[above].pop(name, None)
    objects: dict[str, bytes] = {}
    for folder in sorted(made, key=_depth, reverse=True):  # each after the folders in it
        for name, leaf in added.get(folder, ()):
            _put(made[folder], name, leaf)
        content = _format(made[folder])
        tree = hashlib.new(algorithm, b"tree %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        objects[tree] = content
        above, _, name = folder.rpartition(b"/")
        if made[folder] and folder:
            _put(made[above], name, Leaf(_FOLDER, tree))
        elif folder and _is_folder(made[above], name):
            del made[above][name]  # git has no empty folders
    return tree, objects


def _depth(folder: bytes) -> int:
    return folder.count(b"/") + 1 if folder else 0


def _folders_above(path: bytes) -> list[bytes]:
    steps = path.split(b"/")
    return [b"/".join(steps[:count]) for count in range(1, len(steps))]


def _is_folder(entries: Folder, name: bytes) -> bool:
    return name in entries and entries[name].mode == _FOLDER


def _put(entries: Folder, name: bytes, leaf: Leaf) -> None:
    if name in entries and (entries[name].mode == _FOLDER) != (leaf.mode == _FOLDER):
        raise GitError("the working tree changed while it was looked at: a folder and a file have one name")
    entries[name] = leaf


def _parse(content: bytes, width: int) -> Folder:
    entries: Folder = {}
    at = 0
    while at < len(content):
        space = content.index(b" ", at)
        end = content.index(b"\0", space)
        entries[content[space + 1 : end]] = Leaf(content[at:space], content[end + 1 : end + 1 + width].hex())
        at = end + 1 + width
    return entries


def _format(entries: Folder) -> bytes:
    ordered = sorted(entries.items(), key=lambda entry: entry[0] + b"/" if entry[1].mode == _FOLDER else entry[0])
    return b"".join(leaf.mode + b" " + name + b"\0" + bytes.fromhex(leaf.object_name) for name, leaf in ordered)
