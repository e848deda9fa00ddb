"""The parts of the record that a run makes of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a run's ``repro/record.json``, and the bulk files that belong to it.

    ``facts`` is plain JSON (`dict`, `list`, `str`, `int`, `float`, `bool`); a fact that could not be had is
    ``{"absent": reason}`` (`missing`). ``files`` are bytes by their path below the artifact folder ``repro/``.
    """

    facts: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)


def missing(reason: str) -> dict[str, str]:
    """What stands in a `Section` in place of a fact that could not be had."""
    return {"absent": reason}
