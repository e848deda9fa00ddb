"""How likely a file of the repository that is not the same changes results: by what it is, and whether it was used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_repro.explain.evidence import ChangedFile, Evidence

_PYTHON = (".py", ".pyx", ".pyi")
_CODE = (*_PYTHON, ".ipynb", ".sh", ".r", ".c", ".cc", ".cpp", ".cu", ".rs", ".jl", "mlproject")
_SETTINGS = (".yaml", ".yml", ".toml", ".json", ".ini", ".cfg", ".env", ".conf", ".properties")
_DATA = (".csv", ".tsv", ".parquet", ".npy", ".npz", ".h5", ".hdf5", ".pkl", ".jsonl", ".arff", ".gz", ".feather")
_NO_INFLUENCE = (
    ".md", ".rst", ".gitignore", ".gitattributes", "license", ".editorconfig", ".svg", ".png", ".jpg", ".gif", ".pdf",
    "codeowners", "authors", "changelog.txt", "notice",
)  # fmt: skip
# What is installed from these is looked at itself; others serve the tools that one develops with.
_OF_TOOLS = re.compile(
    r"(?:.*/)?(?:\.[^/]+(?:/.*)?|requirements[\w.-]*\.(?:txt|in)|constraints[\w.-]*\.txt|conda[\w.-]*\.ya?ml|setup\.(?:py|cfg)"
    r"|environment\.ya?ml|python_env\.ya?ml|dockerfile[\w.-]*|makefile|tox\.ini|noxfile\.py|pytest\.ini|mkdocs\.yml|[\w.-]*\.lock"
    r"|docker-compose[\w.-]*|package(?:-lock)?\.json|conftest\.py)"
)
# The system's, one below a user's own, or one that Python's tempfile or pytest made.
_TEMPORARY = re.compile(
    r"(?:/private)?/(?:tmp|var/tmp|var/folders|dev/shm|run/user/\d+)(?:/|$)|/(?:.+/)?(?:te?mp|tmp[a-z0-9_]{8}|pytest-of-[^/]+)(?:/|$)"
)


def influence(file: ChangedFile, evidence: Evidence) -> float:
    """From 0, for a file that cannot change a result, to 1."""
    path = file.path.lower()
    name = path.rpartition("/")[2]
    if name.endswith(_NO_INFLUENCE) or name.startswith("readme"):
        return 0.0
    if path.endswith(_PYTHON) and evidence.loaded is not None:
        return 0.9 if file.path in evidence.loaded else 0.0
    if _OF_TOOLS.fullmatch(path) and not _is_named(file.path, evidence):
        return 0.05 if evidence.texts is None else 0.0
    if path.endswith(_CODE):
        return _weigh_code(file, evidence)
    weight = 0.7 if name.endswith(_SETTINGS) else 0.3
    is_named = evidence.texts is not None and _is_named(file.path, evidence)
    return min(weight + 0.1, 0.9) if is_named else weight * _use(file.path, evidence)


def influence_of_data(file: ChangedFile, evidence: Evidence) -> float:
    """As `influence`, of a data file."""
    return 0.9 * _use(file.path, evidence)


def _use(path: str, evidence: Evidence) -> float:
    """How likely the program reads a file: by its name, or by its folder where it names no such files one by one."""
    if evidence.texts is None or _is_named(path, evidence):
        return 1.0
    words = _words(evidence)
    if words.isdisjoint(path.split("/")[:-1]):
        return 0.03
    ending = f".{path.rpartition('.')[2]}"
    return 0.05 if any(word.endswith(ending) for word in words) else 0.7


def is_data(path: str) -> bool:
    """True for a file of the repository that is data, by its name."""
    return path.lower().endswith(_DATA)


def is_temporary(path: str | None) -> bool:
    """True for an absolute path in a folder for temporary files."""
    return path is not None and bool(_TEMPORARY.match(path))


def _weigh_code(file: ChangedFile, evidence: Evidence) -> float:
    path = file.path.lower()
    if path.endswith(("mlproject", ".ipynb")):
        is_used = evidence.is_project if path.endswith("mlproject") else evidence.is_notebook
        return 0.9 if is_used else 0.02
    is_test = "/test" in f"/{path}" or path.rpartition("/")[2].startswith("test_")
    if is_test:
        return 0.05
    return 0.9 if evidence.texts is None or _is_named(file.path, evidence) else 0.2


def _is_named(path: str, evidence: Evidence) -> bool:
    """True when the program's lines have the file's name, with its ending or without, or a pattern for it."""
    name = path.rpartition("/")[2]
    stem, _, ending = name.rpartition(".")
    return not _words(evidence).isdisjoint({name, stem, f"*.{ending}", f"**.{ending}"} - {""})


def _words(evidence: Evidence) -> set[str]:
    return {word for text in evidence.texts or () for word in re.split(r"[/\\]", text)}
