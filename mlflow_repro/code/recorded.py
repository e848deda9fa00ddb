"""What a run recorded of its working tree, as it is to be put back: the inverse of `mlflow_repro.code.capture`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.worktree.values import TakenSubmodule, TakenTree
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.values.sections import Missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.values.sections import Code, LeftOut, Submodule, Tree, TreePart


def read_code(code: Code, read_file: Callable[[TreePart], bytes]) -> TakenTree:
    """The inverse of `record_code`: what has to be put back, from the record's section ``code``.

    ``read_file`` gives the content of a file that is kept with the record. Raises CannotJudgeError when a part of the
    tree is not recorded, not even the reason why there is none, and what ``read_file`` raises.
    """
    return _read_tree(code, code.commit or "", read_file)


def _read_tree(recorded: Tree, commit: str, read_file: Callable[[TreePart], bytes]) -> TakenTree:
    """One working tree; of a submodule, ``commit`` is its own."""
    left_out: tuple[LeftOut, ...] = _have(recorded.left_out, "left_out")
    modules: tuple[Submodule, ...] | Missing = _have(recorded.submodules, "submodules")
    tree: str | Missing = _have(recorded.tree, "tree")
    parts: dict[str, TreePart] = {
        "patch": _have(recorded.patch, "patch"),
        "untracked": _have(recorded.untracked, "untracked"),
        "bundle": _have(recorded.bundle, "bundle"),
    }
    withheld = {name: part.absent for name, part in parts.items() if part.withheld}
    if isinstance(tree, Missing):
        withheld["tree"] = tree.reason
    contents = {name: read_file(part) if part.file else b"" for name, part in parts.items()}
    return TakenTree(
        commit=commit,
        tree=tree if isinstance(tree, str) else "",
        patch=contents["patch"],
        untracked=contents["untracked"],
        bundle=contents["bundle"] or None,
        bundle_prerequisites=parts["bundle"].prerequisites,
        left_out=tuple(asdict(row) for row in left_out),
        outputs=recorded.outputs,
        withheld=withheld,
        submodules=() if isinstance(modules, Missing) else tuple(_read_submodule(row, read_file) for row in modules),
    )


def _have(part: object, name: str) -> Any:
    if part is None:
        raise CannotJudgeError(
            f"the record of the working tree cannot be read: {name} is not there", "the record is damaged"
        )
    return part


def _read_submodule(recorded: Submodule, read_file: Callable[[TreePart], bytes]) -> TakenSubmodule:
    dirty = recorded.is_dirty
    return TakenSubmodule(
        path=recorded.path,
        commit=recorded.commit,
        url=recorded.url or "",
        taken=None if isinstance(dirty, Missing) else _read_tree(recorded, recorded.commit, read_file),
        reason=dirty.reason if isinstance(dirty, Missing) else "",
    )
