"""What a store names is not ours to open: only its own folders, on its own machine, or what the user names."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_repro.cli import main
from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.store import artifacts
from mlflow_repro.store.loopback import serve_database
from mlflow_repro.store.places import HOST_VARIABLE, ROOT_VARIABLE, NamedPlace, check_place, is_on_this_machine
from mlflow_repro.store.recorded import read_recorded
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.values.sections import StoredFile

OWNER = "0123456789abcdef" * 2
HERE = "sqlite:////srv/mlflow.db"
AWAY = "https://mlflow.example.org"
CANARY = "IdentityFile canary-of-the-home"


def check(uri: str, store: str = AWAY, location: str = "/srv/mlruns/1", owner: str = OWNER) -> Path | None:
    return check_place(NamedPlace(uri=uri, store=store, owner=owner, read_location=lambda: location))


@pytest.mark.parametrize(
    ("store", "is_here"),
    [
        ("sqlite:////srv/mlflow.db", True), ("sqlite+pysqlite:////srv/mlflow.db", True), ("/srv/mlruns", True),
        ("file:///srv/mlruns", True), ("http://localhost:5000", True), ("http://127.0.0.1:5000/prefix", True),
        ("http://127.8.7.6", True), ("http://[::1]:5000", True), ("http://0.0.0.0:5000", True),
        ("postgresql://me:pw@localhost/db", True), ("postgresql+psycopg2:///db?host=/run/postgresql", True),
        ("mysql+pymysql://me@127.0.0.1:3306/db", True), ("http://localhost.evil.example", False),
        ("http://127.0.0.1.evil.example", False), ("http://localhost@evil.example", False), ("http://10.0.0.1", False),
        ("https://mlflow.example.org", False), ("postgresql://db.example.org/db", False), ("databricks", False),
        ("postgresql:///db?host=db.example.org", False), ("databricks://profile", False), ("uc:profile", False),
        ("other://127.0.0.1", False),
    ],
)  # fmt: skip
def test_which_stores_are_on_this_machine(store, is_here):
    assert is_on_this_machine(store) is is_here


FORMS = (
    "/etc", "/", "file:///etc", "file:/etc", "file://localhost/etc", "file://127.0.0.1/etc", "file://evil.example/etc",
    "FILE:///etc", "file:relative", "relative", "./relative", "../../../etc", "file:../etc", "%2Fetc", " /etc",
    "\tfile:///etc", "fi\nle:///etc", "//etc", "///etc", "file:////etc", "~/.ssh", "/proc/self",
    f"/etc/{OWNER}", "/etc/artifacts", f"/srv/mlruns/1/{OWNER}/artifacts/..", f"/srv/mlruns/1/{OWNER}/artifacts/x",
    f"/srv/mlruns/1/{'a' * 32}/artifacts", f"/srv/mlruns/1/../../home/{OWNER}/artifacts", f"/home/x/{OWNER}/artifacts",
    f"file:///srv/mlruns/1/%2e%2e/%2e%2e/home/{OWNER}/artifacts", "",
)  # fmt: skip


@pytest.mark.parametrize("uri", FORMS)
def test_no_folder_but_the_stores_own(uri):
    """In every form that MLflow reads as a folder of this machine; from far away not even the store's own."""
    for store in (HERE, AWAY, "http://127.0.0.1:5000"):
        with pytest.raises(RefusedError, match=ROOT_VARIABLE) as caught:
            check(uri, store)
        assert caught.value.exit_code == 6
        assert "\n" not in str(caught.value)


def test_the_stores_own_folder_is_opened_from_here_alone():
    """A server that runs on this machine and serves no artifacts names folders of it, too."""
    own = f"/srv/mlruns/1/{OWNER}/artifacts"
    for form in (own, f"file://{own}", f"file://localhost{own}"):
        for store in (HERE, "http://127.0.0.1:5000", "/srv/mlruns"):
            assert check(form, store) == Path(own)
        with pytest.raises(RefusedError, match="which another one cannot know"):
            check(form)
    for location in ("mlflow-artifacts:/1", "s3://bucket/1", "/srv/mlruns/2"):
        with pytest.raises(RefusedError, match="is not the folder that MLflow makes"):
            check(own, HERE, location)


def test_a_root_that_the_user_names(monkeypatch, tmp_path):
    """A disk that a server shares with this machine; not what a link in it leads to, and nothing beside it."""
    (tmp_path / "root").mkdir()
    (tmp_path / "root-2").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    (tmp_path / "root/out").symlink_to("/etc")
    monkeypatch.setenv(ROOT_VARIABLE, os.pathsep.join(["", "relative", str(tmp_path / "root")]))
    assert check(f"{tmp_path}/root/a") == check(f"file://{tmp_path}/link/a") == tmp_path / "root/a"
    for uri in (f"{tmp_path}/root-2/a", f"{tmp_path}/root/../a", f"{tmp_path}/root/out", os.path.abspath("relative")):
        with pytest.raises(RefusedError):
            check(uri)


@pytest.mark.parametrize(
    ("uri", "is_fine"),
    [
        ("mlflow-artifacts:/1/x", True), ("mlflow-artifacts:///1/x", True), ("s3://bucket/1/x", True),
        ("mlflow-artifacts://mlflow.example.org/1/x", True), ("https://mlflow.example.org/x", True),
        ("mlflow-artifacts://evil.example/1/x", False), ("mlflow-artifacts://mlflow.example.org@evil.example/1", False),
        ("http://evil.example/x", False), ("HTTPS://evil.example/x", False), ("http://127.0.0.1:22/x", False),
        ("mlflow-artifacts:/../x", False), ("mlflow-artifacts:/%2e%2e/x", False), ("s3://bucket/%252e%252e/x", False),
        ("dbfs:/../etc", False), (f"runs:/{OWNER}/x", False), ("models:/m-1", False), ("MODELS:/a/1", False),
    ],
)  # fmt: skip
def test_no_detour_and_no_other_server(uri, is_fine, monkeypatch):
    """MLflow sends the password for one server to whichever an address names."""
    if is_fine:
        assert check(uri) is None
        return
    with pytest.raises(RefusedError):
        check(uri)
    monkeypatch.setenv(HOST_VARIABLE, "other.example, evil.example,127.0.0.1:22")
    if "evil" in uri or "127" in uri:
        assert check(uri) is None


@pytest.fixture
def world(tmp_path, empty_store, monkeypatch):
    """A store with two runs, a folder that is none of its business, and the way to name it for the second run."""
    from mlflow import MlflowClient

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("x", artifact_location=str(tmp_path / "mlruns"))
    runs = [client.create_run(experiment, tags={"repro.capture": "complete"}).info for _ in range(2)]
    for run in runs:
        client.log_metric(run.run_id, "loss", 1.0)
        client.log_text(run.run_id, "Host a\n", "config")
        client.log_text(run.run_id, json.dumps({"schema": 2, "run_id": run.run_id}), "repro/record.json")
        client.set_terminated(run.run_id)
    home = tmp_path / "home"
    (home / "repro").mkdir(parents=True)
    (home / "config").write_text(f"{CANARY}\n")
    (home / "repro/record.json").write_text(json.dumps({"schema": 2, "launch": {"script": CANARY}}))

    def aim(place: str) -> None:
        with sqlite3.connect(tmp_path / "mlflow.db") as connection:
            connection.execute("update runs set artifact_uri = ? where run_uuid = ?", (place, runs[1].run_id))

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return SimpleNamespace(uri=uri, one=runs[0], other=runs[1], home=home, aim=aim, client=client)


COMMANDS = (
    ("compare", "{one}", "{other}"), ("compare", "{other}", "{one}"), ("explain", "{one}", "{other}"),
    ("reproduce", "--run_id", "{other}"), ("reproduce", "--run_id", "{other}", "--dry_run"), ("show", "{other}"),
    ("check", "{other}"), ("isolate", "{other}"), ("stress", "{other}"),
)  # fmt: skip


def test_no_command_reads_what_is_none_of_the_stores_business(world, capsys):
    """It says so in one line, with the way out."""
    world.aim(f"file://localhost{world.home}")
    for command in COMMANDS:
        code = main([word.format(one=world.one.run_id, other=world.other.run_id) for word in command])
        told = capsys.readouterr()
        assert (command, code, told.out) == (command, 6, "")
        assert "canary" not in told.err
        assert ROOT_VARIABLE in told.err.splitlines()[-1]


def test_the_comparison_of_files_cannot_say_and_reads_what_the_user_names(world, monkeypatch):
    world.aim(str(world.home))
    with pytest.raises(RefusedError, match="not opened"):
        TrackingStore(world.uri).list_folders(world.other.run_id)
    monkeypatch.setenv(ROOT_VARIABLE, str(world.home.parent))
    assert set(TrackingStore(world.uri).list_folders(world.other.run_id)[0].files) == {"config"}
    assert TrackingStore(world.uri).read_own_record(world.other.run_id).exists


@pytest.mark.parametrize("what", ["run", "artifacts", "repro", "repro/record.json"])
def test_links_do_not_lead_out(world, what):
    """A run's own folder, or a part of it, may be a link that somebody with access to the disk has put there."""
    folder = Path(world.other.artifact_uri)
    place = {"run": folder.parent, "artifacts": folder}.get(what, folder / what)
    target = {"repro": world.home / "repro", "repro/record.json": world.home / "repro/record.json"}.get(what)
    if target is None:
        target = world.home if what == "artifacts" else world.home.parent / "moved"
        if what == "run":
            shutil.copytree(world.home, target / "artifacts")
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(target)
    with pytest.raises((RefusedError, CannotJudgeError)) as caught:
        TrackingStore(world.uri).read_own_record(world.other.run_id)
    assert "canary" not in str(caught.value)


def test_nothing_is_written_where_the_store_has_no_business(world):
    for place in (world.home, world.home / "new"):
        world.aim(str(place))
        before = sorted(world.home.rglob("*"))
        with pytest.raises(RefusedError, match="not opened"):
            TrackingStore(world.uri).write_text(world.other.run_id, "repro/report.html", "x")
        assert sorted(world.home.rglob("*")) == before


def test_models_have_folders_of_their_own(world):
    """The folder of a logged model; a data set's source is text to us."""
    if not hasattr(world.client, "create_logged_model"):
        pytest.skip("this MLflow keeps models among the artifacts of the run")
    from mlflow.entities import LoggedModelOutput

    experiment = world.client.get_run(world.other.run_id).info.experiment_id
    model = world.client.create_logged_model(experiment, name="m", source_run_id=world.other.run_id)
    world.client.log_outputs(world.other.run_id, [LoggedModelOutput(model.model_id, step=0)])
    assert [folder.name for folder in TrackingStore(world.uri).list_folders(world.other.run_id)] == ["", "m"]
    with sqlite3.connect(world.uri.removeprefix("sqlite:///")) as connection:
        connection.execute("update logged_models set artifact_location = ?", (str(world.home),))
    with pytest.raises(RefusedError, match=model.model_id):
        TrackingStore(world.uri).list_folders(world.other.run_id)


@pytest.mark.parametrize(
    ("file", "keeper"),
    [
        ("../config", ""), ("repro/../config", ""), ("/etc/passwd", ""), ("config", ""), ("repro/a\0b", ""),
        ("repro//etc", ""), ("repro/.git/config", ""), ("repro/record.json", "../.."), ("repro/record.json", "a/b"),
    ],
)  # fmt: skip
def test_a_record_names_files_of_its_own_folder_only(world, file, keeper):
    """And those of a run, by an id that is one."""
    with pytest.raises(CannotJudgeError, match="it is damaged"):
        read_recorded(TrackingStore(world.uri), world.one.run_id, StoredFile(file=file, run_id=keeper))


def test_a_record_that_is_too_large_is_not_read(world, monkeypatch):
    monkeypatch.setattr(artifacts, "_LARGEST_RECORDED", 10)
    with pytest.raises(CannotJudgeError, match="too many to be ours"):
        TrackingStore(world.uri).read_own_record(world.one.run_id)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_server_on_this_machine_that_serves_no_artifacts(world, tmp_path):
    """``mlflow server --no-serve-artifacts``: its clients open the folders that it names, and so do we."""
    with serve_database(world.uri, tmp_path, str(tmp_path / "root")) as url:
        assert set(TrackingStore(url).list_folders(world.one.run_id)[0].files) == {"config"}
        assert TrackingStore(url).read_own_record(world.one.run_id).exists
        world.aim(str(world.home))
        with pytest.raises(RefusedError, match="not opened"):
            TrackingStore(url).list_folders(world.other.run_id)
