"""What a working tree says of itself; its commit and remotes as its files tell them, without git.

Starting git takes longer than a training should wait; reading three small files does not.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.text.giturl import local_path, strip_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SECTION = re.compile(r'\[([\w.-]+)(?: +"([^"\\]*)")?\]')
_SETTING = re.compile(r"([A-Za-z][\w-]*)[ \t]*=[ \t]*(.*)")
_SPECIAL = re.compile(r"[\"\\#;]")  # quotes, escapes and comments, which only git reads as git does
_HEADS = "refs/heads/"
_LIMIT = 1 << 20  # bytes of a file of git's


@dataclass(frozen=True, kw_only=True)
class Worktree:
    """What a working tree says of itself. ``commit`` and ``branch`` are empty when there is none.

    ``is_tracked`` says whether git tracks the file that was asked about, None when there was none.
    """

    top: str
    commit: str
    branch: str
    upstream_remote: str
    remotes: Mapping[str, str]
    is_dirty: bool | None = None
    is_tracked: bool | None = None

    @property
    def uri(self) -> str:
        """Where others get this repository: the branch's remote, else ``origin``, else any; else its own path."""
        for remote in (self.upstream_remote, "origin", *sorted(self.remotes)):
            url = self.remotes.get(remote)
            if url:
                return self._absolute(url)
        return Path(self.top).as_uri()

    def _absolute(self, url: str) -> str:
        path = local_path(url)
        if path is None or "://" in url:
            return strip_credentials(url)
        return os.path.normpath(os.path.join(self.top, os.path.expanduser(url)))


def read_head(directory: str) -> Worktree | None:
    """Commit, branch and remotes of the working tree around ``directory``; whether it is clean is not found out.

    None where there is none, and wherever git might say something else than its files do at a first look: another
    user's repository, a configuration in several files, another way to store branches. Raises nothing.
    """
    with suppress(OSError, ValueError, LookupError):
        top = find_top(directory)
        folder, common = _find_folders(top)
        if not top or os.stat(top).st_uid != os.geteuid() or os.stat(folder).st_uid != os.geteuid():
            return None
        head = _read(folder, "HEAD").strip()
        branch = head.removeprefix(f"ref: {_HEADS}") if head.startswith(f"ref: {_HEADS}") else ""
        commit = _find_commit(common, _HEADS + branch) if branch else head
        settings = dict(_read_settings(_read(common, "config")))
        if not _SHA.fullmatch(commit):
            return None
        remotes = {name[7:-4]: url for name, url in settings.items() if re.fullmatch(r"remote\..+\.url", name)}
        upstream = settings.get(f"branch.{branch}.remote", "")
        return Worktree(top=top, commit=commit, branch=branch, upstream_remote=upstream, remotes=remotes)
    return None


def find_top(folder: str) -> str:
    """The nearest folder, from this one upwards, that has a ``.git``; empty when there is none."""
    folder = os.path.realpath(folder)
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return ""
        folder = above
    return folder


def _find_folders(top: str) -> tuple[str, str]:
    """The folder of the working tree's own state, and the one that it has in common with others."""
    folder = os.path.join(top, ".git")
    if os.path.isfile(folder):  # `git worktree add`, and submodules
        folder = os.path.join(top, _read(top, ".git").removeprefix("gitdir: ").strip())
    common = os.path.join(folder, "commondir")
    return folder, os.path.join(folder, _read(folder, "commondir").strip()) if os.path.isfile(common) else folder


def _find_commit(common: str, name: str) -> str:
    """The commit of a branch. Raises LookupError when there is none here."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return _read(common, name).strip()
    for line in _read(common, "packed-refs").splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    raise LookupError(name)


def _read_settings(config: str) -> Iterator[tuple[str, str]]:
    """The settings ``remote.NAME.url`` and ``branch.NAME.remote``. Raises ValueError where only git can read them."""
    section = ""
    names: set[str] = set()
    for line in map(str.strip, config.splitlines()):
        header, setting = _SECTION.fullmatch(line), _SETTING.fullmatch(line)
        if header:
            section = header[1].lower() + ("" if header[2] is None else f".{header[2]}")
        elif line.endswith("\\") or line.startswith("[") or section.startswith(("include", "extensions")):
            raise ValueError(line)
        elif setting:
            name = f"{section}.{setting[1].lower()}"
            if name in names or name == "core.worktree" or _SPECIAL.search(setting[2]):
                raise ValueError(line)
            if re.fullmatch(r"remote\..+\.url|branch\..+\.remote", name):
                names.add(name)
                yield name, setting[2]


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), "rb") as file:
        content = file.read(_LIMIT + 1)
    if len(content) > _LIMIT and name != "packed-refs":
        raise ValueError(name)
    return content.decode("utf-8", "surrogateescape")
