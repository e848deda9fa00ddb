"""Bring a recorded commit into a folder of our own: fetch, check out, and say what of the tree is not there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UnreachableError, UsageError
from mlflow_repro.gitrepo import FETCH_TIMEOUT, GitError, find_telling_line, run_git
from mlflow_repro.gittree import fetch_bundle, read_bundle_header
from mlflow_repro.giturl import local_path, strip_credentials
from mlflow_repro.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow_repro.model import Source


def checkout(source: Source, directory: Path, *, bundle: bytes = b"") -> None:
    """Bring ``source.commit`` into the new folder ``directory``, which becomes a repository of our own.

    ``bundle`` is a recorded git bundle with the commits that were on no remote; one that stands on nothing needs no
    remote at all. ``origin`` is set to the true URI, so that what runs there records where it came from. Raises
    UnreachableError when the repository cannot be reached, CannotJudgeError when it does not have the commit.
    """
    uri = source.uri
    path = local_path(uri)
    directory.mkdir(parents=True)
    run_git(["init", "--quiet"], cwd=directory)
    run_git(["remote", "add", "origin", strip_credentials(uri) if path is None else uri], cwd=directory)
    commit = (bundle and _unpack_commit(source, directory, bundle)) or _fetch_commit(uri, source.commit, directory)
    run_git(["checkout", "--quiet", "--detach", commit, "--"], cwd=directory, timeout=FETCH_TIMEOUT)
    head = run_git(["rev-parse", "HEAD"], cwd=directory)
    if head != commit:
        raise CannotJudgeError(
            f"the checkout is at {head}, not at the recorded commit {commit}", "this is not the code that ran"
        )


def check_subdirectory(directory: Path, source: Source) -> Path:
    """The project's folder in the checkout. Raises UsageError when it is missing, RefusedError when it leads out."""
    project = directory / source.subdirectory
    if not project.resolve().is_relative_to(directory.resolve()):
        raise RefusedError(
            f"the subdirectory {source.subdirectory!r} is a link that leaves the repository",
            "name a real folder",
        )
    if not project.is_dir():
        raise UsageError(
            f"{redact_value(source.uri)} has no folder {source.subdirectory!r} at commit {source.commit[:12]}",
            "give the project's folder: --uri URI#subdirectory",
        )
    return project


def _unpack_commit(source: Source, directory: Path, bundle: bytes) -> str:
    """The recorded commit out of its bundle; empty when what it stands on is not to be had any more."""
    try:
        for commit in read_bundle_header(bundle).prerequisites:
            _fetch_commit(source.uri, commit, directory)
        fetch_bundle(directory, bundle, source.commit)
    except CannotJudgeError:
        return ""  # it may have been pushed since
    return source.commit


def _fetch_commit(uri: str, commit: str, directory: Path) -> str:
    """Fetch one commit, the cheap way first; returns its full object name."""
    if len(commit) in (40, 64):
        # The name makes it a commit that a remote has: what runs here need not record its history as unpushed.
        refspec = f"{commit}:refs/remotes/origin/recorded-{commit}"
        try:
            _fetch(["--depth=1", "--no-tags"], [refspec], uri=uri, directory=directory)
        except CannotJudgeError:
            pass  # a server that gives only named tips: fetch those with their history, and look in there
        else:
            return commit
    everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    _fetch([], everything, uri=uri, directory=directory)
    # Not `rev-parse --verify`: it would take a tag or a branch of that name for the commit.
    objects = run_git(["rev-parse", f"--disambiguate={commit}"], cwd=directory).split()
    commits = [name for name in objects if run_git(["cat-file", "-t", name], cwd=directory) == "commit"]
    if len(commits) > 1:
        raise UsageError(f"the short commit {commit} is ambiguous in {redact_value(uri)}", "give more digits")
    if not commits:
        raise CannotJudgeError(
            f"commit {commit[:12]} is not in {redact_value(uri)}",
            "push it, or pass --uri with a repository that has it",
        )
    return commits[0]


def _fetch(options: Sequence[str], refspecs: Sequence[str], *, uri: str, directory: Path) -> None:
    remote = local_path(uri) or uri
    command = ["fetch", "--quiet", "--no-recurse-submodules", *options, "--end-of-options", remote, *refspecs]
    try:
        run_git(command, cwd=directory, timeout=FETCH_TIMEOUT)
    except GitError as error:
        raise explain_fetch_error(error, uri) from error


_UNREACHABLE = (
    (
        r"could not read (username|password)|authentication failed|permission denied|returned error: 40[13]|askpass",
        "needs credentials",
    ),
    (
        r"could not resolve host|name or service not known|temporary failure in name",
        "the host name is not known",
    ),
    (
        r"connection refused|failed to connect|couldn't connect|no route to host|timed out",
        "the host does not answer",
    ),
    (
        (
            r"repository .*not found|does not exist|does not appear to be a git repository|not a git repository"
            r"|returned error: 404"
        ),
        "no git repository is there",
    ),
    (r"dubious ownership", "git does not trust the owner of this folder"),
    (r"ssl|certificate", "the connection is not trusted"),
    (
        r"operation too slow|early eof|hung up|rpc failed|bad line length|protocol error",
        "the connection broke",
    ),
)
_NOT_THERE = re.compile(
    r"not our ref|couldn't find remote ref|unadvertised object|no such ref|bad object", re.IGNORECASE
)


def explain_fetch_error(error: GitError, uri: str) -> ReproError:
    """Turn git's words about a failed fetch into an error of ours, with what to do."""
    shown = redact_value(uri)
    if error.kind in ("no-git", "no-directory"):
        return error
    if error.kind == "timeout":
        return UnreachableError(
            f"cannot fetch {shown}: git did not answer within {FETCH_TIMEOUT:g} s", "try again later"
        )
    if _NOT_THERE.search(error.stderr):
        return CannotJudgeError(f"{shown} does not give out this commit")
    words = re.sub(r"'[^']*'", "", error.stderr)  # what git quotes is the address, and may say anything
    for pattern, meaning in _UNREACHABLE:
        if re.search(pattern, words, re.IGNORECASE):
            hint = "set up a git credential helper or an ssh key" if "credentials" in meaning else "check --uri"
            return UnreachableError(f"cannot fetch {shown}: {meaning}", hint)
    return UnreachableError(f"cannot fetch {shown}: {find_telling_line(error.stderr)}", "check --uri")


def fetch_submodules(
    source: Source, directory: Path, *, recurse: bool, bundles: Mapping[str, tuple[str, bytes]]
) -> list[str]:
    """Check the submodules out, those of submodules too; a caveat when that is not wanted.

    ``bundles`` has the recorded commit and git bundle of those of ``directory`` whose commit is on no remote, by their
    path. Raises RefusedError for a URL of a kind that is not fetched, UnreachableError, CannotJudgeError.
    """
    if not (directory / ".gitmodules").is_file():
        return []
    if not recurse:
        return ["the repository has submodules, which were not fetched (--recurse-submodules fetches them)"]
    is_local = local_path(source.uri) is not None
    for path, (commit, bundle) in bundles.items():
        _unpack_submodule(directory, path, commit, bundle, is_local=is_local)
    _update_submodules(directory, ["--recursive"], is_local=is_local)
    return []


def _unpack_submodule(directory: Path, path: str, commit: str, bundle: bytes, *, is_local: bool) -> None:
    """Check out a submodule at a commit that only the record has: first what that stands on, then its bundle."""
    place = directory / path
    if not place.resolve().is_relative_to(directory.resolve()):
        raise RefusedError(f"the submodule {path!r} leads out of the repository", "it was not made by mlflow-repro")
    gitlink = ["update-index", "--cacheinfo"]
    for base in read_bundle_header(bundle).prerequisites[:1]:
        run_git([*gitlink, f"160000,{base},{path}"], cwd=directory)
        _update_submodules(directory, ["--", path], is_local=is_local)
    if not (place / ".git").exists():  # nothing of it was ever pushed
        place.mkdir(parents=True, exist_ok=True)
        run_git(["init", "--quiet"], cwd=place)
    fetch_bundle(place, bundle, commit)
    run_git(["checkout", "--quiet", "--detach", commit, "--"], cwd=place, timeout=FETCH_TIMEOUT)
    run_git([*gitlink, f"160000,{commit},{path}"], cwd=directory)


def _update_submodules(directory: Path, arguments: Sequence[str], *, is_local: bool) -> None:
    allowed = ("https", "http", "ssh", *(("file",) if is_local else ()))
    policy = ["-c", "protocol.allow=never"]
    for protocol in allowed:
        policy += ["-c", f"protocol.{protocol}.allow=always"]
    command = [*policy, "submodule", "--quiet", "update", "--init", *arguments]
    try:
        run_git(command, cwd=directory, timeout=FETCH_TIMEOUT)
    except GitError as error:
        if "not allowed" in error.stderr:
            raise RefusedError(
                "a submodule has a URL of a kind that is not fetched", f"allowed are {', '.join(allowed)}"
            ) from error
        raise UnreachableError(
            f"a submodule cannot be fetched: {find_telling_line(error.stderr)}", "check its URL"
        ) from error


def find_pointers(directory: Path) -> list[str]:
    """A caveat when files are kept by Git-LFS and came as pointers: without its filters git gives nothing else."""
    names = run_git(["ls-files", "-z", "--", ":(attr:filter=lfs)"], cwd=directory).split("\0")
    files = [directory / name for name in names if name]
    pointers = [file.name for file in files if file.is_file() and _is_pointer(file)]
    if not pointers:
        return []
    return [f"{len(pointers)} files are Git-LFS pointers without their content ({pointers[0]}, ...): install git-lfs"]


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(40).startswith(b"version https://git-lfs.github.com/spec/")
