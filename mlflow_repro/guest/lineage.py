"""Which process of a launch this is: a path of random ids, from the first process that imported mlflow down to here.

``0f1e2d3c4b5a6978`` is the first process. ``0f1e2d3c4b5a6978/8796a5b4c3d2e1f0`` is another program that it started, and
``0f1e2d3c4b5a6978.8796a5b4c3d2e1f0`` a worker of the same program, forked or made by `multiprocessing`. Child processes
learn the path by the environment, so that the runs of a launch can be told from all others by how their paths begin.
"""

from __future__ import annotations

import os
import re
import sys

PROCESS_VARIABLE = "MLFLOW_REPRO_PROCESS"
_ID_BYTES = 8
_LONGEST = 1_000  # characters; a longer path begins anew
_PATH = re.compile(r"[0-9a-f]{16}(?:[/.][0-9a-f]{16})*")


class _Process:
    """The path of the process that made it, which a forked child inherits with the rest of the memory."""

    pid = 0
    path = ""


def process_path() -> str:
    """The path of this process, made at the first call in it and then always the same."""
    if _Process.pid != os.getpid():
        above = _Process.path or os.environ.get(PROCESS_VARIABLE, "")
        if not _PATH.fullmatch(above) or len(above) > _LONGEST:
            above = ""
        own = os.urandom(_ID_BYTES).hex()
        sign = "." if _Process.path or _is_worker() else "/"
        _Process.pid, _Process.path = os.getpid(), f"{above}{sign}{own}" if above else own
        os.environ[PROCESS_VARIABLE] = _Process.path
    return _Process.path


def _is_worker() -> bool:
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.current_process().name != "MainProcess"
