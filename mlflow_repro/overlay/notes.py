"""What of a relaunch was held back, as notes for its report and as a tag of its run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.overlay.ledger import Ledger
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
    """``writes`` did not reach what they were meant for, ``registry`` what the model registry would have been told."""

    writes: tuple[str, ...] = ()
    registry: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the report says of it."""
        notes = []
        if self.writes:
            notes.append(f"held back, for a reproduction writes to its own runs only: {_join(self.writes)}")
        if self.registry:
            notes.append(
                f"the script would have {_join(self.registry)}: the registry is left as it was (--allow-registry)"
            )
        return tuple(notes)

    @property
    def tags(self) -> dict[str, str]:
        """The tag that keeps it with the run; none when nothing was held back."""
        if not (self.writes or self.registry):
            return {}
        return {HELD_TAG: json.dumps({"writes": _cut(self.writes), "registry": _cut(self.registry)})}


def read_held(directory: Path) -> Held:
    """What the processes of the relaunch with this work directory noted."""
    ledger = Ledger(str(directory / LEDGER_FILE))
    return Held(writes=_plain(ledger.told("held")), registry=_plain(ledger.told("would")))


def parse_held(text: str) -> Held:
    """The inverse of `Held.tags`, of the tag's value; nothing where the tag is no such value."""
    try:
        stored = json.loads(text or "{}")
        return Held(writes=tuple(map(str, stored["writes"])), registry=tuple(map(str, stored["registry"])))
    except (ValueError, KeyError, TypeError):
        return Held()


def _plain(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(redact_value(text) for text in texts)


def _cut(texts: tuple[str, ...]) -> list[str]:
    more = [f"{len(texts) - _TAGGED} more"] if len(texts) > _TAGGED else []
    return [*texts[:_TAGGED], *more]


def _join(texts: tuple[str, ...]) -> str:
    more = f", and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
