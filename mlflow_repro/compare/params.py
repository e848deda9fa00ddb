"""Compare parameters. They are facts: they explain a verdict and never make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.model import Finding, Status
from mlflow_repro.quoting import launch_parameters

if TYPE_CHECKING:
    from mlflow_repro.model import RunRecord


def compare_params(reference: RunRecord, reproduction: RunRecord) -> list[Finding]:
    """One finding for each parameter that either run has; shell quotes that MLflow added are taken off first."""
    one, other = plain_params(reference), plain_params(reproduction)
    return [_compare_param(name, one.get(name), other.get(name)) for name in sorted(set(one) | set(other))]


def plain_params(record: RunRecord) -> dict[str, str]:
    """The run's parameters, its launch parameters with the values that were typed."""
    return {**record.params, **launch_parameters(record)}


def _compare_param(name: str, reference: str | None, reproduction: str | None) -> Finding:
    note = ""
    if reproduction is None:
        status = Status.MISSING
    elif reference is None:
        status = Status.EXTRA
    elif reference == reproduction:
        status = Status.IDENTICAL
    else:
        status = Status.DIFFERENT
        if _as_number(reference) is not None and _as_number(reference) == _as_number(reproduction):
            note = "the same number, written differently"
    return Finding(kind="param", name=name, reference=reference, reproduction=reproduction, status=status, note=note)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
