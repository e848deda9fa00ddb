"""Read a Python command line (`sys.orig_argv`): which part is the interpreter's, which the program's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TAKES_VALUE = re.compile(r"-[bBdEhiIOPqRsSuvVx?]*[WX]|--check-hash-based-pycs")


@dataclass(frozen=True, kw_only=True)
class PythonCommand:
    """``python FLAGS TARGET ARGUMENTS``.

    ``kind`` is ``script`` (target: its path), ``module`` (``-m``, target: its name), ``command`` (``-c``, target:
    the code) or ``interactive`` (no target: the prompt, or a program read from standard input).
    """

    kind: str
    flags: tuple[str, ...]
    target: str
    arguments: tuple[str, ...]


def parse_python_argv(argv: Sequence[str]) -> PythonCommand:
    """Split ``argv``, whose first element is the interpreter."""
    rest = list(argv[1:])
    flags: list[str] = []
    while rest:
        word = rest[0]
        for option, kind in (("-m", "module"), ("-c", "command")):
            joined, last = _short_option(word, option)
            if not last:
                continue
            if joined:
                return PythonCommand(kind=kind, flags=tuple(flags), target=joined, arguments=tuple(rest[1:]))
            cluster = word[:-1]
            if len(cluster) > 1:
                flags.append(cluster)
            target = rest[1] if len(rest) > 1 else ""
            return PythonCommand(kind=kind, flags=tuple(flags), target=target, arguments=tuple(rest[2:]))
        if _TAKES_VALUE.fullmatch(word):
            flags.extend(rest[:2])
            rest = rest[2:]
        elif word == "-" or not word.startswith("-"):
            break
        else:
            flags.append(word)
            rest = rest[1:]
    if not rest or rest[0] in ("-", ""):
        return PythonCommand(kind="interactive", flags=tuple(flags), target="", arguments=tuple(rest[1:]))
    return PythonCommand(kind="script", flags=tuple(flags), target=rest[0], arguments=tuple(rest[1:]))


def _short_option(word: str, option: str) -> tuple[str, bool]:
    """Whether ``word`` ends the interpreter's options with ``option``: alone, in a cluster (``-um``), or joined."""
    if word == option:
        return "", True
    if word.startswith("--") or not word.startswith("-") or word[1:2] in ("W", "X"):
        return "", False
    cluster, letter = word[1:], option[1]
    before, found, after = cluster.partition(letter)
    if not found or not all(character in "bBdEhiIOPqRsSuvVx?" for character in before):
        return "", False
    return (after, True) if after else ("", True)
