"""What of a relaunch was held back, as notes for its report and as a tag of its run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.overlay.ledger import Ledger
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.redact import redact_value

if TYPE_CHECKING:
    from pathlib import Path

HELD_TAG = "repro.launch.held"
"""The tag that keeps with a run what was held back."""
LEDGER_FILE = "session.jsonl"
"""The ledger's name in the work directory."""
_SHOWN = 6
_TAGGED = 15


@dataclass(frozen=True, kw_only=True)
class Held:
    """``writes`` did not reach what they were meant for, ``registry`` is what the model registry would have been told.

    ``reads`` were held back by nobody: what the program read that may have had the reference's results in it.
    """

    writes: tuple[str, ...] = ()
    registry: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report says of it."""
        notes = []
        if self.writes:
            notes.append(f"held back, for a reproduction writes to its own runs only: {join_texts(self.writes)}")
        if self.registry:
            notes.append(
                f"the script would have {join_texts(self.registry)}: the registry is left as it was (--allow-registry)"
            )
        return tuple(notes)

    @property
    def tags(self) -> dict[str, str]:
        """The tag that keeps it with the run; none when nothing was held back."""
        parts = {"writes": self.writes, "registry": self.registry, "reads": self.reads}
        if not any(parts.values()):
            return {}
        return {HELD_TAG: json.dumps({name: _cut(texts) for name, texts in parts.items()})}


def read_held(directory: Path) -> Held:
    """What the processes of the relaunch with this work directory noted."""
    ledger = Ledger(str(directory / LEDGER_FILE))
    return Held(
        writes=_plain(ledger.told("held")), registry=_plain(ledger.told("would")), reads=_plain(ledger.told("read"))
    )


def parse_held(text: str) -> Held:
    """The inverse of `Held.tags`, of the tag's value; nothing where the tag is no such value."""
    try:
        stored = json.loads(text or "{}")
        return Held(**{name: tuple(map(str, stored.get(name, ()))) for name in ("writes", "registry", "reads")})
    except (ValueError, AttributeError, TypeError):
        return Held()


def join_texts(texts: tuple[str, ...]) -> str:
    """The first of them in one line, and how many more there are."""
    return list_some(texts, _SHOWN, joint=", ")


def _plain(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(redact_value(text) for text in texts)


def _cut(texts: tuple[str, ...]) -> list[str]:
    more = [f"{len(texts) - _TAGGED} more"] if len(texts) > _TAGGED else []
    return [*texts[:_TAGGED], *more]
