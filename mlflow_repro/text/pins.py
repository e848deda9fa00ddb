"""The lines of a lock: what may be handed to an installer, and nothing else. Pure text.

An installer's requirement file is a language of its own, with options that read other files, name other indexes and
run code. A lock of ours has two kinds of line: ``name==version``, and ``name @ URL`` with an exact git commit or an
archive's hash; either may end in ``--hash=ALGORITHM:HEX``. Names and versions follow PEP 508 and PEP 440.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import RefusedError
from mlflow_repro.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Iterable

VERSION = re.compile(
    r"(?:\d+!)?\d+(?:\.\d+)*(?:[._-]?(?:a|b|c|rc|alpha|beta|pre|preview)[._-]?\d*)?"
    r"(?:[_-]\d+|[._-]?(?:post|rev|r)[._-]?\d*)?(?:[._-]?dev[._-]?\d*)?(?:\+[a-z0-9]+(?:[._-][a-z0-9]+)*)?",
    re.IGNORECASE | re.ASCII,
)
URL = re.compile(r"(?:https?|ssh)://(?!-)[\w.:@\[\]-]+/[\w./~+%@=,-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SUBDIRECTORY = re.compile(r"(?!/)[\w./-]+", re.ASCII)
DEFAULT_INDEX = "default"
"""In place of an index's URL: whichever one the installer is set up to use."""
TORCH_INDEX = "https://download.pytorch.org/whl/"
"""What is below it serves local versions such as ``torch==2.9.1+cpu``."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_HASH = re.compile(r"--hash=((?:sha256|sha384|sha512):[0-9a-f]{64,128})")
_TORCH_CHANNEL = re.compile(r"(?:nightly/)?[a-z0-9][a-z0-9.-]*", re.ASCII)
_SHOWN = 80  # characters of a line that are shown


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One package of a lock. ``url`` is empty for one that an index serves; ``version`` is empty for the others."""

    name: str
    version: str = ""
    url: str = ""
    hashes: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """``name==version`` or ``name @ URL``."""
        return f"{self.name} @ {self.url}" if self.url else f"{self.name}=={self.version}"

    @property
    def line(self) -> str:
        """The line of a lock that `parse_lock` reads as this pin."""
        return " ".join((self.requirement, *(f"--hash={digest}" for digest in self.hashes)))


def parse_lock(text: str, file: str) -> tuple[Pin, ...]:
    """The pins of a lock. ``file`` names it in errors.

    Raises RefusedError for a line that is anything else, for a package that is named twice, and for a direct reference
    that is not https or ssh, holds credentials, or could be something else tomorrow.
    """
    pins: dict[str, Pin] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip(" \r"):
            continue
        pin, why = _parse_line(line.rstrip(" \r"))
        if pin is None or pin.name in pins:
            shown = redact_text(line)[:_SHOWN]
            raise RefusedError(
                f"{file}, line {number}: {why or 'the package is named twice'}: {shown!r}",
                "a lock holds only exact versions; --env current does without it",
            )
        pins[pin.name] = pin
    return tuple(pins.values())


def join_lines(pins: Iterable[Pin]) -> str:
    """The text of a lock."""
    return "".join(f"{pin.line}\n" for pin in pins)


def _parse_line(line: str) -> tuple[Pin | None, str]:
    """The pin, or why the line is none."""
    requirement, *options = line.split(" --")
    matches = [_HASH.fullmatch(f"--{option}") for option in options]
    hashes = tuple(match[1] for match in matches if match)
    if len(hashes) != len(options):
        return None, "it has an option"
    name, at, url = requirement.partition(" @ ")
    if not at:
        name, equals, version = requirement.partition("==")
        if not (equals and _NAME.fullmatch(name) and VERSION.fullmatch(version)):
            return None, "it is not of the form name==version"
        return Pin(name=normalise_name(name), version=version, hashes=hashes), ""
    if not _NAME.fullmatch(name):
        return None, "it does not begin with the name of a package"
    why = _judge_url(url, hashes)
    return (None, why) if why else (Pin(name=normalise_name(name), url=url, hashes=hashes), "")


def _judge_url(url: str, hashes: tuple[str, ...]) -> str:
    """Why a direct reference is not accepted; empty when it is."""
    is_git = url.startswith("git+")
    address, _, fragment = url.removeprefix("git+").partition("#")
    scheme, _, rest = address.partition("://")
    user = rest.partition("/")[0].rpartition("@")[0]
    if not URL.fullmatch(address) or scheme not in (("https", "ssh") if is_git else ("https",)):
        return "its URL is of a kind that is not fetched"
    if user and (scheme != "ssh" or ":" in user):
        return "its URL holds credentials"
    if is_git:
        key, equals, folder = fragment.partition("=")
        is_folder = key == "subdirectory" and SUBDIRECTORY.fullmatch(folder) and ".." not in folder.split("/")
        if (equals or fragment) and not is_folder:
            return "what follows '#' is not a subdirectory"
        return "" if COMMIT.fullmatch(address.rpartition("@")[2]) else "it has no exact git commit"
    if fragment:
        return "its URL has a fragment"
    return "" if hashes else "its archive has no hash"


def is_known_index(index: str) -> bool:
    """True for an index that a lock of ours may name: the installer's own, or one of torch's."""
    return index == DEFAULT_INDEX or (
        index.startswith(TORCH_INDEX) and _TORCH_CHANNEL.fullmatch(index.removeprefix(TORCH_INDEX)) is not None
    )


def normalise_name(name: str) -> str:
    """``name`` as the package index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
