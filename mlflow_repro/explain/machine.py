"""Suspects in the machine and the libraries that know it: BLAS, threads, CPU, GPU, deterministic modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.explain.evidence import Suspect, shorten
from mlflow_repro.explain.fixes import give_determinism_line, give_environment_command, give_switch_line
from mlflow_repro.explain.surroundings import classify_variable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.evidence import Evidence
    from mlflow_repro.values.comparison import Finding
    from mlflow_repro.values.sections import Library

_LIBRARY_FACTS = (("version", "blas", 0.5), ("architecture", "cpu", 0.6), ("threads", "threads", 0.6))
_NO_SWITCHES = ("version", "git_version", "compiler")
_FLAG_WEIGHT = 0.3
_SHOWN = 6


def suspect_libraries(evidence: Evidence) -> Iterator[Suspect]:
    """BLAS: another library, version, kernel or number of threads."""
    sides = [_by_name(record.machine.libraries) for record in evidence.records]
    said = {classify_variable(name) for name in evidence.changed("launch", "variables.")}
    for name in sorted(sides[0].keys() & sides[1].keys()):
        one, other = sides[0][name], sides[1][name]
        for fact, kind, weight in _LIBRARY_FACTS:
            # Where a variable sets it, that is the cause, and this what it did.
            if kind not in said and getattr(one, fact) != getattr(other, fact):
                yield _library(name, (fact, kind, weight), (one, other), evidence.reference.run_id)
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
            what=f"the processor's features: {', '.join(changed[:_SHOWN])} on one side only",
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


def _library(name: str, row: tuple[str, str, float], sides: tuple[Library, Library], run_id: str) -> Suspect:
    fact, kind, weight = row
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
        weight=weight,
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
