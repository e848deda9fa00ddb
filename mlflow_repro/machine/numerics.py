"""The numerical libraries that are loaded, how many threads they use, and the switches of their precision.

Nothing is loaded for it: a library counts when the program has loaded it, and a framework when it is in `sys.modules`
and ready. Only switches are read that are plain global values; whatever might set up a device is left alone.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.system.folders import read_text
from mlflow_repro.values.captured import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_USERS_OF_BLAS = ("numpy", "scipy", "torch", "tensorflow", "sklearn", "jax")
_MAPPED = re.compile(r" (/[^\n]+\.so[^\n/]*)$", re.MULTILINE)
_NUMERICAL = re.compile(r"blas|mkl|blis|omp|flexi|armpl|nvpl|libsci", re.IGNORECASE)
_MAPS_LIMIT = 4_000_000  # bytes
_ABSENT_FRAMEWORK = "it was not loaded"


def describe_libraries(root: str = "/") -> Any:
    """The loaded BLAS and OpenMP libraries: file, vendor, version, threads, kernels, by threadpoolctl.

    On Linux the loaded libraries are read from ``/proc`` and given to threadpoolctl one by one: on its own it may walk
    the dynamic loader's list with a callback into Python, which deadlocks with a thread that is importing an extension
    (https://github.com/joblib/threadpoolctl/issues/239). May raise what threadpoolctl does.
    """
    if not any(name in sys.modules for name in _USERS_OF_BLAS):
        return missing("no numerical library was loaded yet")
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return missing("install threadpoolctl")

    class Inspector(threadpoolctl.ThreadpoolController):  # type: ignore[name-defined, misc]
        """Finds nothing by itself on Linux, and warns about nothing: the program's stderr is not ours."""

        def _load_libraries(self) -> None:
            if sys.platform == "linux":
                for path in _loaded_libraries(root):
                    self._make_controller_from_path(path)
            else:
                super()._load_libraries()

        def _warn_if_incompatible_openmp(self) -> None:
            pass

    found = [_describe_library(library) for library in Inspector().lib_controllers]
    return sorted(found, key=lambda library: (library["api"], library["file"]))


def _loaded_libraries(root: str) -> list[str]:
    """The files of the loaded shared libraries that are called like BLAS or OpenMP. Raises OSError."""
    maps = read_text(os.path.join(root, "proc/self/maps"), _MAPS_LIMIT)
    return sorted(path for path in set(_MAPPED.findall(maps)) if _NUMERICAL.search(os.path.basename(path)))


def _describe_library(library: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "file": os.path.basename(str(library.filepath)),
        "api": str(library.user_api),
        "library": str(library.internal_api),
        "version": library.version or missing("it does not tell its version"),
    }
    # An OpenMP runtime answers for the thread that asks, and asking from a thread of ours may set it up there.
    is_of_thread = library.user_api == "openmp"
    facts["threads"] = missing("each thread has its own number") if is_of_thread else int(library.num_threads)
    for name in ("threading_layer", "architecture"):
        value = getattr(library, name, None)
        if value:
            facts[name] = str(value)
    return facts


def describe_frameworks() -> dict[str, Any]:
    """The frameworks' versions and what they compute with, of those that are loaded. Raises nothing."""
    return {"torch": _describe("torch", _describe_torch), "tensorflow": _describe("tensorflow", _describe_tensorflow)}


def _describe(name: str, describe: Callable[[], Mapping[str, Callable[[], Any]]]) -> Any:
    module = sys.modules.get(name)
    if module is None:
        return missing(_ABSENT_FRAMEWORK)
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        return missing("it was still being loaded")
    facts: dict[str, Any] = {}
    for fact, read in describe().items():
        try:
            value = read()
        except Exception as error:  # noqa: BLE001 - another version of the framework
            facts[fact] = missing(f"{type(error).__name__}: {error}")
        else:
            facts[fact] = missing("there is none") if value is None else value
    return facts


def _describe_torch() -> dict[str, Callable[[], Any]]:
    torch = sys.modules["torch"]
    facts: dict[str, Callable[[], Any]] = {
        "version": lambda: str(torch.__version__),
        "cuda": lambda: torch.version.cuda,
        "hip": lambda: torch.version.hip,
        "default_dtype": lambda: str(torch.get_default_dtype()),
        "threads": _call(torch, "get_num_threads"),
        "deterministic_algorithms": _call(torch, "are_deterministic_algorithms_enabled"),
        "deterministic_warn_only": _call(torch, "is_deterministic_algorithms_warn_only_enabled"),
        "cudnn": _call(sys.modules.get("torch.backends.cudnn"), "version"),
    }
    # The core's own functions, since the public names of some of these warn, or set up what they are asked about.
    core = getattr(torch, "_C", None)
    for fact in ("cudnn_enabled", "cudnn_benchmark", "cudnn_deterministic", "cpu_capability"):
        facts[fact] = _call(core, f"_get_{fact}")
    # From 2.9 on, to ask for TF32 in the old way prints a warning.
    precision = getattr(core, "_get_fp32_precision_getter", None)
    if precision is None:
        facts["tf32_matmul"] = _call(core, "_get_cublas_allow_tf32")
        facts["tf32_cudnn"] = _call(core, "_get_cudnn_allow_tf32")
        facts["float32_matmul_precision"] = _call(torch, "get_float32_matmul_precision")
    else:
        for place in (("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn"), ("mkldnn", "matmul")):
            facts["fp32_precision_" + "_".join(place)] = functools.partial(precision, *place)
    return facts


def _call(owner: Any, name: str) -> Callable[[], Any]:
    """A call of the function ``name``, which is looked up only then: another version may not have it."""

    def call() -> Any:
        return getattr(owner, name)()

    return call


def _describe_tensorflow() -> dict[str, Callable[[], Any]]:
    def module(name: str) -> Any:
        return sys.modules[f"tensorflow.python.{name}"]

    def build(name: str) -> Any:
        return module("platform.build_info").build_info.get(name)

    def of_context(name: str) -> Any:
        # `context_safe` gives the context if there is one; `context` would make it.
        context = module("eager.context").context_safe()
        return getattr(context, name, None) or "default"

    return {
        "version": lambda: str(module("framework.versions").VERSION),
        "git_version": lambda: str(module("framework.versions").GIT_VERSION),
        "compiler": lambda: str(module("framework.versions").COMPILER_VERSION),
        "cuda": lambda: build("cuda_version"),
        "cudnn": lambda: build("cudnn_version"),
        "op_determinism": lambda: bool(module("framework.config").is_op_determinism_enabled()),
        "tf32": lambda: bool(module("framework.config").tensor_float_32_execution_enabled()),
        "inter_op_threads": lambda: of_context("_inter_op_parallelism_threads"),
        "intra_op_threads": lambda: of_context("_intra_op_parallelism_threads"),
    }
