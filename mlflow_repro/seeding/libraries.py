"""The random libraries that are loaded, and those that are loaded later: found, seeded on request, never wrapped."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

from mlflow_repro.system.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

# The module and the name of the function that seeds a generator. TensorFlow's is reached by its full name, because
# `tensorflow` has lazy attributes.
_SEEDERS = {
    "python": ("random", "seed"),
    "numpy": ("numpy.random.mtrand", "seed"),
    "tensorflow": ("tensorflow.python.framework.random_seed", "set_seed"),
    "torch": ("torch.random", "manual_seed"),
}
# numpy.random and not numpy: newer numpy loads it at first use.
_LATER = frozenset({"numpy.random", "tensorflow", "torch"})


class _Watch:
    """What is in place: who is to be told of a library, and the import finder."""

    finder: _LaterImports | None = None
    library_loaded: types.MappingProxyType[str, Callable[[str], None]] = types.MappingProxyType({})
    lock = threading.RLock()


def _renew_lock() -> None:
    _Watch.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def on_library_loaded(owner: str, callback: Callable[[str], None] | None) -> None:
    """Call ``callback`` with the name of each of numpy.random, TensorFlow and torch that is imported from now on.

    An owner has one callback, the last that it gave; None takes it away. Owners are called in the order in which they
    came first. Raises nothing.
    """
    with harmless(), _Watch.lock:
        callbacks = {**_Watch.library_loaded, owner: callback}
        kept = {name: function for name, function in callbacks.items() if function is not None}
        _Watch.library_loaded = types.MappingProxyType(kept)
        if kept and (_Watch.finder is None or _Watch.finder not in sys.meta_path):
            _Watch.finder = _LaterImports()
            sys.meta_path.insert(0, _Watch.finder)


def seed_library(generator: str, seed: int) -> bool:
    """Seed a generator; False when its library is not loaded. Raises what the library raises."""
    module, name = _SEEDERS[generator]
    function = (find_namespace(module) or {}).get(name)
    if not callable(function):
        return False
    function(seed)
    return True


def seed_torch_devices(seed: int) -> bool:
    """Seed the CPU's generator with ``seed`` and each CUDA device's with one derived from it; False without torch.

    ``torch.manual_seed`` gives all devices the same seed. A program that does not call it has unrelated ones
    (``getDefaultCUDAGenerator`` seeds each from the operating system), so that, for example, the replicas of
    `torch.nn.DataParallel` drop out different units. CUDA devices are seeded when CUDA starts; a seed that the program
    gives until then takes precedence. Raises what torch raises for a seed that it does not take.
    """
    generator = (find_namespace("torch.random") or {}).get("default_generator")
    if generator is None:
        return False
    generator.manual_seed(seed)
    cuda = find_namespace("torch.cuda") or {}
    if "_lazy_call" in cuda and not cuda["_is_in_bad_fork"]():
        with harmless():
            cuda["_lazy_call"](lambda: _seed_cuda(seed))
    return True


def _seed_cuda(seed: int) -> None:
    """Seed the default generators; called by torch when CUDA has started, where an error would be the program's."""
    with harmless():
        generators: Any = (find_namespace("torch.cuda") or {})["default_generators"]
        for device, generator in enumerate(generators):
            content = hashlib.sha256(f"mlflow-repro torch {seed} cuda:{device}".encode()).digest()
            generator.manual_seed(int.from_bytes(content[:8], "big") >> 1)


def find_namespace(module: str) -> dict[str, Any] | None:
    """Find the names of a loaded module, without waking a lazy one; None when it is not loaded."""
    found = sys.modules.get(module)
    if found is None or not issubclass(type(found), types.ModuleType):
        return None
    names: dict[str, Any] = object.__getattribute__(found, "__dict__")
    return names


def find_caller() -> str:
    """Find the line outside of this package that called it, as ``file:line``."""
    package = __name__.partition(".")[0]
    frame = inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == package:
        frame = frame.f_back
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"


class _LaterImports:
    """A finder that lets the others find, and tells of the libraries of `_LATER` once loaded.

    It touches neither ``__spec__`` nor ``__loader__``: for the one import, the loader *instance* gets its own
    ``exec_module``, which takes itself away before it does anything else. The finder stays when all are
    loaded: another thread may be half way through `sys.meta_path`, and would skip a finder (an ImportError
    for somebody) if the first item were taken out. It costs a fraction of a microsecond an import, and sees
    reloads.
    """

    def __init__(self) -> None:
        self._asking = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of `_LATER` as the other finders do, and prepare its loader; None for all others."""
        if name not in _LATER or getattr(self._asking, "now", False):
            return None
        self._asking.now = True  # another such finder (MLflow has one) may ask sys.meta_path from the start
        try:
            with harmless():  # the import system asks the others again and gets the error
                finders = list(sys.meta_path)
                for finder in finders[finders.index(self) + 1 :]:
                    find = getattr(finder, "find_spec", None)
                    spec: ModuleSpec | None = None if find is None else find(name, path, target)
                    if spec is not None:
                        with harmless():
                            _watch_loader(spec, name)
                        return spec
            return None
        finally:
            self._asking.now = False


def _watch_loader(spec: ModuleSpec, name: str) -> None:
    loader = spec.loader
    # A class as a loader (frozen and built-in modules), or one without an instance dictionary, is left alone.
    if loader is None or isinstance(loader, type) or "exec_module" in vars(loader):
        return
    original = loader.exec_module

    def exec_module(module: types.ModuleType) -> None:
        if getattr(module, "__name__", None) == name:  # zipimport has one loader for all modules of an archive
            vars(loader).pop("exec_module", None)
        original(module)
        for library_loaded in _Watch.library_loaded.values():
            with harmless():
                library_loaded(name)

    vars(loader)["exec_module"] = exec_module
