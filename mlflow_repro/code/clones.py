"""Bare clones of repositories in the cache: what was fetched once is not fetched again, and checkouts share it.

A clone has all branches and tags with their history, and a name of ours for each commit that was wanted. A checkout
borrows its objects (git's alternates), so nothing may go from a clone while a checkout uses it: git is told never to
remove an object there, and who uses a clone holds a lock without which nobody removes it as a whole. Both locks are
the kernel's: they are free as soon as their holder is dead. A fetch that is killed leaves nothing that counts, because
objects come as a whole pack and a commit is there only when a name leads to it.

Nothing of a clone is secret but its objects: it is named after the address without what lets somebody in, has no
remote in its configuration, and is closed to other users.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.code.git import GitError, run_git
from mlflow_repro.system.folders import cache_directory
from mlflow_repro.system.locks import FOREVER, hold_lock, lock_file
from mlflow_repro.text.giturl import local_path, strip_credentials
from mlflow_repro.text.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HISTORY_SECONDS = 180.0
"""How long the whole history of a repository may take. One that takes longer is not kept."""

LARGEST_CACHE = 10 * 1024**3
"""Bytes of all clones together; beyond it those that were not used for the longest time go."""

_MARKER = "mlflow-repro-clone"
# With precious objects git itself refuses to remove any, whoever asks. A pack appears as a whole; without that limit
# the objects of a small one would come one by one.
_CONFIGURATION = """\
[core]
\trepositoryFormatVersion = 1
\tbare = true
[extensions]
\tpreciousObjects = true
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
"""
_RETRY_SECONDS = 30 * 24 * 3600.0
_STALE_SECONDS = 3600.0


class UnusableCloneError(Exception):
    """The cache cannot be used for this repository now; the text says why."""


class HistoryTooLongError(UnusableCloneError):
    """The history is not fetched in time."""

    def __init__(self) -> None:
        super().__init__(f"its history takes longer than {HISTORY_SECONDS:g} s to fetch")


@dataclass(frozen=True, kw_only=True)
class Clone:
    """One repository in the cache. ``use`` is the descriptor of the lock of those who use it."""

    path: Path
    use: int

    @property
    def objects(self) -> Path:
        """Where its objects are."""
        return self.path / "objects"

    def git(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run git on the clone. Raises GitError."""
        # Named, not found: a user's `safe.bareRepository` forbids to find it.
        return run_git(arguments, cwd=self.path, timeout=timeout, variables={"GIT_DIR": str(self.path)})

    @property
    def is_made(self) -> bool:
        """Whether it is there; it may still lack what is wanted."""
        return (self.path / _MARKER).is_file()

    def has(self, commit: str) -> bool:
        """Whether ``commit`` (a full object name) is there with all that it needs. Raises GitError."""
        with suppress(GitError):
            if self.git("rev-parse", "--verify", "--quiet", self.name_of(commit)) == commit:
                return True
        try:
            return not self.git("rev-list", "--max-count=1", commit, "--not", "--all")
        except GitError as error:
            if error.kind == "failed":  # there is no such object
                return False
            raise

    def keep(self, commit: str) -> None:
        """Give ``commit`` a name of ours, so that it stays whatever becomes of its branch. Raises GitError."""
        self.git("update-ref", self.name_of(commit), commit)

    @staticmethod
    def name_of(commit: str) -> str:
        """The name under which ``commit`` is kept."""
        return f"refs/mlflow-repro/{commit}"

    @contextmanager
    def changing(self) -> Iterator[None]:
        """While it lasts nobody else fetches into the clone, and it is one. Raises UnusableCloneError."""
        try:
            descriptor = lock_file(self.path.with_name(f"{self.path.name}.lock"), wait=HISTORY_SECONDS)
        except BlockingIOError:
            raise UnusableCloneError("another process is fetching into it") from None
        except OSError as error:
            raise UnusableCloneError(f"it cannot be locked: {error}") from error
        try:
            if not self.is_made:
                self._make()
            self._sweep_packs()
            yield
        finally:
            os.close(descriptor)

    def give_up_history(self) -> None:
        """Note that the history takes too long to fetch: for a month nobody tries again."""
        with suppress(OSError):
            self.path.with_name(f"{self.path.name}.large").touch()

    def discard(self) -> bool:
        """Remove the clone, which is damaged, and give up its use; False when somebody else is using it."""
        os.close(self.use)
        return _remove(self.path)

    def _make(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.mkdir(mode=0o700)
            # No template: it would bring hooks.
            self.git("init", "--quiet", "--bare", "--template=")
            (self.path / "config").write_text(_CONFIGURATION, encoding="ascii")
            (self.path / _MARKER).touch()
        except (OSError, GitError) as error:
            raise UnusableCloneError(str(error)) from error

    def _sweep_packs(self) -> None:
        """Remove the halves of packs that fetches have left when they were killed."""
        for file in self.objects.glob("pack/tmp_*"):
            with suppress(OSError):
                if time.time() - file.stat().st_mtime > _STALE_SECONDS:
                    file.unlink()


def open_clone(uri: str) -> Clone | None:
    """The clone of ``uri``, in use until `Clone.use` is closed; it need not be there yet.

    None for a repository that is not kept: one with a working tree on this machine, which is at hand, and one whose
    history takes too long. Raises UnusableCloneError when the cache is not to be had.
    """
    path = local_path(uri)
    if path is not None and (os.path.exists(os.path.join(path, ".git")) or os.path.basename(path) == ".git"):
        return None
    address = (strip_credentials(uri) if path is None else path).rstrip("/")
    folder = cache_directory() / "clones"
    digest = hashlib.sha256(address.encode("utf-8", "surrogateescape")).hexdigest()
    place = folder / f"{_show_name(address)}-{digest[:16]}"
    with suppress(OSError):
        if time.time() - place.with_name(f"{place.name}.large").stat().st_mtime < _RETRY_SECONDS:
            return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.stat(folder).st_uid != os.getuid():
            raise UnusableCloneError(f"{folder} belongs to another user")
        if "\n" in str(folder):
            raise UnusableCloneError(f"git cannot be told of {str(folder)!r}")
        use = lock_file(place.with_name(f"{place.name}.use"), is_shared=True, wait=FOREVER)
        os.utime(use)
    except OSError as error:
        raise UnusableCloneError(f"{folder} cannot be used: {error}") from error
    return Clone(path=place, use=use)


def borrow_objects(clone: Clone, git_directory: Path) -> None:
    """Let the repository ``git_directory`` read the objects of ``clone``."""
    (git_directory / "objects" / "info" / "alternates").write_text(
        f"{clone.objects}\n", encoding="utf-8", errors="surrogateescape"
    )


def limit_cache(limit: int = LARGEST_CACHE) -> list[str]:
    """Remove the clones that were not used for the longest time and that nobody uses, until all are below ``limit``."""
    folder = cache_directory() / "clones"
    clones = []
    with suppress(OSError):
        for use in folder.glob("*.use"):
            path = use.with_suffix("")
            clones.append((use.stat().st_mtime, path, _measure(path)))
    total, removed = sum(size for _, _, size in clones), []
    for _, path, size in sorted(clones):
        if total <= limit:
            break
        if size and _remove(path):
            total -= size
            removed.append(path.name)
    return removed


def _remove(path: Path) -> bool:
    """Remove a clone that nobody uses."""
    try:
        with hold_lock(path.with_name(f"{path.name}.use")):
            (path / _MARKER).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:
        return False
    return True


def _measure(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.rglob("*") if entry.is_file())


def _show_name(address: str) -> str:
    """The end of the address, for people who look into the cache."""
    name = re.split(r"[/:]", address)[-1].removesuffix(".git")
    plain = re.sub(r"[^\w.\-]", "_", name, flags=re.ASCII).strip(".")[:40]
    return plain if plain and redact_value(name) == name else "repository"
