"""What a script gets for a call that was held back: what it would have got, where that can be told, else an error."""

from __future__ import annotations

import copy
import uuid
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.methods import WRITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.overlay.calls import Call
    from mlflow_repro.overlay.session import Session

_NOUNS = {"run": "run", "experiment": "experiment", "model": "logged model", "trace": "trace", "dataset": "data set"}


def answer_held(session: Session, call: Call, target: str) -> Any:
    """Note that the call was held back, and answer it. Raises MlflowException where no answer would be true."""
    kind = _NOUNS.get(WRITES.get(call.name, ""), "")
    words = f"{call.name} of {kind} {target}" if target and kind else call.name
    session.ledger.tell("held", words)
    answer = _ANSWERS.get(call.name)
    if answer is not None:
        return answer(call)
    if call.name in WRITES:  # they return nothing
        return None
    return refuse(words)


def refuse(words: str) -> Any:
    """Raise the MlflowException that says so."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    raise MlflowException(
        f"mlflow-repro: {words} is refused: a reproduction writes to its own runs only", error_code=PERMISSION_DENIED
    )


def _nothing_queued(_: Call) -> Any:
    from mlflow.utils.async_logging.run_operations import RunOperations

    operations: Any = RunOperations
    return operations(operation_futures=[])


def _run_info(call: Call) -> Any:
    bound = call.bound()
    info = copy.copy(call.ask("get_run", bound.get("run_id") or bound.get("run_uuid")).info)
    for name, attribute in (("end_time", "_end_time"), ("run_name", "_run_name")):
        if bound.get(name) is not None and hasattr(info, attribute):
            setattr(info, attribute, bound[name])
    return info


def _assessment(call: Call) -> Any:
    made = copy.copy(call.bound()["assessment"])
    if not getattr(made, "assessment_id", None):
        made.assessment_id = f"a-{uuid.uuid4().hex}"
    return made


def _changed_assessment(call: Call) -> Any:
    bound = call.bound()
    return call.ask("get_assessment", bound["trace_id"], bound["assessment_id"])


def _trace_info(call: Call) -> Any:
    bound = call.bound()
    return bound.get("trace_info") or call.ask("get_trace_info", bound["request_id"])


_ANSWERS: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(("log_batch_async", "log_metric_async", "log_param_async", "set_tag_async"), _nothing_queued),
    "update_run_info": _run_info,
    "finalize_logged_model": lambda call: call.ask("get_logged_model", call.bound()["model_id"]),
    "create_assessment": _assessment,
    "update_assessment": _changed_assessment,
    "start_trace": _trace_info,
    "end_trace": _trace_info,
    "deprecated_end_trace_v2": _trace_info,
    "delete_traces": lambda call: len(call.bound().get("trace_ids") or ()),
    "log_spans": lambda call: call.bound()["spans"],
    "log_spans_async": lambda call: call.bound()["spans"],
    "upsert_dataset_records": lambda call: {"inserted_count": len(call.bound()["records"]), "updated_count": 0},
    "delete_dataset_records": lambda call: len(call.bound()["dataset_record_ids"]),
    "add_dataset_to_experiments": lambda call: call.ask("get_dataset", call.bound()["dataset_id"]),
    "remove_dataset_from_experiments": lambda call: call.ask("get_dataset", call.bound()["dataset_id"]),
}
