"""Read a patch of git's, in exactly the form in which we record it and in no other."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_repro.code.worktree.screen import decode_path, encode_path, is_unsafe_path
from mlflow_repro.errors import CannotJudgeError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = b"diff --git "
_HEADER = re.compile(
    rb"(?:old mode|new mode|deleted file mode|new file mode) \d{6}|index [0-9a-f]+\.\.[0-9a-f]+(?: \d{6})?"
)
_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_BLOCK = re.compile(rb"(?:literal|delta) \d+")
_NAMING = re.compile(rb"(?:--- |\+\+\+ |(?:rename|copy) (?:from|to) )(.*)")
_ESCAPE = re.compile(rb"\\(?:([0-7]{3})|(.))", re.DOTALL)
_ESCAPED = dict(zip(b"abtnvfr", b"\a\b\t\n\v\f\r", strict=True))


class PatchFormError(ValueError):
    """The text is not a patch in the form in which we record one."""


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """What a patch does to one file: its path, and the lines that it adds or takes away, without their signs."""

    path: str
    lines: list[bytes] = field(default_factory=list)
    is_binary: bool = False


def check_patch(patch: bytes) -> None:
    """Look at every name in a patch before git sees it.

    Raises RefusedError when one is absolute, leaves the tree or is git's own, CannotJudgeError when the text is not a
    patch as we record them.
    """
    try:
        for change in read_patch(patch):
            _refuse_unsafe(change.path)
    except PatchFormError as error:
        for line in patch.split(b"\n"):
            for path in _loose_names(line):
                _refuse_unsafe(path)
        raise CannotJudgeError(f"the recorded patch cannot be read: {error}", "the record is damaged") from error


def _refuse_unsafe(path: str) -> None:
    if is_unsafe_path(path):
        raise RefusedError(f"the recorded patch changes {path!r}", "a patch may only change files of its repository")


def _loose_names(line: bytes) -> Iterator[str]:
    """The names in what looks like a header line, without the prefix ``a/`` or ``b/`` when they have it."""
    naming = _NAMING.fullmatch(line)
    words = [naming[1].rstrip(b"\t")] if naming else line[len(_START) :].split() if line.startswith(_START) else []
    for word in words:
        name = decode_path(_unquote(word))
        if name not in ("/dev/null", ""):
            yield name[2:] if name[:2] in ("a/", "b/") else name


def read_patch(patch: bytes) -> Iterator[FileChange]:
    """The changes of a patch, file by file. Raises PatchFormError."""
    lines = patch.split(b"\n")
    if lines.pop() != b"":
        raise PatchFormError("it does not end with a whole line")
    at = 0
    while at < len(lines):
        change, at = _read_file(lines, at)
        yield change


def name_in_header(line: bytes) -> str:
    """The name that a line ``diff --git ...`` or ``diff --cc ...`` ends with, for whom no certainty is needed."""
    name = _unquote(line[line.rfind(b' "') + 1 :]) if line.endswith(b'"') else line.rpartition(b" b/")[2]
    name = name.removeprefix(b"diff --cc ")
    return decode_path(name.removeprefix(b"b/"))


def _read_file(lines: list[bytes], at: int) -> tuple[FileChange, int]:
    if not lines[at].startswith(_START):
        raise PatchFormError(f"line {at + 1} does not begin a file")
    path = _path_of(lines[at], at)
    at += 1
    while at < len(lines) and _HEADER.fullmatch(lines[at]):
        at += 1
    if at == len(lines) or lines[at].startswith(_START):  # a mode, or an empty file
        return FileChange(path=path), at
    if lines[at] == b"GIT binary patch":
        return FileChange(path=path, is_binary=True), _skip_binary(lines, at + 1)
    for sign, prefix in ((b"--- ", b"a/"), (b"+++ ", b"b/")):
        name = _unquote(lines[at][4:].removesuffix(b"\t")) if at < len(lines) and lines[at].startswith(sign) else b""
        if name not in (b"/dev/null", prefix + encode_path(path)):
            raise PatchFormError(f"line {at + 1} does not name the file {path!r}")
        at += 1
    change = FileChange(path=path)
    while at < len(lines) and lines[at].startswith(b"@@ "):
        at = _read_hunk(lines, at, change.lines)
    return change, at


def _read_hunk(lines: list[bytes], at: int, changed: list[bytes]) -> int:
    match = _HUNK.match(lines[at])
    if match is None:
        raise PatchFormError(f"line {at + 1} does not begin a hunk")
    old, new = (int(count) if count is not None else 1 for count in match.groups())
    at += 1
    while at < len(lines) and (old > 0 or new > 0 or lines[at].startswith(b"\\")):
        sign = lines[at][:1]
        if sign not in (b" ", b"-", b"+", b"\\"):
            break
        old -= sign in (b" ", b"-")
        new -= sign in (b" ", b"+")
        if sign in (b"-", b"+"):
            changed.append(lines[at][1:])
        at += 1
    if old != 0 or new != 0:
        raise PatchFormError(f"the hunk that ends at line {at + 1} is not whole")
    return at


def _skip_binary(lines: list[bytes], at: int) -> int:
    """Behind the one or two blocks of base85 that follow; each ends with an empty line."""
    begin = at
    while at < len(lines) and _BLOCK.fullmatch(lines[at]):
        while at < len(lines) and lines[at]:
            at += 1
        at += 1
    if at == begin or at > len(lines):
        raise PatchFormError(f"the binary change at line {begin + 1} is not whole")
    return at


def _path_of(line: bytes, at: int) -> str:
    """The path in ``diff --git a/PATH b/PATH``, which must be twice the same."""
    names = line[len(_START) :]
    if names.startswith(b'"'):
        middle = names.find(b'" "') + 1
        old, new = _unquote(names[:middle]), _unquote(names[middle + 1 :])
    else:
        middle = len(names) // 2
        old, new = names[:middle], names[middle + 1 :]
    if not (old.startswith(b"a/") and new.startswith(b"b/") and old[2:] == new[2:] and old[2:]):
        raise PatchFormError(f"line {at + 1} does not name one file")
    return decode_path(old[2:])


def _unquote(name: bytes) -> bytes:
    """A name as git prints it: as it is, or in quotes with escapes in the manner of C."""
    if not (name.startswith(b'"') and name.endswith(b'"') and name != b'"'):
        return name

    def plain(match: re.Match[bytes]) -> bytes:
        number, letter = match.groups()
        return bytes([int(number, 8) & 0xFF if number else _ESCAPED.get(letter[0], letter[0])])

    return _ESCAPE.sub(plain, name[1:-1])
