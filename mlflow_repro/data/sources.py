"""Where a data set of MLflow's comes from, as it may be recorded: without credentials."""

from __future__ import annotations

import json
import re
from typing import Any

from mlflow_repro.text.redact import REDACTED, redact_named, redact_text, to_text
from mlflow_repro.text.secret_names import is_secret_name
from mlflow_repro.values.plain import plain_number

_LIMIT = 2000  # characters of one text in a source
# It begins only where a word does and is short, so that no text takes long.
_WHOLE_URI = re.compile(r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9+.\-]{0,20}://)(?:[^/?#]*@)?([^?#]*)([?#].*)?", re.DOTALL)


def parse_source(source: str) -> Any:
    """A source as MLflow stores it: what its JSON says, or the text itself."""
    try:
        plain = json.loads(source)
    except (ValueError, RecursionError):
        return source
    if isinstance(plain, dict):  # MLflow copies every context tag of the run into it
        return {name: value for name, value in plain.items() if name != "tags"}
    return plain if isinstance(plain, list) else source


def clean_source(name: str, value: Any, depth: int = 5) -> Any:
    """A part of a source without credentials: of URIs neither user, nor query, nor fragment."""
    if isinstance(value, dict) and depth:
        return {to_text(str(key)): clean_source(str(key), part, depth - 1) for key, part in value.items()}
    if isinstance(value, list) and depth:
        return [clean_source(name, part, depth - 1) for part in value]
    if value is None or isinstance(value, (bool, int, float)):
        return redact_named(name, str(value)) if is_secret_name(name) else plain_number(value)
    text = _WHOLE_URI.sub(lambda found: found[1] + found[2] + (f"?{REDACTED}" if found[3] else ""), str(value))
    return to_text(redact_named(name, redact_text(text)))[:_LIMIT]
