"""Whatever MLflow raises about a store, as an error of ours."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from mlflow_repro.errors import CannotJudgeError, ReproError, UnreachableError, UsageError
from mlflow_repro.text.redact import redact_text, redact_value

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION_SECONDS = 5.0
_LONGEST_VERSION = 100  # bytes


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises about the store into an error of ours."""
    try:
        yield
    except ReproError:
        raise
    except Exception as error:
        raise _explain(error, uri) from error


def _explain(error: Exception, uri: str) -> ReproError:
    text = redact_text(str(error)).strip()
    line = text.splitlines()[0][:300] if text else type(error).__name__
    code = str(getattr(error, "error_code", ""))
    shown = redact_value(uri)
    if code == "RESOURCE_DOES_NOT_EXIST":
        return CannotJudgeError(line, f"the store is {shown}; pass --tracking_uri for another")
    if "MLFLOW_ALLOW_FILE_STORE" in text or "maintenance mode" in text:
        return UnreachableError(
            f"this MLflow refuses the file store {shown}",
            "set MLFLOW_ALLOW_FILE_STORE=true, or move the store to sqlite",
        )
    if code == "INVALID_PARAMETER_VALUE":
        return UsageError(line, f"said by the store {shown}")
    if code in ("PERMISSION_DENIED", "UNAUTHENTICATED") or re.search(r"\b40[13]\b", text):
        return UnreachableError(f"the tracking store {shown} refuses access: {line}", "check the credentials")
    if code == "ENDPOINT_NOT_FOUND" or re.search(r"\b404\b", text):
        return UnreachableError(
            f"the tracking server {shown} does not know this request: {line}",
            f"the client is {_version_text()}, the server {_server_version(uri)}",
        )
    return UnreachableError(f"the tracking store {shown} failed: {line}", "check --tracking_uri and the store")


def _version_text() -> str:
    import mlflow

    return f"mlflow {mlflow.__version__}"


def ask_version(uri: str, *, seconds: float) -> str:
    """What a tracking server gives as its version, empty when it gives none. Raises OSError or ValueError."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # urllib takes a user and a password for a part of the host's name
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/version", "", ""))
    try:
        with urllib.request.urlopen(address, timeout=seconds) as answer:  # noqa: S310 - http(s): a tracking server
            return bytes(answer.read(_LONGEST_VERSION)).decode("ascii", "replace")
    except urllib.error.HTTPError:  # it answers; what it says to an authenticated request is MLflow's to find out
        return ""


def _server_version(uri: str) -> str:
    with suppress(OSError, ValueError):
        version = ask_version(uri, seconds=_VERSION_SECONDS)
        if re.fullmatch(r"[\w.+-]+", version):
            return version
    return "does not tell its own"
