"""Take secrets out of text, before it is stored or shown.

Two kinds of rule: a *name* that announces a secret (``--api-key X``, ``password=X``), and a *shape* that is one
whatever it is called (the published prefixes of token formats). Neither list can be complete; the first line of
defence is that we record little in the first place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.text.secret_names import NAMES, UNSURE_NAMES, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TOKEN_SHAPES = re.compile(
    "|".join(
        [
            *(rf"{prefix}[A-Za-z0-9_]{{20,}}" for prefix in ("gh[pousr]_", "github_pat_")),
            r"(?<![A-Za-z0-9])gl(?:pat|rt|ptt|dt|cbt|soat|ft|imt|agent)-[A-Za-z0-9_\-]{16,}",
            r"(?<![A-Za-z0-9])sk-(?:[A-Za-z]+-)?[A-Za-z0-9_\-]{16,}",
            r"hf_[A-Za-z0-9]{16,}",
            r"xox[abeoprs]-[A-Za-z0-9-]{10,}",
            r"xapp-[A-Za-z0-9-]{16,}",
            r"hooks\.slack\.com/services/[A-Za-z0-9_/]{20,}",
            r"(?:AKIA|ASIA)[0-9A-Z]{16}",
            r"(?i:secret_?access_?key)[\"']?\s{0,4}[:=]\s{0,4}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
            r"AIza[0-9A-Za-z_\-]{35}",
            r"GOCSPX-[A-Za-z0-9_\-]{20,}",
            r"ya29\.[0-9A-Za-z_\-]{20,}",
            r"dapi[0-9a-f]{32}",
            r"npm_[A-Za-z0-9]{30,}",
            r"dckr_pat_[A-Za-z0-9_\-]{20,}",
            r"do[opr]_v1_[0-9a-f]{64}",
            r"(?<![A-Za-z0-9])(?:gsk|r8)_[A-Za-z0-9]{32,}",
            r"(?<![A-Za-z0-9])hvs\.[A-Za-z0-9_\-]{24,}",
            r"pypi-[A-Za-z0-9_\-]{30,}",
            r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
            r"SG\.[A-Za-z0-9_\-]{16,}\.[A-Za-z0-9_\-]{16,}",
            r"(?<![A-Za-z0-9_\-])eyJ[A-Za-z0-9_\-]{8,}\.eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+",
            r"\b[Bb]earer [A-Za-z0-9._~+/\-]{16,}=*",
            # The encoding of a user and a password: no word that may follow, but for a capital or a digit in it.
            r"\b[Bb]asic (?=[A-Za-z0-9+/]+[A-Z0-9=])[A-Za-z0-9+/]{12,}={0,2}",
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        ]
    )
)
# The look-behinds make each pattern begin only where a word does: without them a long row of dashes takes minutes.
_USERINFO = re.compile(r"(?<![a-z0-9])([a-z][a-z0-9+.\-]{0,20}://)([^/?#\s'\"]+)@", re.IGNORECASE)
_SECRET_QUERY = re.compile(rf"([?&;](?:[\w.\-]*[-_.])?(?:{NAMES}|sig)=)[^&\s'\"#]+", re.IGNORECASE)
_QUOTED = r"\"(?:\\.|[^\"\\])*\"|'[^']*'|\\+\"[^\"\\]*\\+\""  # the last in JSON inside of JSON
# Behind it stands the value, or in a list of JSON the next text.
_SECRET_OPTION = re.compile(
    rf"(?<![\w.\-])(--?[\w.\-]*(?:{NAMES}|{UNSURE_NAMES})(?:=|\s+|\\?[\"'],\s*(?=\\?[\"'])))({_QUOTED}|[^\s'\"]+)",
    re.IGNORECASE,
)
# ``--user name:password``, as of curl; two numbers are ids of a user and a group, as of docker.
_LOGIN = re.compile(
    r"(?<![\w.\-])(--(?:proxy-)?(?:user|userpwd|login)(?:=|\s+|\\?[\"'],\s*\\?[\"'])[\w.@%+\-]{1,80}:)"
    r"(?!\d+(?:[\s'\"]|$))([^\s'\"]+)"
)
# ``-pX``, as of mysql: a password has letters and digits, a number none and a name of an option few.
_GLUED = re.compile(
    r"(?<!\S)-p(?=[^\W\d]{0,80}\d)(?=\d{0,80}[^\W\d])(?![a-z]+\d{0,2}(?:\s|$))[^\s=./:,\-'\"]{6,80}(?=\s|$)"
)
_SECRET_HEADER = re.compile(
    r"\b((?:(?:set-)?cookie2?|(?:proxy-)?authorization|[\w\-]{0,40}(?:private-token|auth-token|auth-key)):[ \t]{0,4})"
    r"[^'\"\r\n]+",
    re.IGNORECASE,
)
# ``name=value``, ``"name": value``, and in a program ``name = "value"`` and ``names["name"] = "value"``.
_ASSIGNS = r"[\"']?\]?[ \t]{0,8}=[ \t]{0,8}[bfru]{0,2}(?=[\"'])|=|\\*[\"']?:\s*"
_SECRET_ASSIGNMENT = re.compile(
    rf"(?<![\w.\-])([\w.\-]*(?:(?:{NAMES})(?:{_ASSIGNS})|(?:{UNSURE_NAMES})=))({_QUOTED}|[^\s'\"&,}}]+)", re.IGNORECASE
)

_OPENING_QUOTE = re.compile(r"^\\*[\"']")
_PLACEHOLDER = re.compile(r"VALUE\)?")  # in hints of ours: "give it with -P api_key=VALUE"


def redact_value(value: str) -> str:
    """``value`` with every token of a known shape, and every credential inside a URI, taken out."""
    value = _USERINFO.sub(rf"\1{REDACTED}@", value)
    value = _SECRET_QUERY.sub(rf"\1{REDACTED}", value)
    return _TOKEN_SHAPES.sub(REDACTED, value)


def redact_text(text: str) -> str:
    """Free text (a log line, an error message) with everything taken out that looks like a secret."""
    text = _SECRET_HEADER.sub(rf"\1{REDACTED}", redact_value(text))
    text = _GLUED.sub(f"-p{REDACTED}", _LOGIN.sub(rf"\1{REDACTED}", text))

    def hide(match: re.Match[str]) -> str:
        name = re.split(r"[=\s:\"'\\\]]", match[1], maxsplit=1)[0]
        quote = "".join(_OPENING_QUOTE.findall(match[2]))
        if not is_secret(name, match[2].strip("\\\"'")) or _PLACEHOLDER.fullmatch(match[2]):
            return match[0]
        return f"{match[1]}{quote}{REDACTED}{quote}"

    return _SECRET_ASSIGNMENT.sub(hide, _SECRET_OPTION.sub(hide, text))


def redact_argv(argv: Sequence[str]) -> list[str]:
    """An argument vector with its secrets taken out; the number of arguments stays the same."""
    clean: list[str] = []
    before = ""  # the option whose value may come next
    for argument in argv:
        name, equals, value = argument.partition("=")
        if before and not argument.startswith("--") and is_secret(before, argument):
            clean.append(REDACTED)
            before = ""
            continue
        if equals and is_secret(name, value):
            clean.append(f"{name}={REDACTED}")
        elif before in _LOGIN_OPTIONS:
            clean.append(_LOGIN.sub(rf"\1{REDACTED}", f"--user {argument}").removeprefix("--user "))
        else:
            clean.append(redact_text(argument))
        before = argument if argument.startswith("-") and not equals else ""
    return clean


_LOGIN_OPTIONS = ("-u", "-U", "--user", "--userpwd", "--login", "--proxy-user")


def redact_named(name: str, value: str) -> str:
    """The value of a parameter called ``name``, redacted as a whole when the name announces a secret."""
    return REDACTED if is_secret(name, value) else redact_text(value)


SHORTEST = 12
"""Characters: no shape of a token has fewer, and no URI with a password."""


def to_text(text: str) -> str:
    """``text`` as it can be stored: no secret of a known shape, and as `to_unicode` does it."""
    return to_unicode(redact_value(text) if len(text) >= SHORTEST or "@" in text else text)


def to_unicode(text: str) -> str:
    """``text`` without lone surrogates, which stand for bytes that are no text, and which UTF-8 does not have."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


REDACTED = "[redacted]"
"""What stands where a secret was."""


def show(text: str) -> str:
    """``text`` on one line, with control characters (ANSI, newline, right-to-left marks) as escapes."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def show_lines(lines: Iterable[str]) -> str:
    """A line for each of ``lines``: whatever stands in one of them begins no other."""
    return "\n".join(map(show, lines))


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
