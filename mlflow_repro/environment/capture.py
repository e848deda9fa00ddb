"""The section ``environment``: everything that is installed, what of it was imported, and the platform below.

The lock's format, and why it is that one, is described in `mlflow_repro.environment.lock`.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.modules import file_of
from mlflow_repro.environment.distributions import add_git_facts, describe_direct, list_distributions
from mlflow_repro.environment.lock import make_locks
from mlflow_repro.environment.platform import describe_container, describe_libc, describe_os, describe_python
from mlflow_repro.system.folders import try_read
from mlflow_repro.text.pins import normalise_name
from mlflow_repro.text.redact import to_unicode
from mlflow_repro.values.captured import NO_TIME, Section, missing, run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mlflow_repro.environment.distributions import Distribution

_RECORD_LIMIT = 16_000_000  # bytes of one distribution's list of files
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
    ``interpreter``, ``libc``, ``os``, ``container``. What had not been begun at ``deadline`` (a value of
    `time.monotonic`) is missing. ``search_path`` (`sys.path`), ``environ`` (`os.environ`) and ``root`` (the folder
    that holds ``etc`` and ``proc``) are for tests. Imports no package and raises no Exception.
    """
    environ = os.environ if environ is None else environ
    path = list(sys.path if search_path is None else search_path)
    small = run_steps(
        {
            "interpreter": describe_python,
            "libc": lambda: describe_libc(root),
            "os": lambda: describe_os(root),
            "container": lambda: describe_container(environ, root),
            "conda": lambda: _list_conda(sys.prefix),
        },
        deadline,
    )
    files: dict[str, bytes] = {}
    # Its values are clean: the shape of a token also fits "dask-kubernetes-operator", and a name has to stay whole.
    packages = _run_clean(lambda: _record_packages(path, deadline, files), deadline)
    if "absent" in packages:
        packages = {"distributions": packages, "locks": packages}
        files = {}
    return Section(facts={**packages, **small}, files=files)


def _run_clean(step: Callable[[], Any], deadline: float) -> Any:
    return run_steps({"": step}, deadline, convert=lambda value: value)[""]


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
        imported=_run_clean(lambda: _match_modules(installed, deadline), deadline),
        broken=dict(inventory.broken),
        duplicates={name: sorted(versions) for name, versions in inventory.duplicates.items()},
        installers=dict(Counter(one.installer or "not told" for one in installed)),
    )
    add_git_facts(direct, deadline)
    facts["direct"] = direct
    return facts


def _match_modules(distributions: Iterable[Distribution], deadline: float) -> Any:
    """The distributions that own the loaded modules."""
    owners = find_owners(distributions, deadline)
    return owners if "absent" in owners else sorted(set(owners.values()))


def find_owners(distributions: Iterable[Distribution], deadline: float) -> dict[str, str]:
    """The distribution of each loaded root module (`_loaded_roots`); `missing` when the time is up.

    It is found by name where both are called the same, else by the files that the distribution installed.
    """
    installed = list(distributions)
    sources = {one.source_folder.rstrip("/") + "/": one.name for one in installed if one.source_folder}
    folders = {one.folder for one in installed}
    by_place = {(one.folder, one.name): one.name for one in installed}
    owners: dict[str, str] = {}
    unknown: dict[str, dict[str, str]] = {}  # by folder, the modules by the files that no distribution has the name of
    for name, file in _loaded_roots().items():
        folder = _folder_of(name, file)
        owner = by_place.get((folder, normalise_name(name)))
        # An environment often lies inside the source tree of what is installed into it: its files are not that tree's.
        if owner is None and (folder not in folders or f"{folder}/" in sources):
            owner = next((owner for source, owner in sources.items() if file.startswith(source)), None)
        if owner:
            owners[name] = owner
        else:
            unknown.setdefault(folder, {})[file[len(folder) + 1 :]] = name
    for one in installed:
        if time.monotonic() >= deadline:
            return missing(NO_TIME)
        files = unknown.get(one.folder, {})
        owners.update({files[file]: one.name for file in _list_owned(one, set(files))})
    return owners


def _loaded_roots() -> dict[str, str]:
    """The file of each loaded module that is not the standard library's and lies in no loaded package with a file.

    For a namespace package (``google``) these are the first ones below it that have a file (``google.protobuf``).
    """
    roots: dict[str, str] = {}
    spaces: set[str] = set()
    modules = list(sys.modules.items())
    for name, module in modules:
        if "." not in name and name != "__main__" and name not in sys.stdlib_module_names:
            file = file_of(module)
            if file:
                roots[name] = file
            else:
                spaces.add(name)
    below = [(name, module) for name, module in modules if "." in name and name.partition(".")[0] in spaces]
    for name, module in sorted(below, key=lambda item: item[0].count(".")):
        parts = name.split(".")
        file = file_of(module)
        if file and not any(".".join(parts[:length]) in roots for length in range(1, len(parts))):
            roots[name] = file
    return roots


def _folder_of(name: str, file: str) -> str:
    """The folder from which the module ``name`` was imported."""
    up = name.count(".") + (2 if os.path.basename(file).startswith("__init__.") else 1)
    return file.rsplit("/", up)[0]


def _list_owned(distribution: Distribution, files: set[str]) -> set[str]:
    """Those of ``files`` (relative to its folder) of which the distribution says that it installed them."""
    if not files:
        return set()
    path = os.path.join(distribution.folder, distribution.entry)
    names = try_read(os.path.join(path, "top_level.txt")).split()
    if names:  # a small file that most have; it says nothing about the parts of a namespace
        files = {file for file in files if re.split(r"[/.]", file, maxsplit=1)[0] in names}
        whole = {file for file in files if file.count("/") == file.endswith("/__init__.py")}
        if whole:
            return whole
    if not files or not distribution.entry.endswith(".dist-info"):
        return set()
    record = try_read(os.path.join(path, "RECORD"), _RECORD_LIMIT)
    return files.intersection([line.partition(",")[0] for line in record.splitlines()])


def _list_conda(prefix: str) -> Any:
    """``name=version=build`` of each conda package, from the names of the files in ``conda-meta``."""
    try:
        names = sorted(os.listdir(f"{prefix}/conda-meta"))
    except OSError:
        return missing("this is no conda environment")
    packages = [re.sub(r"^(.+)-([^-]+)-([^-]+)\.json$", r"\1=\2=\3", name) for name in names if name.endswith(".json")]
    kept = [to_unicode(name) for name in packages[:_CONDA_LIMIT]]
    return {"packages": kept, "left_out": len(packages) - len(kept)}
