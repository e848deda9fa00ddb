"""The random seeds of a program: see which were set, whoever set them and whenever."""

from __future__ import annotations

from mlflow_repro.seeding.control import RandomControl, encode_random_state
from mlflow_repro.seeding.log import NO_SEED, SeedCall, SeedLog, describe_seed
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.observe import current_calls, current_seeds, snapshot_digests
from mlflow_repro.seeding.watch import unwatch_generators, watch_generators, watch_imports

__all__ = [
    "NO_SEED",
    "RandomControl",
    "SeedCall",
    "SeedLog",
    "current_calls",
    "current_seeds",
    "describe_seed",
    "encode_random_state",
    "recover_seed",
    "snapshot_digests",
    "unwatch_generators",
    "watch_generators",
    "watch_imports",
]
