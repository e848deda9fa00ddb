"""Put the facts of two runs side by side: parameters, code, launch, seeds, environment, machine, data, tags.

They explain, only.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.scalars import read_number
from mlflow_repro.values.captured import SECTION_OF_FACT, SECTIONS, is_missing
from mlflow_repro.values.comparison import Finding, Status
from mlflow_repro.values.run import TAG_PREFIX, launch_parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run

_OWN = {"code.outputs", "launch.run_index", "launch.process", "seeds.digests", "seeds.calls", "environment.digest"}
"""Facts that differ between any two runs (when a seed was set) or that only sum up others."""
_DEEPEST_NAME = 4  # parts of a name that stands for all that is below it


def compare_facts(reference: Record, reproduction: Record) -> list[Finding]:
    """One finding for each fact in either of two records, by section; none for what is damaged in one of them.

    Names are dotted paths, rows of a list are named by their own ``name``; a value is its text, or JSON.
    """
    findings: list[Finding] = []
    for section in SECTIONS:
        one, other = (dict(_flatten(record.facts_of(section), "")) for record in (reference, reproduction))
        findings += [row for row in _compare_texts(section, one, other) if not _is_below(f"{section}.{row.name}", _OWN)]
    damaged = {*reference.damage, *reproduction.damage}
    return [row for row in findings if not _is_below(f"{row.kind}.{row.name}", damaged)]


def compare_tags(reference: Run, reproduction: Run, *, with_facts: bool) -> list[Finding]:
    """One finding for each tag that a user set; ``with_facts``: and for each fact that is a tag, by its section."""
    findings = []
    for name in sorted({*reference.tags, *reproduction.tags}):
        section, label = "tag", name
        if name.startswith(TAG_PREFIX):
            group, _, label = name.removeprefix(TAG_PREFIX).partition(".")
            section = SECTION_OF_FACT.get(group, "") if with_facts else ""
        if section and not name.startswith("mlflow.") and f"{section}.{label}" not in _OWN:
            findings.append(_compare_text(section, label, reference.tags.get(name), reproduction.tags.get(name)))
    return findings


def compare_datasets(
    reference: Iterable[Mapping[str, str]], reproduction: Iterable[Mapping[str, str]]
) -> list[Finding]:
    """One finding for each data set that either run logged as its input: its name and context, and the digests."""
    one, other = (
        {f"{row['name']} ({row['context']})" if row["context"] else row["name"]: row["digest"] for row in side}
        for side in (reference, reproduction)
    )
    return _compare_texts("dataset", one, other)


def _is_below(name: str, others: Collection[str]) -> bool:
    """True for one of ``others``, and for what has one of them before a dot."""
    parts = name.split(".")
    return any(".".join(parts[:length]) in others for length in range(1, min(len(parts), _DEEPEST_NAME) + 1))


def _compare_texts(kind: str, one: Mapping[str, str], other: Mapping[str, str]) -> list[Finding]:
    return [_compare_text(kind, name, one.get(name), other.get(name)) for name in sorted(one.keys() | other.keys())]


def _compare_text(kind: str, name: str, one: str | None, other: str | None) -> Finding:
    if one == other:
        status = Status.IDENTICAL
    elif other is None:
        status = Status.MISSING
    else:
        status = Status.EXTRA if one is None else Status.DIFFERENT
    return Finding(kind=kind, name=name, reference=one, reproduction=other, status=status)


def _flatten(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Each leaf of a section with its dotted name; what is absent is left out."""
    if is_missing(value):
        return
    if isinstance(value, dict) and "file" in value:
        value = {key: inner for key, inner in value.items() if key != "run_id"}  # with whom it is kept is no difference
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and value and all(isinstance(row, dict) and "name" in row for row in value):
        for row in value:
            rest = {key: inner for key, inner in row.items() if key != "name"}
            label = f"{name}.{row['name']}"
            yield label, _text(rest.get("version", rest) if set(rest) <= {"version"} else rest)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def compare_params(reference: Run, reproduction: Run) -> list[Finding]:
    """One finding for each parameter that either run has; shell quotes that MLflow added are taken off first."""
    one, other = plain_params(reference), plain_params(reproduction)
    return [_compare_param(name, one.get(name), other.get(name)) for name in sorted(set(one) | set(other))]


def plain_params(run: Run) -> dict[str, str]:
    """The run's parameters, its launch parameters with the values that were typed."""
    return {**run.params, **launch_parameters(run)}


def _compare_param(name: str, reference: str | None, reproduction: str | None) -> Finding:
    note = ""
    if reproduction is None:
        status = Status.MISSING
    elif reference is None:
        status = Status.EXTRA
    elif reference == reproduction:
        status = Status.IDENTICAL
    else:
        status = Status.DIFFERENT
        if _are_one_number(reference, reproduction):
            note = "the same number, written differently"
    return Finding(kind="param", name=name, reference=reference, reproduction=reproduction, status=status, note=note)


def _are_one_number(one: str, other: str) -> bool:
    """True for 1e3 and 1000.0, and not for what only looks like a number (007) or what no float tells apart."""
    if read_number(one) is None or read_number(other) is None:
        return False
    return Decimal(one.strip()) == Decimal(other.strip())
