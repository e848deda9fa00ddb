"""The verdict in one line: how strong it is, and what it rests on; of a run tree with a table of its pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from mlflow_repro.text.listing import list_some
from mlflow_repro.text.redact import redact_text, show
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, Status, Verdict
from mlflow_repro.values.report import judge_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.values.comparison import Comparison, Finding, JudgedPair
    from mlflow_repro.values.rules import Rules

_NOUNS = {"metric": "metric", "history": "history", "model_metric": "metric of a model"}
_PLURALS = {"metric": "metrics", "history": "histories", "model_metric": "metrics of models"}
_LONGEST = 200  # characters of why an outcome cannot be judged; its own line has all


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
    text = f"{comparison.verdict.value}, from {_join(parts)}" if parts else comparison.verdict.value
    unequal = sum(row.status in DIFFERENT_STATUSES for row in judged)
    if unequal and len(judged) > 1:
        text += f", {unequal} not equal"
    text += "".join(f", {part}" for part in render_unknown(judged))
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


def render_unknown(judged: Sequence[Finding]) -> list[str]:
    """How many of the outcomes cannot be judged, with the first one and its reason; nothing where all can."""
    unknown = [row for row in judged if row.status is Status.UNKNOWN]
    if not unknown:
        return []
    first = unknown[0]
    name = first.name if first.kind == first.name else f"{_NOUNS.get(first.kind, first.kind)} {first.name}"
    text = show(redact_text(f"{name}: {first.note}" if first.note else name))
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return [f"{len(unknown)} cannot be judged ({list_some([text], 1, count=len(unknown))})"]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _join(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


_MANY = 10  # pairs; of more than these, only those that differ are shown
_NAMED = 3  # outcomes that differ and are named in the table


def render_children(children: Sequence[JudgedPair], *, show_all: bool = False) -> list[str]:
    """How many of the other pairs are the same, and a table of them; of many only those that are not."""
    if not children:
        return []
    noted = [pair for pair in children if not is_same(pair)]
    shown = children if show_all or len(children) <= _MANY else noted
    lines = [f"Other runs of the launch: {len(children) - len(noted)} of {len(children)} are the same"]
    if shown:
        headers = ("Run", "Run1", "Run2", "Verdict", "What differs")
        rows = [
            (
                show(redact_text(pair.name)),
                show(pair.reference_run_id) or "-",
                show(pair.reproduction_run_id) or "-",
                word_of(pair),
                show(redact_text(describe_pair(pair))),
            )
            for pair in shown
        ]
        lines += tabulate(rows, headers, tablefmt="psql", disable_numparse=True).split("\n")
    return lines


def render_answer(comparison: Comparison, children: Sequence[JudgedPair]) -> list[str]:
    """The last two lines of a report: the verdict with what it rests on, and ``Runs equal: ...``."""
    if not children:
        return [f"Verdict: {render_verdict(comparison)}", f"Runs equal: {render_runs_equal(comparison)}"]
    comparisons = [comparison, *(pair.comparison for pair in children if pair.comparison)]
    rows = [row for one in comparisons for row in one.findings if row.is_judged]
    judged = [row for row in rows if row.kind != "status"]
    alone = sum(pair.status in DIFFERENT_STATUSES and not pair.comparison for pair in children)
    parts = [f"{len(comparisons)} pairs of runs with {len(judged)} outcomes"]
    unequal = sum(row.status in DIFFERENT_STATUSES for row in rows)
    if unequal:
        parts.append(f"{unequal} not equal")
    parts += render_unknown(rows)
    if alone:
        parts.append(f"{alone} {'run' if alone == 1 else 'runs'} without a counterpart")
    verdict = judge_tree(comparison, children)
    text = f"{verdict.value}, from {', '.join(parts)} ({render_rules(comparison.rules)})"
    return [f"Verdict: {text}", f"Runs equal: {verdict.runs_equal}"]


def is_same(pair: JudgedPair) -> bool:
    """True when there is nothing to say about a pair: equal, or two runs that logged nothing that judges."""
    if pair.comparison is None:
        return False
    return pair.comparison.verdict.runs_equal == "True" or _is_empty(pair.comparison)


def _is_empty(comparison: Comparison) -> bool:
    return all(row.is_equal for row in comparison.findings if row.is_judged)


def word_of(pair: JudgedPair) -> str:
    """The verdict of a pair in a word; a dash where there is nothing to judge."""
    if pair.comparison is None:
        return pair.status.value.upper() if pair.status is not Status.IGNORED else "-"
    verdict = pair.comparison.verdict
    return "-" if verdict is Verdict.INCONCLUSIVE and _is_empty(pair.comparison) else verdict.value


def describe_pair(pair: JudgedPair) -> str:
    """The outcomes that are not equal, by name, and the parameters that may be why."""
    if pair.comparison is None:
        return pair.note
    rows = [row for row in pair.comparison.findings if row.is_judged and not row.is_equal]
    words = [row.name if row.kind == "metric" else f"{row.kind} {row.name}" for row in rows[:_NAMED]]
    if len(rows) > _NAMED:
        words.append(f"{len(rows) - _NAMED} more")
    params = [row.name for row in pair.comparison.of_kind("param") if row.status is not Status.IDENTICAL]
    words += [f"parameter {name}" for name in params[:_NAMED]]
    if len(params) > _NAMED:
        words.append(f"{len(params) - _NAMED} more parameters")
    if not words and _is_empty(pair.comparison) and pair.comparison.verdict is Verdict.INCONCLUSIVE:
        return "nothing to judge in either"
    return ", ".join(words)
