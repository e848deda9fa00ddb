"""Find the Python that an environment needs, to the patch level; uv may fetch it, and nothing else takes its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.system.processes import run_whole
from mlflow_repro.text.versions import read_release
from mlflow_repro.values.environment import PythonVersion

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.environment.uv import Uv

_PROBE = (
    "import json, platform, sysconfig;"
    "print(json.dumps([platform.python_version(), platform.python_implementation().lower(),"
    " bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)
_PROBE_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python that is here."""

    path: str
    version: PythonVersion


def find_python(uv: Uv, wanted: PythonVersion, *, allow_other_patch: bool = False) -> Interpreter:
    """This Python, pyenv's, one on ``PATH``, one that uv has or can fetch: the first that is exactly ``wanted``.

    With ``allow_other_patch`` the nearest patch level of the same minor version, when that cannot be had. Raises
    CannotJudgeError that names the wanted version.
    """
    others: list[Interpreter] = []
    for path in dict.fromkeys(_list_candidates(wanted)):
        found = _probe(path)
        if found is not None and found.version == wanted:
            return found
        if found is not None and _is_near(found.version, wanted):
            others.append(found)
    managed = _ask_uv(uv, wanted, wanted.version)
    if managed is not None and managed.version == wanted:
        return managed
    if allow_other_patch and not others:
        near = _ask_uv(uv, wanted, wanted.minor)
        others += [near] if near is not None and _is_near(near.version, wanted) else []
    if allow_other_patch and others:
        return min(others, key=lambda other: abs(_patch(other.version) - _patch(wanted)))
    here = ", ".join(sorted({other.version.version for other in others}))
    raise CannotJudgeError(
        f"the run was made with {wanted}, which is neither here nor can uv fetch it",
        f"install it (pyenv install {wanted.version}, or uv python install {wanted.version}); or pass --env current"
        + (f", or --allow-substitutions to take {here}" if here else ""),
    )


def _list_candidates(wanted: PythonVersion) -> Iterator[str]:
    yield sys.executable
    name = "python" if wanted.implementation == "cpython" else wanted.implementation
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    try:
        versions = sorted(os.listdir(os.path.join(root, "versions")))
    except OSError:
        versions = []
    # Not by its shims: they refuse every version that is not switched on.
    yield from (
        os.path.join(root, "versions", version, "bin", "python") for version in versions if wanted.minor in version
    )
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for file in (f"{name}{wanted.minor}", "python3"):
            path = os.path.join(folder, file)
            if folder and os.path.isfile(path) and os.access(path, os.X_OK):
                yield path


def _probe(path: str) -> Interpreter | None:
    """What the Python at ``path`` says of itself; None when it is none, or cannot start."""
    try:
        done = run_whole([path, "-I", "-S", "-c", _PROBE], timeout=_PROBE_SECONDS)
        version, implementation, is_free_threaded = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    if done.returncode:
        return None
    return Interpreter(
        path=path,
        version=PythonVersion(version=version, implementation=implementation, is_free_threaded=is_free_threaded),
    )


def _ask_uv(uv: Uv, wanted: PythonVersion, version: str) -> Interpreter | None:
    """The Python that uv keeps, fetched when it may be (``UV_PYTHON_DOWNLOADS``, ``UV_OFFLINE`` are obeyed)."""
    request = f"{wanted.implementation}@{version}{'t' if wanted.is_free_threaded else ''}"
    find = ["python", "find", "--quiet", request]
    only_managed = {"UV_PYTHON_PREFERENCE": "only-managed"}
    answer = uv.run(find, UV_PYTHON_DOWNLOADS="never", **only_managed)
    if answer.error and not uv.run(["python", "install", "--quiet", request]).error:
        answer = uv.run(find, UV_PYTHON_DOWNLOADS="never", **only_managed)
    return None if answer.error else _probe(answer.output.strip())


def _is_near(one: PythonVersion, other: PythonVersion) -> bool:
    return (one.minor, one.implementation, one.is_free_threaded) == (
        other.minor,
        other.implementation,
        other.is_free_threaded,
    )


def _patch(version: PythonVersion) -> int:
    return (read_release(version.version) or (0, 0, 0))[2]
