"""The runs of one session of the tool: those that nobody works at any more get an end and a reason."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, ReproError
from mlflow_repro.system.folders import DUTY_FILE, hold_folder
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.values.run import SESSION_TAG

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from mlflow_repro.store.store import TrackingStore

_OPEN = ("RUNNING", "SCHEDULED")
ABANDONED = "the reproducing process ended before its run did"


def describe_session(uri: str, session: str) -> str:
    """What `close_described` is to be given later: a session, and its store, without credentials, by its digest."""
    return json.dumps({"session": session, "store": _digest(uri)})


@contextmanager
def hold_session(uri: str) -> Iterator[str]:
    """A new session of this process: should it be killed, a later one closes the session's runs.

    Raises CannotJudgeError when there is no place to note it.
    """
    session = uuid.uuid4().hex
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(hold_folder())
            Path(folder.path, DUTY_FILE).write_text(describe_session(uri, session), encoding="utf-8")
        except OSError as error:
            raise CannotJudgeError(
                f"no temporary folder can be made: {error}", "point TMPDIR at a folder with space"
            ) from error
        yield session


def close_session(
    store: TrackingStore, session: str, reason: str = ABANDONED, *, ended: Collection[str] = ()
) -> set[str]:
    """Mark the runs of a session that are still open KILLED, with the reason; their ids.

    ``ended`` are the runs that were marked before what computed them was ended: whatever that has made of them
    meanwhile, they are KILLED. A run that had finished by itself stays as it is. Raises ReproError.
    """
    marked = set()
    for run in store.search_runs(f"tags.`{SESSION_TAG}` = '{session}'"):
        if run.status in _OPEN or (run.run_id in ended and run.status != "KILLED"):
            store.set_tags(run.run_id, {"repro.error": reason[:500]})
            store.finish_run(run.run_id, "KILLED")
            marked.add(run.run_id)
    return marked


def close_described(store: TrackingStore, text: str) -> bool:
    """Close the runs of the session that `describe_session` has described; False when it has another store."""
    try:
        described: Any = json.loads(text)
        session, digest = str(described["session"]), described["store"]
    except (ValueError, TypeError, KeyError):  # cut off: it was written before the session made a run
        return True
    if digest != _digest(store.uri):
        return False
    try:
        close_session(store, session)
    except ReproError:
        return False
    return True


def _digest(uri: str) -> str:
    return hashlib.sha256(strip_credentials(uri).encode("utf-8", "replace")).hexdigest()
