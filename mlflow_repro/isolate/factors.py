"""The factors that two runs, or a run and this machine, differ in, each with the changes that put it in place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.differences import (
    ARGUMENTS,
    PACKAGES,
    PARAMS,
    PYTHON,
    VARIABLES,
    WEIGHTS,
    list_differences,
)
from mlflow_repro.explain.fixes import give_environment_command, give_seed_line, give_variable_lines
from mlflow_repro.isolate.changes import GENERATORS, NO_CHANGES, Changes, merge_changes
from mlflow_repro.text.command_line import value_of
from mlflow_repro.text.listing import count
from mlflow_repro.text.pins import VERSION
from mlflow_repro.text.variables import is_exact, is_recorded, is_restored
from mlflow_repro.values.environment import OURSELVES
from mlflow_repro.values.record import NO_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlflow_repro.explain.differences import Difference
    from mlflow_repro.values.record import Record

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GENERATOR_NAMES = {
    "python": "Python's random",
    "numpy": "numpy's global generator",
    "torch": "torch's generators",
    "entropy": "the entropy of numpy's unseeded generators and of TensorFlow",
}
_GROUPED = {"threads": "number of threads", "locale": "locale"}  # kinds of variables that are changed together
_OF_THE_LAUNCH = ("MLFLOW_REPRO_SEED", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH")
_SINGLE_PACKAGES = 6  # that are factors of their own
_SHOWN = 4  # of the others
_INSTALLERS = (OURSELVES, "pip", "setuptools", "wheel", "uv")


@dataclass(frozen=True, kw_only=True)
class Factor:
    """One thing that can be changed for itself. ``name`` is short and unique, ``what`` says from what to what.

    ``weight``: how likely it changes results, by which factors are tried in turn. ``base`` is what a launch as recorded
    needs beside what each relaunch puts back, for the reference's side of it: a variable that is about one machine.
    """

    name: str
    kind: str
    what: str
    changes: Changes
    weight: float
    fix: str = ""
    base: Changes = NO_CHANGES


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a run was made under: its own record and its stored random state, empty where there is none.

    ``store`` is the tracking URI of the store that it is in.

    ``is_here``: not a run, but this machine as it is now, where nothing is restored.
    """

    run_id: str = ""
    store: str = ""
    record: Record = NO_RECORD
    random_state: Mapping[str, Any] = field(default_factory=dict)
    is_here: bool = False


def list_factors(one: Conditions, other: Conditions) -> tuple[Factor, ...]:
    """What differs between two conditions and can be changed alone, the likeliest to matter first."""
    differences = list_differences(one.record, other.record, one.run_id)
    found = [
        *_parameters(differences),
        *_code(one, other),
        *_generators(one, other),
        *_variables(differences),
        *_threads(one, other),
        *_packages(differences, one, other),
        *_python(differences),
    ]
    return tuple(sorted(_attach_states(found, one, other), key=lambda factor: -factor.weight))


def _attach_states(found: list[Factor], one: Conditions, other: Conditions) -> list[Factor]:
    """The factors with the random state of a generator that the program seeds made a part of what gives the seed.

    A relaunch puts back the state with which a run started, so another seed alone would be overruled: the state that it
    led to goes with it. That is the argument of the same two values, else one that is called a seed, else the code.
    """
    states = {factor.changes.generators[0]: factor for factor in found if factor.kind == "random_state"}
    for generator, state in states.items():
        seeds = [side.record.seeds.last_of(generator) for side in (one, other)]
        givers = [factor for factor in found if factor.kind in ("parameter", "seed")]
        same = [factor for factor in givers if _values(factor) == seeds]
        named = [factor for factor in givers if factor.kind == "seed"]
        giver = next(iter([*same, *named, *(factor for factor in found if factor.kind == "code")]), None)
        if generator in ("python", "numpy") and seeds[0] != seeds[1] and giver is not None:
            both = merge_changes([giver.changes, state.changes])
            found = [replace(giver, changes=both) if factor is giver else factor for factor in found]
            found.remove(state)
    return found


def _values(factor: Factor) -> list[str | None]:
    """The two values of an argument; those of a launch parameter are not known here any more."""
    return [value_of(side) for change in factor.changes.arguments for side in (change.one, change.other)]


def _parameters(differences: Sequence[Difference]) -> Iterator[Factor]:
    for one in differences:
        if one.place in (PARAMS, ARGUMENTS):
            shown = one.name.lstrip("-")
            changes = Changes(arguments=(one.words,)) if one.words else Changes(params={one.name: one.after})
            yield _factor([one], f"parameter {shown}", changes, f"parameter {shown} {' -> '.join(one.shown)}")


def _factor(parts: Sequence[Difference], name: str, changes: Changes, what: str = "") -> Factor:
    """The factor that differences of one kind are, with what puts all of them in place."""
    first = parts[0]
    texts = [f"{one.name} {' -> '.join(one.shown)}" for one in parts]
    return Factor(
        name=name, kind=first.kind, what=what or ", ".join(texts), changes=changes, weight=first.weight, fix=first.fix
    )


def _code(one: Conditions, other: Conditions) -> Iterator[Factor]:
    codes = [side.record.code for side in (one, other)]
    has_patch = any(part and part.file for part in (codes[0].patch, codes[0].untracked))
    if other.is_here:
        if has_patch:
            yield _code_factor("the uncommitted changes", "left out", Changes(without_patch=True))
        return
    trees = [code.tree for code in codes]
    if not all(isinstance(tree, str) for tree in trees) or trees[0] == trees[1]:
        return
    store = "" if other.store == one.store else other.store
    changes = Changes(code=codes[1], code_run=other.run_id, code_store=store)
    commits = [str(code.commit)[:12] for code in codes]
    if commits[0] != commits[1]:
        yield _code_factor("the code", f"commit {commits[0]} -> {commits[1]}", changes)
    else:
        yield _code_factor("the uncommitted changes", f"those on commit {commits[0]} differ", changes)


def _code_factor(name: str, what: str, changes: Changes) -> Factor:
    fix = "mlflow-repro explain names the files; commit before a run"
    return Factor(name=name, kind="code", what=f"{name} ({what})", changes=changes, weight=WEIGHTS["code"], fix=fix)


def _generators(one: Conditions, other: Conditions) -> Iterator[Factor]:
    """The random state of each generator that drew numbers and began in another state."""
    if not one.random_state or not (other.random_state or other.is_here):
        return
    known = one.record.environment.imported
    users = [user for side in (one, other) for user in side.record.seeds.entropy.users]
    for generator in GENERATORS:
        is_tensorflow = generator == "entropy" and "tensorflow" in users
        if _is_used(generator, one, other) and _starts(generator, one) != _starts(generator, other):
            yield Factor(
                name=f"random state of {generator}",
                kind="random_state",
                what=f"the random state of {_GENERATOR_NAMES[generator]}",
                changes=Changes(generators=(generator,), random_state=other.random_state),
                weight=_weigh_generator(generator, one, other),
                fix=give_seed_line("tensorflow" if is_tensorflow else generator, known),
            )


def _is_used(generator: str, *sides: Conditions) -> bool:
    if generator == "entropy":
        return any(side.record.seeds.entropy.asked or "tensorflow" in side.record.seeds.entropy.users for side in sides)
    for side in sides:
        start, end = _digests(side)
        if end.get(generator) not in (None, start.get(generator)):
            return True
    return sides[0].record.seeds.last_of(generator) is None and any(_drew_before(generator, side) for side in sides)


def _digests(side: Conditions) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The digests of the generators' states when the run started, and when it ended."""
    digests = side.record.seeds.digests
    return digests.start or {}, digests.end or {}


def _drew_before(generator: str, side: Conditions) -> bool:
    """True when it drew before the run began, as Keras does for the seeds of layers that are made by then."""
    states = side.random_state.get("states", {})
    early, late = (states.get(moment, {}).get(generator) for moment in ("import", "run"))
    return None not in (early, late) and early != late


def _weigh_generator(generator: str, one: Conditions, other: Conditions) -> float:
    """How likely the generator's state changes results.

    Where it is the same when the run starts, it was seeded before, and only what was drawn earlier can differ. Python's
    draws before a run are most often those of libraries that are imported; Keras' are not.
    """
    if _is_same_at_run(generator, one, other):
        return WEIGHTS["idle state"]
    imported = one.record.environment.imported or ()
    is_idle = all(start.get(generator) == end.get(generator) for start, end in map(_digests, (one, other)))
    is_of_imports = generator == "python" and is_idle and "keras" not in imported
    return WEIGHTS["entropy" if generator == "entropy" else "idle state" if is_of_imports else "state"]


def _starts(generator: str, side: Conditions) -> Any:
    if side.is_here:
        return None
    if generator == "entropy":
        return side.random_state.get("root")
    assigned = side.random_state.get("assigned", {}).get("torch")
    if generator == "torch" and assigned is not None:  # by a version that gave unseeded torch a seed
        return assigned
    return [taken.get(generator) for taken in side.random_state.get("states", {}).values()]


def _is_same_at_run(generator: str, *sides: Conditions) -> bool:
    if generator not in ("python", "numpy", "torch"):
        return False
    one, other = (side.random_state.get("states", {}).get("run", {}).get(generator) for side in sides)
    return one is not None and one == other


def _variables(differences: Sequence[Difference]) -> Iterator[Factor]:
    groups: dict[str, list[Difference]] = {}
    for one in differences:
        is_whole = all(is_exact(side or "") for side in one.values)
        if one.place == VARIABLES and one.name not in _OF_THE_LAUNCH and is_recorded(one.name) and is_whole:
            groups.setdefault(_GROUPED.get(one.kind, f"variable {one.name}"), []).append(one)
    for name, parts in groups.items():
        before = {one.name: one.before for one in parts}
        found = _factor(parts, name, Changes(variables={one.name: one.after for one in parts}))
        base = {name: value for name, value in before.items() if not is_restored(name)}
        yield replace(found, fix=give_variable_lines(before), base=Changes(variables=base))


def _threads(one: Conditions, other: Conditions) -> Iterator[Factor]:
    """The number of threads that BLAS used, where no variable says it."""
    counts = [_blas_threads(one), _cores_for(one, other) if other.is_here else _blas_threads(other)]
    variables = [side.record.launch.variables or {} for side in (one, other)]
    is_said = any(name in side for side in variables for name in THREAD_VARIABLES)
    if None in counts or counts[0] == counts[1] or is_said:
        return
    changes = Changes(variables=dict.fromkeys(THREAD_VARIABLES, str(counts[1])))
    yield Factor(
        name="number of threads",
        kind="threads",
        what=f"{counts[0]} -> {counts[1]} threads",
        changes=changes,
        weight=WEIGHTS["threads"],
        fix=f"export OMP_NUM_THREADS={counts[0]} OPENBLAS_NUM_THREADS={counts[0]}",
        base=Changes(variables=dict.fromkeys(THREAD_VARIABLES, str(counts[0]))),
    )


def _cores_for(one: Conditions, here: Conditions) -> int | None:
    """The cores that are here, where the reference had a thread for each of its own: so will a launch here."""
    is_default = one.record.machine.cores.available == _blas_threads(one)
    return here.record.machine.cores.available if is_default else None


def _packages(differences: Sequence[Difference], one: Conditions, other: Conditions) -> Iterator[Factor]:
    """The packages that can count, one by one, and all others as one factor; none that neither program uses."""
    used = _find_used(one, other)
    found = [
        package
        for package in differences
        if package.place == PACKAGES and package.name not in _INSTALLERS and _is_plain(package.after)
        if used is None or package.name in used
    ]
    ranked = sorted(found, key=lambda package: -package.weight)
    single = [package for package in ranked if package.weight > WEIGHTS["other packages"]][:_SINGLE_PACKAGES]
    for package in single:
        yield _factor([package], f"package {package.name}", Changes(packages={package.name: package.after}))
    rest = {package.name: package.after for package in ranked if package not in single}
    shown = ", ".join(list(rest)[:_SHOWN])
    if rest:
        yield Factor(
            name="other packages",
            kind="package",
            what=f"{count(len(rest), 'other package')} ({shown}{', ...' if len(rest) > _SHOWN else ''})",
            changes=Changes(packages=rest),
            weight=WEIGHTS["other packages"],
            fix=give_environment_command(one.run_id),
        )


def _find_used(one: Conditions, other: Conditions) -> frozenset[str] | None:
    """The packages that the programs use; None when that is not known of one of them."""
    lists = [side.record.environment.used for side in (one, *(() if other.is_here else (other,)))]
    known = [names for names in lists if names is not None]
    return frozenset().union(*known) if len(known) == len(lists) else None


def _python(differences: Sequence[Difference]) -> Iterator[Factor]:
    for one in differences:
        if one.place == PYTHON:
            yield _factor([one], one.name, Changes(python=str(one.after)))


def _is_plain(version: Any) -> bool:
    return version is None or (isinstance(version, str) and VERSION.fullmatch(version) is not None)


def _blas_threads(side: Conditions) -> int | None:
    libraries = side.record.machine.libraries or ()
    return max((library.threads for library in libraries if library.threads is not None), default=None)
