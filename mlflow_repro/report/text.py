"""The report as text: the metric table, what differs, and the last line ``Runs equal: ...``."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from tabulate import tabulate

from mlflow_repro.model import EQUAL_STATUSES, Status
from mlflow_repro.redact import redact_named, redact_text, redact_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.model import Comparison, Finding, LaunchPlan, Report, RunRecord


def render_text(report: Report, verbose: bool = False) -> str:  # noqa: FBT001, FBT002 - a renderer's form
    """The whole report; of a dry run the plan."""
    if report.comparison is None or report.reproduction is None:
        return render_plan(report.plan)
    parts = []
    if verbose:
        parts += [
            _render_run("Run1 (reference)", report.reference),
            _render_run("Run2 (reproduction)", report.reproduction),
        ]
    parts += [f"Note: {show(caveat)}" for caveat in report.plan.caveats]
    parts.append(render_comparison(report.comparison))
    return "\n".join(parts)


def render_comparison(comparison: Comparison) -> str:
    """The table of metrics, a line for each that differs or is not judged, and ``Runs equal: ...``."""
    metrics = comparison.of_kind("metric")
    lines = []
    if metrics:
        rows = [(show(row.name), _cell(row.reference), _cell(row.reproduction)) for row in metrics]
        headers = ("Metric", "Run1", "Run2")
        # Names stay text: a metric called "1.50" is no number.
        lines.append(tabulate(rows, headers, tablefmt="psql", missingval="-", disable_numparse=[0]))
    else:
        lines.append("Neither run has a metric, so there is nothing to judge.")
    lines += [f"{show(row.name)}: {_remark(row)}" for row in metrics if row.status is not Status.IDENTICAL or row.note]
    lines += _param_lines(comparison)
    lines.append(f"Runs equal: {comparison.verdict.runs_equal}")
    return "\n".join(lines)


def render_plan(plan: LaunchPlan) -> str:
    """The plan of a relaunch, and the shell commands that a person could type to do the same."""
    facts = [
        ("Reference run", plan.reference_run_id),
        ("Code", f"{redact_value(plan.source.project_uri)} at {plan.source.commit}"),
        ("Launch", shlex.join(plan.command) if plan.command else f"entry point {plan.entry_point}"),
        ("Experiment", plan.experiment_name),
        ("Backend", plan.backend),
        ("Environment", _environment(plan)),
    ]
    lines = ["Plan (nothing is launched)"]
    lines += [f"  {name + ':':<15}{show(value)}" for name, value in facts]
    lines += [f"  {'Parameter:':<15}{show(f'{name}={_value(name, value)}')}" for name, value in plan.parameters.items()]
    lines += [f"  {'Note:':<15}{show(caveat)}" for caveat in plan.caveats]
    lines += ["", "The same by hand:", *(f"  {command}" for command in shell_commands(plan))]
    return "\n".join(lines)


def shell_commands(plan: LaunchPlan) -> list[str]:
    """What a person would type to relaunch the run; values are quoted for a POSIX shell."""
    commands = [
        f"git clone {shlex.quote(redact_value(plan.source.uri))} reproduction",
        f"git -C reproduction checkout --detach {plan.source.commit}",
        *_environment_commands(plan),
        f"cd {shlex.quote('/'.join(filter(None, ('reproduction', plan.working_directory))))}",
    ]
    if plan.tracking_uri:
        commands.append(f"export MLFLOW_TRACKING_URI={shlex.quote(redact_value(plan.tracking_uri))}")
    if plan.command:
        commands.append(f"export MLFLOW_EXPERIMENT_NAME={shlex.quote(plan.experiment_name)}")
        commands.append(shlex.join(plan.command))
        return commands
    words = ["mlflow", "run", ".", "-e", plan.entry_point, "--env-manager", plan.env_manager]
    words += ["--experiment-name", plan.experiment_name]
    if plan.backend != "local":
        words += ["--backend", plan.backend]
    if plan.backend_config:
        words += ["--backend-config", plan.backend_config]
    for name, value in plan.parameters.items():
        words += ["-P", f"{name}={_value(name, value)}"]
    return [*commands, shlex.join(words)]


def _environment(plan: LaunchPlan) -> str:
    environment = plan.environment
    kind = f"{environment.kind}, by {plan.env_manager}" if environment.kind == "project" else environment.kind
    if environment.kind == "recorded":
        kind += f", Python {environment.python} and {environment.packages} packages by uv"
    return f"{kind} ({environment.reason})" if environment.reason else kind


def _environment_commands(plan: LaunchPlan) -> list[str]:
    """How a person makes the recorded environment; nothing for the others."""
    if plan.environment.kind != "recorded":
        return []
    uri = f"MLFLOW_TRACKING_URI={shlex.quote(redact_value(plan.tracking_uri))} " if plan.tracking_uri else ""
    run_id, python = shlex.quote(plan.reference_run_id), shlex.quote(plan.environment.python)
    commands = [
        f"{uri}mlflow artifacts download -r {run_id} -a repro/environment -d environment",
        f"uv venv --python {python} environment/venv",
    ]
    for path, index in plan.environment.locks.items():
        words = ["uv", "pip", "install", "--python", "environment/venv", "--no-deps"]
        words += ["--index-url", index] if "://" in index else []
        commands.append(shlex.join([*words, "-r", f"environment/{path.removeprefix('repro/')}"]))
    return [*commands, ". environment/venv/bin/activate"]


def show(text: str) -> str:
    """``text`` on one line, with control characters (ANSI, newline, right-to-left marks) as escapes."""
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def _value(name: str, value: str) -> str:
    return redact_named(name, value)


def _cell(value: float | str | None) -> float | str | None:
    return show(value) if isinstance(value, str) else value


def _remark(finding: Finding) -> str:
    if finding.status is Status.CLOSE:
        return f"within tolerance, {finding.note}"
    if finding.status is Status.DIFFERENT:
        return f"{finding.reference!r} and {finding.reproduction!r}, {finding.note}"
    return finding.note


def _param_lines(comparison: Comparison) -> list[str]:
    lines = []
    for row in comparison.of_kind("param"):
        if row.status in EQUAL_STATUSES:
            continue
        one, other = (
            "not logged" if value is None else repr(_value(row.name, str(value)))
            for value in (row.reference, row.reproduction)
        )
        note = f" ({row.note})" if row.note else ""
        lines.append(f"Parameter {show(row.name)}: {one} in the reference, {other} in the reproduction{note}")
    return lines


def _render_run(title: str, record: RunRecord) -> str:
    info = {
        "run_id": record.run_id,
        "name": record.run_name,
        "experiment": record.experiment_name,
        "status": record.status,
        "started": _time(record.start_time),
        "ended": _time(record.end_time),
        "artifacts": record.artifact_uri,
    }
    metrics = {name: repr(value) for name, value in record.metrics.items()}
    parts = (("info", info), ("params", record.params), ("metrics", metrics), ("tags", record.tags))
    return "\n".join([f"{title}:", *(line for name, values in parts for line in _section(name, values)), ""])


def _section(title: str, values: Mapping[str, str]) -> list[str]:
    rows = [f"    {show(name)}: {show(redact_text(_value(name, value)))}" for name, value in sorted(values.items())]
    return [f"  {title}:", *(rows or ["    none"])]


def _time(milliseconds: int) -> str:
    if not milliseconds:
        return "-"
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc).isoformat(timespec="seconds")
