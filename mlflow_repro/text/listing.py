"""Lists that are too long for a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def list_some(texts: Sequence[str], most: int, *, joint: str = "; ", count: int | None = None) -> str:
    """The first ``most`` of ``texts`` with a ``joint`` between them, and how many more there are.

    ``count`` is how many there are where not all of them are given.
    """
    count = len(texts) if count is None else count
    shown = joint.join(texts[:most])
    return f"{shown}{joint}and {count - most:,} more" if count > most else shown


def shorten(text: str | float | None, length: int = 80) -> str:
    """A value as evidence shows it; ``nothing`` for one that is not there."""
    if text is None:
        return "nothing"
    plain = str(text)
    return plain if len(plain) <= length else f"{plain[: length - 3]}..."


def count(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
