"""The report as text: the metric table, what differs, and the last line ``Runs equal: ...``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from tabulate import tabulate

from mlflow_repro.report.isolation_text import render_causes
from mlflow_repro.report.verdict_text import render_answer, render_children
from mlflow_repro.text.command_line import quote_word, quote_words
from mlflow_repro.text.redact import redact_argv, redact_named, redact_text, redact_value, show, show_lines
from mlflow_repro.values.comparison import EQUAL_STATUSES, Status, Verdict
from mlflow_repro.values.report import judge_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair
    from mlflow_repro.values.plan import LaunchPlan
    from mlflow_repro.values.report import Cause, Report
    from mlflow_repro.values.run import Run

Tone = Status | Verdict | str | None
_LEFT_OUT = (", without ", "not judged: ")  # how the note of an artifact begins to name that
_LONGEST = 300  # characters of a fact that are shown; the JSON form has all
_REMARKED = {
    "metric": "Metric ",
    "history": "History ",
    "model_metric": "Model ",
    "prediction": "Prediction of ",
    "status": "Run ",
}
FACTS = {
    "param": "Parameter",
    "tag": "Tag",
    "dataset": "Data set",
    "code": "Code",
    "launch": "Launch",
    "seeds": "Seeds",
    "environment": "Environment",
    "machine": "Machine",
    "data": "Data",
    "record": "Record",
}


def render_text(report: Report, verbose: bool = False) -> str:  # noqa: FBT001, FBT002 - a renderer's form
    """The whole report; of a dry run the plan."""
    return "\n".join(line.text for line in list_lines(report, verbose=verbose))


@dataclass(frozen=True)
class Line:
    """A line of the report, and what it tells by its colour where there are colours; None for nothing."""

    text: str
    tone: Tone = None


NOTE = "note"
"""The tone of what is to be known beside the answer."""


def list_lines(report: Report, *, verbose: bool = False) -> list[Line]:
    """The lines of `render_text`."""
    if report.comparison is None or report.reproduction is None:
        return [Line(render_plan(report.plan))] if report.plan else []
    runs = (("Run1 (reference)", report.reference), ("Run2 (reproduction)", report.reproduction))
    lines = [Line(_render_run(*run)) for run in runs] if verbose else []
    lines += [Line(f"Note: {show(caveat)}", NOTE) for caveat in (report.plan.caveats if report.plan else ())]
    return [*lines, *list_comparison(report.comparison, report.children, report.causes, show_all=verbose)]


def render_comparison(comparison: Comparison) -> str:
    """The lines of `list_comparison`, as text."""
    return "\n".join(line.text for line in list_comparison(comparison))


def list_comparison(
    comparison: Comparison,
    children: Sequence[JudgedPair] = (),
    causes: Sequence[Cause] = (),
    *,
    show_all: bool = False,
) -> list[Line]:
    """The table of metrics, a line for each that differs or is not judged, ``children``, the verdict of all, causes.

    Of the facts those that differ are shown, or all.
    """
    lines = _list_metrics(comparison, children)
    for kind, word in _REMARKED.items():
        remarks = [(row, _remark(row)) for row in comparison.of_kind(kind)]
        lines += [Line(f"{word}{show(row.name)}: {show(remark)}", row.status) for row, remark in remarks if remark]
    lines += _list_artifacts(comparison)
    for kind, word in FACTS.items():
        facts = [row for row in comparison.of_kind(kind) if show_all or row.status not in EQUAL_STATUSES]
        lines += [Line(_fact_line(word, row)) for row in facts]
    for row in comparison.of_kind("rule"):
        lines.append(Line(f"Warning: the rule {show(row.name)} is not used: {show(row.note)}", NOTE))
    verdict, runs_equal = (Line(text, judge_tree(comparison, children)) for text in render_answer(comparison, children))
    lines += map(Line, render_children(children, show_all=show_all))
    lines += [verdict, *map(Line, render_causes(causes) if causes else ()), runs_equal]
    return [replace(line, text=show(line.text)) for line in lines]


def _list_metrics(comparison: Comparison, children: Sequence[JudgedPair]) -> list[Line]:
    metrics = comparison.of_kind("metric")
    if not metrics:
        is_judged = children or any(row.is_judged and row.kind != "status" for row in comparison.findings)
        return [Line(f"Neither run has a metric{'.' if is_judged else ', so there is nothing to judge.'}")]
    rows = [(show(row.name), _cell(row.reference), _cell(row.reproduction)) for row in metrics]
    # Names stay text: a metric called "1.50" is no number.
    table = tabulate(rows, ("Metric", "Run1", "Run2"), tablefmt="psql", missingval="-", disable_numparse=[0])
    tones: list[Tone] = [None, None, None, *(row.status for row in metrics), None]
    return [Line(text, tone) for text, tone in zip(table.split("\n"), tones, strict=True)]


def render_plan(plan: LaunchPlan) -> str:
    """The plan of a relaunch, and the shell commands that a person could type to do the same."""
    facts = [
        ("Reference run", plan.reference_run_id),
        ("Code", f"{redact_value(plan.source.project_uri)} at {plan.source.commit}"),
        ("Launch", quote_words(redact_argv(plan.command)) if plan.command else f"entry point {plan.entry_point}"),
        ("Experiment", plan.experiment_name),
        ("Backend", plan.backend),
        ("Environment", _environment(plan)),
    ]
    lines = ["Plan (nothing is launched)"]
    lines += [f"  {name + ':':<15}{show(value)}" for name, value in facts]
    lines += [f"  {'Parameter:':<15}{show(f'{name}={_value(name, value)}')}" for name, value in plan.parameters.items()]
    lines += [f"  {'Variable:':<15}{show(_assignment(name, value))}" for name, value in plan.variables.items()]
    lines += [f"  {'Put back:':<15}{show(path)}" for path in plan.restores]
    lines += [f"  {'Note:':<15}{show(caveat)}" for caveat in plan.caveats]
    lines += ["", "The same by hand:", *(f"  {command}" for command in shell_commands(plan))]
    return show_lines(lines)


def shell_commands(plan: LaunchPlan) -> list[str]:
    """What a person would type to relaunch the run, each on one line; values are quoted for bash and zsh."""
    commands = [*_fetch_commands(plan), *_environment_commands(plan)]
    for name, value in plan.variables.items():
        commands.append(f"unset {name}" if value is None else f"export {name}={quote_word(_value(name, value))}")
    commands.append(f"cd {quote_word('/'.join(filter(None, ('reproduction', plan.working_directory))))}")
    if plan.command:
        commands.append(f"export MLFLOW_EXPERIMENT_NAME={quote_word(plan.experiment_name)}")
        commands.append(quote_words(redact_argv(plan.command)))
        return commands
    words = ["mlflow", "run", ".", "-e", plan.entry_point, "--env-manager", plan.env_manager]
    words += ["--experiment-name", plan.experiment_name]
    if plan.backend != "local":
        words += ["--backend", plan.backend]
    if plan.backend_config:
        words += ["--backend-config", plan.backend_config]
    for name, value in plan.parameters.items():
        words += ["-P", f"{name}={_value(name, value)}"]
    return [*commands, quote_words(words)]


def _fetch_commands(plan: LaunchPlan) -> Iterator[str]:
    """The commands that make ``reproduction`` the recorded tree, and ``record`` what is put back beside it."""
    yield f"git clone {quote_word(redact_value(plan.source.uri))} reproduction"
    if plan.tracking_uri:
        yield f"export MLFLOW_TRACKING_URI={quote_word(redact_value(plan.tracking_uri))}"
    if plan.restores:
        yield _save_command(plan)
    forms = {
        ".bundle": "git -C reproduction fetch --quiet ../{} HEAD",
        "": f"git -C reproduction checkout --quiet --detach {quote_word(plan.source.commit)}",
        ".patch": "git -C reproduction apply --binary ../{}",
        ".tar": "tar -x -C reproduction -f {}",
        ".json": 'export MLFLOW_REPRO_RESTORE="$PWD/{}"',
    }
    for ending, form in forms.items():
        path = next((path for path in plan.restores if path.endswith(ending)), "")
        if path or not ending:
            yield form.replace("{}", quote_word(f"record/{path}"))


def _environment(plan: LaunchPlan) -> str:
    environment = plan.environment
    kind = f"{environment.kind}, by {plan.env_manager}" if environment.kind == "project" else environment.kind
    kind = kind or "not known"
    if environment.kind == "recorded":
        kind += f", Python {environment.python} and {environment.packages} packages by uv"
    return f"{kind} ({environment.reason})" if environment.reason else kind


def _environment_commands(plan: LaunchPlan) -> list[str]:
    """How a person makes the recorded environment; nothing for the others."""
    if plan.environment.kind != "recorded":
        return []
    commands = [] if plan.restores else [_save_command(plan)]
    commands.append(f"uv venv --python {quote_word(plan.environment.python)} environment")
    for path, index in plan.environment.locks.items():
        words = ["uv", "pip", "install", "--python", "environment", "--no-deps"]
        words += ["--index-url", index] if "://" in index else []
        commands.append(quote_words([*words, "-r", f"record/{path}"]))
    return [*commands, ". environment/bin/activate"]


def _save_command(plan: LaunchPlan) -> str:
    return f"mlflow-repro show {quote_word(plan.reference_run_id)} --files record"


def _value(name: str, value: str) -> str:
    return redact_named(name, value)


def _assignment(name: str, value: str | None) -> str:
    return f"{name} (not set)" if value is None else f"{name}={_value(name, value)}"


def _cell(value: float | str | None) -> float | str | None:
    return show(value) if isinstance(value, str) else value


def _remark(finding: Finding) -> str:
    if finding.kind == "history":
        return finding.note
    if finding.status is Status.CLOSE:
        return f"within tolerance, {finding.note}"
    if finding.status is Status.DIFFERENT:
        values = f"{finding.reference!r} and {finding.reproduction!r}"
        return f"{values}, {finding.note}" if finding.note else values
    return finding.note


def _list_artifacts(comparison: Comparison) -> list[Line]:
    """How many are the same, and a line for each that is not, or not judged, or of which something was left out."""
    rows = comparison.of_kind("artifact")
    if not rows:
        return []
    same = [row for row in rows if row.status is Status.IDENTICAL]
    noted = [row for row in rows if row.status is not Status.IDENTICAL or any(word in row.note for word in _LEFT_OUT)]
    lines = [Line(f"Artifacts: {len(same)} of {len(rows)} are the same")]
    for row in noted:
        how = "within tolerance, " if row.status is Status.CLOSE else ""
        lines.append(Line(f"Artifact {show(row.name)}: {how}{show(redact_text(row.note))}", row.status))
    return lines


def _fact_line(word: str, row: Finding) -> str:
    one, other = (
        "not logged" if value is None else repr(_cut(redact_text(_value(row.name, str(value)))))
        for value in (row.reference, row.reproduction)
    )
    if row.status is Status.IDENTICAL:
        return f"{word} {show(row.name)}: {one} in both"
    note = f" ({row.note})" if row.note else ""
    return f"{word} {show(row.name)}: {one} in the reference, {other} in the reproduction{note}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _render_run(title: str, run: Run) -> str:
    info = {
        "run_id": run.run_id,
        "name": run.run_name,
        "experiment": run.experiment_name,
        "status": run.status,
        "started": format_time(run.start_time),
        "ended": format_time(run.end_time),
        "artifacts": run.artifact_uri,
    }
    metrics = {name: repr(value) for name, value in run.metrics.items()}
    parts = (("info", info), ("params", run.params), ("metrics", metrics), ("tags", run.tags))
    return show_lines([f"{title}:", *(line for name, values in parts for line in _section(name, values)), ""])


def _section(title: str, values: Mapping[str, str]) -> list[str]:
    rows = [f"    {show(name)}: {show(redact_text(_value(name, value)))}" for name, value in sorted(values.items())]
    return [f"  {title}:", *(rows or ["    none"])]


def format_time(milliseconds: int) -> str:
    """A time in milliseconds since 1970 as ISO 8601 in UTC; a dash for 0, which is not known."""
    if not milliseconds:
        return "-"
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc).isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):  # a store keeps whatever a client says
        return f"{milliseconds} ms after 1970"
