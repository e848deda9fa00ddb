"""The code of two runs: what differs, which of its modules they had loaded, and what the lines of those hint at."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.code.checkout import checkout, restore_working_tree
from mlflow_repro.code.difference import diff_folders, read_sources
from mlflow_repro.errors import CannotJudgeError, ReproError
from mlflow_repro.explain.evidence import ChangedFile
from mlflow_repro.explain.hints import find_program_hints
from mlflow_repro.explain.names import Program
from mlflow_repro.judging.sides import read_tree
from mlflow_repro.plan.launch import recorded_commit, recorded_uri
from mlflow_repro.text.giturl import local_path, parse_git_uri
from mlflow_repro.values.plan import Source
from mlflow_repro.values.run import is_project_run
from mlflow_repro.values.sections import StoredFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.evidence import CodeHint
    from mlflow_repro.judging.sides import Side

_CELLS = "the notebook"
_MAGIC = re.compile(r"^(\s*)[%!?].*$", re.MULTILINE)
_SCRIPTS = re.compile(r"[\w./-]+\.py\b")
_LONGEST_TEXT = 300  # characters of a literal that may name a file


@dataclass(frozen=True, kw_only=True)
class CodeView:
    """What was seen; None is what could not be. ``loaded`` are paths of the repository, ``texts`` literals of those."""

    changed_files: tuple[ChangedFile, ...] | None = None
    loaded: frozenset[str] | None = None
    texts: frozenset[str] | None = None
    hints: tuple[CodeHint, ...] | None = None


def look_at_code(sides: tuple[Side, Side], folder: Path | None, *, fetches: bool) -> CodeView:
    """Look at the code of both runs, the reference's first.

    ``folder`` is a checkout of the code that both had; without it the code is fetched: from this machine, or with
    ``fetches`` from wherever it is. Nothing of it is run.
    """
    trees = [side.record.code.tree for side in sides]
    is_same = isinstance(trees[0], str) and trees[0] == trees[1]
    if folder is not None:
        return _read_view(sides, (folder,), () if is_same else None)
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-") as work:
        places = [Path(work) / name for name in ("one", "other")][: 1 if is_same else 2]
        uris = [recorded_uri(side.run) for side in sides]
        found = [
            place
            for side, place, uri in zip(sides, places, (uris[0] or uris[1], uris[1] or uris[0]), strict=False)
            if _fetch(side, place, uri, fetches=fetches)
        ]
        changed = () if is_same else _diff(places) if len(found) == len(places) else None
        return _read_view(sides, tuple(found), changed)


def _diff(places: list[Path]) -> tuple[ChangedFile, ...]:
    rows = diff_folders(*places)
    return tuple(ChangedFile(path=row.path, how=row.how, lines=row.lines) for row in rows)


def _read_view(
    sides: tuple[Side, Side],
    folders: tuple[Path, ...],
    changed: tuple[ChangedFile, ...] | None,
) -> CodeView:
    """The view of what is in ``folders``, the reference's first where it could be had."""
    sources = _read_cells(sides[0])
    found = [_find_loaded(side, folders) for side in sides]
    known = [paths for paths in found if paths is not None]
    loaded = frozenset().union(*known) if known else None
    for folder in reversed(folders) if loaded is not None else ():  # where both have a file, the reference's counts
        sources.update(read_sources(folder, loaded))
    if not sources:
        return CodeView(changed_files=changed, loaded=loaded)
    hints = tuple(find_program_hints(sources))
    texts = frozenset(text for source in sources.values() for text in _list_texts(source))
    return CodeView(changed_files=changed, loaded=loaded, texts=texts, hints=hints)


def _find_loaded(side: Side, folders: tuple[Path, ...]) -> frozenset[str] | None:
    """The repository's modules that a run had loaded, as it recorded them; else all that its script would import."""
    modules = side.record.code.modules
    if modules is not None:
        return frozenset(module.path for module in modules if module.place == "repository")
    sources = read_sources(folders[0]) if folders else {}
    starts = [path for path in sources if any(_is_path_of(name, path) for name in _list_starts(side, folders[0]))]
    reached = Program(sources).reach(starts)
    return frozenset(reached) or None


def _is_path_of(name: str, path: str) -> bool:
    """True when what was started, a path of whatever machine, may be this one of the repository."""
    return f"/{name}".endswith(f"/{path}") or (not name.startswith("/") and path.endswith(f"/{name}"))


def _list_starts(side: Side, folder: Path) -> Iterator[str]:
    """The scripts by which a run may have been started."""
    script = side.run.fact("launch.script").value
    if script:
        yield script
    elif is_project_run(side.run):
        for project in folder.rglob("MLproject"):
            yield from _SCRIPTS.findall(project.read_text(encoding="utf-8", errors="replace"))
    else:
        yield side.run.tags.get("mlflow.source.name", "")


def _read_cells(side: Side) -> dict[str, str]:
    """The cells of a notebook, as one file; empty for another program."""
    notebook = side.record.launch.notebook
    with suppress(ValueError, RecursionError, CannotJudgeError):
        content = side.read_recorded(StoredFile(file=notebook.file)) if notebook else b"null"
        cells = json.loads(content)
        if isinstance(cells, list):
            return {_CELLS: "\n".join(_MAGIC.sub(r"\1pass", str(cell)) for cell in cells)}
    return {}


def _list_texts(source: str) -> Iterator[str]:
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= _LONGEST_TEXT:
                yield node.value


def _fetch(side: Side, place: Path, uri: str, *, fetches: bool) -> bool:
    """Make ``place`` the tree that a run had; False where that cannot be done."""
    commit = recorded_commit(side.run)
    if not (uri and commit):
        return False
    with suppress(ReproError, OSError):
        source = Source(uri=parse_git_uri(uri).absolute, commit=commit)
        path = local_path(source.uri)
        if not fetches and (path is None or not Path(path).exists()):
            return False
        tree = read_tree(side, side.record)
        checkout(source, place, bundle=(tree and tree.bundle) or b"")
        restore_working_tree(source, place, tree)
        return True
    return False
