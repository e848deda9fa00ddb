"""The section ``machine``: processor, cores, memory, numerical libraries, GPUs and the frameworks' switches.

The host's name is not stored: it can name a person or a company's network. A short digest of it is, which says whether
two runs were made on the same machine (in a container: in the same container) and no more to somebody who does not
know the name already.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from mlflow_repro.machine.gpus import describe_gpus
from mlflow_repro.machine.numerics import describe_frameworks, describe_libraries
from mlflow_repro.system.folders import read_text, try_read
from mlflow_repro.values.captured import Section, missing, run_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_NUMERIC_FLAGS = re.compile(
    r"sse\d?\w*|ssse3|sse4[_.]?[12a]?|avx\w*|avx[\d.]+\w*|fma\d?|f16c|amx\w*"  # x86
    r"|fp|fphp|neon|asimd\w*|sve\w*|sme(?!p$)\w*|bf16|i8mm|fcma|jscvt|vfpv\d"  # ARM, on Linux
    r"|feat_(?:fp16|fhm|bf16|i8mm|dotprod|fcma|jscvt|sme\w*)|advsimd\w*",  # ARM, on macOS
    re.IGNORECASE,
)
_FIRST_PROCESSOR = 8_192  # bytes of /proc/cpuinfo: on a machine with many cores the whole of it takes long
_CPUINFO_NAMES = {
    "model": ("model name", "cpu model", "Processor", "cpu"),
    "vendor": ("vendor_id", "CPU implementer"),
    "family": ("cpu family", "CPU architecture"),
    "model_number": ("model", "CPU part"),
    "stepping": ("stepping", "CPU revision"),
}
_NO_LIMIT = 1 << 60  # bytes; cgroups of version 1 write a number like that for "none"
_HOST_DIGITS = 12


def record_machine(deadline: float, *, root: str = "/", sysctl: Callable[[str], str] | None = None) -> Section:
    """The hardware, and the libraries that compute on it.

    The facts: ``cpu``, ``cores``, ``memory`` (bytes), ``host`` (a digest), ``libraries``, ``gpus``, ``frameworks``.
    What had not been begun at ``deadline`` (a value of `time.monotonic`) is missing. ``root`` (the folder that holds
    ``proc`` and ``sys``) and ``sysctl`` (macOS's, by name) are for tests. Sets up no device, imports nothing but
    threadpoolctl and pynvml where they are installed and needed, and raises no Exception.
    """
    if sysctl is None and sys.platform == "darwin":
        sysctl = _sysctl
    return Section(
        facts=run_steps(
            {
                "cpu": lambda: _describe_cpu(root, sysctl),
                "cores": lambda: _count_cores(root, sysctl),
                "memory": lambda: _measure_memory(root, sysctl),
                "host": _digest_host,
                "libraries": lambda: describe_libraries(root),
                "frameworks": describe_frameworks,
                "gpus": lambda: describe_gpus(root),
            },
            deadline,
        )
    )


def _describe_cpu(root: str, sysctl: Callable[[str], str] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"architecture": os.uname().machine}
    if sysctl is not None:
        words = f"{sysctl('machdep.cpu.features')} {sysctl('machdep.cpu.leaf7_features')}".lower().split()
        words += [name.removeprefix("arm.") for name in _MACOS_FLAGS if sysctl(f"hw.optional.{name}") == "1"]
        facts["model"] = sysctl("machdep.cpu.brand_string") or missing("sysctl does not tell it")
    else:
        fields = _read_cpuinfo(root)
        if not fields:
            return {**facts, "model": missing("/proc/cpuinfo cannot be read")}
        for fact, names in _CPUINFO_NAMES.items():
            value = next((fields[name] for name in names if fields.get(name)), None)
            facts[fact] = value or missing("the kernel does not tell it")
        words = (fields.get("flags") or fields.get("Features") or "").split()
    flags = sorted({word.lower() for word in words if _NUMERIC_FLAGS.fullmatch(word)})
    facts["flags"] = flags or missing("the system does not tell them")
    return facts


_MACOS_FLAGS = (
    "arm.FEAT_FP16", "arm.FEAT_FHM", "arm.FEAT_BF16", "arm.FEAT_I8MM", "arm.FEAT_DotProd", "arm.FEAT_FCMA",
    "arm.FEAT_SME", "arm.FEAT_SME2", "AdvSIMD",
)  # fmt: skip


def _read_cpuinfo(root: str) -> dict[str, str]:
    """The fields of the first processor."""
    text = try_read(os.path.join(root, "proc/cpuinfo"), _FIRST_PROCESSOR)
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon and fields:
            break
        if colon:
            fields[name.strip()] = value.strip()
    return fields


def _count_cores(root: str, sysctl: Callable[[str], str] | None) -> dict[str, Any]:
    if hasattr(os, "sched_getaffinity"):
        available: Any = len(os.sched_getaffinity(0))
    else:
        available = missing("this system has no affinity")
    return {
        "physical": _count_physical(root, sysctl) or missing("the kernel does not tell it"),
        "logical": os.cpu_count() or missing("the system does not tell it"),
        "available": available,
        "cgroup_limit": _cgroup_cores(root),
    }


def _count_physical(root: str, sysctl: Callable[[str], str] | None) -> int:
    if sysctl is not None:
        return int(sysctl("hw.physicalcpu") or 0)
    top = os.path.join(root, "sys/devices/system/cpu")
    try:
        folders = [name for name in os.listdir(top) if re.fullmatch(r"cpu\d+", name)]
    except OSError:
        folders = []
    siblings = {try_read(f"{top}/{name}/topology/thread_siblings_list", 256) for name in folders}
    siblings.discard("")
    if siblings:
        return len(siblings)
    fields = _read_cpuinfo(root)  # a virtual machine without that folder: one socket is told by its numbers
    is_one_socket = fields.get("siblings", "") == str(os.cpu_count())
    return int(fields.get("cpu cores", 0)) if is_one_socket else 0


def _cgroup_cores(root: str) -> Any:
    """How many cores' time the control groups allow; a fraction is possible."""
    limits: list[float] = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = (try_read(f"{folder}/cpu.max", 64).split() or ["", ""])[:2]
        if not quota:
            quota = try_read(f"{folder}/cpu.cfs_quota_us", 64).strip()
            period = try_read(f"{folder}/cpu.cfs_period_us", 64).strip()
        if quota.isdigit() and period.isdigit() and int(period):
            limits.append(int(quota) / int(period))
    return round(min(limits), 3) if limits else missing("no limit is set, or it cannot be seen from here")


def _measure_memory(root: str, sysctl: Callable[[str], str] | None) -> dict[str, Any]:
    match = re.search(r"^MemTotal:\s*(\d+) kB", try_read(os.path.join(root, "proc/meminfo"), 4_096), re.MULTILINE)
    if match:
        total = int(match[1]) * 1024
    elif sysctl is not None:
        total = int(sysctl("hw.memsize") or 0)
    else:
        total = 0
    texts = [
        try_read(f"{folder}/{name}", 64).strip()
        for folder in _cgroup_folders(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    ]
    limits = [int(text) for text in texts if text.isdigit() and int(text) < _NO_LIMIT]
    return {
        "total_bytes": total or missing("the system does not tell it"),
        "cgroup_limit_bytes": min(limits) if limits else missing("no limit is set, or it cannot be seen from here"),
    }


def _cgroup_folders(root: str, controller: str) -> Iterable[str]:
    """The folders of this process's control groups and of those above them, for versions 1 and 2."""
    top = os.path.join(root, "sys/fs/cgroup")
    try:
        lines = read_text(os.path.join(root, "proc/self/cgroup")).splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mounts = (os.path.join(top, controllers), os.path.join(top, controller)) if controllers else (top,)
        parts = [part for part in path.split("/") if part and part != ".."]
        for mount in dict.fromkeys(mounts):
            for length in range(len(parts), -1, -1):
                yield "/".join([mount, *parts[:length]])


def _digest_host() -> str:
    name = os.uname().nodename
    digest = hashlib.sha256(b"mlflow-repro host\0" + name.encode("utf-8", "surrogateescape"))
    return f"sha256:{digest.hexdigest()[:_HOST_DIGITS]}"


def _sysctl(name: str) -> str:
    """One value of macOS's sysctl as text, or empty; no process is started for it."""
    library = ctypes.CDLL(None)
    size = ctypes.c_size_t(4_096)
    buffer = ctypes.create_string_buffer(size.value)
    if library.sysctlbyname(name.encode(), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        return ""
    content = buffer.raw[: size.value]
    if len(content) in (4, 8) and not name.startswith("machdep.cpu"):
        return str(int.from_bytes(content, sys.byteorder))
    return content.rstrip(b"\0").decode("utf-8", "replace")
