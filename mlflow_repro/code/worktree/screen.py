"""What must not be recorded: content that holds secrets, links that leave the tree, names that mean something else."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from mlflow_repro.code.worktree.packed import unpack_parts
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.secret_names import ASSIGNED_CLUES, holds_assigned_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# `redact_value` reads three megabytes a second and keeps Python's lock meanwhile. It is asked only about the lines that
# have one of these in them (in lower case); a test holds that each of its rules needs one.
_CLUES = (
    *(b"://", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"sk-", b"hf_", b"xox", b"xapp-"),
    *(b"glpat-", b"glrt-", b"glptt-", b"gldt-", b"glcbt-", b"glsoat-", b"glft-", b"glimt-", b"glagent-"),
    *(b"hooks.slack.com/", b"akia", b"asia", b"secretaccess", b"secret_access", b"aiza", b"gocspx-", b"ya29.", b"dapi"),
    *(b"npm_", b"pypi-", b"dckr_pat_", b"_v1_", b"gsk_", b"r8_", b"hvs.", b"_live_", b"_test_", b"sg.", b"eyj"),
    *(b"bearer ", b"basic ", b"private key", b"key=", b"secret=", b"password=", b"passwd=", b"passphrase=", b"pwd="),
    *(b"cred=", b"creds=", b"cookie=", b"cookies=", b"str=", b"passcode="),
    *(b"token=", b"bearer=", b"credential=", b"credentials=", b"string=", b"sig="),
)
# A name of which it is worth to look at what it is given; most lines that have "token" in them give it nothing.
_ASSIGNMENT = re.compile(rb"(?:%s)[\w.\-]{0,16}(?<![\W_])[\\\"'\]]{0,5}\s{0,8}[:=]" % b"|".join(ASSIGNED_CLUES))
_PIECE = 1 << 16
_OVERLAP = 512  # more than any token needs to be recognised
_WINDOW = 1024

# What stands for a secret is none: ``{token}`` in an f-string, ``<password>`` in a text. Neither is the user name that
# ssh needs, nor the end of a word such as risk-assessment.
_BLANK = r"(?:\{[^{}\s]*\}|<[^<>\s]*>|\$\{?\w+\}?|%s|%\(\w+\)s|\*+|\.\.\.|x{3,}|\[redacted\])"
_HARMLESS = re.compile(
    rf"(?<=://){_BLANK}(?::{_BLANK})?@|(?<=ssh://)[\w.\-]+@|(?<==){_BLANK}|(?<=[A-Za-z0-9])sk-", re.IGNORECASE
)


def holds_secret(content: bytes, check_time: Callable[[], None] = lambda: None) -> bool:
    """True when there is a secret in a file's content, in what is packed in it, or in a patch.

    That is a token of a known form, a credential inside a URI, a literal that a name calls a secret. ``check_time`` is
    called again and again; what it raises is raised.
    """
    return any(_holds_secret(part, check_time) for part in unpack_parts(content, check_time))


def _holds_secret(content: bytes, check_time: Callable[[], None]) -> bool:
    for begin in range(0, len(content), _PIECE - _OVERLAP):
        check_time()
        piece = content[begin : begin + _PIECE]
        if _find_secret(piece) or (b"\0" in piece and _find_secret(piece.replace(b"\0", b""))):  # UTF-16
            return True
    return False


def _find_secret(piece: bytes) -> bool:
    lowered = piece.lower()
    if any(_is_secret(piece[first:last]) for first, last in _suspects(piece, lowered)):
        return True
    return any(_is_assigned(piece[first:last]) for first, last in _lines_with(_ASSIGNMENT, lowered))


def _is_assigned(text: bytes) -> bool:
    return holds_assigned_secret(text.decode("utf-8", "replace"))


def _lines_with(sign: re.Pattern[bytes], piece: bytes) -> Iterator[tuple[int, int]]:
    """The lines in which ``sign`` is, long ones as far as they are near it."""
    end = -1
    for found in sign.finditer(piece):
        if found.start() >= end:
            first = max(piece.rfind(b"\n", 0, found.start()) + 1, found.start() - _OVERLAP)
            end = min(_line_end(piece, found.end()), found.end() + _OVERLAP)
            yield first, end


def _is_secret(text: bytes) -> bool:
    plain = _HARMLESS.sub("", text.decode("utf-8", "replace"))
    return redact_value(plain) != plain


def _suspects(piece: bytes, lowered: bytes) -> Iterator[tuple[int, int]]:
    """Where in ``piece`` a line stands that has a clue, with the one after it; of long ones what is around the clue."""
    for clue in _CLUES:
        at = lowered.find(clue)
        while at >= 0:
            first = max(piece.rfind(b"\n", 0, at) + 1, at - _OVERLAP)
            end = _line_end(piece, at)
            yield first, min(_line_end(piece, end + 1), at + _WINDOW)
            at = lowered.find(clue, max(min(end, at + _WINDOW) - _OVERLAP, at + 1))


def _line_end(piece: bytes, at: int) -> int:
    end = piece.find(b"\n", at)
    return len(piece) if end < 0 else end


def is_circle(path: bytes) -> bool:
    """Say whether this is a link that leads back to itself."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def link_leaves(path: str, target: str) -> bool:
    """True when a symbolic link at ``path`` (relative to the top, with slashes) does not stay inside the tree.

    Inside is what holds wherever the tree lies, and whatever other links there are: relative, ``..`` only in front,
    and not git's own folder.
    """
    if not target or target.startswith("/") or "\0" in target:
        return True
    steps = [step for step in target.split("/") if step not in ("", ".")]
    ups = 0
    while ups < len(steps) and steps[ups] == "..":
        ups += 1
    parents = path.split("/")[:-1]
    if ups > len(parents) or ".." in steps[ups:]:
        return True
    return any(is_git_folder(step) for step in [*parents[: len(parents) - ups], *steps[ups:]])


def is_unsafe_path(path: str) -> bool:
    """True for a path in a patch or an archive that could mean something outside the tree, or something of git's."""
    if not path or "\0" in path or any(step in ("", ".", "..") for step in path.split("/")):
        return True
    return any(step == ".." or is_git_folder(step) for step in re.split(r"[/\\]", path))


def is_git_folder(name: str) -> bool:
    """True for ``.git`` in the spellings that some file system takes for it."""
    plain = "".join(character for character in name if character.isprintable()).rstrip(" .").lower()
    return plain.partition(":")[0].rstrip(" .") in {".git", "git~1"}


def decode_path(path: bytes) -> str:
    """The path as text, whatever the locale says."""
    return path.decode("utf-8", "surrogateescape")


def encode_path(path: str) -> bytes:
    """What `decode_path` was given."""
    return path.encode("utf-8", "surrogateescape")


def file_path(top: str, path: str) -> bytes:
    """Where the file ``path`` of the tree below ``top`` is on the disk."""
    return os.path.join(os.fsencode(top), encode_path(path))
