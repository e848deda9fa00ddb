"""Compare what a run has logged so far, and judge one that was stopped because it had diverged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.compare.facts import compare_params
from mlflow_repro.compare.histories import align_points, alike
from mlflow_repro.compare.metrics import describe_error
from mlflow_repro.values.comparison import Comparison, Finding, Status
from mlflow_repro.values.progress import Divergence

if TYPE_CHECKING:
    from mlflow_repro.compare.histories import Points
    from mlflow_repro.values.rules import Rules, Tolerances
    from mlflow_repro.values.run import Run


def find_divergence(
    name: str, reference: Points, reproduction: Points, tolerances: Tolerances, *, open_step: int
) -> Divergence | None:
    """The first point that both sides have and that is not close.

    Points of ``open_step`` may still be coming: it counts only where the reference has one point there. What only one
    side has is left to the comparison in the end, and so are steps of which one has several points, for without their
    times their order may be unknown.
    """
    import numpy as np

    blocks = []
    is_closed = int((reference[0] == open_step).sum()) == 1
    for steps, values in (reference, reproduction):
        kept = steps <= open_step if is_closed else steps < open_step
        blocks.append((steps[kept], values[kept]))
    steps, one, other = align_points(*blocks)
    is_single = np.ones(len(steps), np.bool_)
    for whole, _ in blocks:
        is_single &= np.searchsorted(whole, steps, "right") - np.searchsorted(whole, steps) == 1
    far = np.flatnonzero(~alike(one, other, tolerances) & is_single)
    if not len(far):
        return None
    first = int(far[0])
    return Divergence(
        name=name, step=int(steps[first]), reference=float(one[first]), reproduction=float(other[first]), points=first
    )


def describe_saving(divergence: Divergence, expected: float) -> str:
    """What stopping has saved, against the ``expected`` seconds that the reference took (0: not known)."""
    text = f"stopped by fail-fast after {divergence.elapsed:.1f} s"
    if not expected:
        return text
    if expected <= divergence.elapsed:
        return f"{text}; the reference took {expected:.1f} s"
    saved = expected - divergence.elapsed
    return f"{text}; the reference took {expected:.1f} s, so {saved:.1f} s ({saved / expected:.0%}) are saved"


def compare_stopped(reference: Run, reproduction: Run, divergence: Divergence, rules: Rules) -> Comparison:
    """The comparison of a run that was ended at a divergence: that judges, and nothing else can any more."""
    found = Finding(
        kind="history",
        name=divergence.name,
        reference=None,
        reproduction=None,
        status=Status.DIFFERENT,
        note=f"differs from step {divergence.step} on: {divergence.reference!r} and {divergence.reproduction!r},"
        f" {describe_error(divergence.reference, divergence.reproduction)}; the run was stopped there",
        details={
            "points": divergence.points + 1,
            "different": 1,
            "first_different_step": divergence.step,
            "whole": "no",
        },
    )
    values = [
        Finding(
            kind="metric",
            name=name,
            reference=reference.metrics.get(name),
            reproduction=reproduction.metrics.get(name),
            status=Status.IGNORED,
        )
        for name in sorted({*reference.metrics, *reproduction.metrics})
    ]
    rest = Finding(
        kind="history",
        name="*",
        reference=None,
        reproduction=None,
        status=Status.IGNORED,
        note="nothing else is judged: the values above are the last before the run was stopped",
    )
    return Comparison(
        reference_run_id=reference.run_id,
        reproduction_run_id=reproduction.run_id,
        findings=(*values, found, rest, *compare_params(reference, reproduction)),
        rules=rules,
    )
