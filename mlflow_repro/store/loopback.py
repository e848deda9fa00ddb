"""A tracking server of this tool's MLflow in front of a database, for a child whose MLflow is another one.

An MLflow that finds a database of an older one migrates it, in place and without a copy, and an older one cannot open
what a newer one has made. Over HTTP they understand each other, so the child gets a server on loopback: one that nobody
else is told of, which ends with the launch. Artifacts are not its business: the child writes them where the store says,
as it would without it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from mlflow_repro.system.processes import ProcessTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START_SECONDS = 180.0
_END_SECONDS = 5.0
_ATTEMPTS = 3  # another process may take the port between our look and the server's start
_KEPT_SETTINGS = ("MLFLOW_SQLALCHEMY", "MLFLOW_MYSQL")  # how to connect to a database
_DATABASES = ("sqlite", "postgresql", "postgres", "mysql", "mssql")


class ServerError(Exception):
    """The server did not start; the message has its last words."""


def is_database(uri: str) -> bool:
    """True for the URI of a store that MLflow keeps in a database."""
    scheme, separator, _ = uri.partition("://")
    return bool(separator) and scheme.partition("+")[0].lower() in _DATABASES


@contextmanager
def serve_database(uri: str, directory: Path, artifact_root: str) -> Iterator[str]:
    """The URL of a server of the database ``uri`` while the context lasts; its log goes to ``directory``.

    New experiments get their artifacts below ``artifact_root``. It belongs to the caller's process group, and ends with
    it. Raises ServerError.
    """
    log = directory / "server.log"
    for attempt in range(1, _ATTEMPTS + 1):
        process, url = _start(uri, log, artifact_root)
        try:
            if _is_up(process, url):
                yield url
                return
        finally:
            ProcessTree(process.pid).end(grace=_END_SECONDS)
            process.wait()
        if attempt == _ATTEMPTS or "in use" not in log.read_text(encoding="utf-8", errors="replace"):
            break
    words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise ServerError(f"the mlflow server on loopback did not start: {words[-1] if words else 'it said nothing'}")


def _start(uri: str, log: Path, artifact_root: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MLFLOW_") or name.startswith(_KEPT_SETTINGS)
    }
    # By a variable, not on the command line, which everybody can read: it may hold a password.
    environment["MLFLOW_BACKEND_STORE_URI"] = uri
    environment["MLFLOW_REPRO_DISABLE"] = "1"
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--no-serve-artifacts", "--default-artifact-root", artifact_root]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    return process, f"http://127.0.0.1:{port}"


def _is_up(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the server answers; False when it has ended, or takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is not behind a proxy
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), opener.open(f"{url}/health", timeout=5):
            return True
        time.sleep(0.1)
    return False
