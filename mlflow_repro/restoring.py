"""Make a checkout of ours the working tree that was recorded: its changes, new files and submodules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.fetching import fetch_submodules, find_pointers
from mlflow_repro.gittree import restore_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow_repro.gittree import TakenSubmodule, TakenTree
    from mlflow_repro.model import Source

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
    return [*caveats, *find_pointers(directory)]


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
    if recorded.left_out:
        shown = "; ".join(f"{row['path']}: {row['reason']}" for row in recorded.left_out[:_SHOWN])
        more = f"; and {len(recorded.left_out) - _SHOWN} more" if len(recorded.left_out) > _SHOWN else ""
        yield f"files of the tree{where} that were not recorded are missing ({shown}{more})"
