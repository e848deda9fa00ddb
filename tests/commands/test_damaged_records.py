"""Every command that reads a record, on records that somebody damaged: an answer or one line, and never a traceback."""

from __future__ import annotations

import copy
import io
import json
import random
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlflow_repro.cli import main
from mlflow_repro.compare.facts import compare_facts
from mlflow_repro.explain import explain
from mlflow_repro.explain.evidence import Evidence
from mlflow_repro.isolate.data import list_contents
from mlflow_repro.isolate.factors import Conditions, list_factors
from mlflow_repro.isolate.variations import Place, vary
from mlflow_repro.plan.launch import PlanOptions
from mlflow_repro.plan.readiness import grade_run
from mlflow_repro.report.json_format import render_plain
from mlflow_repro.report.record_text import render_readiness, render_record
from mlflow_repro.values.comparison import Comparison, Finding, Status
from mlflow_repro.values.record import Record, read_record
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Workbench

_SEED = 13
_SHOWN = 8  # that every command is given
_SECONDS = 30.0  # a hang, not a busy machine

Path_ = tuple[Any, ...]


def deep(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"absent": value}
    return value


VALUES = (
    None, True, False, 0, -1, 2**63, 10**300, 1.5, float("nan"), float("inf"), "", "x", "a\0b", "\ud800",
    "\u202e\x1b[2J", "../../etc/passwd", "repro/../x", "-" * 5000, "/" * 5000, [], [None], ["x"], [[]], [{}], {},
    {"absent": 3}, {"absent": {"absent": []}}, {"absent": "x", "file": 3}, {"file": "repro/x", "run_id": "../.."},
    {"name": []}, [{"name": {}, "path": [], "threads": "3"}], {"": {"": ""}}, {"\0": 1}, deep(20), deep(200),
    ["x"] * 5_000,
)  # fmt: skip
"""What stands in the place of a value."""


def list_paths(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every key of a record, the first three rows of each list and the first ten of each table in a section."""
    if path:
        yield path
    most = 10 if len(path) > 1 else None
    rows = enumerate(value[:3]) if isinstance(value, list) else ()
    items = list(value.items())[:most] if isinstance(value, dict) else rows
    for name, item in items:
        yield from list_paths(item, (*path, name))


def damage(record: dict[str, Any], paths: list[Path_], draw: random.Random, count: int) -> dict[str, Any]:
    """A copy of a record with ``count`` of its values replaced, taken away, or given to a key that is none."""
    changed = dict(record)
    for path in draw.sample(paths, count):
        place: Any = changed
        for name in path[:-1]:
            try:
                place[name] = copy.copy(place[name])
            except (LookupError, TypeError):  # another one of them is gone with what it was in
                break
            place = place[name]
        if isinstance(place, (dict, list)):
            hurt(place, path[-1], draw)
    return changed


def hurt(place: Any, name: Any, draw: random.Random) -> None:
    """Take a key away, add one, or give another value to it."""
    how = draw.random()
    if isinstance(place, list):
        place[:1] = [draw.choice(VALUES)]
    elif how < 0.2:
        place.pop(name, None)
    elif how < 0.3:
        place[draw.choice(["", "absent", "file", "\0", "name", "\ud800", "x" * 3000])] = draw.choice(VALUES)
    else:
        place[str(name)] = draw.choice(VALUES)  # where a list was, there may be a table by now


@pytest.fixture
def recorded(tiny: Workbench) -> tuple[str, str, dict[str, Any]]:
    """Two runs of a dirty tree, and the record of the second."""
    folder = tiny.repository.clone / "ml/tiny"
    (folder / "new.txt").write_text("new\n")
    (folder / "train.py").write_text((folder / "train.py").read_text() + "# changed\n")
    one, other = (tiny.train("train.py", f"--alpha={alpha}", cwd=folder) for alpha in (1, 2))
    return one, other, json.loads(tiny.recorded(other, "record.json") or b"{}")


def tell_all(one: Record, other: Record) -> None:
    """What the rooms make of two records without a store."""
    run = Run(run_id="a", status="FINISHED", metrics={"m": 1.0})
    finding = Finding(kind="metric", name="m", reference=1.0, reproduction=2.0, status=Status.DIFFERENT)
    comparison = Comparison(reference_run_id="a", reproduction_run_id="b", findings=(finding,), rules=Rules())
    facts = tuple(compare_facts(one, other))
    explain(Evidence(comparison=comparison, reference=run, reproduction=run, facts=facts, records=(one, other)))
    list_factors(Conditions(record=one), Conditions(record=other))
    list_contents(other.data)
    vary(other, Place(home="/h", work_directory="/w"))
    render_readiness(grade_run(run, other, PlanOptions())).encode()


def show_all(record: Record) -> None:
    """What `show` prints, in both forms."""
    render_record(record.plain).encode()
    render_plain(dict(record.plain)).encode()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutations", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_no_room_fails_at_a_damaged_record(recorded, mutations):
    """And a record without damage has none, by which the types are those that the plugin writes."""
    plain, draw = recorded[2], random.Random(_SEED)
    whole, paths = read_record(plain), list(list_paths(plain))
    assert whole.damage == {}
    for number in range(mutations):
        started = time.monotonic()
        damaged = read_record(damage(plain, paths, draw, 1 + number % 3))
        tell_all(*[(whole, damaged), (damaged, whole), (damaged, damaged)][number % 3])
        if number % 10 == 0:
            show_all(damaged)
        assert time.monotonic() - started < _SECONDS
    assert read_record(plain) == whole


def test_no_damage_is_a_cause(recorded):
    """Of two runs that recorded the same, whichever fact of one of them is of another type."""
    plain = recorded[2]
    whole = read_record(plain)
    places = [(section, name) for section in ("code", "launch", "seeds", "machine") for name in plain[section]]
    for section, name in [*places, *(("environment", name) for name in plain["environment"])]:
        for value in (True, [3], {"x": {"y": deep(60)}}):
            damaged = read_record({**plain, section: {**plain[section], name: value}})
            for sides in ((whole, damaged), (damaged, whole)):
                known = damaged.damage.keys()
                rows = [row for row in compare_facts(*sides) if row.status is not Status.IDENTICAL]
                assert not known or rows == []


def run_command(bench: Workbench, *arguments: str) -> tuple[int, str, str, float]:
    out, err = io.StringIO(), io.StringIO()
    started = time.monotonic()
    with bench.surroundings(), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue(), time.monotonic() - started


def commands_of(one: str, other: str) -> list[tuple[str, ...]]:
    return [
        ("show", other),
        ("show", other, "--format", "json"),
        ("check", other),
        ("compare", one, other),
        ("explain", one, other),
        ("explain", other, one),
        ("reproduce", "--run_id", other, "--dry-run"),
        ("reproduce", "--run_id", other, "--dry-run", "--env", "recorded"),
    ]


CONTENTS = {
    "nested": b'{"schema": 2, "code": ' + b"[" * 90_000,
    "no object": b"[]",
    "other schema": b'{"schema": []}',
    "huge number": b'{"schema": 2, "code": {"commit": ' + b"9" * 100_000 + b"}}",
    "huge list": json.dumps({"schema": 2, "data": {"params": [{"path": "x"}] * 40_000}}).encode(),
    "empty": b'{"schema": 2}',
}


def test_no_command_fails_at_a_damaged_record(recorded, tiny: Workbench):
    one, other, plain = recorded
    file = Path(tiny.get(other).info.artifact_uri.removeprefix("file://"), "repro/record.json")
    draw, paths = random.Random(_SEED), list(list_paths(plain))
    contents = [json.dumps(damage(plain, paths, draw, 1 + number % 4)).encode() for number in range(_SHOWN)]
    for content in [*contents, *CONTENTS.values()]:
        file.write_bytes(content)
        for arguments in commands_of(one, other):
            code, out, err, seconds = run_command(tiny, *arguments)
            assert code in (0, 1, 2, 3, 6), (arguments, out, err)
            assert len(err.splitlines()) <= 2, (arguments, err)
            assert "Traceback" not in out + err
            assert seconds < _SECONDS, (arguments, content[:200])


DAMAGED = {
    "code": ("code", [], "code is no table of facts"),
    "bundle": ("code.bundle", True, "code.bundle is a truth value, not a table"),
    "data": ("data", None, "data is no table of facts"),
    "path": ("data.params", [{"path": "a\0b"}], "data.params.0.path has a character that no text has"),
    "machine": ("machine.libraries", [3], "machine.libraries.0 is a whole number, not a table"),
}


@pytest.mark.parametrize(("key", "value", "line"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_said_in_one_line(recorded, tiny: Workbench, key: str, value: Any, line: str):
    """By each command that rests on the record."""
    one, other, plain = recorded
    section, _, name = key.partition(".")
    changed = {**plain, section: {**plain[section], name: value} if name else value}
    file = Path(tiny.get(other).info.artifact_uri.removeprefix("file://"), "repro/record.json")
    file.write_text(json.dumps(changed))
    for arguments in commands_of(one, other)[2:7]:
        code, out, err, _ = run_command(tiny, *arguments)
        assert code in (0, 1, 3)
        told = [row for row in (out + err).splitlines() if line in row]
        assert len(told) == 1, (arguments, out, err)
    assert f"(damaged: {line})" in run_command(tiny, "show", other)[1]
