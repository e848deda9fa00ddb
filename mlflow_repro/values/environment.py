"""What is known of environments: the one that a run recorded, and the one that is here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.text.pins import is_known_index, normalise_name
from mlflow_repro.values.sections import Interpreter, Missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.text.pins import Pin
    from mlflow_repro.values.sections import Direct, Environment, Lock

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
class RecordedEnvironment:
    """The section ``environment`` of a run's record, checked.

    ``imported`` names what the run had imported, None when that is not known. ``left_out`` are the packages that no
    lock can hold, each with its reason; ``checkouts`` those of them that were imported from a git commit, with it and
    the folder (a ``file://`` URL of the machine that recorded it).
    """

    installed: Installed
    imported: tuple[str, ...] | None
    locks: tuple[Lock, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    checkouts: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def needed(self) -> tuple[str, ...]:
        """The packages whose versions count: those that were imported; all of them when that is not known."""
        names = self.installed.distributions if self.imported is None else self.imported
        return tuple(sorted(set(names) - {OURSELVES}))


def read_environment(section: Environment) -> RecordedEnvironment:
    """The section ``environment`` of a record. Raises CannotJudgeError when it does not say enough, RefusedError."""
    interpreter = section.interpreter or Interpreter()
    version = interpreter.version or section.python or ""
    implementation = (interpreter.implementation or "CPython").lower()
    if not _PYTHON.fullmatch(version) or implementation not in IMPLEMENTATIONS:
        raise CannotJudgeError(f"the recorded Python {implementation[:20]} {version[:20]!r} is not one that is known")
    locks = section.locks
    distributions = {normalise_name(name): version for name, version in section.versions.items()}
    if not distributions:
        packages = section.distributions
        why = packages.reason[:200] if isinstance(packages, Missing) else "nothing was written"
        raise CannotJudgeError(f"the packages of the run are not recorded: {why}")
    is_free_threaded = bool(_FREE_THREADED.match(interpreter.abi or ""))
    python = PythonVersion(version=version, implementation=implementation, is_free_threaded=is_free_threaded)
    return RecordedEnvironment(
        installed=Installed(python=python, distributions=distributions),
        imported=section.imported,
        locks=() if locks is None or isinstance(locks, Missing) else tuple(map(_check_lock, locks)),
        left_out=section.left_out_of_locks or {},
        checkouts=_find_checkouts(section.direct or ()),
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


def _check_lock(lock: Lock) -> Lock:
    """The lock, whose index is empty where it has none."""
    if not _LOCK_PATH.fullmatch(lock.file):
        raise RefusedError(f"the record names a lock outside its own folder: {lock.file[:80]!r}")
    index = "" if lock.index.startswith("none") else lock.index
    if index and not is_known_index(index):
        raise RefusedError(
            f"the record names a package index that is not asked: {index[:80]!r}", "--env current does without it"
        )
    return replace(lock, index=index)


def _find_checkouts(direct: Iterable[Direct]) -> dict[str, tuple[str, str]]:
    """Of what was imported from a source tree in a git repository: the commit and the folder, by name."""
    return {row.name: (row.git.commit, row.url or "") for row in direct if row.editable and row.git and row.git.commit}
