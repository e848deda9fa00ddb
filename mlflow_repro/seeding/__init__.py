"""The random seeds and states of a program: observed as they are, and put back in a reproduction."""

from __future__ import annotations

from mlflow_repro.seeding.control import RandomControl, encode_random_state
from mlflow_repro.seeding.log import NO_SEED, SeedCall, SeedLog, describe_seed, process_log
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.observe import current_calls, current_seeds, digest_states
from mlflow_repro.seeding.state import take_states

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
    "process_log",
    "recover_seed",
    "take_states",
]
