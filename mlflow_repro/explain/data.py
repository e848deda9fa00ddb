"""Suspects in the data: files that parameters name or that were opened, and the data sets that MLflow was told of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.evidence import Suspect, shorten
from mlflow_repro.explain.files import is_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.explain.evidence import Evidence


def suspect_data(evidence: Evidence) -> Iterator[Suspect]:
    """A file with another content, by the digests of its whole content; then data sets by MLflow's digests."""
    seen: set[str] = set()
    for label, one, other in (*_named_files(evidence), *_other_files(evidence)):
        path = str((one or other or {}).get("path", label))
        if path in seen:
            continue
        seen.add(path)
        yield _file(label, path, one, other)
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
    return {str(side.get("path")) for _, one, other in rows for side in (one, other)}


def _named_files(evidence: Evidence) -> Iterator[tuple[str, Any, Any]]:
    """The files that parameters name, both sides by the parameter."""
    sides = [_by_key(side, "param") for side in evidence.both("data", "params")]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        one, other = sides[0].get(name), sides[1].get(name)
        if one is not None and other is not None and _differ(one, other):
            yield f"parameter {name}", one, other


def _other_files(evidence: Evidence) -> Iterator[tuple[str, Any, Any]]:
    """The files that were opened, and those that the program's own lines name; what a run wrote itself is no data.

    Settings of the repository that differ are told of with its code.
    """
    told = {file.path for file in evidence.changed_files or () if not is_data(file.path)}
    for place, label in ((("opened", "files"), ""), (("named",), "named in the program: ")):
        sides = [_by_key(side, "path") for side in evidence.both("data", *place)]
        for path in (path for path in dict.fromkeys([*sides[0], *sides[1]]) if path not in told):
            one, other = sides[0].get(path), sides[1].get(path)
            if (
                one is not None
                and other is not None
                and not (_is_result(one) or _is_result(other))
                and _differ(one, other)
            ):
                yield f"{label}{path}", one, other


def _is_result(row: Mapping[str, Any]) -> bool:
    return bool(row.get("written") or row.get("produced"))


def _file(label: str, path: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Suspect:
    facts = [f"{label}: {_describe(one)} in the reference, {_describe(other)} in the reproduction"]
    is_moved = one.get("path") != other.get("path")
    if is_moved:
        facts.append(f"the reference read {one.get('path')}, the reproduction {other.get('path')}")
    return Suspect(
        kind="data",
        what=f"the data {path} has another content",
        weight=0.95,
        evidence=tuple(facts),
        fix=f"put back the {path} whose sha256 begins with {_digest(one)[:16]}",
    )


def _by_key(rows: Any, key: str) -> dict[str, Mapping[str, Any]]:
    listed = rows if isinstance(rows, list) else []
    return {str(row[key]): row for row in listed if isinstance(row, dict) and key in row}


def _digest(row: Mapping[str, Any]) -> str:
    """Of a file, or of a folder; empty when it has none."""
    digest = row.get("sha256", row.get("merkle_sha256"))
    return digest if isinstance(digest, str) else ""


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    digests = _digest(one), _digest(other)
    if all(digests):
        return digests[0] != digests[1]
    sizes = one.get("size"), other.get("size")
    return all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]


def _describe(row: Mapping[str, Any]) -> str:
    return f"{row.get('size', '?')} bytes, sha256 {_digest(row)[:16] or 'not known'}"
