"""What is known of environments: the one that a run recorded, and the one that is here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.text.pins import is_known_index, normalise_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.text.pins import Pin

OURSELVES = "mlflow-repro"
IMPLEMENTATIONS = ("cpython", "pypy", "graalpy")
# Named first where many differ: what results most often depend on.
_TELLING = (
    "scikit-learn", "torch", "tensorflow", "tensorflow-cpu", "keras", "jax", "xgboost", "lightgbm", "catboost",
    "transformers", "numpy", "scipy", "pandas", "mlflow",
)  # fmt: skip
_FORMAT = 1  # of the cached environments; a change makes all of them anew
_PYTHON = re.compile(r"(\d+\.\d+)\.\d+(?:(?:a|b|rc)\d+)?", re.ASCII)
_LOCK_PATH = re.compile(r"repro/environment/[\w.-]+", re.ASCII)
_FREE_THREADED = re.compile(r"cpython-\d+t\b")


@dataclass(frozen=True, kw_only=True)
class PythonVersion:
    """A Python as exactly as it is asked for: ``version`` with its patch level, ``implementation`` in lower case."""

    version: str
    implementation: str = "cpython"
    is_free_threaded: bool = False

    @property
    def minor(self) -> str:
        """``3.11`` of ``3.11.7``."""
        return ".".join(self.version.split(".")[:2])

    def __str__(self) -> str:
        name = "" if self.implementation == "cpython" else f" ({self.implementation})"
        return f"Python {self.version}{'t' if self.is_free_threaded else ''}{name}"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A Python and the versions of what is installed for it, by normalised name."""

    python: PythonVersion
    distributions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class LockFile:
    """A lock of a record: the artifact's path, the index that serves it, and what else the record says of the file."""

    path: str
    index: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RecordedEnvironment:
    """The section ``environment`` of a run's record, checked.

    ``imported`` names what the run had imported, None when that is not known. ``left_out`` are the packages that no
    lock can hold, each with its reason; ``checkouts`` those of them that were imported from a git commit, with it and
    the folder (a ``file://`` URL of the machine that recorded it).
    """

    installed: Installed
    imported: tuple[str, ...] | None
    locks: tuple[LockFile, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    checkouts: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[str, ...]:
        """The packages whose versions count: those that were imported; all of them when that is not known."""
        names = self.installed.distributions if self.imported is None else self.imported
        return tuple(sorted(set(names) - {OURSELVES}))


def read_environment(section: Mapping[str, Any]) -> RecordedEnvironment:
    """The section ``environment`` of a record. Raises CannotJudgeError when it does not say enough, RefusedError."""
    interpreter = _table(section.get("interpreter"))
    version = str(interpreter.get("version") or section.get("python") or "")
    implementation = str(interpreter.get("implementation") or "CPython").lower()
    if not _PYTHON.fullmatch(version) or implementation not in IMPLEMENTATIONS:
        raise CannotJudgeError(f"the recorded Python {implementation[:20]} {version[:20]!r} is not one that is known")
    distributions = {
        normalise_name(name): value
        for name, value in _table(section.get("distributions")).items()
        if isinstance(value, str) and name != "absent"
    }
    if not distributions:
        raise CannotJudgeError(f"the packages of the run are not recorded: {_why(section.get('distributions'))}")
    imported, locks = section.get("imported"), section.get("locks")
    is_free_threaded = bool(_FREE_THREADED.match(str(interpreter.get("abi") or "")))
    python = PythonVersion(version=version, implementation=implementation, is_free_threaded=is_free_threaded)
    return RecordedEnvironment(
        installed=Installed(python=python, distributions=distributions),
        imported=tuple(str(name) for name in imported) if isinstance(imported, list) else None,
        locks=tuple(map(_read_lock, locks)) if isinstance(locks, list) else (),
        left_out={str(name): str(why) for name, why in _table(section.get("left_out_of_locks")).items()},
        checkouts=_find_checkouts(section.get("direct")),
    )


def list_differences(recorded: Installed, other: Installed, names: Iterable[str], where: str) -> list[str]:
    """How ``other`` differs from the recorded environment in ``names`` and in Python; ``where`` is a word for it."""
    lines = []
    if recorded.python != other.python:
        lines.append(f"{recorded.python}, {where} {other.python}")
    for name in sorted(names, key=_rank):
        one, two = recorded.distributions.get(name), other.distributions.get(name)
        if one != two:
            lines.append(f"{name} {one or 'not there'}, {where} {two or 'missing'}")
    return lines


def _rank(name: str) -> tuple[int, str]:
    return (_TELLING.index(name) if name in _TELLING else len(_TELLING), name)


def digest_environment(python: PythonVersion, platform: str, groups: Iterable[tuple[str, Iterable[Pin]]]) -> str:
    """20 hex digits for a Python, a platform and all locks: what has the same digest can be shared."""
    locks = sorted((index, sorted(pin.line for pin in pins)) for index, pins in groups)
    text = json.dumps([_FORMAT, str(python), python.implementation, platform, locks])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _read_lock(plain: Any) -> LockFile:
    row = _table(plain)
    path, index = str(row.get("file")), str(row.get("index"))
    index = "" if index.startswith("none") else index
    if not _LOCK_PATH.fullmatch(path):
        raise RefusedError(f"the record names a lock outside its own folder: {path[:80]!r}")
    if index and not is_known_index(index):
        raise RefusedError(
            f"the record names a package index that is not asked: {index[:80]!r}", "--env current does without it"
        )
    facts = {name: row[name] for name in ("sha256", "run_id") if name in row}
    return LockFile(path=path, index=index, facts=facts)


def _find_checkouts(direct: Any) -> dict[str, tuple[str, str]]:
    """Of what was imported from a source tree in a git repository: the commit and the folder, by name."""
    rows = [_table(row) for row in direct] if isinstance(direct, list) else []
    found = {}
    for row in rows:
        commit = _table(row.get("git")).get("commit")
        if row.get("editable") is True and isinstance(commit, str):
            found[str(row.get("name"))] = (commit, str(row.get("url")))
    return found


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _why(value: Any) -> str:
    return str(_table(value).get("absent", "nothing was written"))[:200]
