"""Tracked files whose content is somewhere else: kept by Git LFS, DVC or git-annex."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from mlflow_repro.gittree.paths import decode_path, file_path
from mlflow_repro.gittree.untracked import read_regular

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_repro.gittree.calls import GitCalls
    from mlflow_repro.gittree.listing import Listed, Listing
    from mlflow_repro.gittree.snapshot import Place

KEEPERS = ("lfs", "dvc", "annex")
_SIZES = range(50, 400)  # bytes that a pointer has
_LIMIT = 1_000_000  # of a file with attributes
_POINTERS = ((b"version https://git-lfs.github.com/spec/", "lfs"), (b"/annex/objects/", "annex"))
_ANNEX_LINK = re.compile(rb"(?:^|/)\.git/annex/objects/")


def find_pointers(place: Place, listing: Listing, calls: GitCalls) -> dict[str, tuple[str, ...]]:
    """The paths by keeper, as far as attributes, names and links tell, and the content of the first 500 files.

    Raises GitError.
    """
    found: dict[str, set[str]] = {keeper: set() for keeper in KEEPERS}
    for file in listing.special:
        name = file.path.rpartition("/")[2]
        if name == "dvc.lock" or (name.endswith(".dvc") and name != ".dvc"):
            found["dvc"].add(file.path)
        elif file.mode == "120000":
            calls.check_time("look for pointers to content that is elsewhere")
            if _ANNEX_LINK.search(_read_link(file_path(place.top, file.path))):
                found["annex"].add(file.path)
    if _attributes_mention(place, listing.special, b"filter=lfs"):
        answer = calls.ask("ls-files", "-z", "--", ":(attr:filter=lfs)")
        found["lfs"].update(map(decode_path, answer.split(b"\0")[:-1]))
    if os.path.isdir(os.path.join(place.common, "annex")):
        answer = calls.ask("grep", "--cached", "-l", "-z", "--no-color", "-e", "^/annex/objects/", accept=(0, 1))
        found["annex"].update(map(decode_path, answer.split(b"\0")[:-1]))
    regular = [file.path for file in listing.first if file.mode.startswith("100")]
    for path, keeper in _look_into(place, regular, calls):
        found[keeper].add(path)
    return {keeper: tuple(sorted(paths)) for keeper, paths in found.items()}


def _read_link(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError:
        return b""


def _attributes_mention(place: Place, files: Iterable[Listed], words: bytes) -> bool:
    paths = [file_path(place.top, file.path) for file in files if file.path.endswith(".gitattributes")]
    paths.append(os.fsencode(os.path.join(place.common, "info", "attributes")))
    return any(words in _read_beginning(path, _LIMIT) for path in paths)


def _read_beginning(path: bytes, limit: int) -> bytes:
    try:
        return read_regular(path, limit) or b""
    except OSError:
        return b""


def _look_into(place: Place, paths: Iterable[str], calls: GitCalls) -> Iterator[tuple[str, str]]:
    for path in paths:
        calls.check_time("look for pointers to content that is elsewhere")
        full = file_path(place.top, path)
        try:
            size = os.lstat(full).st_size
        except OSError:
            continue
        if size in _SIZES:
            content = _read_beginning(full, _SIZES.stop)
            for beginning, keeper in _POINTERS:
                if content.startswith(beginning):
                    yield path, keeper
