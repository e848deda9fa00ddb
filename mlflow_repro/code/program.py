"""Which code runs: the git repository of the program, its commit, and whether the tree is clean."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mlflow_repro.code.head import read_head
from mlflow_repro.values.run import Fact, absent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.code.head import Worktree

_found: list[str] = []
_SECONDS = 5.0  # for each question to git; nobody waits for the answer


class Program(NamedTuple):
    """Where a program lies and works, at one moment: it may go elsewhere before somebody asks git."""

    script: str
    """The file that it runs, empty when there is none or it is an installed one."""
    folder: str
    """The folder whose repository holds it."""
    working_directory: str


def find_program() -> Program:
    """The program of this process, as it is now; empty where its working directory is gone. Raises nothing."""
    script = main_script() or ""
    own = script if script and not is_installed(script) else ""
    try:
        return Program(script=own, folder=program_directory(), working_directory=os.getcwd())
    except OSError:
        return Program(script=own, folder=os.path.dirname(own), working_directory=os.path.dirname(own))


def probe_head(program: Program) -> Iterable[Fact]:
    """The facts ``git.uri``, ``git.commit`` and ``git.branch``, where git's files tell them at a look; else none."""
    worktree = read_head(program.folder)
    return [] if worktree is None else _describe_head(worktree, program)


def probe_code(program: Program) -> Iterable[Fact]:
    """The facts ``git.*``: uri (with ``#subdirectory``), commit, branch, dirty; or ``git.error`` with the reason.

    ``git.script`` is ``untracked`` when the script that runs is not one of git's files. Starts git.
    """
    from mlflow_repro.code.git import GitError, describe_worktree

    try:
        worktree = describe_worktree(program.folder, file=program.script, timeout=_SECONDS)
    except GitError as error:
        reason = error.kind if error.kind != "failed" else error.message
        return [Fact(name="git.error", value=reason), absent("git.commit", reason)]
    if not worktree.commit:
        return [
            Fact(name="git.error", value="no-commits"),
            absent("git.commit", "the repository has no commits"),
        ]
    return [
        *_describe_head(worktree, program),
        Fact(name="git.dirty", value="true" if worktree.is_dirty else "false"),
        *([Fact(name="git.script", value="untracked")] if worktree.is_tracked is False else ()),
    ]


def _describe_head(worktree: Worktree, program: Program) -> list[Fact]:
    subdirectory = relative_to_top(worktree.top, _project_directory(worktree.top, program))
    return [
        Fact(name="git.uri", value=f"{worktree.uri}#{subdirectory}" if subdirectory else worktree.uri),
        Fact(name="git.commit", value=worktree.commit),
        Fact(name="git.branch", value=worktree.branch) if worktree.branch else absent("git.branch", "HEAD is detached"),
    ]


def main_script() -> str | None:
    """The absolute path of the file that runs as ``__main__``, or None (a prompt, ``-c``, a notebook).

    What was found once is kept: Python takes the name away when the script is through, and what is done in the
    background may ask later.
    """
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path and os.path.exists(path):
        _found[:] = [os.path.realpath(path)]
    return _found[0] if _found else None


def program_directory() -> str:
    """The folder whose repository holds the program: the script's, unless it is an installed one."""
    script = main_script()
    if script is not None and not is_installed(script):
        return os.path.dirname(script)
    return os.getcwd()


def _project_directory(top: str, program: Program) -> str:
    """The project's folder: the working directory when it lies in the repository, else the script's."""
    here = os.path.realpath(program.working_directory)
    return here if Path(here).is_relative_to(os.path.realpath(top)) else program.folder


def relative_to_top(top: str, path: str) -> str:
    """``path`` relative to the repository's top, with slashes; empty for the top itself."""
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(top)).replace(os.sep, "/")
    return "" if relative == "." else relative


def is_installed(path: str) -> bool:
    """True for a file of the Python installation or of its environment, such as a console script."""
    roots = {os.path.realpath(root) for root in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    return any(Path(path).is_relative_to(root) for root in roots)
