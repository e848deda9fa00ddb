"""The program's own modules: which of those that are loaded are neither Python's nor of what is installed."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from typing import Any

from mlflow_repro.code.places import find_places
from mlflow_repro.code.program import main_script
from mlflow_repro.system.beginning import first_time
from mlflow_repro.system.folders import try_read
from mlflow_repro.text.filenames import is_secret_file
from mlflow_repro.values.captured import NO_TIME, Section, missing, run_steps

_MOST = 500  # modules that are recorded
_LONGEST = 2_000_000  # bytes of one that is read
_found: dict[str, list[Any]] = {}  # which modules were loaded when they were last looked at, and the own files of them


def record_modules(deadline: float) -> Section:
    """The fact ``modules`` of the section ``code``: the program's own files that were loaded, with their digests.

    ``deadline`` is a moment of `time.monotonic`. A file that was written after the process had begun may be another one
    than was loaded: it has no digest. Raises nothing.
    """
    return Section(facts=run_steps({"modules": lambda: _describe_modules(deadline)}, deadline))


def own_files() -> list[str]:
    """The absolute paths of the loaded modules that are the program's: neither Python's, nor of what is installed.

    They are looked for again when other modules are loaded than the last time; that takes some milliseconds.
    """
    loaded = [id(module) for module in list(sys.modules.values())]
    if _found.get("loaded") != loaded:
        _found.update(loaded=loaded, files=_find_own_files())
    return list(_found["files"])


def _find_own_files() -> list[str]:
    installed = code_prefixes()
    found: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        file = file_of(module)
        is_ours = name.partition(".")[0] in ("mlflow", "mlflow_repro")
        if file.endswith(".py") and not is_ours and not file.startswith(installed):
            found[os.path.realpath(file)] = None
    script = main_script()  # whose module is gone when the program has ended
    if script is not None:
        found[script] = None
    return [file for file in found if not file.startswith(installed)]


def read_own_sources() -> list[str]:
    """The text of each of `own_files`."""
    return [try_read(path, _LONGEST) for path in own_files()]


def code_prefixes() -> tuple[str, ...]:
    """The folders whose files belong to Python, or to what is installed."""
    folders = {os.path.dirname(os.__file__)}
    for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix):
        folders.update(os.path.join(prefix, name) for name in ("bin", "include", "lib", "lib64"))
    folders.update(entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages"))
    folders.update([os.path.realpath(folder) for folder in folders])
    return tuple(f"{folder}/" for folder in sorted(folders))


def file_of(module: Any) -> str:
    """The ``__file__`` of a module, asked for in a way that loads no lazy module; empty when there is none."""
    if type(module).__name__ == "_LazyModule":  # importlib.util.LazyLoader: not loaded yet
        return ""
    try:
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except Exception:  # noqa: BLE001 - anything may stand in sys.modules
        return ""
    return file if isinstance(file, str) and os.path.isabs(file) else ""


def _describe_modules(deadline: float) -> list[dict[str, Any]]:
    places, rows = find_places(), []
    for file in sorted(own_files())[:_MOST]:
        reason = NO_TIME if time.monotonic() >= deadline else ""
        rows.append({**places.name(file), "sha256": missing(reason) if reason else _digest(file)})
    return rows


def _digest(file: str) -> Any:
    if is_secret_file(file):
        return missing("withheld: by its name it holds credentials")
    try:
        with open(file, "rb") as stream:
            found = os.fstat(stream.fileno())
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        return missing(f"it cannot be read: {error.strerror}")
    if found.st_mtime >= first_time():
        return missing("it was written after the process had begun")
    return hashlib.sha256(content).hexdigest() if len(content) <= _LONGEST else missing("it is too long")
