"""Traces of random states, step by step: where the generators of two runs part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.evidence import Divergence

if TYPE_CHECKING:
    from collections.abc import Mapping


def compare_traces(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Divergence, ...]:
    """The first step at which each generator's state differs, the earliest first.

    A trace is what ``repro/rng_trace.json`` holds: ``steps``, a digest of each generator by step. Steps that only one
    run has are left out.
    """
    found = []
    here, there = one.get("steps", {}), other.get("steps", {})
    steps = sorted((step for step in here if step in there), key=int)
    for generator in sorted({name for step in steps for name in (*here[step], *there[step])}):
        before = None
        for step in steps:
            if here[step].get(generator) != there[step].get(generator):
                found.append(Divergence(generator=generator, step=int(step), before=before))
                break
            before = int(step)
    return tuple(sorted(found, key=lambda divergence: divergence.step))
