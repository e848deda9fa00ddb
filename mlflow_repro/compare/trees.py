"""Match the runs of two launches with each other: by name, parameters and order, and never by order alone."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mlflow_repro.compare.facts import plain_params
from mlflow_repro.values.run import ENTRY_POINT_TAG, PROCESS_TAG, RunPair, program_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from mlflow_repro.values.run import Run, RunTree

REPRODUCTION_NAME = "reproduction of "
"""How the name begins that a relaunch gives its first run; the name of that run's counterpart follows."""

_GENERATED = re.compile(r"[a-z]+-[a-z]+-\d{1,4}")  # by MLflow, for a run that was given no name
# In a name that a script makes up: dates, times, hashes and ids.
_VOLATILE = re.compile(r"\d{1,4}(?:[-_:.]\d{1,2}){2,}|\d{6,}|(?=[a-f]*\d)[0-9a-f]{8,}")

# In a parameter: what a step is told of the runs before it or of a temporary folder, and the time of day.
_PLACE = re.compile(
    r"[^\s'\"]*(?:[0-9a-f]{32}|/tmp[a-z0-9_]{8}(?![a-z0-9_]))"
    r"|\d{4}-?\d\d-?\d\d[T _-]\d\d[:._-]?\d\d[:._-]?\d\d(?:\.\d+)?"
)


def match_trees(reference: RunTree, reproduction: RunTree, *, pinned: bool = False) -> tuple[RunPair, ...]:
    """A pair for each run of either tree, the children of a run after it; ``pinned``: that of the two roots first.

    Siblings correspond to each other when they have the same name and the same parameters (several such ones in their
    order); else when they have parameters that none of their siblings has; else when they have the same name or, as
    steps of a workflow, the same entry point. Names that MLflow generated do not count, nor does what in a name is a
    date, a time or a hash, and in a parameter a time, a run's id or the place of its files. What is left has no
    counterpart, but on the top level of the roots' own processes: the two first runs, and runs that were given no name,
    have parameters of the same names and the same index in their process.
    """
    pairs: list[RunPair] = []
    waiting: list[tuple[str | None, str | None]] = [("", "")]
    while waiting:
        one, other = waiting.pop()
        siblings = (
            () if one is None else reference.children.get(one, ()),
            () if other is None else reproduction.children.get(other, ()),
        )
        is_top = one == other == ""
        found = _match_pinned(siblings, reference, reproduction) if pinned and is_top else _match_siblings(*siblings)
        if is_top:
            found = _join_by_index(_join_roots(found, reference.root, reproduction.root), reference, reproduction)
            if pinned:
                found.sort(key=lambda pair: pair.reference is not reference.root)
        waiting += [(_id(pair.reference), _id(pair.reproduction)) for pair in found]
        pairs += [_with_note(pair, reference.root, reproduction.root) for pair in found]
    return tuple(pairs)


def select_subtree(
    pairs: Sequence[RunPair], reference: RunTree, reproduction: RunTree, run_id: str
) -> tuple[RunPair, ...]:
    """The pair of the reference's run ``run_id``, then those of its descendants on either side."""
    top = next(pair for pair in pairs if _id(pair.reference) == run_id)
    below = reference.subtree_ids(run_id)
    below_there = set() if top.reproduction is None else reproduction.subtree_ids(top.reproduction.run_id)
    chosen = [pair for pair in pairs if _id(pair.reference) in below or _id(pair.reproduction) in below_there]
    return (top, *(pair for pair in chosen if pair is not top))


def _id(run: Run | None) -> str | None:
    return None if run is None else run.run_id


def _match_siblings(one: Sequence[Run], other: Sequence[Run]) -> list[RunPair]:
    """Pairs in the order of the reference's runs, then those that only the reproduction has."""
    unique = [Counter(map(_parameters, side)) for side in (one, other)]

    def by_name_and_parameters(run: Run) -> Hashable:
        return _name(run), _parameters(run)

    def by_parameters(run: Run) -> Hashable:
        key = _parameters(run)
        return key if key[1] and all(counts[key] == 1 for counts in unique) else None

    def by_name(run: Run) -> Hashable:
        key = _name(run), _entry_point(run)
        return key if any(key) else None

    counterparts: dict[str, Run] = {}
    left, right = list(one), list(other)
    for key in (by_name_and_parameters, by_parameters, by_name):
        matched = _pair_by(key, left, right)
        counterparts.update({mine.run_id: theirs for mine, theirs in matched})
        taken = {theirs.run_id for _, theirs in matched}
        left = [run for run in left if run.run_id not in counterparts]
        right = [run for run in right if run.run_id not in taken]
    pairs = [RunPair(reference=run, reproduction=counterparts.get(run.run_id)) for run in one]
    return [*pairs, *(RunPair(reference=None, reproduction=run) for run in right)]


def _pair_by(key: Callable[[Run], Hashable], one: Sequence[Run], other: Sequence[Run]) -> list[tuple[Run, Run]]:
    """The n-th run with a key on one side and the n-th with the same one on the other; None is no key."""
    groups: dict[Hashable, tuple[list[Run], list[Run]]] = defaultdict(lambda: ([], []))
    for number, side in enumerate((one, other)):
        for run in side:
            groups[key(run)][number].append(run)
    return [pair for found, sides in groups.items() if found is not None for pair in zip(*sides, strict=False)]


def _name(run: Run) -> str:
    """The run's name without what is another one each time; empty when that is all of it."""
    name = run.run_name.removeprefix(REPRODUCTION_NAME)
    return "" if _GENERATED.fullmatch(name) else _VOLATILE.sub("#", name)


def _parameters(run: Run) -> tuple[str, tuple[tuple[str, str], ...]]:
    parameters = {name: _PLACE.sub("#", value) for name, value in plain_params(run).items()}
    return _entry_point(run), tuple(sorted(parameters.items()))


def _entry_point(run: Run) -> str:
    return run.tags.get(ENTRY_POINT_TAG, "")


def _match_pinned(
    siblings: tuple[Sequence[Run], Sequence[Run]], reference: RunTree, reproduction: RunTree
) -> list[RunPair]:
    """The pairs of the top level, that of the two roots first."""
    roots = reference.root, reproduction.root
    others = ([run for run in side if run is not root] for side, root in zip(siblings, roots, strict=True))
    return [RunPair(reference=roots[0], reproduction=roots[1]), *_match_siblings(*others)]


def _join_roots(pairs: list[RunPair], mine: Run, theirs: Run) -> list[RunPair]:
    """The pairs of the top level, with the roots as one where both began their process and have no counterpart yet."""
    alone = {(_id(pair.reference), _id(pair.reproduction)) for pair in pairs}
    began = all((root.fact("launch.run_index").value or "0") == "0" for root in (mine, theirs))
    lonely = {(mine.run_id, None), (None, theirs.run_id)}
    if not (began and lonely <= alone):
        return pairs
    others = [pair for pair in pairs if (_id(pair.reference), _id(pair.reproduction)) not in lonely]
    return [RunPair(reference=mine, reproduction=theirs), *others]


def _join_by_index(pairs: list[RunPair], reference: RunTree, reproduction: RunTree) -> list[RunPair]:
    """The pairs of the top level, with nameless runs of the roots' processes as one where their places are the same."""

    def key(run: Run | None, root: Run) -> Hashable:
        index = run.fact("launch.run_index").value if run else None
        if run is None or index is None or _name(run) or run.tags.get(PROCESS_TAG) != root.tags.get(PROCESS_TAG):
            return None
        return index, tuple(sorted(run.params))

    mine = {key(pair.reference, reference.root): pair.reference for pair in pairs if pair.reproduction is None}
    theirs = {key(pair.reproduction, reproduction.root): pair.reproduction for pair in pairs if pair.reference is None}
    places = [place for place in mine if place is not None and place in theirs]
    joined = [RunPair(reference=mine[place], reproduction=theirs[place]) for place in places]
    alone = {(_id(pair.reference), None) for pair in joined} | {(None, _id(pair.reproduction)) for pair in joined}
    return [*joined, *(pair for pair in pairs if (_id(pair.reference), _id(pair.reproduction)) not in alone)]


def _with_note(pair: RunPair, *roots: Run) -> RunPair:
    """The pair with the reason why it does not judge: a run that somebody deleted, or added to the tree later."""
    sides = pair.reference, pair.reproduction
    if any(run is not None and run.lifecycle_stage == "deleted" for run in sides):
        return RunPair(reference=pair.reference, reproduction=pair.reproduction, note="deleted")
    for run, root in zip(sides, roots, strict=True):
        process, launch = (one.tags.get(PROCESS_TAG, "") if one else "" for one in (run, root))
        if None in sides and process and launch and not process.startswith(program_of(launch)):
            return RunPair(reference=pair.reference, reproduction=pair.reproduction, note="made by another launch")
    return pair
