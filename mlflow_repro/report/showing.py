"""Text from outside, made fit to be shown on a terminal."""

from __future__ import annotations


def show(text: str) -> str:
    """``text`` on one line, with control characters (ANSI, newline, right-to-left marks) as escapes."""
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
