"""The installed distributions: name, version, and where each came from, read from their metadata folders.

Names and versions come from the names of the folders and the contents of two small files; no metadata is parsed, which
would take a hundred times longer. What is found first on the search path counts, as it does for ``import``.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.git import describe_worktree
from mlflow_repro.system.folders import read_text, try_read
from mlflow_repro.text.giturl import local_path, strip_credentials
from mlflow_repro.text.pins import normalise_name
from mlflow_repro.text.redact import to_text
from mlflow_repro.values.captured import NO_TIME, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_SUFFIXES = (".dist-info", ".egg-info")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_EGG_TAGS = re.compile(r"-py\d[\w.-]*$")
_SITE_FOLDERS = ("site-packages", "dist-packages")
_CHECK_EVERY = 16  # distributions between two looks at the clock
_GIT_LIMIT = 5  # source trees that git is asked about
_GIT_SECONDS = 2.0
_OPERATING_SYSTEM = ("debian", "rpm", "dnf", "apk", "pacman", "portage")


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One installed distribution.

    ``name`` is normalised (PEP 503), ``folder`` the entry of the search path that holds it, ``entry`` the name of its
    metadata there, ``installer`` the content of its ``INSTALLER`` (``pip``, ``uv``, ``conda``, ...; empty when not
    told). ``direct`` is what its ``direct_url.json`` (PEP 610) says, or empty.
    """

    name: str
    version: str
    folder: str
    entry: str
    installer: str = ""
    direct: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source_folder(self) -> str | None:
        """The folder of a distribution that is imported from its source tree (an editable install), else None."""
        if self.is_source_tree:
            return self.folder
        is_editable = _table(self.direct.get("dir_info")).get("editable") is True
        return local_path(self.direct["url"]) if is_editable else None

    @property
    def is_source_tree(self) -> bool:
        """True for an ``.egg-info`` beside its sources: a legacy editable install, or just a tree on the path."""
        return self.entry.endswith(".egg-info") and os.path.basename(self.folder) not in _SITE_FOLDERS

    @property
    def is_of_system(self) -> bool:
        """True when the operating system's package manager installed it."""
        return self.installer in _OPERATING_SYSTEM or self.folder.endswith("/python3/dist-packages")


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """All distributions by name; ``broken`` metadata folders with the reason; names that are there more than once."""

    distributions: Mapping[str, Distribution]
    broken: Mapping[str, str]
    duplicates: Mapping[str, Sequence[str]]
    left_out: int = 0
    """How many metadata folders were not looked at, because time was up."""


def list_distributions(search_path: Iterable[object], deadline: float) -> Inventory:
    """All distributions on ``search_path``. ``deadline`` is a value of `time.monotonic`. Raises nothing."""
    entries = list(_list_entries(search_path))
    found: dict[str, Distribution] = {}
    versions: dict[str, list[str]] = {}
    broken: dict[str, str] = {}
    for index, (folder, entry) in enumerate(entries):
        if index % _CHECK_EVERY == 0 and time.monotonic() >= deadline:
            return Inventory(distributions=found, broken=broken, duplicates={}, left_out=len(entries) - index)
        try:
            new = _read_distribution(folder, entry)
        except (OSError, ValueError) as error:
            broken[to_text(entry)] = to_text(str(error))
            continue
        versions.setdefault(new.name, []).append(new.version)
        old = found.get(new.name)
        # An editable install leaves an .egg-info in the source tree as well, with a version of long ago.
        if old is None or (old.is_source_tree and new.source_folder is not None and not new.is_source_tree):
            found[new.name] = new
    duplicates = {name: several for name, several in versions.items() if len(set(several)) > 1}
    return Inventory(distributions=found, broken=broken, duplicates=duplicates)


def _list_entries(search_path: Iterable[object]) -> Iterable[tuple[str, str]]:
    """Folder and name of everything that looks like a distribution's metadata, each folder once."""
    seen: set[str] = set()
    for part in search_path:
        if not isinstance(part, (str, os.PathLike)):
            continue
        folder = os.path.abspath(os.fsdecode(part))
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        if folder.endswith(".egg"):
            yield os.path.dirname(folder), os.path.basename(folder)
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if name.endswith(_SUFFIXES):
                yield folder, name


def _read_distribution(folder: str, entry: str) -> Distribution:
    """Raises OSError or ValueError for what is no whole distribution."""
    path = os.path.join(folder, entry)
    stem = entry.rpartition(".")[0]
    name, _, version = stem.partition("-")
    if entry.endswith(".dist-info"):
        metadata = os.path.join(path, "METADATA")
    else:
        version = _EGG_TAGS.sub("", version)
        inner = "EGG-INFO/PKG-INFO" if entry.endswith(".egg") else "PKG-INFO"
        metadata = os.path.join(path, inner) if os.path.isdir(path) else path
    if not _NAME.fullmatch(name):
        raise ValueError("its name is not that of a distribution")
    try:
        size = os.stat(metadata).st_size
    except OSError:
        raise ValueError(f"it has no {os.path.basename(metadata)}") from None
    if not size:
        raise ValueError(f"its {os.path.basename(metadata)} is empty")
    if not version:
        version = _read_version(metadata)
    installer = direct = ""
    if entry.endswith(".dist-info"):
        installer = try_read(os.path.join(path, "INSTALLER"), 64).strip()
        direct = try_read(os.path.join(path, "direct_url.json"))
    return Distribution(
        name=normalise_name(name),
        version=to_text(version),
        folder=folder,
        entry=entry,
        installer=to_text(installer),
        # In a conda package it names the folder on the machine that built it.
        direct=_parse_direct(direct) if direct and installer != "conda" else {},
    )


def _read_version(metadata: str) -> str:
    match = re.search(r"^Version:[ \t]*(\S+)[ \t]*$", read_text(metadata, 4_096), re.MULTILINE)
    if match is None:
        raise ValueError("it does not tell its version")
    return match[1]


def _parse_direct(text: str) -> dict[str, Any]:
    """What a ``direct_url.json`` holds; a note instead of it when it cannot be read."""
    try:
        direct = json.loads(text)
    except (ValueError, RecursionError):
        direct = None
    if isinstance(direct, dict) and isinstance(direct.get("url"), str):
        return direct
    return {"url": "", "broken": "its direct_url.json cannot be read"}


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def describe_direct(distribution: Distribution) -> dict[str, Any]:
    """Where a distribution that is not from an index was installed from, as plain JSON without credentials.

    ``kind`` is ``vcs``, ``archive`` or ``directory``; then ``url`` and what PEP 610 has for that kind: ``vcs``,
    ``commit``, ``revision``; ``hashes``; ``editable``; and the ``subdirectory``. Raises nothing.
    """
    direct = distribution.direct
    facts: dict[str, Any] = {"name": distribution.name, "version": distribution.version}
    if not direct:
        url = to_text("file://" + distribution.folder)
        return {**facts, "kind": "directory", "url": url, "editable": True, "note": "a source tree on the search path"}
    if "broken" in direct:
        return {**facts, "url": missing(direct["broken"])}
    facts["url"], was_cleaned = _clean_url(direct["url"])
    if was_cleaned:
        facts["credentials"] = "taken out, with query and fragment"
    vcs, archive = _table(direct.get("vcs_info")), _table(direct.get("archive_info"))
    if vcs:
        facts["kind"] = "vcs"
        facts["vcs"] = _word(vcs.get("vcs")) or missing("it is not told")
        facts["commit"] = _word(vcs.get("commit_id")) or missing("it is not told")
        if vcs.get("requested_revision"):
            facts["revision"] = _word(vcs["requested_revision"])
    elif archive or "archive_info" in direct:
        facts["kind"] = "archive"
        facts["hashes"] = _hashes(archive) or missing("the installer recorded none")
    else:
        facts["kind"] = "directory"
        facts["editable"] = distribution.source_folder is not None
    if direct.get("subdirectory"):
        facts["subdirectory"] = _word(direct["subdirectory"])
    return facts


def add_git_facts(entries: Iterable[dict[str, Any]], deadline: float) -> None:
    """Put ``git`` (uri, commit, dirty) into the entries of editable installs, for their content is what was run.

    Git is asked about five of them at the most, each for two seconds at the most. Raises nothing.
    """
    asked = 0
    for entry in entries:
        if entry.get("editable") is not True:
            continue
        left = deadline - time.monotonic()
        if left <= 0 or asked >= _GIT_LIMIT:
            entry["git"] = missing(NO_TIME if left <= 0 else f"git is asked about {_GIT_LIMIT} source trees only")
            continue
        asked += 1
        entry["git"] = _ask_git(local_path(entry["url"]), min(left, _GIT_SECONDS))


def _ask_git(folder: str | None, seconds: float) -> dict[str, Any]:
    if folder is None or not os.path.isdir(folder):
        return missing("the folder is not there")
    try:
        tree = describe_worktree(folder, timeout=seconds)
    except Exception as error:  # noqa: BLE001 - a guest: git can fail in many ways
        return missing(to_text(getattr(error, "message", "") or str(error) or type(error).__name__))
    commit = tree.commit or missing("the repository has no commits")
    return {"uri": to_text(tree.uri), "commit": commit, "dirty": tree.is_dirty}


def _clean_url(url: str) -> tuple[str, bool]:
    """The URL without credentials, query and fragment; whether anything but a fragment was taken out."""
    url = url.partition("#")[0]
    try:
        clean = strip_credentials(url)
    except ValueError:  # half an IPv6 address
        clean = url
    clean = to_text(clean)
    return clean, clean != url


def _hashes(archive: Mapping[str, Any]) -> dict[str, str]:
    """The digests of an archive by algorithm: ``hashes``, or the older ``hash`` (``sha256=...``)."""
    hashes = {str(name): str(value) for name, value in _table(archive.get("hashes")).items()}
    if not hashes and isinstance(archive.get("hash"), str):
        name, _, value = archive["hash"].partition("=")
        hashes = {name: value}
    return {name: value for name, value in hashes.items() if re.fullmatch(r"[0-9a-fA-F]{32,128}", value)}


def _word(value: Any) -> str:
    return to_text(value) if isinstance(value, str) else ""
