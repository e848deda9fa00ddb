"""A run's record as text for people, and whether the run will come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.text.redact import redact_argv, redact_named, redact_text, show, show_lines
from mlflow_repro.values.captured import SECTIONS, is_missing
from mlflow_repro.values.report import Grade

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.values.report import Readiness

_LIST_LIMIT = 12  # rows of a list that are printed; the JSON form has all
_HEAD = ("schema", "run_id", "complete")


def render_record(record: Mapping[str, Any]) -> str:
    """Each section with its facts, one on a line; an absent fact shows its reason."""
    lines = [f"Record of run {show(str(record.get('run_id', '')))}"]
    if not record.get("complete"):
        lines.append("(incomplete: the run has not ended, or ended before its last facts were written)")
    for section, facts in record.items():
        if section in _HEAD:
            continue
        lines += ["", section if section in SECTIONS else f"another section, {section}"]
        rows = _render(facts, "  ") if isinstance(facts, dict) else [f"  {_text(facts)}"]
        lines += list(rows) or ["  nothing recorded"]
    return show_lines(lines)


def _render(facts: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, value in facts.items():
        if is_missing(value):
            yield f"{indent}{show(name)}: - ({_text(value['absent'])})"
        elif isinstance(value, dict) and value:
            yield f"{indent}{show(name)}:"
            yield from _render(value, indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
            yield f"{indent}{show(name)}: {len(value)}"
            for item in value[:_LIST_LIMIT]:
                yield f"{indent}  - {_text(item)}"
            if len(value) > _LIST_LIMIT:
                yield f"{indent}  ... {len(value) - _LIST_LIMIT} more"
        else:
            yield f"{indent}{show(name)}: {_text(value, name)}"


def _text(value: Any, name: str = "") -> str:
    if isinstance(value, str):
        return show(redact_named(name, value))
    if isinstance(value, list):
        value = redact_argv(value) if all(isinstance(item, str) for item in value) else value
        shown = " ".join(_text(item) for item in value[:_LIST_LIMIT])
        return f"{shown} ... {len(value) - _LIST_LIMIT} more" if len(value) > _LIST_LIMIT else shown or "none"
    if isinstance(value, dict):
        return (
            ", ".join(
                f"{show(str(name))} {_text(redact_named(str(name), item) if isinstance(item, str) else item)}"
                for name, item in value.items()
            )
            or "none"
        )
    if isinstance(value, bool):
        return "yes" if value else "no"
    return show(redact_text(str(value)))


_MARKS = {Grade.READY: "ok", Grade.WARNING: "warning", Grade.OBSTACLE: "missing"}
_ANSWERS = {Grade.READY: "yes", Grade.WARNING: "probably", Grade.OBSTACLE: "no"}


def render_readiness(readiness: Readiness) -> str:
    """A line for each check, advice below it, and the last line ``Will reproduce: yes|probably|no``."""
    lines = [f"Run {show(readiness.run_id)}"]
    width = max((len(check.name) for check in readiness.checks), default=0)
    for check in readiness.checks:
        lines.append(f"  {_MARKS[check.grade]:<8}{check.name:<{width}}  {show(redact_text(check.text))}")
        if check.advice:
            lines.append(f"  {'':<8}{'':<{width}}  -> {show(redact_text(check.advice))}")
    lines.append(f"Will reproduce: {_ANSWERS[readiness.grade]}")
    return show_lines(lines)
