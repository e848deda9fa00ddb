"""What a relaunch reads of the runs that it reproduces: a result may come from there instead of from the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.overlay.calls import Call
    from mlflow_repro.overlay.session import Session

_SOURCES = ("run_id", "source_run_id")
_FEW = 10_000  # rows of an answer that are looked at


def note_read(session: Session, call: Call, result: Any) -> None:
    """Note for the report which runs of the reference the store told the script about."""
    if not session.reference:
        return
    bound = call.bound()
    asked = [bound.get("run_id"), bound.get("run_uuid"), *(bound.get("run_ids") or ())]
    for run_id in dict.fromkeys([*asked, *_runs_of(result)]):
        if run_id in session.reference:
            session.ledger.tell("read", f"the run {run_id} ({call.name})")


def _runs_of(result: Any) -> Iterator[Any]:
    rows = list(result)[:_FEW] if isinstance(result, (list, tuple)) else [result]
    for row in rows:
        info = getattr(row, "info", None)
        for name in _SOURCES:
            yield getattr(info, name, None)
            yield getattr(row, name, None)
