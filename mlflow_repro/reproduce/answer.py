"""Make the report of a relaunch: judge its pairs of runs, name the causes, leave the answer on the runs' pages."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from mlflow_repro.errors import CannotJudgeError, ReproError, UsageError
from mlflow_repro.judging.judge import judge_runs
from mlflow_repro.judging.sides import Side
from mlflow_repro.reproduce.origin import find_origin, judge_origin
from mlflow_repro.store.sessions import hold_session
from mlflow_repro.values.comparison import Verdict
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import SESSION_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflow_repro.reproduce.options import ReproduceOptions
    from mlflow_repro.reproduce.pipeline import Order
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.plan import LaunchPlan
    from mlflow_repro.values.progress import Divergence
    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run, RunPair


def check_annotations(options: ReproduceOptions) -> None:
    """Raise UsageError for annotations of the reference that would say what is not so, or nothing."""
    if options.annotate_reference and not options.annotate:
        raise UsageError("annotate_reference and no annotate contradict each other", "leave one of them out")
    if options.annotate_reference and options.commit:
        raise UsageError(
            "the reference cannot be given the verdict on another commit", "leave --annotate-reference or --commit out"
        )


def report_pairs(  # noqa: PLR0913 - the launch, and what is known of it beside its runs
    order: Order,
    plan: LaunchPlan,
    pairs: tuple[RunPair, ...],
    store: TrackingStore,
    *,
    folder: Path | None = None,
    reads: tuple[str, ...] = (),
) -> Report:
    """The report of a launch that has ended, whose first pair is that of the run that was asked for.

    ``folder`` is the checkout that was launched, None where it is gone; ``reads`` is what the program read that may
    have had the result in it. Raises CannotJudgeError when one of the two
    runs is not there, UnreachableError when the store fails.
    """
    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.judging.trees import judge_children

    options, judging = order.options, order.judging
    reference, reproduction = _both_sides(pairs[0])
    sides, sampler = (Side(run=reference, store=store), Side(run=reproduction, store=store)), CurveSampler()
    comparison = judge_runs(*sides, judging, sampler=sampler)
    origin = find_origin(reference, reproduction, reads)
    if options.launch.accept_cache and origin:
        plan = plan.noting(f"accepted: {origin}")
    elif origin:
        comparison = replace(comparison, findings=(*comparison.findings, *judge_origin(origin)))
    report = Report(
        plan=plan,
        reference=reference,
        reproduction=reproduction,
        comparison=comparison,
        curves=sampler.curves(comparison.findings),
    )
    if options.children:
        comparison, children = judge_children(comparison, pairs, (store, store), judging)
        report = replace(report, comparison=comparison, children=children)
    report = with_causes(options, report, store, folder)
    if not options.annotate:
        return report
    return with_caveats(report, annotate(report, store, with_reference=options.annotate_reference))


def with_causes(options: ReproduceOptions, report: Report, store: TrackingStore, folder: Path | None = None) -> Report:
    """The report with the causes of the difference of its first pair, where they are wanted."""
    if not (options.explain and report.comparison and report.reproduction):
        return report
    if report.comparison.verdict is not Verdict.DIFFERENT:
        return report
    from mlflow_repro.judging.causes import find_causes  # what explains is loaded where there is something to explain

    sides = Side(run=report.reference, store=store), Side(run=report.reproduction, store=store)
    caveats = report.plan.caveats if report.plan else ()
    with suppress(ReproError):  # the verdict stands, with its causes or without
        return replace(report, causes=find_causes(*sides, report.comparison, caveats=caveats, folder=folder))
    return report


def report_stopped(plan: LaunchPlan, pair: RunPair, divergence: Divergence, rules: Rules) -> Report:
    """The report of a reproduction that was ended where it diverged."""
    from mlflow_repro.compare.live import compare_stopped, describe_saving

    reference, reproduction = _both_sides(pair)
    expected = max(reference.end_time - reference.start_time, 0) / 1000
    plan = plan.noting(describe_saving(divergence, expected))
    comparison = compare_stopped(reference, reproduction, divergence, rules)
    return Report(plan=plan, reference=reference, reproduction=reproduction, comparison=comparison)


def _both_sides(pair: RunPair) -> tuple[Run, Run]:
    if pair.reference is None or pair.reproduction is None:
        raise CannotJudgeError("one of the two runs is not there")
    return pair.reference, pair.reproduction


REPORT_FILE = "repro/report.html"
"""The artifact that holds the report. What is below ``repro/`` is never compared."""
_NOTE_TAG = "mlflow.note.content"
_PARENT_TAG = "mlflow.parentRunId"
_SEPARATOR = "\n\n---\n\n"  # between our part of a description and what the run's own code wrote


def annotate(report: Report, store: TrackingStore, *, with_reference: bool = False) -> tuple[str, ...]:
    """Write the answer to the reproduction; a note for each thing that the store did not take.

    It gets a description, the report as an artifact, and metrics to sort by; ``with_reference`` the reference gets two
    tags.
    """
    if report.comparison is None or report.reproduction is None:
        return ()
    notes: list[str] = []
    _annotate_run(report, store, report.reproduction.run_id, report.reproduction.tags, notes)
    if with_reference:
        _annotate_reference(report, store, report.reproduction.run_id, notes)
    return tuple(notes)


def annotate_repeats(
    report: Report, reproductions: Sequence[Run], store: TrackingStore, *, with_reference: bool = False
) -> tuple[str, ...]:
    """Group repeats under a run of their own, which gets the answer; a note for each thing the store did not take."""
    if report.comparison is None or len(reproductions) < 2:  # noqa: PLR2004 - one needs no group
        return annotate(report, store, with_reference=with_reference)
    notes: list[str] = []
    reference = report.reference
    group = ""
    with _noted("the repeats are not grouped", notes), hold_session(store.uri) as session:
        group = store.create_run(
            reproductions[0].experiment_id,
            name=f"{len(reproductions)} reproductions of {reference.run_name or reference.run_id}",
            tags={
                "repro.repeats_of": reference.run_id,
                "mlflow.user": reproductions[0].tags.get("mlflow.user", ""),
                SESSION_TAG: session,
            },
            params={},
        )
        try:
            for run in reproductions:
                if _PARENT_TAG not in run.tags:
                    store.set_tags(run.run_id, {_PARENT_TAG: group})
        finally:
            store.finish_run(group, "FINISHED")
    if group:
        _annotate_run(report, store, group, {}, notes)
    if with_reference:
        _annotate_reference(report, store, group or reproductions[-1].run_id, notes)
    return tuple(notes)


def with_caveats(report: Report, notes: tuple[str, ...]) -> Report:
    """The report with notes about what could not be written down."""
    return report if report.plan is None else replace(report, plan=report.plan.noting(*notes))


def _annotate_run(report: Report, store: TrackingStore, run_id: str, tags: Mapping[str, str], notes: list[str]) -> None:
    from mlflow_repro.compare.figures import summarise
    from mlflow_repro.report.html import render_html
    from mlflow_repro.report.markdown import NOTE_LIMIT, render_note
    from mlflow_repro.report.sections import make_document

    if report.comparison is None or report.verdict is None:
        return
    document, reference = make_document(report), report.reference
    place = f"#/experiments/{quote(reference.experiment_id, safe='')}/runs/{quote(reference.run_id, safe='')}"
    note = render_note(document, link=place, report=REPORT_FILE)
    kept = _kept_part(tags)
    if kept and len(note) + len(_SEPARATOR) + len(kept) <= NOTE_LIMIT:
        note = f"{note}{_SEPARATOR}{kept}"
    with _noted("the reproduction's page does not show the answer", notes):
        store.write_text(run_id, REPORT_FILE, render_html(document))
        store.log_metrics(run_id, summarise(report.comparison, report.children))
        store.set_tags(run_id, {"repro.verdict": report.verdict.value, _NOTE_TAG: note})


def _kept_part(tags: Mapping[str, str]) -> str:
    """What the run's own code wrote as its description."""
    stored = tags.get(_NOTE_TAG, "")
    return stored.partition(_SEPARATOR)[2] if "repro.verdict" in tags else stored


def _annotate_reference(report: Report, store: TrackingStore, run_id: str, notes: list[str]) -> None:
    if report.verdict is None:
        return
    tags = {"repro.last_verdict": report.verdict.value, "repro.last_reproduction": run_id}
    with _noted("the reference's page does not name its reproduction", notes):
        store.set_tags(report.reference.run_id, tags)


@contextmanager
def _noted(what: str, notes: list[str]) -> Iterator[None]:
    """The verdict stands whether or not it could be written down: a store that takes nothing is a note."""
    try:
        yield
    except ReproError as error:
        notes.append(f"{what}: {error.message}")
