"""What the processes of a relaunch are told of it, by an environment variable."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_repro.overlay.ledger import Ledger
from mlflow_repro.text.variables import DESTINATION_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Session:
    """One relaunch, as its processes know it.

    ``run_id`` is the run that was made for it, ``reference`` holds the ids of the runs that it reproduces, and
    ``place`` is the work directory, which goes when it is over. ``began`` is when the reference began, ``launched``
    when the relaunch did, in seconds since 1970.
    """

    ledger: Ledger
    run_id: str = ""
    place: str = ""
    reference: frozenset[str] = field(default_factory=frozenset)
    allow_registry: bool = False
    began: float = 0.0
    launched: float = 0.0

    def owns(self, kind: str, name: str) -> bool:
        """True for what belongs to this relaunch, such as one of its runs."""
        return bool(name) and ((kind == "run" and name == self.run_id) or self.ledger.has_made(kind, name))

    def find_own_run(self, run_id: str) -> str:
        """The run itself when it is of this relaunch, else the one that stands in for it; empty when none does."""
        return run_id if self.owns("run", run_id) else self.ledger.find_stand_in(run_id)

    def has_id(self, words: frozenset[str]) -> bool:
        """True when one of the words is the id of something of this relaunch."""
        return bool(words & {self.run_id}) or not words.isdisjoint(self.ledger.made_ids())


def read_session(environ: Mapping[str, str]) -> Session | None:
    """The relaunch that this process is a part of; None when it is part of none, or its launcher keeps no ledger."""
    told = json.loads(environ.get(DESTINATION_VARIABLE) or "{}")
    if not told.get("ledger"):
        return None
    return Session(
        ledger=Ledger(told["ledger"]),
        run_id=told.get("run_id", ""),
        place=os.path.dirname(told["ledger"]),
        reference=frozenset(told.get("reference", ())),
        allow_registry=bool(told.get("allow_registry")),
        began=float(told.get("began", 0)),
        launched=float(told.get("launched", 0)),
    )


@functools.cache
def current_session() -> Session | None:
    """The relaunch that this process is a part of."""
    return read_session(os.environ)
