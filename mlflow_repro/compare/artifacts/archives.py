"""Archives and compressed files: what is in them counts, their dates, order and compression do not.

Nothing is written out: names of members are only labels here, and links are compared, not followed.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from mlflow_repro.compare.artifacts.blobs import (
    PIECE,
    Blob,
    Outcome,
    TooLargeError,
    UnreadableError,
    combine,
    reading,
    same_content,
    too_large,
)
from mlflow_repro.compare.artifacts.documents import compare_keras_config, compare_keras_metadata, parse_json
from mlflow_repro.compare.artifacts.scalars import compare_trees
from mlflow_repro.compare.artifacts.text import SEARCH_TIMES, VOLATILE_KEYS, compare_torch_code
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_repro.compare.artifacts.blobs import Context

_LONGEST_TARGET = 4096
_TORCH_CODE = "*/code/__torch__*.py"
"""The members in which TorchScript keeps the code of a model."""
_ENCRYPTED = 0x1  # bit of a zip member's flags
_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    "gzip": lambda stream: gzip.GzipFile(fileobj=stream, mode="rb"),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
_SUFFIXES = {".gz": "", ".bz2": "", ".xz": "", ".tgz": ".tar", ".tbz2": ".tar", ".txz": ".tar", ".svgz": ".svg"}
_TAR_KINDS = {
    tarfile.DIRTYPE: "a folder",
    tarfile.SYMTYPE: "a symbolic link to",
    tarfile.LNKTYPE: "a hard link to",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry of an archive: content, or (``kind`` not empty) something that has none."""

    size: int = 0
    kind: str = ""
    open: Callable[[], BinaryIO] | None = None


def compare_zip(one: Blob, other: Blob, context: Context, special: Mapping[str, Any] | None = None) -> Outcome:
    """A zip archive, member by member; ``special`` are comparators for members by their names."""
    with open_zip(one, context) as left, open_zip(other, context) as right:
        scripts = {name: compare_torch_code for name in left if fnmatchcase(name, _TORCH_CODE)}
        return compare_members(left, right, context, special or scripts)


def compare_keras(one: Blob, other: Blob, context: Context) -> Outcome:
    """A ``.keras`` file: a zip whose metadata hold a date and whose config holds addresses in memory."""
    special = {"metadata.json": compare_keras_metadata, "config.json": compare_keras_config}
    return compare_zip(one, other, context, special)


@contextmanager
def open_zip(blob: Blob, context: Context) -> Iterator[dict[str, Member]]:
    """The members of a zip archive by their names. Raises UnreadableError for a bomb or a broken archive."""
    with blob.open() as stream:
        with reading("zip"):
            archive = zipfile.ZipFile(stream)
            entries = archive.infolist()
        if len(entries) > context.limits.members:
            raise TooLargeError(f"the archive has {len(entries)} members, more than {context.limits.members}")
        _check_ratio(sum(entry.file_size for entry in entries), blob, context)
        members: dict[str, Member] = {}
        for entry in entries:
            if entry.filename in members:
                raise UnreadableError(f"the archive has two members of the name {entry.filename[:80]!r}")
            if entry.flag_bits & _ENCRYPTED:
                raise UnreadableError("the archive is encrypted")
            if entry.is_dir():
                members[entry.filename] = Member(kind="a folder")
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                members[entry.filename] = _zipped_link(archive, entry)
                continue
            members[entry.filename] = Member(size=entry.file_size, open=partial(_open_zipped, archive, entry))
        yield members


def _zipped_link(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Member:
    """A symbolic link, which a zip archive holds as a file with the target in it."""
    if entry.file_size > _LONGEST_TARGET:
        raise UnreadableError("the target of a link is too long")
    with reading("zip"):
        return Member(kind=f"a symbolic link to {archive.read(entry)!r}")


def _open_zipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> BinaryIO:
    return cast("BinaryIO", archive.open(entry))


def compare_tar(one: Blob, other: Blob, context: Context) -> Outcome:
    """A tar archive, compressed or not, member by member; owners, modes and times do not count."""
    with _open_tar(one, context) as left, _open_tar(other, context) as right:
        return compare_members(left, right, context, {})


@contextmanager
def _open_tar(blob: Blob, context: Context) -> Iterator[dict[str, Member]]:
    kind = _compression(blob)
    if kind:
        blob = _expand(blob, kind, context)
    with blob.open() as stream:
        members: dict[str, Member] = {}
        total = 0
        with reading("tar"):
            archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - closed with the stream that it reads
            for entry in archive:
                if len(members) >= context.limits.members:
                    raise TooLargeError(f"the archive has more than {context.limits.members} members")
                total += entry.size if entry.isreg() else 0
                if entry.name in members and not entry.isdir():
                    raise UnreadableError(f"the archive has two members of the name {entry.name[:80]!r}")
                members[entry.name] = _tar_member(archive, entry)
        _check_ratio(total, blob, context)
        yield members


def _tar_member(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Member:
    if entry.isreg():
        return Member(size=entry.size, open=lambda: cast("BinaryIO", archive.extractfile(entry)))
    kind = _TAR_KINDS.get(entry.type, f"an entry of type {entry.type!r}")
    return Member(kind=f"{kind} {entry.linkname!r}" if entry.linkname else kind)


def _check_ratio(total: int, blob: Blob, context: Context) -> None:
    """Take ``total`` bytes from the budget. Raises UnreadableError when that is suspiciously much."""
    if total > max(context.limits.unsuspected, context.limits.ratio * blob.size):
        raise TooLargeError(f"it unpacks to {total} bytes, more than {context.limits.ratio} times its size")
    context.budget.spend(total)


def compare_members(
    left: Mapping[str, Member], right: Mapping[str, Member], context: Context, special: Mapping[str, Any]
) -> Outcome:
    """Both archives' members by their names, each as the file that it is."""
    deeper = context.deeper()
    parts = []
    for name in sorted({*left, *right}):
        mine, theirs = left.get(name), right.get(name)
        if mine is None or theirs is None:
            side = "reference" if theirs is None else "reproduction"
            parts.append((name, Outcome(status=Status.DIFFERENT, note=f"only in the {side}")))
        elif mine.open is None or theirs.open is None:
            if mine.kind != theirs.kind:
                note = f"{mine.kind or 'a file'} and {theirs.kind or 'a file'}"
                parts.append((name, Outcome(status=Status.DIFFERENT, note=note)))
        else:
            parts.append((name, _compare_member(name, mine, theirs, deeper, special.get(name))))
    return combine(parts, "members") if parts else same_content("an archive without files")


def _compare_member(name: str, mine: Member, theirs: Member, context: Context, compare: Any) -> Outcome:
    if max(mine.size, theirs.size) > context.limits.held:
        try:
            return _compare_long_member(mine, theirs, context)
        except TooLargeError as error:
            return too_large(error)
    left, right = (_read_member(name, member, context) for member in (mine, theirs))
    if compare is not None and left.digest() != right.digest():
        return cast("Outcome", compare(left, right, context))
    return context.compare(left, right, context)


def _read_member(name: str, member: Member, context: Context) -> Blob:
    with reading("a member of the archive"), _open(member) as stream:
        content = stream.read(context.limits.held + 1)
    if len(content) != member.size:
        raise UnreadableError(f"member {name[:80]!r} is not of the size that the archive says")
    return Blob.from_bytes(name, content)


def _compare_long_member(mine: Member, theirs: Member, context: Context) -> Outcome:
    with reading("a member of the archive"), _open(mine) as first, _open(theirs) as second:
        is_same = mine.size == theirs.size
        while is_same and (piece := first.read(PIECE)):
            is_same = piece == second.read(PIECE)
    if not is_same:
        raise TooLargeError(f"it has more than {context.limits.held} bytes")
    return Outcome(status=Status.IDENTICAL)


def _open(member: Member) -> BinaryIO:
    if member.open is None:
        raise UnreadableError("the member has no content")
    return member.open()


def compare_compressed(one: Blob, other: Blob, context: Context) -> Outcome:
    """A gzip, bzip2 or xz file: what it holds, by the name without the suffix; its date does not count."""
    kinds = _compression(one), _compression(other)
    if not (kinds[0] and kinds[1]):
        raise UnreadableError("it is not compressed on both sides")
    left, right = _expand(one, kinds[0], context), _expand(other, kinds[1], context)
    outcome = context.compare(left, right, context.deeper())
    if outcome.status is Status.IDENTICAL and not outcome.note:
        return same_content(f"what is compressed by {kinds[0]}")
    return outcome


def _compression(blob: Blob) -> str:
    head = blob.head()
    magics = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0"}
    return next((kind for kind, magic in magics.items() if head.startswith(magic)), "")


def _expand(blob: Blob, kind: str, context: Context) -> Blob:
    """What a compressed file holds, measured first. Raises UnreadableError for a bomb or a broken file."""
    size = 0
    allowed = max(context.limits.unsuspected, context.limits.ratio * blob.size)
    with reading(kind), blob.open() as stream:
        expanded = _OPENERS[kind](stream)
        while piece := expanded.read(PIECE):
            size += len(piece)
            context.budget.spend(len(piece))
            if size > allowed:
                raise TooLargeError(f"it unpacks to more than {context.limits.ratio} times its size")
    stem, dot, suffix = blob.name.rpartition(".")
    name = stem + _SUFFIXES.get(f".{suffix.lower()}", "") if dot and stem else blob.name

    def opener() -> BinaryIO:
        return cast("BinaryIO", _OPENERS[kind](blob.open()))

    return Blob(name, size, opener)


_SCHEMA = "schema.json"


def compare_skops(one: Blob, other: Blob, context: Context) -> Outcome:
    """The schema with ids and member names by the order in which they appear, then the members."""
    with open_zip(one, context) as left, open_zip(other, context) as right:
        sides = [_rename(members, context) for members in (left, right)]
        schema = compare_trees(sides[0][0], sides[1][0], context, same="")
        members = compare_members(sides[0][1], sides[1][1], context, {})
    if schema.status is members.status is Status.IDENTICAL:
        left_out = sorted({*sides[0][2], *sides[1][2]})
        without = f", without {', '.join(left_out)}" if left_out else ""
        return same_content(f"the estimator, with ids and member names by their order{without}")
    return combine([("schema", schema), ("arrays", members)], "parts")


def _rename(members: dict[str, Member], context: Context) -> tuple[Any, dict[str, Member], set[str]]:
    """The schema, and the other members, under names that do not depend on addresses; and what was left out."""
    found = members.get(_SCHEMA)
    if found is None or found.open is None or found.size > context.limits.parsed:
        raise UnreadableError(f"it has no {_SCHEMA} that can be read")
    with found.open() as stream:
        schema = parse_json(stream.read(context.limits.parsed), context)
    order: dict[str, str] = {}
    taken: list[tuple[str, Any]] = []
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            _rename_node(node, order)
            taken += _take_volatile(node)
        if isinstance(node, (dict, list)):
            stack += reversed(list(node.values() if isinstance(node, dict) else node))
    dropped = {part["file"] for _, part in taken if isinstance(part, dict) and isinstance(part.get("file"), str)}
    dropped = {_SCHEMA, *dropped} - {*order}
    renamed = {order.get(name, name): member for name, member in members.items() if name not in dropped}
    return schema, renamed, {key for key, _ in taken}


def _take_volatile(node: dict[str, Any]) -> list[tuple[str, Any]]:
    """Take out of a node what differs between any two fits, with its keys."""
    search = node.get("cv_results_")
    results = search.get("content") if isinstance(search, dict) else None
    places = [(node, VOLATILE_KEYS), *([(results, SEARCH_TIMES)] if isinstance(results, dict) else [])]
    return [(key, level.pop(key)) for level, keys in places for key in keys if key in level]


def _rename_node(node: dict[str, Any], order: dict[str, str]) -> None:
    if isinstance(node.get("__id__"), int):
        node["__id__"] = order.setdefault(f"id {node['__id__']}", f"object {len(order)}")
    name = node.get("file")
    if isinstance(name, str):
        suffix = name.rpartition(".")[2]
        node["file"] = order.setdefault(name, f"member {len(order)}.{suffix}")
