"""The only door to git. Every call has a time limit, no prompt, no hooks, and leaves the repository as it was.

Two halves: *describe* reads the repository of somebody's running program (capture), *checkout* brings a recorded
commit into a folder of our own (reproduce). Neither writes into a user's repository, its index included.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UnreachableError, UsageError
from mlflow_repro.giturl import local_path, strip_credentials
from mlflow_repro.redact import redact_text, redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.model import Source

FETCH_TIMEOUT = 600.0
_STALL_SECONDS = 30
_DEATH_SECONDS = 1.0
_OPTIONS = (
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "protocol.fd.allow=never",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "http.lowSpeedLimit=1",
    "-c",
    f"http.lowSpeedTime={_STALL_SECONDS}",
)
# What a surrounding git command (a hook, an alias) leaves in the environment would point us at its repository.
_FOREIGN_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CEILING_DIRECTORIES",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    *(f"GIT_{kind}_PATHSPECS" for kind in ("LITERAL", "GLOB", "NOGLOB", "ICASE")),
)


class GitError(ReproError):
    """git is missing, took too long or answered with an error; ``stderr`` holds its words, redacted."""

    def __init__(self, message: str, hint: str = "", *, stderr: str = "", kind: str = "failed") -> None:
        super().__init__(message, hint)
        self.stderr = stderr
        self.kind = kind


def git_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a git call of ours: the user's credentials and proxies, none of the surroundings."""
    environ = os.environ if environ is None else environ
    clean = {name: value for name, value in environ.items() if name not in _FOREIGN_VARIABLES}
    clean.update(GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0", GCM_INTERACTIVE="never", LC_ALL="C")
    clean.setdefault("GIT_ASKPASS", "true")
    clean.setdefault("SSH_ASKPASS_REQUIRE", "never")
    clean.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes -o ConnectTimeout=20")
    return clean


def run_git(arguments: Sequence[str], *, cwd: str | Path, timeout: float = 60.0) -> str:
    """Run git and return its standard output, without the newline at its end. Raises GitError."""
    return finish_git(start_git(arguments, cwd=cwd), arguments, timeout=timeout)


def start_git(
    arguments: Sequence[str],
    *,
    cwd: str | Path,
    variables: Mapping[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    """Start git without waiting for it, so that several questions can be asked at once. Raises GitError.

    ``variables`` are added to the environment; ``stdin`` is `subprocess.PIPE` when there is something to tell git.
    """
    try:
        return subprocess.Popen(
            ["git", *_OPTIONS, *arguments],
            cwd=cwd,
            env={**git_environment(), **(variables or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, so that its helpers can be ended with it
        )
    except FileNotFoundError as error:
        if not os.path.isdir(cwd):
            raise GitError(f"no such directory: {cwd}", kind="no-directory") from error
        raise GitError("git is not installed", "install git", kind="no-git") from error
    except OSError as error:
        raise GitError(f"git cannot be started: {error}", kind="no-git") from error


def finish_git(process: subprocess.Popen[bytes], arguments: Sequence[str], *, timeout: float) -> str:
    """Wait for `start_git`'s process and return its standard output. Raises GitError."""
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        end_git(process)
        raise GitError(f"git {arguments[0]} did not answer within {timeout:g} s", kind="timeout") from error
    except BaseException:
        end_git(process)
        raise
    if process.returncode != 0:
        raise explain_failure(arguments[0], stderr)
    return stdout.decode("utf-8", "surrogateescape").rstrip("\n")


def explain_failure(command: str, stderr: bytes) -> GitError:
    """The error for ``git command ...`` that did not end well, from what it printed."""
    words = redact_text(stderr.decode("utf-8", "replace")).strip()
    kind = "dubious-ownership" if "dubious ownership" in words else "failed"
    kind = "no-repository" if "not a git repository" in words else kind
    return GitError(f"git {command} failed: {_last_line(words)}", stderr=words, kind=kind)


def end_git(process: subprocess.Popen[bytes]) -> None:
    """Kill a git process with its helpers, which may hold its pipes open, and do not wait for what they print."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what was still to be told it has no reader any more
                pipe.close()
    with suppress(subprocess.TimeoutExpired):  # a dead file server can keep even a killed process
        process.wait(timeout=_DEATH_SECONDS)


def _last_line(words: str) -> str:
    """The line of git's that says most: the first fatal or error one, else the last."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(fatal|error|remote: (fatal|error)):", line, re.IGNORECASE)]
    return (telling or lines or ["no message"])[0 if telling else -1]


@dataclass(frozen=True, kw_only=True)
class Worktree:
    """What a working tree says of itself. ``commit`` and ``branch`` are empty when there is none."""

    top: str
    commit: str
    branch: str
    upstream_remote: str
    is_dirty: bool
    remotes: Mapping[str, str]

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


def describe_worktree(directory: str | Path, *, timeout: float = 2.0) -> Worktree:
    """Read commit, branch, remotes and cleanliness of the working tree that holds ``directory``.

    Three git processes at once, each bounded by ``timeout`` seconds. Raises GitError.
    """
    questions = (
        ("rev-parse", "--show-toplevel"),
        ("status", "--porcelain=v2", "--branch", "--untracked-files=normal"),
        ("config", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$"),
    )
    processes: list[subprocess.Popen[bytes]] = []
    answers: list[str] = []
    try:
        processes.extend(start_git(question, cwd=directory) for question in questions)
        for process, question in zip(processes, questions, strict=True):
            try:
                answers.append(finish_git(process, question, timeout=timeout))
            except GitError:
                if question[0] != "config":  # exit status 1: nothing is configured
                    raise
                answers.append("")
    finally:
        for process in processes:
            if process.poll() is None:
                end_git(process)
    return _read_worktree(*answers)


def _read_worktree(top: str, status: str, config: str) -> Worktree:
    headers = dict(line[2:].split(" ", 1) for line in status.splitlines() if line.startswith("# ") and " " in line[2:])
    commit = headers.get("branch.oid", "")
    branch = headers.get("branch.head", "")
    branch = "" if branch == "(detached)" else branch
    remotes: dict[str, str] = {}
    upstream = ""
    for line in config.splitlines():
        key, _, value = line.partition(" ")
        if key.startswith("remote.") and key.endswith(".url"):
            remotes.setdefault(key[len("remote.") : -len(".url")], value)
        elif branch and key == f"branch.{branch}.remote":
            upstream = value
    return Worktree(
        top=top,
        commit="" if commit == "(initial)" else commit,
        branch=branch,
        upstream_remote=upstream,
        is_dirty=any(line and not line.startswith("#") for line in status.splitlines()),
        remotes=remotes,
    )


def checkout(source: Source, directory: Path, *, recurse_submodules: bool = False) -> list[str]:
    """Bring ``source.commit`` into the new folder ``directory``, which becomes a repository of our own.

    ``origin`` is set to the true URI, so that what runs there records where it came from. Returns caveats: what
    belongs to the tree and was not fetched. Raises UnreachableError when the repository cannot be reached,
    CannotJudgeError when it does not have the commit, UsageError or RefusedError for a bad subdirectory.
    """
    uri = source.uri
    path = local_path(uri)
    remote = path if path is not None else uri
    directory.mkdir(parents=True)
    run_git(["init", "--quiet"], cwd=directory)
    run_git(["remote", "add", "origin", strip_credentials(uri) if path is None else uri], cwd=directory)
    commit = _fetch_commit(remote, uri, source.commit, directory)
    run_git(["checkout", "--quiet", "--detach", commit, "--"], cwd=directory, timeout=FETCH_TIMEOUT)
    head = run_git(["rev-parse", "HEAD"], cwd=directory)
    if head != commit:
        raise CannotJudgeError(
            f"the checkout is at {head}, not at the recorded commit {commit}", "this is not the code that ran"
        )
    caveats = _fetch_submodules(directory, recurse=recurse_submodules, is_local=path is not None)
    caveats += _find_pointers(directory)
    check_subdirectory(directory, source)
    return caveats


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


def _fetch_commit(remote: str, uri: str, commit: str, directory: Path) -> str:
    """Fetch one commit, the cheap way first; returns its full object name."""
    if len(commit) in (40, 64):
        try:
            _fetch(["--depth=1", "--no-tags"], remote, [commit], uri=uri, directory=directory)
        except CannotJudgeError:
            pass  # a server that gives only named tips: fetch those with their history, and look in there
        else:
            return commit
    everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    _fetch([], remote, everything, uri=uri, directory=directory)
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


def _fetch(options: Sequence[str], remote: str, refspecs: Sequence[str], *, uri: str, directory: Path) -> None:
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
    return UnreachableError(f"cannot fetch {shown}: {_last_line(error.stderr)}", "check --uri")


def _fetch_submodules(directory: Path, *, recurse: bool, is_local: bool) -> list[str]:
    if not (directory / ".gitmodules").is_file():
        return []
    if not recurse:
        return ["the repository has submodules, which were not fetched (--recurse-submodules fetches them)"]
    allowed = ("https", "http", "ssh", *(("file",) if is_local else ()))
    policy = ["-c", "protocol.allow=never"]
    for protocol in allowed:
        policy += ["-c", f"protocol.{protocol}.allow=always"]
    try:
        run_git(
            [*policy, "submodule", "--quiet", "update", "--init", "--recursive"],
            cwd=directory,
            timeout=FETCH_TIMEOUT,
        )
    except GitError as error:
        if "not allowed" in error.stderr:
            raise RefusedError(
                "a submodule has a URL of a kind that is not fetched", f"allowed are {', '.join(allowed)}"
            ) from error
        raise UnreachableError(f"a submodule cannot be fetched: {_last_line(error.stderr)}", "check its URL") from error
    return []


def _find_pointers(directory: Path) -> list[str]:
    """A caveat when files are kept by Git-LFS and came as pointers: without its filters git gives nothing else."""
    names = run_git(["ls-files", "-z", "--", ":(attr:filter=lfs)"], cwd=directory).split("\0")
    files = [directory / name for name in names if name]
    pointers = [file.name for file in files if file.is_file() and _is_pointer(file)]
    if not pointers:
        return []
    return [
        f"{len(pointers)} files are Git-LFS pointers whose content is not there ({pointers[0]}, ...): install git-lfs"
    ]


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as content:
        return content.read(40).startswith(b"version https://git-lfs.github.com/spec/")
