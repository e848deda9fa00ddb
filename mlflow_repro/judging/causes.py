"""Gather what an explanation stands on: both records, both trees, and the lines of the program that speak."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.checkout import checkout, restore_working_tree
from mlflow_repro.code.difference import diff_folders, read_sources
from mlflow_repro.errors import CannotJudgeError, ReproError
from mlflow_repro.explain import explain
from mlflow_repro.explain.evidence import ChangedFile, Evidence
from mlflow_repro.explain.hints import find_hints
from mlflow_repro.explain.randomness import compare_traces
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.judging.judge import compare_facts_of, compare_with_facts
from mlflow_repro.judging.options import JudgeOptions
from mlflow_repro.judging.sides import read_pair, read_tree
from mlflow_repro.judging.trees import compare_trees
from mlflow_repro.store.opening import short_retries
from mlflow_repro.store.writing import RNG_TRACE_FILE
from mlflow_repro.text.giturl import local_path, parse_git_uri, strip_credentials
from mlflow_repro.values.comparison import Verdict
from mlflow_repro.values.plan import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.explain.evidence import CodeHint, Divergence
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.values.comparison import Comparison, Finding
    from mlflow_repro.values.report import Cause, Report

_MOST_POINTS = 10_000  # of a history that is read for its times
_SHOWN = 3
_EXPLAINING = ("param", "tag", "dataset", "code", "launch", "seeds", "environment", "machine", "data", "record")


def explain_runs(
    reference_id: str, reproduction_id: str, *, tracking_uri: str = "", **options: Any
) -> tuple[Cause, ...]:
    """Why two runs differ, the most likely cause first; empty when they do not.

    Each run is named by its id or by ``TRACKING_URI#RUN_ID``; ``options`` are those of `JudgeOptions`. The code of both
    is fetched to compare it file by file, where it can be had. Raises what `compare_runs` raises.
    """
    judge_options = JudgeOptions(**options)
    return explain_report(reference_id, reproduction_id, tracking_uri=tracking_uri, options=judge_options).causes


def explain_report(reference: str, reproduction: str, *, tracking_uri: str, options: JudgeOptions) -> Report:
    """The comparison of two runs with its causes. Raises what `compare_runs` raises."""
    report = compare_with_facts(reference, [reproduction], tracking_uri=tracking_uri, options=options)
    if report.comparison is None:
        return report
    with short_retries():
        sides = read_pair(reference, reproduction, tracking_uri)
        return replace(report, causes=find_causes(*sides, report.comparison, fetches=True))


def compare_and_explain(
    reference: str, reproductions: Sequence[str], *, tracking_uri: str, options: JudgeOptions
) -> Report:
    """`compare_trees`, with the causes of a difference; of code only what is on this machine is looked at."""
    report = compare_trees(reference, reproductions, tracking_uri=tracking_uri, options=options)
    if report.comparison is None or report.comparison.verdict is not Verdict.DIFFERENT:
        return report
    with short_retries(), suppress(ReproError):  # the verdict stands, with its causes or without
        sides = read_pair(reference, reproductions[-1], tracking_uri)
        return replace(report, causes=find_causes(*sides, report.comparison, fetches=False))
    return report


def find_causes(  # noqa: PLR0913 - both runs, and where their code can be had
    one: Side,
    other: Side,
    comparison: Comparison,
    *,
    caveats: Sequence[str] = (),
    folder: Path | None = None,
    fetches: bool = False,
) -> tuple[Cause, ...]:
    """The causes of a difference, the most likely first; none where there is no difference.

    ``folder`` is a checkout of the code that both runs had; without it the code is fetched: from this machine, or with
    ``fetches`` from wherever it is. Raises UnreachableError when a store fails, CannotJudgeError for a damaged record.
    """
    if comparison.verdict is not Verdict.DIFFERENT:
        return ()
    records = tuple(side.store.read_own_record(side.record.run_id) or {} for side in (one, other))
    facts: Sequence[Finding] = [row for row in comparison.findings if row.kind in _EXPLAINING]
    if not any(row.kind != "param" for row in facts):  # a reproduction's comparison has no facts
        facts = [*facts, *compare_facts_of(one, other)]
    changed, hints = _look_at_code(one, other, (records[0], records[1]), folder, fetches=fetches)
    evidence = Evidence(
        comparison=comparison,
        reference=one.record,
        reproduction=other.record,
        facts=tuple(facts),
        records=(records[0], records[1]),
        caveats=tuple(caveats),
        changed_files=changed,
        hints=tuple(hints or ()),
        has_sources=hints is not None,
        traces=_read_traces(one, other),
        store="" if one.store.uri == other.store.uri else strip_credentials(other.store.uri),
        between=_look_between(one, records[0], comparison),
    )
    try:
        return explain(evidence)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CannotJudgeError(
            f"the records of the two runs cannot be read: {type(error).__name__}: {error}", "one of them is damaged"
        ) from error


def _look_between(one: Side, record: Mapping[str, Any], comparison: Comparison) -> tuple[str, ...]:
    """What the reference's record tells of the time between the last step that agrees and the first that does not."""
    shape = find_shape(comparison)
    calls = record.get("seeds", {}).get("calls") or ()
    if not (shape.is_later and shape.step is not None):
        return ()
    rows = [row for row in comparison.of_kind("history") if row.details.get("first_inexact_step") == shape.step]
    if not rows or float(rows[0].reference or 0) > _MOST_POINTS:
        return ()
    times = {step: time / 1000 for step, _, time in one.store.read_points(one.record.run_id, rows[0].name)}
    last = max((step for step in times if step < shape.step), default=None)
    if last is None or shape.step not in times:
        return ()
    start, end = times[last], times[shape.step]
    found = [call for call in calls if start <= call.get("when", 0) <= end]
    texts = [f"{call['generator']} was seeded with {call['value']} by {_place(call)}" for call in found[:_SHOWN]]
    text = "; ".join(texts) or "nothing was seeded in the reference"
    return (f"between steps {last} and {shape.step} ({end - start:.1f} s): {text}",)


def _place(call: Mapping[str, Any]) -> str:
    return str(call.get("where") or "an unknown line").rpartition("/")[2]


def _read_traces(one: Side, other: Side) -> tuple[Divergence, ...] | None:
    """Where the generators of two traced runs part; None unless both were traced."""
    traces = []
    for side in (one, other):
        content = side.store.read_file(side.record.run_id, RNG_TRACE_FILE)
        with suppress(ValueError):
            trace = json.loads(content) if content else None
            traces += [trace] if isinstance(trace, dict) else []
    return compare_traces(*traces) if len(traces) == 2 else None  # noqa: PLR2004 - both sides


def _look_at_code(
    one: Side, other: Side, records: tuple[Mapping[str, Any], Mapping[str, Any]], folder: Path | None, *, fetches: bool
) -> tuple[tuple[ChangedFile, ...] | None, list[CodeHint] | None]:
    """What differs in the two trees, and the hints in the reference's; None for what cannot be had."""
    trees = [record.get("code", {}).get("tree") for record in records]
    is_same = isinstance(trees[0], str) and trees[0] == trees[1]
    if folder is not None:
        return (() if is_same else None), _hints_in(folder)
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-") as work:
        folders = [Path(work) / name for name in ("one", "other")]
        found = [
            _fetch(side, record, place, fetches=fetches)
            for side, record, place in zip((one, other), records, folders, strict=True)
            if not (is_same and place is folders[1])
        ]
        hints = _hints_in(folders[0]) if found[0] else None
        if is_same:
            return (), hints
        if not all(found):
            return None, hints
        rows = diff_folders(*folders)
        return tuple(ChangedFile(path=row.path, how=row.how, lines=row.lines) for row in rows), hints


def _fetch(side: Side, record: Mapping[str, Any], place: Path, *, fetches: bool) -> bool:
    """Make ``place`` the tree that a run had; False where that cannot be done."""
    uri, commit = side.record.fact("git.uri").value, side.record.fact("git.commit").value
    if not (uri and commit):
        return False
    with suppress(ReproError, OSError):
        source = Source(uri=parse_git_uri(uri).absolute, commit=commit)
        path = local_path(source.uri)
        if not fetches and (path is None or not Path(path).exists()):
            return False
        tree = read_tree(side.store, side.record.run_id, record)
        checkout(source, place, bundle=(tree and tree.bundle) or b"")
        restore_working_tree(source, place, tree)
        return True
    return False


def _hints_in(folder: Path) -> list[CodeHint]:
    return [hint for path, source in read_sources(folder).items() for hint in find_hints(path, source)]
