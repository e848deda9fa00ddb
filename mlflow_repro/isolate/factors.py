"""The factors that two runs, or a run and this machine, differ in, each with the changes that put it in place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.code import SEED_NAME, give_argument, read_arguments
from mlflow_repro.explain.evidence import count, shorten
from mlflow_repro.explain.fixes import give_environment_command, give_seed_line, give_variable_lines
from mlflow_repro.explain.surroundings import classify_variable, weigh_package
from mlflow_repro.text.command_line import diff_arguments, value_of
from mlflow_repro.text.pins import VERSION
from mlflow_repro.text.redact import redact_named
from mlflow_repro.text.variables import is_exact, is_recorded, is_restored
from mlflow_repro.text.versions import is_same_release
from mlflow_repro.values.changes import GENERATORS, NO_CHANGES, Changes, merge_changes
from mlflow_repro.values.environment import OURSELVES
from mlflow_repro.values.record import NO_RECORD

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.values.record import Record

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GENERATOR_NAMES = {
    "python": "Python's random",
    "numpy": "numpy's global generator",
    "torch": "torch's generators",
    "entropy": "the entropy of numpy's unseeded generators and of TensorFlow",
}
_WEIGHTS = {"threads": 0.6, "determinism": 0.6, "cpu": 0.6, "locale": 0.25, "time": 0.3, "variable": 0.4}
_GROUPED = ("threads", "locale")  # kinds of variables that are changed together
_OF_THE_LAUNCH = ("MLFLOW_REPRO_SEED", "LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONPATH")
_SINGLE_PACKAGES = 6  # that are factors of their own
_LEAST_WEIGHT = 0.02  # of a package that is one


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
    found = [
        *_parameters(one, other),
        *_code(one, other),
        *_generators(one, other),
        *_variables(one, other),
        *_threads(one, other),
        *_packages(one, other),
        *_python(one, other),
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
        givers = [factor for factor in found if factor.kind == "parameter"]
        same = [factor for factor in givers if _values(factor) == seeds]
        named = [factor for factor in givers if SEED_NAME.search(factor.name)]
        giver = next(iter([*same, *named, *(factor for factor in found if factor.kind == "code")]), None)
        if generator in ("python", "numpy") and seeds[0] != seeds[1] and giver is not None:
            both = merge_changes([giver.changes, state.changes])
            found = [replace(giver, changes=both) if factor is giver else factor for factor in found]
            found.remove(state)
    return found


def _values(factor: Factor) -> list[str | None]:
    """The two values of an argument; those of a launch parameter are not known here any more."""
    return [value_of(side) for change in factor.changes.arguments for side in (change.one, change.other)]


def _parameters(one: Conditions, other: Conditions) -> Iterator[Factor]:
    if other.is_here:
        return
    params = [side.record.launch.params for side in (one, other)]
    if None not in params:
        sides = [side or {} for side in params]
        for name in dict.fromkeys([*sides[0], *sides[1]]):
            values = [side.get(name) for side in sides]
            if values[0] != values[1]:
                yield _parameter(name, values[0], values[1], Changes(params={name: values[1]}))
        return
    words = [read_arguments(side.record.launch.argv) for side in (one, other)]
    if words[0] is None or words[1] is None:
        return
    for change in diff_arguments(words[0], words[1]):
        yield _parameter(change.name, value_of(change.one), value_of(change.other), Changes(arguments=(change,)))


def _parameter(name: str, one: Any, other: Any, changes: Changes) -> Factor:
    shown = name.lstrip("-")
    before, after = ("nothing" if side is None else shorten(redact_named(name, str(side))) for side in (one, other))
    return Factor(
        name=f"parameter {shown}",
        kind="parameter",
        what=f"parameter {shown} {before} -> {after}",
        changes=changes,
        weight=0.95,
        fix=give_argument(name, None if one is None else redact_named(name, str(one))),
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
    return Factor(name=name, kind="code", what=f"{name} ({what})", changes=changes, weight=0.8, fix=fix)


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
        return 0.1
    imported = one.record.environment.imported or ()
    is_idle = all(start.get(generator) == end.get(generator) for start, end in map(_digests, (one, other)))
    return 0.1 if generator == "python" and is_idle and "keras" not in imported else 0.75


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


def _variables(one: Conditions, other: Conditions) -> Iterator[Factor]:
    if other.record.launch.variables is None or one.record.launch.variables is None:
        return
    sides = [one.record.launch.variables, other.record.launch.variables]
    changed: dict[str, dict[str, str | None]] = {}
    for name in sorted({*sides[0], *sides[1]}):
        value = sides[1].get(name)
        if sides[0].get(name) == value or name in _OF_THE_LAUNCH or not is_recorded(name):
            continue
        if not all(is_exact(side.get(name) or "") for side in sides):
            continue
        kind = classify_variable(name)
        group = kind if kind in _GROUPED else name
        changed.setdefault(group, {})[name] = value
    for group, variables in changed.items():
        first = next(iter(variables))
        kind = classify_variable(first)
        texts = [
            f"{name} {_side(name, sides[0].get(name))} -> {_side(name, value)}" for name, value in variables.items()
        ]
        names = {"threads": "number of threads", "locale": "locale"}
        yield Factor(
            name=names.get(group, f"variable {group}"),
            kind=kind,
            what=", ".join(texts),
            changes=Changes(variables=variables),
            weight=_WEIGHTS.get(kind, 0.5),
            fix=give_variable_lines({name: sides[0].get(name) for name in variables}),
            base=Changes(variables={name: sides[0].get(name) for name in variables if not is_restored(name)}),
        )


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
        weight=0.6,
        fix=f"export OMP_NUM_THREADS={counts[0]} OPENBLAS_NUM_THREADS={counts[0]}",
        base=Changes(variables=dict.fromkeys(THREAD_VARIABLES, str(counts[0]))),
    )


def _cores_for(one: Conditions, here: Conditions) -> int | None:
    """The cores that are here, where the reference had a thread for each of its own: so will a launch here."""
    is_default = one.record.machine.cores.available == _blas_threads(one)
    return here.record.machine.cores.available if is_default else None


def _packages(one: Conditions, other: Conditions) -> Iterator[Factor]:
    """The packages that can count, one by one, and all others as one factor; none that neither program uses."""
    sides = [side.record.environment.versions for side in (one, other)]
    if not all(sides):
        return
    used, imported = _find_used(one, other), one.record.environment.imported
    known = used if used is not None else frozenset(imported) if imported is not None else None
    changed = {
        name: sides[1].get(name)
        for name in sorted({*sides[0], *sides[1]} - {OURSELVES, "pip", "setuptools", "wheel", "uv"})
        if sides[0].get(name) != sides[1].get(name) and _is_plain(sides[1].get(name)) and (used is None or name in used)
    }
    weights = {name: weigh_package(name, known) for name in changed}
    ranked = sorted(changed, key=lambda name: (-weights[name], name))
    single = [name for name in ranked if weights[name] > _LEAST_WEIGHT][:_SINGLE_PACKAGES]
    for name in single:
        one_text, other_text = (side.get(name, "nothing") for side in sides)
        yield Factor(
            name=f"package {name}",
            kind="package",
            what=f"{name} {one_text} -> {other_text}",
            changes=Changes(packages={name: changed[name]}),
            weight=weights[name],
            fix=f"pip install {name}=={one_text}" if name in sides[0] else f"pip uninstall {name}",
        )
    rest = {name: changed[name] for name in ranked if name not in single}
    if rest:
        yield Factor(
            name="other packages",
            kind="package",
            what=f"{count(len(rest), 'other package')} ({', '.join(list(rest)[:4])}{', ...' if len(rest) > 4 else ''})",  # noqa: PLR2004
            changes=Changes(packages=rest),
            weight=0.01,
            fix=give_environment_command(one.run_id),
        )


def _find_used(one: Conditions, other: Conditions) -> frozenset[str] | None:
    """The packages that the programs use; None when that is not known of one of them."""
    lists = [side.record.environment.used for side in (one, *(() if other.is_here else (other,)))]
    known = [names for names in lists if names is not None]
    return frozenset().union(*known) if len(known) == len(lists) else None


def _python(one: Conditions, other: Conditions) -> Iterator[Factor]:
    versions = [side.record.environment.python or "" for side in (one, other)]
    if all(versions) and versions[0] != versions[1]:
        is_minor = not is_same_release(versions[0], versions[1], 2)
        yield Factor(
            name="Python",
            kind="python",
            what=f"Python {versions[0]} -> {versions[1]}",
            changes=Changes(python=versions[1]),
            weight=0.3 if is_minor else 0.03,
            fix=give_environment_command(one.run_id),
        )


def _is_plain(version: Any) -> bool:
    return version is None or (isinstance(version, str) and VERSION.fullmatch(version) is not None)


def _blas_threads(side: Conditions) -> int | None:
    libraries = side.record.machine.libraries or ()
    return max((library.threads for library in libraries if library.threads is not None), default=None)


def _side(name: str, value: str | None) -> str:
    return "not set" if value is None else shorten(redact_named(name, value))
