"""What the processes of a relaunch tell each other and the tool: a file of lines, which each of them appends to.

A line is a JSON list, its first word the kind: what a process has made (``made``), which run stands in for which
(``stands``), what was held back (``held``), what the script would have done to the model registry (``would``), the
state of a registered model as the script sees it (``model``), and what it read of the reference (``read``).
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_LINE_LIMIT = 500  # of the same kind that one process writes
_TEXT_LIMIT = 300


@dataclass
class Ledger:
    """The lines that are known so far; asking for one that is not reads on."""

    path: str
    _made: set[tuple[str, str]] = field(default_factory=set)
    _stands: dict[str, str] = field(default_factory=dict)
    _models: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    _told: dict[str, dict[str, None]] = field(default_factory=dict)
    _offset: int = 0

    def add_made(self, kind: str, name: str) -> None:
        """Note that this session has made something: a run, an experiment, a logged model, a trace, a data set."""
        if (kind, name) not in self._made:
            self._write(["made", kind, name])

    def has_made(self, kind: str, name: str) -> bool:
        """True when a process of this session made it."""
        if (kind, name) not in self._made:
            self._read_on()
        return (kind, name) in self._made

    def made_ids(self) -> frozenset[str]:
        """The names of everything that was made."""
        self._read_on()
        return frozenset(name for _, name in self._made)

    def add_stand_in(self, foreign: str, own: str) -> None:
        """Note that the run ``own`` of this session is what the script takes for the run ``foreign``."""
        self._write(["stands", foreign, own])

    def find_stand_in(self, foreign: str) -> str:
        """The run of this session that stands in for ``foreign``; empty when none does."""
        if foreign not in self._stands:
            self._read_on()
        return self._stands.get(foreign, "")

    def write_model(self, name: str, state: dict[str, Any] | None) -> None:
        """Keep what the script has made of a registered model; None for one that it deleted."""
        self._write(["model", name, state])

    def read_models(self) -> dict[str, dict[str, Any] | None]:
        """The registered models that the script has changed, as it sees them."""
        self._read_on()
        return self._models

    def tell(self, kind: str, text: str) -> None:
        """Note ``text`` for the report, once."""
        told = self._told.setdefault(kind, {})
        if len(told) < _LINE_LIMIT and text not in told:
            self._write([kind, text[:_TEXT_LIMIT]])

    def told(self, kind: str) -> tuple[str, ...]:
        """What was noted under ``kind``, in its order."""
        self._read_on()
        return tuple(self._told.get(kind, ()))

    def _write(self, line: list[Any]) -> None:
        self._take(line)
        data = json.dumps(line, default=str).encode() + b"\n"
        with suppress(OSError):  # a full disk: then other processes hold back what is this session's, too
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, data)  # in one call, so that lines of several processes do not mix
            finally:
                os.close(descriptor)

    def _read_on(self) -> None:
        with suppress(OSError):
            if os.stat(self.path).st_size <= self._offset:
                return
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
            for row in whole.splitlines():
                with suppress(ValueError):
                    self._take(json.loads(row))
            self._offset += len(whole) + 1 if whole else 0

    def _take(self, line: list[Any]) -> None:
        kind, *rest = line
        if kind == "made":
            self._made.add((rest[0], rest[1]))
        elif kind == "stands":
            self._stands.setdefault(rest[0], rest[1])
        elif kind == "model":
            self._models[rest[0]] = rest[1]
        else:
            self._told.setdefault(kind, {})[rest[0]] = None
