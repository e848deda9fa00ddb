"""Compare the final values of metrics."""

from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING

from mlflow_repro.model import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.rules import Rules, Tolerances


def compare_metrics(reference: Mapping[str, float], reproduction: Mapping[str, float], rules: Rules) -> list[Finding]:
    """One finding for each metric that either run has, in the order of their names."""
    return [
        compare_value("metric", name, reference.get(name), reproduction.get(name), rules)
        for name in sorted(set(reference) | set(reproduction))
    ]


def compare_value(kind: str, name: str, reference: float | None, reproduction: float | None, rules: Rules) -> Finding:
    """The finding about one number, None where a run does not have it."""
    ignored = rules.why_ignored(name)
    if ignored:
        status, note = Status.IGNORED, ignored
    else:
        status, note = _judge(reference, reproduction, rules.tolerances_of(name))
    return Finding(kind=kind, name=name, reference=reference, reproduction=reproduction, status=status, note=note)


def _judge(reference: float | None, reproduction: float | None, tolerances: Tolerances) -> tuple[Status, str]:
    if reproduction is None:
        return Status.MISSING, "only in the reference"
    if reference is None:
        return Status.EXTRA, "only in the reproduction"
    if is_identical(reference, reproduction):
        return Status.IDENTICAL, ""
    if _is_stored_infinity(reference, reproduction):
        return Status.IDENTICAL, "a SQL store keeps infinity as the greatest float; taken as the same"
    note = describe_error(reference, reproduction)
    if is_close(reference, reproduction, tolerances):
        return Status.CLOSE, note
    return Status.DIFFERENT, note


def is_identical(one: float, other: float) -> bool:
    """The same bits, or both NaN (of whatever payload: no store keeps it)."""
    if math.isnan(one) and math.isnan(other):
        return True
    return struct.pack("<d", one) == struct.pack("<d", other)


def is_close(one: float, other: float, tolerances: Tolerances) -> bool:
    """`math.isclose` (``abs(a-b) <= max(rel_tol * max(abs(a), abs(b)), abs_tol)``), or near enough by `ulp_distance`.

    NaN equals NaN here.
    """
    if tolerances.exact:
        return is_identical(one, other)
    if math.isnan(one) and math.isnan(other):
        return True
    if math.isclose(one, other, rel_tol=tolerances.rel_tol, abs_tol=tolerances.abs_tol):
        return True
    return bool(tolerances.ulp) and ulp_distance(one, other) <= tolerances.ulp


def ulp_distance(one: float, other: float) -> float:
    """How many float64 numbers lie from one to the other: 0 for the same and for both zeros; inf when not finite."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(_place(one) - _place(other))


def _place(number: float) -> int:
    """The place of a float64 in their order, 0 for both zeros."""
    (bits,) = struct.unpack("<q", struct.pack("<d", number))
    return int(bits if bits >= 0 else -(2**63) - bits)


def describe_error(reference: float, reproduction: float) -> str:
    """By how much two numbers differ, absolutely and relative to the greater of them (symmetric)."""
    if math.isnan(reference) or math.isnan(reproduction):
        return "NaN on one side only"
    if math.isinf(reference) or math.isinf(reproduction):
        return "infinite on one side only" if reference != -reproduction else "infinite with opposite signs"
    absolute = abs(reference - reproduction)
    if math.isinf(absolute):
        return "differs by more than the greatest float"
    scale = max(abs(reference), abs(reproduction))
    if scale == 0:
        return "zeros of different sign"
    hint = "" if reference and reproduction else "; from zero only an absolute tolerance counts"
    return f"differs by {absolute:.3g} (relative {absolute / scale:.3g}{hint})"


def _is_stored_infinity(one: float, other: float) -> bool:
    """One side infinite, the other what MLflow's SQL stores write in its place, with the same sign."""
    small, great = sorted((one, other), key=abs)
    return math.isinf(great) and abs(small) == sys.float_info.max and (small > 0) == (great > 0)
