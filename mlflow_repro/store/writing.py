"""What the plugin reads and writes of a run, from inside the training process; MLflow's own errors pass through."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.system.folders import hold_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

RECORD_FILE = "repro/record.json"
"""The artifact that holds a run's record of itself."""
RANDOM_STATE_FILE = "repro/random_state.json"
"""The artifact that holds a run's random state."""
RNG_TRACE_FILE = "repro/rng_trace.json"
"""The artifact that holds digests of the random states by step, where that was asked for."""


def write_tags(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Write tags of a run from inside the training process; MLflow's own errors pass through."""
    from mlflow import MlflowClient
    from mlflow.entities import RunTag

    rows = [RunTag(key, value) for key, value in tags.items()]
    MlflowClient(tracking_uri=uri).log_batch(run_id, tags=rows, synchronous=True)


def read_data(uri: str, run_id: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The data set inputs of a run (name, digest, source_type, source, context) and its params."""
    from mlflow import MlflowClient

    run = MlflowClient(tracking_uri=uri).get_run(run_id)
    inputs = [
        {
            "name": item.dataset.name,
            "digest": item.dataset.digest,
            "source_type": item.dataset.source_type,
            "source": item.dataset.source,
            "context": next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), ""),
        }
        for item in getattr(run.inputs, "dataset_inputs", ())
    ]
    return inputs, dict(run.data.params)


def write_files(uri: str, run_id: str, files: Mapping[str, bytes]) -> None:
    """Write artifacts of a run, by their path, from inside the training process; MLflow's own errors pass through.

    One by one: to write a whole folder MLflow starts threads, which fails while the interpreter is shutting down.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    # Not a TemporaryDirectory: it is removed when the interpreter begins to end, and we may still be writing then.
    with hold_folder() as folder:
        for path, content in files.items():
            directory, _, name = path.rpartition("/")
            source = Path(folder.path, name)
            source.write_bytes(content)
            client.log_artifact(run_id, str(source), directory)
