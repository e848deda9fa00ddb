"""Temporary folders: removed in the end, or by a later process when theirs was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from conftest import HOLDER

from mlflow_repro.system.folders import PREFIX, hold_folder, sweep_folders


@pytest.fixture
def holder(tmp_path):
    """A process that has a folder in ``tmp_path`` and waits, and the path of that folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_folder_is_removed_in_the_end_with_what_is_in_it(tmp_path):
    with hold_folder(str(tmp_path)) as folder:
        (tmp_path / "x").symlink_to(folder.path)
        with open(os.path.join(folder.path, "file"), "w", encoding="utf-8"):
            pass
        assert sweep_folders(str(tmp_path)) == []
    assert not os.path.exists(folder.path)


def test_folder_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not(holder, tmp_path):
    process, path = holder
    assert sweep_folders(str(tmp_path)) == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.path.isdir(path)
    assert sweep_folders(str(tmp_path)) == [path]
    assert list(tmp_path.iterdir()) == []


def test_folder_that_is_not_ours_is_left_alone(holder, tmp_path):
    """By its name alone nothing is taken for ours; nor is what a link leads to."""
    process, path = holder
    (tmp_path / f"{PREFIX}data").mkdir()
    (tmp_path / f"{PREFIX}file").touch()
    (tmp_path / "elsewhere").mkdir()
    process.kill()
    process.wait()
    os.rename(path, tmp_path / "elsewhere" / "ours")
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path / "elsewhere" / "ours")
    before = sorted(tmp_path.rglob("*"))
    assert sweep_folders(str(tmp_path)) == []
    assert sweep_folders(str(tmp_path / "missing")) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_of_another_user_is_left_alone(holder, tmp_path, monkeypatch):
    process, path = holder
    process.kill()
    process.wait()
    monkeypatch.setattr(os, "getuid", lambda: os.stat(path).st_uid + 1)
    assert sweep_folders(str(tmp_path)) == []
    assert os.path.isdir(path)


def test_who_makes_a_folder_while_others_sweep_keeps_it(tmp_path):
    """The moment between the making of the folder and its lock is nobody's chance."""
    done = threading.Event()

    def sweep():
        while not done.is_set():
            sweep_folders(str(tmp_path))

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    for sweeper in sweepers:
        sweeper.start()
    try:
        for _ in range(300):
            with hold_folder(str(tmp_path)) as folder, open(os.path.join(folder.path, "file"), "wb") as file:
                file.write(b"x")
                assert os.path.exists(folder.path)
    finally:
        done.set()
        for sweeper in sweepers:
            sweeper.join()
    assert list(tmp_path.iterdir()) == []
