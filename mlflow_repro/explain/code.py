"""Suspects in what was run: the code, file by file, and how it was started."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from mlflow_repro.explain.data import changed_data_parameters, changed_data_paths
from mlflow_repro.explain.evidence import Suspect, count, shorten
from mlflow_repro.text.command_line import diff_arguments, parse_python_argv, value_of
from mlflow_repro.text.redact import redact_named

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlflow_repro.explain.evidence import ChangedFile, Evidence

_SHOWN = 5
_CODE = (".py", ".pyx", ".pyi", ".ipynb", ".sh", ".r", ".c", ".cc", ".cpp", ".cu", ".rs", ".jl", "mlproject")
_SETTINGS = (".yaml", ".yml", ".toml", ".json", ".ini", ".cfg", ".env", ".conf")
_NO_INFLUENCE = (".md", ".rst", ".gitignore", ".gitattributes", "license", ".editorconfig", ".svg")
SEED_NAME = re.compile(r"(?:^|[_\-.\s])(?:seed|random[_\-]?state)s?$", re.IGNORECASE)


def suspect_code(evidence: Evidence) -> Iterator[Suspect]:
    """The commit or the uncommitted changes are not the same: the files, those that can count first."""
    rows = evidence.changed("code")
    trees = evidence.both("code", "tree")
    is_other = all(trees) and trees[0] != trees[1]
    if not (is_other or (not all(trees) and rows.keys() & {"commit", "dirty"}) or evidence.changed_files):
        return
    facts = [_describe_commits(rows, evidence)]
    files = [file for file in evidence.changed_files or () if not _is_data(file.path)]
    if evidence.changed_files is None:
        what = "the code is another one"
        fix = _show_difference(evidence)
        yield Suspect(kind="code", what=what, weight=0.8, evidence=tuple(facts), fix=fix)
        return
    telling = [file for file in files if _influence(file) > 0]
    if not telling:
        return
    weight = max(_influence(file) for file in telling)
    first = max(telling, key=lambda file: (_influence(file), file.lines))
    others = f" and {count(len(telling) - 1, 'other file')}" if len(telling) > 1 else ""
    facts += [_describe_file(file) for file in sorted(telling, key=_influence, reverse=True)[:_SHOWN]]
    yield Suspect(
        kind="code",
        what=f"the code: {first.path}{others} {'differ' if others else 'differs'}",
        weight=weight,
        evidence=tuple(facts),
        fix=_show_difference(evidence),
    )


def suspect_data_files_of_tree(evidence: Evidence) -> Iterator[Suspect]:
    """Files of the working tree that are data, not code."""
    named = changed_data_paths(evidence)  # those have a cause already
    for file in evidence.changed_files or ():
        if _is_data(file.path) and file.path not in named:
            yield Suspect(
                kind="data",
                what=f"the file {file.path} of the repository was {file.how}",
                weight=0.9,
                evidence=(_describe_file(file),),
                fix=f"git checkout {_commit(evidence)} -- {file.path}",
            )


def suspect_parameters(evidence: Evidence) -> Iterator[Suspect]:
    """Launch parameters, then arguments of the command line, then what was only logged as a parameter."""
    launched: set[str] = set()
    files = {_plain(name) for name in changed_data_parameters(evidence)}
    for name, one, other, way in _launch_differences(evidence):
        launched.add(_plain(name))
        if _plain(name) not in files:  # the file is the cause, by whatever name it goes
            yield _parameter(name, one, other, way)
    for row in evidence.changed("param").values():
        if _plain(row.name) in launched | files:
            continue
        one, other = (None if side is None else str(side) for side in (row.reference, row.reproduction))
        # A parameter that the same command line gave may be a result: the best of a search, a size of the data.
        weight = 0.3 if evidence.has_records else 0.85
        yield _parameter(row.name, one, other, "logged as a parameter", weight)


def suspect_start(evidence: Evidence) -> Iterator[Suspect]:
    """Another script, working directory or entry point."""
    rows = evidence.changed("launch")
    for name in ("script", "cwd", "program"):
        if name in rows:
            row = rows[name]
            what = f"the {'working directory' if name == 'cwd' else name} of the launch"
            yield Suspect(
                kind="code",
                what=f"{what}: {shorten(row.reference)} -> {shorten(row.reproduction)}",
                weight=0.3 if name == "cwd" else 0.9,
                evidence=(f"launch.{name} differs",),
                fix=f"start {shorten(row.reference)}" if name != "cwd" else f"cd {shorten(row.reference)}",
            )


def changed_seed_parameters(evidence: Evidence) -> set[tuple[str | None, str | None]]:
    """The two values of each launch parameter that differs and is called a seed."""
    rows = _launch_differences(evidence)
    return {(one, other) for name, one, other, _ in rows if SEED_NAME.search(name.lstrip("-"))}


def read_arguments(argv: Any) -> tuple[str, ...] | None:
    """What the program itself was given of a recorded command line; None when there is none."""
    if isinstance(argv, str):
        try:
            argv = json.loads(argv)
        except ValueError:
            return None
    if not (isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv)):
        return None
    return parse_python_argv(argv).arguments


def _launch_differences(evidence: Evidence) -> Iterator[tuple[str, str | None, str | None, str]]:
    params = evidence.both("launch", "params")
    if all(isinstance(side, dict) for side in params):
        for row in evidence.changed("launch", "params.").values():
            one, other = (None if side is None else str(side) for side in (row.reference, row.reproduction))
            yield row.name.removeprefix("params."), one, other, "launch parameter"
        return
    lists = [read_arguments(side) for side in evidence.both("launch", "argv")]
    if any(side is None for side in lists) or any(isinstance(side, dict) for side in params):
        return
    words: list[Sequence[str]] = [side or () for side in lists]
    for change in diff_arguments(*words):
        yield change.name, value_of(change.one), value_of(change.other), "argument of the command line"


def _parameter(name: str, one: str | None, other: str | None, way: str, weight: float = 0.95) -> Suspect:
    one, other = (None if side is None else redact_named(name, side) for side in (one, other))
    is_seed = bool(SEED_NAME.search(name.lstrip("-")))
    shown = name.lstrip("-")
    return Suspect(
        kind="seed" if is_seed else "parameter",
        what=f"{'seed' if is_seed else 'parameter'} {shown}: {shorten(one)} -> {shorten(other)}",
        weight=weight,
        evidence=(f"{way} {shown} is {shorten(one)} in the reference, {shorten(other)} in the reproduction",),
        fix=give_argument(name, one),
    )


def give_argument(name: str, value: str | None) -> str:
    """How to start the run with an argument or a launch parameter as the reference had it; None for without."""
    return f"start it with {_as_option(name, value)}" if value is not None else f"start it without {name}"


def _as_option(name: str, value: str) -> str:
    if name.startswith("argument "):
        return f"{name} = {value}"
    if value == "set":  # a flag
        return name
    return f"{name} {shlex.quote(value)}" if name.startswith("-") else f"-P {shlex.quote(f'{name}={value}')}"


def _plain(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _influence(file: ChangedFile) -> float:
    name = file.path.lower().rpartition("/")[2]
    is_test = "/test" in f"/{file.path.lower()}" or name.startswith(("test_", "conftest"))
    if name.endswith(_NO_INFLUENCE) or name.startswith("readme"):
        return 0.0
    if name.endswith(_CODE):
        return 0.05 if is_test else 0.9
    return 0.7 if name.endswith(_SETTINGS) else 0.3


def _is_data(path: str) -> bool:
    name = path.lower()
    return name.endswith((".csv", ".tsv", ".parquet", ".npy", ".npz", ".h5", ".hdf5", ".pkl", ".jsonl", ".arff", ".gz"))


def _describe_file(file: ChangedFile) -> str:
    return f"{file.path} was {file.how}" + (f" ({count(file.lines, 'line')})" if file.lines else "")


def _describe_commits(rows: Any, evidence: Evidence) -> str:
    commit = rows.get("commit")
    if commit is not None:
        return f"commit {shorten(commit.reference)[:12]} -> {shorten(commit.reproduction)[:12]}"
    return f"the same commit {_commit(evidence)[:12]} with other uncommitted changes"


def _commit(evidence: Evidence) -> str:
    return evidence.reference.fact("git.commit").value or "COMMIT"


def _show_difference(evidence: Evidence) -> str:
    one, other = (run.fact("git.commit").value or "" for run in (evidence.reference, evidence.reproduction))
    if one and other and one != other:
        return f"git diff {one[:12]} {other[:12]}"
    return "commit what is changed before a run, or compare repro/code/changes.patch of the two runs"
