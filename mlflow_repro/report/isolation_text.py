"""Why two runs differ, as text for people: the likely causes, and what launches have proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tabulate import tabulate

from mlflow_repro.report.verdict_text import render_runs_equal, render_verdict
from mlflow_repro.text.redact import redact_text, show, show_lines
from mlflow_repro.values.comparison import Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.values.proofs import Blame, Isolation, Profile, Trial
    from mlflow_repro.values.report import Cause, Report


def render_sentence(isolation: Isolation) -> str:
    """The answer in one sentence, and what could not be tried in another."""
    impossible = isolation.conclusion.impossible
    text = _sum_up(isolation)
    return f"{text} Not tried, as it cannot be had here: {_names(isolation, impossible)}." if impossible else text


def _sum_up(isolation: Isolation) -> str:
    conclusion = isolation.conclusion
    if conclusion.state == "found":
        return _found(isolation)
    others = "what the other run has" if isolation.other_run_id else "what is here"
    texts = {
        "no difference": "The two runs are equal: there is nothing to isolate.",
        "not restored": "Launched as recorded the run differs from the reference, each time in the same way: the cause"
        " is something that was not recorded or cannot be put back.",
        "nondeterministic": "The run differs from itself: launched twice as recorded it gives two results. Nothing"
        " around it is to blame.",
        "none matters": f"None of the {len(isolation.factors)} things that differ matters: with all of {others} the"
        " result is the same."
        if isolation.factors
        else "Launched as recorded the run is equal to the reference, and nothing that can be changed differs.",
    }
    if conclusion.state in texts:
        return texts[conclusion.state]
    text = f"After {len(isolation.trials)} of {isolation.limit} launches it is not known what changes the result"
    if conclusion.suspected:
        text += f"; it is among {_names(isolation, conclusion.suspected)}"
    return f"{text}: give more with --max-launches or --timeout, and go on with --resume {isolation.parent_run_id}."


def _found(isolation: Isolation) -> str:
    conclusion = isolation.conclusion
    parts = [_blame(blame, isolation) for blame in conclusion.blames]
    text = "; ".join(parts)
    if conclusion.untested:
        rest = _names(isolation, conclusion.untested)
        return f"{text}; whether {rest} matters is out of the budget of {isolation.limit} launches."
    is_open = any(not (blame.is_alone or blame.needs) for blame in conclusion.blames)
    without = " without it" if is_open else ""
    return f"{text}; everything else does not matter{without}." if conclusion.harmless else f"{text}."


def _blame(blame: Blame, isolation: Isolation) -> str:
    joint = " or " if blame.was_there else " together with "
    names = joint.join(f"`{isolation.factors[name]}`" for name in blame.factors)
    trial = _find_trial(isolation, blame)
    where = trial.difference if trial and trial.difference else "the result"
    if blame.was_there:
        return f"{names} changes {where}, or something that was not recorded: what it was is not at hand (--data)"
    verb = f"makes the run fail ({trial.difference})" if blame.fails and trial else f"changes {where}"
    if len(blame.factors) > 1:
        return f"{names} {verb}, and neither does so without the other"
    if blame.is_alone:
        return f"{names} alone {verb}"
    if blame.needs:
        others = _names(isolation, blame.needs)
        return (
            f"{names} {verb}, but not alone: it needs one or more of {others}, and which is out of the budget of"
            f" {isolation.limit} launches (--max-launches, --resume {isolation.parent_run_id})"
        )
    return f"{names} {verb}; whether it does so alone is out of the budget"


def _find_trial(isolation: Isolation, blame: Blame) -> Trial | None:
    return next((trial for trial in isolation.trials if frozenset(trial.changed) == blame.changed), None)


def _names(isolation: Isolation, names: tuple[str, ...]) -> str:
    return ", ".join(f"`{isolation.factors[name]}`" for name in names)


def render_isolation(isolation: Isolation) -> str:
    """The launches, the causes and, as the last line, the sentence."""
    lines = []
    if isolation.trials:
        rows = [
            (number, describe_trial(trial), trial.answer, show(trial.difference))
            for number, trial in enumerate(isolation.trials, start=1)
        ]
        headers = ("", "Changed", "Result", "Differs")
        lines += tabulate(rows, headers, tablefmt="psql", disable_numparse=True).split("\n")
    lines += render_causes(isolation.causes, limit=3, least=0.05)
    if isolation.parent_run_id:
        lines.append(f"Launches are below run {isolation.parent_run_id}")
    lines.append(redact_text(render_sentence(isolation)))
    return show_lines(lines)


def describe_trial(trial: Trial) -> str:
    """What was changed in a launch, in one line."""
    if not trial.changed:
        return "nothing (the control)" if not trial.attempt else "nothing, once more"
    names = ", ".join(trial.changed)
    return show(names if len(names) <= 70 else f"{names[:67]}...")  # noqa: PLR2004 - characters of a line


def render_progress(number: int, limit: int, trial: Trial) -> str:
    """A launch as it begins or ends."""
    if not trial.answer:
        return f"launch {number} of at most {limit}: changed: {describe_trial(trial)}"
    where = f", {trial.difference}" if trial.difference else ""
    return show(f"  {trial.answer}{where} ({trial.seconds:.0f} s, run {trial.run_id or 'not kept'})")


def render_profile(profile: Profile) -> str:
    """What the result depends on: a row for each thing that was varied, and the last line that sums it up."""
    rows = [(show(row.name), show(row.what), row.answer, show(row.note)) for row in profile.rows]
    lines = []
    if profile.control != "equal":
        lines.append(f"Note: launched as recorded, the run is {profile.control}; the rows are against the reference")
    if rows:
        headers = ("Varied", "How", "Result", "Note")
        lines += tabulate(rows, headers, tablefmt="psql", disable_numparse=True).split("\n")
    lines.append(f"Launches are below run {profile.parent_run_id}")
    if profile.repeat != "equal":
        lines.append("The run differs from itself: launched twice as recorded it gives two results.")
    elif profile.depends_on:
        lines.append(f"The result depends on: {', '.join(profile.depends_on)}")
    else:
        lines.append("The result depends on nothing that was varied.")
    return show_lines(lines)


_SHOWN = 3  # causes of a report; `explain` and JSON have all
_LEAST = 0.05  # confidence of a cause that a report shows beside the first
_INDENT = " " * 10


def render_causes(causes: Sequence[Cause], *, limit: int = _SHOWN, least: float = _LEAST) -> list[str]:
    """A block for each cause: confidence and cause, what speaks for it, and what settles it. Nothing without one."""
    if not causes:
        return []
    lines = ["Why they differ, the most likely first:"]
    shown = [cause for number, cause in enumerate(causes[:limit]) if number == 0 or cause.confidence >= least]
    for number, cause in enumerate(shown, start=1):
        confidence = "proven" if cause.confidence == 1 else f"{cause.confidence:.0%}"
        lines.append(f"  {number}. {confidence:>6} {_show(cause.what)}")
        lines += [f"{_INDENT}{'   '}{_show(fact)}" for fact in cause.evidence]
        if cause.fix:
            lines.append(f"{_INDENT}-> {_show(cause.fix)}")
    if len(causes) > len(shown):
        lines.append(f"  and {len(causes) - len(shown)} less likely: mlflow-repro explain shows them")
    return lines


def render_explanation(report: Report) -> str:
    """All causes of a difference, and the last line of every report."""
    comparison = report.comparison
    if comparison is None:
        return ""
    lines = [f"Verdict: {render_verdict(comparison)}"]
    damaged = [row for row in comparison.of_kind("record") if row.status is Status.UNKNOWN]
    lines += [f"Record {row.name}: {_show(row.note)}" for row in damaged]
    if comparison.verdict is not Verdict.DIFFERENT:
        lines.append("There is no difference to explain.")
    lines += render_causes(report.causes, limit=len(report.causes), least=0)
    return show_lines([*lines, f"Runs equal: {render_runs_equal(comparison)}"])


def _show(text: str) -> str:
    return show(redact_text(text))
