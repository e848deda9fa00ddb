"""The benchmark of what other tools record: it finds what was stored, in whatever form, and nothing else."""

from __future__ import annotations

import base64
import importlib
import json
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
PACKAGES = {"numpy": "2.1.3", "iniconfig": "2.0.0"}
STATES = {"python_state": list(range(7, 19)), "numpy_state": list(range(100, 112))}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A place as `peers.py` makes it, the module that looks at it, and a function that does so."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    canaries = importlib.import_module("canaries")
    (tmp_path / "place").mkdir()
    canaries.make_repository(tmp_path / "place")
    before = canaries.list_files(tmp_path / "place")
    report = tmp_path / "report.json"
    report.write_text(json.dumps(STATES))
    return tmp_path / "place", canaries, lambda: canaries.check_stored(tmp_path / "place", before, report, PACKAGES)


def read_git(repo, *arguments):
    return subprocess.run(["git", *arguments], cwd=repo, capture_output=True, check=True).stdout


def test_what_was_there_before_is_not_found(place):
    folder, canaries, check = place
    (folder / "new.txt").write_text("epoch 1 of 2\n")
    assert check() == dict.fromkeys(canaries.CHECKS, "no")


def test_everything_is_found_however_it_is_stored(place):
    folder, canaries, check = place
    repo = folder / "repo"
    (folder / "diff.z").write_bytes(zlib.compress(read_git(repo, "diff")))
    with tarfile.open(folder / "inner.tar", "w") as archive:
        archive.add(repo / "helper.py", "helper.py")
        archive.add(repo / "extra.txt", "extra.txt")
    with zipfile.ZipFile(folder / "outer.zip", "w") as archive:
        archive.write(folder / "inner.tar")
    (folder / "inner.tar").unlink()
    read_git(repo, "bundle", "create", "--quiet", str(folder / "commits"), "@{upstream}..HEAD")
    with sqlite3.connect(folder / "store.db") as database:
        database.execute("create table facts (name, value)")
        rows = [("argv", f"train.py --note {canaries.NOTE}"), ("seed", str(2 * canaries.SEED_HALF + 1))]
        database.executemany("insert into facts values (?, ?)", rows)
    database.close()
    words = struct.pack("<600I", *STATES["python_state"], *range(588))
    (folder / "state.json").write_text(
        json.dumps({"python": base64.b64encode(words).decode(), "numpy": STATES["numpy_state"]}, indent=1)
    )
    (folder / "packages.txt").write_text("iniconfig==2.0.0\nnumpy==2.1.3\n")
    (folder / "commit.txt").write_bytes(read_git(repo, "rev-parse", "HEAD"))
    (folder / "machine.json").write_text(
        json.dumps({"cpu": canaries.read_cpu_model(), "memory": canaries.read_memory()})
    )
    assert check() == dict.fromkeys(canaries.CHECKS, "yes")


def test_a_part_is_told_from_all(place):
    folder, _, check = place
    (folder / "source.py").write_bytes((folder / "repo" / "train.py").read_bytes())
    (folder / "meta.json").write_text(json.dumps({"numpy": "2.1.3", "iniconfig": "2.0.1", "mt": STATES["numpy_state"]}))
    grades = check()
    assert {name for name, grade in grades.items() if grade == "part"} == {"changes", "lock", "random"}
    assert {grade for name, grade in grades.items() if name not in ("changes", "lock", "random")} == {"no"}


def test_the_planted_causes_fit_their_projects(tmp_path, monkeypatch):
    """Each edit finds its text, each case is judged, and no name is given twice."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    causes = importlib.import_module("causes")
    assert len({case.name for case in causes.CASES}) == len(causes.CASES)
    for number, case in enumerate(causes.CASES):
        folder = tmp_path / str(number)
        shutil.copytree(causes.PROJECTS / case.project, folder)
        before = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for edits in (case.edits, case.one.edits, case.other.edits):
            causes.apply(folder, edits)
        is_changed = any(path.read_bytes() != before.get(path.relative_to(folder)) for path in folder.rglob("*.*"))
        assert is_changed == bool({**case.edits, **case.one.edits, **case.other.edits}), case.name
        assert case.causes or case.is_nondeterministic, case.name
