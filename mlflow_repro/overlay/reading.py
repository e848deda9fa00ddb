"""What a relaunch reads that may have the result in it: its reference in the store, and files that this has left.

A checkpoint in the home directory, a cache in ``/tmp``: what the reference's program has left there gives a relaunch
its answer, and nothing is computed. Of the files outside the checkout those count that were written after the reference
had begun. Seen is what Python itself opens; not what a library opens in C (HDF5, Parquet by a path, SQLite), nor what
programs read that are not Python.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.calls import is_known, is_locating

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.overlay.calls import Call
    from mlflow_repro.overlay.session import Session

# Those that give results; whoever asks for a registered model's version, or lists artifacts, has none yet.
_GIVING = (
    *("get_all_metrics", "get_all_params", "get_logged_model", "get_metric_history", "get_metric_history_bulk"),
    *("get_metric_history_bulk_interval", "get_metric_history_bulk_interval_from_steps", "get_run"),
    *("search_logged_models", "search_runs"),
)
_SOURCES = ("run_id", "source_run_id")
_FEW_ROWS = 10_000  # rows of an answer that are looked at
_FEW = 100_000  # files that are looked at
_WRITES = os.O_WRONLY | os.O_TRUNC
_INSTALLED = ("bin", "conda-meta", "etc", "include", "lib", "lib64", "share")  # below the prefix of an environment
# No results: code, what describes packages, settings of the system and of programs, and what draws letters.
_NO_RESULT = re.compile(
    r"\.(?:py|pyc|pyi|pth|so(?:\.[\d.]+)?|dylib|nbi|nbc)$|/__pycache__/|\.(?:dist|egg)-info/|\.egg-link$"
    r"|^/etc/|^/usr/share/|^/(?:proc|sys|dev)/(?!shm/)|/\.(?:config|mlflow|ipython|jupyter|aws|ssh|git)/"
    r"|/\.local/share/jupyter/|/\.cache/(?:matplotlib|fontconfig|mlflow-repro|pip|uv)/|/\.keras/keras\.json$"
    r"|/\.(?:netrc|databrickscfg|gitconfig)$|/pyvenv\.cfg$|/mlflow-repro-[^/]+/"
)


def watch_opened_files(session: Session) -> None:
    """Note from now on what this process and its forks open. Does nothing where the reference's times are not known."""
    if session.began and session.launched > session.began:
        sys.addaudithook(_Watch(session))


class _Watch:
    """The audit hook, which is called for every audited event: it does little but look at a name."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._seen: set[str] = set()
        self._busy = threading.local()
        roots = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
        libraries = {os.path.join(root, name) for root in roots for name in _INSTALLED}
        folders = {*libraries, os.path.realpath(session.place), session.place}
        self._skipped = tuple(f"{folder}{os.sep}" for folder in sorted(folders) if folder)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            with suppress(Exception):  # an error here would be one of the program's own ``open``
                self._note(arguments)

    def _note(self, arguments: tuple[Any, ...]) -> None:
        if len(arguments) != 3 or getattr(self._busy, "is_so", False):  # noqa: PLR2004 - path, mode, flags
            return
        path, _, flags = arguments
        if type(path) is bytes:
            path = os.fsdecode(path)
        is_read = type(path) is str and type(flags) is int and not flags & _WRITES
        if not is_read or path in self._seen or path.startswith(self._skipped) or len(self._seen) > _FEW:
            return
        self._busy.is_so = True
        try:
            self._look(path)
        finally:
            self._busy.is_so = False

    def _look(self, path: str) -> None:
        if _NO_RESULT.search(path) or is_known():  # what MLflow reads of a store is looked at there
            return
        whole = os.path.realpath(path)
        if whole.startswith(self._skipped) or _NO_RESULT.search(whole):
            return
        found = os.stat(whole)
        self._seen.add(path)
        if stat.S_ISREG(found.st_mode) and self._session.began <= found.st_mtime < self._session.launched:
            self._session.ledger.tell("read", f"the file {whole}")


def note_read(session: Session, call: Call, result: Any) -> None:
    """Note for the report which runs of the reference the store told the script about."""
    if not session.reference or call.name not in _GIVING or is_locating():
        return
    bound = call.bound()
    asked = [bound.get("run_id"), bound.get("run_uuid"), *(bound.get("run_ids") or ())]
    for run_id in dict.fromkeys([*asked, *_runs_of(result)]):
        if run_id in session.reference:
            session.ledger.tell("read", f"the run {run_id} ({call.name})")


def _runs_of(result: Any) -> Iterator[Any]:
    rows = list(result)[:_FEW_ROWS] if isinstance(result, (list, tuple)) else [result]
    for row in rows:
        info = getattr(row, "info", None)
        for name in _SOURCES:
            yield getattr(info, name, None)
            yield getattr(row, name, None)
