"""What the probes that take longer share: steps under one deadline, files that may not be there, plain values."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from mlflow_repro.redact import redact_text, redact_value
from mlflow_repro.section import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NO_TIME = "the time for it was up"
"""The reason of a fact that was not asked for, because the deadline had passed."""

_SHORT = 12  # characters; no shape of a token is that short, and no URI with a password


def run_steps(
    steps: Mapping[str, Callable[[], Any]], deadline: float, *, convert: Callable[[Any], Any] | None = None
) -> dict[str, Any]:
    """The value of each step by its name, as plain JSON without secrets; `missing` where it failed or time was up.

    ``deadline`` is a value of `time.monotonic` (seconds). ``convert`` is for steps whose values are clean already; it
    is `to_plain` unless given. Raises no Exception.
    """
    convert = convert or to_plain
    facts: dict[str, Any] = {}
    for name, step in steps.items():
        if time.monotonic() >= deadline:
            facts[name] = missing(NO_TIME)
            continue
        try:
            facts[name] = convert(step())
        except Exception as error:  # noqa: BLE001 - a guest: what one step cannot do must not cost the others
            facts[name] = missing(to_text(redact_text(f"{type(error).__name__}: {error}")))
    return facts


def to_plain(value: Any) -> Any:
    """``value`` as plain JSON: tuples as lists, names as text, text by `to_text`, anything unknown as its type."""
    if isinstance(value, str):
        return to_text(value)
    if isinstance(value, (bool, int)) or (isinstance(value, float) and value - value == 0):
        return value
    if isinstance(value, dict):
        return {to_text(str(name)): to_plain(content) for name, content in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(content) for content in value]
    return missing(f"a {type(value).__name__} is no plain value")


def to_text(text: str) -> str:
    """``text`` as it can be stored: no secret of a known shape, and as `to_unicode` does it."""
    return to_unicode(redact_value(text) if len(text) >= _SHORT or "@" in text else text)


def to_unicode(text: str) -> str:
    """``text`` without lone surrogates, which stand for bytes that are no text, and which UTF-8 does not have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_text(path: str, limit: int = 65_536) -> str:
    """The first ``limit`` bytes of a file as text. Raises OSError."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size  # 0 for the kernel's files, whose length is known when they are read
        return file.read(min(limit, size or limit)).decode("utf-8", "backslashreplace")


def try_read(path: str, limit: int = 65_536) -> str:
    """As `read_text`; empty when the file cannot be read."""
    try:
        return read_text(path, limit)
    except OSError:
        return ""
