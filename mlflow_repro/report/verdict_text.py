"""The verdict in one line: how strong it is, and what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.model import Status, Verdict

if TYPE_CHECKING:
    from mlflow_repro.model import Comparison
    from mlflow_repro.rules import Rules

_NOUNS = {"metric": "metric", "history": "history", "model_metric": "metric of a model"}
_PLURALS = {"metric": "metrics", "history": "histories", "model_metric": "metrics of models"}


def render_verdict(comparison: Comparison) -> str:
    """The verdict with what was judged (how many metrics, how many points of histories), and by which rules."""
    judged = [row for row in comparison.findings if row.is_judged]
    parts = []
    for kind in dict.fromkeys(row.kind for row in judged if row.kind != "status"):
        rows = [row for row in judged if row.kind == kind]
        part = f"{len(rows)} {_PLURALS.get(kind, kind + 's') if len(rows) > 1 else _NOUNS.get(kind, kind)}"
        if kind == "history":
            part += f" with {sum(int(row.details.get('points', 0)) for row in rows)} points"
        parts.append(part)
    runs = [row for row in comparison.findings if row.kind == "run"]
    if runs:
        references = sum(row.reference is not None for row in runs)
        parts.append(f"{_count(references, 'reference')} against {_count(len(runs) - references, 'reproduction')}")
    unequal = sum(not row.is_equal for row in judged)
    text = f"{comparison.verdict.value}, from {_join(parts)}" if parts else comparison.verdict.value
    if unequal and len(judged) > 1:
        text += f", {unequal} not equal" if not _unknown(comparison) else f", {unequal} not equal or not known"
    return f"{text} ({render_rules(comparison.rules)})" if parts else text


def render_runs_equal(comparison: Comparison) -> str:
    """The word behind ``Runs equal:``; a statistical yes says that it is one, and from how many runs."""
    word = comparison.verdict.runs_equal
    if comparison.verdict is not Verdict.CONSISTENT:
        return word
    return f"{word} (statistically consistent, n={sum(row.kind == 'run' for row in comparison.findings)})"


def render_rules(rules: Rules) -> str:
    """The rules in one line."""
    parts = [str(rules.default), *map(str, rules.tolerances)]
    for kind in ("only", "ignore", "judge"):
        parts += [f"{kind} {pattern}" for pattern in getattr(rules, kind)]
    return f"{' '.join(parts)} of {rules.origin}" if rules.origin else " ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _unknown(comparison: Comparison) -> bool:
    return any(row.status is Status.UNKNOWN for row in comparison.findings)


def _join(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
