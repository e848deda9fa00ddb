"""The GPUs and their driver, by NVIDIA's management library (NVML), which sets up no CUDA."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.system.folders import try_read
from mlflow_repro.values.captured import missing

if TYPE_CHECKING:
    from collections.abc import Callable

_DRIVER = "proc/driver/nvidia"
_DEVICES = ("dev/nvidiactl", "dev/nvidia0", "dev/dxg", _DRIVER + "/version")
_EXTRA = "install mlflow-repro[gpu]"
_LIMIT = 64  # devices


def describe_gpus(root: str = "/") -> Any:
    """``driver``, ``cuda`` (the newest version that the driver runs) and ``devices``: name, memory, capability.

    An empty dictionary says that there is no GPU. Without the extra ``gpu`` the driver's version and the names are
    read from ``/proc`` where it has them. May raise what NVML does.
    """
    if sys.platform == "darwin":
        return missing("GPUs are described on Linux only")
    has_nvidia = any(os.path.exists(os.path.join(root, device)) for device in _DEVICES)
    if not has_nvidia and os.path.exists(os.path.join(root, "dev/kfd")):
        return missing("there is an AMD GPU, and only NVIDIA's are described")
    if not has_nvidia:
        return {}
    nvml = _load_nvml()
    if nvml is not None:
        return _ask_nvml(nvml)
    names = _list_models(root)
    version = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", try_read(os.path.join(root, _DRIVER, "version")))
    return {
        "driver": version[1] if version else missing(_EXTRA),
        "cuda": missing(_EXTRA),
        "devices": [{"name": name, "memory_bytes": missing(_EXTRA)} for name in names] or missing(_EXTRA),
    }


def _load_nvml() -> Any:
    """The module ``pynvml`` of the distribution nvidia-ml-py, or None.

    The distribution pynvml, which came to be a shell around it, prints a warning when it is imported: then it is used
    only if somebody has imported it already.
    """
    if "pynvml" in sys.modules:
        return sys.modules["pynvml"]
    if "_pynvml_redirector" in sys.modules:
        return None
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _ask_nvml(nvml: Any) -> dict[str, Any]:
    nvml.nvmlInit()  # counted: it does not disturb others who use it
    try:
        count = int(nvml.nvmlDeviceGetCount())
        return {
            "driver": _ask(nvml.nvmlSystemGetDriverVersion, _to_name),
            "cuda": _ask(nvml.nvmlSystemGetCudaDriverVersion, lambda value: f"{value // 1000}.{value % 1000 // 10}"),
            "devices": [_describe_device(nvml, index) for index in range(min(count, _LIMIT))],
        }
    finally:
        nvml.nvmlShutdown()


def _describe_device(nvml: Any, index: int) -> dict[str, Any]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except Exception as error:  # noqa: BLE001 - NVML's errors: the device was lost, or is another user's
        return {"name": missing(f"{type(error).__name__}: {error}")}
    return {
        "name": _ask(lambda: nvml.nvmlDeviceGetName(handle), _to_name),
        "memory_bytes": _ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total, int),
        "capability": _ask(lambda: nvml.nvmlDeviceGetCudaComputeCapability(handle), lambda pair: "{}.{}".format(*pair)),
        "mig": _ask(lambda: nvml.nvmlDeviceGetMigMode(handle)[0], bool),
    }


def _ask(question: Callable[[], Any], convert: Callable[[Any], Any]) -> Any:
    try:
        return convert(question())
    except Exception as error:  # noqa: BLE001 - NVML's errors, most often "Not Supported" on this device
        return missing(f"{type(error).__name__}: {error}")


def _to_name(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _list_models(root: str) -> list[str]:
    """The model of each GPU that the kernel's driver lists."""
    top = os.path.join(root, _DRIVER, "gpus")
    try:
        folders = sorted(os.listdir(top))[:_LIMIT]
    except OSError:
        return []
    texts = [try_read(os.path.join(top, folder, "information")) for folder in folders]
    return [match[1] for text in texts if (match := re.search(r"^Model:\s*(.+?)\s*$", text, re.MULTILINE))]
