"""The only door to git. Every call has a time limit, no prompt, no hooks, and leaves the repository as it was.

`describe_worktree` reads the repository of somebody's running program; nothing here writes into one, its index
included.
"""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from mlflow_repro.code.head import Worktree
from mlflow_repro.errors import ReproError
from mlflow_repro.system.processes import kill_group
from mlflow_repro.text.filenames import is_leftover
from mlflow_repro.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FETCH_TIMEOUT = 600.0
GENERATED_KEY = "mlflow-repro.generated"
"""In the configuration of a checkout of ours: tracked files that the relaunch has written over, from its top."""
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


def run_git(
    arguments: Sequence[str], *, cwd: str | Path, timeout: float = 60.0, variables: Mapping[str, str] | None = None
) -> str:
    """Run git and return its standard output, without the newline at its end. Raises GitError.

    ``variables`` are added to the environment.
    """
    return finish_git(start_git(arguments, cwd=cwd, variables=variables), arguments, timeout=timeout)


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
    return GitError(f"git {command} failed: {find_telling_line(words)}", stderr=words, kind=kind)


def end_git(process: subprocess.Popen[bytes]) -> None:
    """Kill a git process with its helpers, which may hold its pipes open, and do not wait for what they print."""
    kill_group(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):  # what was still to be told it has no reader any more
                pipe.close()
    with suppress(subprocess.TimeoutExpired):  # a dead file server can keep even a killed process
        process.wait(timeout=_DEATH_SECONDS)


def find_telling_line(words: str) -> str:
    """The line of git's that says most: the first fatal or error one, else the last."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(fatal|error|remote: (fatal|error)):", line, re.IGNORECASE)]
    return (telling or lines or ["no message"])[0 if telling else -1]


def describe_worktree(directory: str | Path, *, file: str = "", timeout: float = 2.0) -> Worktree:
    """Read commit, branch, remotes and cleanliness of the working tree that holds ``directory``.

    ``file`` is the absolute path of a file in it. Three or four git processes at once, each bounded by ``timeout``
    seconds. Raises GitError.
    """
    questions = [
        ("rev-parse", "--show-toplevel"),
        ("status", "--porcelain=v2", "--branch", "--untracked-files=normal"),
        ("config", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote)$"),
        *([("ls-files", "--", f":(literal){file}")] if file else ()),
    ]
    processes: list[subprocess.Popen[bytes]] = []
    answers: list[str | None] = []
    try:
        processes.extend(start_git(question, cwd=directory) for question in questions)
        for process, question in zip(processes, questions, strict=True):
            try:
                answers.append(finish_git(process, question, timeout=timeout))
            except GitError:
                if question[0] not in ("config", "ls-files"):
                    raise
                answers.append(None)  # of config: nothing is configured
    finally:
        for process in processes:
            if process.poll() is None:
                end_git(process)
    return _read_worktree(*answers)


def _read_worktree(top: str | None, status: str | None, config: str | None, listed: str | None = None) -> Worktree:
    top, status, config = top or "", status or "", config or ""
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
        is_dirty=any(map(_is_change, status.splitlines())),
        remotes=remotes,
        is_tracked=None if listed is None else bool(listed),
    )


def _is_change(line: str) -> bool:
    """Whether a line of ``git status --porcelain=v2`` tells of a change that is the user's."""
    if line.startswith("? "):
        return not is_leftover(line[2:].strip('"'))
    return bool(line) and not line.startswith("#")
