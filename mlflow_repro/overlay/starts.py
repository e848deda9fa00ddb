"""Let ``mlflow.start_run`` of a relaunch resume runs of this relaunch only.

A script that resumes a run of another time (its id is in a file, an argument, a variable) is given the run that was
made for the relaunch, or another one of its own when that is taken. From then on this run is what the script takes for
the other: what it writes to the other by its id goes there, too.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.overlay.session import Session

_RUN_VARIABLE = "MLFLOW_RUN_ID"
_STARTED = "started"


def wrap_start_run(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    """``mlflow.start_run`` for a relaunch."""

    @functools.wraps(original)
    def start_run(run_id: str | None = None, *arguments: Any, **named: Any) -> Any:
        parent = named.get("parent_run_id")
        if parent and not session.owns("run", parent):
            named = {**named, "parent_run_id": session.ledger.find_stand_in(parent) or None}
            session.ledger.tell("held", f"making a run a child of the run {parent}")
        wanted = run_id or os.environ.get(_RUN_VARIABLE)
        if not wanted or session.owns("run", wanted):
            return _started(session, original(run_id, *arguments, **named))
        if not run_id:
            del os.environ[_RUN_VARIABLE]
        own = session.ledger.find_stand_in(wanted) or _untaken(session)
        run = original(own or None, *arguments, **named)
        session.ledger.add_made("run", run.info.run_id)
        session.ledger.add_stand_in(wanted, run.info.run_id)
        session.ledger.tell("held", f"resuming the run {wanted}, for which {run.info.run_id} stood in")
        return _started(session, run)

    return start_run


def _untaken(session: Session) -> str:
    """The run that was made for the relaunch, as long as no process has taken it."""
    is_taken = session.run_id in session.ledger.told(_STARTED)
    if os.environ.get(_RUN_VARIABLE) == session.run_id:
        del os.environ[_RUN_VARIABLE]
    return "" if is_taken else session.run_id


def _started(session: Session, run: Any) -> Any:
    session.ledger.tell(_STARTED, run.info.run_id)
    return run
