"""Bring a recorded working tree into a folder of our own: fetch, check out, restore, and say what is not there."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from mlflow_repro.code.clones import (
    HISTORY_SECONDS,
    HistoryTooLongError,
    UnusableCloneError,
    borrow_objects,
    limit_cache,
    open_clone,
)
from mlflow_repro.code.git import FETCH_TIMEOUT, GitError, find_telling_line, run_git
from mlflow_repro.code.worktree.commits import fetch_bundle, read_bundle_header
from mlflow_repro.code.worktree.pointers import describe_missing
from mlflow_repro.code.worktree.restore import restore_tree
from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UnreachableError, UsageError
from mlflow_repro.text.giturl import local_path, strip_credentials
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflow_repro.code.clones import Clone
    from mlflow_repro.code.worktree.values import TakenSubmodule, TakenTree
    from mlflow_repro.values.plan import Source


def checkout(
    source: Source, directory: Path, *, bundle: bytes = b"", hold: Callable[[int], None] = os.close
) -> list[str]:
    """Bring ``source.commit`` into the new folder ``directory``, which becomes a repository of our own.

    What was fetched of a repository before is in the cache (`mlflow_repro.code.clones`): a commit that is there needs
    no remote. ``hold`` gets a descriptor that has to stay open as long as the checkout is used. ``bundle`` is a
    recorded git bundle with the commits that were on no remote; one that stands on nothing needs no remote at all.
    ``origin`` is set to the true URI, so that what runs there records where it came from. Returns notes. Raises
    UnreachableError when the repository cannot be reached, CannotJudgeError when it does not have the commit.
    """
    try:
        clone = open_clone(source.uri)
    except UnusableCloneError as error:
        _make_checkout(source, directory, bundle, None)
        return [f"nothing is cached: {error}"]
    if clone is None:
        _make_checkout(source, directory, bundle, None)
        return []
    with ExitStack() as stack:
        stack.callback(os.close, clone.use)
        try:
            _make_checkout(source, directory, bundle, clone)
        except (GitError, CannotJudgeError, UnusableCloneError) as error:
            shutil.rmtree(directory)
            _make_checkout(source, directory, bundle, None)  # when this fails, too, it was not the clone
            stack.pop_all()
            return [_drop_clone(clone, error)]
        stack.pop_all()
        hold(clone.use)
    return []


def _drop_clone(clone: Clone, error: Exception) -> str:
    """Give up a clone that something was wrong with; what to say about it."""
    if isinstance(error, HistoryTooLongError):
        clone.give_up_history()
    is_gone = clone.discard()
    why = error.message if isinstance(error, ReproError) else str(error)
    again = "; the next reproduction makes it anew" if is_gone and not isinstance(error, UnusableCloneError) else ""
    return f"the cached clone of the repository was not used ({why}){again}"


def _make_checkout(source: Source, directory: Path, bundle: bytes, clone: Clone | None) -> None:
    uri = source.uri
    path = local_path(uri)
    directory.mkdir(parents=True)
    run_git(["init", "--quiet"], cwd=directory)
    run_git(["remote", "add", "origin", strip_credentials(uri) if path is None else uri], cwd=directory)
    if clone is not None:
        borrow_objects(clone, directory / ".git")
    bring = partial(_fetch_commit, uri, directory=directory, clone=clone)
    commit = (bundle and _unpack_commit(source, directory, bundle, bring)) or bring(source.commit)
    run_git(["checkout", "--quiet", "--detach", commit, "--"], cwd=directory, timeout=FETCH_TIMEOUT)
    head = run_git(["rev-parse", "HEAD"], cwd=directory)
    if head != commit:
        raise CannotJudgeError(
            f"the checkout is at {head}, not at the recorded commit {commit}", "this is not the code that ran"
        )


def make_independent(directory: Path) -> None:
    """Give a checkout copies of the objects that it has borrowed from the cache."""
    alternates = directory / ".git" / "objects" / "info" / "alternates"
    if alternates.exists():
        run_git(["repack", "-a", "-d", "--quiet"], cwd=directory, timeout=FETCH_TIMEOUT)
        alternates.unlink()


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


def _unpack_commit(source: Source, directory: Path, bundle: bytes, bring: Callable[[str], str]) -> str:
    """The recorded commit out of its bundle; empty when what it stands on is not to be had any more."""
    try:
        for commit in read_bundle_header(bundle).prerequisites:
            bring(commit)
        fetch_bundle(directory, bundle, source.commit)
    except CannotJudgeError:
        return ""  # it may have been pushed since
    return source.commit


def _fetch_commit(uri: str, commit: str, *, directory: Path, clone: Clone | None) -> str:
    """Fetch one commit, the cheap way first; returns its full object name."""
    is_whole = len(commit) in (40, 64)
    # The name makes it a commit that a remote has: what runs here need not record its history as unpushed.
    name = f"refs/remotes/origin/recorded-{commit}"
    if clone is not None:
        commit = _fetch_into_clone(uri, commit, clone, is_whole=is_whole)
        run_git(["update-ref", name, commit], cwd=directory)
        return commit
    if is_whole:
        refspec = f"{commit}:{name}"
        try:
            _fetch(["--depth=1", "--no-tags"], [refspec], uri=uri, directory=directory)
        except CannotJudgeError:
            pass  # a server that gives only named tips: fetch those with their history, and look in there
        else:
            return commit
    everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    _fetch([], everything, uri=uri, directory=directory)
    return _find_commit(uri, commit, partial(run_git, cwd=directory))


def _fetch_into_clone(uri: str, commit: str, clone: Clone, *, is_whole: bool) -> str:
    """Have a commit in the clone; nobody is asked for one that is there. Returns its full object name."""
    if is_whole and clone.is_made and clone.has(commit):
        return commit
    with clone.changing():
        if is_whole and clone.has(commit):  # whoever was before us has brought it
            return commit
        _fetch_for_clone("--prune", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", uri=uri, clone=clone)
        if is_whole and not clone.has(commit):
            _fetch_for_clone("--no-prune", f"{commit}:{clone.name_of(commit)}", uri=uri, clone=clone)
        if not is_whole:
            commit = _find_commit(uri, commit, lambda arguments: clone.git(*arguments))
        clone.keep(commit)
    limit_cache()
    return commit


def _find_commit(uri: str, commit: str, ask: Callable[[Sequence[str]], str]) -> str:
    """The one commit whose name begins with ``commit``, in the repository that ``ask`` asks."""
    # Not `rev-parse --verify`: it would take a tag or a branch of that name for the commit.
    objects = ask(["rev-parse", f"--disambiguate={commit}"]).split()
    commits = [name for name in objects if ask(["cat-file", "-t", name]) == "commit"]
    if len(commits) > 1:
        raise UsageError(f"the short commit {commit} is ambiguous in {redact_value(uri)}", "give more digits")
    if not commits:
        raise CannotJudgeError(
            f"commit {commit[:12]} is not in {redact_value(uri)}",
            "push it, or pass --uri with a repository that has it",
        )
    return commits[0]


def _fetch(options: Sequence[str], refspecs: Sequence[str], *, uri: str, directory: Path) -> None:
    try:
        run_git(_fetch_command(options, refspecs, uri), cwd=directory, timeout=FETCH_TIMEOUT)
    except GitError as error:
        raise explain_fetch_error(error, uri) from error


def _fetch_for_clone(option: str, *refspecs: str, uri: str, clone: Clone) -> None:
    """Raises UnreachableError where the remote is certainly to blame, else GitError, HistoryTooLongError."""
    try:
        clone.git(*_fetch_command([option, "--no-tags"], refspecs, uri), timeout=min(HISTORY_SECONDS, FETCH_TIMEOUT))
    except GitError as error:
        if error.kind == "timeout":
            raise HistoryTooLongError from error
        explained = explain_fetch_error(error, uri)
        if any(meaning in explained.message for meaning in _OF_THE_REMOTE):
            raise explained from error
        raise


def _fetch_command(options: Sequence[str], refspecs: Sequence[str], uri: str) -> list[str]:
    remote = local_path(uri) or uri
    quiet = ["--quiet", "--no-write-fetch-head", "--no-recurse-submodules"]
    return ["fetch", *quiet, *options, "--end-of-options", remote, *refspecs]


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
# Words about the remote that a damaged clone cannot bring forth.
_OF_THE_REMOTE = (
    "needs credentials",
    "the host name is not known",
    "the host does not answer",
    "the connection is not trusted",
    "the connection broke",
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


_SHOWN = 3  # paths of a list that a note names
HINT = "commit it and run again, or go on without it: --ignore-diff"


def restore_working_tree(
    source: Source,
    directory: Path,
    recorded: TakenTree | None,
    *,
    recurse_submodules: bool = False,
    ignore_diff: bool = False,
) -> list[str]:
    """Put everything that the commit does not hold into the fresh checkout ``directory``; returns caveats.

    ``recorded`` is None when the run has no record of its tree. With ``ignore_diff`` changes stay away, and that is a
    caveat. The resulting tree's hash is compared with the recorded one. Raises CannotJudgeError when something of the
    tree was not recorded or does not fit, RefusedError when it would write outside the checkout, UnreachableError.
    """
    caveats = [] if recorded is None else list(_restore(directory, recorded, ignore_diff=ignore_diff, where=""))
    modules = () if recorded is None else recorded.submodules
    bundles = {
        module.path: (module.commit, module.taken.bundle)
        for module in modules
        if module.taken is not None and module.taken.bundle
    }
    caveats += fetch_submodules(source, directory, recurse=recurse_submodules, bundles=bundles)
    for module in modules if recurse_submodules else ():
        caveats += _restore_submodule(directory, module, ignore_diff=ignore_diff)
    return [*caveats, *describe_missing(directory)]


def _restore_submodule(directory: Path, module: TakenSubmodule, *, ignore_diff: bool) -> Iterator[str]:
    if module.taken is None:
        yield f"submodule {module.path!r} was not recorded: {module.reason}"
        return
    place = directory / module.path
    yield from _restore(place, module.taken, ignore_diff=ignore_diff, where=f" of submodule {module.path!r}")
    for inner in module.taken.submodules:
        yield from _restore_submodule(place, inner, ignore_diff=ignore_diff)


def _restore(place: Path, recorded: TakenTree, *, ignore_diff: bool, where: str) -> Iterator[str]:
    """One working tree. ``where`` names it in messages when it is a submodule's."""
    if ignore_diff:
        if not recorded.is_clean:
            yield f"the uncommitted changes{where} are left out (--ignore-diff)"
        return
    for part in ("tree", "patch"):
        if part in recorded.withheld:
            raise CannotJudgeError(f"the uncommitted changes{where} were not recorded: {recorded.withheld[part]}", HINT)
    if recorded.patch or recorded.untracked:
        restore_tree(place, patch=recorded.patch, untracked=recorded.untracked, expected_tree=recorded.tree)
    if "untracked" in recorded.withheld:
        yield f"the untracked files{where} were not recorded: {recorded.withheld['untracked']}"
    if recorded.outputs:
        shown = list_some(recorded.outputs, _SHOWN, joint=", ")
        yield f"what the run has written itself{where} is not put back, nor what stood there before: {shown}"
    if recorded.left_out:
        shown = list_some([f"{row['path']}: {row['reason']}" for row in recorded.left_out], _SHOWN)
        yield f"files of the tree{where} that were not recorded are missing ({shown})"
