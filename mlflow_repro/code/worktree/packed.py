"""Look into archives and compressed files that are to be recorded: what is packed is not seen from outside."""

from __future__ import annotations

import bz2
import io
import lzma
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST = 100_000_000  # bytes that are unpacked of one file; it has a hundredth of that, or is a bomb
_DEPTH = 3
PACKED_SUFFIXES = (
    *(
        b".zip",
        b".npz",
        b".gz",
        b".tgz",
        b".bz2",
        b".tbz2",
        b".xz",
        b".txz",
        b".jar",
        b".whl",
        b".egg",
        b".pt",
        b".pth",
    ),
    *(b".keras", b".skops", b".joblib", b".docx", b".xlsx", b".pptx", b".odt", b".ods"),
)
"""How the names of files end, in lower case, in which something is packed."""
_OPENERS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": lambda: zlib.decompressobj(wbits=31),
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": lzma.LZMADecompressor,
}


def unpack_parts(content: bytes, check_time: Callable[[], None]) -> Iterator[bytes]:
    """``content``, and what is packed in it, archives in archives too, up to a limit. Nothing is written anywhere.

    What is damaged or encrypted gives what it has. ``check_time`` is called for each part; what it raises is raised.
    """
    left = _MOST
    stack = [(content, 0)]
    while stack:
        part, depth = stack.pop()
        check_time()
        yield part
        for inner in _list_parts(part, left) if depth < _DEPTH else ():
            left -= len(inner)
            stack.append((inner, depth + 1))
            if left <= 0:
                break


def _list_parts(content: bytes, limit: int) -> Iterator[bytes]:
    for magic, make in _OPENERS.items():
        if content.startswith(magic):
            yield _expand(make(), content, limit)
            return
    if content.startswith(b"PK\x03\x04"):
        yield from _read_members(content, limit)


def _expand(expander: Any, content: bytes, limit: int) -> bytes:
    try:
        return bytes(expander.decompress(content, limit))
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return b""


def _read_members(content: bytes, limit: int) -> Iterator[bytes]:
    """What is in each member, and what all of them are called."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    yield "\n".join(archive.namelist()).encode("utf-8", "replace")
    for name in archive.namelist():
        try:
            with archive.open(name) as member:
                inner = member.read(max(limit, 0))
        except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, zlib.error, lzma.LZMAError):
            continue  # encrypted, damaged, or packed in a way that nobody here knows
        limit -= len(inner)
        yield inner
