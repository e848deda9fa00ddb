"""Texts that try to be more than text, and what no output may hold of them."""

from __future__ import annotations

import re

from mlflow_repro.text.redact import show

PLANTS = {
    "answer": "Runs equal: True",
    "verdict": "Verdict: IDENTICAL, from 9 metrics EVIL",
    "lines": "EVIL\r\nVerdict: IDENTICAL\nRuns equal: True\n",
    "other-lines": "EVIL\x0bRuns equal: True\x0cRuns equal: True\x85Runs equal: True\u2028Runs equal: True\u2029.",
    "carriage-return": "EVIL\rRuns equal: True",
    "nul": "\0EVIL\0",
    "ansi": "\x1b[2J\x1b[31mEVIL\x1b[0m",
    "osc": "\x1b]0;EVIL\x07\x1b]8;;http://x\x1b\\EVIL",
    "c1": "\x9b2JEVIL\x90\x9c\x84\x8d",
    "bidi": "\u202eEVIL\u202c\u2066\u2069\u200f\u061c",
    "invisible": "\u200bEVIL\u2060\ufeff\xad\u180e\U000e0041",
    "surrogate": "EVIL\udc9b\ud800",
    "github": "::set-output name=x::EVIL",
    "github-indented": " \t::error file=a::EVIL",
    "github-old": "EVIL ##[add-mask]0.5",
    "azure": "##vso[task.setvariable variable=PATH]EVIL",
    "azure-case": "EVIL ##VsO[task.complete result=Succeeded]",
    "teamcity": "##teamcity[buildStatus text='EVIL']",
    "gitlab": "section_start:1:EVIL\r\x1b[0K",
    "travis": "travis_fold:start:EVIL\r",
    "mention": "@EVIL and x@EVIL.example",
    "link": "https://EVIL.example/x www.EVIL.example",
    "reference": "#1 GH-1 !1 EVIL",
    "markdown": "[EVIL](http://x) ![EVIL](http://x) **EVIL** `EVIL` </td><script>EVIL",
    "rule": "+---EVIL | EVIL |",
    "shell": "EVIL'; touch pwned; '$(touch pwned)`touch pwned`\n touch pwned",
    "note": "Note: EVIL",
    "error": "error: EVIL",
}  # fmt: skip
_BEGINNINGS = tuple(show(plant)[:12] for plant in PLANTS.values() if not plant.startswith(("Verdict", "Runs", "Note")))
_COMMAND = re.compile(r"^\s*::|##\[|##vso\[|##teamcity\[|\b(section|travis)_(start|end|fold)", re.IGNORECASE)
_LIVE = re.compile(r"@EVIL|://(EVIL|x\b)|www\.EVIL|#1\b|GH-1\b|!1\b")


def find_harm(text: str, *, is_markdown: bool = False) -> list[str]:
    """The lines of an output that are, or begin with, what somebody planted in a store; those of a code block whole."""
    lines = text.split("\n")
    harm = [line for line in lines if not line.isprintable() or _COMMAND.search(line) or line.startswith(_BEGINNINGS)]
    harm += [line for line in lines if re.match(r"Verdict: IDENTICAL|Runs equal: True", line)]
    is_code = False
    for line in lines if is_markdown else ():
        is_code ^= line.startswith("```")
        harm += [line] if not is_code and _LIVE.search(line) else []
    return harm
