"""Which recorded random state a process of a relaunch takes: each process its own, and none twice.

``MLFLOW_REPRO_RESTORE`` names one file, for the first process of that script; or a folder of files, one for each
process of the reference. The name of a file in a folder begins with a digest of the process's key (`system.spool`) and
ends with its number among those that have the same key. A file is taken by renaming it: only one process can.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from typing import Any

from mlflow_repro.seeding.libraries import find_namespace

RESTORE_VARIABLE = "MLFLOW_REPRO_RESTORE"
SCHEMA = 2
"""Of a stored random state. 1 had no states of torch, no keys and no workers; both are read."""
_READ = (1, 2)
_TAKEN = ".taken"
# In an argument: what is another one in each launch, the id of a run and the place of its files.
_PLACE = re.compile(r"\S*[0-9a-f]{32}")


def take_random_state(key: str) -> dict[str, Any]:
    """The random state that the process ``key`` is to begin with, which no other gets; empty when there is none.

    A worker takes only what was recorded under its own key. A program takes what has its script and arguments, else
    what has its script, in the order of the reference.
    """
    path = os.environ.get(RESTORE_VARIABLE, "")
    if os.path.isdir(path):
        return _take_by_key(path, key) if _is_worker(key) else _take_by_script(path)
    if not path or _is_worker(key):
        return {}
    os.environ.pop(RESTORE_VARIABLE, None)
    try:
        recorded = _read(path)
        script = recorded.get("script")
        if script and script != script_name():
            os.environ[RESTORE_VARIABLE] = path  # another program of the same command; leave it to the right one
            return {}
        os.rename(path, f"{path}{_TAKEN}")
    except FileNotFoundError:
        return {}
    return recorded if recorded.get("schema") in _READ else {}


def name_file(key: str, number: int) -> str:
    """The name of the file for the ``number``-th process with this key, from 0."""
    return f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:16]}-{number:06}.json"


def script_name() -> str:
    """The file name of the script that this process runs, empty when there is none."""
    main = find_namespace("__main__") or {}
    return os.path.basename(str(main.get("__file__") or ""))


def digest_arguments() -> str:
    """A digest of the command line without Python itself, run ids and the places of runs' files."""
    words = [_PLACE.sub("#", word) for word in getattr(sys, "orig_argv", sys.argv)[1:]]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _is_worker(key: str) -> bool:
    return key.rfind("+") > key.rfind("/")


def _take_by_key(folder: str, key: str) -> dict[str, Any]:
    number = 0
    while True:
        path = os.path.join(folder, name_file(key, number))
        with contextlib.suppress(FileNotFoundError):
            recorded = _read(path)
            os.rename(path, path + _TAKEN)
            return recorded if recorded.get("schema") in _READ else {}
        if not os.path.exists(path + _TAKEN):
            return {}
        number += 1


def _take_by_script(folder: str) -> dict[str, Any]:
    """The first file of a process with this script and these arguments, else the first one of this script."""
    found: list[tuple[str, dict[str, Any]]] = []
    for name in os.listdir(folder):
        if name.endswith(_TAKEN):
            continue
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            recorded = _read(os.path.join(folder, name))
            is_ours = recorded.get("script") in ("", script_name()) and not _is_worker(recorded.get("key", ""))
            if recorded.get("schema") in _READ and is_ours:
                found.append((name, recorded))
    arguments = digest_arguments()
    for name, _ in sorted(found, key=lambda row: (row[1].get("arguments") != arguments, row[1].get("order", 0))):
        with contextlib.suppress(FileNotFoundError):
            path = os.path.join(folder, name)
            recorded = _read(path)
            os.rename(path, path + _TAKEN)
            return recorded
    return {}


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        recorded: dict[str, Any] = json.load(file)
    return recorded
