"""Suspects in the run itself: what gives another result each time although nothing that is recorded differs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.explain.evidence import Suspect
from mlflow_repro.explain.fixes import give_switch_line
from mlflow_repro.text.listing import shorten
from mlflow_repro.text.pins import normalise_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.evidence import Evidence

_TEXTS = {
    "time": ("the result depends on when it is run", "give the time as a parameter, so that it is recorded"),
    "threads": ("threads whose order is not fixed", "export OMP_NUM_THREADS=1, or collect their results in order"),
    "entropy": ("numbers from the operating system's entropy", "draw them from a seeded generator"),
    "files": ("the order in which a folder is listed", "sort it: sorted(os.listdir(...))"),
    "process": ("the process's number, its addresses or a generated id", "leave them out of what is computed"),
    "network": ("what is read from an address, which may be another one now", "keep a copy, and log it as an artifact"),
    "workers": (
        "worker processes, which draw numbers of their own",
        "random_state=0 for the estimator, or a seed from the task's number in the function that the workers run",
    ),
}
DIFFERS_FROM_ITSELF = "the run differs from itself"
_GAP = re.compile(r"not recorded|left out|missing|not fetched|pointers|stands in for|does not say how")
# Facts tell of these, or a rule of their own.
_TOLD = re.compile(r"random state|is seeded with|had not imported|environment\b|that of commit")
_PACKAGE = re.compile(r"([\w.-]+)==\S* (?:stands in for|is left out)|stands in for ([\w.-]+)==")
_KINDS = {"time": "time", "threads": "threads", "network": "data", "workers": "random_state"}
_WEIGHTS = {"workers": 0.5}
_WEIGHT = 0.3


def suspect_gaps(evidence: Evidence) -> Iterator[Suspect]:
    """What a reproduction could not put back as it was, and no fact shows."""
    for caveat in evidence.caveats:
        if _GAP.search(caveat) and not _TOLD.search(caveat) and _can_count(caveat, evidence):
            yield Suspect(
                kind="not_restored",
                what=f"not as it was: {shorten(caveat)}",
                weight=0.3,
                evidence=(caveat,),
                fix=f"mlflow-repro check {evidence.reference.run_id}",
                is_first=True,
            )


def _can_count(caveat: str, evidence: Evidence) -> bool:
    """False for a package that the program does not use."""
    names = {normalise_name(name) for pair in _PACKAGE.findall(caveat) for name in pair if name}
    return not names or evidence.imported is None or not names.isdisjoint(evidence.imported)


def suspect_itself(evidence: Evidence) -> Iterator[Suspect]:
    """Lines of the program that are different each time, and in the end the run as a whole."""
    for topic, (what, fix) in _TEXTS.items():
        places = evidence.places(topic)
        if places:
            yield Suspect(
                kind=_KINDS.get(topic, "nondeterminism"),
                what=what,
                weight=_WEIGHTS.get(topic, _WEIGHT),
                evidence=places,
                fix=fix,
            )
    yield from _suspect_gpu(evidence)
    yield Suspect(
        kind="nondeterminism",
        what=DIFFERS_FROM_ITSELF,
        weight=0.06,
        evidence=tuple(_clues(evidence)),
        fix=evidence.isolate_command,
    )


def _suspect_gpu(evidence: Evidence) -> Iterator[Suspect]:
    """Operations on a GPU whose sums have no order, where the framework was not told to choose others."""
    if not any(record.machine.gpus for record in evidence.records):
        return
    for name, switch in (("torch", "deterministic_algorithms"), ("tensorflow", "op_determinism")):
        if False in [(record.machine.frameworks.get(name) or {}).get(switch) for record in evidence.records]:
            yield Suspect(
                kind="determinism",
                what=f"{name} computed on a GPU with operations that are not deterministic",
                weight=0.3,
                evidence=(f"{name}.{switch} was off: atomic sums have no order",),
                fix=give_switch_line(f"{name}.{switch}", reference=True),
            )


def _clues(evidence: Evidence) -> Iterator[str]:
    if not evidence.has_records:
        yield "one run made no record of itself, so most of what could differ is not known"
        return
    yield from evidence.between
    if evidence.traces is not None and not evidence.traces:
        yield "the traced random states are the same at each step: it is not a draw"
    threads = [
        library.threads
        for record in evidence.records
        for library in record.machine.libraries or ()
        if library.threads is not None
    ]
    if threads and max(threads) > 1:
        yield f"its libraries compute with {max(threads)} threads, and sums depend on their order"
    if any(record.machine.gpus for record in evidence.records):
        yield "it ran on a GPU, whose atomic sums have no order"
    known = [side for side in evidence.both(lambda record: record.launch.variables) if side is not None]
    variables = [side.get("PYTHONHASHSEED") for side in known]
    if not any(variables):
        yield "PYTHONHASHSEED was not set: sets of texts have another order in each process"
    seconds = abs(evidence.reproduction.start_time - evidence.reference.start_time) // 1000
    yield f"the runs began {seconds} s apart: the clock differs"
    yield "environment variables that no library is known to read are not recorded, and may differ"
