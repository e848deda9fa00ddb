"""Which process of a launch a run is made by: the path of processes that child processes inherit."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from mlflow_repro.guest.lineage import PROCESS_VARIABLE

ID = "[0-9a-f]{16}"
HEAD = "0" * 16
LOOK = "from mlflow_repro.guest.lineage import process_path as look\n"


def run_python(code: str, above: str = "") -> list[str]:
    environment = {**os.environ, PROCESS_VARIABLE: above}
    command = [sys.executable, "-c", LOOK + code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return answer.stdout.split()


def test_path_is_the_same_at_each_call_and_goes_on_in_children():
    child = "import subprocess, sys\nprint(look(), look(), flush=True)\n"
    child += f"subprocess.run([sys.executable, '-c', {LOOK + 'print(look())'!r}], check=True)"
    one, same, below = run_python(child)
    assert one == same
    assert re.fullmatch(ID, one)
    assert re.fullmatch(f"{one}/{ID}", below)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_of_the_same_program_is_marked(method: str, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        f"import multiprocessing\n{LOOK}def show(): print(look(), flush=True)\n"
        "if __name__ == '__main__':\n    show()\n"
        f"    worker = multiprocessing.get_context({method!r}).Process(target=show)\n"
        "    worker.start()\n    worker.join()\n"
    )
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    one, worker = answer.stdout.split()
    assert re.fullmatch(rf"{one}\.{ID}", worker)


@pytest.mark.parametrize("above", ["x", f"{HEAD}/", f"{HEAD}'", "/".join([HEAD] * 90), "A" * 16])
def test_what_is_no_path_is_not_gone_on_with(above: str):
    """The variable is anybody's, and what is in it is searched for in the store; the path does not grow for ever."""
    (path,) = run_python("print(look())", above)
    assert re.fullmatch(ID, path)


def test_path_above_is_gone_on_with():
    (path,) = run_python("print(look())", f"{HEAD}.{HEAD}/{HEAD}")
    assert re.fullmatch(rf"{HEAD}\.{HEAD}/{HEAD}/{ID}", path)
