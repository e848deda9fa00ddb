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
import re
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.capture.code import program_directory
from mlflow_repro.capture.opened import TRACK_VARIABLE, opened_files, own_openings
from mlflow_repro.digests import (
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
from mlflow_repro.model import REDACTED, Section, missing
from mlflow_repro.quoting import unquote_param
from mlflow_repro.redact import is_secret_name, redact_named, redact_text, redact_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow_repro.capture.opened import OpenedFile, OpenedFiles
    from mlflow_repro.digests import Deadline

OPENED_FILE = "opened_files.json"
"""The bulk file with all opened files, when they are more than the section itself takes."""

INPUTS_NOTE = (
    "MLflow's digest is 8 hex digits of an MD5 over the first 10,000 rows (pandas: text and number columns only) or "
    "elements (numpy), and the shape: data that differ further on have the same. A sha256 here is over every byte."
)
OPENED_NOTE = (
    "Files that Python opened for reading from the import of mlflow to the end of the run. Not seen: what libraries "
    "open in C (HDF5, pyarrow, polars, tf.data, OpenCV, SQLite; but 'held' is what was still open at the end), what "
    "other processes open, and os.open with dir_fd. Left out: the Python installation and packages, loaded modules, "
    "shared libraries, /proc, /sys, /dev, /etc, mlruns, mlartifacts, *.db, files only written, scratch files."
)

DELETED = "it was deleted after it was opened"
ALTERED = "it changed after it was first opened"
WITHHELD = "withheld: by its name it holds credentials"
AROUND = "it holds the working directory, the repository or the home directory"
OVER_BUDGET = "the budget of bytes was used up"

_VALUE_LIMIT = 4096  # characters; no path is longer
_SOURCE_LIMIT = 2000  # characters of one text in a dataset's source
_PATH_PARAMS = 1000  # parameters that name a path
_INLINE = 200  # opened files in the section itself
_BUDGET = Limits(size=1 << 40)

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_WHOLE_URI = re.compile(rf"({_URI.pattern})(?:[^/?#]*@)?([^?#]*)([?#].*)?", re.DOTALL)
# Scheme, or host of scp and NFS; Windows shares; the automounter's hosts: looking at one may wait for a network.
_REMOTE = re.compile(r"[^/]*:/|//|\\\\|/net/")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SECRET_FILE = re.compile(
    r"(?:^|/)(?:\.env(?:\..*)?|\.?_?netrc|\.pgpass|\.pypirc|\.git-credentials|\.databrickscfg|\.htpasswd|\.my\.cnf"
    r"|credentials(?:\.\w+)?|secrets?(?:\.\w+)?|id_(?:rsa|dsa|ecdsa|ed25519)|token|kaggle\.json"
    r"|.*service[-_]?account.*\.json|.*\.(?:pem|key|p12|pfx|jks|keystore|kdbx|ppk))$"
    r"|/\.(?:ssh|aws|azure|gnupg|kube|docker|config/gcloud)/",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Places:
    """Absolute paths that others are resolved and named by; empty when there is none."""

    cwd: str = ""
    top: str = ""
    """The repository's top."""
    home: str = ""

    def resolve(self, path: str) -> str:
        """The absolute path of what the program calls ``path``; empty when there is no working directory."""
        if path.startswith("/"):
            return path
        return os.path.join(self.cwd, path) if self.cwd else ""

    def name(self, path: str) -> dict[str, str]:
        """``path`` (text fit to be stored) and ``place``: repository, home, or absolute."""
        given = os.path.normpath(path)
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        for place, folder, shown in (("repository", self.top, ""), ("home", self.home, "~/")):
            for candidate, above in ((given, folder), (real, os.path.realpath(folder) if folder else "")):
                if above and f"{candidate}/".startswith(above.rstrip("/") + "/"):
                    below = os.path.relpath(candidate, above)
                    return {"path": _text(shown + below), "place": place}
        return {"path": _text(given), "place": "absolute"}

    def lie_in(self, path: str) -> bool:
        """True when one of the places is ``path`` itself or lies in it: then it is no data directory."""
        real = os.path.realpath(path).rstrip("/") + "/"
        return any((os.path.realpath(place) + "/").startswith(real) for place in (self.cwd, self.top, self.home) if place)


def find_places() -> Places:
    """The places of this process, at this moment. Raises nothing."""
    try:
        cwd, program = os.getcwd(), program_directory()
    except OSError:  # the working directory was removed
        cwd = program = ""
    folder, top = os.path.realpath(program), ""
    while program and not top:
        top = folder if os.path.exists(os.path.join(folder, ".git")) else ""
        if folder == os.path.dirname(folder):
            break
        folder = os.path.dirname(folder)
    home = os.environ.get("HOME", "").rstrip("/")
    return Places(cwd=cwd, top=top, home=home if home.startswith("/") else "")


def record_data(  # noqa: PLR0913 - the run's three kinds of data and how much may be spent
    inputs: Sequence[Mapping[str, Any]],
    params: Mapping[str, str],
    opened: OpenedFiles | None,
    deadline: Deadline,
    *,
    places: Places | None = None,
    budget: Limits = _BUDGET,
) -> Section:
    """The section ``data``. Raises nothing.

    ``inputs`` are MLflow's dataset inputs with the keys ``name``, ``digest``, ``source_type``, ``source`` (text) and
    ``context``. ``opened`` is None when openings were not tracked. Until the ``deadline`` at most ``budget.size`` bytes
    are read; what this process has hashed before costs nothing.
    """
    with own_openings():
        places = places or find_places()
        work = _Work(places, deadline, budget)
        input_rows = [_describe_input(entry, work) for entry in inputs]
        param_rows = [
            {"param": _text(name), **work.add(path)} for name, path in _find_paths(params, places)[:_PATH_PARAMS]
        ]
        opened_rows, scratch = _describe_opened(opened, work)
        work.do()
        facts: dict[str, Any] = {
            "inputs": input_rows,
            "inputs_note": INPUTS_NOTE,
            "params": param_rows,
            "opened": missing(f"not tracked: {TRACK_VARIABLE} was not set to 1"),
            "digest": work.digest(),
            "not_hashed": work.count_not_hashed(),
        }
        if opened is None:
            return Section(facts=facts)
        facts["opened"] = {
            "files": opened_rows[:_INLINE],
            "count": len(opened_rows),
            "scratch_files": scratch,
            "more_openings": opened.more_openings,
            "note": OPENED_NOTE,
        }
        if len(opened_rows) <= _INLINE:
            return Section(facts=facts)
        facts["opened"]["all"] = OPENED_FILE
        return Section(facts=facts, files={OPENED_FILE: json.dumps(opened_rows, indent=1).encode()})


def digest_ahead(
    find_params: Callable[[], Mapping[str, str]],
    deadline: Deadline,
    *,
    places: Places | None = None,
    pause: float = 1.0,
) -> None:
    """Hash in the background, while the run goes on, what `record_data` will be asked for at its end.

    Looks every ``pause`` seconds, or less often if looking takes long, until the ``deadline``, which another thread
    cuts when the run ends. A file is hashed once it has been left alone for two seconds; should it change or be
    deleted after that, the digest of what was first opened is known all the same. Raises nothing.
    """
    places = places or find_places()
    done: set[str] = set()
    with own_openings():
        while not deadline.passed:
            started = time.monotonic()
            paths: list[str] = []
            with contextlib.suppress(Exception):
                paths += [path for _, path in _find_paths(find_params(), places)]
            with contextlib.suppress(Exception):
                paths += [file.path for file in (opened_files() or _NOTHING).files]
            took = time.monotonic() - started
            for path in paths:
                if path not in done and not deadline.passed and _hash_ahead(path, deadline, places):
                    done.add(path)
            deadline.wait(max(pause, 50 * took))
