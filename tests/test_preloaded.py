"""The quick start of the other tests: a fork is what a real process would be, or a real process is started."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

LOOK = """\
import json, os, random, sys
import numpy
print(json.dumps({
    "argv": sys.argv, "orig_argv": sys.orig_argv[1:], "path": sys.path, "file": __file__, "name": __name__,
    "spec": getattr(__spec__, "name", None), "cwd": os.getcwd(), "tz": os.environ.get("TZ"), "stdin": sys.stdin.read(),
    "buffered": [type(sys.stdout.buffer).__name__, sys.stderr.line_buffering, sys.stdout.encoding],
    "bytecode": sys.dont_write_bytecode, "package": __package__, "modules": "__main__" in sys.modules,
}))
print(random.random(), numpy.random.rand(), os.getppid())
"""


def look(bench, *arguments: str, **variables: str) -> tuple[dict, list[str]]:
    """What `LOOK` says of how it was started, and numbers that are others each time."""
    place = bench.repository.clone
    done = subprocess.run(
        ["python", *arguments], cwd=place, env=bench.variables(**variables), input="typed", capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    first, second = done.stdout.splitlines()
    return json.loads(first), second.split()


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (("sub/look.py", "a b", "-x", ""), {"TZ": "Asia/Tokyo"}),
        (("-m", "sub.look", "-m", "é"), {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}),
        (("sub/look.py",), {"PYTHONPATH": "/nowhere:/else"}),
    ],
    ids=["script", "module", "path"],
)
def test_a_fork_begins_as_a_process(bench, arguments, variables):
    (bench.repository.clone / "sub").mkdir()
    (bench.repository.clone / "sub/look.py").write_text(LOOK, encoding="utf-8")
    quick, drawn = look(bench, *arguments, **variables)
    again = look(bench, *arguments, **variables)[1]
    assert drawn[2] == again[2], "it was not forked"
    assert set(drawn[:2]).isdisjoint(again[:2])
    bench.is_quick = False
    real, _ = look(bench, *arguments, **variables)
    assert quick == real


@pytest.mark.parametrize("arguments", [("-c", "{}"), ("-W", "ignore", "look.py"), ("-",)])
def test_what_cannot_be_forked_is_a_process(bench, arguments):
    look = "import os, sys; print(os.getppid(), sys.executable, sys.prefix)"
    (bench.repository.clone / "look.py").write_text(look)
    command = ["python", *(word.format(look) for word in arguments)]
    done = subprocess.run(
        command, cwd=bench.repository.clone, env=bench.variables(), input=look, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    parent, executable, prefix = done.stdout.split()
    assert int(parent) == psutil.Process().pid
    assert (executable, prefix) == (sys.executable, sys.prefix)


def test_variable_that_is_read_at_the_start_is_heeded(bench):
    (bench.repository.clone / "look.py").write_text("print(hash('a'))")
    place = {"cwd": bench.repository.clone}
    forked = {bench.run_python("look.py", **place).stdout for _ in range(2)}
    seeded = {bench.run_python("look.py", PYTHONHASHSEED=seed, **place).stdout for seed in "778"}
    assert len(forked) == 1, "these are forks"
    assert len(seeded - forked) == 2


def test_ends(bench):
    """Exit codes, signals, uncaught exceptions with the program's own lines alone, and what was not flushed."""
    endings = {
        "print('out'); raise SystemExit(3)": (3, "out\n", ""),
        "raise SystemExit('a word')": (1, "", "a word\n"),
        "import os; print('x', flush=True); os.kill(os.getpid(), 9)": (-9, "x\n", ""),
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)": (-15, "", ""),
        "import atexit; atexit.register(print, 'late')\n1 / 0": (
            1,
            "late\n",
            'Traceback (most recent call last):\n  File "{file}", line 2, in <module>\n    1 / 0\n',
        ),
    }
    file = bench.repository.clone / "end.py"
    for script, (code, out, err) in endings.items():
        file.write_text(script)
        done = bench.run_python("end.py", cwd=bench.repository.clone)
        assert (done.returncode, done.stdout) == (code, out), done.stderr
        assert done.stderr.startswith(err.format(file=file)), done.stderr
    assert "preloaded" not in done.stderr


WAIT = """\
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
below = subprocess.Popen(["sleep", "300"])
try:
    print(os.getpid(), below.pid, flush=True)
    time.sleep(300)
except KeyboardInterrupt:
    sys.exit(8)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_reach_the_fork(bench, number):
    """And it does not outlive the process that stands for it."""
    (bench.repository.clone / "wait.py").write_text(WAIT)
    standing_for = subprocess.Popen(
        ["python", "wait.py"], cwd=bench.repository.clone, env=bench.variables(), stdout=subprocess.PIPE, text=True
    )
    pids = [int(word) for word in standing_for.stdout.readline().split()]
    fork, below = map(psutil.Process, pids)
    assert fork.pid != standing_for.pid
    standing_for.send_signal(number)
    expected = {signal.SIGINT: 8, signal.SIGTERM: 7, signal.SIGKILL: -signal.SIGKILL}[number]
    assert standing_for.wait(30) == expected
    if number == signal.SIGKILL:
        deadline = time.monotonic() + 30
        while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in (fork, below)):
            assert time.monotonic() < deadline, "the fork goes on"
            time.sleep(0.01)
    elif below.is_running():
        below.kill()
    standing_for.stdout.close()
