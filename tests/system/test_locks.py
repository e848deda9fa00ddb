"""Locks on files: who gets one, who waits for it, and that no dead process keeps it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlflow_repro.system.locks import FOREVER, hold_lock, lock_file

KEEPER = (
    "import sys, time\nfrom mlflow_repro.system.locks import lock_file\n"
    "lock_file(sys.argv[1], is_shared=len(sys.argv) > 2)\nprint('mine', flush=True)\ntime.sleep(600)\n"
)


@pytest.fixture
def keep(tmp_path):
    """Let another process have the lock; the process."""
    kept = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", KEEPER, str(tmp_path / "lock"), *arguments]
        kept.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert kept[-1].stdout.readline() == "mine\n"
        return kept[-1]

    yield start
    for process in kept:
        process.kill()
        process.communicate()


def count_descriptors() -> int:
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


@pytest.mark.parametrize("wait", [0.0, 0.3])
def test_a_lock_that_another_process_keeps_is_not_given(keep, tmp_path, wait: float):
    keep()
    before = count_descriptors()
    with pytest.raises(BlockingIOError):
        lock_file(tmp_path / "lock", wait=wait)
    with pytest.raises(BlockingIOError), hold_lock(tmp_path / "lock", wait=wait):
        pytest.fail("it was given twice")
    assert count_descriptors() == before


@pytest.mark.parametrize("wait", [60.0, FOREVER])
def test_a_lock_is_given_when_its_holder_dies(keep, tmp_path, wait: float):
    """However it dies: nothing is left that would have to be removed."""
    process = keep()
    killer = threading.Timer(0.3, process.send_signal, (signal.SIGKILL,))
    killer.start()
    with hold_lock(tmp_path / "lock", wait=wait) as descriptor:
        assert process.wait() == -signal.SIGKILL
        assert not os.get_inheritable(descriptor)
    killer.join()
    with hold_lock(tmp_path / "lock"):
        pass


def test_shared_locks_are_given_beside_each_other_and_beside_no_other(keep, tmp_path):
    keep("shared")
    os.close(lock_file(tmp_path / "lock", is_shared=True))
    with pytest.raises(BlockingIOError):
        lock_file(tmp_path / "lock")


def test_a_lock_is_made_unless_it_must_be_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        lock_file(tmp_path / "lock", makes=False)
    with hold_lock(tmp_path / "lock"):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    with hold_lock(tmp_path / "lock", makes=False):
        pass


def test_a_link_is_no_lock(tmp_path):
    """Whoever may write into the folder could have a file of ours opened, or made, elsewhere."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    for makes in (True, False):
        with pytest.raises(OSError, match="symbolic"):
            lock_file(tmp_path / "lock", makes=makes)
    assert not (tmp_path / "elsewhere").exists()


def test_only_one_file_of_the_package_locks():
    package = Path(lock_file.__code__.co_filename).parents[1]
    users = [path.name for path in package.rglob("*.py") if "LOCK_EX" in path.read_text(encoding="utf-8")]
    assert users == ["locks.py"]
