"""A tracking server that fails while a run is reproduced (group TRK of the fault table)."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from faulty_proxy import serve_faults

import mlflow_repro
from mlflow_repro.errors import UnreachableError
from mlflow_repro.launch.launcher import Launcher
from mlflow_repro.report.text import render_text
from mlflow_repro.store import store as store_module
from mlflow_repro.values.run import Run


@pytest.fixture
def proxied(tiny, tracking_server, monkeypatch):
    """The workbench with a reference run on a server behind a proxy, and that proxy; retries last a second."""
    tiny.tracking_uri = tracking_server
    tiny.run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 1.0)
    with serve_faults(tracking_server) as proxy:
        yield tiny, proxy


def reproductions(bench) -> list[str]:
    """Of this reference: other tests have runs on the same server."""
    runs = map(bench.get, bench.run_ids())
    return [run.info.run_id for run in runs if run.data.tags.get("repro.reference_run_id") == bench.run_id]


@contextmanager
def after_the_launch(monkeypatch, act):
    """Call ``act`` when the relaunched run has ended, and before the tool reads it."""
    launch = Launcher.run

    def run(self, *arguments, **options):
        outcome = launch(self, *arguments, **options)
        act()
        return outcome

    with monkeypatch.context() as patch:
        patch.setattr(Launcher, "run", run)
        yield


def test_server_that_is_gone_when_the_relaunch_is_done(proxied, monkeypatch):
    """TRK-07: nothing is lost; the message names the run, and how to judge it later without launching again."""
    bench, proxy = proxied

    def fail():
        proxy.fault, proxy.is_faulty = "drop", lambda _path, _body: True

    with after_the_launch(monkeypatch, fail):
        answer = bench.reproduce(bench.run_id, "--tracking_uri", proxy.url)
    (again,) = reproductions(bench)
    assert (answer.returncode, answer.stdout) == (5, "")
    assert f"the relaunch is done, as run {again}, but cannot be read" in answer.stderr
    assert f"--resume {again}" in answer.stderr
    answer = bench.reproduce(bench.run_id, "--resume", again)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert reproductions(bench) == [again]


def test_server_that_restarts_meanwhile(proxied, monkeypatch):
    """TRK-08: it is asked again, and nothing is launched a second time."""
    bench, proxy = proxied

    def fail_twice():
        proxy.fault, proxy.is_faulty = 503, lambda _path, _body: proxy.faults < 2

    monkeypatch.setattr(store_module, "_RETRY_SECONDS", 30.0)
    with after_the_launch(monkeypatch, fail_twice):
        answer = bench.reproduce(bench.run_id, "--tracking_uri", proxy.url)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert proxy.faults == 2
    assert len(reproductions(bench)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_server_that_lets_nobody_write(proxied, status):
    """TRK-09: found out before anything is launched."""
    bench, proxy = proxied
    proxy.fault, proxy.is_faulty = status, lambda path, _body: path.endswith(("/runs/create", "/experiments/create"))
    answer = bench.reproduce(bench.run_id, "--tracking_uri", proxy.url, "--quiet")
    assert (answer.returncode, answer.stdout) == (5, "")
    assert answer.stderr.startswith("error: the tracking store")
    assert "(check the credentials)" in answer.stderr
    assert reproductions(bench) == []


def test_reference_is_not_changed(proxied):
    """TRK-12: whoever may only read it can reproduce it."""
    bench, proxy = proxied
    changes = []

    def note(path, body):
        changes.extend([path] * (bench.run_id.encode() in body and not path.endswith("runs/search")))
        return False

    proxy.is_faulty = note
    before = bench.get(bench.run_id).to_dictionary()
    assert bench.reproduce(bench.run_id, "--tracking_uri", proxy.url, "--no-annotate").returncode == 0
    assert bench.get(bench.run_id).to_dictionary() == before
    assert [path for path in changes if not path.endswith(("runs/create", "runs/log-batch", "runs/set-tag"))] == []


def test_server_of_another_version(proxied):
    """TRK-14: what it does not know is said with both versions."""
    import mlflow

    bench, proxy = proxied
    proxy.fault, proxy.is_faulty = 404, lambda path, _body: "/runs/get" in path
    answer = bench.reproduce(bench.run_id, "--tracking_uri", proxy.url)
    assert (answer.returncode, answer.stdout) == (5, "")
    version = mlflow.__version__
    assert f"the client is mlflow {version}, the server {version}" in answer.stderr


@contextmanager
def listening():
    """Another host that a server sends its clients to; gives its URL and the headers that it was sent."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(dict(self.headers))
            self.send_error(404)

        do_POST = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()


def test_redirect_takes_no_credentials_along(tiny):
    """TRK-13."""
    with listening() as (elsewhere, seen):

        class Redirecting(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(302)
                self.send_header("Location", f"{elsewhere}{self.path}")
                self.end_headers()

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            uri = f"http://someone:hunter22@127.0.0.1:{server.server_address[1]}"
            answer = tiny.reproduce("a" * 32, "--tracking_uri", uri)
        finally:
            server.shutdown()
            server.server_close()
    assert (answer.returncode, answer.stdout) == (5, "")
    assert "hunter22" not in answer.stderr
    assert not [headers for headers in seen if "Authorization" in headers]


FAULTS = (500, 403, "html", "drop", "cut", "short", "hang")
OUTCOMES_FETCHED = {
    "artifact": "/mlflow-artifacts/artifacts/",
    "list of artifacts": "/mlflow-artifacts/artifacts?",
    "history": "/metrics/get-history",
    "run": "/runs/get",
    "model": "/logged-models/",
}
"""The kinds of what judges, and a piece of the path that each is asked for by."""


@pytest.fixture(scope="module")
def judged_pair(tracking_server, tmp_path_factory):
    """Two runs on a server that are equal in each kind of outcome."""
    from mlflow import MlflowClient, entities

    client = MlflowClient(tracking_uri=tracking_server)
    experiment = client.create_experiment("faults")
    folder = tmp_path_factory.mktemp("model")
    (folder / "weights.txt").write_text("1 2 3\n" * 100)
    ids = []
    for _ in range(2):
        run_id = client.create_run(experiment).info.run_id
        points = [entities.Metric("loss", 1 / (step + 1), step, step) for step in range(50)]
        client.log_batch(run_id, metrics=points)
        client.log_text(run_id, "some text\n" * 100, "notes.txt")
        if hasattr(client, "create_logged_model"):
            model = client.create_logged_model(experiment, name="net", source_run_id=run_id).model_id
            client.log_model_artifacts(model, str(folder))
            client.log_outputs(run_id, [entities.LoggedModelOutput(model, 0)])
            client.log_metric(run_id, "acc", 0.5, step=0, model_id=model, dataset_name="test", dataset_digest="1")
        client.set_terminated(run_id)
        ids.append(run_id)
    return ids


@pytest.fixture
def impatient(request, monkeypatch):
    """What hangs is given up after seconds, and nothing is tried again."""
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"):
        monkeypatch.setenv(name, "0")
    if "hang" in request.node.name:
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", [*FAULTS, "empty"])
@pytest.mark.parametrize("outcome", OUTCOMES_FETCHED)
def test_what_would_judge_and_cannot_be_had_is_never_equal(judged_pair, tracking_server, outcome, fault):
    """Whichever outcome, whatever goes wrong with it: INCONCLUSIVE with the reason, or the store is at fault."""
    if fault == "empty" and outcome not in ("history", "run"):
        pytest.skip("a file may hold that, and a folder without files is listed so")
    with serve_faults(tracking_server) as proxy:
        proxy.fault, proxy.is_faulty = fault, lambda path, _body: OUTCOMES_FETCHED[outcome] in path
        try:
            comparison = mlflow_repro.compare_runs(*judged_pair, tracking_uri=proxy.url)
        except UnreachableError:
            return
        if not proxy.faults:
            pytest.skip("this MLflow does not ask for it")
    assert comparison.verdict is mlflow_repro.Verdict.INCONCLUSIVE
    verdict = render_text(
        mlflow_repro.Report(plan=None, reference=Run(run_id="a"), reproduction=Run(run_id="b"), comparison=comparison)
    ).splitlines()[-2]
    assert "cannot be judged (" in verdict
    assert "not compared: " in verdict or "the store gives no point" in verdict


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", FAULTS)
def test_what_differs_already_or_is_ignored_needs_no_file(judged_pair, tracking_server, fault):
    """A file that cannot be had makes nothing equal, and nothing uncertain that differs without it."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracking_server)
    other = client.create_run(client.get_run(judged_pair[0]).info.experiment_id).info.run_id
    client.log_text(other, "some text\n" * 100, "notes.txt")
    client.log_metric(other, "loss", 7.0)
    client.set_terminated(other)
    with serve_faults(tracking_server) as proxy:
        proxy.fault, proxy.is_faulty = fault, lambda path, _body: path.endswith("notes.txt")

        def compare(*pair: str, **options):
            return mlflow_repro.compare_runs(*pair, tracking_uri=proxy.url, **options).verdict.value

        assert compare(*judged_pair) == "INCONCLUSIVE"
        assert compare(*judged_pair, ignore=("notes.*",)) == "IDENTICAL"
        assert compare(*judged_pair, artifacts=None) == "IDENTICAL"
        assert compare(judged_pair[0], other) == "DIFFERENT"
