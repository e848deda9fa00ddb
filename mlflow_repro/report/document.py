"""A report as it is read: a title, the verdict, and sections of tables, lists, commands and plots.

Markdown, HTML and JUnit are rendered from a `Document`. Every text in it is shown text already: on one line, without
control characters, without secrets, cut where it is long. A renderer escapes what its format gives a meaning to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.text.redact import redact_text, show
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, EQUAL_STATUSES, Status, Verdict

if TYPE_CHECKING:
    from mlflow_repro.values.comparison import Curve

LONGEST = 300
"""Characters of a text that are shown; the JSON form has all of them."""

TONES = {
    **dict.fromkeys(EQUAL_STATUSES, "same"),
    **dict.fromkeys(DIFFERENT_STATUSES, "different"),
    Status.UNKNOWN: "unknown",
    Status.IGNORED: "ignored",
}
"""How a row is told from others, by more than its colour: the word of the status stands in it as well."""
VERDICT_TONES = {Verdict.DIFFERENT: "different", Verdict.INCONCLUSIVE: "unknown"}


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The answer: the verdict's word, the line that says what it rests on, and the word behind ``Runs equal:``."""

    word: str
    line: str
    runs_equal: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of a table. ``tone`` is a word of `TONES`, empty where the row judges nothing."""

    cells: tuple[str, ...]
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows below headers; ``caption`` says what they are. ``is_folded``: not shown before somebody asks."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[Row, ...]
    is_folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Lines of one kind."""

    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Lines for a shell. Control characters are escapes: nobody shall copy another command than the one he sees."""

    caption: str
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Both histories of a metric. ``mark`` is the step at which they part; ``note`` says how; ``label`` is the name."""

    label: str
    curve: Curve
    mark: int | None
    note: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the document; ``key`` is a word that is the same in all documents."""

    key: str
    title: str
    blocks: tuple[Table | Listing | Commands | Plot, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One thing that was judged, or shown in place of being judged, for machines that count."""

    kind: str
    name: str
    tone: str
    status: str
    values: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Document:
    """Everything that is shown of a report."""

    title: str
    verdict: Headline
    sections: tuple[Section, ...]
    outcomes: tuple[Outcome, ...] = ()

    def section(self, key: str) -> Section | None:
        """The section called ``key``, None when there is nothing to say in it."""
        return next((section for section in self.sections if section.key == key), None)


def shown(text: str) -> str:
    """``text`` as a document holds it: one line, no control characters, no secrets, not too long."""
    clean = show(redact_text(text))
    return clean if len(clean) <= LONGEST else f"{clean[:LONGEST]}... ({len(clean)} characters)"
