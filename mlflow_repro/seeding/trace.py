"""Digests of the random states by step, taken when a metric is logged: they tell from which step on draws differ.

Opt-in, as it costs a fraction of a millisecond a step. Nothing is drawn and nothing is changed.
"""

from __future__ import annotations

import functools
import gc
import json
import threading
import weakref
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.checkpoint import take_sections
from mlflow_repro.seeding.entropy import process_entropy
from mlflow_repro.seeding.libraries import find_namespace
from mlflow_repro.seeding.log import shorten_digest
from mlflow_repro.system.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable

TRACE_SCHEMA = 1
STEP_LIMIT = 20_000
"""Steps of a run that are traced; what comes after is counted."""
_MARK = "_mlflow_repro_traced"
_KERAS_GENERATORS = "keras.src.random.seed_generator"


class RngTrace:
    """The digests of each run of this process, by step."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[int, dict[str, str]]] = {}
        self._left_out: dict[str, int] = {}
        self._layers: weakref.WeakSet[Any] | None = None
        self._lock = threading.Lock()

    def note(self, run_id: str, steps: Iterable[int]) -> None:
        """A metric of ``run_id`` is about to be logged at ``steps``: digest what is new. Raises nothing."""
        with harmless(), self._lock:
            known = self._steps.setdefault(run_id, {})
            new = [step for step in dict.fromkeys(steps) if step not in known]
            if not new:
                return
            if len(known) + len(new) > STEP_LIMIT:
                self._left_out[run_id] = self._left_out.get(run_id, 0) + len(new)
                return
            digests = self._digest()
            known.update(dict.fromkeys(new, digests))

    def take(self, run_id: str) -> dict[str, Any] | None:
        """The trace of a run that has ended, as plain values; None when nothing was noted."""
        with self._lock:
            steps, left_out = self._steps.pop(run_id, None), self._left_out.pop(run_id, 0)
        if not steps:
            return None
        by_step = {str(step): steps[step] for step in sorted(steps)}
        return {"schema": TRACE_SCHEMA, "steps": by_step, "steps_left_out": left_out}

    def _digest(self) -> dict[str, str]:
        sections = take_sections()
        entropy = sections.get("entropy")
        used = process_entropy()
        if entropy is not None and not (used and used.asked):
            del sections["entropy"]  # two processes differ in the root that none of their numbers came from
        layers = self._read_layers()
        if layers:
            sections["keras layers"] = {"states": layers}
        return {
            name: shorten_digest(json.dumps(section, sort_keys=True).encode()) for name, section in sections.items()
        }

    def _read_layers(self) -> list[list[int]]:
        """The states of the seed generators that Keras' layers (dropout, noise) have made, in a fixed order."""
        namespace = find_namespace(_KERAS_GENERATORS)
        if namespace is None:
            return []
        if self._layers is None:
            self._layers = _watch_layers(namespace["SeedGenerator"])
        states = []
        for generator in list(self._layers):
            with harmless():
                states.append([int(number) for number in generator.state.numpy()])
        return sorted(states)


def _watch_layers(kind: Any) -> weakref.WeakSet[Any]:
    """All seed generators that there are, and those that are made from now on."""
    found: weakref.WeakSet[Any] = weakref.WeakSet(one for one in gc.get_objects() if type(one) is kind)
    original = kind.__init__
    if not getattr(original, _MARK, False):

        @functools.wraps(original)
        def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807 - it is that method
            original(self, *arguments, **options)
            with harmless():
                found.add(self)

        setattr(__init__, _MARK, True)
        kind.__init__ = __init__
    return found
