"""The artifacts of two real runs: listed, paired, fetched, compared; from a folder and from a tracking server."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlflow_repro.compare import compare_records
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.judging.artifacts import ALL, _compare_pairs, compare_run_artifacts, pair_files
from mlflow_repro.judging.options import Selection
from mlflow_repro.judging.sides import Side
from mlflow_repro.store.artifacts import ArtifactFile, ArtifactFolder, fetch_file
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.rules import Rules, ToleranceRule, Tolerances
from mlflow_repro.values.run import Run

FILES = {"data/a.json": '{"x": 1}', "notes.txt": "hello\n", "repro/record.json": "{}", "w.bin": "\1\2\3"}


@pytest.fixture(params=["folder", "server"])
def store(request, tmp_path, empty_store):
    """A client of an empty experiment, and the way to make a run with files in it."""
    from mlflow import MlflowClient

    if request.param == "server":
        uri = request.getfixturevalue("tracking_server")
    else:
        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(tracking_uri=uri)
    location = None if request.param == "server" else str(tmp_path / "artifacts")
    experiment = client.create_experiment(f"{tmp_path.name}-{request.param}", artifact_location=location)

    def make_run(files: dict[str, str]) -> Run:
        run = client.create_run(experiment)
        for path, text in files.items():
            folder, _, name = path.rpartition("/")
            client.log_text(run.info.run_id, text, f"{folder}/{name}" if folder else name)
        client.set_terminated(run.info.run_id)
        return Run(run_id=run.info.run_id)

    return SimpleNamespace(uri=uri, client=client, make_run=make_run, is_local=request.param == "folder")


def side_of(uri: str, run: Run) -> Side:
    return Side(run=run, store=TrackingStore(uri))


def compare(store, one: Run, other: Run, *patterns: str, limit: int = 2**30):
    rows = compare_run_artifacts(
        side_of(store.uri, one), side_of(store.uri, other), Rules(), Selection(patterns=patterns, limit=limit)
    )
    return {row.name: row for row in rows}


class TestTwoRuns:
    """In a folder of this machine, and behind a server."""

    def test_the_tolerance_of_a_file_is_that_of_the_rule_that_its_path_matches(self, store):
        files = {**FILES, "data/a.json": json.dumps({"x": 1.0})}
        pair = store.make_run(files), store.make_run({**files, "data/a.json": json.dumps({"x": 1.05})})
        assert compare(store, *pair)["data/a.json"].status is Status.DIFFERENT
        rule = ToleranceRule(pattern="data/*", tolerances=Tolerances(rel_tol=0.1))
        unused = ToleranceRule(pattern="date/*", tolerances=Tolerances(rel_tol=0.1))
        rules = Rules(tolerances=(unused, rule))
        rows = compare_run_artifacts(*(side_of(store.uri, run) for run in pair), rules, Selection())
        assert {row.name: row.status for row in rows}["data/a.json"] is Status.CLOSE
        warned = [row for row in compare_records(*pair, rules, fetched=rows).findings if row.kind == "rule"]
        assert [(row.name, row.note) for row in warned] == [
            ("tolerance date/*=rel:0.1", "matches no metric or artifact of either run")
        ]

    def test_same_files(self, store):
        rows = compare(store, store.make_run(FILES), store.make_run(FILES))
        assert list(rows) == ["data/a.json", "notes.txt", "w.bin"]
        assert {row.status for row in rows.values()} == {Status.IDENTICAL}
        assert all(row.is_judged for row in rows.values())

    def test_each_kind_of_difference_has_its_row(self, store):
        one = store.make_run({**FILES, "gone.txt": "x"})
        other = store.make_run({**FILES, "data/a.json": '{"x":2}', "new/b.txt": "", "notes.txt": "hello"})
        rows = compare(store, one, other)
        assert {name: row.status for name, row in rows.items()} == {
            "data/a.json": Status.DIFFERENT,
            "gone.txt": Status.MISSING,
            "new/b.txt": Status.EXTRA,
            "notes.txt": Status.IDENTICAL,
            "w.bin": Status.IDENTICAL,
        }
        assert rows["data/a.json"].note == "1 value differs: x: 1 and 2"
        assert rows["notes.txt"].note.startswith("same content in other bytes")
        assert (rows["gone.txt"].reference, rows["gone.txt"].reproduction) == ("1 bytes", None)

    def test_patterns_choose_and_one_that_chooses_nothing_is_said(self, store):
        rows = compare(store, store.make_run(FILES), store.make_run(FILES), "data/**", "model/**")
        assert list(rows) == ["data/a.json", "model/**"]
        assert rows["model/**"].status is Status.IGNORED
        assert "no artifact of either run has such a path" in rows["model/**"].note

    def test_beyond_the_limit_a_file_cannot_be_judged(self, store):
        rows = compare(store, store.make_run(FILES), store.make_run(FILES), limit=20)
        assert [row.status for row in rows.values()] == [Status.IDENTICAL, Status.UNKNOWN, Status.UNKNOWN]
        assert "more would be read than the 20 bytes that are allowed in all" in rows["notes.txt"].note

    def test_runs_without_artifacts_have_no_rows(self, store):
        own = {"repro/record.json": "{}"}
        assert compare(store, store.make_run(own), store.make_run({})) == {}

    def test_nothing_is_left_behind_and_nothing_is_copied_from_a_folder(self, store, tmp_path, monkeypatch):
        temporary = tmp_path / "temporary"
        temporary.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(temporary))
        one, other = store.make_run(FILES), store.make_run(FILES)
        compare(store, one, other)
        assert list(temporary.iterdir()) == []
        file = side_of(store.uri, one).folders[0].files["notes.txt"]
        assert (file.local is not None) is store.is_local
        assert fetch_file(file, tmp_path / "copy").read_text() == "hello\n"
        assert (tmp_path / "copy").exists() is not store.is_local


def test_logged_models_are_found_where_mlflow_3_keeps_them(store, tmp_path):
    """Their folder has the id of the model in its name; the row has the model's name."""
    if not hasattr(store.client, "create_logged_model"):
        pytest.skip("this MLflow keeps models among the artifacts of the run")
    from mlflow.entities import LoggedModelOutput

    def make_run(*models: tuple[str, str]) -> Run:
        record = store.make_run({"m/taken.txt": "a folder with the name of a model"})
        run = store.client.get_run(record.run_id)
        for name, text in models:
            model = store.client.create_logged_model(run.info.experiment_id, name=name, source_run_id=record.run_id)
            folder = tmp_path / model.model_id
            folder.mkdir()
            (folder / "weights.txt").write_text(text)
            store.client.log_model_artifacts(model.model_id, str(folder))
            store.client.log_outputs(record.run_id, [LoggedModelOutput(model.model_id, step=0)])
        return record

    one = make_run(("n", "1"), ("m", "2"), ("m", "3"), ("random-name-1", "4"))
    other = make_run(("n", "1"), ("m", "2"), ("m", "9"), ("random-name-2", "4"))
    rows = compare(store, one, other)
    assert ALL not in rows, rows[ALL].note
    assert {name: row.status for name, row in rows.items()} == {
        "m/taken.txt": Status.IDENTICAL,
        "m[2]/weights.txt": Status.IDENTICAL,
        "m[3]/weights.txt": Status.DIFFERENT,
        "n/weights.txt": Status.IDENTICAL,
        "random-name-1/weights.txt": Status.IDENTICAL,
    }


class TestObstacles:
    """ART-07: what cannot be had cannot be judged, and no error ends the comparison."""

    def test_a_folder_of_another_machine(self, tmp_path, empty_store):
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        here = client.create_run(client.create_experiment("here", artifact_location=str(tmp_path / "here")))
        away = client.create_run(client.create_experiment("away", artifact_location="/nowhere/to/be/found"))
        client.log_text(here.info.run_id, "x", "a.txt")
        sides = (side_of(uri, Run(run_id=run.info.run_id)) for run in (away, here))
        (row,) = compare_run_artifacts(*sides, Rules(), Selection())
        assert (row.name, row.status) == (ALL, Status.UNKNOWN)
        assert "/nowhere/to/be/found" in row.note
        assert "is not on this machine" in row.note

    def test_a_store_without_its_library_or_network(self, tmp_path, empty_store):
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        run = client.create_run(client.create_experiment("ftp", artifact_location="ftp://user:hunter2@127.0.0.1:1/x"))
        record = Run(run_id=run.info.run_id)
        (row,) = compare_run_artifacts(*[side_of(uri, record)] * 2, Rules(), Selection())
        assert row.status is Status.UNKNOWN
        assert row.note.startswith("not compared: the artifact store failed: ")
        assert "hunter2" not in row.note

    @pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a\\..\\x", "a\0b"])
    def test_a_server_that_names_a_file_elsewhere(self, tmp_path, path):
        """ART-01."""
        file = ArtifactFile(path=path, size=1, download=pytest.fail)
        with pytest.raises(CannotJudgeError, match="leads out of the folder"):
            fetch_file(file, tmp_path / "copy")

    def test_a_file_that_arrives_cut_off(self, tmp_path, tracking_server):
        """ART-03."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracking_server)
        run = client.create_run(client.create_experiment("cut off"))
        client.log_text(run.info.run_id, "12345", "a.txt")
        file = side_of(tracking_server, Run(run_id=run.info.run_id)).folders[0].files["a.txt"]
        longer = ArtifactFile(path=file.path, size=9, download=file.download)
        with pytest.raises(CannotJudgeError, match="5 bytes arrived, of 9"):
            fetch_file(longer, tmp_path / "copy")

    @pytest.mark.parametrize("page", ["<!DOCTYPE html><title>Sign in</title>", "\ufeff\n <html lang=en>", "<HTML>"])
    def test_a_page_for_people_in_place_of_a_file(self, tmp_path, page):
        """Where the store gives no size, what arrived tells, unless the file is a page by its name."""

        def download(path: str, folder: str) -> str:
            target = Path(folder, path)
            target.write_text(page, encoding="utf-8")
            return str(target)

        with pytest.raises(CannotJudgeError, match="a web page arrived in its place"):
            fetch_file(ArtifactFile(path="model.pkl", download=download), tmp_path / "copy")
        size = len(page.encode())
        for file in (
            ArtifactFile(path="plot.HTML", download=download),
            ArtifactFile(path="a", size=size, download=download),
        ):
            assert fetch_file(file, tmp_path / "copy").read_text(encoding="utf-8") == page

    @pytest.mark.parametrize(
        ("tags", "is_sure"),
        [
            ({}, False),
            ({"repro.capture": "started"}, False),
            ({"repro.capture": "complete"}, True),
            ({"mlflow.log-model.history": "[]"}, True),
        ],
        ids=str,
    )
    def test_a_folder_that_nobody_has_made(self, tmp_path, empty_store, tags, is_sure):
        """MLflow makes it with the first artifact: no folder is no artifact, unless the run says that it had some.

        A child that autologging makes has its process's tags, and no record of its own.
        """
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        experiment = client.create_experiment("new", artifact_location=str(tmp_path / "new"))
        run = client.create_run(experiment, tags=tags)
        if hasattr(client, "create_logged_model"):
            from mlflow.entities import LoggedModelOutput

            model = client.create_logged_model(experiment, name="net", source_run_id=run.info.run_id)
            client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
        rows = compare_run_artifacts(*[side_of(uri, Run(run_id=run.info.run_id))] * 2, Rules(), Selection())
        assert [(row.name, row.status) for row in rows] == ([(ALL, Status.UNKNOWN)] if is_sure else [])

    def test_links_in_a_folder_are_not_followed(self, tmp_path, empty_store):
        """ART-02: neither a link to a file nor one to a folder."""
        from mlflow import MlflowClient

        shutil.copy(empty_store, tmp_path / "mlflow.db")
        uri = f"sqlite:///{tmp_path}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        experiment = client.create_experiment("links", artifact_location=str(tmp_path / "links"))
        records = []
        for _ in range(2):
            run = client.create_run(experiment)
            folder = Path(run.info.artifact_uri)
            folder.mkdir(parents=True)
            (folder / "file").symlink_to("/etc/passwd")
            (folder / "folder").symlink_to("/etc")
            os.mkfifo(folder / "pipe")
            records.append(Run(run_id=run.info.run_id))
        rows = compare_run_artifacts(*(side_of(uri, record) for record in records), Rules(), Selection())
        assert {row.name: row.status for row in rows} == dict.fromkeys(("file", "folder", "pipe"), Status.UNKNOWN)


def test_events_of_tensorboard_of_one_run_only_are_not_judged():
    """Their names hold the time and the machine, so they never pair up."""
    name = "tensorboard_logs/train/events.out.tfevents.{}.host.1.v2"
    folders = [[ArtifactFolder(files={name.format(n): ArtifactFile(path=name.format(n))})] for n in (1, 2)]
    pairs = pair_files(*folders)
    assert len(pairs) == 2
    rows = list(_compare_pairs(pairs, Rules(), 1, Path()))
    assert {row.status for row in rows} == {Status.IGNORED}


TRAIN = """\
import sys
import mlflow
import numpy as np
from sklearn.ensemble import RandomForestClassifier

seed = int(sys.argv[1])
features, target = np.arange(300.0).reshape(100, 3) % 17, np.arange(100) % 2
with mlflow.start_run():
    model = RandomForestClassifier(5, random_state=seed, max_depth=2).fit(features, target)
    mlflow.log_metric("seen", 100)
    mlflow.sklearn.log_model(model, "model", input_example=features[:2], pip_requirements=["scikit-learn"], **{options})
    mlflow.log_dict({{"classes": 2}}, "summary.json")
"""


def training(model_format: str) -> str:
    import inspect

    import mlflow.sklearn

    offers = inspect.signature(mlflow.sklearn.log_model).parameters
    options: dict[str, object] = {"serialization_format": model_format}
    if "skops_trusted_types" in offers:
        options["skops_trusted_types"] = ["sklearn.tree._tree.Tree"]
    elif model_format == "skops":
        pytest.skip("this MLflow writes no skops files")
    return TRAIN.format(options=options)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("model_format", ["cloudpickle", "skops"])
def test_a_logged_model_of_scikit_learn_comes_back_equal_and_another_one_does_not(bench, model_format):
    """The whole way: trained, logged, reproduced, judged by the content of the model."""
    bench.repository.commit({"train.py": training(model_format)})
    run_id = bench.train("train.py", "1")
    answer = bench.reproduce(run_id, "--format", "json")
    assert answer.returncode == 0, answer.stderr + answer.stdout
    findings = json.loads(answer.stdout)["comparison"]["findings"]
    rows = {row["name"]: row for row in findings if row["kind"] == "artifact"}
    assert {"model/MLmodel", "summary.json", "model/requirements.txt"} <= set(rows)
    assert {row["status"] for row in rows.values()} == {"identical"}
    assert "run_id" in rows["model/MLmodel"]["note"]

    other = bench.train("train.py", "2")
    import mlflow_repro

    uri = f"sqlite:///{bench.store}"
    comparison = mlflow_repro.compare_runs(run_id, other, tracking_uri=uri)
    assert comparison.verdict is mlflow_repro.Verdict.DIFFERENT
    (row,) = [row for row in comparison.of_kind("artifact") if not row.is_equal]
    assert row.name.startswith("model/model.")
    assert "compared as bytes" not in row.note
    assert "random_state" in row.note
    for artifacts in (None, ["summary.json"]):
        comparison = mlflow_repro.compare_runs(run_id, other, tracking_uri=uri, artifacts=artifacts)
        assert comparison.verdict is mlflow_repro.Verdict.IDENTICAL


SCRIPT = """\
import mlflow, time
with mlflow.start_run():
    mlflow.log_metric("m", 1)
    mlflow.log_text("same", "same.txt")
    mlflow.log_text(f"made at {time.time()}", "when.txt")
"""


def test_artifacts_judge_a_reproduction_unless_told_otherwise(bench):
    bench.repository.commit({"train.py": SCRIPT})
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id)
    assert answer.returncode == 1, answer.stderr
    lines = answer.stdout.splitlines()
    assert "Artifacts: 1 of 2 are the same" in lines
    assert any(line.startswith("Artifact when.txt: line 1: 'made at ") for line in lines)
    resume = ("--resume", bench.reproduction_of(run_id).info.run_id)
    assert bench.reproduce(run_id, *resume, "--no-artifacts").returncode == 0
    assert bench.reproduce(run_id, *resume, "--artifacts", "same*").returncode == 0
    assert bench.reproduce(run_id, *resume, "--ignore", "when*").returncode == 0
    answer = bench.reproduce(run_id, *resume, "--artifact-limit", "0")
    assert (answer.returncode, answer.stdout.splitlines()[-1]) == (3, "Runs equal: Unknown")
    assert "2 cannot be judged (artifact same.txt: not compared: 8 bytes more would be read" in answer.stdout
    answer = bench.reproduce(run_id, *resume, "--no-artifacts", "--artifacts", "x")
    assert (answer.returncode, "contradict each other" in answer.stderr) == (2, True)
    answer = bench.reproduce(run_id, *resume, "--artifact-limit", "nan")
    assert (answer.returncode, "artifact_limit is nan" in answer.stderr) == (2, True)
