"""Which recorded random state a process of a relaunch takes: each process its own, and none twice.

``MLFLOW_REPRO_RESTORE`` names one file, for the first process of that script; or a folder of files, one for each
process of the reference, in the order in which these began. A file is taken by renaming it: only one process can.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
from typing import Any

from mlflow_repro.seeding.watch import find_namespace

RESTORE_VARIABLE = "MLFLOW_REPRO_RESTORE"
SCHEMA = 1
_TAKEN = ".taken"
# In an argument: what is another one in each launch, the id of a run and the place of its files.
_PLACE = re.compile(r"\S*[0-9a-f]{32}")


def take_random_state() -> dict[str, Any]:
    """The random state that this process is to begin with, which no other will get; empty when there is none for it."""
    path = os.environ.get(RESTORE_VARIABLE, "")
    if os.path.isdir(path):
        return _take_from_folder(path)
    os.environ.pop(RESTORE_VARIABLE, None)
    if not path:
        return {}
    try:
        recorded = _read(path)
        script = recorded.get("script")
        if script and script != script_name():
            os.environ[RESTORE_VARIABLE] = path  # another program of the same command; leave it to the right one
            return {}
        os.rename(path, f"{path}{_TAKEN}")
    except FileNotFoundError:
        return {}
    return recorded if recorded.get("schema") == SCHEMA else {}


def script_name() -> str:
    """The file name of the script that this process runs, empty when there is none."""
    main = find_namespace("__main__") or {}
    return os.path.basename(str(main.get("__file__") or ""))


def digest_arguments() -> str:
    """A digest of the command line without Python itself, run ids and the places of runs' files."""
    words = [_PLACE.sub("#", word) for word in getattr(sys, "orig_argv", sys.argv)[1:]]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _take_from_folder(folder: str) -> dict[str, Any]:
    """The first file of a process with this script and these arguments, else the first one of this script."""
    names = sorted(name for name in os.listdir(folder) if not name.endswith(_TAKEN))
    found: list[tuple[str, dict[str, Any]]] = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            recorded = _read(os.path.join(folder, name))
            if recorded.get("schema") == SCHEMA and recorded.get("script") in ("", script_name()):
                found.append((name, recorded))
    arguments = digest_arguments()
    for name, recorded in sorted(found, key=lambda row: row[1].get("arguments") != arguments):
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(folder, name), os.path.join(folder, name + _TAKEN))
            return recorded
    return {}


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        recorded: dict[str, Any] = json.load(file)
    return recorded
