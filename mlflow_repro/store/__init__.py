"""The only reader and writer of the MLflow store.

mlflow is imported inside the functions: the plugin imports this package while mlflow itself is being imported, and
`--help` must not wait for it.
"""

from __future__ import annotations

from mlflow_repro.store.opening import open_store, short_retries
from mlflow_repro.store.recorded import read_recorded
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.store.trees import find_root, find_starter, read_tree
from mlflow_repro.store.writing import (
    RANDOM_STATE_FILE,
    RECORD_FILE,
    RNG_TRACE_FILE,
    read_data,
    write_files,
    write_tags,
)

__all__ = [
    "RANDOM_STATE_FILE",
    "RECORD_FILE",
    "RNG_TRACE_FILE",
    "TrackingStore",
    "find_root",
    "find_starter",
    "open_store",
    "read_data",
    "read_recorded",
    "read_tree",
    "short_retries",
    "write_files",
    "write_tags",
]
