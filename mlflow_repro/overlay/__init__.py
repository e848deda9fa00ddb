"""In a relaunch: what its processes write goes to runs of this relaunch, and nothing else in any store changes.

MLflow's stores, its artifact repositories and ``mlflow.start_run`` are wrapped in every process with the plugin, before
the first line of the script that uses them. What a script does without them - requests of its own, SQL, files that it
copies into the store's folders - is not seen.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.artifacts import wrap_artifact_method
from mlflow_repro.overlay.calls import locating
from mlflow_repro.overlay.reading import watch_opened_files
from mlflow_repro.overlay.requests import wrap_request
from mlflow_repro.overlay.session import current_session
from mlflow_repro.overlay.starts import wrap_start_run
from mlflow_repro.overlay.stores import guard_class, guard_family, wrap_store_method

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def install_overlay() -> None:
    """Wrap what writes, once mlflow has been imported. Does nothing where no relaunch goes on.

    Raises whatever stands in the way: the process must not go on then.
    """
    session = current_session()
    if session is None:
        return
    wrap = functools.partial(wrap_store_method, session)
    for base in find_store_bases():
        guard_family(base, wrap)
    repository = importlib.import_module("mlflow.store.artifact.artifact_repo").ArtifactRepository
    guard_family(repository, functools.partial(wrap_artifact_method, session))
    _guard_registries(wrap)
    rest = importlib.import_module("mlflow.utils.rest_utils")
    name = "_get_http_response_with_retries"
    setattr(rest, name, wrap_request(session, getattr(rest, name)))
    client = importlib.import_module("mlflow.tracking._tracking_service.client").TrackingServiceClient
    client._get_artifact_repo = locating(client._get_artifact_repo)  # noqa: SLF001 - it asks for a run to learn a place
    watch_opened_files(session)
    original = importlib.import_module("mlflow.tracking.fluent").start_run
    _replace_everywhere(original, wrap_start_run(session, original))


def find_store_bases() -> Iterator[Any]:
    """The abstract classes that MLflow's stores derive from, one of each family of stores."""
    store = importlib.import_module("mlflow.store")
    for finder, name, is_package in pkgutil.iter_modules(store.__path__):
        # Not found by importing its package: some need a database's libraries, which a client can do without.
        if not (is_package and os.path.isfile(os.path.join(getattr(finder, "path", ""), name, "abstract_store.py"))):
            continue
        module = importlib.import_module(f"mlflow.store.{name}.abstract_store")
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        yield from (value for value in own if isinstance(value, type) and value.__name__.startswith("Abstract"))


def _guard_registries(wrap: Callable[[str, Any], Any]) -> None:
    """A store of a plugin's that derives from none of MLflow's classes is wrapped when it is handed out."""
    for place, name in (
        ("mlflow.tracking._tracking_service.registry", "TrackingStoreRegistry"),
        ("mlflow.tracking._model_registry.registry", "ModelRegistryStoreRegistry"),
    ):
        registry = getattr(importlib.import_module(place), name)
        registry.get_store = _guard_handed_out(registry.get_store, wrap)


def _guard_handed_out(original: Callable[..., Any], wrap: Callable[[str, Any], Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get_store(*arguments: Any, **named: Any) -> Any:
        store = original(*arguments, **named)
        guard_class(type(store), wrap)
        return store

    return get_store


def _replace_everywhere(original: Any, replacement: Any) -> None:
    """Put ``replacement`` wherever a module of mlflow's has ``original``."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "mlflow":
            for attribute, value in list(getattr(module, "__dict__", {}).items()):
                if value is original:
                    setattr(module, attribute, replacement)
