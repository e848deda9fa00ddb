"""The report as one JSON object; `docs/report-json.md` documents it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlflow_repro.text.redact import REDACTED, redact_argv, redact_named
from mlflow_repro.text.secret_names import is_secret_name
from mlflow_repro.values.report import SCHEMA_VERSION

if TYPE_CHECKING:
    from mlflow_repro.errors import ReproError
    from mlflow_repro.values.report import Report


def render_json(report: Report, verbose: bool = False) -> str:  # noqa: ARG001, FBT001, FBT002 - a renderer's form
    """``Report.to_dict`` with the exit code, as strict JSON."""
    return _dump({**report.to_dict(), "exit_code": int(report.exit_code), "error": None})


def render_plain(plain: dict[str, Any]) -> str:
    """Any plain value as strict JSON, with secrets taken out."""
    return _dump(plain)


def render_json_error(error: ReproError) -> str:
    """An obstacle in the same form: everything null but the schema, the exit code and the error."""
    parts: dict[str, Any] = {"plan": None, "reference": None, "reproduction": None, "comparison": None}
    parts.update({"causes": [], "children": [], "verdict": None, "runs_equal": None})
    details = {"message": error.message, "hint": error.hint, "run_id": getattr(error, "run_id", "")}
    return _dump({"schema": SCHEMA_VERSION, **parts, "exit_code": int(error.exit_code), "error": details})


def _dump(plain: dict[str, Any]) -> str:
    return json.dumps(_redact(plain), indent=2, allow_nan=False)


def _redact(plain: Any, name: str = "", *, is_secret: bool = False) -> Any:
    """``plain`` without secrets: each text is judged by itself and by the name that it stands under."""
    if isinstance(plain, dict):
        sides = ("reference", "reproduction") if "judged" in plain else ()  # a finding's values
        names = {key: str(plain.get("name", "")) if key in sides else key for key in plain}
        return {key: _redact(value, names[key], is_secret=is_secret_name(names[key])) for key, value in plain.items()}
    if isinstance(plain, list):
        if not is_secret and all(isinstance(word, str) for word in plain):  # a command line, as far as one can know
            return redact_argv(plain)
        return [_redact(row, name, is_secret=is_secret) for row in plain]
    if not (plain and isinstance(plain, str)):
        return plain
    return REDACTED if is_secret else redact_named(name, plain)
