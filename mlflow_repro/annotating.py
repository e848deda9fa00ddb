"""Leave the answer where people look for it: on the pages of both runs in MLflow's UI."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import ReproError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_repro.model import Report, RunRecord
    from mlflow_repro.tracking import TrackingStore

REPORT_FILE = "repro/report.html"
"""The artifact that holds the report. What is below ``repro/`` is never compared."""
_NOTE_TAG = "mlflow.note.content"
_PARENT_TAG = "mlflow.parentRunId"
_SEPARATOR = "\n\n---\n\n"  # between our part of a description and what the run's own code wrote


def annotate(report: Report, store: TrackingStore, *, with_reference: bool = True) -> tuple[str, ...]:
    """Write the answer to both runs; a note for each thing that the store did not take.

    The reproduction gets a description, the report as an artifact, and metrics to sort by; the reference two tags,
    but not when other code ran.
    """
    if report.comparison is None or report.reproduction is None:
        return ()
    notes: list[str] = []
    _annotate_run(report, store, report.reproduction.run_id, report.reproduction.tags, notes)
    if with_reference:
        _annotate_reference(report, store, report.reproduction.run_id, notes)
    return tuple(notes)


def annotate_repeats(
    report: Report, reproductions: Sequence[RunRecord], store: TrackingStore, *, with_reference: bool = True
) -> tuple[str, ...]:
    """Group repeats under a run of their own, which gets the answer; a note for each thing the store did not take."""
    if report.comparison is None or len(reproductions) < 2:  # noqa: PLR2004 - one needs no group
        return annotate(report, store, with_reference=with_reference)
    notes: list[str] = []
    reference = report.reference
    group = ""
    with _noted("the repeats are not grouped", notes):
        group = store.create_run(
            reproductions[0].experiment_id,
            name=f"{len(reproductions)} reproductions of {reference.run_name or reference.run_id}",
            tags={"repro.repeats_of": reference.run_id, "mlflow.user": reproductions[0].tags.get("mlflow.user", "")},
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
    if report.plan is None:
        return report
    return replace(report, plan=replace(report.plan, caveats=(*report.plan.caveats, *notes)))


def _annotate_run(report: Report, store: TrackingStore, run_id: str, tags: Mapping[str, str], notes: list[str]) -> None:
    from mlflow_repro.compare.figures import summarise
    from mlflow_repro.report.html import render_html
    from mlflow_repro.report.markdown import NOTE_LIMIT, render_note
    from mlflow_repro.report.sections import make_document

    if report.comparison is None or report.verdict is None:
        return
    document, reference = make_document(report), report.reference
    note = render_note(
        document, link=f"#/experiments/{reference.experiment_id}/runs/{reference.run_id}", report=REPORT_FILE
    )
    kept = _kept_part(tags)
    if kept and len(note) + len(_SEPARATOR) + len(kept) <= NOTE_LIMIT:
        note = f"{note}{_SEPARATOR}{kept}"
    with _noted("the reproduction's page does not show the answer", notes):
        store.write_text(run_id, REPORT_FILE, render_html(document))
        store.log_metrics(run_id, summarise(report.comparison))
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
