"""Matching the runs of two launches and judging the pairs: laws, and the cases that decide."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import strategies
from hypothesis import example, given
from hypothesis import strategies as st

from mlflow_repro.compare.trees import match_trees, select_subtree
from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair, Status, Verdict
from mlflow_repro.values.report import Report
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run, RunTree, is_worker, program_of

if TYPE_CHECKING:
    import random

PARENT = "mlflow.parentRunId"


def run(run_id: str, parent: str = "", name: str = "", *, start: int = 0, tags: dict | None = None, **params: str):
    own = {**({PARENT: parent} if parent else {}), **(tags or {})}
    return Run(run_id=run_id, run_name=name, start_time=start, params=params, tags=own)


def tree(*runs: Run) -> RunTree:
    return RunTree(root_id=runs[0].run_id, runs=runs)


def pair_ids(pairs) -> set[tuple[str | None, str | None]]:
    return {
        (one and one.run_id, other and other.run_id) for one, other in ((p.reference, p.reproduction) for p in pairs)
    }


@st.composite
def trees(draw) -> RunTree:
    """Runs with few names and parameters, so that many are alike; any parent, circles and strangers included."""
    count = draw(st.integers(1, 7))
    runs = [
        run(
            f"r{number}",
            draw(st.sampled_from(["", *(f"r{other}" for other in range(count)), "gone"])) if number else "",
            draw(st.sampled_from(["", "fold", "trial-1", "brave-owl-12", "at 2024-01-02"])),
            start=draw(st.integers(0, 3)),
            tags=draw(st.sampled_from([{}, {"repro.launch.run_index": "0"}, {"repro.launch.run_index": "1"}])),
            **draw(st.sampled_from([{}, {"lr": "1"}, {"lr": "2"}])),
        )
        for number in range(count)
    ]
    return tree(*runs)


@given(trees())
def test_a_tree_and_itself_are_paired_run_by_run(one: RunTree):
    assert pair_ids(match_trees(one, one)) == {(name, name) for name in one.by_id}


@given(trees(), trees())
def test_each_run_is_in_one_pair(one: RunTree, other: RunTree):
    pairs = match_trees(one, other)
    for side, found in ((one, [p.reference for p in pairs]), (other, [p.reproduction for p in pairs])):
        assert sorted(item.run_id for item in found if item) == sorted(side.by_id)
    assert all(pair.reference or pair.reproduction for pair in pairs)


@given(trees(), trees(), st.randoms())
def test_the_order_in_which_a_store_gives_the_runs_does_not_matter(one: RunTree, other: RunTree, rng: random.Random):
    shuffled = replace(other, runs=tuple(rng.sample(other.runs, len(other.runs))))
    assert pair_ids(match_trees(one, shuffled)) == pair_ids(match_trees(one, other))


@given(trees(), trees(), st.booleans())
def test_swapping_the_sides_mirrors_the_pairs(one: RunTree, other: RunTree, pinned: bool):  # noqa: FBT001
    mirrored = {(right, left) for left, right in pair_ids(match_trees(other, one, pinned=pinned))}
    assert pair_ids(match_trees(one, other, pinned=pinned)) == mirrored


@given(trees(), trees())
@example(*(tree(run("r0"), run("r1", tags={"repro.launch.run_index": "1"}, lr=lr)) for lr in "12"))  # joined by place
def test_pinned_roots_are_the_first_pair(one: RunTree, other: RunTree):
    first = match_trees(one, other, pinned=True)[0]
    assert (first.reference, first.reproduction) == (one.root, other.root)


def match(one: list[Run], other: list[Run]) -> set[tuple[str | None, str | None]]:
    """The pairs below two roots; the reproduction's runs have ids in capitals."""
    pairs = match_trees(tree(run("r"), *one), tree(run("R"), *other))
    return pair_ids(pairs) - {("r", "R")}


MATCHES = {
    "parameters before order": (
        [run("a", "r", lr="1", start=1), run("b", "r", lr="2", start=2)],
        [run("A", "R", lr="1", start=2), run("B", "R", lr="2", start=1)],
        {("a", "A"), ("b", "B")},
    ),
    "parameters that no other has, before names that a counter made": (
        [run("a", "r", "trial 1", lr="1"), run("b", "r", "trial 2", lr="2")],
        [run("A", "R", "trial 2", lr="1"), run("B", "R", "trial 1", lr="2")],
        {("a", "A"), ("b", "B")},
    ),
    "names, where parameters changed": (
        [run("a", "r", "x", lr="1"), run("b", "r", "y", lr="1")],
        [run("A", "R", "x", lr="3"), run("B", "R", "y", lr="4")],
        {("a", "A"), ("b", "B")},
    ),
    "order among the same": (
        [run("a", "r", "tidy-fox-1", start=1), run("b", "r", "tidy-fox-2", start=2)],
        [run("A", "R", "calm-elk-3", start=5), run("B", "R", "calm-elk-4", start=6)],
        {("a", "A"), ("b", "B")},
    ),
    "not by order alone": (
        [run("a", "r", "tidy-fox-1", lr="1")],
        [run("A", "R", "calm-elk-3", lr="2")],
        {("a", None), (None, "A")},
    ),
    "a fold that is missing is not another one": (
        [run("a", "r", "fold 1", lr="1"), run("b", "r", "fold 2", lr="1")],
        [run("A", "R", "fold 1", lr="1"), run("C", "R", "fold 3", lr="1")],
        {("a", "A"), ("b", None), (None, "C")},
    ),
    "dates and ids in names and parameters": (
        [run("a", "r", "fit 2024-01-02 10:11", data="/store/1/" + "a" * 32 + "/files/x", at="2024-01-02 10:11:12.5")],
        [run("A", "R", "fit 2025-11-30 09:00", data="/other/" + "b" * 32 + "/files/x", at="2025-11-30T09:00:00")],
        {("a", "A")},
    ),
    "steps by their entry point": (
        [run("a", "r", tags={"mlflow.project.entryPoint": "load"}, path="/home/x"), run("b", "r")],
        [run("B", "R"), run("A", "R", tags={"mlflow.project.entryPoint": "load"}, path="/srv/y")],
        {("a", "A"), ("b", "B")},
    ),
    "children below their own parents": (
        [run("a", "r", lr="1"), run("a1", "a", k="1"), run("b", "r", lr="2"), run("b1", "b", k="1")],
        [run("B1", "B", k="1"), run("B", "R", lr="2"), run("A1", "A", k="1"), run("A", "R", lr="1")],
        {("a", "A"), ("b", "B"), ("a1", "A1"), ("b1", "B1")},
    ),
    "all that is below a run without counterpart": (
        [run("a", "r", "x"), run("a1", "a", "y")],
        [],
        {("a", None), ("a1", None)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MATCHES)
def test_siblings_are_matched(case: str):
    one, other, expected = MATCHES[case]
    assert match(one, other) == expected


@pytest.mark.parametrize("name", ["train", "brave-owl-12"])
def test_first_run_of_a_relaunch_is_called_after_its_counterpart(name: str):
    here = tree(run("r", name=name, start=1), run("s", name="calm-elk-3", start=2))
    there = tree(run("R", name=f"reproduction of {name}", start=1), run("S", name="tidy-fox-1", start=2))
    assert pair_ids(match_trees(here, there)) == {("r", "R"), ("s", "S")}


def test_later_run_is_never_paired_with_the_first_for_want_of_another():
    here = tree(run("s", name="second", tags={"repro.launch.run_index": "1"}))
    there = tree(run("R", name="x", tags={"repro.launch.run_index": "0"}))
    assert pair_ids(match_trees(here, there)) == {("s", None), (None, "R")}


def test_later_run_of_a_process_whose_parameter_is_a_clock_is_found_by_its_index():
    """Only without a name, with parameters of the same names, and on the top level."""

    def later(run_id: str, index: int, *, at: str, name: str = "tidy-fox-1", **tags: str) -> Run:
        return run(run_id, name=name, tags={"repro.launch.run_index": str(index), **tags}, at=at)

    here = tree(later("r", 0, at="1"), later("s", 1, at="2"), later("t", 2, at="3", name="x"), later("u", 3, at="4"))
    there = tree(later("R", 0, at="5"), later("S", 1, at="6"), later("T", 2, at="7"))
    assert pair_ids(match_trees(here, there)) == {("r", "R"), ("s", "S"), ("t", None), ("u", None), (None, "T")}


@pytest.mark.parametrize(
    ("one", "note"),
    [
        (replace(run("a", "r", "x"), lifecycle_stage="deleted"), "deleted"),
        (run("a", "r", "x", tags={"repro.launch.process": "bb"}), "made by another launch"),
        (run("a", "r", "x", tags={"repro.launch.process": "aa/cc"}), ""),
        (run("a", "r", "x"), ""),
    ],
)
def test_runs_that_cannot_be_missed_are_noted(one: Run, note: str):
    root = run("r", tags={"repro.launch.process": "aa"})
    pairs = match_trees(tree(root, one), tree(run("R")))
    assert [pair.note for pair in pairs if pair.reference is one] == [note]


def test_subtree_has_what_is_below_on_either_side():
    here = tree(run("r"), run("a", "r", "x"), run("a1", "a", "y"), run("b", "r", "z"))
    there = tree(run("R"), run("A", "R", "x"), run("A2", "A", "w"), run("B", "R", "z"))
    chosen = select_subtree(match_trees(here, there), here, there, "a")
    assert pair_ids(chosen[:1]) == {("a", "A")}
    assert pair_ids(chosen) == {("a", "A"), ("a1", None), (None, "A2")}


@pytest.mark.parametrize(
    ("process", "program"), [("", ""), ("a", "a"), ("a/b", "a/b"), ("a.c", "a"), ("a.c/b", "a.c/b"), ("a/b.c.d", "a/b")]
)
def test_worker_belongs_to_a_program(process: str, program: str):
    assert program_of(process) == program
    assert is_worker(run("a", tags={"repro.launch.process": process})) == (process != program)


def judged(*statuses: Status) -> Comparison:
    rows = (Finding(kind="metric", name="x", reference=1.0, reproduction=2.0, status=status) for status in statuses)
    return Comparison(reference_run_id="a", reproduction_run_id="b", findings=tuple(rows), rules=Rules())


def pair(comparison: Comparison | None, status: Status = Status.IDENTICAL) -> JudgedPair:
    return JudgedPair(name="x", reference_run_id="a", reproduction_run_id="b", status=status, comparison=comparison)


ORDER = [
    Verdict.IDENTICAL, Verdict.WITHIN_TOLERANCE, Verdict.CONSISTENT, Verdict.INCONCLUSIVE, Verdict.DIFFERENT,
]  # fmt: skip
"""From the best to the worst: what cannot be said of one run cannot be said of all, and a difference is one."""

judging_comparisons = st.lists(strategies.statuses.filter(lambda one: one is not Status.IGNORED), min_size=1).map(
    lambda statuses: judged(*statuses)
)


@given(st.lists(judging_comparisons, min_size=1, max_size=5))
def test_verdict_of_a_tree_is_its_worst_childs(comparisons: list[Comparison]):
    report = Report(
        plan=None, reference=run("a"), comparison=comparisons[0], children=tuple(map(pair, comparisons[1:]))
    )
    assert report.verdict is max((one.verdict for one in comparisons), key=ORDER.index)
    assert report.exit_code is report.verdict.exit_code


@pytest.mark.parametrize(
    ("root", "children", "verdict"),
    [
        pytest.param(judged(), [pair(judged(Status.IDENTICAL))], Verdict.IDENTICAL, id="a parent that logs nothing"),
        pytest.param(judged(), [pair(judged())], Verdict.INCONCLUSIVE, id="nobody logs anything"),
        pytest.param(judged(Status.IDENTICAL), [pair(judged())], Verdict.IDENTICAL, id="a child that logs nothing"),
        pytest.param(judged(Status.IDENTICAL), [pair(None, Status.MISSING)], Verdict.DIFFERENT, id="a missing child"),
        pytest.param(judged(Status.IDENTICAL), [pair(None, Status.EXTRA)], Verdict.DIFFERENT, id="a child too many"),
        pytest.param(
            judged(Status.CLOSE), [pair(None, Status.IGNORED)], Verdict.WITHIN_TOLERANCE, id="a deleted child"
        ),
    ],
)
def test_runs_that_have_nothing_to_judge_do_not_hide_the_others(
    root: Comparison, children: list[JudgedPair], verdict: Verdict
):
    assert Report(plan=None, reference=run("a"), comparison=root, children=tuple(children)).verdict is verdict
