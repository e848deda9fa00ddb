"""Gather what an explanation stands on: both records, both trees, and the lines of the program that speak."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ReproError
from mlflow_repro.explain import explain
from mlflow_repro.explain.evidence import Evidence
from mlflow_repro.explain.randomness import compare_traces, is_trace
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.judging.code import look_at_code
from mlflow_repro.judging.judge import compare_existing, compare_facts_of, read_existing
from mlflow_repro.judging.options import ExplainOptions
from mlflow_repro.judging.trees import compare_with_children
from mlflow_repro.store.opening import short_retries
from mlflow_repro.store.writing import RNG_TRACE_FILE
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.values.comparison import Verdict
from mlflow_repro.values.options import make_options, takes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlflow_repro.explain.evidence import Divergence
    from mlflow_repro.judging.judge import Existing
    from mlflow_repro.judging.options import CompareOptions
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.values.comparison import Comparison, Finding
    from mlflow_repro.values.report import Cause, Report
    from mlflow_repro.values.sections import SeedFacts

_MOST_POINTS = 10_000  # of a history that is read for its times
_SHOWN = 3
_EXPLAINING = ("param", "tag", "dataset", "code", "launch", "seeds", "environment", "machine", "data", "record")


@takes(ExplainOptions)
def explain_runs(reference_id: str, reproduction_id: str, **options: Any) -> tuple[Cause, ...]:
    """Why two runs differ, the most likely cause first; empty when they do not.

    Each run is named by its id or by ``TRACKING_URI#RUN_ID``. The code of both is fetched to compare it file by file,
    where it can be had. Raises what `compare_runs` raises.
    """
    return explain_report(reference_id, reproduction_id, make_options(ExplainOptions, options, "explain_runs")).causes


def explain_report(reference: str, reproduction: str, options: ExplainOptions) -> Report:
    """The comparison of two runs with its causes. Raises what `compare_runs` raises."""
    with short_retries():
        asked = read_existing(reference, [reproduction], options)
        return _with_causes(compare_existing(asked), asked, fetches=True)


def compare_and_explain(reference: str, reproductions: Sequence[str], options: CompareOptions) -> Report:
    """Compare existing runs, with the causes of a difference; of code only what is on this machine is looked at.

    With ``children`` the runs of their launches, or below them, are judged as well. Raises what `compare_runs` raises.
    """
    with short_retries():
        asked = read_existing(reference, reproductions, options)
        report = compare_with_children(asked) if options.children else compare_existing(asked)
        with suppress(ReproError):  # the verdict stands, with its causes or without
            return _with_causes(report, asked)
    return report


def _with_causes(report: Report, asked: Existing, *, fetches: bool = False) -> Report:
    if report.comparison is None:
        return report
    return replace(report, causes=find_causes(*asked.pair, report.comparison, fetches=fetches))


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
    facts: Sequence[Finding] = [row for row in comparison.findings if row.kind in _EXPLAINING]
    if not any(row.kind != "param" for row in facts):  # a reproduction's comparison has no facts
        facts = [*facts, *compare_facts_of(one, other)]
    view = look_at_code((one, other), folder, fetches=fetches)
    evidence = Evidence(
        comparison=comparison,
        reference=one.run,
        reproduction=other.run,
        facts=tuple(facts),
        records=(one.record, other.record),
        caveats=tuple(caveats),
        changed_files=view.changed_files,
        loaded=view.loaded,
        texts=view.texts,
        hints=view.hints or (),
        has_sources=view.hints is not None,
        traces=_read_traces(one, other),
        store="" if one.store.uri == other.store.uri else strip_credentials(other.store.uri),
        between=_look_between(one, comparison),
    )
    return explain(evidence)


def _look_between(one: Side, comparison: Comparison) -> tuple[str, ...]:
    """What the reference's record tells of the time between the last step that agrees and the first that does not."""
    shape = find_shape(comparison)
    if not (shape.is_later and shape.step is not None):
        return ()
    rows = [row for row in comparison.of_kind("history") if row.details.get("first_inexact_step") == shape.step]
    if not rows or float(rows[0].reference or 0) > _MOST_POINTS:
        return ()
    times = {step: time / 1000 for step, _, time in one.store.read_points(one.run.run_id, rows[0].name)}
    last = max((step for step in times if step < shape.step), default=None)
    if last is None or shape.step not in times:
        return ()
    start, end = times[last], times[shape.step]
    found = [call for call in one.record.seeds.calls if start <= call.when <= end]
    texts = [f"{call.generator} was seeded with {call.value} by {_place(call)}" for call in found[:_SHOWN]]
    text = "; ".join(texts) or "nothing was seeded in the reference"
    return (f"between steps {last} and {shape.step} ({end - start:.1f} s): {text}",)


def _place(call: SeedFacts) -> str:
    return (call.where or "an unknown line").rpartition("/")[2]


def _read_traces(one: Side, other: Side) -> tuple[Divergence, ...] | None:
    """Where the generators of two traced runs part; None unless both were traced."""
    traces = []
    for side in (one, other):
        content = side.read_file(RNG_TRACE_FILE)
        with suppress(ValueError, RecursionError):
            trace = json.loads(content) if content else None
            traces += [trace] if isinstance(trace, dict) and is_trace(trace) else []
    return compare_traces(*traces) if len(traces) == 2 else None  # noqa: PLR2004 - both sides
