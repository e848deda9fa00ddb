"""A run, its record, its files, its store and the rules are read once in an invocation, and handed on."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from mlflow_repro.cli import main
from mlflow_repro.judging import config
from mlflow_repro.store import artifacts

if TYPE_CHECKING:
    from conftest import Workbench

TRAIN = """\
import sys, time
import mlflow

value = float(time.time_ns() % 10**9) if sys.argv[1] == "clock" else float(sys.argv[1])
with mlflow.start_run():
    mlflow.log_metric("m", value)
    mlflow.log_text("left behind", "notes.txt")
    with mlflow.start_run(nested=True):
        mlflow.log_metric("m", value)
"""


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, ...]]:
    """How often something was asked for: counted at MLflow's own functions, but for files in a folder."""
    from mlflow import MlflowClient
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    counts: Counter[tuple[str, ...]] = Counter()
    watched = (
        (MlflowClient, "__init__", lambda *_, tracking_uri: ("store", tracking_uri)),
        (SqlAlchemyStore, "get_run", lambda _, run_id: ("run", run_id)),
        (artifacts, "read_local", lambda folder, path: ("file", folder.parent.name, path)),
        (config, "read_rules", lambda *_: ("rules",)),
    )
    for owner, name, tell in watched:
        count(monkeypatch, owner, name, tell, counts)
    return counts


def count(monkeypatch, owner, name, tell, counts) -> None:
    real = getattr(owner, name)

    def counted(*arguments, **named):
        counts[tell(*arguments, **named)] += 1
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, counted)


def train(bench: Workbench, value: str) -> str:
    """Make a run with a child; its id."""
    before = set(bench.run_ids())
    answer = bench.run_python("train.py", value, cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    made = [run for run in map(bench.get, bench.run_ids()) if run.info.run_id not in before]
    return next(run.info.run_id for run in made if "mlflow.parentRunId" not in run.data.tags)


def check(reads: Counter[tuple[str, ...]], *runs: str) -> None:
    """Nothing was read twice, and what the answer needs was read."""
    assert {key: number for key, number in reads.items() if number > 1} == {}
    kinds = Counter(key[0] for key in reads)
    assert (kinds["store"], kinds["rules"]) == (1, 1)
    for run_id in runs:
        assert reads["run", run_id] == reads["file", run_id, "repro/record.json"] == 1


@pytest.mark.parametrize("command", ["compare", "explain"])
def test_compare_and_explain(bench: Workbench, reads, command: str, capsys):
    """The runs below the two are read, too; a store that is named in two ways is one."""
    bench.repository.commit({"train.py": TRAIN})
    ids = [train(bench, value) for value in ("1", "2")]
    reads.clear()
    with bench.surroundings():
        assert main([command, ids[0], f"sqlite:///{bench.store}#{ids[1]}"]) == 1
    assert "parameter" in capsys.readouterr().out
    check(reads, *ids)


@pytest.mark.parametrize("value", ["1", "clock"])
def test_reproduce(bench: Workbench, reads, value: str):
    """Planning, judging and explaining share what was read; the reproduction is read when it has ended."""
    bench.repository.commit({"train.py": TRAIN})
    run_id = train(bench, value)
    reads.clear()
    answer = bench.reproduce(run_id, "--no-annotate")
    made = Counter(reads)
    assert answer.returncode == (value == "clock"), answer.stdout + answer.stderr
    check(made, run_id, *([bench.reproduction_of(run_id).info.run_id] if value == "clock" else []))
