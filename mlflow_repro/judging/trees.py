"""Judge the runs of two launches: find the tree that a run belongs to, match it with another, judge each pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.metrics import find_unused_rules
from mlflow_repro.compare.trees import match_trees, select_subtree
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.judging.judge import compare_existing, judge_runs
from mlflow_repro.judging.sides import Side
from mlflow_repro.store.trees import find_root, find_starter, read_tree
from mlflow_repro.values.comparison import JudgedPair, Status, Verdict
from mlflow_repro.values.run import PROCESS_TAG, RunPair, RunTree, is_worker, program_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from mlflow_repro.judging.judge import Existing
    from mlflow_repro.judging.options import Judging
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.report import Report
    from mlflow_repro.values.run import Run

_INDEX = "launch.run_index"
_STATUSES = {
    Verdict.IDENTICAL: Status.IDENTICAL,
    Verdict.WITHIN_TOLERANCE: Status.CLOSE,
    Verdict.CONSISTENT: Status.CONSISTENT,
    Verdict.DIFFERENT: Status.DIFFERENT,
    Verdict.INCONCLUSIVE: Status.UNKNOWN,
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """The run that was asked for, and the tree of its launch, whose root is the run to launch again for it."""

    asked: Run
    tree: RunTree
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> Run:
        """The run to launch again."""
        return self.tree.root

    @property
    def first_name(self) -> str:
        """The name of the run that its process began with, where that is not the root; an id where it has none."""
        process, index = self.root.tags.get(PROCESS_TAG, ""), self.root.fact(_INDEX).value or "0"
        others = [run for run in self.tree.in_order if process and run.tags.get(PROCESS_TAG) == process]
        firsts = [run for run in others if run.fact(_INDEX).value == "0"] if index != "0" else []
        first = [*firsts, self.root][0]
        return first.run_name or first.run_id

    @property
    def stands_for_all(self) -> bool:
        """True for the first run of its launch: when it is asked for, all of them are judged, else it and those below.

        A later run on the top level, or one of a worker, is brought back by the same relaunch and judged by itself.
        """
        is_first = (self.root.fact(_INDEX).value or "0") == "0" and not is_worker(self.root)
        return is_first and self.asked.run_id == self.tree.root_id

    def choose(self, pairs: Sequence[RunPair], reproduction: RunTree) -> tuple[RunPair, ...]:
        """The pairs that are judged, that of the run that was asked for first."""
        subtree = select_subtree(pairs, self.tree, reproduction, self.asked.run_id)
        if not self.stands_for_all:
            return subtree
        return (subtree[0], *(pair for pair in pairs if pair is not subtree[0]))


def find_target(store: TrackingStore, asked: Run) -> Target:
    """The tree that has to come back for ``asked``. Raises UnreachableError."""
    root, note = find_root(store, asked)
    tree = read_tree(store, root)
    if is_worker(root):  # the program begins in another process; that one's first run says how
        program = program_of(root.tags[PROCESS_TAG])
        firsts = [run.run_id for run in tree.top if run.tags.get(PROCESS_TAG) == program]
        tree = replace(tree, root_id=[*firsts, root.run_id][0])
    return Target(asked=asked, tree=tree, notes=(note,) if note else tuple(_explain_launch(store, asked, tree)))


def _explain_launch(store: TrackingStore, asked: Run, tree: RunTree) -> Iterator[str]:
    """What is launched again for a run that is not the first of its program."""
    name, index = f"run {asked.run_id}", asked.fact(_INDEX).value or "0"
    if tree.root_id != asked.run_id:
        yield f"{name} belongs to run {tree.root_id}, which is launched again for it"
    elif is_worker(asked):
        yield f"{name} was made by a worker of its program, which is launched again as a whole"
    elif index != "0":
        yield f"{name} has the index {index} in its program, which is launched again as a whole"
    else:
        for run_id in find_starter(store, asked):
            yield f"the program that started this one made run {run_id}: reproduce that to bring back the whole launch"


def pair_relaunch(target: Target, store: TrackingStore, primary: Run) -> tuple[tuple[RunPair, ...], Run]:
    """The pairs that are judged once ``primary``, the first run of the relaunch, and all others have ended.

    The first pair is that of the run that was asked for, whose counterpart is given as well. Tags the runs of the
    relaunch with their references. Raises CannotJudgeError when the run that was asked for has no counterpart.
    """
    tree = _without_unused(read_tree(store, primary))
    if primary.run_id not in tree.by_id:
        store.set_tags(
            primary.run_id, {"repro.reference_run_id": "", "repro.error": "no process took this run for its own"}
        )
    pairs = match_trees(target.tree, tree)
    chosen = target.choose(pairs, tree)
    if chosen[0].reproduction is None:
        is_root = target.asked.run_id == target.tree.root_id
        raise CannotJudgeError(
            f"run {target.asked.run_id} ({target.asked.run_name or 'without a name'}) has no counterpart among the"
            f" {len(tree.runs)} runs of the relaunch, the first of which is {primary.run_id}: none has the same"
            " parameters or name in the same place",
            "" if is_root else f"reproduce {target.tree.root_id} to see all of them",
        )
    for pair in pairs:
        if pair.reference is not None and pair.reproduction is not None:
            tag = {"repro.reference_run_id": pair.reference.run_id}
            if not tag.items() <= pair.reproduction.tags.items():
                store.set_tags(pair.reproduction.run_id, tag)
    return chosen, chosen[0].reproduction


def _without_unused(tree: RunTree) -> RunTree:
    """A relaunch's tree without the run that was made for its first process, when this made no run and others did."""
    if tree.root.is_captured or not any(run.is_captured for run in tree.runs):
        return tree
    left = RunTree(root_id="", runs=tuple(run for run in tree.runs if run.run_id != tree.root_id))
    return replace(left, root_id=left.top[0].run_id)


def compare_with_children(asked: Existing) -> Report:
    """`compare_existing`, and of two runs also those of their launches, or those below them.

    Raises what `compare_runs` raises.
    """
    report = compare_existing(asked)
    if asked.are_repeats or report.comparison is None:
        return report
    one, other = asked.pair
    pairs = _pair_existing(one, other)
    comparison, children = judge_children(report.comparison, pairs, (one.store, other.store), asked.judging)
    return replace(report, comparison=comparison, children=children)


def _pair_existing(reference: Side, reproduction: Side) -> tuple[RunPair, ...]:
    """The pairs of two runs that are there, that of these two first: of their launches, or of what is below them."""
    one, other = find_target(reference.store, reference.run), find_target(reproduction.store, reproduction.run)
    are_apart = not one.tree.by_id.keys() & other.tree.by_id.keys()
    if not (one.stands_for_all and other.stands_for_all and are_apart):
        one, other = _cut(one), _cut(other)
    return match_trees(one.tree, other.tree, pinned=True)


def judge_children(
    comparison: Comparison,
    pairs: Sequence[RunPair],
    stores: tuple[TrackingStore, TrackingStore],
    judging: Judging,
) -> tuple[Comparison, tuple[JudgedPair, ...]]:
    """Judge the pairs but the first, which ``comparison`` is about, by the same rules.

    A rule counts as used when it is used in any of the pairs. Raises UnreachableError when a store fails.
    """
    children = tuple(_judge_pair(pair, stores, judging) for pair in pairs[1:])
    if children:
        runs = [run for pair in pairs for run in (pair.reference, pair.reproduction) if run is not None]
        compared = [comparison, *(child.comparison for child in children if child.comparison)]
        artifacts = {row.name for one in compared for row in one.of_kind("artifact")}
        unused = find_unused_rules({name for run in runs for name in run.metrics}, comparison.rules, artifacts)
        comparison = _without_rules(comparison)
        comparison = replace(comparison, findings=(*comparison.findings, *unused))
    return comparison, children


def _cut(target: Target) -> Target:
    """The target without what is not below the run that was asked for."""
    kept = target.tree.subtree_ids(target.asked.run_id)
    runs = tuple(run for run in target.tree.runs if run.run_id in kept)
    return replace(target, tree=RunTree(root_id=target.asked.run_id, runs=runs))


def _judge_pair(pair: RunPair, stores: tuple[TrackingStore, TrackingStore], judging: Judging) -> JudgedPair:
    one, other = pair.reference, pair.reproduction
    run = one or other
    ids: dict[str, Any] = {
        "name": (run.run_name or run.run_id) if run else "",
        "reference_run_id": one.run_id if one else "",
        "reproduction_run_id": other.run_id if other else "",
    }
    if pair.note:
        return JudgedPair(**ids, status=Status.IGNORED, note=f"not judged: {pair.note}")
    if one is None or other is None:
        status, side = (Status.EXTRA, "reproduction") if one is None else (Status.MISSING, "reference")
        return JudgedPair(**ids, status=status, note=f"only in the {side}")
    sides = Side(run=one, store=stores[0]), Side(run=other, store=stores[1])
    comparison = _without_rules(judge_runs(*sides, judging))
    return JudgedPair(**ids, status=_STATUSES[comparison.verdict], comparison=comparison)


def _without_rules(comparison: Comparison) -> Comparison:
    return replace(comparison, findings=tuple(row for row in comparison.findings if row.kind != "rule"))
