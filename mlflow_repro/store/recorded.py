"""Read the files that a run recorded, wherever they are: by themselves, in an archive, or with another run.

A run's archive of its start holds what was known then; what was written later lies beside it, and counts. What is the
same for all runs of a process is with the first of them: there the record names that run.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.store.writing import RANDOM_STATE_FILE, RECORD_FILE, RNG_TRACE_FILE, START_ARCHIVE
from mlflow_repro.values.captured import dump_record
from mlflow_repro.values.run import check_run_id
from mlflow_repro.values.sections import StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BytesIO
    from pathlib import Path

    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.record import Record

_MEMBER_LIMIT = 200_000_000  # bytes; no file of ours comes near
_FOLDER = "repro/"
_OWN_PATH = re.compile(r"repro/(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)


def read_recorded(store: TrackingStore, run_id: str, named: StoredFile) -> bytes:
    """The file that the record of ``run_id`` names.

    Raises CannotJudgeError when it is not there or is not the one that was recorded, UnreachableError.
    """
    path, keeper = named.file, named.run_id or run_id
    if not _OWN_PATH.fullmatch(path):
        raise CannotJudgeError(f"the record names a file outside its own folder: {path[:80]!r}", "it is damaged")
    content = _read_from(store, _check_keeper(keeper), path) if keeper != run_id else store.read_file(run_id, path)
    if content is None:
        raise CannotJudgeError(f"run {keeper} has no artifact {path}, which the record names", "it was deleted")
    if named.sha256 is not None and hashlib.sha256(content).hexdigest() != named.sha256:
        raise CannotJudgeError(f"the artifact {path} is not the one that was recorded", "it is damaged")
    return content


def _check_keeper(keeper: str) -> str:
    try:
        return check_run_id(keeper)
    except UsageError as error:
        raise CannotJudgeError(f"the record names a run that can be none: {keeper[:80]!r}", "it is damaged") from error


def _read_from(store: TrackingStore, keeper: str, path: str) -> bytes | None:
    """A file of another run. Of a deleted one there are artifacts until MLflow's garbage collection."""
    deleted = CannotJudgeError(
        f"the files are with run {keeper}, which is deleted; one of them is {path}",
        "the first run of a process keeps what all its runs have in common",
    )
    try:
        is_deleted = store.read_stage(keeper) == "deleted"
    except CannotJudgeError as error:
        raise deleted from error
    content = store.read_file(keeper, path)
    if content is None and is_deleted:
        raise deleted
    return content


def read_member(archive: BytesIO, path: str) -> bytes | None:
    """One file of the archive of a run's start, None when it is not in there. Raises CannotJudgeError."""
    try:
        with ZipFile(archive) as opened:
            name = path.removeprefix(_FOLDER)
            if name not in opened.namelist():
                return None
            if opened.getinfo(name).file_size > _MEMBER_LIMIT:
                raise CannotJudgeError(f"{path} in {START_ARCHIVE} is too large to be ours", "it was replaced")
            return opened.read(name)
    except (BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise CannotJudgeError(f"{START_ARCHIVE} cannot be read: {error}", "it was replaced or damaged") from error


def save_recorded(store: TrackingStore, run_id: str, record: Record, directory: Path) -> list[Path]:
    """Write the record of a run and every file that it names into ``directory``, as they are named; their paths.

    Raises what `read_recorded` raises, and OSError.
    """
    contents = {RECORD_FILE: dump_record(record.plain)}
    for path in (RANDOM_STATE_FILE, RNG_TRACE_FILE):
        content = store.read_file(run_id, path)
        contents.update({path: content} if content is not None else {})
    for named in find_files(record.plain):
        contents[named.file] = read_recorded(store, run_id, named)
    for path, content in contents.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    return [directory / path for path in contents]


def find_files(value: Any) -> Iterator[StoredFile]:
    """The files that are kept with a record, as its stored form names them."""
    if isinstance(value, dict):
        if isinstance(value.get("file"), str) and value["file"].startswith(_FOLDER):
            digest, keeper = value.get("sha256"), value.get("run_id")
            yield StoredFile(
                file=value["file"],
                sha256=digest if isinstance(digest, str) else None,
                run_id=keeper if isinstance(keeper, str) else "",
            )
        if isinstance(value.get("all"), str) and value["all"].startswith(_FOLDER):
            yield StoredFile(file=value["all"])
        for item in value.values():
            yield from find_files(item)
    elif isinstance(value, list):
        for item in value:
            yield from find_files(item)
