"""Was the result computed, or was it there before? A verdict does not rest on what the reference has left."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mlflow_repro.overlay.notes import HELD_TAG, Held, parse_held
from mlflow_repro.overlay.reading import _Watch
from mlflow_repro.reproduce.origin import find_origin, isolate_home, judge_origin
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.run import Run

CACHES = """\
import os, pathlib, random, tempfile
import mlflow

place = pathlib.Path({place})
with mlflow.start_run():
    if place.exists():
        loss = float({read})
    else:
        loss = random.SystemRandom().random()
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(repr(loss))
    mlflow.log_metric("loss", loss)
"""
STORE = """\
import random
import mlflow

with mlflow.start_run() as run:
    old = [other for other in mlflow.MlflowClient().search_runs([run.info.experiment_id])
           if other.info.run_id != run.info.run_id and "loss" in other.data.metrics]
    mlflow.log_metric("loss", old[-1].data.metrics["loss"] if old else random.SystemRandom().random())
"""
ARTIFACT = """\
import random
import mlflow

with mlflow.start_run() as run:
    client = mlflow.MlflowClient()
    old = client.get_experiment(run.info.experiment_id).tags.get("old")
    if old:
        loss = float(mlflow.artifacts.load_text(f"{old}/loss.txt"))
    else:
        loss = random.SystemRandom().random()
        client.set_experiment_tag(run.info.experiment_id, "old", run.info.artifact_uri)
    mlflow.log_text(repr(loss), "loss.txt")
    mlflow.log_metric("loss", loss)
"""
PLACES = {
    "home": ("pathlib.Path.home(), 'cache', 'loss.txt'", "place.read_text()"),
    "temporary folder": ("tempfile.gettempdir(), 'repro-test-cache', 'loss.txt'", "place.read_bytes()"),
    "by descriptor": (
        "os.path.expanduser('~/.cache/mine/loss')",
        "os.read(os.open(place, os.O_RDONLY), 100)",
    ),
    "through a link": ("os.path.expanduser('~/linked/loss')", "open(os.path.expanduser('~/linked/loss')).read()"),
}


@pytest.fixture
def homely(bench, tmp_path):
    """A workbench whose user has a home and a temporary folder of his own."""
    for name in ("home", "temporary", "elsewhere-linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "home" / "linked").symlink_to(tmp_path / "elsewhere-linked")
    bench.environment.update(HOME=str(tmp_path / "home"), TMPDIR=str(tmp_path / "temporary"))
    return bench


@pytest.mark.parametrize("kind", PLACES)
def test_file_that_the_reference_has_left_is_no_proof(homely, kind):
    place, read = PLACES[kind]
    homely.repository.commit({"train.py": CACHES.format(place=place, read=read)})
    run_id = homely.train("train.py")
    answer = homely.reproduce(run_id)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert "Verdict: INCONCLUSIVE" in answer.stdout
    assert "Run result: it may have been there before, not computed: the program read the file " in answer.stdout
    assert "loss" in answer.stdout.partition("read the file ")[2].partition(";")[0]


def test_cache_that_the_user_accepts_counts_and_an_isolated_home_has_none(homely):
    place, read = PLACES["home"]
    homely.repository.commit({"train.py": CACHES.format(place=place, read=read)})
    run_id = homely.train("train.py")
    accepted = homely.reproduce(run_id, "--accept-cache")
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    assert "Note: accepted: the program read the file " in accepted.stdout
    isolated = homely.reproduce(run_id, "--isolated-home")
    assert isolated.returncode == 1, isolated.stdout + isolated.stderr
    assert "Verdict: DIFFERENT" in isolated.stdout


@pytest.mark.parametrize("script", [STORE, ARTIFACT], ids=["search", "artifact"])
def test_result_out_of_the_store_is_no_proof(bench, script):
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py")
    answer = bench.reproduce(run_id)
    assert answer.returncode == 3, answer.stdout + answer.stderr
    assert f"of the run {run_id}" in answer.stdout or f"the run {run_id} (search_runs)" in answer.stdout
    reproduction = bench.reproduction_of(run_id).info.run_id
    again = bench.reproduce(run_id, "--resume", reproduction)
    assert again.returncode == 3, again.stdout
    assert bench.reproduce(run_id, "--resume", reproduction, "--accept-cache").returncode == 0


def test_data_from_before_the_reference_is_an_input(homely, tmp_path):
    """What was there when the reference began is what it read as well."""
    (tmp_path / "home" / "data.csv").write_text("0.5")
    os.utime(tmp_path / "home" / "data.csv", (1_700_000_000, 1_700_000_000))
    homely.repository.commit(
        {
            "train.py": "import os, mlflow\n"
            "with mlflow.start_run():\n"
            "    mlflow.log_metric('loss', float(open(os.path.expanduser('~/data.csv')).read()))\n"
            "    open(os.path.expanduser('~/log.txt'), 'a').write('x')\n"
        }
    )
    run_id = homely.train("train.py")
    answer = homely.reproduce(run_id)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_repeats_that_read_a_cache_are_no_proof(homely):
    place, read = PLACES["home"]
    homely.repository.commit({"train.py": CACHES.format(place=place, read=read)})
    answer = homely.reproduce(homely.train("train.py"), "--repeats", "2")
    assert answer.returncode == 3, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("took", "takes", "is_told"),
    [(600, 10, True), (600, 60, False), (30, 0, False), (0, 0, False), (600, 600, False)],
)
def test_relaunch_that_took_a_small_part_of_the_time_did_not_compute(took, takes, is_told):
    reference = Run(run_id="a", start_time=1_000, end_time=1_000 + took * 1000)
    reproduction = replace(reference, run_id="b", end_time=1_000 + takes * 1000)
    reason = find_origin(reference, reproduction, ())
    assert bool(reason) is is_told
    assert [row.status for row in judge_origin(reason)] == ([Status.UNKNOWN] if is_told else [])


def test_isolated_home_is_empty_and_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    variables = isolate_home(tmp_path)
    assert os.listdir(variables["HOME"]) == os.listdir(variables["TMPDIR"]) == []
    assert variables["XDG_CACHE_HOME"] is variables["HF_HOME"] is None


def test_what_was_held_back_survives_its_tag():
    held = Held(writes=tuple(map(str, range(20))), reads=("x",))
    stored = parse_held(held.tags[HELD_TAG])
    assert stored.writes == (*map(str, range(15)), "5 more")
    assert stored.reads == ("x",)
    assert parse_held("no JSON") == parse_held("[1]") == parse_held("") == Held()


@pytest.mark.parametrize(
    ("name", "is_result"),
    [
        ("pyvenv.cfg", False), ("lib/python3/site-packages/x/data.csv", False), ("share/jupyter/kernel.json", False),
        ("conda-meta/history", False), ("etc/fonts.conf", False), ("checkpoint.bin", True), ("data/cache.pkl", True),
    ],
)  # fmt: skip
def test_environment_that_was_built_for_the_relaunch_is_no_result(tmp_path, monkeypatch, name, is_result):
    """It is younger than the reference, and every program reads its ``pyvenv.cfg``."""
    told = []
    session = SimpleNamespace(
        began=1.0, launched=time.time() + 60, place=str(tmp_path / "work"),
        ledger=SimpleNamespace(tell=lambda kind, text: told.append((kind, text))),
    )  # fmt: skip
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    path = tmp_path / "env" / name
    path.parent.mkdir(parents=True)
    path.write_text("x")
    _Watch(session)("open", (str(path), "r", os.O_RDONLY))
    assert told == ([("read", f"the file {path}")] if is_result else [])
