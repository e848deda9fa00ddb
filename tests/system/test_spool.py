"""What the processes of one launch know of each other: who belongs to it and in which order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlflow_repro.system import spool

ID = "[0-9a-f]{16}"
LOOK = (
    "import sys, json\nfrom mlflow_repro.system.spool import process_path, process_key, report_process, read_reports\n"
    "def look():\n    report_process({}) if process_key() else process_path()\n"
    "    return process_path() + ' ' + (process_key() or '-')\n"
)


def run_python(code: str, folder: Path, **variables: str) -> list[list[str]]:
    """The lines of a program's output, each as its words; the program's folder for temporary files is ``folder``."""
    script = folder / "main.py"
    script.write_text(LOOK + code)
    environment = {**os.environ, "TMPDIR": str(folder), **variables}
    answer = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    return [line.split() for line in answer.stdout.splitlines()]


def test_path_is_the_same_at_each_call_and_goes_on_in_children(tmp_path):
    (tmp_path / "below.py").write_text(LOOK + "print(look())")
    child = f"subprocess.run([sys.executable, {str(tmp_path / 'below.py')!r}], check=True)"
    one, same, below = run_python(f"import subprocess\nprint(look())\nprint(look(), flush=True)\n{child}", tmp_path)
    assert one == same
    assert re.fullmatch(ID, one[0])
    assert one[1] == "-"
    assert re.fullmatch(f"{one[0]}/{ID}", below[0])
    assert below[1] == "/below.py"


def test_a_shell_between_two_programs_does_not_part_them(tmp_path):
    (tmp_path / "below.py").write_text(LOOK + "print(look())")
    command = f'sh -c "exec 3>&1; {sys.executable} {tmp_path}/below.py; true"'
    one, below = run_python(f"import os\nprint(look(), flush=True)\nos.system({command!r})", tmp_path)
    assert below[0].startswith(f"{one[0]}/")


@pytest.mark.parametrize(("method", "key"), [("fork", "+fork1"), ("spawn", "+SpawnProcess-1")])
def test_worker_of_the_same_program_is_marked(method: str, key: str, tmp_path):
    one, worker = run_python(
        "import multiprocessing\ndef show(): print(look(), flush=True)\n"
        "if __name__ == '__main__':\n    show()\n"
        f"    worker = multiprocessing.get_context({method!r}).Process(target=show)\n"
        "    worker.start()\n    worker.join()\n",
        tmp_path,
    )
    assert re.fullmatch(rf"{one[0]}\.{ID}", worker[0])
    assert worker[1] == key


PREFORKED = """
import multiprocessing, os
def show(_): return look()
if __name__ == "__main__":
    look()
    for _ in range(2):
        if os.fork() == 0:
            look()
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(show, [0])[0], flush=True)
            raise SystemExit
        os.wait()
"""


def test_workers_of_forked_children_are_told_apart(tmp_path):
    workers = run_python(PREFORKED, tmp_path)
    assert [key for _, key in workers] == ["+fork1+SpawnPoolWorker-1", "+fork2+SpawnPoolWorker-1"]
    assert len({path for path, _ in workers}) == 2


def test_a_process_reads_what_those_below_it_have_reported(tmp_path):
    code = (
        "import os\nlook()\nfor _ in range(3):\n"
        "    if os.fork() == 0:\n        report_process({'n': os.getpid()}); os._exit(0)\n    os.wait()\n"
        "reports, offset = read_reports(); print(*[one['key'] for one in reports], flush=True)\n"
        "if os.fork() == 0:\n    report_process({}); print(len(read_reports()[0]), flush=True); os._exit(0)\n"
        "os.wait(); print(*[one['key'] for one in read_reports(offset)[0]])\n"
    )
    assert run_python(code, tmp_path) == [["+fork1", "+fork2", "+fork3"], ["0"], ["+fork4"]]


def test_nothing_is_left_and_nothing_is_in_the_environment(tmp_path):
    code = "import os\nbefore = dict(os.environ)\nlook()\nassert dict(os.environ) == before\n"
    code += "from mlflow_repro.system.spool import _Process\nprint(oct(os.stat(_Process.folder).st_mode & 0o777))"
    assert run_python(code, tmp_path) == [["0o700"]]
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_what_a_killed_process_leaves_is_swept_by_a_later_one(tmp_path, monkeypatch):
    with pytest.raises(subprocess.CalledProcessError):
        run_python("import os, signal\nlook()\nos.kill(os.getpid(), signal.SIGKILL)", tmp_path)
    code = "from mlflow_repro.system.spool import sweep_launches\nlook()\nprint(len(sweep_launches()))"
    assert run_python(code, tmp_path) == [["1"]]
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


def test_the_reports_of_a_launch_have_a_bound(tmp_path):
    code = (
        "import os\nfrom mlflow_repro.system import spool\nlook()\nspool.SIZE_LIMIT = 20_000\n"
        "for _ in range(50): report_process({'x': 'y' * 1000})\n"
        "print(os.path.getsize(os.path.join(spool._Process.folder, 'processes.jsonl')))"
    )
    assert 20_000 <= int(run_python(code, tmp_path)[0][0]) < 22_000


@pytest.mark.parametrize("folder", ["missing", "of another user", "open to others", "a link"])
def test_a_folder_that_is_not_ours_is_not_used(tmp_path, folder, monkeypatch):
    """The name can be guessed: whoever makes it first must be this user, and nobody else may look into it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = Path(spool._folder_of(spool.this_process()))
    if folder == "open to others":
        path.mkdir()
        path.chmod(0o777)
    elif folder == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "elsewhere")
    elif folder == "of another user":
        path.mkdir(mode=0o700)
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert not spool._is_ours(str(path))


def test_a_line_that_was_cut_or_made_up_is_passed_over(tmp_path):
    code = (
        "import os\nfrom mlflow_repro.system import spool\nlook()\n"
        "path = os.path.join(spool._Process.folder, 'processes.jsonl')\n"
        "good = json.dumps({'id': '1-1', 'path': process_path() + '.' + 16 * '0', 'key': '+fork1'})\n"
        "lines = ['[]', 'null', '{\"path\": 3}', '{\"id\": ', good, good[:20]]\n"
        "with open(path, 'a') as file: file.write('\\n'.join(lines))\n"
        "print(len(read_reports()[0]))"
    )
    assert run_python(code, tmp_path) == [["1"]]


def test_the_search_for_ancestors_ends_at_the_tool(tmp_path):
    """What the tool launches begins a launch of its own, also where the tool's own process has the plugin."""
    (tmp_path / "below.py").write_text(LOOK + "print(look())")
    code = (
        "import subprocess, os\nfrom mlflow_repro.system.spool import ABOVE_VARIABLE, this_process\nlook()\n"
        f"environment = {{**os.environ, ABOVE_VARIABLE: this_process()}}\n"
        f"subprocess.run([sys.executable, {str(tmp_path / 'below.py')!r}], check=True, env=environment)"
    )
    ((path, key),) = run_python(code, tmp_path)
    assert re.fullmatch(ID, path)
    assert key == "-"
