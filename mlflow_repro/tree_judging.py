"""Judge the runs of two launches: find the tree that a run belongs to, match it with another, judge each pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_repro.compare.trees import match_trees, select_subtree
from mlflow_repro.compare.unused import find_unused_rules
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.judging import Side, judge_runs
from mlflow_repro.model import Status, Verdict
from mlflow_repro.runtree import JudgedPair, RunPair, RunTree
from mlflow_repro.tracking import find_root, find_starter, read_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from mlflow_repro.judging import JudgeOptions
    from mlflow_repro.model import Comparison, Finding, RunRecord
    from mlflow_repro.tracking import TrackingStore

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

    asked: RunRecord
    tree: RunTree
    notes: tuple[str, ...] = ()

    @property
    def root(self) -> RunRecord:
        """The run to launch again."""
        return self.tree.root

    @property
    def stands_for_all(self) -> bool:
        """True for the first run of its launch: when it is asked for, all of them are judged, else it and those below.

        A later run on the top level is brought back by the same relaunch, and is judged by itself.
        """
        return self.asked.run_id == self.tree.root_id and (self.root.fact(_INDEX).value or "0") == "0"

    def choose(self, pairs: Sequence[RunPair], reproduction: RunTree) -> tuple[RunPair, ...]:
        """The pairs that are judged, that of the run that was asked for first."""
        subtree = select_subtree(pairs, self.tree, reproduction, self.asked.run_id)
        if not self.stands_for_all:
            return subtree
        return (subtree[0], *(pair for pair in pairs if pair is not subtree[0]))


def find_target(store: TrackingStore, asked: RunRecord) -> Target:
    """The tree that has to come back for ``asked``. Raises UnreachableError."""
    root, note = find_root(store, asked)
    notes = [note] if note else []
    if root.run_id != asked.run_id:
        notes.append(f"run {asked.run_id} is a descendant of run {root.run_id}, which is launched again for it")
    elif not note:
        notes += [
            f"run {run_id} was made by the program that started this one: to bring back the whole launch, reproduce that"
            for run_id in find_starter(store, asked)
        ]
    return Target(asked=asked, tree=read_tree(store, root), notes=tuple(notes))


def pair_relaunch(target: Target, store: TrackingStore, primary: RunRecord) -> tuple[RunPair, ...]:
    """The pairs that are judged once ``primary``, the first run of the relaunch, and all others have ended.

    Tags the runs of the relaunch with their references. Raises CannotJudgeError when the run that was asked for has no
    counterpart.
    """
    tree = read_tree(store, primary)
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
    return chosen


def pair_existing(reference: Side, reproduction: Side) -> tuple[RunPair, ...]:
    """The pairs of two runs that are there, that of these two first: of their launches, or of what is below them."""
    one, other = find_target(reference.store, reference.record), find_target(reproduction.store, reproduction.record)
    are_apart = not one.tree.by_id.keys() & other.tree.by_id.keys()
    if not (one.stands_for_all and other.stands_for_all and are_apart):
        one, other = _cut(one), _cut(other)
    return match_trees(one.tree, other.tree, pinned=True)


def judge_pairs(
    pairs: Sequence[RunPair], stores: tuple[TrackingStore, TrackingStore], options: JudgeOptions, facts: Sequence[Finding]
) -> tuple[Comparison, tuple[JudgedPair, ...]]:
    """Judge the first pair, which has both sides, and the others by the same rules; ``facts`` are about the first.

    A rule counts as used when it is used in any of the pairs. Raises UnreachableError when a store fails.
    """
    sides = _to_sides(pairs[0], stores)
    comparison = judge_runs(*sides, options, facts)
    children = tuple(_judge_pair(pair, stores, options) for pair in pairs[1:])
    if children:
        runs = [run for pair in pairs for run in (pair.reference, pair.reproduction) if run is not None]
        unused = find_unused_rules({name for run in runs for name in run.metrics}, comparison.rules)
        comparison = _without_rules(comparison)
        comparison = replace(comparison, findings=(*comparison.findings, *unused))
    return comparison, children


def _cut(target: Target) -> Target:
    """The target without what is not below the run that was asked for."""
    kept = target.tree.subtree_ids(target.asked.run_id)
    runs = tuple(run for run in target.tree.runs if run.run_id in kept)
    return replace(target, tree=RunTree(root_id=target.asked.run_id, runs=runs))


def _judge_pair(pair: RunPair, stores: tuple[TrackingStore, TrackingStore], options: JudgeOptions) -> JudgedPair:
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
    comparison = _without_rules(judge_runs(*_to_sides(pair, stores), options))
    return JudgedPair(**ids, status=_STATUSES[comparison.verdict], comparison=comparison)


def _to_sides(pair: RunPair, stores: tuple[TrackingStore, TrackingStore]) -> tuple[Side, Side]:
    if pair.reference is None or pair.reproduction is None:
        raise ValueError("only a whole pair can be compared")
    return Side(record=pair.reference, store=stores[0]), Side(record=pair.reproduction, store=stores[1])


def _without_rules(comparison: Comparison) -> Comparison:
    return replace(comparison, findings=tuple(row for row in comparison.findings if row.kind != "rule"))
