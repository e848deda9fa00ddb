"""What is loaded, and what of it the program itself uses.

A run also loads what MLflow and this plugin need for themselves. That counts for nothing when results differ.
"""

from __future__ import annotations

import os
import re
import sys
import time
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from mlflow_repro.environment.capture import find_owners
from mlflow_repro.environment.distributions import list_distributions
from mlflow_repro.system.folders import try_read
from mlflow_repro.text.pins import normalise_name
from mlflow_repro.values.captured import NO_TIME, missing, run_steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mlflow_repro.environment.distributions import Distribution

_TRACKING = ("mlflow", "mlflow-repro", "mlflow-skinny", "mlflow-tracing")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import\b|import[ \t]+([^#\n;]+))", re.MULTILINE)
_FLAVOUR = re.compile(r"\bmlflow\.(\w+)\.(?:autolog|log_model|save_model|load_model)\b")
# What these load is not named in the program.
_LOADS_BY_NAME = re.compile(r"\b(?:import_module|__import__|load_model|instantiate|entry_points)\b|\b(?:pickle|joblib|torch|dill|cloudpickle)\.load\b")  # fmt: skip # noqa: E501
_REQUIRES = re.compile(r"^Requires-Dist:[ \t]*([A-Za-z0-9][\w.-]*)", re.MULTILINE)


def find_imports(
    deadline: float, sources: Iterable[str] = (), *, search_path: Iterable[object] | None = None
) -> dict[str, Any]:
    """The facts ``imported`` and ``used`` of the section ``environment``, as they are at the end of a run.

    ``imported`` names the distributions that are loaded, whoever asked for them; ``used`` those that ``sources``, the
    program's own lines, import, and what these use in turn. Where the lines load things by a name that does not show,
    it is all that is loaded. Both are sorted; each may be `missing`. Imports nothing and raises no Exception.
    """
    found: dict[str, Any] = {"imported": missing(NO_TIME), "used": missing(NO_TIME)}

    def find() -> Any:
        inventory = list_distributions(sys.path if search_path is None else search_path, deadline)
        owners = find_owners(inventory.distributions.values(), deadline)
        if "absent" in owners:
            return owners
        found["imported"] = sorted(set(owners.values()))
        return _follow(sources, owners, inventory.distributions, deadline)

    used = run_steps({"used": find}, deadline, convert=lambda value: value)
    return {**found, **used}


def _follow(
    sources: Iterable[str], owners: Mapping[str, str], installed: Mapping[str, Distribution], deadline: float
) -> Any:
    """The distributions that ``sources`` import, and all that those use of what is loaded."""
    text = "\n".join(sources)
    names = set(_list_imports(text))
    if _LOADS_BY_NAME.search(text):
        return sorted(set(owners.values()))
    modules = _group_modules(owners)
    left = [owner for root, owner in owners.items() if _is_named(root, names)]
    used: set[str] = set()
    while left:
        if time.monotonic() >= deadline:
            return missing(NO_TIME)
        one = left.pop()
        if one in used:
            continue
        used.add(one)
        if one in _TRACKING:  # what these need, they need for themselves
            continue
        left += [name for name in _list_required(installed[one]) if name in modules]
        left += _list_referred(modules[one], owners)
    return sorted(used)


def _list_imports(text: str) -> Iterator[str]:
    """The names of all modules that lines import; of MLflow's flavours the libraries that they are for."""
    for found in _IMPORT.finditer(text):
        for name in (found[1] or found[2]).split(","):
            yield name.split()[0] if name.split() else ""
    yield from _FLAVOUR.findall(text)


def _is_named(root: str, names: set[str]) -> bool:
    """True when a module, or one in it, is among the names: ``google.cloud.x`` for ``google.cloud`` as well."""
    return any(f"{name}.".startswith(f"{root}.") or f"{root}.".startswith(f"{name}.") for name in names if name)


def _group_modules(owners: Mapping[str, str]) -> dict[str, list[ModuleType]]:
    """The loaded modules of each distribution."""
    found: dict[str, list[ModuleType]] = {owner: [] for owner in owners.values()}
    for name, module in list(sys.modules.items()):
        owner = _owner_of(name, owners)
        if owner and type(module) is ModuleType:  # no lazy one, which its attributes would load
            found[owner].append(module)
    return found


def _owner_of(module: str, owners: Mapping[str, str]) -> str:
    """The distribution of a module; its root has one part of its name or, in a namespace, more."""
    parts = module.split(".", 3)
    return next((owners[root] for end in (1, 2, 3) if (root := ".".join(parts[:end])) in owners), "")


def _list_required(distribution: Distribution) -> list[str]:
    """What a distribution says that it needs, or can use."""
    file = "METADATA" if distribution.entry.endswith(".dist-info") else "PKG-INFO"
    metadata = try_read(os.path.join(distribution.folder, distribution.entry, file))
    return [normalise_name(name) for name in _REQUIRES.findall(metadata)]


def _list_referred(modules: Iterable[ModuleType], owners: Mapping[str, str]) -> set[str]:
    """The distributions whose modules, functions and classes these modules have in their names."""
    found: set[str] = set()
    for module in modules:
        for value in list(vars(module).values()):
            kind = type(value)
            if kind is ModuleType:
                found.add(value.__name__)
            elif kind is FunctionType:
                found.add(value.__module__)
            elif kind is type:
                found.add(str(type.__dict__["__dict__"].__get__(value).get("__module__", "")))
    return {owner for name in found if type(name) is str and (owner := _owner_of(name, owners))}
