"""What the comparators of artifacts work on and answer with: bytes that can be read again, limits, and an outcome."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO

from mlflow_repro.text.listing import list_some
from mlflow_repro.text.redact import redact_named, redact_text
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mlflow_repro.values.rules import Tolerances

MIB = 2**20
PIECE = MIB
_SHOWN = 3  # differences that a note names
_QUOTED = 60  # characters of a value that a note quotes


class UnreadableError(Exception):
    """A comparator can go no deeper; its text says why, and the bytes decide."""


class MissingReaderError(UnreadableError):
    """What reads the format is not installed: whether the contents differ cannot be said."""


class TooLargeError(UnreadableError):
    """Reading on would take more memory or time than a file is given: whether the contents differ cannot be said."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a comparator may unpack, parse and hold; beyond it nobody can say. Sizes are bytes."""

    expanded: int = 4096 * MIB
    """What one artifact may unpack to, everything nested in it included."""
    ratio: int = 200
    """And how many times its own size that may be, once it is more than `unsuspected`."""
    unsuspected: int = 64 * MIB
    held: int = 512 * MIB
    """The largest piece that is held in memory: a member of an archive, an array."""
    parsed: int = 64 * MIB
    """The largest JSON, text, table or pickle that is parsed."""
    parsed_yaml: int = MIB
    members: int = 20_000
    depth: int = 4
    """How many archives may lie inside each other."""
    nodes: int = 5_000_000
    """Values in one document."""
    opcodes: int = 2_000_000
    """Of one pickle; each can make a node of some hundred bytes."""
    pixels: int = 80_000_000


@dataclass
class Budget:
    """What is left of `Limits.expanded` for one artifact."""

    left: int

    def spend(self, size: int) -> None:
        """Take ``size`` bytes out. Raises UnreadableError when there is less."""
        self.left -= size
        if self.left < 0:
            raise TooLargeError("it unpacks to more than the limit")


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a comparator is told. ``compare`` judges something nested by its own name, one level deeper."""

    tolerances: Tolerances
    limits: Limits
    compare: Callable[[Blob, Blob, Context], Outcome]
    budget: Budget
    depth: int = 0

    def deeper(self) -> Context:
        """The context of something nested. Raises UnreadableError when that is too deep."""
        if self.depth >= self.limits.depth:
            raise TooLargeError(f"more than {self.limits.depth} archives lie inside each other")
        return replace(self, depth=self.depth + 1)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How two contents stand to each other, and what there is to say about it."""

    status: Status
    note: str = ""


IDENTICAL = Outcome(status=Status.IDENTICAL)


class Blob:
    """A name and bytes that can be opened again and again: a file, or something inside one."""

    def __init__(self, name: str, size: int, opener: Callable[[], BinaryIO]) -> None:
        self.name = name
        self.size = size
        self.open = opener

    @classmethod
    def from_bytes(cls, name: str, content: bytes) -> Blob:
        """Bytes that are in memory."""
        return cls(name, len(content), lambda: io.BytesIO(content))

    @classmethod
    def from_path(cls, name: str, path: Path) -> Blob:
        """A regular file; a link is not followed. Raises UnreadableError for anything else, OSError."""
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise UnreadableError("it is a link" if stat.S_ISLNK(found.st_mode) else "it is not a regular file")

        def opener() -> BinaryIO:
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
            return os.fdopen(os.open(path, flags), "rb")

        return cls(name, found.st_size, opener)

    def read(self, limit: int) -> bytes:
        """All of it. Raises UnreadableError when that is more than ``limit`` bytes."""
        if self.size > limit:
            raise TooLargeError(f"{show_size(self.size)} are more than the {show_size(limit)} that are parsed")
        with self.open() as stream:
            content = stream.read(limit + 1)
        if len(content) > limit:
            raise TooLargeError(f"it holds more than the {show_size(limit)} that are parsed")
        return content

    def head(self, size: int = 16) -> bytes:
        """The first bytes."""
        with self.open() as stream:
            return stream.read(size)

    def digest(self) -> str:
        """The SHA-256 of all of it, in hexadecimal."""
        digest = hashlib.sha256()
        with self.open() as stream:
            while piece := stream.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()


def first_difference(one: Blob, other: Blob) -> int | None:
    """The offset of the first byte that differs, the end of the shorter one included; None when there is none."""
    offset = 0
    with one.open() as first, other.open() as second:
        while True:
            left, right = first.read(PIECE), second.read(PIECE)
            if left != right:
                shorter = min(len(left), len(right))
                return offset + next((i for i in range(shorter) if left[i] != right[i]), shorter)
            if not left:
                return None
            offset += len(left)


def compare_bytes(one: Blob, other: Blob, reason: str) -> Outcome:
    """The last resort: where the bytes differ first, and why nobody looked deeper."""
    offset = first_difference(one, other)
    if offset is None:
        return IDENTICAL
    sizes = "" if one.size == other.size else f"{one.size} and {other.size} bytes, "
    return Outcome(
        status=Status.DIFFERENT, note=f"{sizes}the first difference is at byte {offset}; compared as bytes: {reason}"
    )


def too_large(error: TooLargeError) -> Outcome:
    """Nobody can say whether contents of this size are the same: no difference, and no reason to trust them."""
    return Outcome(status=Status.UNKNOWN, note=f"the bytes differ; not compared: too large: {error}")


def same_content(what: str) -> Outcome:
    """The content is the same although the bytes are not; ``what`` names what was compared or left out."""
    return Outcome(status=Status.IDENTICAL, note=f"same content in other bytes: {what}")


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a parser raises about broken or hostile input into UnreadableError."""
    try:
        yield
    except UnreadableError:
        raise
    except ImportError as error:
        raise MissingReaderError(f"reading it as {what} needs what is not installed: {explain(error)}") from error
    except (MemoryError, RecursionError) as error:
        raise TooLargeError(f"as {what} it is too large or too deep") from error
    except Exception as error:
        if type(error).__name__.startswith("DecompressionBomb"):  # Pillow's
            raise TooLargeError(explain(error)) from error
        raise UnreadableError(f"it cannot be read as {what}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """The kind and the first line of an error, cut."""
    text = str(error).strip().partition("\n")[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def quote(value: Any, name: str = "") -> str:
    """``value`` as a note shows it: on one line, cut, and hidden when it or ``name`` looks like a secret."""
    text = value if isinstance(value, str) else repr(value)
    text = text[: 20 * _QUOTED]
    # "password = x" is one more way to write a secret down in a file.
    dense = re.sub(r"\s*=\s*", "=", text)
    text = redact_named(name, redact_text(text if redact_text(dense) == dense else dense))
    text = repr(text) if isinstance(value, str) else text
    return text if len(text) <= _QUOTED else text[: _QUOTED - 3] + "..."


def show_size(size: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GiB", 1024 * MIB), ("MiB", MIB), ("KiB", 1024)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def combine(parts: Sequence[tuple[str, Outcome]], noun: str) -> Outcome:
    """The outcome of a whole from those of its named parts: the worst that is judged, and the first notes.

    A part that cannot be judged leaves the whole unknown, unless another one differs.

    Parts that are not judged count only when there are no others.
    """
    differing = [(name, part) for name, part in parts if part.status is Status.DIFFERENT]
    if differing:
        return Outcome(status=Status.DIFFERENT, note=_list_notes(differing, f"of {len(parts)} {noun} differ"))
    unknown = [(name, part) for name, part in parts if part.status is Status.UNKNOWN]
    if unknown:
        return Outcome(status=Status.UNKNOWN, note=_list_notes(unknown, f"of {len(parts)} {noun} cannot be compared"))
    close = [(name, part) for name, part in parts if part.status is Status.CLOSE]
    if close:
        return Outcome(status=Status.CLOSE, note=_list_notes(close, f"of {len(parts)} {noun} are not the same"))
    ignored = [(name, part) for name, part in parts if part.status is Status.IGNORED]
    if ignored and len(ignored) == len(parts):
        return Outcome(status=Status.IGNORED, note=_list_notes(ignored, f"{noun} are not judged"))
    noted = [(name, part) for name, part in parts if part.note]
    if noted:
        return same_content(_list_notes(noted, f"of {len(parts)} {noun}"))
    return same_content(f"{len(parts)} {noun}")


def _list_notes(parts: Sequence[tuple[str, Outcome]], what: str) -> str:
    texts = [f"{quote(name)[1:-1]}: {part.note}" if name else part.note for name, part in parts[:_SHOWN]]
    return f"{len(parts)} {what}: {list_some(texts, _SHOWN, count=len(parts))}"
