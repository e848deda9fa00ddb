"""Suspects around the program: packages, Python, environment variables, numerical libraries, the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.explain.differences import PACKAGES, VARIABLES, WEIGHTS, list_python
from mlflow_repro.explain.evidence import Suspect
from mlflow_repro.explain.files import is_temporary
from mlflow_repro.explain.fixes import give_determinism_line, give_environment_command, give_switch_line
from mlflow_repro.text.listing import count, shorten
from mlflow_repro.values.environment import OURSELVES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.differences import Difference
    from mlflow_repro.explain.evidence import Evidence
    from mlflow_repro.values.comparison import Finding
    from mlflow_repro.values.sections import Library

_SHOWN = 8  # packages
_UNREAD = {"locale": 0.03, "time": 0.03, "variable": 0.2}  # where the lines of the program do not ask for it
_LIBRARY_FACTS = (("version", "blas"), ("architecture", "cpu"), ("threads", "threads"))
_NO_SWITCHES = ("version", "git_version", "compiler")
_FLAG_WEIGHT = 0.3
_FLAGS = 6  # that are shown
_SEARCH_PATH = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE")


def suspect_packages(evidence: Evidence) -> Iterator[Suspect]:
    """Packages with other versions: each that can count, and one line for those that hardly can.

    What the program does not use, itself or through what it uses, is no suspect.
    """
    known = evidence.imported
    rows = [one for one in evidence.differences(PACKAGES) if one.name != OURSELVES]
    telling = [one for one in rows if one.weight > WEIGHTS["other packages"]]
    for one in telling:
        before, after = one.shown
        was_used = "the run imported it" if known and one.name in known else "whether the run imported it is not known"
        text = f"{one.name} is {before} in the reference, {after} in the reproduction; {was_used}"
        yield _suspect(one, f"{one.name} {before} -> {after}", text)
    rest = [one.name for one in rows if one not in telling and (known is None or one.name in known)]
    if rest:
        shown = ", ".join(rest[:_SHOWN])
        yield Suspect(
            kind="package",
            what=f"{count(len(rest), 'package')} that the training does not compute with",
            weight=WEIGHTS["other packages"],
            evidence=(f"other versions of {shown}{' and more' if len(rest) > _SHOWN else ''}",),
            fix=give_environment_command(evidence.reference.run_id),
        )
    if not any(record.exists for record in evidence.records) and evidence.changed("environment").get("digest"):
        what = "other packages are installed"
        yield Suspect(kind="package", what=what, weight=0.3, evidence=("the digests of what is installed differ",))


def _suspect(one: Difference, what: str, *evidence: str) -> Suspect:
    return Suspect(kind=one.kind, what=what, weight=one.weight, evidence=evidence, fix=one.fix)


def suspect_python(evidence: Evidence) -> Iterator[Suspect]:
    """Another Python: a minor version more than a patch level."""
    row = evidence.changed("environment").get("python")  # by its tag, where a run has no record
    versions = (str(row.reference), str(row.reproduction)) if row else ("", "")
    for one in list_python(*versions, evidence.reference.run_id):
        text = f"the reference ran on Python {one.before}, the reproduction on {one.after}"
        yield _suspect(one, f"Python {one.before} -> {one.after}", text)


def suspect_variables(evidence: Evidence) -> Iterator[Suspect]:
    """Environment variables that differ, but for PYTHONHASHSEED, which has a rule of its own."""
    for one in evidence.differences(VARIABLES):
        if one.kind == "hash_seed" or one.name == "MLFLOW_REPRO_SEED" or _is_of_the_tool(one, evidence):
            continue
        before, after = one.shown
        weight, places = _weigh_variable(one, evidence)
        text = f"the environment variable {one.name} is {before} in the reference, {after} in the reproduction"
        yield replace(_suspect(one, f"{one.name}: {before} -> {after}", text, *places), weight=weight)


def _is_of_the_tool(one: Difference, evidence: Evidence) -> bool:
    """True for a variable by which a relaunch finds the program's modules, and for folders that are gone by now."""
    is_temporary_path = all(is_temporary(side) for side in one.values)
    return is_temporary_path or (evidence.is_relaunch and one.name in _SEARCH_PATH)


def _is_set_again(name: str, kind: str, evidence: Evidence) -> bool:
    """True when the programs of both runs set a variable to the same value themselves, and not too late."""
    one, other = (record.launch.set_later or {} for record in evidence.records)
    is_late = name.startswith("PYTHON") or (kind == "threads" and _differ_in_threads(evidence))
    return name in one and name in other and one[name] == other[name] and not is_late


def _differ_in_threads(evidence: Evidence) -> bool:
    """True when a library of both runs had another number of threads."""
    one, other = (
        {library.library: library.threads for library in record.machine.libraries or ()} for record in evidence.records
    )
    return any(one[library] != other[library] for library in one.keys() & other.keys())


def _weigh_variable(one: Difference, evidence: Evidence) -> tuple[float, tuple[str, ...]]:
    """How likely the variable changes results, and the lines of the program that speak for it."""
    name, kind = one.name, one.kind
    if _is_set_again(name, kind, evidence):
        return 0.02, ("both programs set it to the same value themselves",)
    places = evidence.places("variable", f"reads {name}")
    if name == "PYTHONOPTIMIZE":
        places = (*places, *evidence.places("optimize"))
    if places:
        return 0.95, places
    places = evidence.places({"time": "timezone"}.get(kind, kind)) if kind in ("locale", "time") else ()
    if places:
        return 0.6, places
    clocks = evidence.places("time") if kind == "time" else ()
    if clocks:  # which are another time anyway
        return 0.2, clocks
    # What the program itself does not ask for, a library may; a locale hardly.
    return _UNREAD.get(kind, one.weight) if evidence.has_sources else one.weight, ()


def suspect_libraries(evidence: Evidence) -> Iterator[Suspect]:
    """BLAS: another library, version, kernel or number of threads."""
    sides = [_by_name(record.machine.libraries) for record in evidence.records]
    said = {one.kind for one in evidence.differences(VARIABLES)}
    for name in sorted(sides[0].keys() & sides[1].keys()):
        one, other = sides[0][name], sides[1][name]
        for fact, kind in _LIBRARY_FACTS:
            # Where a variable sets it, that is the cause, and this what it did.
            if kind not in said and getattr(one, fact) != getattr(other, fact):
                yield _library(name, (fact, kind), (one, other), evidence.reference.run_id)
    if sides[0] and sides[1] and sides[0].keys() != sides[1].keys():
        texts = [", ".join(sorted(side)) or "none" for side in sides]
        yield Suspect(
            kind="blas",
            what=f"the numerical libraries: {texts[0]} -> {texts[1]}",
            weight=0.3,
            evidence=("other BLAS or OpenMP libraries were loaded",),
            fix=give_environment_command(evidence.reference.run_id),
        )


def suspect_cpu(evidence: Evidence) -> Iterator[Suspect]:
    """Another processor, or features of it that numerical libraries choose their kernels by."""
    rows = evidence.changed("machine")
    flags = [set(record.machine.cpu.flags or ()) for record in evidence.records]
    changed = sorted(flags[0] ^ flags[1]) if all(flags) else []
    if changed:
        yield Suspect(
            kind="cpu",
            what=f"the processor's features: {', '.join(changed[:_FLAGS])} on one side only",
            weight=_FLAG_WEIGHT,
            evidence=tuple(_describe(rows[name], name) for name in ("cpu.model",) if name in rows)
            or ("libraries choose their kernels by these features",),
            fix="export NPY_DISABLE_CPU_FEATURES, OPENBLAS_CORETYPE or MKL_CBWR=COMPATIBLE on both machines",
        )
    elif "cpu.model" in rows:
        yield Suspect(
            kind="cpu", what="another processor", weight=0.1, evidence=(_describe(rows["cpu.model"], "cpu.model"),)
        )
    if "cores.available" in rows and not _tells_threads(evidence):
        row = rows["cores.available"]
        yield Suspect(
            kind="threads",
            what=f"the number of cores: {row.reference} -> {row.reproduction}",
            weight=0.3,
            evidence=("libraries start as many threads as there are cores, and sum in that order",),
            fix=f"export OMP_NUM_THREADS={row.reference} OPENBLAS_NUM_THREADS={row.reference}",
        )


def suspect_gpus(evidence: Evidence) -> Iterator[Suspect]:
    """Another GPU, or another driver."""
    one, other = evidence.both(lambda record: record.machine.gpus)
    if one != other and (one or other):
        yield Suspect(
            kind="gpu",
            what="the GPUs are not the same",
            weight=0.6,
            evidence=(f"{shorten(str(one))} and {shorten(str(other))}",),
            fix=f"the same kind of GPU, or nearer: {give_determinism_line(evidence.imported)}",
        )


def suspect_determinism(evidence: Evidence) -> Iterator[Suspect]:
    """Deterministic modes and switches of precision that are not the same."""
    for name, row in evidence.changed("machine", "frameworks.").items():
        if name.rpartition(".")[2] in _NO_SWITCHES or "absent" in f"{row.reference}{row.reproduction}":
            continue
        yield Suspect(
            kind="threads" if "thread" in name else "determinism",
            what=f"{name}: {shorten(row.reference)} -> {shorten(row.reproduction)}",
            weight=0.4,
            evidence=(_describe(row, name),),
            fix=give_switch_line(name, row.reference),
        )
    for name, row in evidence.changed("seeds", "determinism.").items():
        yield Suspect(
            kind="determinism",
            what=f"the deterministic mode {name}: {shorten(row.reference)} -> {shorten(row.reproduction)}",
            weight=0.4,
            evidence=(_describe(row, name),),
            fix="mlflow_repro.make_deterministic()",
        )


def _library(name: str, row: tuple[str, str], sides: tuple[Library, Library], run_id: str) -> Suspect:
    fact, kind = row
    one, other = (getattr(side, fact) for side in sides)
    fixes = {
        "threads": f"export OPENBLAS_NUM_THREADS={one} OMP_NUM_THREADS={one} MKL_NUM_THREADS={one}",
        "cpu": f"export OPENBLAS_CORETYPE={one}" if "openblas" in name else "export MKL_CBWR=COMPATIBLE",
        "blas": give_environment_command(run_id),
    }
    words = {"threads": "threads", "cpu": "kernels", "blas": "version"}
    return Suspect(
        kind=kind,
        what=f"{words[kind]} of {name}: {one} -> {other}",
        weight=WEIGHTS[kind],
        evidence=(f"{name} had {fact} {one} in the reference, {other} in the reproduction",),
        fix=fixes[kind],
    )


def _by_name(libraries: tuple[Library, ...] | None) -> dict[str, Library]:
    return {library.name: library for library in reversed(libraries or ())}  # of two with one name the first


def _describe(row: Finding, name: str) -> str:
    return f"{name} is {shorten(row.reference)} in the reference, {shorten(row.reproduction)} in the reproduction"


def _tells_threads(evidence: Evidence) -> bool:
    """True when the numbers of threads themselves are known on both sides, so that the cores add nothing."""
    return all(any(library.threads for library in record.machine.libraries or ()) for record in evidence.records)
