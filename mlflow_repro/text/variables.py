"""The environment variables that influence results: an allow-list, and never the whole environment.

They are recorded with each run, and a relaunch gets them as they were.

Each name below is read by Python, by a numerical library or by its runtime, and changes which code runs or what it
computes: seeds, numbers of threads, kernels and their precision, visible devices, locale. A pattern is used only where
nobody else owns the prefix. ``TF_`` is Terraform's, too, whose ``TF_VAR_*``, ``TF_TOKEN_*``, ``TF_HTTP_*`` and
``TF_ENCRYPTION`` hold secrets under any name; ``LC_*`` is what ssh lets through, so people put their own things there;
hence both are listed in more detail.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.text.redact import REDACTED, redact_named, redact_text, to_unicode

if TYPE_CHECKING:
    from collections.abc import Mapping

DESTINATION_VARIABLE = "MLFLOW_REPRO_DESTINATION"
"""For the processes of a relaunch alone: JSON with the ``tracking_uri`` and ``experiment_id`` of the reproduction, what
`overlay.session` reads, and, for a program that was not started by MLflow, ``first_run_id``, the run that its first
process resumes."""

FILE_ORDER_VARIABLE = "MLFLOW_REPRO_FILE_ORDER"
"""``reversed``: a process with the plugin lists folders backwards, to see whether its result depends on that."""

_VALUE_LIMIT = 4_096  # characters; a value that was cut could not be put back, so a longer one is left out

# Where a name ends with '*', everything that begins so.
_ALLOWED: Mapping[str, str] = {
    "Python": "PYTHONHASHSEED PYTHONOPTIMIZE PYTHONPATH PYTHONSAFEPATH PYTHONNOUSERSITE PYTHONUTF8 PYTHONIOENCODING"
    " PYTHONCOERCECLOCALE PYTHONLEGACYWINDOWSFSENCODING PYTHONDEVMODE PYTHONWARNINGS PYTHONINTMAXSTRDIGITS"
    " PYTHON_GIL PYTHON_JIT",
    "threads and kernels of the CPU": "OMP_* GOMP_* KMP_* MKL_* OPENBLAS_* GOTO_NUM_THREADS BLIS_* FLEXIBLAS*"
    " NUMEXPR_* VECLIB_* ONEDNN_* DNNL_* ATEN_CPU_CAPABILITY NPY_* NUMBA_* SCIPY_ARRAY_API POLARS_MAX_THREADS"
    " RAYON_NUM_THREADS LOKY_MAX_CPU_COUNT JOBLIB_MULTIPROCESSING SKLEARN_SEED SKLEARN_ASSUME_FINITE"
    " SKLEARN_WORKING_MEMORY SKLEARN_PAIRWISE_DIST_CHUNK_SIZE GLIBC_TUNABLES LD_PRELOAD LD_LIBRARY_PATH"
    " DYLD_INSERT_LIBRARIES DYLD_LIBRARY_PATH",
    "TensorFlow": "TF_CONFIG TF_DETERMINISTIC_* TF_CUDNN_* TF_CUBLAS* TF_CUDA_* TF_XLA_* TF_GPU_* TF_CPU_* TF_NUM_*"
    " TF_FORCE_GPU_* TF_FORCE_UNIFIED_MEMORY TF_ENABLE_ONEDNN_* TF_ENABLE_ZENDNN_* TF_ENABLE_MAXPOOL_*"
    " TF_ENABLE_COND_V2 TF_ENABLE_CONTROL_FLOW_V2 TF_ENABLE_TENSOR_ARRAY_V2 TF_ENABLE_WHILE_V2 TF_ENABLED_DEVICE_TYPES"
    " TF_DISABLE_JIT_* TF_DISABLE_MKL TF_DISABLE_SEGMENT_REDUCTION_* TF_DISABLE_DEPTHWISE_* TF_DISABLE_RZ_CHECK"
    " TF_USE_CUBLASLT TF_USE_CUDNN_* TF_USE_DEEP_CONV2D TF_USE_LEGACY_KERAS TF_USE_EIGEN_* TF_SET_ONEDNN_* TF_ONEDNN_*"
    " TF_MKL_* TF_AUTO_MIXED_PRECISION_* TF_FP16_* TF_CONV2D_* TF_MATMUL_* TF_EAGER_* TF_FUNCTION_JIT_* TF_JIT_*"
    " TF_TRT_* TF_ROCM_* TF_DEBUG_CUDNN_* TF_DATA_EXPERIMENT_* TF_OVERRIDE_GLOBAL_THREADPOOL TF_RUN_HANDLER_*"
    " TF_SYNC_ON_FINISH TF_PER_DEVICE_MEMORY_LIMIT_MB TF_OPTIONALS_IN_GRADIENTS TF_PS_*",
    "XLA, JAX and Keras": "XLA_FLAGS XLA_PYTHON_CLIENT_* XLA_CLIENT_MEM_FRACTION LIBTPU_INIT_ARGS JAX_* KERAS_*",
    "torch": "TORCH_* PYTORCH_* TORCHINDUCTOR_* TORCHDYNAMO_* TRITON_* PL_GLOBAL_SEED PL_SEED_WORKERS"
    " ACCELERATE_MIXED_PRECISION ACCELERATE_DYNAMO_*",
    "devices and their libraries": "CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_DEVICE_MAX_CONNECTIONS"
    " CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUDA_FORCE_PTX_JIT CUBLAS_WORKSPACE_CONFIG CUBLASLT_WORKSPACE_SIZE"
    " CUDNN_* NVIDIA_TF32_OVERRIDE NVIDIA_VISIBLE_DEVICES NCCL_* RCCL_* HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES"
    " HSA_OVERRIDE_GFX_VERSION MIOPEN_* ROCBLAS_* ONEAPI_DEVICE_SELECTOR ZE_AFFINITY_MASK",
    "several processes": "RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE GROUP_RANK NODE_RANK",
    "models and data": "HF_HUB_OFFLINE HF_ENDPOINT HF_DATASETS_OFFLINE HF_DATASETS_IN_MEMORY_MAX_SIZE"
    " TRANSFORMERS_OFFLINE",
    "locale and time": "LANG LANGUAGE LC_ALL LC_COLLATE LC_CTYPE LC_MESSAGES LC_MONETARY LC_NUMERIC LC_TIME TZ",
    "this program": "MLFLOW_REPRO_SEED",
}

# Of this machine, its devices, folders and neighbours: on another one they would do harm, and none is part of the run.
_OF_THE_MACHINE = re.compile(
    r"PYTHONPATH|PYTHONSAFEPATH|PYTHONNOUSERSITE|PYTHONLEGACYWINDOWSFSENCODING|LD_\w+|DYLD_\w+|OPENBLAS_CORETYPE"
    r"|\w*VISIBLE_DEVICES|CUDA_DEVICE_ORDER|HSA_OVERRIDE_GFX_VERSION|ONEAPI_DEVICE_SELECTOR|ZE_AFFINITY_MASK"
    r"|NCCL_\w+|RCCL_\w+|TF_CONFIG|TF_PS_\w+|(?:LOCAL_|GROUP_|NODE_)?RANK|(?:LOCAL_)?WORLD_SIZE|HF_ENDPOINT"
    r"|\w+_(?:DIR|HOME|PATH|FILE|CACHE)"
)
_NAMES = frozenset(" ".join(_ALLOWED.values()).split())
_PREFIXES = tuple(name[:-1] for name in _NAMES if name.endswith("*"))
_NAME = re.compile(r"\w+", re.ASCII)  # what a shell can set; nothing that a command line made of it would run
_REFUSED = re.compile(r"TOKEN|KEY|SECRET|PASS|PWD|CRED|AUTH|COOKIE|LICEN[CS]E", re.IGNORECASE)


def is_recorded(name: str) -> bool:
    """True when the variable ``name`` is on the allow-list and does not sound like a secret."""
    is_wanted = name in _NAMES or (name.startswith(_PREFIXES) and _NAME.fullmatch(name))
    return bool(is_wanted) and not _REFUSED.search(name)


def record_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of ``environ`` that influence results, sorted by name, with secrets taken out of their values.

    A value of more than 4,096 characters is replaced by ``[omitted: N characters]``. Raises nothing.
    """
    # Another thread may be changing the environment: a name that is gone by now has no value.
    found = {name: environ.get(name) for name in sorted(environ) if is_recorded(name)}
    return {name: _to_value(name, value) for name, value in found.items() if value is not None}


def list_set_later(first: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str | None]:
    """The variables that influence results and are no longer what they were at ``first``, by name; None is gone."""
    names = sorted(name for name in {*first, *now} if is_recorded(name) and first.get(name) != now.get(name))
    return {name: None if (value := now.get(name)) is None else _to_value(name, value) for name in names}


def is_exact(value: str) -> bool:
    """True for a recorded value that is the whole one, so that it can be put back."""
    return REDACTED not in value and not value.startswith("[omitted: ")


def is_restored(name: str) -> bool:
    """True for a variable that a relaunch gets as the reference had it: those that are not about one machine."""
    return is_recorded(name) and not _OF_THE_MACHINE.fullmatch(name)


def choose_variables(recorded: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str | None]:
    """What to change in ``environ`` so that a relaunch has the ``recorded`` variables; None takes one away.

    Values that were not recorded whole, and variables that are about one machine, stay as they are.
    """
    wanted = {name: value for name, value in recorded.items() if is_restored(name) and is_exact(value)}
    surplus = [name for name in environ if is_restored(name) and name not in recorded]
    changes: dict[str, str | None] = {name: value for name, value in wanted.items() if environ.get(name) != value}
    return dict(sorted({**changes, **dict.fromkeys(surplus)}.items()))


def _to_value(name: str, value: str) -> str:
    if len(value) > _VALUE_LIMIT:
        return f"[omitted: {len(value)} characters]"
    return to_unicode(redact_text(redact_named(name, value)))
