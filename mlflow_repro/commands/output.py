"""Print to standard output, whatever its encoding, and notice when nobody reads it any more."""

from __future__ import annotations

import sys


class OutputClosedError(Exception):
    """Whoever read our standard output has gone; click would make exit code 1, "different", of it."""


def print_text(text: str) -> None:
    """Print ``text``; what the terminal's encoding lacks is an escape. Raises OutputClosedError."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except BrokenPipeError as error:
        raise OutputClosedError from error
