"""One tracking store: its runs, their artifacts, and the runs that a relaunch makes in it."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mlflow_repro.errors import CannotJudgeError, UnreachableError, UsageError
from mlflow_repro.store.artifacts import list_folders, open_reader
from mlflow_repro.store.explained import explained
from mlflow_repro.store.places import check_place, make_place
from mlflow_repro.store.recorded import read_member
from mlflow_repro.store.writing import RECORD_FILE, START_ARCHIVE, list_inputs, write_files
from mlflow_repro.text.redact import redact_value
from mlflow_repro.values.comparison import ModelMetric
from mlflow_repro.values.record import NO_RECORD, parse_record
from mlflow_repro.values.run import OWN_METRICS, Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from mlflow import MlflowClient
    from mlflow.entities import Run as StoredRun
    from sqlalchemy import Engine

    from mlflow_repro.store.artifacts import ArtifactFolder
    from mlflow_repro.store.places import NamedPlace
    from mlflow_repro.values.record import Record

_RETRY_SECONDS = 30.0
_ARCHIVES = 2  # that are kept: those of a pair
_PARAM_LIMIT = 6000  # characters that MLflow keeps of a parameter
_BATCH = 100  # params that one request may hold
_MODEL_URI = re.compile(
    r"runs:/(?P<run>[\w-]+)(?:/.*)?|models:/(?:(?P<id>m-[0-9a-f]{32})|(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>[^/]+)))"
)


@dataclass
class _Known:
    """What was read of a run, which serves until its row is read again, and what reads its artifacts."""

    row: StoredRun
    record: Record | None = None
    read: Callable[[str], bytes | None] | None = None


class TrackingStore:
    """One tracking store, named by an absolute URI."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self.uri = uri
        self._known: dict[str, _Known] = {}
        self._archives: dict[str, bytes] = {}  # of two runs: they may be large
        self._server_version = ""
        with explained(uri):
            self._client: MlflowClient = MlflowClient(tracking_uri=uri)

    def read_run(self, run_id: str) -> Run:
        """The whole row of a run. Raises CannotJudgeError when there is none, UnreachableError."""
        with explained(self.uri):
            self._forget(run_id)
            run = self._know(run_id).row
            experiment = self._client.get_experiment(run.info.experiment_id)
            return _to_run(run, experiment.name)

    def find_model_run(self, model_uri: str) -> str:
        """The id of the run that a model came from: ``models:/NAME/VERSION``, ``models:/NAME@ALIAS``, ``runs:/ID/...``.

        Raises UsageError for another form, CannotJudgeError when there is no such model, or no run made it.
        """
        match = _MODEL_URI.fullmatch(model_uri)
        if match is None:
            raise UsageError(
                f"not a model: {model_uri[:80]!r}", "use models:/NAME/VERSION, models:/NAME@ALIAS or runs:/RUN_ID/PATH"
            )
        if match["run"]:
            return match["run"]
        try:
            with explained(self.uri):
                if match["id"]:
                    run_id = self._client.get_logged_model(match["id"]).source_run_id
                elif match["version"]:
                    run_id = self._client.get_model_version(match["name"], match["version"]).run_id
                else:
                    run_id = self._client.get_model_version_by_alias(match["name"], match["alias"]).run_id
        except UsageError as error:  # what MLflow 2 says of an alias that is not there
            raise CannotJudgeError(error.message, error.hint) from error
        if not run_id:
            raise CannotJudgeError(f"{model_uri} was registered without the run that made it", "give the run: --run_id")
        return str(run_id)

    def read_run_patiently(self, run_id: str) -> Run:
        """`read_run`, tried again for half a minute when the store does not answer (a server that restarts)."""
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            try:
                return self.read_run(run_id)
            except UnreachableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def _know(self, run_id: str) -> _Known:
        """What was read of a run; of one that was not, its row is read now."""
        if run_id not in self._known:
            row = self._client.get_run(run_id)
            if row.info.run_id != run_id:
                raise UnreachableError(f"the tracking store {redact_value(self.uri)} answers with no run or another")
            self._known[run_id] = _Known(row)
        return self._known[run_id]

    def _forget(self, run_id: str) -> None:
        self._known.pop(run_id, None)
        self._archives.pop(run_id, None)

    def _find_place(self, run_id: str) -> NamedPlace:
        info: Any = self._know(run_id).row.info
        return make_place(self._client, self.uri, run_id, info.artifact_uri, info.experiment_id)

    def read_file(self, run_id: str, path: str) -> bytes | None:
        """The content of a file that the run recorded, or None when it does not have it.

        It is an artifact, or in the archive of the run's start. Raises UnreachableError, CannotJudgeError.
        """
        content = self._read_artifact(run_id, path)
        if content is not None:
            return content
        if run_id not in self._archives:
            archive = self._read_artifact(run_id, START_ARCHIVE)
            if archive is None:
                return None
            self._archives = dict([*self._archives.items(), (run_id, archive)][-_ARCHIVES:])
        return read_member(BytesIO(self._archives[run_id]), path)

    def _read_artifact(self, run_id: str, path: str) -> bytes | None:
        with explained(self.uri):
            known = self._know(run_id)
            known.read = known.read or open_reader(self._client, self._find_place(run_id))
            return known.read(path)

    def read_own_record(self, run_id: str) -> Record:
        """The record that a run made of itself, or `NO_RECORD`; read once.

        Raises UnreachableError, CannotJudgeError for one that cannot be read at all.
        """
        with explained(self.uri):
            known = self._know(run_id)
        if known.record is None:
            content = self.read_file(run_id, RECORD_FILE)
            name = f"{RECORD_FILE} of run {run_id}"
            known.record = NO_RECORD if content is None else parse_record(content, name)
        return known.record

    def list_folders(self, run_id: str) -> list[ArtifactFolder]:
        """What a run left behind: its artifacts and its models. Raises what `artifacts.list_folders` raises."""
        with explained(self.uri):
            row = self._know(run_id).row
        return list_folders(self._client, self.uri, row)

    def read_inputs(self, run_id: str) -> list[dict[str, str]]:
        """The data sets that were logged as a run's inputs. Raises UnreachableError."""
        with explained(self.uri):
            return list_inputs(self._know(run_id).row)

    def read_stage(self, run_id: str) -> str:
        """``deleted``, or ``active``. Raises CannotJudgeError when there is no such run, UnreachableError."""
        with explained(self.uri):
            return str(self._know(run_id).row.info.lifecycle_stage)

    def search_runs(self, wanted: str, experiment_ids: Collection[str] = ()) -> list[Run]:
        """The runs, deleted ones too, that fulfil MLflow's filter ``wanted``, in all experiments."""
        from mlflow.entities import ViewType

        with explained(self.uri):
            pages = _all_pages(lambda token: self._client.search_experiments(page_token=token))
            names = {str(experiment.experiment_id): experiment.name for experiment in pages}
            searched = [name for name in names if not experiment_ids or name in experiment_ids]
            runs = _all_pages(
                lambda token: self._client.search_runs(
                    searched, filter_string=wanted, run_view_type=ViewType.ALL, page_token=token
                )
            )
            return [_to_run(run, names[str(run.info.experiment_id)]) for run in runs]

    def find_children(self, parent_id: str) -> list[Run]:
        """The runs that are nested under a run, the oldest first."""
        wanted = f"tags.`mlflow.parentRunId` = '{parent_id}'"
        with explained(self.uri):
            experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
            runs = self._client.search_runs(experiments, filter_string=wanted)
        return sorted((_to_run(run, "") for run in runs), key=lambda run: run.start_time)

    def ensure_experiment(self, name: str) -> str:
        """The id of the experiment called ``name``, created when missing. Raises CannotJudgeError when deleted."""
        with explained(self.uri):
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
        with explained(self.uri):
            run = self._client.create_run(experiment_id, tags={**tags, "mlflow.runName": name})
            for start in range(0, len(whole), _BATCH):
                self._client.log_batch(run.info.run_id, params=whole[start : start + _BATCH])
            return str(run.info.run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write up to 100 tags in one request."""
        from mlflow.entities import RunTag

        rows = [RunTag(name, value) for name, value in tags.items()]
        with explained(self.uri):
            self._client.log_batch(run_id, tags=rows, synchronous=True)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Write final values of up to 1,000 metrics in one request."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with explained(self.uri):
            self._client.log_batch(run_id, metrics=[Metric(name, value, now, 0) for name, value in metrics.items()])

    def write_text(self, run_id: str, path: str, text: str) -> None:
        """Write an artifact in UTF-8. Raises RefusedError where the store has no business."""
        with explained(self.uri):
            check_place(self._find_place(run_id))
            self._forget(run_id)
            write_files(self.uri, run_id, {path: text.encode("utf-8", "backslashreplace")})

    def finish_run(self, run_id: str, status: str) -> None:
        """Set the final status: FINISHED, FAILED or KILLED."""
        with explained(self.uri):
            self._client.set_terminated(run_id, status)

    @property
    def sql_engine(self) -> Engine | None:
        """The engine of a SQL store, to read from; None for another store."""
        return getattr(self._backend, "engine", None)

    def read_server_version(self) -> str:
        """The version that a tracking server gives as its own, asked for once; empty for a store that is none."""
        if self._server_version or not self._is_server:
            return self._server_version
        from mlflow.utils.rest_utils import http_request

        with explained(self.uri):
            request: Any = http_request
            self._server_version = str(request(self._backend.get_host_creds(), "/version", "GET").text)
        return self._server_version

    @property
    def _backend(self) -> Any:
        return self._client._tracking_client.store  # noqa: SLF001 - the client has no faster way to many points

    @property
    def _is_server(self) -> bool:
        return urlsplit(self.uri).scheme in ("http", "https")

    def get_json(self, endpoint: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """What a tracking server answers to a GET, with the credentials that MLflow uses. Raises UnreachableError."""
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        with explained(self.uri):
            request: Any = http_request
            response = request(self._backend.get_host_creds(), endpoint, "GET", params=dict(asked))
            answer: dict[str, Any] = verify_rest_response(response, endpoint).json()
            return answer

    def read_points(self, run_id: str, name: str) -> list[tuple[int, float, int]]:
        """Step, value and time of each point of a metric, by MLflow's client: slow, and there for every store."""
        with explained(self.uri):
            return [
                (point.step, point.value, point.timestamp) for point in self._client.get_metric_history(run_id, name)
            ]

    def read_last_points(self, run_id: str) -> dict[str, tuple[int, float]]:
        """The step and the value of the last point of each metric of a run, by MLflow's client."""
        with explained(self.uri):
            data: Any = self._client.get_run(run_id).data
            return {point.key: (point.step, float(point.value)) for point in data._metric_objs}  # noqa: SLF001

    def read_model_metrics(self, run_id: str) -> list[ModelMetric]:
        """The metrics of the models that a run logged or evaluated; none where MLflow is older than 3."""
        if not hasattr(self._client, "get_logged_model"):
            return []
        with explained(self.uri):
            ids = list_model_ids(self._know(run_id).row)
            models = [(self._client.get_logged_model(model_id), step) for model_id, step in ids.items()]
        return list_model_metrics(run_id, models)

    def explained(self) -> AbstractContextManager[None]:
        """While it lasts, whatever is raised about this store becomes an error of ours."""
        return explained(self.uri)


def _all_pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _to_run(run: StoredRun, experiment_name: str) -> Run:
    info: Any = run.info
    return Run(
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
        metrics={name: float(value) for name, value in run.data.metrics.items() if name not in OWN_METRICS},
        tags=dict(run.data.tags),
    )


def list_model_ids(run: Any) -> dict[str, int]:
    """The models that a run (MLflow's `Run`) logged, with their steps, and those that it was given."""
    ids: dict[str, int] = {}
    for side, kind in (("outputs", "model_outputs"), ("inputs", "model_inputs")):
        for entry in getattr(getattr(run, side, None), kind, None) or []:
            ids.setdefault(entry.model_id, getattr(entry, "step", 0) or 0)
    return ids


def list_model_metrics(run_id: str, models: Iterable[tuple[Any, int]]) -> list[ModelMetric]:
    """What the run logged for ``models`` (MLflow's `LoggedModel`, and its step): of each metric the last value.

    Of one name they come by step and time of creation; in which order a store gives them says nothing.
    """
    metrics: dict[tuple[str, int, str], ModelMetric] = {}
    seen: Counter[str] = Counter()
    for model, logged_at in sorted(models, key=lambda pair: (pair[1], pair[0].creation_timestamp)):
        seen[model.name] += 1
        points = [point for point in model.metrics or () if point.run_id in (None, "", run_id)]
        for point in sorted(points, key=lambda point: (point.step, point.timestamp)):
            metric = ModelMetric(
                model=model.name,
                place=seen[model.name],
                logged_at=logged_at,
                name=point.key,
                value=float(point.value),
                step=point.step,
                dataset=point.dataset_name or "",
                digest=point.dataset_digest or "",
            )
            metrics[metric.model, metric.place, metric.label] = metric
    return list(metrics.values())
