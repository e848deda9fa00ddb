"""Suspects in the data: files that parameters name or that were opened, and the data sets that MLflow was told of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.explain.differences import WEIGHTS
from mlflow_repro.explain.evidence import Suspect
from mlflow_repro.explain.files import is_data
from mlflow_repro.text.listing import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.evidence import Evidence
    from mlflow_repro.values.sections import DataFile


def suspect_data(evidence: Evidence) -> Iterator[Suspect]:
    """A file with another content, by the digests of its whole content; then data sets by MLflow's digests."""
    seen: set[str] = set()
    for label, one, other in (*_named_files(evidence), *_other_files(evidence)):
        if one.path in seen:
            continue
        seen.add(one.path)
        yield _file(label, one, other)
    for row in evidence.changed("dataset").values():
        if row.reference is None or row.reproduction is None:
            continue
        # The part of the data that a random split left over has another digest, too: that is no cause.
        yield Suspect(
            kind="data",
            what=f"the data set {row.name}: digest {shorten(row.reference)} -> {shorten(row.reproduction)}",
            weight=0.3,
            evidence=("MLflow's digests of the logged data set differ",),
            fix="compare the two sources, or split the data with a fixed random_state",
        )


def changed_data_parameters(evidence: Evidence) -> set[str]:
    """The parameters that name a file or folder whose content is not the same."""
    return {label.removeprefix("parameter ") for label, _, _ in _named_files(evidence)}


def changed_data_paths(evidence: Evidence) -> set[str]:
    """The paths of files whose content is not the same, as a run recorded them."""
    rows = (*_named_files(evidence), *_other_files(evidence))
    return {side.path for _, one, other in rows for side in (one, other)}


def _named_files(evidence: Evidence) -> Iterator[tuple[str, DataFile, DataFile]]:
    """The files that parameters name, both sides by the parameter."""
    sides = [{row.param: row for row in record.data.params} for record in evidence.records]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        one, other = sides[0].get(name), sides[1].get(name)
        if one is not None and other is not None and _differ(one, other):
            yield f"parameter {name}", one, other


def _other_files(evidence: Evidence) -> Iterator[tuple[str, DataFile, DataFile]]:
    """The files that were opened, and those that the program's own lines name; what a run wrote itself is no data.

    Settings of the repository that differ are told of with its code.
    """
    told = {file.path for file in evidence.changed_files or () if not is_data(file.path)}
    opened = evidence.both(lambda record: record.data.opened.files if record.data.opened else ())
    named = evidence.both(lambda record: record.data.named)
    for files, label in ((opened, ""), (named, "named in the program: ")):
        sides = [{row.path: row for row in side} for side in files]
        for path in (path for path in dict.fromkeys([*sides[0], *sides[1]]) if path not in told):
            one, other = sides[0].get(path), sides[1].get(path)
            if one is not None and other is not None and not (one.is_result or other.is_result) and _differ(one, other):
                yield f"{label}{path}", one, other


def _file(label: str, one: DataFile, other: DataFile) -> Suspect:
    facts = [f"{label}: {_describe(one)} in the reference, {_describe(other)} in the reproduction"]
    if one.path != other.path:
        facts.append(f"the reference read {one.path}, the reproduction {other.path}")
    return Suspect(
        kind="data",
        what=f"the data {one.path} has another content",
        weight=WEIGHTS["data"],
        evidence=tuple(facts),
        fix=f"put back the {one.path} whose sha256 begins with {one.digest[:16]}",
    )


def _differ(one: DataFile, other: DataFile) -> bool:
    if one.digest and other.digest:
        return one.digest != other.digest
    return None not in (one.size, other.size) and one.size != other.size


def _describe(file: DataFile) -> str:
    return f"{'?' if file.size is None else file.size} bytes, sha256 {file.digest[:16] or 'not known'}"
