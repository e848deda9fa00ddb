"""Small training scripts that write to what is not theirs, one kind of write each.

``KINDS`` are lines of Python by name. They may use ``client``, ``theirs`` (the ids of what somebody else has made),
``file`` (a local file) and the modules that `HEADER` imports.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

HEADER = """\
import contextlib, json, multiprocessing, os, pathlib, subprocess, sys, time
import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

theirs = json.loads(pathlib.Path("theirs.json").read_text())
file = "theirs.json"
client = MlflowClient()
answers = {}

def attempt(name, lines):
    try:
        exec(lines, globals())
    except BaseException as error:
        answers[name] = f"{type(error).__name__}: {error}"
    else:
        answers[name] = "done"
"""
TRAIN = """
if __name__ == "__main__":
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 0.25)
        if os.environ.get("MLFLOW_REPRO_SESSION"):
            for name, lines in json.loads(pathlib.Path("kinds.json").read_text()).items():
                attempt(name, lines)
        mlflow.flush_async_logging() if hasattr(mlflow, "flush_async_logging") else None
        client.set_tag(run.info.run_id, "answers", json.dumps(answers)[:7900])
        if "ANSWERS" in os.environ:
            pathlib.Path(os.environ["ANSWERS"]).write_text(json.dumps(answers))
"""

RUN_KINDS = {
    "metric": "client.log_metric(theirs['run'], 'loss', 9.0)",
    "metric without waiting": "client.log_metric(theirs['run'], 'loss', 9.0, synchronous=False)",
    "param": "client.log_param(theirs['run'], 'new', 'x')",
    "batch": "client.log_batch(theirs['run'], [Metric('a', 1, 0, 0)], [Param('p', 'q')], [RunTag('t', 'u')])",
    "tag": "client.set_tag(theirs['run'], 'note', 'changed')",
    "delete tag": "client.delete_tag(theirs['run'], 'note')",
    "artifact": "client.log_artifact(theirs['run'], file)",
    "artifacts": "os.makedirs('d', exist_ok=True); open('d/x', 'w').close(); client.log_artifacts(theirs['run'], 'd')",
    "text": "client.log_text(theirs['run'], 'changed', 'model.txt')",
    "repository": "from mlflow.store.artifact import artifact_repository_registry as registry\n"
    "registry.get_artifact_repository(client.get_run(theirs['run']).info.artifact_uri).log_artifact(file)",
    "repository of runs": "from mlflow.store.artifact import artifact_repository_registry as registry\n"
    "registry.get_artifact_repository('runs:/' + theirs['run']).log_artifact(file)",
    "delete artifacts": "from mlflow.store.artifact import artifact_repository_registry as registry\n"
    "registry.get_artifact_repository(client.get_run(theirs['run']).info.artifact_uri).delete_artifacts('model.txt')",
    "end": "client.set_terminated(theirs['run'], 'KILLED')",
    "update": "client.update_run(theirs['run'], status='FAILED', name='other')",
    "delete run": "client.delete_run(theirs['run'])",
    "restore run": "client.restore_run(theirs['deleted'])",
    "inputs": "import pandas, mlflow.data\n"
    "from mlflow.entities import DatasetInput\n"
    "data = mlflow.data.from_pandas(pandas.DataFrame({'x': [1]}))._to_mlflow_entity()\n"
    "client.log_inputs(theirs['run'], [DatasetInput(data)])",
    "experiment tag": "client.set_experiment_tag(theirs['experiment'], 'a', 'b')",
    "rename experiment": "client.rename_experiment(theirs['experiment'], 'mine now')",
    "delete experiment": "client.delete_experiment(theirs['experiment'])",
    "store": "from mlflow.tracking._tracking_service.utils import _get_store\n"
    "_get_store().log_metric(theirs['run'], Metric('direct', 1.0, 0, 0))",
    "unknown method": "from mlflow.tracking._tracking_service.utils import _get_store\n"
    "assert hasattr(_get_store(), '_hard_delete_run'), 'is refused'\n"
    "_get_store()._hard_delete_run(theirs['run'])",
    "other tracking URI": "mlflow.set_tracking_uri(mlflow.get_tracking_uri() + ''); "
    "MlflowClient(mlflow.get_tracking_uri()).set_tag(theirs['run'], 'a', 'b')",
}
PROCESS_KINDS = {
    "program": "subprocess.run([sys.executable, '-c', f'import mlflow; "
    'mlflow.MlflowClient({mlflow.get_tracking_uri()!r}).set_tag({theirs["run"]!r}, "a", "b")\'], check=True)',
    "program without the plugin": "subprocess.run([sys.executable, '-c', f'from mlflow.tracking import MlflowClient; "
    'MlflowClient({mlflow.get_tracking_uri()!r}).set_tag({theirs["run"]!r}, "a", "b")\'], '
    "env={**os.environ, 'MLFLOW_REPRO_DISABLE': '1'}, check=True)",
    "command": "subprocess.run([sys.executable, '-m', 'mlflow', 'runs', 'delete', '--run-id',"
    " theirs['run']], check=True)",
    "fork": "process = multiprocessing.get_context('fork').Process(\n"
    "    target=client.set_tag, args=(theirs['run'], 'a', 'b'))\n"
    "process.start(); process.join(); assert process.exitcode == 0",
    "spawn": "process = multiprocessing.get_context('spawn').Process(\n"
    "    target=client.set_tag, args=(theirs['run'], 'a', 'b'))\n"
    "process.start(); process.join(); assert process.exitcode == 0",
}

RESUMING_KINDS = {
    "nested": "with mlflow.start_run(run_id=theirs['run'], nested=True) as own:\n    mlflow.log_metric('nested', 1)\n"
    "assert own.info.run_id != theirs['run']",
    "nested again": "with mlflow.start_run(run_id=theirs['run'], nested=True) as again:\n"
    "    mlflow.log_metric('more', 1)\n"
    "assert own.info.run_id == again.info.run_id",
    "metric of the one resumed": "client.log_metric(theirs['run'], 'late', 5)\n"
    "assert client.get_run(own.info.run_id).data.metrics['late'] == 5",
    "artifact of the one resumed": "client.log_text(theirs['run'], 'x', 'late.txt')\n"
    "assert [f.path for f in client.list_artifacts(own.info.run_id, '') if f.path == 'late.txt']",
    "variable": "mlflow.end_run(); os.environ['MLFLOW_RUN_ID'] = theirs['deleted']\n"
    "with mlflow.start_run() as other:\n    mlflow.log_metric('resumed', 1)\n"
    "assert other.info.run_id not in (theirs['deleted'], own.info.run_id)",
    "child": "with mlflow.start_run(tags={'mlflow.parentRunId': theirs['run']}): mlflow.log_metric('m', 1)",
    "child by argument": "with contextlib.suppress(TypeError):\n"
    "    mlflow.start_run(nested=True, parent_run_id=theirs['run'])\n    mlflow.end_run()",
}
REGISTRY_KINDS = {
    "register": "version = client.create_model_version('champ', theirs['artifacts'], theirs['run'])\n"
    "assert int(version.version) == 3, version\n"
    "assert version.status == 'READY'\n"
    "assert int(client.get_model_version('champ', '3').version) == 3\n"
    "assert [int(v.version) for v in client.search_model_versions(\"name='champ'\")] == [3, 2, 1]",
    "alias": "client.set_registered_model_alias('champ', 'champion', '3')\n"
    "assert int(client.get_model_version_by_alias('champ', 'champion').version) == 3",
    "delete alias": "client.delete_registered_model_alias('champ', 'second')",
    "model tag": "client.set_registered_model_tag('champ', 'a', 'b')\n"
    "assert client.get_registered_model('champ').tags['a'] == 'b'",
    "delete model tag": "client.delete_registered_model_tag('champ', 'kept')",
    "version tag": "client.set_model_version_tag('champ', '1', 'a', 'b')",
    "describe": "client.update_registered_model('champ', 'changed')\n"
    "client.update_model_version('champ', '1', 'changed')",
    "stage": "client.transition_model_version_stage('champ', '1', 'Production')\n"
    "assert client.get_latest_versions('champ', ['Production'])[0].current_stage == 'Production'",
    "delete version": "client.delete_model_version('champ', '2')",
    "rename model": "client.rename_registered_model('champ', 'other')",
    "delete model": "client.delete_registered_model('other')",
    "new model": "client.create_registered_model('brand new', tags={'x': 'y'})\n"
    "assert client.get_registered_model('brand new').tags == {'x': 'y'}",
    "register by name": "version = mlflow.register_model(theirs['artifacts'], 'quick')\n"
    "assert int(version.version) == 1",
}

NEW_KINDS = {
    "metric of the run by name": "mlflow.log_metric('loss', 9.0, run_id=theirs['run'])",
    "artifact of the run by name": "mlflow.log_artifact(file, run_id=theirs['run'])",
    "outputs": "from mlflow.entities import LoggedModelOutput\n"
    "client.log_outputs(theirs['run'], [LoggedModelOutput(theirs['model'], 0)])",
    "model tags": "client.set_logged_model_tags(theirs['model'], {'a': 'b'})",
    "model params": "client.log_model_params(theirs['model'], {'a': 'b'})",
    "finalize model": "client.finalize_logged_model(theirs['model'], 'FAILED')",
    "model metric": "mlflow.log_metric('of the model', 1.0, model_id=theirs['model'])",
    "delete model": "client.delete_logged_model(theirs['model'])",
    "model of theirs": "mlflow.create_external_model(name='outside', source_run_id=theirs['run'])",
    "trace tag": "client.set_trace_tag(theirs['trace'], 'a', 'b')",
    "assessment": "mlflow.log_feedback(trace_id=theirs['trace'], name='good', value=True)",
    "delete traces": "client.delete_traces(theirs['experiment'], trace_ids=[theirs['trace']])",
    "link traces": "client.link_traces_to_run([theirs['trace']], theirs['run'])",
    "data set tags": "import mlflow.genai\n"
    "mlflow.genai.set_dataset_tags(dataset_id=theirs['dataset'], tags={'a': 'b'})",
    "data set records": "import mlflow.genai\n"
    "mlflow.genai.get_dataset(dataset_id=theirs['dataset']).merge_records([{'inputs': {'q': 'new'}}])",
    "delete data set": "import mlflow.genai\nmlflow.genai.delete_dataset(dataset_id=theirs['dataset'])",
    "prompt": "mlflow.genai.register_prompt(name='ask', template='{{x}}?')\n"
    "assert mlflow.genai.load_prompt('prompts:/ask/1').template == '{{x}}?'",
    "prompt alias": "mlflow.genai.set_prompt_alias('ask', 'live', 1)",
    "webhook": "from mlflow.entities.webhook import WebhookEvent\n"
    "with contextlib.suppress(mlflow.MlflowException):\n"
    "    client.create_webhook('hook', 'https://example.invalid/x', ['registered_model.created'])",
    "scorer": "from mlflow.tracking._tracking_service.utils import _get_store\n"
    "_get_store().register_scorer(theirs['experiment'], 'score', '{}')",
    "request": "from mlflow.utils.rest_utils import http_request\n"
    "from mlflow.utils.rest_utils import MlflowHostCreds\n"
    "assert mlflow.get_tracking_uri().startswith('http'), 'is refused'\n"
    "http_request(MlflowHostCreds(mlflow.get_tracking_uri()), '/api/2.0/mlflow/runs/delete', 'POST',"
    " json={'run_id': theirs['run']})",
}
REFUSED = {"unknown method", "scorer", "request"}
"""The kinds that have no answer with which the script could go on."""


def make_theirs(client: MlflowClient, *, is_new: bool) -> dict[str, Any]:
    """Somebody else's run, experiment, models and so on, with their ids. ``is_new`` is for MLflow 3."""
    experiment = client.create_experiment(f"theirs {uuid.uuid4().hex}")
    run = client.create_run(experiment, run_name="old").info.run_id
    client.log_metric(run, "loss", 0.5)
    client.set_tag(run, "note", "kept")
    client.log_text(run, "weights", "model.txt")
    client.set_terminated(run)
    deleted = client.create_run(experiment).info.run_id
    client.delete_run(deleted)
    with contextlib.suppress(Exception):  # another test's, on the same server
        client.delete_registered_model("champ")
    client.create_registered_model("champ", tags={"kept": "yes"})
    uri = client.get_run(run).info.artifact_uri
    for _ in range(2):
        client.create_model_version("champ", uri, run)
    client.set_registered_model_alias("champ", "champion", "1")
    client.set_registered_model_alias("champ", "second", "2")
    theirs = {"experiment": experiment, "run": run, "deleted": deleted, "artifacts": uri}
    return {**theirs, **(_make_new(client, experiment, run) if is_new else {})}


def _make_new(client: MlflowClient, experiment: str, run: str) -> dict[str, str]:
    store = client._tracking_client.store
    model = client.create_logged_model(experiment, name="m", source_run_id=run)
    client.finalize_logged_model(model.model_id, "READY")
    from mlflow.entities import TraceInfo, TraceLocation, TraceState

    trace = store.start_trace(
        TraceInfo(
            f"tr-{uuid.uuid4().hex}", TraceLocation.from_experiment_id(experiment), 1_700_000_000_000, TraceState.OK
        )
    )
    dataset = store.create_dataset("questions", {"a": "1"}, [experiment])
    return {"model": model.model_id, "trace": trace.trace_id, "dataset": dataset.dataset_id}


def script(kinds: dict[str, str], theirs: dict[str, Any], train: str = TRAIN) -> dict[str, str]:
    """The files of a repository whose training writes in all of these ways when it is relaunched."""
    return {"train.py": HEADER + train, "kinds.json": json.dumps(kinds), "theirs.json": json.dumps(theirs)}
