"""Let the artifact repositories of a relaunch write to the artifacts of what is of this relaunch, and nowhere else."""

from __future__ import annotations

import functools
import os
import posixpath
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from mlflow_repro.overlay.answers import refuse
from mlflow_repro.overlay.calls import Call, is_passing
from mlflow_repro.overlay.methods import ARTIFACT_READS

if TYPE_CHECKING:
    from mlflow_repro.overlay.session import Session

_DROPPED = frozenset(("log_artifact", "log_artifacts", "delete_artifacts"))
_GIVING = ("download_", "get_local_path")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


def wrap_artifact_method(session: Session, name: str, original: Any) -> Any:
    """The method ``name`` of an artifact repository, which looks at where it is to write first."""

    @functools.wraps(original)
    def guarded(self: Any, *arguments: Any, **named: Any) -> Any:
        call = Call(store=self, name=name, original=original, arguments=arguments, named=named)
        if is_passing():
            return call.do_watched()
        return _judge(session, call)

    return guarded


def _judge(session: Session, call: Call) -> Any:
    uri = str(getattr(call.store, "artifact_uri", ""))
    words = _words(uri)
    if call.name in ARTIFACT_READS:
        for run_id in words & session.reference if call.name.startswith(_GIVING) else ():
            session.ledger.tell("read", f"the artifacts of the run {run_id}")
        return call.do_watched()
    if session.has_id(words) or _is_inside(uri, session.place):
        return call.do()
    stand_in = next((own for own in map(session.ledger.find_stand_in, _runs(words)) if own), "")
    if stand_in and call.name in _DROPPED:
        return _write_to(stand_in, call)
    where = next(iter(sorted(_runs(words))), "") or uri
    session.ledger.tell("held", f"{call.name} to the artifacts of {where}")
    return None if call.name in _DROPPED else refuse(f"{call.name} to the artifacts of {where}")


def _words(uri: str) -> frozenset[str]:
    """The parts of an address; what is stored for something lies in a folder of its id."""
    try:
        path = urlsplit(uri).path or uri
    except ValueError:
        path = uri
    return frozenset(posixpath.normpath(unquote(path)).split("/"))


def _runs(words: frozenset[str]) -> list[str]:
    return [word for word in words if _RUN_ID.fullmatch(word)]


def _is_inside(uri: str, place: str) -> bool:
    """True for a folder of the checkout, which goes when the relaunch is over."""
    parts = urlsplit(uri) if not uri.startswith("/") else None
    if parts is not None and parts.scheme not in ("", "file"):
        return False
    path = os.path.realpath(unquote(parts.path) if parts else uri)
    return bool(place) and path.startswith(os.path.realpath(place) + os.sep)


def _write_to(run_id: str, call: Call) -> Any:
    """Do it to the run that stands in for the one that the script means."""
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(str(MlflowClient().get_run(run_id).info.artifact_uri))
    return getattr(repository, call.name)(*call.arguments, **call.named)
