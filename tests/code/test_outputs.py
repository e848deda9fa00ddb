"""What a run has written itself is its output, and no part of the tree that is put back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from conftest import git

from mlflow_repro.code.worktree import TreeLimits, take_tree
from mlflow_repro.system.spool import program_start

BEGIN = """\
import time
time.sleep(0.02)  # as long as an interpreter takes to begin: these programs are forks
"""
WRITES_FIRST = f"""\
{BEGIN}
import os, random, subprocess, sys, multiprocessing, shutil
import mlflow

def write():
    with open("model.txt", "w") as file:
        file.write(repr(random.SystemRandom().random()))

if __name__ == "__main__":
    is_there = os.path.exists("model.txt")
    if not is_there:
        {{write}}
    with mlflow.start_run():
        mlflow.log_metric("was there", is_there)
        mlflow.log_metric("loss", float(open("model.txt").read()))
"""
WRITERS = {
    "itself": "write()",
    "a program": 'subprocess.run([sys.executable, \'-c\', \'import random; open("model.txt", "w").'
    "write(repr(random.SystemRandom().random()))'], check=True)",
    "a fork": "process = multiprocessing.get_context('fork').Process(target=write); process.start(); process.join()",
    "a copy with an old time": "write(); os.utime('model.txt', (1_600_000_000, 1_600_000_000))",
    "a rename": "write(); os.rename('model.txt', 'x'); os.rename('x', 'model.txt')",
}
APPENDS = f"""\
{BEGIN}
import mlflow

with open("results.csv", "a") as file:
    file.write("0.5\\n")
with mlflow.start_run():
    mlflow.log_metric("length", len(open("results.csv").read()))
"""
READS = """\
import mlflow

with mlflow.start_run():
    mlflow.log_metric("value", float(open("input.txt").read()))
"""


def code_of(bench, run_id: str) -> dict:
    with open(bench.client().download_artifacts(run_id, "repro/record.json"), encoding="utf-8") as file:
        return json.load(file)["code"]


@pytest.mark.parametrize("writer", WRITERS)
def test_answer_that_the_run_has_left_is_not_put_back(bench, writer):
    """Seen: IDENTICAL, for the reproduction read what the reference had drawn."""
    bench.repository.commit({"train.py": WRITES_FIRST.format(write=WRITERS[writer])})
    run_id = bench.train("train.py")
    code = code_of(bench, run_id)
    assert code["outputs"] == ["model.txt"]
    assert "file" not in code["untracked"]
    assert code["is_clean"] is True
    answer = bench.reproduce(run_id)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert bench.reproduction_of(run_id).data.metrics["was there"] == 0
    note = "Note: what the run has written itself is not put back, nor what stood there before: model.txt"
    assert note in answer.stdout


@pytest.mark.parametrize("is_tracked", [False, True], ids=["untracked", "tracked"])
def test_file_that_the_run_appends_to_comes_back_as_it_began(bench, is_tracked):
    """Seen: DIFFERENT, the code is another one, 77 %."""
    bench.repository.commit({"train.py": APPENDS, **({"results.csv": "0.25\n"} if is_tracked else {})})
    answer = bench.reproduce(bench.train("train.py"))
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_untracked_file_that_was_there_is_an_input(bench):
    bench.repository.commit({"train.py": READS})
    (bench.repository.clone / "input.txt").write_text("1.5")
    run_id = bench.train("train.py")
    assert code_of(bench, run_id)["outputs"] == []
    answer = bench.reproduce(run_id)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "is not put back" not in answer.stdout


@pytest.fixture
def tree(repository):
    """A working tree with a tracked text and a tracked program, and the moment after that."""
    repository.commit({"notes.csv": "1\n", "train.py": "print(1)\n"})
    time.sleep(0.05)
    return repository.clone, TreeLimits(since_ns=time.time_ns())


def take(place, limits):
    return take_tree(place, deadline=time.monotonic() + 60, limits=limits)


def test_changes_of_a_tracked_file_are_the_programs_and_those_of_code_are_the_users(tree):
    """A program seldom rewrites its own code; who edits it meanwhile is the user."""
    place, limits = tree
    (place / "notes.csv").write_text("1\n2\n")
    (place / "train.py").write_text("print(2)\n")
    taken = take(place, limits)
    assert taken.outputs == ("notes.csv",)
    assert b"print(2)" in taken.patch
    assert b"notes.csv" not in taken.patch
    assert git("cat-file", "-t", "HEAD^{tree}", cwd=place) == "tree"
    before = take(place, replace(limits, since_ns=0))
    assert before.outputs == ()
    assert b"notes.csv" in before.patch


def test_time_of_the_content_or_of_the_file_is_enough(tree):
    place, limits = tree
    for name in ("new.txt", "moved.txt", "linked.txt"):
        (place / name).write_text("x")
        os.utime(place / name, (1_600_000_000, 1_600_000_000))
    (place / "link").symlink_to("new.txt")
    assert set(take(place, limits).outputs) == {"new.txt", "moved.txt", "linked.txt", "link"}
    later = replace(limits, since_ns=time.time_ns() + 10**9)
    assert take(place, later).outputs == ()


def test_what_is_known_to_be_opened_for_writing_is_an_output_whatever_its_time(tree):
    place, _ = tree
    (place / "new.txt").write_text("x")
    (place / "other.txt").write_text("x")
    taken = take(place, TreeLimits(written=frozenset([str(place / "new.txt")])))
    assert taken.outputs == ("new.txt",)
    assert taken.untracked_paths == ("other.txt",)


def test_start_of_a_program_is_told_apart_from_what_was_written_just_before(tmp_path):
    """Within a hundredth of a second, so that a script that was saved and started at once is no output."""
    file = tmp_path / "x"
    code = (
        "import time; begun = time.time(); from mlflow_repro.system.spool import program_start as p; print(p(), begun)"
    )
    file.write_text("x")
    start, begun = map(float, subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split())  # fmt: skip
    assert file.stat().st_mtime < start
    assert start < begun + 0.05
    assert program_start() < time.time()
