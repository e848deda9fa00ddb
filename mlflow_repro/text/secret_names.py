"""What secrets are called, and which values beside such a name are none: the one list of all writers and printers.

A name alone announces a secret (``api_key``, ``DB_PASSWORD``), or only together with a value: ``--key`` may name a
column and ``--auth`` a method. A run whose arguments were withheld cannot be launched again, so the second list looks
at the value, and what reads like a word, a number, a path or a pattern stays.
"""

from __future__ import annotations

import re

NAMES = (
    r"api[-_.]?key|apikey|access[-_.]?key|secret[-_.]?key|account[-_.]?key|private[-_.]?key|auth[-_.]?key"
    r"|licen[cs]e[-_.]?key|signing[-_.]?key|encryption[-_.]?key|secret|password|passwd|passphrase|passcode|pwd"
    r"|auth[-_.]?token|access[-_.]?token|refresh[-_.]?token|private[-_.]?token|bearer|credentials?|creds?|cookies?"
    r"|client[-_.]?secret|token|conn(?:ection)?[-_.]?str(?:ing)?|sas[-_.]?token"
)
"""A regular expression of how the names end whose values are secrets."""
UNSURE_NAMES = r"pass|pat|auth|key"
"""And of those whose values may be some."""

_SECRET_NAME = re.compile(rf"(?:^|[^A-Za-z0-9]|(?<=[a-z])(?=[A-Z]))(?:{NAMES})$", re.IGNORECASE)
_NOT_SECRET_NAME = re.compile(
    r"(?:^|[^A-Za-z0-9])(?:max|min|num|n|pad|eos|bos|unk|mask|cls|sep|special)[-_]"
    r"(?:token|secret|cookie|password|cred)s?$",
    re.IGNORECASE,
)
_UNSURE_NAME = re.compile(rf"(?:^|[-_.+])(?P<name>{UNSURE_NAMES})$", re.IGNORECASE)
_ORDINARY_PASS = re.compile(
    r"(?:low|high|band|all|num|n|by|one|two|single|multi|first|second|last|forward|backward|max|min)[-_]pass$",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?\d{0,6}(?:\.\d{0,6})?(?:e[+-]?\d{1,3})?", re.IGNORECASE)
# Words, numbers behind them, and what joins words: ``image_1``, ``user.id``, ``col-2024``, ``data/train.csv``.
_IDENTIFIER = re.compile(r"[A-Za-z]*\d{0,8}(?:[_\-./:][A-Za-z]*\d{0,8}){0,20}")
_PATTERN = re.compile(r"[*?|\\^$\[\](){}]")
_SHORTEST = 8  # characters of a token
_LONG_WORD = 20  # letters; no word has as many, and some keys have no digit


def is_secret_name(name: str) -> bool:
    """True when ``name`` (of a parameter, an option or a variable) announces that its value is a secret."""
    name = name.lstrip("-+")
    return bool(_SECRET_NAME.search(name)) and not _NOT_SECRET_NAME.search(name)


def is_secret(name: str, value: str) -> bool:
    """True when ``value`` is a secret under this ``name``."""
    if not value:
        return False
    found = _UNSURE_NAME.search(name)
    if found is None or is_secret_name(name):
        return is_secret_name(name)
    if _NUMBER.fullmatch(value) or value.lower() in ("true", "false", "none", "null", "yes", "no", "auto"):
        return False
    if found["name"].lower() == "pass":
        return not _ORDINARY_PASS.search(name)
    if found["name"].lower() == "pat":
        return not _PATTERN.search(value)
    is_word = _IDENTIFIER.fullmatch(value) and max(map(len, re.findall("[A-Za-z]+", value)), default=0) < _LONG_WORD
    return not is_word and not _PATTERN.search(value)


_NAME = rf"([\w.\-]{{0,60}}(?:{NAMES}))"
_ANNOTATION = r"(?::\s{0,8}[\w. |\[\],]{0,40}=|[:=]|=>|:=)"
# In the text of a file: ``NAME = "value"``, ``"NAME": "value"``, ``names["NAME"] = 'value'``, and all that in JSON.
_LITERAL = re.compile(
    rf"""{_NAME}(?![\w\-])\\{{0,3}}["']?\]?\s{{0,8}}{_ANNOTATION}\s{{0,8}}[bfru]{{0,2}}"""
    r"""\\{0,3}(["'])([^"'\\\n]{4,200})\\{0,3}\2""",
    re.IGNORECASE,
)
# A line of its own: ``NAME: value`` as in YAML, ``export NAME=value`` and ``NAME=value`` as for a shell.
_BARE = re.compile(
    rf"^[+\- ]?\s{{0,40}}(?:export |set |- )?{_NAME}(:\s{{1,8}}|=)"
    r"([^\s'\"#;,(){}\[\]<>$]{8,200})\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_WORDS_FOR_NONE = frozenset(
    ("admin", "root", "user", "guest", "test", "tests", "testing", "postgres", "mysql", "minio", "minioadmin", "none")
)
# What stands for a secret: the name of a variable, ``<password>``, ``your-token``, ``{token}``, a sentence.
_STAND_IN = re.compile(
    r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*$|^(?:[*x.\-#]{3,})$|[<>{}$%\[\]]|\s\S+\s"
    r"|(?i:your|example|placeholder|change.?me|dummy|fake|sample|redacted|insert|invalid|enter|pass(?:word|wd|phrase)"
    r"|token|secret|api.?key|credential|cookie)"
)
_IS_PASSWORD = re.compile(r"pass(?:word|wd|phrase|code)$|pwd$|secret$", re.IGNORECASE)
ASSIGNED_CLUES = (b"pass", b"pwd", b"secret", b"token", b"key", b"cred", b"bearer", b"cookie", b"conn")
"""One of them is in every line, in lower case, in which `holds_assigned_secret` can find something."""


def holds_assigned_secret(text: str) -> bool:
    """True when a line of a file gives a secret, by its name, a literal value that is no stand-in for one."""
    return any(_is_assigned(found[1], found[3]) for found in _LITERAL.finditer(text)) or any(
        _is_mixed(found[3]) and _is_assigned(found[1], found[3]) and (found[2] != "=" or found[1].isupper())
        for found in _BARE.finditer(text)
    )


def _is_assigned(name: str, value: str) -> bool:
    if not is_secret_name(name) or _STAND_IN.search(value) or value.lower() in _WORDS_FOR_NONE:
        return False
    return bool(_IS_PASSWORD.search(name)) or _is_mixed(value)


def _is_mixed(value: str) -> bool:
    """Letters and digits, and no name of a thing: what somebody made up or a machine did."""
    has_both = re.search(r"\d", value) and re.search(r"[A-Za-z]", value)
    return bool(has_both) and len(value) >= _SHORTEST and not _IDENTIFIER.fullmatch(value)
