"""Which data went into a run: MLflow's dataset inputs, the files that parameters name, the files that were opened.

Nothing here raises, and nothing is read but regular files, smallest first, until the deadline. What has no digest is
named with its size and the reason. It is all work for a thread of its own.

**Privacy.** A path in the repository is stored relative to its top, one in the user's home with ``~`` in place of it
(which holds a name), any other as it is: without it nobody could put the data back. Files that by their name hold
credentials (``.env``, ``.netrc``, keys) are named and never read: a digest would let a short password be guessed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.places import Places, find_existing, find_places
from mlflow_repro.data.digests import (
    GONE,
    SPECIAL,
    VIRTUAL,
    Limits,
    digest_directory,
    digest_file,
    is_virtual,
    is_young,
    recall_digest,
    stamp_of,
)
from mlflow_repro.data.named import find_named_files
from mlflow_repro.data.opened import TRACK_VARIABLE, opened_files, own_openings
from mlflow_repro.data.sources import clean_source, parse_source
from mlflow_repro.text.filenames import is_secret_file
from mlflow_repro.text.redact import to_text
from mlflow_repro.values.captured import Section, missing
from mlflow_repro.values.run import unquote_param

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow_repro.data.digests import Deadline
    from mlflow_repro.data.opened import OpenedFile, OpenedFiles

OPENED_FILE = "data/opened_files.json"
"""The bulk file with all opened files, when they are more than the section itself takes."""

INPUTS_NOTE = (
    "MLflow's digest is 8 hex digits of an MD5 over the first 10,000 rows (pandas: text and number columns only) or "
    "elements (numpy), and the shape: data that differ further on have the same. A sha256 here is over every byte."
)
OPENED_NOTE = (
    "Files that Python opened for reading from the import of mlflow to the end of the run. Not seen: what libraries "
    "open in C (HDF5, Parquet by pyarrow, polars, tf.data, OpenCV, SQLite; but 'held' is what was open at the end), "
    "what other processes open, and os.open with dir_fd. Left out: the Python installation and packages, loaded "
    "modules, shared libraries, /proc, /sys, /dev, /etc, .config, time zones, fonts, mlruns, mlartifacts, *.db, files "
    "that were only written, and scratch files."
)

DELETED = "it was deleted after it was opened"
ALTERED = "it changed after it was first opened"
WITHHELD = "withheld: by its name it holds credentials"
AROUND = "it holds the working directory, the repository or the home directory"
OVER_BUDGET = "the budget of bytes was used up"

_PATH_PARAMS = 1000  # parameters that name a path
_INLINE = 200  # opened files in the section itself
_BUDGET = Limits(size=1 << 40)
_NAMED_BUDGET = Limits(size=1 << 28)  # nobody said that these are read: they get no more


def record_data(  # noqa: PLR0913 - the run's three kinds of data and how much may be spent
    inputs: Sequence[Mapping[str, Any]],
    params: Mapping[str, str],
    opened: OpenedFiles | None,
    deadline: Deadline,
    *,
    sources: Iterable[str] = (),
    places: Places | None = None,
    budget: Limits = _BUDGET,
) -> Section:
    """The section ``data``. Raises nothing.

    ``sources`` are the program's own lines. ``inputs`` are MLflow's dataset inputs with the keys ``name``, ``digest``,
    ``source_type``, ``source`` (text) and ``context``. ``opened`` is None when openings were not
    tracked. Until the ``deadline`` at most ``budget.size`` bytes are read; what this process has hashed before
    costs nothing.
    """
    try:
        with own_openings():
            work = _Work(places or find_places(), deadline, budget)
            return _record(inputs, params, opened, work, sources)
    except Exception as error:  # noqa: BLE001 - a guest: what went wrong here is said in the record
        return Section(facts={"section": missing(to_text(f"{type(error).__name__}: {error}"))})


def names_data(params: Mapping[str, str]) -> bool:
    """True when a parameter's value is an existing file or directory. Raises nothing."""
    with contextlib.suppress(Exception):
        return bool(_find_paths(params, find_places()))
    return False


def digest_ahead(
    find_params: Callable[[], Mapping[str, str]],
    deadline: Deadline,
    *,
    places: Places | None = None,
    pause: float | None = None,
) -> None:
    """Hash in the background, while the run goes on, what `record_data` will be asked for at its end.

    With ``pause`` it looks again every so many seconds, or less often if looking takes long, until the ``deadline``,
    which another thread can cut; without, once. A file is hashed when it has been left alone for two seconds; should it
    change or be deleted after that, the digest of what was first opened is known all the same. Raises nothing.

    The training goes on meanwhile: give the ``deadline`` a small share of the time.
    """
    places = places or find_places()
    done: set[str] = set()
    while True:
        started = time.monotonic()
        paths: list[str] = []
        with contextlib.suppress(Exception):
            paths += [path for _, path in _find_paths(find_params(), places)]
        with contextlib.suppress(Exception):
            opened = opened_files()
            paths += [file.path for file in opened.files] if opened else []
        took = time.monotonic() - started
        with own_openings():
            done.update([path for path in paths if path not in done and _hash_ahead(path, deadline, places)])
        if pause is None or deadline.passed:
            return
        deadline.wait(max(pause, 50 * took))


def _hash_ahead(path: str, deadline: Deadline, places: Places) -> bool:
    """Hash a file or directory; False when there is no time, or it is too young for its digest to be remembered."""
    if deadline.passed:
        return False
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        if is_secret_file(path) or is_secret_file(os.path.realpath(path)):
            return True
        if stat.S_ISREG(found.st_mode):
            if is_young(stamp_of(found)):
                return False
            digest_file(path, deadline=deadline)
        elif stat.S_ISDIR(found.st_mode) and not places.lie_in(path):
            digest_directory(path, deadline=deadline)
    return True


def _record(
    inputs: Sequence[Mapping[str, Any]],
    params: Mapping[str, str],
    opened: OpenedFiles | None,
    work: _Work,
    sources: Iterable[str],
) -> Section:
    facts: dict[str, Any] = {
        "inputs": [_describe_input(entry, work) for entry in inputs],
        "inputs_note": INPUTS_NOTE,
        "params": [
            work.add({"param": to_text(name)}, path) for name, path in _find_paths(params, work.places)[:_PATH_PARAMS]
        ],
        "opened": missing(f"not tracked: {TRACK_VARIABLE} was not set to 1"),
    }
    rows, scratch = _describe_opened(opened, work)
    work.do()
    facts["digest"], facts["not_hashed"] = work.sum_up()
    facts["named"] = _describe_named(work, sources)
    if opened is None:
        return Section(facts=facts)
    facts["opened"] = {
        "files": rows[:_INLINE],
        "count": len(rows),
        "scratch_files": scratch,
        "more_openings": opened.more_openings,
        "note": OPENED_NOTE,
    }
    if len(rows) <= _INLINE:
        return Section(facts=facts)
    facts["opened"]["all"] = f"repro/{OPENED_FILE}"
    return Section(facts=facts, files={OPENED_FILE: json.dumps(rows, indent=1).encode()})


@dataclass
class _Job:
    """One file or directory to hash, and the rows that want to know."""

    path: str
    rows: list[dict[str, Any]]
    is_directory: bool = False
    need: int = 0  # bytes that must be read
    result: dict[str, Any] | None = None


class _Work:
    """What there is to hash, each thing once, and what came of it."""

    def __init__(self, places: Places, deadline: Deadline, budget: Limits) -> None:
        self.places = places
        self._deadline = deadline
        self._budget = budget
        self._jobs: dict[str, _Job] = {}
        self._rows: list[dict[str, Any]] = []

    @property
    def paths(self) -> set[str]:
        """The real paths of what is hashed."""
        return set(self._jobs)

    def again(self, budget: Limits) -> _Work:
        """Other work, in the same places and until the same deadline."""
        return _Work(self.places, self._deadline, budget)

    def add(self, row: dict[str, Any], path: str) -> dict[str, Any]:
        """Complete ``row`` with the name of ``path`` now, and with its digest in `do`."""
        real = os.path.realpath(path)
        if is_secret_file(path) or is_secret_file(real):
            return self.settle(row, path, {"sha256": missing(WITHHELD)})
        self.settle(row, path, {})
        self._jobs.setdefault(real, _Job(real, [])).rows.append(row)
        return row

    def settle(self, row: dict[str, Any], path: str, result: dict[str, Any]) -> dict[str, Any]:
        """Complete ``row`` with what is known already."""
        row.update(self.places.name(path))
        row.update(result)
        self._rows.append(row)
        return row

    def do(self) -> None:
        """Hash it, what needs most reading last."""
        for job in self._jobs.values():
            self._look(job)
        left = self._budget.size
        for job in sorted(self._jobs.values(), key=lambda job: job.need):
            if job.result is None:
                job.result = self._hash(job, left)
                left -= job.need if job.need <= left else 0
            for row in job.rows:
                row.update(job.result)

    def sum_up(self) -> tuple[Any, dict[str, int]]:
        """The digest of all the data, and how many files and bytes have none.

        The former is the SHA-256 of the digests of all files and directories, each once, in hexadecimal, sorted, one a
        line: it does not depend on where they lie. What this process itself produced is left out of both.
        """
        known, files, size = set(), 0, 0
        for row in {row["path"]: row for row in self._rows if "produced" not in row}.values():
            value = row.get("merkle_sha256", row["sha256"] if "sha256" in row else missing(SPECIAL))
            if isinstance(value, str):
                known.add(value)
                continue
            files += row.get("not_hashed_files", 1)
            size += row.get("not_hashed_size", row.get("size", 0))
        not_hashed = {"files": files, "size": size}
        if files or not known:
            return missing("not everything has a digest" if files else "no data were found"), not_hashed
        return hashlib.sha256("".join(f"{value}\n" for value in sorted(known)).encode()).hexdigest(), not_hashed

    def _look(self, job: _Job) -> None:
        """Find out what a job is and how much there is to read, or that it cannot be done."""
        try:
            found = os.stat(job.path)
        except OSError:
            job.result = {"sha256": missing(GONE)}
            return
        if is_virtual(job.path):
            job.result = {"sha256": missing(VIRTUAL)}
        elif stat.S_ISREG(found.st_mode):
            job.need = 0 if recall_digest(stamp_of(found)) else found.st_size
        elif not stat.S_ISDIR(found.st_mode):
            job.result = {"kind": "other", "sha256": missing(SPECIAL)}
        elif self.places.lie_in(job.path):
            job.result = {"kind": "directory", "merkle_sha256": missing(AROUND)}
        else:
            job.is_directory = True
            none = Limits(entries=self._budget.entries, size=0)
            job.need = digest_directory(job.path, deadline=self._deadline, limits=none).not_hashed_size

    def _hash(self, job: _Job, left: int) -> dict[str, Any]:
        if job.is_directory:
            return self._hash_directory(job.path, Limits(entries=self._budget.entries, size=left))
        if job.need > left:
            return {"kind": "file", "size": job.need, "sha256": missing(OVER_BUDGET)}
        file = digest_file(job.path, deadline=self._deadline)
        size = {"size": file.size} if file.size is not None else {}
        return {"kind": "file", **size, "sha256": file.sha256 or missing(file.reason)}

    def _hash_directory(self, path: str, limits: Limits) -> dict[str, Any]:
        whole = digest_directory(path, deadline=self._deadline, limits=limits)
        row: dict[str, Any] = {
            "kind": "directory",
            "files": whole.files,
            "size": whole.size,
            "merkle_sha256": whole.sha256 or missing(whole.reason),
            "listing_sha256": whole.listing_sha256 or missing(whole.reason),
        }
        if whole.not_hashed:
            named = [
                {"path": to_text(item.path), "size": item.size, "reason": item.reason} for item in whole.not_hashed
            ]
            counts = {"not_hashed_files": whole.not_hashed_files, "not_hashed_size": whole.not_hashed_size}
            row.update({"not_hashed": named, **counts})
        return row


def _describe_input(entry: Mapping[str, Any], work: _Work) -> dict[str, Any]:
    """An input as MLflow has it, without credentials; with the file or directory that is its source, if it is here."""
    row: dict[str, Any] = {
        name: to_text(str(entry.get(name) or "")) for name in ("name", "digest", "source_type", "context")
    }
    text = str(entry.get("source") or "")
    source = parse_source(text)
    row["source"] = clean_source("source", source)
    uri = source.get("uri") if isinstance(source, dict) else text
    path = find_existing("", uri, work.places) if row["source_type"] == "local" and isinstance(uri, str) else ""
    if path:
        row["file"] = work.add({}, path)
    return row


def _describe_opened(opened: OpenedFiles | None, work: _Work) -> tuple[list[dict[str, Any]], int]:
    """A row for each opened file, and the number of those that this process made, read, and deleted."""
    rows, scratch = [], 0
    for file in opened.files if opened else ():
        row: dict[str, Any] = {flag: True for flag in ("written", "produced", "held") if getattr(file, flag)}
        since = _state_since(file)
        known = recall_digest(file.stamp)
        if since == DELETED and file.produced:
            scratch += 1
            continue
        rows.append(row)
        if (known or since) and not is_secret_file(file.path):
            changed = {"since": since} if known and since else {}
            value = known or missing(since)
            work.settle(row, file.path, {"kind": "file", "size": file.stamp[2], "sha256": value, **changed})
        else:
            work.add(row, file.path)
    return rows, scratch


def _describe_named(work: _Work, sources: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each file that the program's own lines name, and no parameter does."""
    known = work.paths
    inner = work.again(_NAMED_BUDGET)
    rows = [
        inner.add({}, path) for path in find_named_files(work.places, sources) if os.path.realpath(path) not in known
    ]
    inner.do()
    return rows


def _state_since(file: OpenedFile) -> str:
    """What became of a file since it was first opened; empty when it is the same."""
    try:
        found = stamp_of(os.stat(file.path))
    except OSError:
        return DELETED
    return ALTERED if found[:4] != file.stamp[:4] else ""


def _find_paths(params: Mapping[str, str], places: Places) -> list[tuple[str, str]]:
    """The parameters whose value is an existing file or directory, with its absolute path."""
    found = []
    for name, value in params.items():
        path = find_existing(name, value, places)
        if not path and value.startswith("'"):  # the launch parameters of a project are stored quoted
            path = find_existing(name, unquote_param(value), places)
        if path:
            found.append((name, path))
    return found
