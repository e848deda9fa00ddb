"""The only reader and writer of the MLflow store.

mlflow is imported inside the functions: the plugin imports this module while mlflow itself is being imported, and
`--help` must not wait for it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from mlflow_repro.errors import CannotJudgeError, ReproError, UnreachableError, UsageError
from mlflow_repro.model import RECORD_SCHEMA, RunRecord
from mlflow_repro.outcomes import list_model_metrics
from mlflow_repro.redact import redact_text, redact_value
from mlflow_repro.store_schema import check_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from mlflow import MlflowClient
    from mlflow.entities import Run
    from sqlalchemy import Engine

    from mlflow_repro.outcomes import ModelMetric

_OLDEST_MLFLOW = (2, 9, 2)
_PREFLIGHT_SECONDS = 10
_RETRY_SECONDS = 30.0
_PARAM_LIMIT = 6000  # characters that MLflow keeps of a parameter
_BATCH = 100  # params that one request may hold
_MODEL_URI = re.compile(
    r"runs:/(?P<run>[\w-]+)(?:/.*)?|models:/(?:(?P<id>m-[0-9a-f]{32})|(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/]+)))"
)
RECORD_FILE = "repro/record.json"
"""The artifact that holds a run's record of itself."""
RANDOM_STATE_FILE = "repro/random_state.json"
"""The artifact that holds a run's random state."""
_NOISY_LOGGERS = ("mlflow", "alembic")


class TrackingStore:
    """One tracking store, named by an absolute URI."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        with _explained(uri):
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def read_run(self, run_id: str) -> RunRecord:
        """The whole record of a run. Raises CannotJudgeError when there is none, UnreachableError."""
        with _explained(self.uri):
            run = self._client.get_run(run_id)
            experiment = self._client.get_experiment(run.info.experiment_id)
            return _read_record(run, experiment.name)

    def find_model_run(self, model_uri: str) -> str:
        """The id of the run that a model came from: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``runs:/ID/...``.

        Raises UsageError for another form, CannotJudgeError when there is no such model, or no run made it.
        """
        match = _MODEL_URI.fullmatch(model_uri)
        if match is None:
            raise UsageError(
                f"not a model: {model_uri[:80]!r}", "use models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/PATH"
            )
        with _explained(self.uri):
            if match["run"]:
                return match["run"]
            if match["id"]:
                run_id = self._client.get_logged_model(match["id"]).source_run_id
            elif match["version"]:
                run_id = self._client.get_model_version(match["name"], match["version"]).run_id
            else:
                run_id = self._client.get_model_version_by_alias(match["name"], match["alias"]).run_id
        if not run_id:
            raise CannotJudgeError(f"{model_uri} was registered without the run that made it", "give the run: --run_id")
        return str(run_id)

    def read_run_patiently(self, run_id: str) -> RunRecord:
        """`read_run`, tried again for half a minute when the store does not answer (a server that restarts)."""
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                return self.read_run(run_id)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def download_file(self, run_id: str, path: str, directory: Path) -> Path | None:
        """A copy of one artifact in ``directory``, or None when the run does not have it. Raises UnreachableError."""
        with _explained(self.uri):
            folder = path.rpartition("/")[0]
            if path not in {file.path for file in self._client.list_artifacts(run_id, folder)}:
                return None
            directory.mkdir(parents=True, exist_ok=True)
            return Path(self._client.download_artifacts(run_id, path, str(directory)))

    def read_file(self, run_id: str, path: str) -> bytes | None:
        """The content of one artifact, or None when the run does not have it. Raises UnreachableError."""
        with tempfile.TemporaryDirectory(prefix="mlflow-repro-") as folder:
            found = self.download_file(run_id, path, Path(folder))
            return None if found is None else found.read_bytes()

    def read_own_record(self, run_id: str) -> dict[str, Any] | None:
        """The record that a run made of itself, or None. Raises UnreachableError, CannotJudgeError for a broken one."""
        content = self.read_file(run_id, RECORD_FILE)
        if content is None:
            return None
        try:
            record: Any = json.loads(content)
        except ValueError as error:
            raise CannotJudgeError(f"the record of run {run_id} is no JSON: {error}", "it is damaged") from error
        if not isinstance(record, dict) or record.get("schema") != RECORD_SCHEMA:
            raise CannotJudgeError(
                f"the record of run {run_id} has another form than this version reads ({RECORD_SCHEMA})",
                "use the version of mlflow-repro that wrote it, or a newer one",
            )
        return dict(record)

    def find_session_runs(self, session: str, run_index: str) -> list[str]:
        """The ids of the runs that were the ``run_index``-th of their process in a relaunch's process tree."""
        wanted = f"tags.`repro.session` = '{session}' and tags.`repro.launch.run_index` = '{run_index}'"
        with _explained(self.uri):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            return [run.info.run_id for run in self._client.search_runs(experiments, filter_string=wanted)]

    def ensure_experiment(self, name: str) -> str:
        """The id of the experiment called ``name``, created when missing. Raises CannotJudgeError when deleted."""
        with _explained(self.uri):
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                return str(self._client.create_experiment(name))
            if experiment.lifecycle_stage == "deleted":
                raise CannotJudgeError(
                    f"experiment {name!r} is deleted", "restore it, or pass another --experiment_name"
                )
            return str(experiment.experiment_id)

    def create_run(self, experiment_id: str, *, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> str:
        """Create a run that is RUNNING and return its id. Values that MLflow would cut are not logged as params."""
        from mlflow.entities import Param

        whole = [Param(key, value) for key, value in params.items() if len(value) <= _PARAM_LIMIT]
        with _explained(self.uri):
            run = self._client.create_run(experiment_id, tags={**tags, "mlflow.runName": name})
            for start in range(0, len(whole), _BATCH):
                self._client.log_batch(run.info.run_id, params=whole[start : start + _BATCH])
            return str(run.info.run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write up to 100 tags in one request."""
        with _explained(self.uri):
            write_tags(self.uri, run_id, tags)

    def finish_run(self, run_id: str, status: str) -> None:
        """Set the final status: FINISHED, FAILED or KILLED."""
        with _explained(self.uri):
            self._client.set_terminated(run_id, status)

    @property
    def sql_engine(self) -> Engine | None:
        """The engine of a SQL store, to read from; None for another store."""
        return getattr(self._backend, "engine", None)

    def read_server_version(self) -> str:
        """The version that a tracking server gives as its own; empty for a store that is none."""
        if not self._is_server:
            return ""
        from mlflow.utils.rest_utils import http_request

        with _explained(self.uri):
            request: Any = http_request
            return str(request(self._backend.get_host_creds(), "/version", "GET").text)

    @property
    def _backend(self) -> Any:
        return self._client._tracking_client.store  # noqa: SLF001 - the client has no faster way to many points

    @property
    def _is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    def get_json(self, endpoint: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a tracking server answers to a GET, with the credentials that MLflow uses. Raises UnreachableError."""
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        with _explained(self.uri):
            request: Any = http_request
            response = request(self._backend.get_host_creds(), endpoint, "GET", params=dict(asked))
            answer: dict[str, Any] = verify_rest_response(response, endpoint).json()
            return answer

    def read_points(self, run_id: str, name: str) -> list[tuple[int, float, int]]:
        """Step, value and time of each point of a metric, by MLflow's client: slow, and there for every store."""
        with _explained(self.uri):
            return [
                (point.step, point.value, point.timestamp) for point in self._client.get_metric_history(run_id, name)
            ]

    def read_model_metrics(self, run_id: str) -> list[ModelMetric]:
        """The metrics of the models that a run logged or evaluated; none where MLflow is older than 3."""
        if not hasattr(self._client, "get_logged_model"):
            return []
        with _explained(self.uri):
            run = self._client.get_run(run_id)
            ids = [*_model_ids(run.outputs, "model_outputs"), *_model_ids(run.inputs, "model_inputs")]
            models = [self._client.get_logged_model(model_id) for model_id in dict.fromkeys(ids)]
        return list_model_metrics(run_id, models)

    def explained(self) -> AbstractContextManager[None]:
        """While it lasts, whatever is raised about this store becomes an error of ours."""
        return _explained(self.uri)


def _model_ids(entries: Any, kind: str) -> list[str]:
    """The models that a run's inputs or outputs name, in the order of their steps."""
    found = getattr(entries, kind, None) or []
    return [entry.model_id for entry in sorted(found, key=lambda entry: getattr(entry, "step", 0) or 0)]


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
    folder = tempfile.mkdtemp(prefix="mlflow-repro-")
    try:
        for path, content in files.items():
            directory, _, name = path.rpartition("/")
            source = Path(folder, name)
            source.write_bytes(content)
            client.log_artifact(run_id, str(source), directory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def open_store(tracking_uri: str = "") -> TrackingStore:
    """Open the store that ``tracking_uri`` (or ``MLFLOW_TRACKING_URI``, or MLflow's default) names.

    Answers within about ten seconds when a server is down. Never creates a database: a SQLite file that does
    not exist is an error, not a new store. Raises UnreachableError or UsageError.
    """
    try:
        _quieten()
    except ImportError as error:
        raise UsageError(f"mlflow cannot be imported: {error}", "install it: pip install mlflow") from error
    _check_version()
    uri = _resolve_uri(tracking_uri)
    try:
        scheme = urlsplit(uri).scheme
    except ValueError as error:  # half an IPv6 address
        raise UsageError(f"not a tracking URI: {redact_value(uri)}: {error}", "check --tracking_uri") from error
    if scheme in ("http", "https"):
        _check_server(uri)
    elif scheme == "sqlite":
        _check_database(uri)
    return TrackingStore(uri)


def _check_version() -> None:
    """Raise UsageError for an MLflow that is older than those that the tests are run against."""
    import mlflow

    version = str(mlflow.__version__)
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers < _OLDEST_MLFLOW:
        oldest = ".".join(map(str, _OLDEST_MLFLOW))
        raise UsageError(f"mlflow {version} is too old", f"install {oldest} or a newer one: pip install -U mlflow")


def _resolve_uri(tracking_uri: str) -> str:
    import mlflow

    uri = tracking_uri or str(mlflow.get_tracking_uri())
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        path, question, query = uri.removeprefix("sqlite:///").partition("?")
        if path and path != ":memory:":
            return f"sqlite:///{os.path.abspath(path)}{question}{query}"
    if "://" not in uri and uri not in ("databricks", "uc"):
        return os.path.abspath(uri)
    return uri


def _check_database(uri: str) -> None:
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if not path or path == ":memory:":
        raise UsageError("a store in memory holds no runs", "pass --tracking_uri sqlite:///PATH")
    if not os.path.isfile(path):
        raise UnreachableError(
            f"no tracking store: {path} does not exist", "pass --tracking_uri, or set MLFLOW_TRACKING_URI"
        )
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)
        try:
            connection.execute("select 1 from sqlite_master limit 1").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UnreachableError(f"the tracking store {path} cannot be read: {error}", "check the file") from error
    check_schema(path)


def _check_server(uri: str) -> None:
    """One request, so that a server that is down is known in seconds; MLflow alone tries for four minutes."""
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # urllib takes a user and a password for a part of the host's name
    address = urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/version", "", ""))
    try:
        request = urllib.request.Request(address)  # noqa: S310 - http(s), checked by the caller
        with urllib.request.urlopen(request, timeout=_PREFLIGHT_SECONDS):  # noqa: S310
            pass
    except urllib.error.HTTPError:
        pass  # it answers; what it says to an authenticated request is MLflow's to find out
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UnreachableError(
            f"the tracking server {redact_value(uri)} does not answer: {reason}",
            "start it, or pass another --tracking_uri",
        ) from error


@contextmanager
def short_retries() -> Iterator[None]:
    """Let MLflow give up on a server after seconds, not minutes, unless the user has set limits."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
    added = [name for name in limits if name not in os.environ]
    os.environ.update({name: limits[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _quieten() -> None:
    """Keep MLflow's and alembic's progress messages off the user's terminal."""
    import mlflow  # noqa: F401 - configures its loggers, which would undo ours later

    for name in _NOISY_LOGGERS:
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn whatever MLflow raises about the store into an error of ours."""
    try:
        yield
    except ReproError:
        raise
    except Exception as error:
        raise _explain(error, uri) from error


def _explain(error: Exception, uri: str) -> ReproError:
    text = redact_text(str(error)).strip()
    line = text.splitlines()[0][:300] if text else type(error).__name__
    code = str(getattr(error, "error_code", ""))
    shown = redact_value(uri)
    if code == "RESOURCE_DOES_NOT_EXIST":
        return CannotJudgeError(line, f"the store is {shown}; pass --tracking_uri for another")
    if "MLFLOW_ALLOW_FILE_STORE" in text or "maintenance mode" in text:
        return UnreachableError(
            f"this MLflow refuses the file store {shown}",
            "set MLFLOW_ALLOW_FILE_STORE=true, or move the store to sqlite",
        )
    if code == "INVALID_PARAMETER_VALUE":
        return UsageError(line, f"said by the store {shown}")
    if code in ("PERMISSION_DENIED", "UNAUTHENTICATED") or re.search(r"\b40[13]\b", text):
        return UnreachableError(f"the tracking store {shown} refuses access: {line}", "check the credentials")
    if code == "ENDPOINT_NOT_FOUND" or re.search(r"\b404\b", text):
        return UnreachableError(
            f"the tracking server {shown} does not know this request: {line}",
            f"the client is {_version_text()}; check the server's version",
        )
    return UnreachableError(f"the tracking store {shown} failed: {line}", "check --tracking_uri and the store")


def _version_text() -> str:
    import mlflow

    return f"mlflow {mlflow.__version__}"


def _read_record(run: Run, experiment_name: str) -> RunRecord:
    info: Any = run.info
    return RunRecord(
        run_id=info.run_id,
        run_name=info.run_name or "",
        experiment_id=str(info.experiment_id),
        experiment_name=experiment_name,
        status=info.status,
        lifecycle_stage=info.lifecycle_stage,
        start_time=info.start_time or 0,
        end_time=info.end_time or 0,
        artifact_uri=redact_value(info.artifact_uri or ""),
        params=dict(run.data.params),
        metrics={name: float(value) for name, value in run.data.metrics.items()},
        tags=dict(run.data.tags),
    )
