"""Suspects in what is drawn: seeds, generators that nobody seeded, traces of their states, and the order of sets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.differences import ARGUMENTS, PARAMS, VARIABLES, WEIGHTS
from mlflow_repro.explain.evidence import Divergence, Suspect
from mlflow_repro.explain.fixes import give_seed_line
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.text.listing import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.explain.evidence import Evidence

    _Digests = tuple[Mapping[str, str] | None, Mapping[str, str] | None]

_STEP = re.compile(r"-?\d{1,19}", re.ASCII)
_LONGEST_SEED = 20  # digits of a seed that a line repeats
_NAMES = {
    "python": "Python's random",
    "numpy": "numpy's global generator",
    "torch": "torch",
    "tensorflow": "TensorFlow",
}
_SWITCH = "MLFLOW_REPRO_SEED"
_SWITCH_ON = f"unset {_SWITCH}, and make the reference again"
_TRACED = {
    **_NAMES,
    "entropy": "generators without a seed",
    "keras": "Keras' global generator",
    "keras layers": "Keras' layers (dropout, noise)",
}


def suspect_seeds(evidence: Evidence) -> Iterator[Suspect]:
    """A generator was seeded with another value; of a seed that no parameter gave, that is the clock's doing or so."""
    given = {one.values for one in evidence.differences(PARAMS, ARGUMENTS) if one.kind == "seed"}
    for generator, (one, other) in _seeds_of(evidence).items():
        if one is None or other is None or one == other or _is_given(one, other, given):
            continue
        where = _places(evidence, generator)
        facts = [f"{_NAMES[generator]} was seeded with {shorten(one)} and {shorten(other)}", *where]
        yield Suspect(
            kind="seed",
            what=f"the seed of {_NAMES[generator]}: {shorten(one)} -> {shorten(other)}",
            weight=0.85,
            evidence=tuple(facts),
            fix=give_seed_line(generator, evidence.imported, one if len(one) < _LONGEST_SEED else "0"),
        )


def suspect_generators(evidence: Evidence) -> Iterator[Suspect]:
    """A generator that drew numbers began in another state, and nobody had seeded it."""
    starts, ends = _list_digests(evidence)
    seeds = _seeds_of(evidence)
    used = {name: _was_used(name, starts, ends) for name in ("python", "numpy", "torch")}
    for generator, is_used in used.items():
        one, other = ((side or {}).get(generator) for side in starts)
        last = seeds.get(generator, (None, None))
        if evidence.traces is not None and not any(row.generator == generator for row in evidence.traces):
            continue  # its states are the same at each step
        if (
            not is_used
            or None in (one, other)
            or one == other
            or (last[0] is not None and last[0] == last[1])
            or all(last)
        ):
            continue
        is_one_sided = any(last)
        facts = [
            f"the state of {_NAMES[generator]} when the run started: {shorten(one)} and {shorten(other)}",
            f"it drew numbers during the run, and {'one run' if is_one_sided else 'neither run'} had seeded it",
            *_since(evidence, generator),
        ]
        yield Suspect(
            kind="random_state",
            what=f"{_NAMES[generator]} is not seeded",
            weight=WEIGHTS["state"],
            evidence=tuple(facts),
            fix=give_seed_line(generator, evidence.imported),
        )
    yield from _suspect_early_draws(evidence)
    yield from _suspect_entropy(evidence)
    yield from _suspect_torch(evidence, seeds)
    yield from _suspect_unrepeatable(evidence)


def _suspect_early_draws(evidence: Evidence) -> Iterator[Suspect]:
    """An unseeded generator drew before mlflow was imported: those numbers are not recorded and do not come back."""
    for generator in dict.fromkeys(name for record in evidence.records for name in record.seeds.drew_early):
        yield Suspect(
            kind="random_state",
            what=f"{_NAMES.get(generator, generator)} is not seeded and drew before mlflow was imported",
            weight=0.6,
            evidence=("what is drawn before `import mlflow` is not recorded, and does not come back",),
            fix="import mlflow before anything draws, or set a seed",
        )


def suspect_traces(evidence: Evidence) -> Iterator[Suspect]:
    """Generators whose traced states agree at first and part later: somebody drew more, or seeded anew."""
    step = find_shape(evidence.comparison).step
    for divergence in evidence.traces or ():
        is_before = step is None or divergence.step <= step
        if divergence.before is None or not is_before:
            continue
        name = _TRACED.get(divergence.generator, divergence.generator)
        yield Suspect(
            kind="random_state",
            what=f"the draws of {name} differ from step {divergence.step} on",
            weight=0.9,
            evidence=(f"up to step {divergence.before} its states are the same in both runs", *evidence.between),
            fix=f"look at what draws between steps {divergence.before} and {divergence.step}",
        )


def suspect_switched_off(evidence: Evidence) -> Iterator[Suspect]:
    """A random state that was not recorded, or not put back, on purpose: what sets no seed differs for certain."""
    text, fix = _find_switch(evidence)
    if not text:
        return
    users = _unseeded_users(evidence)
    if users is not None and not users:  # everything that drew was seeded
        return
    drew = (
        f"no seed was set for {', '.join(users)}" if users else "whether everything that draws is seeded is not known"
    )
    yield Suspect(
        kind="random_state", what=text, weight=0.6, evidence=(drew,), fix=fix, is_first=bool(users)
    )  # fmt: skip


def _find_switch(evidence: Evidence) -> tuple[str, str]:
    """What was switched off and how to switch it on; empty where nothing was."""
    for caveat in evidence.caveats:
        if "random state" in caveat and "not put back" in caveat and "on this machine only" not in caveat:
            is_recorded = "was not recorded" not in caveat
            fix = "leave --no-restore-rng out" if is_recorded else _SWITCH_ON
            return caveat.partition(":")[0], fix
        if "everything is seeded with" in caveat:
            return caveat.partition(":")[0], "leave --seed out"
    modes = evidence.both(lambda record: record.seeds.mode)
    sides = [name for name, mode in zip(("reference", "reproduction"), modes, strict=True) if mode == "off"]
    if not sides:
        return "", ""
    return f"the random state of the {' and the '.join(sides)} was not recorded: {_SWITCH} was off", _SWITCH_ON


def _unseeded_users(evidence: Evidence) -> list[str] | None:
    """The generators that drew and were not seeded; None where that is not known."""
    starts, ends = _list_digests(evidence)
    if not any(starts) or not any(ends):
        return None
    seeds = _seeds_of(evidence)
    found = [_NAMES[name] for name in ("python", "numpy") if not all(seeds[name]) and _was_used(name, starts, ends)]
    asked = [record.seeds.entropy.asked or 0 for record in evidence.records]
    users = {user for record in evidence.records for user in record.seeds.entropy.users}
    found += ["generators that are made without a seed"] if any(asked) or evidence.places("unseeded") else []
    used = evidence.imported or frozenset()
    found += ["torch"] if "torch" in used and not all(seeds["torch"]) else []
    is_tensorflow = "tensorflow" in users or any(name.split("-")[0] == "tensorflow" for name in used)
    found += ["TensorFlow"] if is_tensorflow and not all(seeds["tensorflow"]) else []
    return found or (None if evidence.imported is None else [])


def suspect_hash_seed(evidence: Evidence) -> Iterator[Suspect]:
    """The order of sets of texts: two values of PYTHONHASHSEED, or none, which is another one in each process."""
    rows = [row for row in evidence.differences(VARIABLES) if row.kind == "hash_seed"]
    places = evidence.places("hash_seed")
    if rows and not _is_late(evidence):
        one, other = (shorten(side) for side in rows[0].values)
        yield Suspect(
            kind="hash_seed",
            what=f"PYTHONHASHSEED: {one} -> {other}, which decides the order of sets of texts",
            weight=0.75 if places else rows[0].weight,
            evidence=(f"PYTHONHASHSEED is {one} in the reference, {other} in the reproduction", *places),
            fix=f"export PYTHONHASHSEED={rows[0].before or 0}",
        )
        return
    if (_has_fixed_hashes(evidence) and not _is_late(evidence)) or not any(evidence.records):
        return
    late = "PYTHONHASHSEED was set inside the program, when Python had chosen its own"
    unset = f"PYTHONHASHSEED was not set{' in either run' if evidence.has_records else ''}"
    yield Suspect(
        kind="hash_seed",
        what="the order of sets of texts, which is another one in each process",
        weight=0.5 if places else 0.15 if _is_late(evidence) else 0.02,
        evidence=(late if _is_late(evidence) else unset, *places),
        fix="export PYTHONHASHSEED=0 before Python starts, or iterate over sorted(...) of the set",
    )


def _is_late(evidence: Evidence) -> bool:
    """True when a program set PYTHONHASHSEED that Python had not got; in older records it is among the variables."""
    values = [(record.launch.variables or {}).get("PYTHONHASHSEED") for record in evidence.records]
    is_later = ["PYTHONHASHSEED" in (record.launch.set_later or {}) for record in evidence.records]
    pythons = evidence.both(lambda record: record.environment.interpreter)
    is_random = [python is not None and python.flags.get("hash_randomization") == 1 for python in pythons]
    return any(
        (is_set and value in (None, "random")) or (value == "0" and is_unheeded)
        for value, is_set, is_unheeded in zip(values, is_later, is_random, strict=True)
    )


def _is_given(one: str, other: str, given: set[tuple[str | None, str | None]]) -> bool:
    """True when a parameter that differs explains the two seeds; one that is not there has the default."""
    return any(before in (None, one) and after in (None, other) for before, after in given)


def _has_fixed_hashes(evidence: Evidence) -> bool:
    known = [side for side in evidence.both(lambda record: record.launch.variables) if side is not None]
    values = [side.get("PYTHONHASHSEED") for side in known]
    return bool(values) and all(value not in (None, "random") for value in values)


def _suspect_entropy(evidence: Evidence) -> Iterator[Suspect]:
    """What asks the operating system for entropy, which the plugin gives from a recorded root."""
    roots = evidence.both(lambda record: record.seeds.entropy.root)
    if roots[0] == roots[1] or None in roots:
        return
    drawn = [record.seeds.entropy.asked or 0 for record in evidence.records]
    users = {user for record in evidence.records for user in record.seeds.entropy.users}
    if any(drawn):
        yield Suspect(
            kind="random_state",
            what="numpy generators are made without a seed (default_rng() or SeedSequence())",
            weight=WEIGHTS["entropy"],
            evidence=(f"they asked for entropy {drawn[0]} times in the reference, {drawn[1]} in the reproduction",),
            fix=give_seed_line("entropy", evidence.imported),
        )
    if "tensorflow" in users:
        yield Suspect(
            kind="random_state",
            what="TensorFlow draws without a seed (shuffling, dropout or initial weights)",
            weight=0.7,
            evidence=("its operations took their seeds from the process's entropy, which differs",),
            fix=give_seed_line("tensorflow", evidence.imported),
        )


def _suspect_torch(evidence: Evidence, seeds: Mapping[str, tuple[Any, Any]]) -> Iterator[Suspect]:
    row = evidence.changed("seeds", "assigned.").get("torch")
    if row is not None and not all(seeds.get("torch", (None, None))):
        yield Suspect(
            kind="random_state",
            what="torch is not seeded",
            weight=0.6,
            evidence=("neither run had seeded it; what it began with differs",),
            fix=give_seed_line("torch", evidence.imported),
        )


def _suspect_unrepeatable(evidence: Evidence) -> Iterator[Suspect]:
    draws = [draw for record in evidence.records for draw in record.seeds.not_repeatable]
    if draws:
        yield Suspect(
            kind="random_state",
            what="TensorFlow draws inside a function without a seed, which nobody can put back",
            weight=0.7,
            evidence=tuple(f"not repeatable: {draw}" for draw in dict.fromkeys(draws))[:3],
            fix=give_seed_line("tensorflow", evidence.imported),
        )


def _seeds_of(evidence: Evidence) -> dict[str, tuple[Any, Any]]:
    """The last seed of each generator on both sides; None where it has none."""
    found = {}
    for generator in _NAMES:
        runs = evidence.reference, evidence.reproduction
        if evidence.has_records:
            one, other = (record.seeds.last_of(generator) for record in evidence.records)
        else:
            one, other = (run.fact(f"seed.{generator}").value for run in runs)
        found[generator] = (one, other)
    return found


def _list_digests(evidence: Evidence) -> tuple[_Digests, _Digests]:
    """The digests of the generators' states on both sides: when the runs started, and when they ended."""
    starts = evidence.both(lambda record: record.seeds.digests.start)
    return starts, evidence.both(lambda record: record.seeds.digests.end)


def _was_used(generator: str, starts: _Digests, ends: _Digests) -> bool:
    """True when it drew during either run; what a generator that was not loaded at the start drew is not known."""
    pairs = [
        ((start or {}).get(generator), (end or {}).get(generator)) for start, end in zip(starts, ends, strict=True)
    ]
    return any(end is not None and start != end for start, end in pairs)


def _places(evidence: Evidence, generator: str) -> list[str]:
    """Where in the program the seeding was called."""
    places = []
    for side, record in zip(("reference", "reproduction"), evidence.records, strict=True):
        own = [call.where for call in record.seeds.calls if call.generator == generator and call.where]
        if own:
            places.append(f"in the {side} by {own[-1].rpartition('/')[2]}")
    return places


def _since(evidence: Evidence, generator: str) -> list[str]:
    for divergence in evidence.traces or ():
        if divergence.generator == generator:
            before = "" if divergence.before is None else f"; up to step {divergence.before} they are the same"
            return [f"its states differ from step {divergence.step} on{before}"]
    return []


def is_trace(plain: Mapping[str, Any]) -> bool:
    """True for what `compare_traces` takes."""
    steps = plain.get("steps", {})
    return isinstance(steps, dict) and all(
        _STEP.fullmatch(step) and isinstance(digests, dict) for step, digests in steps.items()
    )


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
