"""Compare what two runs left behind: pair their files, fetch what is not here, and give one finding for each."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.compare.artifacts import compare_artifact
from mlflow_repro.compare.artifacts.blobs import show_size
from mlflow_repro.compare.artifacts.text import why_volatile
from mlflow_repro.compare.models import ModelTraits, pair_models
from mlflow_repro.errors import ReproError
from mlflow_repro.store.artifacts import OWN_FOLDER, ArtifactFile, ArtifactFolder, fetch_file
from mlflow_repro.system.folders import hold_folder, sweep_folders
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_repro.judging.options import Selection
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.values.rules import Rules

_DESCRIPTION = "MLmodel"  # its size depends on ids and times
ALL = "all artifacts"
"""The name of the one row that says why none were compared."""


def compare_run_artifacts(
    reference: Side, reproduction: Side, rules: Rules, selection: Selection
) -> tuple[Finding, ...]:
    """One finding for each file that either run has and that is selected, the plugin's own left out.

    The numbers in a file are judged by the tolerance of the first rule that matches its path. What cannot be had, a
    file or all of them, is a finding that cannot be said; what a rule leaves out is not asked for.
    """
    try:
        folders = [side.folders for side in (reference, reproduction)]
    except (ReproError, OSError) as error:
        return (_unknown(ALL, None, None, str(error)),)
    pairs = {name: pair for name, pair in pair_files(*folders).items() if selection.keeps(name)}
    sweep_folders(selection.work_directory)
    with hold_folder(selection.work_directory) as folder:
        findings = list(_compare_pairs(pairs, rules, selection.limit, Path(folder.path)))
    unused = [pattern for pattern in selection.patterns if not any(fnmatchcase(name, pattern) for name in pairs)]
    note = "not compared: no artifact of either run has such a path"
    return (*findings, *(_make_row(pattern, None, None, Status.IGNORED, note) for pattern in unused))


def pair_files(
    reference: Sequence[ArtifactFolder], reproduction: Sequence[ArtifactFolder]
) -> dict[str, tuple[ArtifactFile | None, ArtifactFile | None]]:
    """The files of both runs by the name that their finding has, sorted.

    Logged models have another id in each run. They are matched by their name and, where several have the same one, by
    what they are (`pair_models`); those whose names are in one run only, likewise. A file of the model ``m`` is called
    ``m/...``.
    """
    sides = _label(reference, reproduction)
    unmatched = [[label for label in side if label not in other] for side, other in (sides, sides[::-1])]
    if len(unmatched[0]) == len(unmatched[1]):  # MLflow makes up a name for a model that was given none
        traits = [
            [_read_traits(side[label]) for label in labels] for side, labels in zip(sides, unmatched, strict=True)
        ]
        renamed = {
            unmatched[1][there]: unmatched[0][here]
            for here, there in pair_models(*traits)
            if here is not None and there is not None
        }
        sides[1] = {renamed.get(label, label): folder for label, folder in sides[1].items()}
    named = [
        {f"{label}/{path}".removeprefix("/"): file for label, one in side.items() for path, file in one.files.items()}
        for side in sides
    ]
    return {name: (named[0].get(name), named[1].get(name)) for name in sorted({*named[0], *named[1]})}


def _label(*sides: Sequence[ArtifactFolder]) -> list[dict[str, ArtifactFolder]]:
    """The folders of both sides by labels that no other has, nor a folder among their artifacts: ``m``, ``m[2]``."""
    folders = [folder for side in sides for folder in side]
    taken = {path.partition("/")[0] for folder in folders if not folder.name for path in folder.files} | {OWN_FOLDER}
    labelled: list[dict[str, ArtifactFolder]] = [{}, {}]
    for name in dict.fromkeys(folder.name for folder in folders):
        named = [[folder for folder in side if folder.name == name] for side in sides]
        number = 0
        for pair in pair_models(*([_read_traits(folder) for folder in side] for side in named)):
            number += 1
            while name and (name if number == 1 else f"{name}[{number}]") in taken:
                number += 1
            label = name if number == 1 else f"{name}[{number}]"
            taken.add(label)
            for side, place in enumerate(pair):
                if place is not None:
                    labelled[side][label] = named[side][place]
    return labelled


def _read_traits(folder: ArtifactFolder) -> ModelTraits:
    sizes = frozenset((path, file.size) for path, file in folder.files.items() if path != _DESCRIPTION)
    return ModelTraits(step=folder.step, metrics=folder.metrics, files=sizes)


def _compare_pairs(
    pairs: dict[str, tuple[ArtifactFile | None, ArtifactFile | None]],
    rules: Rules,
    limit: int,
    directory: Path,
) -> Iterator[Finding]:
    left = limit
    for name, (mine, theirs) in pairs.items():
        ignored = rules.why_artifact_ignored(name)
        if ignored:
            yield _make_row(name, mine, theirs, Status.IGNORED, ignored)
            continue
        if mine is None or theirs is None:
            yield _one_sided(name, mine, theirs)
            continue
        size = (mine.size or 0) + (theirs.size or 0)
        if size > left:
            reason = f"{show_size(size)} more would be read than the {show_size(limit)} that are allowed in all"
            yield _unknown(name, mine, theirs, reason)
            continue
        left -= size
        try:
            paths = [
                fetch_file(file, directory / side) for file, side in ((mine, "reference"), (theirs, "reproduction"))
            ]
        except (ReproError, OSError) as error:
            yield _unknown(name, mine, theirs, str(error))
            continue
        yield compare_artifact(name, paths[0], paths[1], rules.tolerances_of(name))


def _one_sided(name: str, mine: ArtifactFile | None, theirs: ArtifactFile | None) -> Finding:
    status, note = (
        (Status.MISSING, "only in the reference") if theirs is None else (Status.EXTRA, "only in the reproduction")
    )
    why = why_volatile(name)
    if why:
        status, note = Status.IGNORED, f"{note}; not judged: {why}"
    return _make_row(name, mine, theirs, status, note)


def _unknown(name: str, mine: ArtifactFile | None, theirs: ArtifactFile | None, reason: str) -> Finding:
    return _make_row(name, mine, theirs, Status.UNKNOWN, f"not compared: {reason}")


def _make_row(name: str, mine: ArtifactFile | None, theirs: ArtifactFile | None, status: Status, note: str) -> Finding:
    return Finding(
        kind="artifact", name=name, reference=_size(mine), reproduction=_size(theirs), status=status, note=note
    )


def _size(file: ArtifactFile | None) -> str | None:
    if file is None:
        return None
    return "size unknown" if file.size is None else f"{file.size} bytes"
