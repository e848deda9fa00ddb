"""A store of another MLflow is refused, and never migrated by a mere read (TRK, fact of MLflow: it would be)."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from mlflow_repro.errors import UnreachableError
from mlflow_repro.store.opening import check_schema, read_revisions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def store(tmp_path, empty_store) -> Path:
    return shutil.copy(empty_store, tmp_path / "mlflow db#1?.db")


def set_revision(store: Path, revision: str) -> str:
    with sqlite3.connect(store) as connection:
        connection.execute("update alembic_version set version_num = ?", (revision,))
    connection.close()
    return hashlib.sha256(store.read_bytes()).hexdigest()


def test_head_is_the_revision_of_a_new_store(store):
    connection = sqlite3.connect(store)
    ((revision,),) = connection.execute("select version_num from alembic_version").fetchall()
    connection.close()
    known = read_revisions()
    assert set(known) - set(known.values()) == {revision}
    check_schema(str(store))


def test_older_store_is_refused_with_what_to_do(store):
    before = set_revision(store, next(revision for revision, earlier in read_revisions().items() if not earlier))
    with pytest.raises(UnreachableError, match="is of an older MLflow, and reading it would migrate it") as caught:
        check_schema(str(store))
    assert f"mlflow db upgrade sqlite:///{store}" in caught.value.hint
    assert hashlib.sha256(store.read_bytes()).hexdigest() == before


def test_newer_store_is_named(store):
    set_revision(store, "ffffffffffff")
    with pytest.raises(UnreachableError, match=r"of a newer MLflow than the one that is installed \(revision ffff"):
        check_schema(str(store))


def test_no_store_of_mlflow_is_left_for_mlflow_to_judge(tmp_path):
    (tmp_path / "empty.db").touch()
    (tmp_path / "text.db").write_text("no database")
    for name in ("empty.db", "text.db", "missing.db"):
        check_schema(str(tmp_path / name))


@pytest.mark.parametrize("command", [["reproduce", "--run_id"], ["show"]], ids=lambda words: words[0])
def test_commands_leave_an_older_store_as_it_is(store, capsys, command):
    from mlflow_repro.cli import main

    older = next(earlier for earlier in read_revisions().values() if earlier)
    before = set_revision(store, older)
    clean = store.rename(store.with_name("plain.db"))
    assert main([*command, "a" * 32, "--tracking_uri", f"sqlite:///{clean}"]) == 5
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: the tracking store ")
    assert captured.err.count("\n") == 1
    assert hashlib.sha256(clean.read_bytes()).hexdigest() == before
