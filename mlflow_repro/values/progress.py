"""What is known of a reproduction while it goes on: values that are handed to whoever shows or judges them."""

from __future__ import annotations

from dataclasses import dataclass

FETCHING = "fetching the code"
BUILDING = "making the environment"
RUNNING = "running"
COMPARING = "comparing"
DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """The latest point of a metric, and what the reference had at that step (None: it had none there)."""

    name: str
    step: int
    value: float
    reference: float | None = None


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is being done. ``expected`` is how long it took the reference, in seconds, 0 when that is not known.

    ``repeat`` numbers the relaunch (from 1) where there are several, ``repeats`` of them; 0 where there is one.
    """

    phase: str
    expected: float = 0.0
    arrivals: tuple[Arrival, ...] = ()
    repeat: int = 0
    repeats: int = 0


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """The first step at which a judged metric left the tolerance, the values there, and how many points were equal.

    ``elapsed`` is how long the reproduction had been running by then, in seconds.
    """

    name: str
    step: int
    reference: float
    reproduction: float
    points: int = 0
    elapsed: float = 0.0
