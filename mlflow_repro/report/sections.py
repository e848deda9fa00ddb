"""What stands in a `Document`: the verdict first, then what differs, then why, then everything that was compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.report.document import (
    TONES,
    VERDICT_TONES,
    Commands,
    Document,
    Headline,
    Listing,
    Outcome,
    Plot,
    Row,
    Section,
    Table,
    shown,
)
from mlflow_repro.report.text import FACTS, format_time, shell_commands
from mlflow_repro.report.verdict_text import describe_pair, is_same, render_answer, render_rules, word_of
from mlflow_repro.text.command_line import quote_words
from mlflow_repro.text.redact import redact_named, redact_value
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, EQUAL_STATUSES, OUTCOMES, Status, Verdict
from mlflow_repro.values.report import judge_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair
    from mlflow_repro.values.report import Report
    from mlflow_repro.values.run import Run

_KINDS = {
    "metric": "metric",
    "history": "history",
    "model_metric": "metric of a model",
    "artifact": "artifact",
    "prediction": "prediction of a model",
    "status": "status of the run",
}
_HEADERS = ("What", "Name", "Reference", "Reproduction", "Result", "Note")
_MARKS = ("first_different_step", "first_unpaired_step", "first_inexact_step")


def make_document(report: Report) -> Document:
    """The document of a report; of a dry run the plan."""
    comparison = report.comparison
    if comparison is None:
        headline = Headline(word="PLAN", line="PLAN: nothing was launched", runs_equal="", tone="unknown")
        sections = [_caveats(report), _runs(report), _commands(report)]
        return Document(title=_title(report), verdict=headline, sections=_drop_empty(sections))
    sections = [
        _differences(comparison),
        _children(report.children),
        _causes(report),
        _caveats(report),
        _curves(report, comparison),
        _outcomes(comparison),
        _facts(comparison),
        _runs(report),
        _commands(report),
        _rules(comparison),
    ]
    return Document(
        title=_title(report),
        verdict=_headline(comparison, report.children),
        sections=_drop_empty(sections),
        outcomes=(
            *(_outcome(row) for row in comparison.findings if row.kind in OUTCOMES),
            *(_pair_outcome(pair) for pair in report.children),
        ),
    )


def _headline(comparison: Comparison, children: Sequence[JudgedPair]) -> Headline:
    """The verdict of the whole report, as every format shows it."""
    verdict = judge_tree(comparison, children)
    line, runs_equal = (text.partition(": ")[2] for text in render_answer(comparison, children))
    return Headline(
        word=verdict.value, line=shown(line), runs_equal=runs_equal, tone=VERDICT_TONES.get(verdict, "same")
    )


def run_label(run: Run | None) -> str:
    """A run by its name, or by its id where it has none."""
    return shown((run.run_name or run.run_id) if run else "")


def _title(report: Report) -> str:
    if report.plan is None:
        return f"Comparison of {run_label(report.reference)} and {run_label(report.reproduction)}"
    return f"Reproduction of {run_label(report.reference)}"


def _drop_empty(sections: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(section for section in sections if section.blocks)


def _row(finding: Finding) -> Row:
    note = "" if finding.status is Status.IDENTICAL and not finding.note else shown(finding.note)
    cells = (
        _KINDS.get(finding.kind, finding.kind),
        shown(finding.name),
        _value(finding, finding.reference),
        _value(finding, finding.reproduction),
        finding.status.value,
        note,
    )
    return Row(cells=cells, tone=TONES[finding.status])


def _value(finding: Finding, value: float | str | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return shown(redact_named(finding.name, value))
    return f"{value:.0f} points" if finding.kind == "history" else repr(value)


def _outcome(finding: Finding) -> Outcome:
    reference, reproduction = (_value(finding, side) for side in (finding.reference, finding.reproduction))
    return Outcome(
        kind=_KINDS[finding.kind],
        name=shown(finding.name),
        tone=TONES[finding.status],
        status=finding.status.value,
        values=f"reference {reference}, reproduction {reproduction}",
        note=shown(finding.note),
    )


def _pair_outcome(pair: JudgedPair) -> Outcome:
    ids = (shown(run_id) or "-" for run_id in (pair.reference_run_id, pair.reproduction_run_id))
    return Outcome(
        kind="another run of the launch",
        name=shown(pair.name),
        tone=_pair_tone(pair),
        status=word_of(pair),
        values="reference {}, reproduction {}".format(*ids),
        note=shown(describe_pair(pair)),
    )


def _pair_tone(pair: JudgedPair) -> str:
    if pair.comparison is None:
        return TONES[pair.status]
    verdict = pair.comparison.verdict
    return "ignored" if is_same(pair) and verdict is Verdict.INCONCLUSIVE else VERDICT_TONES.get(verdict, "same")


def _children(children: Sequence[JudgedPair]) -> Section:
    """The other pairs of the launch; out of sight where all of them are the same."""
    rows = tuple(
        Row(
            cells=(
                shown(pair.name),
                shown(pair.reference_run_id) or "-",
                shown(pair.reproduction_run_id) or "-",
                word_of(pair),
                shown(describe_pair(pair)),
            ),
            tone=_pair_tone(pair),
        )
        for pair in children
    )
    same = sum(map(is_same, children))
    table = Table(
        caption=f"{same} of {len(children)} are the same",
        headers=("Run", "Reference", "Reproduction", "Verdict", "What differs"),
        rows=rows,
        is_folded=same == len(children),
    )
    return Section(key="children", title="Other runs of the launch", blocks=(table,) if rows else ())


def _differences(comparison: Comparison) -> Section:
    rows = [row for row in comparison.findings if row.is_judged and row.status not in EQUAL_STATUSES]
    if not rows:
        close = sum(row.is_judged and row.status is not Status.IDENTICAL for row in comparison.findings)
        judged = any(row.is_judged and row.kind != "status" for row in comparison.findings)
        line = f"Nothing that judges differs{f'; {close} are equal, not to the bit' if close else ''}."
        blocks: tuple[Table | Listing, ...] = (Listing(lines=(line if judged else "There is nothing to judge.",)),)
    else:
        blocks = (Table(caption="Judged, and not equal", headers=_HEADERS, rows=tuple(map(_row, rows))),)
    return Section(key="differences", title="What differs", blocks=blocks)


def _causes(report: Report) -> Section:
    rows = [
        Row(
            cells=(
                shown(cause.what),
                "proven" if cause.confidence == 1 else f"{cause.confidence:.0%}",
                "; ".join(map(shown, cause.evidence)),
                shown(cause.fix),
            )
        )
        for cause in report.causes
    ]
    headers = ("Cause", "How sure", "What speaks for it", "What to do")
    blocks = (Table(caption="The most likely first", headers=headers, rows=tuple(rows)),) if rows else ()
    return Section(key="causes", title="Why", blocks=blocks)


def _caveats(report: Report) -> Section:
    lines = tuple(map(shown, report.plan.caveats if report.plan else ()))
    return Section(key="caveats", title="Not as it was", blocks=(Listing(lines=lines),) if lines else ())


def _curves(report: Report, comparison: Comparison) -> Section:
    rows = {row.name: row for row in comparison.of_kind("history")}
    plots = [
        Plot(
            label=shown(curve.name),
            curve=curve,
            mark=next((int(row.details[key]) for key in _MARKS if key in row.details), None),
            note=shown(row.note) or "the same in both runs",
            tone=TONES[row.status],
        )
        for curve in report.curves
        if (row := rows.get(curve.name)) is not None
    ]
    left = sum(row.name != "*" for row in rows.values()) - len(plots)
    more = (Listing(lines=(f"{left} more histories were compared and are not drawn.",)),) if plots and left else ()
    return Section(key="curves", title="Histories", blocks=(*plots, *more))


def _outcomes(comparison: Comparison) -> Section:
    rows = tuple(_row(row) for row in comparison.findings if row.kind in OUTCOMES)
    blocks = (Table(caption="Metrics, histories and artifacts", headers=_HEADERS, rows=rows),) if rows else ()
    return Section(key="outcomes", title="Everything that was compared", blocks=blocks)


def _facts(comparison: Comparison) -> Section:
    facts = [row for kind in FACTS for row in comparison.of_kind(kind)]
    headers = ("What", "Name", "Reference", "Reproduction", "Note")
    blocks = []
    for caption, is_folded, wanted in (
        ("They explain and do not judge; these differ", False, [row for row in facts if not row.is_equal]),
        ("The same in both runs", True, [row for row in facts if row.is_equal]),
    ):
        rows = tuple(
            Row(
                cells=(
                    FACTS[row.kind].lower(),
                    shown(row.name),
                    _value(row, row.reference),
                    _value(row, row.reproduction),
                    shown(row.note),
                ),
                tone="different" if row.status in DIFFERENT_STATUSES else "",
            )
            for row in wanted
        )
        if rows:
            blocks.append(Table(caption=caption, headers=headers, rows=rows, is_folded=is_folded))
    return Section(key="facts", title="Facts side by side", blocks=tuple(blocks))


def _runs(report: Report) -> Section:
    sides = (report.reference, report.reproduction)
    described = [_describe_run(side) if side else {} for side in sides]
    rows = [Row(cells=(label, *(shown(side.get(label) or "-") for side in described))) for label in described[0]]
    rows += [
        Row(
            cells=(
                shown(row.name),
                *(shown(str(value)) if value else "-" for value in (row.reference, row.reproduction)),
            )
        )
        for row in (report.comparison.of_kind("run") if report.comparison else ())
    ]
    headers = ("", "Reference", "Reproduction")
    table = Table(caption="Which runs these are", headers=headers, rows=tuple(rows))
    return Section(key="runs", title="The runs", blocks=(table,))


def _describe_run(run: Run) -> dict[str, str | None]:
    return {
        "run id": run.run_id,
        "name": run.run_name,
        "experiment": run.experiment_name,
        "status": run.status,
        "started": format_time(run.start_time),
        "ended": format_time(run.end_time),
        "code": run.fact("git.uri").value,
        "commit": run.fact("git.commit").value,
    }


def _commands(report: Report) -> Section:
    reference, reproduction = report.reference, report.reproduction
    rows = report.comparison.of_kind("run") if report.comparison else ()
    others = [str(row.reference) for row in rows if row.reference][1:]
    repeats = [str(row.reproduction) for row in rows if row.reproduction]
    against = ["--against", ",".join(others)] if others else []
    blocks = []
    if report.plan is not None:
        words = ["mlflow-repro", "reproduce", "--run_id", reference.run_id]
        words += ["--tracking_uri", redact_value(report.plan.tracking_uri)] if report.plan.tracking_uri else []
        words += ["--repeats", str(len(repeats))] if len(repeats) > 1 else []
        blocks.append(Commands(caption="By mlflow-repro", lines=(quote_words([*words, *against]),)))
    if reproduction is not None:
        words = ["mlflow-repro", "compare", reference.run_id, *(repeats or [reproduction.run_id]), *against]
        caption = f"Compare these {'runs' if rows else 'two'} once more"
        blocks.append(Commands(caption=caption, lines=(quote_words(words),)))
    if report.plan is not None:
        blocks.append(Commands(caption="By hand", lines=tuple(shell_commands(report.plan))))
    return Section(key="commands", title="Do it again", blocks=tuple(blocks))


def _rules(comparison: Comparison) -> Section:
    unused = [f"The rule {shown(row.name)} is not used: {shown(row.note)}." for row in comparison.of_kind("rule")]
    lines = (f"Judged by {shown(render_rules(comparison.rules))}.", *unused)
    return Section(key="rules", title="Rules", blocks=(Listing(lines=lines),))
