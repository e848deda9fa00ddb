"""A second index: the tree of the working tree as it is now, without a trace in the user's index or repository.

The user's index is copied, and the copy brought up to date. Whatever git writes meanwhile goes into an object store of
our own. While it writes it does not even see the user's: it would renew the times of each object there that it would
have written as well (``freshen_packed_object`` in git's object-file.c), and one of those is usually the whole history.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from mlflow_repro.code.git import GitError
from mlflow_repro.code.worktree.calls import PATCH_OPTIONS, RAW_OPTIONS
from mlflow_repro.code.worktree.screen import decode_path, encode_path, file_path, is_unsafe_path, link_leaves
from mlflow_repro.code.worktree.untracked import is_code
from mlflow_repro.text.filenames import is_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_repro.code.worktree.calls import GitCalls
    from mlflow_repro.code.worktree.untracked import Entry, LeftOut
    from mlflow_repro.code.worktree.values import TreeLimits

REGULAR_MODES = ("100644", "100755")
LINK_MODE, SUBMODULE_MODE, NO_MODE = "120000", "160000", "000000"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What the file begins with that stands for a content of Git LFS."""
_LFS_LIMIT = 1024
_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Place:
    """A working tree, and where its repository keeps what. ``commit`` is empty when there is none yet."""

    top: str
    index: str
    objects: str
    common: str
    algorithm: str
    is_shallow: bool
    commit: str
    tree: str

    @property
    def base(self) -> str:
        """What changes are compared with: the commit's tree, or the empty tree, which git always has."""
        return self.tree or hashlib.new(self.algorithm, b"tree 0\0", usedforsecurity=False).hexdigest()


def locate(calls: GitCalls) -> Place:
    """The working tree that holds the directory of ``calls``. Raises GitError."""
    fixed = ("--show-toplevel", "--git-path", "index", "--git-path", "objects", "--git-common-dir")
    facts = ("--show-object-format", "--is-shallow-repository", "--revs-only", "HEAD", "HEAD^{tree}")
    lines = calls.ask("rev-parse", *fixed, *facts).decode("utf-8", "surrogateescape").splitlines()
    if len(lines) not in (6, 8):
        raise GitError("git cannot read HEAD of this repository")
    top, index, objects, common, algorithm, shallow, *head = lines
    index, objects, common = (os.path.abspath(os.path.join(calls.directory, path)) for path in (index, objects, common))
    return Place(
        top=top,
        index=index,
        objects=objects,
        common=common,
        algorithm=algorithm if algorithm == "sha256" else "sha1",
        is_shallow=shallow == "true",
        commit=head[0] if head else "",
        tree=head[1] if head else "",
    )


class Row(NamedTuple):
    """One file that differs: modes and names of its content before and after (zeros when git has not looked)."""

    path: str
    old_mode: str
    new_mode: str
    old_object: str
    new_object: str
    status: str
    """git's letter; ``U`` for a file with a conflict."""


def read_rows(answer: bytes) -> list[Row]:
    """What ``--raw -z`` gives, each path once."""
    fields = answer.split(b"\0")
    rows: dict[str, Row] = {}
    for facts, name in zip(fields[::2], fields[1::2], strict=False):
        path = decode_path(name)
        rows[path] = Row(path, *facts.decode("ascii").lstrip(":").split(" "))
    return list(rows.values())


_ATTEMPTS = 5  # a file that shrinks while git reads it, such as a log that is begun anew, is read again


class Snapshot:
    """A copy of an index in a ``folder`` of our own, with an object store. Making it raises OSError."""

    def __init__(self, place: Place, calls: GitCalls, folder: str) -> None:
        self.place = place
        self._store = os.path.join(folder, "objects")
        os.makedirs(os.path.join(self._store, "pack"))
        index = os.path.join(folder, "index")
        _copy_index(place.index, index)
        self.read = calls.inside(place.top).given({"GIT_INDEX_FILE": index})
        self.write = self.read.given({"GIT_OBJECT_DIRECTORY": self._store})
        self.both = self.write.given({"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quote(place.objects)})

    def refresh(self, uncovered: Sequence[str]) -> list[Row]:
        """Compare the working tree with the index; ``uncovered`` are files that git was told not to look at.

        Raises GitError.
        """
        if uncovered:
            names = b"".join(encode_path(path) + b"\0" for path in uncovered)
            self.read.ask("update-index", "-z", "--no-skip-worktree", "--stdin", stdin=names)
        # Also where it was told to assume that nothing changes; 1 says that something did.
        self.read.ask("update-index", "-q", "--really-refresh", accept=(0, 1))
        return read_rows(self.read.ask("diff-files", *RAW_OPTIONS))

    def add(self, rows: Sequence[Row]) -> None:
        """Bring the index up to date with the working tree in ``rows``. Raises GitError."""
        # `update-index --remove` refuses what lies behind a link by now.
        self.take_out(row.path for row in rows if row.new_mode == NO_MODE)
        rows = [row for row in rows if row.new_mode != NO_MODE]
        if not rows:
            return
        known = {row.old_object for row in rows if row.old_mode in REGULAR_MODES and row.old_object.strip("0")}
        if known:  # whether line ends are converted depends on what is there already
            base = os.path.join(self._store, "pack", "pack")
            names = "".join(f"{name}\n" for name in sorted(known)).encode("ascii")
            self.both.ask("pack-objects", "-q", "--window=0", base, stdin=names)
        paths = b"".join(encode_path(row.path) + b"\0" for row in rows)
        for attempt in range(_ATTEMPTS):
            try:
                self.write.ask("update-index", "-z", "--add", "--remove", "--replace", "--stdin", stdin=paths)
            except GitError as error:
                if "short read" not in str(error) or attempt == _ATTEMPTS - 1:
                    raise
            else:
                return

    def put(self, lines: Iterable[tuple[str, str, str]]) -> None:
        """Set (mode, object name, path) in the index; the mode 000000 takes the path out. Raises GitError."""
        told = b"".join(f"{mode} {name}\t".encode("ascii") + encode_path(path) + b"\0" for mode, name, path in lines)
        if told:
            self.write.ask("update-index", "-z", "--index-info", stdin=told)

    def take_out(self, paths: Iterable[str]) -> None:
        """Take files out of the index. Raises GitError."""
        self.put((NO_MODE, "0" * len(self.place.base), path) for path in paths)

    def add_entries(self, entries: Sequence[Entry]) -> None:
        """Set untracked files in the index, byte for byte. Raises GitError."""
        self.put((entry.mode, entry.object_name(self.place.algorithm), entry.path) for entry in entries)

    def changes(self) -> list[Row]:
        """What the index changes of the commit. Raises GitError."""
        return read_rows(self.both.ask("diff-index", "--cached", *RAW_OPTIONS, self.place.base))

    def read_object(self, name: str, limit: int) -> bytes:
        """The content of a blob. Raises GitError."""
        return self.both.ask("cat-file", "blob", name, limit=limit)

    def write_tree(self) -> str:
        """The name of the tree that the index is. Raises GitError."""
        return self.write.ask("write-tree", "--missing-ok").decode("ascii").strip()

    def keep_trees(self, objects: Mapping[str, bytes]) -> None:
        """Put trees into the store. Raises OSError."""
        for name, content in objects.items():
            folder = os.path.join(self._store, name[:2])
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, name[2:]), "wb") as file:
                file.write(zlib.compress(b"tree %d\0" % len(content) + content, 1))

    def make_patch(self, tree: str, limit: int) -> bytes:
        """The patch from the commit to ``tree``. Raises GitError, TooLargeError when it is longer than ``limit``."""
        arguments = ("diff-tree", "-r", "-p", *PATCH_OPTIONS, self.place.base, tree)
        # With an index git would read the files themselves where it takes them for unchanged (`reuse_worktree_file`).
        calls = self.both.given({"GIT_INDEX_FILE": os.path.join(self._store, "no-index")})
        return calls.ask(*arguments, limit=limit, reads_to_end=True)


def _copy_index(source: str, target: str) -> None:
    """Copy an index with its time, by which git knows which files it must look at again."""
    try:
        with open(source, "rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except FileNotFoundError:  # nothing was ever added
        return
    with open(target, "wb") as file:
        file.write(content)
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _quote(path: str) -> str:
    """A path for a list of them that colons separate."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True)
class Screened:
    """Changes of the working tree: those that may be taken, and the others with the reason and the size in bytes."""

    taken: list[Row]
    refused: list[tuple[str, str, int]]
    is_doubtful: bool
    """True when something was refused, or found to be no change: whether it is one at all needs a closer look."""


OUTPUT = "the program has changed it itself"
"""Why a change is refused that is no part of the tree."""


def screen_changes(rows: Iterable[Row], *, snapshot: Snapshot, limits: TreeLimits, has_filters: bool) -> Screened:
    """Tell the changes that may be taken from those that must not. Raises GitError."""
    taken: list[Row] = []
    refused: list[tuple[str, str, int]] = []
    paths = [row.path for row in rows if row.new_mode in REGULAR_MODES]
    filters = _filters(snapshot, paths) if has_filters else {}
    total = 0
    is_doubtful = False
    for row in sorted(rows):
        snapshot.read.check_time("look at all changed files")
        size, reason = _judge_change(row, filters.get(row.path, ""), snapshot, limits)
        if not reason and total + size > limits.changed_bytes:
            reason = f"the changed files hold more than {limits.changed_bytes / 1e6:g} MB"
        if reason:
            refused.append((row.path, reason, size))
        elif reason is None:
            is_doubtful = True
        else:
            taken.append(row)
            total += size
    return Screened(taken, refused, is_doubtful or bool(refused))


def _judge_change(row: Row, kept_by: str, snapshot: Snapshot, limits: TreeLimits) -> tuple[int, str | None]:
    """Size of a changed file, and why it is not taken: empty when it is, None when it has not changed after all."""
    path = file_path(snapshot.place.top, row.path)
    try:
        found = os.lstat(path)
    except OSError:
        return 0, ""  # gone by now, which git will see as well
    size = found.st_size
    reason: str | None = "" if os.access(path, os.R_OK) else "it cannot be read"
    if row.new_mode not in REGULAR_MODES:  # a link or a submodule; links are looked at later, staged ones with them
        return 0, ""
    if limits.is_output(path, found) and not is_code(row.path):  # code that is edited meanwhile is not the program's
        reason = OUTPUT
    elif is_secret_file(row.path):
        reason = "its name announces a secret"
    elif kept_by == "annex":
        reason = "its content is kept by git-annex"
    elif kept_by == "lfs" and is_same_pointer(row, path, size, snapshot):
        reason = None
    elif kept_by == "lfs" and size > limits.patch_bytes:
        reason = f"its content is kept by Git LFS, and more than {limits.patch_bytes / 1e6:g} MB"
    return size, reason


def _filters(snapshot: Snapshot, paths: Sequence[str]) -> dict[str, str]:
    """The filter that each path goes through on its way into the repository, by .gitattributes."""
    if not paths:
        return {}
    names = b"".join(encode_path(path) + b"\0" for path in paths)
    fields = snapshot.read.ask("check-attr", "-z", "--stdin", "filter", stdin=names).split(b"\0")
    return {decode_path(path): value.decode("utf-8", "replace") for path, value in zip(fields[::3], fields[2::3])}  # noqa: B905


def is_same_pointer(row: Row, path: bytes, size: int, snapshot: Snapshot) -> bool:
    """Whether a file that Git LFS keeps has the content that its pointer in the index names.

    LFS's own filter is off, because it copies what it is given into the repository. Raises GitError when there is no
    time to read the file.
    https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    if row.old_mode not in REGULAR_MODES:
        return False
    try:
        pointer = snapshot.read_object(row.old_object, _LFS_LIMIT)
    except GitError:
        return False
    if not pointer.startswith(LFS_POINTER) or b"\nsize %d\n" % size not in pointer:
        return False
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                snapshot.read.check_time("compare the files of Git LFS")
                digest.update(block)
    except OSError:
        return False
    return f"\noid sha256:{digest.hexdigest()}\n".encode("ascii") in pointer


def drop_changes(rows: Iterable[Row], *, snapshot: Snapshot, left_out: LeftOut) -> list[Row]:
    """The changes without those that must not be recorded, which are noted in ``left_out``. Raises GitError."""
    kept: list[Row] = []
    for row in rows:
        reason = ""
        if row.status == "U":
            raise GitError(f"{row.path!r} has a conflict, and cannot be read")
        if is_unsafe_path(row.path):
            reason = "its name is not safe on every file system"
        elif row.new_mode != SUBMODULE_MODE and is_secret_file(row.path):  # a patch that deletes it has its content
            reason = "its name announces a secret"
        elif row.new_mode == LINK_MODE:
            target = decode_path(snapshot.read_object(row.new_object, _BLOCK))
            reason = "it is a link that leaves the repository" if link_leaves(row.path, target) else ""
        if reason:
            left_out.add(row.path, reason)
        else:
            kept.append(row)
    return kept
