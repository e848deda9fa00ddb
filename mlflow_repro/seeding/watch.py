"""Wrap the seeding functions of the libraries that are loaded, and of those that are loaded later."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.log import Generator, SeedCall, SeedLog, describe_seed
from mlflow_repro.system.harmless import harmless

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
    {
        "accelerate",
        "keras",
        "lightning",
        "lightning_fabric",
        "mlflow_repro",
        "pytorch_lightning",
        "tf_keras",
        "transformers",
    }
)
_MARK = "_mlflow_repro_watched"


class _Watch:
    """What is in place: the log to write to, how to restore each wrapped spot, and the import finder."""

    log: SeedLog | None = None
    installed: tuple[tuple[dict[str, Any], str, object, object], ...] = ()
    wrappers: tuple[object, ...] = ()  # all there ever were: others hold weak references to them, or their id
    finder: _LaterImports | None = None
    library_loaded: types.MappingProxyType[str, Callable[[str], None]] = types.MappingProxyType({})
    python_unseeded: Callable[[], None] | None = None
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
    with harmless(), _Watch.lock:
        _Watch.log = log
        for generator, module, name, parameter in _SPOTS:
            with harmless():
                _watch_spot(generator, module, name, parameter)


def watch_imports(log: SeedLog) -> None:
    """Do as `watch_generators`, also for the libraries that are imported later.

    A library that is loaded lazily (`importlib.util.LazyLoader`) is wrapped by the next `watch_generators`.
    Calling this again changes nothing but the log. Raises nothing.
    """
    watch_generators(log)
    with harmless(), _Watch.lock:
        if _Watch.finder is None or _Watch.finder not in sys.meta_path:
            _Watch.finder = _LaterImports()
            sys.meta_path.insert(0, _Watch.finder)


def unwatch_generators() -> None:
    """Restore everything that `watch_generators` and `watch_imports` put in place. Raises nothing.

    A wrapper that somebody took (``from random import seed``) or wrapped in turn stays there and only passes
    on.
    """
    with harmless(), _Watch.lock:
        installed, _Watch.installed = _Watch.installed, ()
        finder, _Watch.finder, _Watch.log = _Watch.finder, None, None
        for namespace, name, original, wrapper in installed:
            if namespace.get(name) is wrapper:
                namespace[name] = original
        if finder is not None and finder in sys.meta_path:
            sys.meta_path.remove(finder)


def on_library_loaded(owner: str, callback: Callable[[str], None] | None) -> None:
    """Call ``callback`` with the name of each of the watched libraries that is imported from now on.

    An owner has one callback, the last that it gave; None takes it away. Owners are called in the order in which they
    came first.
    """
    with _Watch.lock:
        callbacks = {**_Watch.library_loaded, owner: callback}
        kept = {name: function for name, function in callbacks.items() if function is not None}
        _Watch.library_loaded = types.MappingProxyType(kept)


def on_unseeding(callback: Callable[[], None] | None) -> None:
    """Call ``callback`` after each ``random.seed()`` that asks for the operating system's entropy."""
    _Watch.python_unseeded = callback


def seed_unwatched(generator: str, seed: int | list[int]) -> bool:
    """Seed a generator without recording it as a call of the program's; False when it is not loaded.

    Raises what the library raises.
    """
    for known, module, name, _ in _SPOTS:
        function = (find_namespace(module) or {}).get(name) if known == generator else None
        if callable(function):
            original = next((item[2] for item in _Watch.installed if item[3] is function), function)
            original(seed)  # type: ignore[operator]
            return True
    return False


def watched_log() -> SeedLog | None:
    """The log that calls are recorded in now, or None."""
    return _Watch.log


def find_namespace(module: str) -> dict[str, Any] | None:
    """Find the names of a loaded module, without waking a lazy one; None when it is not loaded."""
    found = sys.modules.get(module)
    if found is None or not issubclass(type(found), types.ModuleType):
        return None
    names: dict[str, Any] = object.__getattribute__(found, "__dict__")
    return names


def find_caller() -> str:
    """Find the line that asked for a seeding, as ``file:line``; one inside a helper only when there is no other."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    outer = frame
    while outer is not None and str(outer.f_globals.get("__name__")).partition(".")[0] in _HELPERS:
        outer = outer.f_back
    chosen = outer or frame
    return "" if chosen is None else f"{chosen.f_code.co_filename}:{chosen.f_lineno}"


def _watch_spot(generator: Generator, module: str, name: str, parameter: str) -> None:
    namespace = find_namespace(module)
    function = None if namespace is None else namespace.get(name)
    if namespace is None or not callable(function) or getattr(function, _MARK, False):
        return
    known = (wrapper for _, _, original, wrapper in _Watch.installed if original is function)
    wrapper = next(known, None) or _wrap(function, generator, parameter)
    namespace[name] = wrapper
    _Watch.installed += ((namespace, name, function, wrapper),)
    _Watch.wrappers += (wrapper,)


def _wrap(function: Callable[..., Any], generator: Generator, parameter: str) -> object:
    """Wrap a function by a function, a bound method by one of the same object, others by `_Seeding`."""
    if isinstance(function, types.MethodType):
        return types.MethodType(_Seeding(function.__func__, generator, parameter, skipped=1), function.__self__)
    if not isinstance(function, types.FunctionType):
        return _Seeding(function, generator, parameter, skipped=0)

    @functools.wraps(function)
    def seeding(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        _note_call(generator, args[0] if args else kwargs.get(parameter))
        return result

    setattr(seeding, _MARK, True)
    # TorchScript knows the functions that it can compile by their id.
    table = (find_namespace("torch.jit._builtins") or {}).get("_builtin_table") or {}
    if id(function) in table:
        table[id(seeding)] = table[id(function)]
    return seeding


class _Seeding:
    """A seeding function that is watched, and equal to the one that it wraps.

    Numba knows the functions that it can compile, ``random.seed`` and ``numpy.random.seed`` among them, by
    equality: code that calls them must compile whether they were wrapped before or after Numba looked.
    """

    def __init__(self, function: Callable[..., Any], generator: Generator, parameter: str, *, skipped: int) -> None:
        self._function, self._skipped = function, skipped
        self._generator, self._parameter = generator, parameter
        functools.update_wrapper(self, function)
        setattr(self, _MARK, True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result = self._function(*args, **kwargs)
        given = args[self._skipped] if len(args) > self._skipped else kwargs.get(self._parameter)
        _note_call(self._generator, given)
        if given is None and self._generator == "python" and _Watch.python_unseeded is not None:
            with harmless():
                _Watch.python_unseeded()
        return result

    def __eq__(self, other: object) -> bool:
        return self._function == (other._function if isinstance(other, _Seeding) else other)

    def __hash__(self) -> int:
        return hash(self._function)

    def __reduce__(self) -> str:
        return str(self.__dict__["__qualname__"])


def _note_call(generator: Generator, given: Any) -> None:
    with harmless():
        if _Watch.log is not None:
            value = describe_seed(int(given) if generator == "torch" else given)
            _Watch.log.record(SeedCall(generator, value, time.time(), find_caller(), "called"))


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
        if _Watch.log is not None:
            watch_generators(_Watch.log)
        for library_loaded in _Watch.library_loaded.values():
            with harmless():
                library_loaded(name)

    vars(loader)["exec_module"] = exec_module
