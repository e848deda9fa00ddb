"""Set the deterministic modes of the libraries, and say what that could not reach."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
import warnings
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.entropy import Entropy, new_root, process_entropy
from mlflow_repro.seeding.libraries import find_namespace, on_library_loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ON = "on"
_NOT_SET = "not set: "
_LATER = "when it is imported"
_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_CUBLAS_VALUES = (":4096:8", ":16:8")  # the two that cuBLAS' documentation calls deterministic
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_MATH_LIBRARIES = ("numpy.linalg", "scipy.linalg", "torch", "tensorflow")
_logger = logging.getLogger("mlflow_repro")


class _Process:
    """What was achieved in this process, and what was warned of."""

    achieved: dict[str, str] = {}  # noqa: RUF012 - one process, one
    warned: frozenset[str] = frozenset()


def make_deterministic() -> dict[str, str]:
    """Set the deterministic modes of the libraries that are imported, now or later; returns what was achieved.

    The keys are settings. A value is ``on``, the value that is in force, or begins with ``not set: `` and says what to
    do about it. What must be set before Python or a library starts is not set; one warning a process names each of
    those, and the line to start the program with.

    * TensorFlow: ``tf.config.experimental.enable_op_determinism()`` and no TF32. Operations without a deterministic
      implementation then raise, and so do random ones without a seed; so if the program has set none, a random global
      seed is set here.
    * torch: ``use_deterministic_algorithms(True, warn_only=True)``: an operation without a deterministic implementation
      says so, but does not end the training. cuDNN deterministic and without benchmarks, no TF32.
    * ``CUBLAS_WORKSPACE_CONFIG``, ``TF_DETERMINISTIC_OPS``; ``PYTHONHASHSEED``, which decides the order of sets of
      texts; the numbers of threads, which decide the order of sums: 1 unless the environment names another.

    This makes programs slower, on GPUs much slower. Results are the same on one machine with the same versions, not
    from one kind of machine to another. Seeds are another matter: `seed_everything`. Raises nothing for a library that
    has not a setting.
    """
    achieved = {
        "PYTHONHASHSEED": _check_hash_seed(),
        **{name: _kept(name) or _set_threads(name) for name in _THREADS},
        _CUBLAS: _kept(_CUBLAS) or _set_cublas(),
        **_set_library("tensorflow"),
        **_set_library("torch"),
    }
    on_library_loaded("make_deterministic", _set_later)
    _Process.achieved = achieved
    _warn_of(achieved)
    return dict(achieved)


def achieved_determinism() -> dict[str, str]:
    """What `make_deterministic` achieved up to now, also in libraries imported since; empty when it was not called."""
    return dict(_Process.achieved)


def start_line(achieved: Mapping[str, str]) -> str:
    """The command line that sets before the start what `make_deterministic` could not set; empty without such."""
    values = {"PYTHONHASHSEED": "0", _CUBLAS: _CUBLAS_VALUES[0], **dict.fromkeys(_THREADS, "1")}
    missing = [f"{name}={values[name]}" for name in values if achieved.get(name, "").startswith(_NOT_SET)]
    return f"{' '.join(missing)} {shlex.join(sys.orig_argv)}" if missing else ""


def _warn_of(achieved: Mapping[str, str]) -> None:
    """Warn of what is not set, of each setting once in a process."""
    missing = frozenset(name for name, value in achieved.items() if value.startswith(_NOT_SET))
    if missing - _Process.warned:
        _Process.warned |= missing
        line = start_line(achieved)
        _logger.warning(
            "mlflow-repro could not make everything deterministic: %s.%s",
            "; ".join(f"{name} is {achieved[name]}" for name in sorted(missing)),
            f" Start with: {line}" if line else "",
        )


def _check_hash_seed() -> str:
    """Whether strings have the same hashes in every process; known from Python itself and what it was started with."""
    if not sys.flags.hash_randomization:
        return "0"
    given = _started_with().get("PYTHONHASHSEED", "")
    if given.isdigit() and not sys.flags.ignore_environment:
        return given
    return f"{_NOT_SET}start with PYTHONHASHSEED=0"


def _started_with() -> Mapping[str, str]:
    """The environment that this process was started with, where the system tells; a program may have changed its."""
    with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as file:
        pairs = (os.fsdecode(item).partition("=") for item in file.read().split(b"\0"))
        return {name: value for name, _, value in pairs}
    return os.environ


def _kept(name: str) -> str:
    """What an earlier call achieved, when the libraries had not started yet."""
    before = _Process.achieved.get(name, "")
    return "" if before.startswith(_NOT_SET) else before


def _set_threads(name: str) -> str:
    if name in _started_with():
        return os.environ.get(name, "")
    if any(library in sys.modules for library in _MATH_LIBRARIES):
        return f"{_NOT_SET}the math libraries have started; start with {name}=1"
    return os.environ.setdefault(name, "1")


def _set_cublas() -> str:
    present = os.environ.get(_CUBLAS)
    cuda = find_namespace("torch.cuda")
    if cuda is not None and cuda["is_initialized"]() and _started_with().get(_CUBLAS) not in _CUBLAS_VALUES:
        return f"{_NOT_SET}CUDA has started; start with {_CUBLAS}={_CUBLAS_VALUES[0]}"
    if present not in _CUBLAS_VALUES:
        os.environ[_CUBLAS] = _CUBLAS_VALUES[0]
    return os.environ[_CUBLAS]


def _set_later(library: str) -> None:
    if library in _SETTERS:
        achieved = _set_library(library)
        _Process.achieved.pop(library, None)
        _Process.achieved.update(achieved)
        _warn_of(achieved)


def _set_library(library: str) -> dict[str, str]:
    """What was achieved in ``library``; before it is imported, what will be tried."""
    achieved: dict[str, str] = {}
    if library == "tensorflow":
        # Read by TensorFlow when it starts; newer ones have a function, see below.
        achieved["TF_DETERMINISTIC_OPS"] = os.environ.setdefault("TF_DETERMINISTIC_OPS", "1")
    if library not in sys.modules:
        return {**achieved, library: _LATER}
    _SETTERS[library](achieved)
    return achieved


def _set_tensorflow(achieved: dict[str, str]) -> None:
    tensorflow: Any = sys.modules["tensorflow"]
    experimental = tensorflow.config.experimental
    _put(achieved, "tensorflow.op_determinism", experimental.enable_op_determinism)
    _put(achieved, "tensorflow.no_tf32", lambda: experimental.enable_tensor_float_32_execution(enabled=False))
    context = (find_namespace("tensorflow.python.eager.context") or {})["context"]()
    if achieved["tensorflow.op_determinism"] == ON and getattr(context, "_seed", None) is None:
        entropy = process_entropy() or Entropy(new_root())
        seed = entropy.derive("deterministic", "tensorflow", bits=31)
        _put(achieved, "tensorflow.global_seed", lambda: tensorflow.random.set_seed(seed), str(seed))


def _set_torch(achieved: dict[str, str]) -> None:
    torch: Any = sys.modules["torch"]
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    use = torch.use_deterministic_algorithms
    _put(achieved, "torch.deterministic_algorithms", lambda: use(True, warn_only=True), "on, warns only")  # noqa: FBT003
    _put(achieved, "torch.cudnn.deterministic", lambda: setattr(cudnn, "deterministic", True))
    _put(achieved, "torch.cudnn.no_benchmark", lambda: setattr(cudnn, "benchmark", False))
    _put(achieved, "torch.cudnn.no_tf32", lambda: setattr(cudnn, "allow_tf32", False))
    _put(achieved, "torch.cuda.matmul.no_tf32", lambda: setattr(matmul, "allow_tf32", False))


_SETTERS: dict[str, Callable[[dict[str, str]], None]] = {"tensorflow": _set_tensorflow, "torch": _set_torch}


def _put(achieved: dict[str, str], setting: str, put: Callable[[], object], value: str = ON) -> None:
    """Put a setting and say so; what this version of the library has not, or refuses now, is said as well."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            put()
    except Exception as error:  # noqa: BLE001 - of another version's library, anything
        achieved[setting] = f"{_NOT_SET}{type(error).__name__}: {error}".partition("\n")[0]
    else:
        achieved[setting] = value
