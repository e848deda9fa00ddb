"""Everything that a store holds, row by row and file by file, and what of it has changed."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS: dict[str, tuple[Path, Path]] = {}
"""The database and the artifacts of each server that a test has started, by its URL."""

# The tables that name what a relaunch may make, with the column of its id.
_MAKERS = {
    "runs": "run_uuid",
    "experiments": "experiment_id",
    "logged_models": "model_id",
    "trace_info": "request_id",
    "evaluation_datasets": "dataset_id",
    "datasets": "dataset_uuid",
    "inputs": "input_uuid",
}
_INTEGERS = re.compile(r"\d{1,9}")


@dataclass
class Snapshot:
    """The rows of a store's tables, the digests of its artifacts, and the ids of what it holds."""

    rows: set[tuple[str, tuple[object, ...]]] = field(default_factory=set)
    columns: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    ids: set[tuple[str, str]] = field(default_factory=set)
    folders: set[Path] = field(default_factory=set)

    def changes_to(self, later: Snapshot) -> list[str]:
        """What is gone or other there, and what is new there and belongs to nothing that is new."""
        new = later.ids - self.ids
        names = {name for _, name in new if not _INTEGERS.fullmatch(name)}
        numbers = {name for table, name in new if table == "experiments"}
        found = [f"gone from {table}: {row}" for table, row in sorted(self.rows - later.rows, key=repr)]
        for table, row in sorted(later.rows - self.rows, key=repr):
            values = {str(value) for value in row}
            at = later.columns[table].index("experiment_id") if "experiment_id" in later.columns[table] else None
            if not (values & names or (at is not None and str(row[at]) in numbers)):
                found.append(f"new in {table}: {row}")
        for path, digest in self.files.items():
            if later.files.get(path) != digest:
                found.append(f"changed or gone: {path}")
        # What lies in the folder of an experiment that is new is not this store's to judge: others may use that folder.
        known = {path for path in later.files if any(folder in Path(path).parents for folder in self.folders)}
        found += [f"new: {path}" for path in known - self.files.keys() if not names & set(path.split("/"))]
        return found


def take_snapshot(database: Path, *roots: Path) -> Snapshot:
    """What the SQLite file ``database`` holds, with the artifacts that it knows of and those in ``roots``."""
    snapshot = Snapshot()
    folders = set(roots)
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for table in tables:
            cursor = connection.execute(f'select * from "{table}"')  # noqa: S608 - a name that the database gave
            columns = [column[0] for column in cursor.description]
            snapshot.columns[table] = columns
            rows = cursor.fetchall()
            snapshot.rows |= {(table, row) for row in rows}
            if table in _MAKERS and _MAKERS[table] in columns:
                at = columns.index(_MAKERS[table])
                snapshot.ids |= {(table, str(row[at])) for row in rows}
            if table == "experiments":
                folders |= {_folder(row[columns.index("artifact_location")]) for row in rows}
    snapshot.folders = {folder for folder in folders if folder}
    for folder in snapshot.folders:
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file():
                snapshot.files[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return snapshot


def _folder(location: str | None) -> Path | None:
    parts = urlsplit(location or "")
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path.startswith("/") else None


@contextmanager
def unchanged_store(uri: str = "") -> Iterator[None]:
    """Whatever is relaunched meanwhile changes nothing in the store but what it makes itself."""
    where = _find_database(uri or os.environ.get("MLFLOW_TRACKING_URI", ""))
    before = _try_snapshot(*where)
    try:
        yield
    finally:
        after = _try_snapshot(*where) if before else None
        if before and after:
            changes = before.changes_to(after)
            assert not changes, "; ".join(changes)[:2000]


def _find_database(uri: str) -> tuple[Path, ...]:
    if uri.startswith("sqlite:////"):
        return (Path(uri.removeprefix("sqlite:///").partition("?")[0]),)
    return SERVERS.get(uri, ())


def _try_snapshot(database: Path | None = None, *roots: Path) -> Snapshot | None:
    """None where there is no such store, or none that can be read."""
    if database is None or not database.is_file():
        return None
    try:
        return take_snapshot(database, *roots)
    except sqlite3.Error:
        return None
