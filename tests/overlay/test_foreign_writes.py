"""A reproduction changes nothing in a store but its own runs: a digest of all rows and files before and after."""

from __future__ import annotations

import contextlib
import functools
import json
from typing import TYPE_CHECKING

import mlflow
import pytest
from foreign_writes import (
    NEW_KINDS,
    PROCESS_KINDS,
    REFUSED,
    REGISTRY_KINDS,
    RESUMING_KINDS,
    RUN_KINDS,
    make_theirs,
    script,
)
from store_digest import take_snapshot

from mlflow_repro.overlay import methods
from mlflow_repro.overlay.ledger import Ledger
from mlflow_repro.overlay.session import Session
from mlflow_repro.overlay.stores import family, guard_family, wrap_store_method

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Workbench

IS_NEW = int(mlflow.__version__.split(".")[0]) >= 3
REGISTRY = {f"registry: {name}": lines for name, lines in REGISTRY_KINDS.items()}
BATCHES = {
    "runs, registry": {**RUN_KINDS, **REGISTRY, **RESUMING_KINDS},
    "processes": PROCESS_KINDS,
    "what MLflow 3 has": NEW_KINDS,
}


@pytest.fixture(params=["sqlite", "http"])
def stored(request, bench, tmp_path) -> tuple[Workbench, Path]:
    """A workbench with a SQLite store, and with one behind a real server; the database of each."""
    if request.param == "sqlite":
        return bench, bench.store
    bench.tracking_uri = request.getfixturevalue("tracking_server")
    return bench, request.getfixturevalue("server_root") / "server.db"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("batch", [name for name in BATCHES if IS_NEW or name != "what MLflow 3 has"])
def test_no_kind_of_write_reaches_what_is_not_of_the_reproduction(stored, batch, tmp_path, server_root):
    """Point 1: each kind of write, by every client and process, from one training; its own metrics arrive."""
    bench, database = stored
    answers = tmp_path / "answers.json"
    bench.environment["ANSWERS"] = str(answers)
    with bench.surroundings():
        theirs = make_theirs(bench.client(), is_new=IS_NEW)
    bench.repository.commit(script(BATCHES[batch], theirs))
    run_id = bench.train("train.py")
    before = take_snapshot(database, bench.root / "mlruns", server_root / "artifacts")
    answer = bench.reproduce(run_id)
    assert answers.exists(), answer.stderr
    assert before.changes_to(take_snapshot(database, bench.root / "mlruns", server_root / "artifacts")) == []
    told = json.loads(answers.read_text())
    assert {name for name, text in told.items() if "is refused" in text} <= REFUSED
    assert {name: text for name, text in told.items() if text != "done" and "is refused" not in text} == {}


RESUMES = """\
import os, pathlib
import mlflow

known = pathlib.Path("run_id.txt")
with mlflow.start_run(run_id=known.read_text() if known.exists() else None) as run:
    known.write_text(run.info.run_id)
    mlflow.log_metric("loss", 0.25)
    mlflow.log_text("weights", "model.txt")
    mlflow.MlflowClient().log_metric(known.read_text(), "late", 1.5)
"""

REGISTERS = """\
import mlflow
from mlflow import MlflowClient

with mlflow.start_run() as run:
    mlflow.log_metric("loss", 0.25)
    mlflow.log_text("weights", "model/weights.txt")
version = MlflowClient().create_model_version("wine", f"{run.info.artifact_uri}/model", run.info.run_id)
MlflowClient().set_registered_model_alias("wine", "champion", version.version)
assert MlflowClient().get_model_version_by_alias("wine", "champion").run_id == run.info.run_id
"""


def test_script_that_resumes_its_run_is_given_the_reproduction(bench):
    """A run id in a file of the working tree: the second training's record has it, and must not be written to."""
    bench.repository.commit({"train.py": RESUMES, ".gitignore": "nothing"})
    run_id = bench.train("train.py")
    commit = bench.repository.commit({"run_id.txt": run_id})
    answer = bench.reproduce(run_id, "--commit", commit, "--no-annotate")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    reproduction = bench.reproduction_of(run_id)
    assert reproduction.data.metrics["late"] == 1.5
    assert f"resuming the run {run_id}" in answer.stdout


@pytest.mark.parametrize("is_allowed", [False, True], ids=["kept apart", "allowed"])
def test_registration_is_kept_apart_unless_it_is_allowed(bench, is_allowed):
    """Seen: the reproduction of a script that sets an alias moved ``champion`` to its own model."""
    client = bench.client()
    client.create_registered_model("wine")
    bench.repository.commit({"train.py": REGISTERS})
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id, *(["--allow-registry"] if is_allowed else []))
    assert answer.returncode == 0, answer.stdout + answer.stderr
    champion = client.get_model_version_by_alias("wine", "champion")
    reproduction = bench.reproduction_of(run_id).info.run_id
    assert champion.run_id == (reproduction if is_allowed else run_id)
    told = "Note: the script would have registered version 2 of the model 'wine', set the alias 'champion' of the model"
    assert (told in answer.stdout) is not is_allowed


def test_what_was_held_back_is_said_again_when_the_reproduction_is_judged_later(bench):
    client = bench.client()
    client.create_registered_model("wine")
    bench.repository.commit({"train.py": REGISTERS})
    run_id = bench.train("train.py")
    bench.reproduce(run_id, "--no-annotate")
    again = bench.reproduce(run_id, "--resume", bench.reproduction_of(run_id).info.run_id, "--no-annotate")
    assert "Note: the script would have registered version 2" in again.stdout


def test_reference_gets_the_answer_only_when_the_user_asks_for_it(tiny):
    run_id = tiny.train("ml/tiny/train.py")
    tiny.reproduce(run_id)
    assert "repro.last_verdict" not in tiny.get(run_id).data.tags
    tiny.reproduce(run_id, "--annotate-reference")
    assert tiny.get(run_id).data.tags["repro.last_verdict"] == "IDENTICAL"


@pytest.mark.parametrize(
    "arguments", [("--no-annotate",), ("--commit", "0" * 40)], ids=["no annotations", "another commit"]
)
def test_annotation_of_the_reference_that_cannot_be_is_a_usage_error(tiny, arguments):
    answer = tiny.reproduce("0" * 32, "--annotate-reference", *arguments)
    assert answer.returncode == 2
    assert "reference" in answer.stderr


def _store_methods() -> dict[str, str]:
    """Every public method of the stores of the installed MLflow, with a class that has it."""
    import importlib
    import pkgutil

    import mlflow.store

    from mlflow_repro.overlay import find_store_bases

    for module in pkgutil.walk_packages(mlflow.store.__path__, "mlflow.store."):
        if "db_migrations" not in module.name:
            with contextlib.suppress(Exception):  # what needs a library that is not installed
                importlib.import_module(module.name)
    families = [cls for base in find_store_bases() for cls in family(base)]
    return {
        name: cls.__name__
        for cls in families
        for owner in cls.__mro__[:-1]
        for name, value in vars(owner).items()
        if callable(value) and not name.startswith("_") and not isinstance(value, (type, staticmethod, classmethod))
    }


def test_every_method_of_every_store_is_classified():
    """A method that a newer MLflow brings is held back; which it is shows here."""
    found = _store_methods()
    assert len(found) > 50
    assert {name: owner for name, owner in found.items() if not methods.is_classified(name)} == {}


def test_no_method_is_classified_twice():
    tables = (
        methods.READS, methods.NEUTRAL, set(methods.WRITES), set(methods.MAKES), methods.REGISTRY_WRITES,
        methods.REGISTRY_COMPOSITES, methods.REFUSED,
    )  # fmt: skip
    names = [name for table in tables for name in table]
    assert sorted(names) == sorted(set(names))
    assert methods.REGISTRY_VIEWS <= methods.READS


def test_every_method_of_every_artifact_repository_is_classified():
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    _store_methods()  # loads them
    found = {
        name
        for cls in family(ArtifactRepository)
        for name, value in vars(cls).items()
        if callable(value) and not name.startswith("_") and not isinstance(value, (type, staticmethod, classmethod))
    }
    assert found - methods.ARTIFACT_READS - methods.ARTIFACT_WRITES == set()


class Made:
    """A store of a family that the test makes up."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def get_run(self, run_id):
        return run_id

    def set_tag(self, run_id, tag):
        self.done.append(f"{run_id}:{tag}")

    def upsert_everything(self, run_id):
        self.done.append(run_id)


def _guarded(tmp_path, **settings) -> tuple[type[Made], Session]:
    base = type("Base", (Made,), dict(vars(Made)))
    session = Session(ledger=Ledger(str(tmp_path / "ledger")), run_id="own", place=str(tmp_path), **settings)
    guard_family(base, functools.partial(wrap_store_method, session))
    return base, session


def test_method_that_nobody_knows_is_refused(tmp_path):
    """So a write that a later MLflow adds does not slip through, in classes that are defined later either."""
    base, session = _guarded(tmp_path)

    class Later(base):
        def upsert_more(self, run_id):
            self.done.append(run_id)

    store = Later()
    for call in (store.upsert_everything, store.upsert_more):
        with pytest.raises(mlflow.MlflowException, match="is refused: a reproduction writes to its own runs only"):
            call("own")
    store.set_tag("own", "a")
    store.set_tag("other", "b")
    assert store.done == ["own:a"]
    assert session.ledger.told("held") == ("upsert_everything", "upsert_more", "set_tag of run other")


def test_ledger_is_shared_by_processes(tmp_path):
    """What one process made is its neighbour's as well, also when that has read the ledger before."""
    one, other = (Ledger(str(tmp_path / "ledger")) for _ in range(2))
    assert not other.has_made("run", "a")
    one.add_made("run", "a")
    one.add_stand_in("old", "a")
    one.write_model("wine", {"name": "wine"})
    one.tell("held", "x" * 1_000)
    with open(one.path, "ab") as file:
        file.write(b'["made", "run", "cut sho')
    assert other.has_made("run", "a")
    assert other.find_stand_in("old") == "a"
    assert other.read_models() == {"wine": {"name": "wine"}}
    assert len(other.told("held")[0]) == 300


@pytest.mark.real_processes
def test_process_that_cannot_be_kept_from_writing_is_ended(bench, tmp_path):
    """An MLflow whose parts are elsewhere: better no relaunch than one that writes where it must not."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text("import mlflow_repro.overlay as o\no.find_store_bases = None\n")
    destination = {"ledger": str(tmp_path / "ledger"), "tracking_uri": f"sqlite:///{bench.store}", "experiment_id": "0"}
    answer = bench.run_python(
        "-c",
        "import mlflow; print('went on')",
        MLFLOW_REPRO_DESTINATION=json.dumps(destination),
        PYTHONPATH=str(broken),
    )
    assert answer.returncode == 70
    assert "went on" not in answer.stdout
    assert answer.stderr.count("cannot be kept from writing to other runs") == 1
