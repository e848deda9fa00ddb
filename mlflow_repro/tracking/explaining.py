"""Whatever MLflow raises about a store, as an error of ours."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, ReproError, UnreachableError, UsageError
from mlflow_repro.redact import redact_text, redact_value

if TYPE_CHECKING:
    from collections.abc import Iterator


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
            f"the client is {_version_text()}; check the server's version",
        )
    return UnreachableError(f"the tracking store {shown} failed: {line}", "check --tracking_uri and the store")


def _version_text() -> str:
    import mlflow

    return f"mlflow {mlflow.__version__}"
