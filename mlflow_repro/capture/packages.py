"""The section ``environment``: everything that is installed, what of it was imported, and the platform below.

The lock's format, and why it is that one, is described in `mlflow_repro.capture.lock`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlflow_repro.capture.distributions import (
    add_git_facts,
    describe_direct,
    list_distributions,
    normalise_name,
)
from mlflow_repro.capture.lock import make_locks
from mlflow_repro.capture.steps import NO_TIME, run_steps, to_text, try_read
from mlflow_repro.capture.system import describe_container, describe_libc, describe_os, describe_python
from mlflow_repro.model import Section, missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow_repro.capture.distributions import Distribution

_RECORD_LIMIT = 16_000_000  # bytes of one distribution's list of files
_UNOWNED_LIMIT = 50  # names of imported modules that belong to no distribution
_CONDA_LIMIT = 2_000


def record_environment(
    deadline: float,
    *,
    search_path: Sequence[str] | None = None,
    environ: Mapping[str, str] | None = None,
    root: str = "/",
) -> Section:
    """The packages, the Python and the platform of this process, and locks that uv can install.

    The facts: ``distributions`` (version by name, normalised as PEP 503 says), ``imported``, ``direct`` (what is not
    from an index), ``locks`` and ``left_out_of_locks``, ``broken``, ``duplicates``, ``installers``, ``conda``,
    ``python``, ``libc``, ``os``, ``container``. What had not been begun at ``deadline`` (a value of
    `time.monotonic`) is missing. ``search_path`` (`sys.path`), ``environ`` (`os.environ`) and ``root`` (the folder
    that holds ``etc`` and ``proc``) are for tests. Imports no package and raises no Exception.
    """
    environ = os.environ if environ is None else environ
    path = list(sys.path if search_path is None else search_path)
    small = run_steps(
        {
            "python": describe_python,
            "libc": lambda: describe_libc(root),
            "os": lambda: describe_os(root),
            "container": lambda: describe_container(environ, root),
            "conda": lambda: _list_conda(sys.prefix),
        },
        deadline,
    )
    files: dict[str, bytes] = {}
    packages = run_steps({"packages": lambda: _record_packages(path, deadline, files)}, deadline)["packages"]
    if "absent" in packages:
        packages = {"distributions": packages, "locks": packages}
        files = {}
    return Section(facts={**packages, **small}, files=files)


def find_imported(deadline: float, *, search_path: Sequence[str] | None = None) -> dict[str, Any]:
    """Which distributions the program has imported until now: ``distributions``, and ``others``, modules of no one.

    ``others`` are top-level modules in a folder of installed packages that no distribution lists. To be asked at the
    end of a run as well, when everything has been imported. Imports nothing and raises no Exception.
    """

    def find() -> dict[str, Any]:
        inventory = list_distributions(sys.path if search_path is None else search_path, deadline)
        return _match_modules(inventory.distributions.values(), deadline)

    found: dict[str, Any] = run_steps({"imported": find}, deadline)["imported"]
    return found


def _record_packages(path: Sequence[str], deadline: float, files: dict[str, bytes]) -> dict[str, Any]:
    inventory = list_distributions(path, deadline)
    installed = sorted(inventory.distributions.values(), key=lambda distribution: distribution.name)
    facts: dict[str, Any] = {"distributions": {one.name: one.version for one in installed}}
    if inventory.left_out:
        facts["distributions_left_out"] = inventory.left_out
    locks, lock_files = make_locks(inventory)
    facts.update(locks)
    files.update(lock_files)
    direct = [describe_direct(one) for one in installed if one.direct or one.is_source_tree]
    facts.update(
        run_steps({"imported": lambda: _match_modules(installed, deadline)}, deadline),
        broken=dict(inventory.broken),
        duplicates={name: sorted(versions) for name, versions in inventory.duplicates.items()},
        installers=dict(Counter(one.installer or "not told" for one in installed)),
    )
    add_git_facts(direct, deadline)
    facts["direct"] = direct
    return facts


def _match_modules(distributions: Iterable[Distribution], deadline: float) -> dict[str, Any]:
    """The distributions that own the loaded modules: by name where both are called the same, else by ``RECORD``."""
    by_folder: dict[str, list[Distribution]] = {}
    sources: dict[str, str] = {}
    for one in distributions:
        by_folder.setdefault(one.folder, []).append(one)
        if one.source_folder:
            sources[one.source_folder.rstrip("/") + "/"] = one.name
    imported: set[str] = set()
    unknown: dict[str, set[str]] = {}  # by folder, the files that no distribution was found for by name
    for name, file in _loaded_roots().items():
        source = next((owner for folder, owner in sources.items() if file.startswith(folder)), None)
        if source:
            imported.add(source)
            continue
        folder = _folder_of(name, file)
        if folder in by_folder:
            owner = normalise_name(name)
            if any(one.name == owner for one in by_folder[folder]):
                imported.add(owner)
            else:
                unknown.setdefault(folder, set()).add(file[len(folder) + 1 :])
    is_whole = True
    for folder, wanted in unknown.items():
        for one in by_folder[folder]:
            if not wanted:
                break
            if time.monotonic() >= deadline:
                is_whole = False
                break
            owned = wanted & _list_files(one)
            if owned:
                imported.add(one.name)
                wanted -= owned
    others = sorted(file for files in unknown.values() for file in files)
    return {
        "distributions": sorted(imported),
        "others": others[:_UNOWNED_LIMIT] if is_whole else missing(NO_TIME),
    }


def _loaded_roots() -> dict[str, str]:
    """The file of each loaded module that is not the standard library's and lies in no loaded package with a file.

    For a namespace package (``google``) these are the first ones below it that have a file (``google.protobuf``).
    """
    modules = list(sys.modules.items())
    roots: dict[str, str] = {}
    below: list[tuple[str, Any]] = []
    standard = sys.stdlib_module_names
    without_file: set[str] = set()
    for name, module in modules:
        if "." in name or name == "__main__" or name in standard:
            continue
        file = _file_of(module)
        if file:
            roots[name] = file
        else:
            without_file.add(name)
    below = [(name, module) for name, module in modules if "." in name and name.partition(".")[0] in without_file]
    for name, module in sorted(below, key=lambda item: item[0].count(".")):
        parts = name.split(".")
        if any(".".join(parts[:length]) in roots for length in range(1, len(parts))):
            continue
        file = _file_of(module)
        if file:
            roots[name] = file
    return roots


def _file_of(module: Any) -> str:
    """The ``__file__`` of a module, asked for in a way that loads no lazy module; empty when there is none."""
    if type(module).__name__ == "_LazyModule":  # importlib.util.LazyLoader: not loaded yet
        return ""
    try:
        file = object.__getattribute__(module, "__dict__").get("__file__")
    except Exception:  # noqa: BLE001 - anything may stand in sys.modules
        return ""
    return file if isinstance(file, str) and os.path.isabs(file) else ""


def _folder_of(name: str, file: str) -> str:
    """The folder from which the module ``name`` was imported."""
    up = name.count(".") + (2 if os.path.basename(file).startswith("__init__.") else 1)
    return file.rsplit("/", up)[0]


def _list_files(distribution: Distribution) -> set[str]:
    """The files that a distribution says it installed, relative to its folder; of an old one, its modules' names."""
    path = os.path.join(distribution.folder, distribution.entry)
    if distribution.entry.endswith(".dist-info"):
        record = try_read(os.path.join(path, "RECORD"), _RECORD_LIMIT)
        return {line.partition(",")[0] for line in record.splitlines()}
    names = try_read(os.path.join(path, "top_level.txt")).split()
    return {file for name in names for file in (f"{name}/__init__.py", f"{name}.py")}


def _list_conda(prefix: str) -> Any:
    """``name=version=build`` of each conda package, from the names of the files in ``conda-meta``."""
    try:
        names = sorted(os.listdir(f"{prefix}/conda-meta"))
    except OSError:
        return missing("this is no conda environment")
    packages = [re.sub(r"^(.+)-([^-]+)-([^-]+)\.json$", r"\1=\2=\3", name) for name in names if name.endswith(".json")]
    kept = [to_text(name) for name in packages[:_CONDA_LIMIT]]
    return {"packages": kept, "left_out": len(packages) - len(kept)}
