"""Data files whose content is not the same in two runs, as factors; and what of it cannot be put in place.

A run records digests of its data, not the data: what is at a path now is what a launch reads. So a content is had where
it still lies at its path, or where the user has it. The reference's that is not had makes the other one a part of every
launch, the control among them; the other's that is not had cannot be tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.explain.differences import WEIGHTS
from mlflow_repro.isolate.changes import NO_CHANGES, Changes
from mlflow_repro.isolate.factors import Factor
from mlflow_repro.values.sections import DataContent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow_repro.isolate.factors import Conditions
    from mlflow_repro.values.sections import Data

_SHOWN = 12  # digits of a digest


@dataclass(frozen=True, kw_only=True)
class ChangedData:
    """A path with two contents: what the reference had, what the other run had, and what is there now.

    None for what is not known; the other run's is what is there now, where there is no other run.
    """

    path: str
    one: DataContent
    other: DataContent
    now: DataContent | None


@dataclass(frozen=True, kw_only=True)
class DataFactors:
    """What can be done with the data that differ.

    ``factors`` can be tried. ``pinned`` are changed in every launch, as what the reference had is gone; ``impossible``
    cannot be tried, as what the other run had is gone. ``base`` are changes of every launch: where the reference's
    content lies now.
    """

    factors: tuple[Factor, ...] = ()
    pinned: tuple[Factor, ...] = ()
    impossible: tuple[Factor, ...] = ()
    base: Changes = NO_CHANGES


NO_DATA = DataFactors()


def list_contents(data: Data) -> dict[str, DataContent]:
    """What a run's record says of its data outside the repository, by path; ``~`` is the home directory.

    The repository's own files come with the code. What the run wrote itself is no data of it.
    """
    return {
        file.path: DataContent(digest=file.digest, size=file.size, is_folder=file.sha256 is None)
        for file in data.files
        if file.digest and file.place != "repository" and not file.is_result
    }


def list_changed_data(
    one: Conditions,
    other: Conditions,
    look: Callable[[str, Sequence[DataContent]], DataContent | None],
    *,
    finds_others: bool = False,
) -> tuple[ChangedData, ...]:
    """The data whose content is not the same. ``look`` tells what is at a path now, given what may be there.

    With ``finds_others`` those are among it that both runs had, and that have changed since.
    """
    contents = list_contents(one.record.data)
    if other.is_here:
        now = {path: look(path, (content,)) for path, content in contents.items()}
        return tuple(
            ChangedData(path=path, one=content, other=there, now=there)
            for path, content in contents.items()
            if (there := now[path]) is not None and there.digest != content.digest
        )
    theirs = list_contents(other.record.data)
    return tuple(
        ChangedData(path=path, one=content, other=theirs[path], now=look(path, (content, theirs[path])))
        for path, content in contents.items()
        if path in theirs and (finds_others or theirs[path].digest != content.digest)
    )


def make_data_factors(
    changed: Sequence[ChangedData], find: Callable[[str, DataContent], str], can_place: Callable[[str], bool]
) -> DataFactors:
    """What can be tried of changed data. ``find`` gives a place where a content lies besides its path, empty for none.

    ``can_place`` says whether a launch can be told to read another file than this path.
    """
    factors, pinned, impossible = [], [], []
    base: dict[str, str | None] = {}
    for data in changed:
        places = [_find_place(data, content, find, can_place) for content in (data.one, data.other)]
        if data.one.digest == data.other.digest:  # both runs had it: it is put in place, and no factor
            base.update({data.path: places[0]} if places[0] else {})
        elif places[0] is None:
            pinned.append(_factor(data, data.now or data.other))
        elif places[1] is None:
            impossible.append(_factor(data, data.other))
        else:
            base.update({data.path: places[0]} if places[0] else {})
            factors.append(_factor(data, data.other, Changes(files={data.path: places[1] or None})))
    return DataFactors(
        factors=tuple(factors), pinned=tuple(pinned), impossible=tuple(impossible), base=Changes(files=base)
    )


def _find_place(
    data: ChangedData,
    content: DataContent,
    find: Callable[[str, DataContent], str],
    can_place: Callable[[str], bool],
) -> str | None:
    """Where a content lies: empty for its own path, None for nowhere that a launch could read."""
    if data.now is not None and data.now.digest == content.digest:
        return ""
    return (find(data.path, content) or None) if can_place(data.path) else None


def _factor(data: ChangedData, there: DataContent, changes: Changes | None = None) -> Factor:
    before, after = data.one.digest[:_SHOWN], there.digest[:_SHOWN] or f"another one, of {there.size} bytes"
    return Factor(
        name=f"data {data.path}",
        kind="data",
        what=f"the data {data.path} (sha256 {before} -> {after})",
        changes=changes or NO_CHANGES,
        weight=WEIGHTS["data"],
        fix=f"put back the {data.path} whose sha256 begins with {before}",
    )
