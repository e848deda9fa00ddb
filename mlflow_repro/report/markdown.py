"""A document as Markdown, for a job's summary, a pull request, or the description of a run in MLflow's UI."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.report.document import Commands, Listing, Plot, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.report.document import Document, Row, Section

_MOST_ROWS = 200
_LONGEST_CELL = 120
NOTE_LIMIT = 4_800
"""Characters of a run's description; a store of MLflow 2.9 refuses a tag with more than 5,000."""
_NOTE_ROWS = 20
_MEANT = re.compile(r"([\\`*_{}\[\]#|~!])")
# What GitHub and GitLab make links of, and tell people of, wherever it stands in text: mentions, numbers of issues,
# addresses. With an invisible space in it, it is neither.
_LIVE = re.compile(r"@(?=\w)|:(?=//)|\bwww(?=\.)|[#!~$%](?=\d)|\bGH-(?=\d)", re.IGNORECASE)
_GAP = "\u200b"
_SIGNS = {"same": "✅", "different": "❌", "unknown": "❔"}


def render_markdown(document: Document) -> str:
    """The whole document; tables are cut after 200 rows."""
    parts = [f"# {_escape(document.title)}", _verdict(document)]
    for section in document.sections:
        parts += [f"## {section.title}", *_render_section(section)]
    return "\n\n".join(parts)


def render_note(document: Document, *, link: str = "", report: str = "") -> str:
    """The document in short, for the description of a run: at most `NOTE_LIMIT` characters.

    The verdict is the first line: MLflow's UI shows little more of a description at first. ``link`` is the address of
    the reference in that UI, ``report`` the artifact that has everything.
    """
    name = _escape(document.title, longest=_LONGEST_CELL)
    parts = [_verdict(document), f"{f'[{name}]({link})' if link else name}."]
    for key in ("causes", "differences", "outcomes"):
        section = document.section(key)
        if section is not None:
            parts += [f"**{section.title}**", *_render_section(section, most=_NOTE_ROWS)]
    last = f"More in the artifact `{report}`." if report else ""
    kept: list[str] = []
    for part in parts:
        if sum(map(len, kept)) + 2 * len(kept) + len(part) + len(last) + 4 > NOTE_LIMIT:
            break
        kept.append(part)
    return "\n\n".join([*kept, *([last] if last else [])])


def render_text_note(text: str) -> str:
    """What was printed, for the description of a run: its last line, which is the answer, and below it all of it."""
    answer = _escape(text.rpartition("\n")[2])
    whole = f"{answer}\n\n{_fence([text], language='')}"
    return whole if len(whole) <= NOTE_LIMIT else answer[:NOTE_LIMIT]


def _verdict(document: Document) -> str:
    verdict = document.verdict
    equal = f" Runs equal: **{_escape(verdict.runs_equal)}**." if verdict.runs_equal else ""
    line = verdict.line.removeprefix(verdict.word)
    return f"{_SIGNS[verdict.tone]} **{_escape(verdict.word)}**{_escape(line)}.{equal}"


def _render_section(section: Section, *, most: int = _MOST_ROWS) -> list[str]:
    parts = []
    for block in section.blocks:
        if isinstance(block, Table):
            parts += _render_table(block, most)
        elif isinstance(block, Listing):
            parts.append("\n".join(f"- {_escape(line)}" for line in block.lines[:most]))
        elif isinstance(block, Commands):
            parts += [f"{block.caption}:", _fence(block.lines)]
    plots = [block for block in section.blocks if isinstance(block, Plot)]
    lines = [f"- {_escape(plot.label)}: {_escape(plot.note)}" for plot in plots[:most] if plot.tone != "same"]
    same = sum(plot.tone == "same" for plot in plots)
    lines += [f"- {same} {'others are' if lines else 'are'} equal"] if same else []
    return [*parts, *(["\n".join(lines)] if lines else [])]


def _render_table(table: Table, most: int) -> list[str]:
    rows = [_line(row.cells) for row in _by_importance(table.rows, most)]
    left = len(table.rows) - len(rows)
    parts = ["\n".join([_line(table.headers), _line(["---"] * len(table.headers), escaped=True), *rows])]
    return [*parts, *([f"{left} more rows are not shown."] if left else [])]


def _by_importance(rows: Sequence[Row], most: int) -> list[Row]:
    """Of too many rows those that differ come first; else the order stays."""
    if len(rows) <= most:
        return list(rows)
    return sorted(rows, key=lambda row: row.tone in ("same", "ignored", ""))[:most]


def _line(cells: Sequence[str], *, escaped: bool = False) -> str:
    shown = (cell if escaped else _escape(cell, longest=_LONGEST_CELL) or " " for cell in cells)
    return f"| {' | '.join(shown)} |"


def _fence(lines: Sequence[str], *, language: str = "sh") -> str:
    """A code block whose fence is longer than any row of backticks in it."""
    text = "\n".join(lines)
    ticks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text) or [""]))
    return f"{ticks}{language}\n{text}\n{ticks}"


def _escape(text: str, *, longest: int = 0) -> str:
    """``text`` so that Markdown gives none of it a meaning, HTML included, and nothing in it becomes a link."""
    if longest and len(text) > longest:
        text = f"{text[:longest]}..."
    text = _LIVE.sub(lambda found: found[0] + _GAP, text)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MEANT.sub(r"\\\1", text).replace(_GAP, "&#8203;")
