"""Suspects in what was run: the code, file by file, and how it was started."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.explain.data import changed_data_parameters, changed_data_paths
from mlflow_repro.explain.differences import ARGUMENTS, PARAMS, WEIGHTS, make_parameter
from mlflow_repro.explain.evidence import Suspect
from mlflow_repro.explain.files import influence, influence_of_data, is_data, is_temporary
from mlflow_repro.text.listing import count, shorten
from mlflow_repro.values.run import ENTRY_POINT_TAG, is_project_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_repro.explain.differences import Difference
    from mlflow_repro.explain.evidence import ChangedFile, Evidence
    from mlflow_repro.values.sections import Module

_SHOWN = 5
_DIGITS = 16  # of a digest


def suspect_code(evidence: Evidence) -> Iterator[Suspect]:
    """The commit or the uncommitted changes are not the same: the files, those that can count first."""
    modules = _changed_modules(evidence)
    if evidence.changed_files is None:
        if _is_other_code(evidence):
            yield from _suspect_unseen(evidence, modules)
            return
    else:
        yield from _suspect_files(evidence)
        listed = {file.path for file in evidence.changed_files}
        modules = [pair for pair in modules if pair[0].path not in listed]
    for one, other in modules:
        if one.place != "repository" or _tree_is_known(evidence):
            yield _suspect_module(one, other)


def _suspect_files(evidence: Evidence) -> Iterator[Suspect]:
    files = [file for file in evidence.changed_files or () if not is_data(file.path)]
    weights = {file.path: influence(file, evidence) for file in files}
    telling = sorted((file for file in files if weights[file.path] > 0), key=lambda file: -weights[file.path])
    if not telling:
        return
    best = [file for file in telling if weights[file.path] == weights[telling[0].path]]
    first = max(best, key=lambda file: file.lines)
    others = f" and {count(len(telling) - 1, 'other file')}" if len(telling) > 1 else ""
    yield Suspect(
        kind="code",
        what=f"the code: {first.path}{others} {'differ' if others else 'differs'}",
        weight=weights[first.path],
        evidence=(_describe_commits(evidence), *(_describe_file(file) for file in telling[:_SHOWN])),
        fix=_show_difference(evidence),
    )


def _suspect_unseen(evidence: Evidence, modules: Sequence[tuple[Module, Module]]) -> Iterator[Suspect]:
    """Other code that cannot be had: the modules that were loaded tell whether it matters, where they are recorded."""
    paths = [module.path for module, _ in modules]
    is_known = all(record.code.modules is not None for record in evidence.records)
    what = f"the code: {', '.join(paths[:_SHOWN])} differ{'s' if len(paths) == 1 else ''}"
    yield Suspect(
        kind="code",
        what=what if paths else "the code is another one",
        weight=0.9 if paths else 0.02 if is_known else WEIGHTS["code"],
        evidence=(
            _describe_commits(evidence),
            *(["the modules that were loaded are the same"] if is_known and not paths else []),
        ),
        fix=_show_difference(evidence),
    )


def _suspect_module(module: Module, changed: Module) -> Suspect:
    where = "which git ignores" if module.place == "repository" else "outside the repository"
    one, other = ((side.sha256 or "")[:_DIGITS] for side in (module, changed))
    return Suspect(
        kind="code",
        what=f"the module {module.path}, {where}, is another one",
        weight=0.9,
        evidence=(f"its sha256 begins with {one} in the reference, with {other} in the reproduction",),
        fix=f"put back the {module.path} whose sha256 begins with {one}, and commit it",
    )


def _changed_modules(evidence: Evidence) -> list[tuple[Module, Module]]:
    """The modules that both runs had loaded, with another content."""
    one, other = (
        {module.path: module for module in record.code.modules or () if module.sha256} for record in evidence.records
    )
    return [
        (module, other[path]) for path, module in one.items() if path in other and other[path].sha256 != module.sha256
    ]


def _is_other_code(evidence: Evidence) -> bool:
    trees = evidence.both(lambda record: record.code.tree)
    if all(isinstance(tree, str) for tree in trees):
        return bool(trees[0] != trees[1])
    commits = evidence.commits
    return (all(commits) and commits[0] != commits[1]) or "dirty" in evidence.changed("code")


def _tree_is_known(evidence: Evidence) -> bool:
    """True when a module of the repository that differs must be one that git ignores."""
    return evidence.changed_files is not None or not _is_other_code(evidence)


def suspect_data_files_of_tree(evidence: Evidence) -> Iterator[Suspect]:
    """Files of the working tree that are data, not code."""
    named = changed_data_paths(evidence)  # those have a cause already
    for file in evidence.changed_files or ():
        if is_data(file.path) and file.path not in named:
            yield Suspect(
                kind="data",
                what=f"the file {file.path} of the repository was {file.how}",
                weight=influence_of_data(file, evidence),
                evidence=(_describe_file(file),),
                fix=f"git checkout {evidence.commits[0] or 'COMMIT'} -- {file.path}",
            )


def suspect_parameters(evidence: Evidence) -> Iterator[Suspect]:
    """Launch parameters, then arguments of the command line, then what was only logged as a parameter."""
    launched: set[str] = set()
    files = {_plain(name) for name in changed_data_parameters(evidence)}
    for given in evidence.differences(PARAMS, ARGUMENTS):
        launched.add(_plain(given.name))
        # The file is the cause, by whatever name it goes; and where something lies for a while is none.
        if _plain(given.name) not in files and not _are_temporary(*given.values):
            yield _parameter(given, "launch parameter" if given.place == PARAMS else "argument of the command line")
    for row in evidence.changed("param").values():
        if _plain(row.name) in launched | files:
            continue
        one, other = (None if side is None else str(side) for side in (row.reference, row.reproduction))
        if _are_temporary(one, other):
            continue
        found = _parameter(make_parameter(PARAMS, row.name, one, other), "logged as a parameter")
        # A parameter that the same command line gave may be a result: the best of a search, a size of the data.
        found = replace(found, weight=0.3 if evidence.has_records else 0.85)
        fix = f"see to it that the program has {row.name.lstrip('-')} {shorten(one)} again"
        yield found if evidence.is_project else replace(found, fix=fix)


def suspect_start(evidence: Evidence) -> Iterator[Suspect]:
    """Another script, working directory or entry point."""
    rows = evidence.changed("launch")
    for name in ("script", "cwd", "program"):
        if name in rows and not _are_temporary(rows[name].reference, rows[name].reproduction):
            row = rows[name]
            what = f"the {'working directory' if name == 'cwd' else name} of the launch"
            yield Suspect(
                kind="code",
                what=f"{what}: {shorten(row.reference)} -> {shorten(row.reproduction)}",
                weight=0.3 if name == "cwd" else 0.9,
                evidence=(f"launch.{name} differs",),
                fix=f"start {shorten(row.reference)}" if name != "cwd" else f"cd {shorten(row.reference)}",
            )
    yield from _suspect_entry(evidence)


def _suspect_entry(evidence: Evidence) -> Iterator[Suspect]:
    """What MLflow's own tags say was started, where a run did not record it itself."""
    runs = (evidence.reference, evidence.reproduction)
    entries = [run.tags.get(ENTRY_POINT_TAG, "") for run in runs]
    if not all(entries):
        if all(run.fact("launch.script").value for run in runs) or any(is_project_run(run) for run in runs):
            return
        entries = [run.fact("launch.script").value or run.tags.get("mlflow.source.name", "") for run in runs]
    one, other = (f"/{entry}" for entry in entries)
    if not all(entries) or one.endswith(other) or other.endswith(one) or _are_temporary(*entries):
        return
    yield Suspect(
        kind="code",
        what=f"what was started: {shorten(entries[0])} -> {shorten(entries[1])}",
        weight=0.9,
        evidence=("MLflow's tags name another start",),
        fix=f"start {shorten(entries[0])}",
    )


def _are_temporary(one: object, other: object) -> bool:
    return all(isinstance(side, str) and is_temporary(side) for side in (one, other))


def _parameter(one: Difference, way: str) -> Suspect:
    shown, (before, after) = one.name.lstrip("-"), one.shown
    return Suspect(
        kind=one.kind,
        what=f"{one.kind} {shown}: {before} -> {after}",
        weight=one.weight,
        evidence=(f"{way} {shown} is {before} in the reference, {after} in the reproduction",),
        fix=one.fix,
    )


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _describe_file(file: ChangedFile) -> str:
    return f"{file.path} was {file.how}" + (f" ({count(file.lines, 'line')})" if file.lines else "")


def _describe_commits(evidence: Evidence) -> str:
    one, other = (commit[:12] for commit in evidence.commits)
    if one and other and one != other:
        return f"commit {one} -> {other}"
    return f"the same commit {one or other} with other uncommitted changes"


def _show_difference(evidence: Evidence) -> str:
    one, other = evidence.commits
    if one and other and one != other:
        return f"git diff {one[:12]} {other[:12]}"
    return "commit what is changed before a run, or compare repro/code/changes.patch of the two runs"
