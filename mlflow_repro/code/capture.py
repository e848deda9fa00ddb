"""The code of a run beyond its commit: changes, new files and unpushed commits, as one section of the record."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.worktree.take import take_tree
from mlflow_repro.text.redact import to_text
from mlflow_repro.values.captured import Section, missing

if TYPE_CHECKING:
    from mlflow_repro.code.worktree.values import TakenSubmodule, TakenTree, TreeLimits

PATCH_FILE = "code/changes.patch"
UNTRACKED_FILE = "code/untracked.tar"
BUNDLE_FILE = "code/commits.bundle"
_SUBMODULE_FOLDER = "code/submodules"
_NAMED = 1_000  # paths of a list that are recorded


def record_code(directory: str, deadline: float, *, limits: TreeLimits | None = None) -> Section:
    """Everything of the working tree around ``directory`` that its commit does not hold.

    The facts are ``is_clean``, ``tree``, ``patch``, ``untracked``, ``left_out``, ``bundle``, ``is_pushed``,
    ``submodules``, ``pointers``, ``remotes``, ``conversions`` and ``git``; the files those that ``patch``,
    ``untracked`` and ``bundle`` name. ``deadline`` is a moment of `time.monotonic`. Raises nothing: what could not be
    had is a reason.
    """
    taken = take_tree(directory, deadline=deadline, limits=limits)
    files: dict[str, bytes] = {}
    facts = _describe(taken, files, folder="")
    facts["pointers"] = _or_reason(taken, "pointers", {name: _paths(paths) for name, paths in taken.pointers.items()})
    remotes = {to_text(name): to_text(url) for name, url in taken.remotes.items()}
    facts["remotes"] = _or_reason(taken, "remotes", remotes)
    facts["conversions"] = _or_reason(taken, "remotes", dict(taken.conversions))
    facts["git"] = _or_reason(taken, "git_version", taken.git_version)
    return Section(facts=facts, files=files)


def _describe(taken: TakenTree, files: dict[str, bytes], *, folder: str) -> dict[str, Any]:
    """The facts about one working tree, the top one (``folder`` is empty) or a submodule's."""
    reason = taken.withheld.get("tree", "")
    facts: dict[str, Any] = {
        "is_clean": missing(reason or "not everything could be looked at")
        if taken.is_clean is None
        else taken.is_clean,
        "tree": taken.tree or missing(reason or "it was not found out"),
        "patch": _file_fact(taken, "patch", files, _path(folder, PATCH_FILE)),
        "untracked": _file_fact(taken, "untracked", files, _path(folder, UNTRACKED_FILE)),
        "left_out": [{**row, "path": to_text(row["path"])} for row in taken.left_out],
        "outputs": _paths(taken.outputs),
        "bundle": _file_fact(taken, "bundle", files, _path(folder, BUNDLE_FILE)),
        "is_pushed": _or_reason(taken, "is_pushed", taken.is_pushed),
        "submodules": _or_reason(
            taken,
            "submodules",
            [_describe_submodule(module, files, folder, number) for number, module in enumerate(taken.submodules)],
        ),
    }
    if taken.untracked:
        facts["untracked"]["paths"] = _paths(taken.untracked_paths)
    if taken.bundle:
        facts["bundle"]["prerequisites"] = list(taken.bundle_prerequisites)
    return facts


def _describe_submodule(module: TakenSubmodule, files: dict[str, bytes], folder: str, number: int) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "path": to_text(module.path),
        "commit": module.commit,
        "url": to_text(module.url) if module.url else missing(".gitmodules does not name it"),
    }
    if module.taken is None:
        return {**facts, "is_dirty": missing(module.reason)}
    inner = _describe(module.taken, files, folder=f"{folder or _SUBMODULE_FOLDER}/{number}")
    return {**facts, "is_dirty": module.is_dirty, **inner}


def _path(folder: str, file: str) -> str:
    return f"{folder}/{file.rpartition('/')[2]}" if folder else file


_NOTHING = {
    "patch": "no tracked file is changed",
    "untracked": "there is no untracked file to record",
    "bundle": "every commit is on a remote",
}


def _file_fact(taken: TakenTree, part: str, files: dict[str, bytes], path: str) -> dict[str, Any]:
    """Where a part's file is, or the reason why there is none; adds the file to ``files``."""
    content: bytes | None = getattr(taken, part)
    if content:
        files[path] = content
        return {"file": f"repro/{path}", "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    if part in taken.withheld:
        digest = taken.withheld_digests.get(part)
        return {**missing(to_text(taken.withheld[part])), "withheld": True, **({"sha256": digest} if digest else {})}
    if part == "bundle" and not taken.commit:
        return missing("there is no commit")
    return missing(_NOTHING[part])


def _or_reason(taken: TakenTree, part: str, value: Any) -> Any:
    if part in taken.withheld:
        return missing(to_text(taken.withheld[part]))
    return missing("there is no commit") if value is None else value


def _paths(paths: tuple[str, ...]) -> list[str]:
    shown = [to_text(path) for path in paths[:_NAMED]]
    return [*shown, f"... and {len(paths) - _NAMED:,} more"] if len(paths) > _NAMED else shown
