"""Open a store: find out in seconds whether it can be read, and never change one by opening it."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from contextlib import contextmanager
from functools import cache
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mlflow_repro.errors import UnreachableError, UsageError
from mlflow_repro.store.explained import ask_version
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.versions import read_release

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLDEST_MLFLOW = (2, 9, 2)
_PREFLIGHT_SECONDS = 10
_NOISY_LOGGERS = ("mlflow", "alembic")


def open_store(tracking_uri: str = "", opened: dict[str, TrackingStore] | None = None) -> TrackingStore:
    """Open the store that ``tracking_uri`` (or ``MLFLOW_TRACKING_URI``, or MLflow's default) names.

    Answers within about ten seconds when a server is down. Never creates a database: a SQLite file that does
    not exist is an error, not a new store. What is in ``opened``, by its URI, is not opened once more; what is opened
    is put there. Raises UnreachableError or UsageError.
    """
    try:
        _quieten()
    except ImportError as error:
        raise UsageError(f"mlflow cannot be imported: {error}", "install it: pip install mlflow") from error
    _check_version()
    uri = _resolve_uri(tracking_uri)
    opened = {} if opened is None else opened
    if uri not in opened:
        _check_store(uri)
        opened[uri] = TrackingStore(uri)
    return opened[uri]


def _check_store(uri: str) -> None:
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:  # half an IPv6 address
        raise UsageError(f"not a tracking URI: {redact_value(uri)}: {error}", "check --tracking_uri") from error
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_database(uri)


def _check_version() -> None:
    """Raise UsageError for an MLflow that is older than those that the tests are run against."""
    import mlflow

    version = str(mlflow.__version__)
    if (read_release(version) or ()) < _OLDEST_MLFLOW:
        oldest = ".".join(map(str, _OLDEST_MLFLOW))
        raise UsageError(f"mlflow {version} is too old", f"install {oldest} or a newer one: pip install -U mlflow")


def _resolve_uri(tracking_uri: str) -> str:
    import mlflow

    uri = tracking_uri or str(mlflow.get_tracking_uri())
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        path, question, query = uri.removeprefix("sqlite:///").partition("?")
        if path and path != ":memory:":
            return f"sqlite:///{os.path.abspath(path)}{question}{query}"
    if "://" not in uri and uri not in ("databricks", "uc"):
        return os.path.abspath(uri)
    return uri


def _check_database(uri: str) -> None:
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if not path or path == ":memory:":
        raise UsageError("a store in memory holds no runs", "pass --tracking_uri sqlite:///PATH")
    if not os.path.isfile(path):
        raise UnreachableError(
            f"no tracking store: {path} does not exist", "pass --tracking_uri, or set MLFLOW_TRACKING_URI"
        )
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            connection.execute("select 1 from sqlite_master limit 1").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UnreachableError(f"the tracking store {path} cannot be read: {error}", "check the file") from error
    check_schema(path)


def _check_server(uri: str) -> None:
    """One request, so that a server that is down is known in seconds; MLflow alone tries for four minutes."""
    try:
        ask_version(uri, seconds=_PREFLIGHT_SECONDS)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"the tracking server {redact_value(uri)} does not answer: {reason}",
            "start it, or pass another --tracking_uri",
        ) from error


@contextmanager
def short_retries() -> Iterator[None]:
    """Let MLflow give up on a server after seconds, not minutes, unless the user has set limits; and draw no bars."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
    limits["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"  # where tqdm is installed: one for each small file
    added = [name for name in limits if name not in os.environ]
    os.environ.update({name: limits[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _quieten() -> None:
    """Keep MLflow's and alembic's progress messages off the user's terminal."""
    import mlflow  # noqa: F401 - configures its loggers, which would undo ours later

    for name in _NOISY_LOGGERS:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)


_REVISION = re.compile(r"""^(revision|down_revision)\s*(?::[^=]*)?=\s*["'](\w+)["']""", re.MULTILINE)


def check_schema(path: str) -> None:
    """Raise UnreachableError when the SQLite store at ``path`` has another schema than this MLflow's.

    The file is only read. A file that MLflow has not made, and an MLflow that keeps its migrations elsewhere, are left
    for MLflow to judge.
    """
    known = read_revisions()
    found = _read_revision(path)
    if not known or not found:
        return
    head = (set(known) - set(known.values())).pop()
    if found == head:
        return
    uri = f"sqlite:///{path}"
    if found in known:
        raise UnreachableError(
            f"the tracking store {path} is of an older MLflow, and reading it would migrate it for good",
            f"copy the file and run `mlflow db upgrade {uri}`; or start an `mlflow server` of that MLflow and pass its"
            " URL as --tracking_uri",
        )
    raise UnreachableError(
        f"the tracking store {path} is of a newer MLflow than the one that is installed (revision {found})",
        "install that one beside mlflow-repro",
    )


@cache
def read_revisions() -> dict[str, str]:
    """The revision before each revision that this MLflow knows, empty before the first. Nothing of MLflow is run."""
    spec = util.find_spec("mlflow")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    known: dict[str, str] = {}
    for place in places:
        for file in place.glob("store/db_migrations/versions/*.py"):
            names = dict(_REVISION.findall(file.read_text(encoding="utf-8")))
            if "revision" in names:
                known[names["revision"]] = names.get("down_revision", "")
    heads = set(known) - set(known.values())
    return known if len(heads) == 1 else {}


def _read_revision(path: str) -> str:
    """The revision that the file says it has; empty when it says none."""
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            rows = connection.execute("select version_num from alembic_version").fetchall()
        finally:
            connection.close()
    except sqlite3.Error:
        return ""
    return str(rows[0][0]) if len(rows) == 1 else ""
