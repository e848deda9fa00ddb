"""Compare what two models predict for the same inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.arrays import compare_arrays
from mlflow_repro.compare.artifacts.blobs import Outcome, combine
from mlflow_repro.text.listing import list_some
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.values.rules import Tolerances


def compare_predictions(
    name: str, reference: Mapping[str, Any], reproduction: Mapping[str, Any], tolerances: Tolerances
) -> Finding:
    """The finding about one model, whose outputs are arrays by their names: the union of both sides' names."""
    parts = []
    for output in sorted({*reference, *reproduction}):
        label = output or "the prediction"
        if output not in reference or output not in reproduction:
            side = "reference" if output in reference else "reproduction"
            parts.append((label, Outcome(status=Status.DIFFERENT, note=f"only in the {side}")))
            continue
        parts.append((label, compare_arrays(*_widen(reference[output], reproduction[output]), tolerances)))
    only = parts[0][1] if len(parts) == 1 else combine(parts, "outputs")
    return Finding(
        kind="prediction",
        name=name,
        reference=_describe(reference),
        reproduction=_describe(reproduction),
        status=only.status,
        note=only.note,
    )


def unknown_prediction(name: str, reason: str) -> Finding:
    """The finding about a model of which there are no predictions to compare, and why."""
    return Finding(kind="prediction", name=name, reference=None, reproduction=None, status=Status.UNKNOWN, note=reason)


def _widen(one: Any, other: Any) -> tuple[Any, Any]:
    """Texts of one length: how long the longest is belongs to their array's type, and says nothing."""
    if one.dtype.kind == other.dtype.kind == "U":
        wide = max(one.dtype, other.dtype, key=lambda dtype: dtype.itemsize)
        return one.astype(wide), other.astype(wide)
    return one, other


def _describe(outputs: Mapping[str, Any]) -> str:
    shown = [f"{name + ' ' if name else ''}{list(array.shape)} {array.dtype}" for name, array in outputs.items()]
    return list_some(shown, 4, joint=", ")
