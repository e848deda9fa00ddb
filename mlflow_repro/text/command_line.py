"""Command lines: which part is the interpreter's, and how the arguments of two differ, option by option."""

from __future__ import annotations

import re
import shlex
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"-\.?\d")


@dataclass(frozen=True, kw_only=True)
class ArgumentChange:
    """One option or positional argument that differs. A side is its words, None where that side does not have it."""

    name: str
    one: tuple[str, ...] | None
    other: tuple[str, ...] | None


def split_arguments(words: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The words of a command line by what they belong to, in their order.

    ``--name value``, ``--name=value`` and ``-n value`` are named as they are written, without the value; others
    ``argument 1`` and so on. Without the program's parser a word behind a flag is taken for its value; whoever puts the
    words together again gets the same line all the same. The second of a name is ``name#2``.
    """
    found: dict[str, tuple[str, ...]] = {}
    rest, positional, numbers = deque(words), 0, Counter[str]()
    while rest:
        word = rest.popleft()
        if not _is_option(word):
            positional += 1
            found[f"argument {positional}"] = (word,)
            continue
        name, equals, _ = word.partition("=")
        takes_next = not equals and bool(rest) and not _is_option(rest[0])
        group = (word, rest.popleft()) if takes_next else (word,)
        numbers[name] += 1
        while _numbered(name, numbers[name]) in found:
            numbers[name] += 1
        found[_numbered(name, numbers[name])] = group
    return found


def quote_word(word: str) -> str:
    """``word`` as a shell reads it, on one line: in bash's and zsh's form where it has what cannot be printed."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(map(_quote_character, word)) + "'"


def quote_words(words: Iterable[str]) -> str:
    """A command line."""
    return " ".join(map(quote_word, words))


def _quote_character(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - a byte that is no text
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\U{code:08x}"  # noqa: PLR2004 - ASCII


def diff_arguments(one: Sequence[str], other: Sequence[str]) -> list[ArgumentChange]:
    """What differs between two lists of arguments, in the order of ``one``, then what only ``other`` has."""
    here, there = split_arguments(one), split_arguments(other)
    return [
        ArgumentChange(name=name, one=here.get(name), other=there.get(name))
        for name in dict.fromkeys([*here, *there])
        if _value(here.get(name)) != _value(there.get(name))
    ]


def change_arguments(words: Sequence[str], changes: Iterable[ArgumentChange]) -> list[str]:
    """``words`` with the other side of ``changes``; an option that ``words`` does not have comes last.

    Where a positional argument would stand behind an option that now has no value, and be taken for it, all positional
    ones come first.
    """
    changed: dict[str, tuple[str, ...] | None] = dict(split_arguments(words))
    for change in changes:
        changed[change.name] = change.other
    groups = {name: group for name, group in changed.items() if group is not None}
    line = [word for group in groups.values() for word in group]
    if split_arguments(line) == groups:
        return line
    ranked = sorted(groups, key=lambda name: (_is_option(groups[name][0]), _position(name)))
    return [word for name in ranked for word in groups[name]]


def value_of(group: Sequence[str] | None) -> str | None:
    """The value that an option's words carry, for people: the last word, or what is behind the equals sign."""
    value = _value(group)
    return None if value is None else " ".join(value) or "set"


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}#{number}"


def _position(name: str) -> int:
    """The number of a positional argument; 0 for an option, so that options keep their order."""
    number = name.removeprefix("argument ")
    return int(number) if number.isdecimal() else 0


def _is_option(word: str) -> bool:
    return word.startswith("-") and word not in ("-", "--") and not _NUMBER.match(word)


def _value(group: Sequence[str] | None) -> tuple[str, ...] | None:
    """What is compared: ``--a=1`` and ``--a 1`` say the same."""
    if group is None:
        return None
    if not _is_option(group[0]):
        return tuple(group)
    _, equals, value = group[0].partition("=")
    return (value,) if equals else tuple(group[1:])


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
    at = 1
    flags: list[str] = []
    while at < len(argv):
        word = argv[at]
        for option, kind in (("-m", "module"), ("-c", "command")):
            joined, last = _short_option(word, option)
            if not last:
                continue
            if joined:
                return PythonCommand(kind=kind, flags=tuple(flags), target=joined, arguments=tuple(argv[at + 1 :]))
            cluster = word[:-1]
            if len(cluster) > 1:
                flags.append(cluster)
            target = argv[at + 1] if at + 1 < len(argv) else ""
            return PythonCommand(kind=kind, flags=tuple(flags), target=target, arguments=tuple(argv[at + 2 :]))
        if _TAKES_VALUE.fullmatch(word):
            flags.extend(argv[at : at + 2])
            at += 2
        elif word == "-" or not word.startswith("-"):
            break
        else:
            flags.append(word)
            at += 1
    target, arguments = "".join(argv[at : at + 1]), tuple(argv[at + 1 :])
    if target in ("-", ""):
        return PythonCommand(kind="interactive", flags=tuple(flags), target="", arguments=arguments)
    return PythonCommand(kind="script", flags=tuple(flags), target=target, arguments=arguments)


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
