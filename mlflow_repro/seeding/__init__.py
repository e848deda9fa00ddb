"""The random seeds of a program: see which were set, whoever set them and whenever."""

from __future__ import annotations

from mlflow_repro.seeding.control import RandomControl, encode_random_state
from mlflow_repro.seeding.log import NO_SEED, SeedCall, SeedLog, describe_seed
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.observe import current_calls, current_seeds, digest_states
from mlflow_repro.seeding.state import take_states
from mlflow_repro.seeding.watch import unwatch_generators, watch_generators, watch_imports

__all__ = [
    "NO_SEED",
    "RandomControl",
    "SeedCall",
    "SeedLog",
    "current_calls",
    "current_seeds",
    "describe_seed",
    "digest_states",
    "encode_random_state",
    "recover_seed",
    "take_states",
    "unwatch_generators",
    "watch_generators",
    "watch_imports",
]
