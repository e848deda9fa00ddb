"""The commits that are on no remote: packed as a git bundle, and fetched from one."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.code.git import FETCH_TIMEOUT, GitError
from mlflow_repro.code.worktree.calls import TEXT_OPTIONS, GitCalls, Question, TooLargeError
from mlflow_repro.code.worktree.packed import PACKED_SUFFIXES
from mlflow_repro.code.worktree.patchtext import name_in_header
from mlflow_repro.code.worktree.screen import holds_secret
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.system.folders import hold_folder
from mlflow_repro.text.filenames import is_secret_file

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.code.worktree.snapshot import Place
    from mlflow_repro.code.worktree.values import TreeLimits

_HEADER = re.compile(rb"# v[23] git bundle\n")
_LINE = re.compile(rb"(-?)([0-9a-f]{40}|[0-9a-f]{64}) (.*)")
_OBJECT_NAME = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_KEPT_AS = "refs/mlflow-repro/recorded"
_UNPUSHED = ("--not", "--remotes")


@dataclass(frozen=True, kw_only=True)
class BundleHeader:
    """What a bundle needs to be there already, and what it brings."""

    prerequisites: tuple[str, ...] = ()
    tips: tuple[str, ...] = ()


def read_bundle_header(bundle: bytes) -> BundleHeader:
    """Read the lines in front of a bundle's pack. Raises CannotJudgeError when there are none.

    https://git-scm.com/docs/gitformat-bundle
    """
    end = bundle.find(b"\n\n")
    first = _HEADER.match(bundle)
    if first is None or end < 0:
        raise CannotJudgeError("the recorded commits are not a git bundle", "the record is damaged")
    found: tuple[list[str], list[str]] = ([], [])
    for line in bundle[first.end() : end].split(b"\n"):
        match = _LINE.fullmatch(line)
        if match is not None:
            found[not match[1]].append(match[2].decode("ascii"))
        elif not line.startswith(b"@"):  # a capability of version 3
            raise CannotJudgeError("the recorded git bundle cannot be read", "the record is damaged")
    return BundleHeader(prerequisites=tuple(found[0]), tips=tuple(found[1]))


def ask_if_pushed(commit: str) -> Question:
    """The question whose answer is empty when ``commit`` is on a remote-tracking branch."""
    return Question(arguments=("rev-list", "--max-count=1", commit, *_UNPUSHED))


def take_bundle(place: Place, calls: GitCalls, limits: TreeLimits) -> tuple[bytes, BundleHeader]:
    """The commits of HEAD that are on no remote-tracking branch, with all that they bring.

    Raises GitError, TooLargeError among them, with the reason why they are not taken.
    """
    bundle = calls.ask("bundle", "create", "-q", "-", "HEAD", *_UNPUSHED, limit=limits.bundle_bytes)
    try:
        header = read_bundle_header(bundle)
    except CannotJudgeError as error:
        raise GitError(error.message) from error
    if place.commit not in header.tips:
        raise GitError("HEAD moved while its commits were packed")
    if place.is_shallow and not header.prerequisites:
        raise GitError("the repository is shallow, and no remote has what the commits stand on")
    _scan_commits(place, calls, limits)
    return bundle, header


def _scan_commits(place: Place, calls: GitCalls, limits: TreeLimits) -> None:
    """Look for secrets in the messages and changes that a bundle holds. Raises GitError when there is one."""
    # --cc shows of a merge what is in none of its parents; without context all that is shown is changed.
    # What git takes for binary is looked through as well.
    arguments = ("log", "--cc", "-p", "--text", *TEXT_OPTIONS, "--unified=0", "--format=%an %ae%n%B")
    try:
        text = calls.ask(*arguments, place.commit, *_UNPUSHED, limit=limits.scanned_bytes)
    except TooLargeError as error:
        raise GitError(f"the commits change more than can be looked through for secrets ({error.shown})") from error
    for line in re.findall(rb"^diff --(?:git|cc) .*$", text, re.MULTILINE):
        name = name_in_header(line)
        if is_secret_file(name):
            raise GitError(f"one of the commits holds {name!r}, whose name announces a secret", kind="secret")

    def check_time() -> None:
        calls.check_time("look through the commits for secrets")

    packed = (calls.ask("cat-file", "blob", name, limit=limits.scanned_bytes) for name in _list_packed(place, calls))
    if holds_secret(text, check_time) or any(holds_secret(content, check_time) for content in packed):
        raise GitError("one of the commits holds a secret", kind="secret")


def _list_packed(place: Place, calls: GitCalls) -> list[str]:
    """The objects of the archives that the commits bring; what is packed is not in git's text."""
    rows = calls.ask(
        "log", "--raw", "--no-abbrev", "--no-renames", "-m", "--format=", *TEXT_OPTIONS, place.commit, *_UNPUSHED
    )
    pairs = re.findall(rb"^:\d+ \d+ [0-9a-f]+ ([0-9a-f]+) [AMT]\t(.*)$", rows, re.MULTILINE)
    return sorted({blob.decode() for blob, name in pairs if name.strip(b'"').lower().endswith(PACKED_SUFFIXES)})


def fetch_bundle(checkout: Path, bundle: bytes, commit: str) -> None:
    """Bring ``commit`` out of ``bundle`` into the repository of ``checkout``, and keep it there under a name of ours.

    What the bundle stands on must be there already. The working tree is not touched. Raises CannotJudgeError when the
    bundle is damaged, stands on commits that are not there, or does not have the commit.
    """
    header = read_bundle_header(bundle)
    if not _OBJECT_NAME.fullmatch(commit) or commit not in header.tips:
        raise CannotJudgeError(f"the recorded bundle does not bring commit {commit[:12]}", "the record is damaged")
    calls = GitCalls(str(checkout), deadline=time.monotonic() + FETCH_TIMEOUT)
    missing = [name for name in header.prerequisites if not _is_commit(calls, name)]
    if missing:
        shown = ", ".join(name[:12] for name in missing)
        raise CannotJudgeError(
            f"the recorded commits stand on {shown}, which is not in the repository any more",
            "pass --uri with a repository that has it",
        )
    local = calls.given({"GIT_ALLOW_PROTOCOL": "file"})
    with hold_folder() as folder:
        path = os.path.join(folder.path, "commits.bundle")
        with open(path, "wb") as file:
            file.write(bundle)
        try:
            calls.ask("bundle", "verify", "-q", path)
            options = ("-q", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--no-prune")
            local.ask("fetch", *options, path, f"+HEAD:{_KEPT_AS}")
        except GitError as error:
            raise CannotJudgeError(
                f"the recorded bundle is damaged: {error.message}", "the record is damaged"
            ) from error
    if not _is_commit(calls, commit):
        raise CannotJudgeError(f"the recorded bundle does not hold commit {commit[:12]}", "the record is damaged")


def _is_commit(calls: GitCalls, name: str) -> bool:
    try:
        return calls.ask("cat-file", "-t", name).strip() == b"commit"
    except GitError:
        return False
