"""Wrap the seeding functions of the libraries that are loaded, and of those that are loaded later."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.log import Generator, SeedCall, SeedLog, describe_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

# The generator, the module and the name of a function that seeds it, and its parameter. A function with
# several homes is wrapped once. TensorFlow's are reached by their full names, because `tensorflow` has lazy
# attributes.
_SPOTS: tuple[tuple[Generator, str, str, str], ...] = (
    ("python", "random", "seed", "a"),
    ("numpy", "numpy.random.mtrand", "seed", "seed"),
    ("numpy", "numpy.random", "seed", "seed"),
    ("tensorflow", "tensorflow.python.framework.random_seed", "set_seed", "seed"),
    ("tensorflow", "tensorflow._api.v2.random", "set_seed", "seed"),
    ("tensorflow", "tensorflow._api.v2.compat.v2.random", "set_seed", "seed"),
    ("torch", "torch.random", "manual_seed", "seed"),
    ("torch", "torch", "manual_seed", "seed"),
)
# numpy.random and not numpy: newer numpy loads it at first use.
_LATER = frozenset({"random", "numpy.random", "tensorflow", "torch"})
# Libraries with a helper that seeds several generators: the line to know is the one that called the helper.
_HELPERS = frozenset(
    {"accelerate", "keras", "lightning", "lightning_fabric", "pytorch_lightning", "tf_keras", "transformers"}
)
_MARK = "_mlflow_repro_watched"


class _Watch:
    """What is in place: the log to write to, how to restore each wrapped spot, and the import finder."""

    log: SeedLog | None = None
    installed: tuple[tuple[dict[str, Any], str, object, object], ...] = ()
    finder: _LaterImports | None = None
    lock = threading.RLock()


def _renew_lock() -> None:
    _Watch.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def watch_generators(log: SeedLog) -> None:
    """Record in ``log`` every later call of the seeding functions of the libraries that are loaded now.

    Wraps ``random.seed``, ``numpy.random.seed``, ``tensorflow.random.set_seed`` and ``torch.manual_seed``,
    which the helpers of Keras, Lightning, transformers and others call, too. A wrapper has the same name,
    signature, result and exceptions; a call that fails is not recorded. Calling this again costs a few
    microseconds and wraps what has been loaded since; another log takes over from the one before. Raises
    nothing.
    """
    with contextlib.suppress(Exception), _Watch.lock:
        _Watch.log = log
        for generator, module, name, parameter in _SPOTS:
            with contextlib.suppress(Exception):
                _watch_spot(generator, module, name, parameter)


def watch_imports(log: SeedLog) -> None:
    """Do as `watch_generators`, also for the libraries that are imported later.

    A library that is loaded lazily (`importlib.util.LazyLoader`) is wrapped by the next `watch_generators`.
    Calling this again changes nothing but the log. Raises nothing.
    """
    watch_generators(log)
    with contextlib.suppress(Exception), _Watch.lock:
        if _Watch.finder is None or _Watch.finder not in sys.meta_path:
            _Watch.finder = _LaterImports()
            sys.meta_path.insert(0, _Watch.finder)


def unwatch_generators() -> None:
    """Restore everything that `watch_generators` and `watch_imports` put in place. Raises nothing.

    A wrapper that somebody took (``from random import seed``) or wrapped in turn stays there and only passes
    on.
    """
    with contextlib.suppress(Exception), _Watch.lock:
        installed, _Watch.installed = _Watch.installed, ()
        finder, _Watch.finder, _Watch.log = _Watch.finder, None, None
        for namespace, name, original, wrapper in installed:
            if namespace.get(name) is wrapper:
                namespace[name] = original
        if finder is not None and finder in sys.meta_path:
            sys.meta_path.remove(finder)


def find_namespace(module: str) -> dict[str, Any] | None:
    """Find the names of a loaded module, without waking a lazy one; None when it is not loaded."""
    found = sys.modules.get(module)
    if found is None or not issubclass(type(found), types.ModuleType):
        return None
    names: dict[str, Any] = object.__getattribute__(found, "__dict__")
    return names


def _watch_spot(generator: Generator, module: str, name: str, parameter: str) -> None:
    namespace = find_namespace(module)
    function = None if namespace is None else namespace.get(name)
    if namespace is None or not callable(function) or getattr(function, _MARK, False):
        return
    known = (wrapper for _, _, original, wrapper in _Watch.installed if original is function)
    wrapper = next(known, None) or _wrap(function, generator, parameter)
    namespace[name] = wrapper
    _Watch.installed += ((namespace, name, function, wrapper),)


def _wrap(function: Callable[..., Any], generator: Generator, parameter: str) -> object:
    """Wrap a seeding function; a bound method (``random.seed``) by a bound method of the same object."""
    owner = function.__self__ if isinstance(function, types.MethodType) else None
    inner = function.__func__ if isinstance(function, types.MethodType) else function
    skipped = 0 if owner is None else 1

    @functools.wraps(inner)
    def seeding(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 -- whatever the original takes and gives
        result = inner(*args, **kwargs)
        with contextlib.suppress(Exception):
            if _Watch.log is not None:
                given: Any = args[skipped] if len(args) > skipped else kwargs.get(parameter)
                value = describe_seed(int(given)) if generator == "torch" else describe_seed(given)
                _Watch.log.record(SeedCall(generator, value, time.time(), _find_caller(), "called"))
        return result

    setattr(seeding, _MARK, True)
    return seeding if owner is None else types.MethodType(seeding, owner)


def _find_caller() -> str:
    """Find the line that asked for the seeding; a line inside a helper only when there is no other."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    outer = frame
    while outer is not None and str(outer.f_globals.get("__name__")).partition(".")[0] in _HELPERS:
        outer = outer.f_back
    chosen = outer or frame
    return "" if chosen is None else f"{chosen.f_code.co_filename}:{chosen.f_lineno}"


class _LaterImports:
    """A finder that lets the others find, and watches the libraries of `_LATER` once loaded.

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
            with contextlib.suppress(Exception):  # the import system asks the others again and gets the error
                finders = list(sys.meta_path)
                for finder in finders[finders.index(self) + 1 :]:
                    find = getattr(finder, "find_spec", None)
                    spec: ModuleSpec | None = None if find is None else find(name, path, target)
                    if spec is not None:
                        with contextlib.suppress(Exception):
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
        if (
            getattr(module, "__name__", None) == name
        ):  # zipimport has one loader for all modules of an archive
            vars(loader).pop("exec_module", None)
        original(module)
        if _Watch.log is not None:
            watch_generators(_Watch.log)

    vars(loader)["exec_module"] = exec_module
