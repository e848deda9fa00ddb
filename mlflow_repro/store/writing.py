"""What the plugin reads and writes of a run, from inside the training process; MLflow's own errors pass through."""

from __future__ import annotations

from functools import partial
from inspect import signature
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from mlflow_repro.system.folders import hold_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow.entities import Run as StoredRun

RECORD_FILE = "repro/record.json"
"""The artifact that holds a run's record of itself."""
RANDOM_STATE_FILE = "repro/random_state.json"
"""The artifact that holds a run's random state."""
START_ARCHIVE = "repro/start.zip"
"""The artifact that holds what was known at the start: files by their paths below ``repro/``."""
RNG_TRACE_FILE = "repro/rng_trace.json"
"""The artifact that holds digests of the random states by step, where that was asked for."""


def write_tags(uri: str, run_id: str, tags: Mapping[str, str]) -> None:
    """Write tags of a run from inside the training process; MLflow's own errors pass through."""
    from mlflow import MlflowClient
    from mlflow.entities import RunTag

    rows = [RunTag(key, value) for key, value in tags.items()]
    MlflowClient(tracking_uri=uri).log_batch(run_id, tags=rows, synchronous=True)


def delete_tags(uri: str, run_id: str, names: Iterable[str]) -> None:
    """Take tags of a run away, a request each; MLflow's own errors pass through."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    for name in names:
        client.delete_tag(run_id, name)


def read_data(uri: str, run_id: str) -> tuple[list[dict[str, str]], dict[str, str]]:
    """The data set inputs of a run (`list_inputs`) and its params."""
    from mlflow import MlflowClient

    run = MlflowClient(tracking_uri=uri).get_run(run_id)
    return list_inputs(run), dict(run.data.params)


def list_inputs(run: StoredRun) -> list[dict[str, str]]:
    """The data sets that a run was logged to have as its inputs: name, digest, source_type, source, context."""
    return [
        {
            "name": item.dataset.name,
            "digest": item.dataset.digest,
            "source_type": item.dataset.source_type,
            "source": item.dataset.source,
            "context": next((tag.value for tag in item.tags if tag.key == "mlflow.data.context"), ""),
        }
        for item in getattr(run.inputs, "dataset_inputs", ())
    ]


def write_files(uri: str, run_id: str, files: Mapping[str, bytes], *, artifact_uri: str = "") -> None:
    """Write artifacts of a run, by their path, from inside the training process; MLflow's own errors pass through.

    ``artifact_uri`` is where the run's artifacts are, where that is known; else MLflow asks for it. One by one: to
    write a whole folder MLflow starts threads, which fails while the interpreter is shutting down.
    """
    put = _find_writer(uri, run_id, artifact_uri)
    # Not a TemporaryDirectory: it is removed when the interpreter begins to end, and we may still be writing then.
    with hold_folder() as folder:
        for path, content in files.items():
            directory, _, name = path.rpartition("/")
            source = Path(folder.path, name)
            source.write_bytes(content)
            put(str(source), directory)


def _find_writer(uri: str, run_id: str, artifact_uri: str) -> Callable[[str, str], object]:
    """What writes a file into a folder of a run's artifacts: the client, or without a request more what it uses."""
    import mlflow
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

    named = {"tracking_uri": uri} if "tracking_uri" in signature(get_artifact_repository).parameters else {}
    # An MLflow of before 3.1 takes no tracking store here, and uses the one that is set now.
    if not artifact_uri or not (named or mlflow.get_tracking_uri() == uri):
        return partial(MlflowClient(tracking_uri=uri).log_artifact, run_id)
    place: Any = add_databricks_profile_info_to_artifact_uri
    return get_artifact_repository(place(artifact_uri, uri), **named).log_artifact


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """The files, by their path, as one archive that is the same for the same files."""
    whole = BytesIO()
    with ZipFile(whole, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for path, content in files.items():
            entry = ZipInfo(path)
            entry.compress_type, entry.external_attr = ZIP_DEFLATED, 0o600 << 16
            archive.writestr(entry, content, compresslevel=1)
    return whole.getvalue()
