"""The end of a process tree: all of it, nothing beside it, and no sooner than it has had its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from mlflow_repro.system.processes import ProcessTree, kill_group, list_processes, look_at, run_whole, send_signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDLESS = 3_600.0  # seconds of a grace that no test waits for
PRELUDE = """\
import os, signal, subprocess, sys, time
def note(name):
    part = f"{sys.argv[1]}.{os.getpid()}"
    with open(part, "w") as file:
        file.write(str(os.getpid()))
    os.rename(part, os.path.join(sys.argv[1], name))
def fork(name, *, ignores=True, child=lambda: None):
    number = os.fork()
    if not number:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if ignores else signal.SIG_DFL)
        child()
        note(name)
        while True: time.sleep(60)
    return number
def rest():
    note("root")
    while True: time.sleep(60)
"""


class Tree:
    """A program that makes processes; each notes its number in a file of its name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, code: str, *, leads: bool = True) -> ProcessTree:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", PRELUDE + code, self.folder], start_new_session=leads
        )
        return ProcessTree(self.process.pid)

    def wait_for(self, *names: str) -> list[int]:
        deadline = time.monotonic() + 30
        while not all((self.folder / name).exists() for name in names):
            assert time.monotonic() < deadline, list(self.folder.iterdir())
            time.sleep(0.01)
        return [int((self.folder / name).read_text()) for name in names]


@pytest.fixture
def tree(tmp_path) -> Iterator[Tree]:
    folder = tmp_path / "pids"
    folder.mkdir()
    made = Tree(folder)
    yield made
    for file in folder.iterdir():
        if runs(int(file.read_text())):
            os.kill(int(file.read_text()), signal.SIGKILL)
    if made.process is not None:
        made.process.kill()
        made.process.wait()


def runs(number: int) -> bool:
    found = look_at(number)
    return found is not None and not found.is_over


def test_a_tree_is_ended_politely(tree):
    """Everybody gets SIGTERM and may clear up; nobody who does so is killed."""
    clears = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), note('cleared'), os._exit(5)))\n"
    found = tree.start(f"{clears}fork('child', ignores=False)\nrest()")
    (child, _) = tree.wait_for("child", "root")
    found.end(grace=ENDLESS)
    assert tree.process.wait() == 5
    assert (tree.folder / "cleared").exists()
    assert not runs(child)


@pytest.mark.parametrize("grace", [0.0, 0.2])
def test_what_ignores_sigterm_is_killed(tree, grace: float):
    found = tree.start("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nfork('child')\nrest()")
    (child, _) = tree.wait_for("child", "root")
    found.end(grace=grace)
    assert tree.process.wait() == -signal.SIGKILL
    assert not runs(child)


def test_a_process_that_left_its_session_is_ended(tree):
    """As daemons and Java's machines do: a group of its own does not save it."""
    found = tree.start("fork('daemon', child=os.setsid)\nrest()")
    (daemon, _) = tree.wait_for("daemon", "root")
    found.end()
    assert not runs(daemon)


@pytest.mark.parametrize("leads", [True, False])
def test_a_process_that_is_started_while_the_tree_is_ended(tree, *, leads: bool):
    """By a handler of SIGTERM, whose process dies at once in a session of its own, and stays where it has none."""
    dies = "os._exit(0)" if leads else "None"
    found = tree.start(f"signal.signal(signal.SIGTERM, lambda *_: (fork('late'), {dies}))\nrest()", leads=leads)
    tree.wait_for("root")
    found.end(grace=1.0)
    (late,) = tree.wait_for("late")
    assert not runs(late)
    assert not runs(tree.process.pid)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="its supervisor waits as Linux does")
def test_a_supervisor_starts_none_of_those_again_that_are_killed(tree):
    """It is killed last of all, and would be too quick for that."""
    supervise = (
        "def supervise():\n"
        "    note('supervisor')\n"
        "    select.select([os.pidfd_open(watched)], [], [])\n"
        "    fork('again')\n"
    )
    code = "import select\nwatched, *_ = [fork(f'watched{number}') for number in range(30)]\n"
    found = tree.start(f"{code}{supervise}fork('unused', child=supervise)\nrest()", leads=False)
    tree.wait_for(*(f"watched{number}" for number in range(30)), "supervisor", "root")
    found.end()
    time.sleep(0.5)  # what it had started would have told of itself
    assert not (tree.folder / "again").exists()
    assert found.find() == []


def test_the_orphans_of_a_dead_root_are_ended(tree):
    """Its number may be given away then: the session says whose they are."""
    found = tree.start("fork('child')\nrest()")
    (child, _) = tree.wait_for("child", "root")
    tree.process.kill()
    tree.process.wait()
    assert runs(child)
    found.end()
    assert not runs(child)


def test_the_root_can_be_spared(tree):
    """As by a process that ends what it has started itself."""
    found = tree.start("fork('child')\nrest()")
    (child, _) = tree.wait_for("child", "root")
    found.end(grace=0.2, spares_root=True)
    assert not runs(child)
    assert runs(tree.process.pid)


def test_a_tree_that_is_gone_is_ended(tree):
    found = tree.start("note('root')")
    tree.process.wait()
    assert found.find() == []
    found.end(grace=ENDLESS)
    ProcessTree(tree.process.pid).end(grace=ENDLESS)


def test_nobody_waits_for_what_is_dead_already(tree):
    """A zombie: its parent never asks for its exit code."""
    found = tree.start(
        "number = fork('child', ignores=False)\nwhile not os.path.exists(f'{sys.argv[1]}/child'): time.sleep(0.01)\n"
        "os.kill(number, 9)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nrest()"
    )
    (zombie, root) = tree.wait_for("child", "root")
    while runs(zombie):
        time.sleep(0.01)
    assert look_at(zombie).is_over
    assert [one.number for one in found.find()] == [root]
    found.end(grace=ENDLESS, spares_root=True)
    assert runs(root)


def test_a_process_with_the_number_of_another_gets_no_signal(tree):
    """Numbers are given out again; the start says that it is another one."""
    tree.start("rest()")
    (number,) = tree.wait_for("root")
    there = look_at(number)
    assert not send_signal(there._replace(start="1"), signal.SIGKILL)
    assert runs(number)
    assert send_signal(there, signal.SIGKILL)
    assert tree.process.wait() == -signal.SIGKILL
    assert not send_signal(there, signal.SIGKILL)


def test_the_session_of_a_process_with_the_number_of_the_root_is_not_ours(tree, monkeypatch):
    found = tree.start("fork('child')\nrest()")
    (child, root) = tree.wait_for("child", "root")
    now = {number: one._replace(start="1") if number == root else one for number, one in list_processes().items()}
    monkeypatch.setattr("mlflow_repro.system.processes.list_processes", lambda: now)
    assert found.find() == []
    found.end()
    assert runs(child)
    assert runs(root)


def test_another_users_process_is_left_and_not_waited_for(tree, monkeypatch):
    found = tree.start("fork('theirs')\nfork('ours')\nrest()")
    theirs, ours, _ = tree.wait_for("theirs", "ours", "root")
    kill = os.kill

    def kill_ours(number: int, how: int) -> None:
        if number == theirs:
            raise PermissionError(1, "Operation not permitted")
        kill(number, how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill_ours)
        found.end()
        assert (runs(theirs), runs(ours), runs(tree.process.pid)) == (True, False, False)
        found.end(grace=ENDLESS)
    assert runs(theirs)


def test_a_program_that_takes_too_long_ends_with_what_it_has_started(tree):
    command = [sys.executable, "-S", "-c", PRELUDE + "fork('child')\nrest()", str(tree.folder)]
    with pytest.raises(subprocess.TimeoutExpired):
        run_whole(command, timeout=2)
    for number in tree.wait_for("child", "root"):
        assert not runs(number)


def test_a_program_gets_its_text_and_says_what_it_says():
    code = "import sys; print(sys.stdin.read().upper()); sys.stderr.buffer.write(b'\\xff'); sys.exit(3)"
    done = run_whole([sys.executable, "-c", code], text="told", timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (3, "TOLD\n", "\ufffd")


def test_a_group_is_killed_once(tree, monkeypatch):
    """A number that was asked for its exit code may be another group's."""
    tree.start("fork('child')\nrest()")
    (child, _) = tree.wait_for("child", "root")
    kill_group(tree.process)
    assert tree.process.wait() == -signal.SIGKILL
    while runs(child):
        time.sleep(0.01)
    monkeypatch.setattr(os, "killpg", lambda *_: pytest.fail("a group was signalled whose number is free"))
    kill_group(tree.process)
