"""A store and records full of planted text, read by every command in every form: all of it stays text."""

from __future__ import annotations

import copy
import json
import random
import sqlite3
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hostile import PLANTS, find_harm
from test_damaged_records import recorded  # noqa: F401 - a fixture

from mlflow_repro.cli import main
from mlflow_repro.report import RENDERERS

_SEED = 14
_NOWHERE = "file:///nowhere/"
_KEPT = ("repro/", "schema", "complete")  # how values begin, and names, without which nothing else is read


def plant(value: Any, draw: random.Random, before: str = "") -> Any:
    """A record of which about one text of three is a planted one, and one key of ten. No URI leads out of here."""
    if isinstance(value, dict):
        return {
            draw.choice(list(PLANTS.values())) if draw.random() < 0.1 else name: plant(
                part, draw, _NOWHERE if "ur" in name else before
            )
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [plant(part, draw, before) for part in value]
    is_chosen = isinstance(value, str) and not value.startswith(_KEPT) and draw.random() < 0.3
    return before + draw.choice(list(PLANTS.values())) if is_chosen else value


def plant_rows(store: Path, run_id: str) -> None:
    """As a server may answer: names and values that MLflow's own client would refuse, by SQL."""
    clean = {name: text.encode(errors="replace").decode() for name, text in PLANTS.items()}
    with sqlite3.connect(store) as connection:
        for number, (name, text) in enumerate(clean.items()):
            connection.execute("insert into params (key, value, run_uuid) values (?, ?, ?)", (text, text, run_id))
            rows = [(f"repro.{name}", text, run_id), (text, text, run_id)]
            connection.executemany("insert or replace into tags (key, value, run_uuid) values (?, ?, ?)", rows)
            for table, columns in (
                ("metrics", "step, timestamp, is_nan"),
                ("latest_metrics", "step, timestamp, is_nan"),
            ):
                connection.execute(
                    f"insert into {table} (key, value, run_uuid, {columns}) values (?, ?, ?, 0, ?, 0)",  # noqa: S608
                    (text, float(number), run_id, number),
                )
        texts = cycle(clean.values())
        for tag in ("mlflow.runName", "repro.git.uri", "repro.git.branch", "mlflow.source.name", "mlflow.user"):
            row = (tag, f"{_NOWHERE}{next(texts)}" if "uri" in tag else next(texts), run_id)
            connection.execute("insert or replace into tags (key, value, run_uuid) values (?, ?, ?)", row)
        connection.execute("update runs set name = ? where run_uuid = ?", (clean["lines"], run_id))
        connection.execute("update experiments set name = ? where experiment_id = 0", (clean["osc"],))


@pytest.mark.parametrize("seed", [_SEED, pytest.param(_SEED + 1, marks=pytest.mark.slow)])
def test_every_command_shows_text(request, tiny, capsys, seed):
    one, other, plain = request.getfixturevalue("recorded")
    draw = random.Random(seed)
    plant_rows(tiny.store, other)
    folder = Path(tiny.get(other).info.artifact_uri)
    kept = {name: plain[name] for name in ("schema", "run_id", "complete")}
    planted = json.dumps({**plant(copy.deepcopy(plain), draw), **kept})
    (folder / "repro/record.json").write_text(planted)
    for name in ("lines", "ansi", "azure", "mention", "github-old"):
        (folder / PLANTS[name].replace("/", "_")[:100]).write_text(PLANTS[name])
    commands = [("compare", one, other, "--all", "--format", form) for form in RENDERERS]
    commands += [("compare", other, one), ("explain", one, other), ("explain", other, one, "--format", "json")]
    commands += [("show", other), ("show", other, "--format", "json"), ("check", other), ("show", "--debug", other)]
    commands += [("reproduce", "--run_id", other, "--dry_run", "--format", form) for form in ("text", "markdown")]
    codes = set()
    with tiny.surroundings():
        for command in commands:
            code = main(command)
            told = capsys.readouterr()
            assert code in (0, 1, 3, 5, 6), told.err
            codes.add((command[0], code))
            assert find_harm(told.out, is_markdown="markdown" in command) == [], command
            assert find_harm(told.err) == [] or told.err.startswith("error: "), command
            assert "Traceback" not in told.err.replace("  | Traceback", "")
    assert {("compare", 1), ("explain", 1), ("show", 0)} <= codes  # not all of it ended at the door


@pytest.mark.parametrize("text", PLANTS.values(), ids=PLANTS)
def test_errors_have_one_line(text, capsys):
    """What was typed comes back in them, too."""
    for command in (("show", text), ("compare", text, text), ("reproduce", "--run_id", text), ("check", text, "--x")):
        assert main([*command, "--format", "json"]) == 2
        told = capsys.readouterr()
        assert find_harm(told.out) == []
        lines = told.err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert find_harm(lines[0].removeprefix("error: ")) == [] or text.startswith("error")
