"""Which of the places that a store names are opened: what a store says is not ours to follow.

Whoever can write to a tracking server can give a run any address for its artifacts: ``/home/me/.ssh``, another server
that would get our credentials. A folder of this machine is opened where the store is on this machine as well and the
folder is the one that MLflow makes for the run or model in its experiment's, and below a root that the user names.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mlflow_repro.errors import RefusedError
from mlflow_repro.text.redact import redact_value, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

ROOT_VARIABLE = "MLFLOW_REPRO_ARTIFACT_ROOT"
"""Folders of this machine below which artifacts of any store are read, separated as in ``PATH``."""
HOST_VARIABLE = "MLFLOW_REPRO_ARTIFACT_HOST"
"""Servers, as ``HOST`` or ``HOST:PORT`` with commas between them, that may hold the artifacts of another server."""

_FOLDER = "artifacts"  # the last part of every folder that MLflow makes for a run or a model
_WEB = ("http", "https")
_INDIRECT = ("runs", "models")  # MLflow looks up what they stand for, and opens that
_SHOWN = 200  # characters of an address


@dataclass(frozen=True, kw_only=True)
class NamedPlace:
    """Where ``store`` says that the artifacts of ``owner`` are, which is the id of a run or a model.

    ``read_location`` gives where the experiment of it has its artifacts, by the same store.
    """

    uri: str
    store: str
    owner: str
    read_location: Callable[[], str]


def make_place(client: MlflowClient, store: str, owner: str, uri: str, experiment_id: str) -> NamedPlace:
    """What ``store`` names for the run or model ``owner`` of an experiment, which is read only where it matters."""

    def read_location() -> str:
        return str(client.get_experiment(experiment_id).artifact_location)

    return NamedPlace(uri=str(uri or ""), store=store, owner=str(owner), read_location=read_location)


def check_place(place: NamedPlace) -> Path | None:
    """The folder of this machine, without links, that is meant; None for a place that MLflow may open.

    Raises RefusedError for every other. Whether the folder is there is not looked at.
    """
    path = find_local(place.uri)
    if path is None:
        _check_remote(place)
        return None
    real = Path(os.path.realpath(path))
    if any(real.is_relative_to(os.path.realpath(root)) for root in _named_roots()):
        return real
    if not is_on_this_machine(place.store):
        raise _refuse(place, "is a folder of this machine, which another one cannot know")
    if real.parts[-2:] != (place.owner, _FOLDER) or not _is_below(real, find_local(place.read_location())):
        raise _refuse(place, "is not the folder that MLflow makes for them")
    return real


def find_local(uri: str) -> Path | None:
    """The folder of this machine that MLflow opens for ``uri``, or None; the host of a ``file:`` URI is nothing to it.

    Raises ValueError for what is no URI.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    if urlsplit(uri).scheme not in ("", "file"):
        return None
    return Path(str(local_file_uri_to_path(uri)))  # type: ignore[no-untyped-call] # MLflow left it without types


def is_on_this_machine(store: str) -> bool:
    """True for a store in a folder or a SQLite file, and for a server or database on loopback."""
    parts = urlsplit(store)
    if parts.scheme in ("", "file"):
        return store.startswith((os.sep, "file:"))  # not `databricks`
    if parts.scheme.partition("+")[0] == "sqlite":
        return True
    if parts.scheme in _WEB:
        return _is_loopback(parts.hostname or "")
    is_database = parts.scheme.partition("+")[0] in ("postgresql", "postgres", "mysql", "mssql")
    return is_database and not re.search(r"[?&]host=[^/&]", store) and _is_loopback(parts.hostname or "localhost")


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return address.is_loopback or address.is_unspecified


def _is_below(real: Path, location: Path | None) -> bool:
    return location is not None and real.is_relative_to(os.path.realpath(location))


def _named_roots() -> list[str]:
    """What the user names; a relative one would depend on where we are."""
    return [root for root in os.environ.get(ROOT_VARIABLE, "").split(os.pathsep) if os.path.isabs(root)]


def _check_remote(place: NamedPlace) -> None:
    """No detour to this machine, and our credentials for one server go to no other."""
    parts = urlsplit(place.uri)
    if parts.scheme in _INDIRECT:
        raise _refuse(place, "stands for another place")
    if ".." in re.split(r"[/\\]", unquote(unquote(parts.path))):
        raise _refuse(place, "leads out of its own folder")
    if parts.scheme not in (*_WEB, "mlflow-artifacts") or not parts.netloc:
        return
    host, store = parts.netloc.rpartition("@")[2].lower(), urlsplit(place.store).netloc.rpartition("@")[2].lower()
    allowed = [name.strip().lower() for name in os.environ.get(HOST_VARIABLE, "").split(",")]
    if host != store and host not in allowed:
        shown = show(host)[:_SHOWN]
        raise RefusedError(
            f"the artifacts of {show(place.owner)} are with the server {shown}, which would get the credentials for"
            f" {show(redact_value(place.store))}: not asked",
            f"where both are yours, set {HOST_VARIABLE}={shown}",
        )


def _refuse(place: NamedPlace, why: str) -> RefusedError:
    return RefusedError(
        f"the store {show(redact_value(place.store))} names {show(redact_value(place.uri))[:_SHOWN]} for the artifacts"
        f" of {show(place.owner)[:_SHOWN]}; that {why}: not opened",
        f"where it is the store's own, set {ROOT_VARIABLE} to the folder that holds it",
    )
