"""Rebuild a recorded environment with uv, once, in the cache; two processes, or one that is killed, do no harm.

An environment is built at its final place while a file lock is held, and is ready when its marker is written, last of
all. uv inherits the lock: when we are killed and uv goes on, nobody else touches the folder until uv has ended. A
folder without marker is what such a death leaves behind: it is removed and built again.

Wheels are installed without their dependencies and without running anything. Where a package has no wheel, its source
distribution is built, which runs its setup code: the record is of the store that the user named, and so is the code
that the reproduction runs with the same rights. It is said. A record from anywhere else must not be handed to this.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sysconfig
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.environment.pythons import find_python
from mlflow_repro.environment.uv import explain, find_uv
from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.system.folders import cache_directory
from mlflow_repro.system.locks import FOREVER, hold_lock
from mlflow_repro.text.pins import DEFAULT_INDEX, Pin, join_lines
from mlflow_repro.values.environment import digest_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlflow_repro.environment.uv import Uv
    from mlflow_repro.values.environment import PythonVersion

_MARKER = "mlflow-repro-ready.json"
_HINT = "--allow-substitutions takes another or leaves it out, --env current takes the environment that is here"
_NO_WHEEL = re.compile(
    r"no usable wheels|no wheels|building (?:from source|source distributions) is disabled|--no-build"
)
_NETWORK = re.compile(
    r"dns error|error sending request|Network connectivity is disabled|Connection refused|timed out|Could not connect"
    r"|50\d (?:Bad|Service|Gateway|Internal)"
)
_DISK = re.compile(r"No space left|Disk quota|Read-only file system")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What an environment is made of: a Python, and pins by the index that serves them (empty: direct references).

    ``versions`` are the versions of the direct references' packages, for a substitution.
    """

    python: PythonVersion
    groups: Sequence[tuple[str, Sequence[Pin]]]
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class BuiltEnvironment:
    """An environment that is ready. ``notes`` say what is not exactly as it was recorded."""

    directory: Path
    python: str
    notes: tuple[str, ...] = ()

    @property
    def site_packages(self) -> Path:
        """The folder with what is installed."""
        found = sorted(self.directory.glob("lib/*/site-packages"))
        return found[0] if found else self.directory / "lib"


def provide_environment(wanted: Wanted, *, allow_substitutions: bool = False) -> BuiltEnvironment:
    """The environment from the cache, built when it is not there.

    Raises CannotJudgeError when a package, Python or uv cannot be had, RefusedError for a wrong hash.
    """
    if not any(pins for _, pins in wanted.groups):
        raise CannotJudgeError("the recorded lock names no package: there is nothing to rebuild", "pass --env current")
    here = f"{sysconfig.get_platform()} {'-'.join(platform.libc_ver())}"
    root = cache_directory() / "envs"
    name = f"recorded-{digest_environment(wanted.python, here, wanted.groups)}"
    ready = _read_marker(root / name)
    if ready is None and allow_substitutions:
        # Apart: who allows none must never be given one with some.
        name += "-substituted"
        ready = _read_marker(root / name)
    if ready is not None:
        return ready
    try:
        root.mkdir(parents=True, exist_ok=True)
        with hold_lock(root / f"{name}.lock", wait=FOREVER) as lock:
            return _read_marker(root / name) or _build(root / name, wanted, lock, allow_substitutions)
    except OSError as error:
        raise CannotJudgeError(
            f"the environment cannot be built in {root}: {error}", "set MLFLOW_REPRO_CACHE to a folder with space"
        ) from error


def _read_marker(directory: Path) -> BuiltEnvironment | None:
    try:
        plain = json.loads((directory / _MARKER).read_text(encoding="utf-8"))
        built = BuiltEnvironment(directory=directory, python=plain["python"], notes=tuple(plain["notes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return built if (directory / "bin" / "python").exists() else None  # the Python below it may be gone


def _build(directory: Path, wanted: Wanted, lock: int, allow_substitutions: bool) -> BuiltEnvironment:  # noqa: FBT001
    _remove(directory)
    try:
        uv = find_uv(directory.parent, (lock,))
        built = _Builder(uv, directory, allow_substitutions=allow_substitutions).build(wanted)
        temporary = directory / f"{_MARKER}.new"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"python": built.python, "notes": built.notes}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(directory / _MARKER)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return built


def _remove(directory: Path) -> None:
    """Remove what a build that died has left, the marker first."""
    (directory / _MARKER).unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    if directory.exists():
        raise CannotJudgeError(f"{directory} is a half-built environment and cannot be removed", "remove it")


class _Builder:
    """One build; ``notes`` collect what is not exactly as it was recorded."""

    def __init__(self, uv: Uv, directory: Path, *, allow_substitutions: bool) -> None:
        self._uv = uv
        self._directory = directory
        self._python = str(directory / "bin" / "python")
        self._allow_substitutions = allow_substitutions
        self._notes: list[str] = []

    def build(self, wanted: Wanted) -> BuiltEnvironment:
        found = find_python(self._uv, wanted.python, allow_other_patch=self._allow_substitutions)
        if found.version != wanted.python:
            self._notes.append(f"{found.version} stands in for {wanted.python}")
        answer = self._uv.run(["venv", "--quiet", "--no-project", "--python", found.path, str(self._directory)])
        if answer.error:
            raise self._explain(answer.error)
        for index, pins in wanted.groups:
            self._install(index, {pin.name: pin for pin in pins}, wanted.versions)
        return BuiltEnvironment(directory=self._directory, python=found.version.version, notes=tuple(self._notes))

    def _install(self, index: str, pins: dict[str, Pin], versions: Mapping[str, str]) -> None:
        """Install all ``pins``; each round either ends it, or has one package less that cannot be had."""
        is_build_allowed = not index  # direct references are source trees
        while pins:
            error = self._try(index, pins, is_build_allowed=is_build_allowed)
            if not error:
                return
            blamed = _find_blamed(error, pins)
            if "Hash mismatch" in error:
                name = blamed.requirement if blamed else "a package"
                raise RefusedError(f"{name} has another hash than the lock says", "it is not what the run used")
            if not is_build_allowed and _NO_WHEEL.search(error):
                is_build_allowed = True
                self._notes.append(
                    "some packages have no wheel and were built from source"
                    + (f": {blamed.name} for one" if blamed else "")
                )
                continue
            if blamed is None or _DISK.search(error) or (_NETWORK.search(error) and "not found" not in error):
                raise self._explain(error)
            if not self._allow_substitutions:
                raise CannotJudgeError(f"{blamed.requirement} cannot be had: {explain(error)}", _HINT)
            self._substitute(blamed, pins, versions)

    def _try(self, index: str, pins: Mapping[str, Pin], *, is_build_allowed: bool) -> str:
        lock = self._directory / "mlflow-repro.lock"
        lock.write_text(join_lines(pins.values()), encoding="ascii")
        command = ["pip", "install", "--quiet", "--no-deps", "--verify-hashes", "--python", self._python]
        command += ["-r", str(lock), *_index_options(index), *([] if is_build_allowed else ["--no-build"])]
        # Of a version that is in uv's cache the index has nothing to tell, and to ask it of each package takes seconds.
        if not is_build_allowed and not self._uv.run([*command, "--offline"]).error:
            return ""
        return self._uv.run(command).error

    def _substitute(self, blamed: Pin, pins: dict[str, Pin], versions: Mapping[str, str]) -> None:
        """Put the newest of the same minor version, of the same major version or of all in the place of ``blamed``."""
        version = blamed.version or versions.get(blamed.name, "")
        del pins[blamed.name]
        for wish in _similar(version):
            command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", "--no-deps", "--no-build"]
            answer = self._uv.run([*command, "--python", self._python, "-"], text=f"{blamed.name}{wish}\n")
            name, _, other = answer.output.strip().partition("==")
            if not answer.error and name == blamed.name and other and other != version:
                found = Pin(name=name, version=other)
                if self._try(DEFAULT_INDEX, {name: found}, is_build_allowed=False):
                    continue
                self._notes.append(f"{found.requirement} stands in for {blamed.requirement}")
                return
        self._notes.append(f"{blamed.requirement} is left out: it cannot be had")

    def _explain(self, error: str) -> CannotJudgeError:
        if _DISK.search(error):
            return CannotJudgeError(
                f"the environment cannot be built: {explain(error)}", "set MLFLOW_REPRO_CACHE to a folder with space"
            )
        if _NETWORK.search(error):
            return CannotJudgeError(
                f"the package index cannot be reached: {explain(error)}", "try again later, or pass --env current"
            )
        return CannotJudgeError(f"uv cannot build the environment: {explain(error)}", "or pass --env current")


def _index_options(index: str) -> list[str]:
    return [] if index in ("", DEFAULT_INDEX) else ["--index-url", index]


def _find_blamed(error: str, pins: Mapping[str, Pin]) -> Pin | None:
    """The pin that uv's words name first."""
    named = re.finditer(r"([a-z0-9]+(?:-[a-z0-9]+)*)(?:==| @ | was not found)", error)
    return next((pins[match[1]] for match in named if match[1] in pins), None)


def _similar(version: str) -> list[str]:
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return [f"=={numbers[1]}.{numbers[2]}.*", f"=={numbers[1]}.*", ""] if numbers else [""]
