"""Seed torch's default generators as torch itself would: each device with another seed."""

from __future__ import annotations

import hashlib
from typing import Any

from mlflow_repro.seeding.watch import find_namespace
from mlflow_repro.system.harmless import harmless


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
