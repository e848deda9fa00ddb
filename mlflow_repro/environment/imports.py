"""Let a relaunch import the project's own packages from its checkout, not from the tree that they are installed from.

``pip install -e .`` makes every program of the environment import the user's working tree, whatever that is today. The
relaunch runs in that environment too, so the checkout's folders go before it on ``PYTHONPATH``.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from mlflow_repro.code.git import GitError, describe_worktree, run_git
from mlflow_repro.environment.distributions import list_distributions
from mlflow_repro.text.giturl import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mlflow_repro.values.plan import Source

_LIST_SECONDS = 10.0


def find_import_roots(source: Source, checkout: Path, *, search_path: Sequence[str] | None = None) -> list[str]:
    """The folders of ``checkout`` that stand for folders of the same repository on ``search_path`` (`sys.path`).

    A folder is of the same repository when its working tree has the commit, or the same address. Raises nothing: a
    folder about which git says nothing is not one of them.
    """
    search_path = list(sys.path if search_path is None else search_path)
    roots: dict[str, None] = {}
    tops: dict[str, str] = {}
    for folder in _source_folders(search_path):
        if folder not in tops:
            tops[folder] = _find_top(folder, source)
        top = tops[folder]
        if top:
            counterpart = os.path.normpath(os.path.join(checkout, os.path.relpath(folder, top)))
            if os.path.isdir(counterpart):
                roots[counterpart] = None
    return list(roots)


def _source_folders(search_path: Sequence[str]) -> Iterable[str]:
    """What programs import from and is no installation: folders on the path, and those of editable installs."""
    inventory = list_distributions(search_path, time.monotonic() + _LIST_SECONDS)
    installed = {os.path.realpath(one.folder) for one in inventory.distributions.values() if not one.is_source_tree}
    for entry in search_path:
        folder = os.path.realpath(entry or ".")
        if os.path.isdir(folder) and folder not in installed and not _is_of_python(folder):
            yield folder
    for one in inventory.distributions.values():
        if one.source_folder:  # an import hook may stand for it, which no entry of the path shows
            source = os.path.realpath(one.source_folder)
            yield os.path.join(source, "src") if os.path.isdir(os.path.join(source, "src")) else source


def _is_of_python(folder: str) -> bool:
    prefixes = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    return any(f"{folder}/".startswith(f"{prefix}/") for prefix in prefixes)


def _find_top(folder: str, source: Source) -> str:
    """The top of the working tree that holds ``folder`` when it is one of the same repository, else empty."""
    try:
        worktree = describe_worktree(folder)
    except GitError:
        return ""
    address = local_path(source.uri) or source.uri
    own = (local_path(worktree.uri) or worktree.uri, os.path.realpath(worktree.top))
    if address in own or os.path.realpath(address) in own:
        return os.path.realpath(worktree.top)
    try:
        run_git(["cat-file", "-e", f"{source.commit}^{{commit}}"], cwd=folder)
    except GitError:
        return ""
    return os.path.realpath(worktree.top)
