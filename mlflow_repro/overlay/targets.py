"""What a call of a store writes to, and what of its arguments must not reach the store as it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.methods import ARGUMENTS

if TYPE_CHECKING:
    from mlflow_repro.overlay.calls import Call
    from mlflow_repro.overlay.session import Session

_PARENT_TAG = "mlflow.parentRunId"


def find_targets(call: Call, kind: str) -> list[str]:
    """The ids of what is written to; none where the call does not say it."""
    bound = call.bound()
    found: dict[str, None] = {}
    for name in ARGUMENTS[kind]:
        value = bound.get(name)
        for item in value if isinstance(value, (list, tuple)) else [value]:
            target = item
            if item is not None and not isinstance(item, (str, int)):
                target = getattr(item, "trace_id", None) or getattr(item, "request_id", None)
            if target is not None:
                found[str(target)] = None
    return list(found)


def fit_arguments(session: Session, call: Call) -> dict[str, Any]:
    """The arguments that change, because they would tie something of this relaunch to something that is not."""
    fit = _FITTED.get(call.name)
    return fit(session, call.bound()) if fit else {}


def _fit_new_run(session: Session, bound: dict[str, Any]) -> dict[str, Any]:
    """A run of this relaunch is no child of a run that is not."""
    tags = []
    for tag in bound.get("tags") or []:
        kept = tag
        if tag.key == _PARENT_TAG and not session.owns("run", tag.value):
            session.ledger.tell("held", f"making a run a child of the run {tag.value}")
            own = session.find_own_run(tag.value)
            kept = type(tag)(tag.key, own) if own else None
        tags += [kept] if kept is not None else []
    return {"tags": tags} if "tags" in bound else {}


def _fit_new_model(session: Session, bound: dict[str, Any]) -> dict[str, Any]:
    source = bound.get("source_run_id")
    if not source or session.owns("run", source):
        return {}
    session.ledger.tell("held", f"naming the run {source} as the one that a logged model comes from")
    return {"source_run_id": session.find_own_run(source) or session.run_id or None}


def _fit_metrics(session: Session, bound: dict[str, Any]) -> dict[str, Any]:
    """A metric of a run of this relaunch is no metric of a logged model that is not."""
    name = "metric" if "metric" in bound else "metrics"
    rows = [bound["metric"]] if name == "metric" else list(bound.get("metrics") or ())
    fitted = [_without_foreign_model(session, row) for row in rows]
    if all(new is old for new, old in zip(fitted, rows, strict=True)):
        return {}
    return {name: fitted[0] if name == "metric" else fitted}


def _without_foreign_model(session: Session, metric: Any) -> Any:
    model_id = getattr(metric, "model_id", None)
    if not model_id or session.owns("model", model_id):
        return metric
    session.ledger.tell("held", f"a metric of the logged model {model_id}")
    changed = copy.copy(metric)
    changed._model_id = None  # noqa: SLF001 - MLflow's entities have no setters
    return changed


_FITTED = {
    "create_run": _fit_new_run,
    "create_logged_model": _fit_new_model,
    "log_batch": _fit_metrics,
    "log_batch_async": _fit_metrics,
    "log_metric": _fit_metrics,
    "log_metric_async": _fit_metrics,
}
