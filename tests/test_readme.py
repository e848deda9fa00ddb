"""The way that the README shows, from a clone to the report in MLflow's UI, with nothing but what it says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from queue import Empty, Queue

import pytest
from conftest import heed_interrupts

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_the_first_commands_are_a_session_that_there_is():
    """They make a venv, install two tools and call a session, whose arguments examples/demo.py knows."""
    first, shown, *_ = re.findall(r"^```sh\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    *tools, session = first.strip().split(" && ")
    assert tools == ["python3 -m venv .venv", ".venv/bin/pip install -q nox uv"]
    assert shlex.split(session) == [".venv/bin/nox", "-s", "demo"]
    assert shlex.split(shown) == [".venv/bin/nox", "-s", "demo", "--", "--ui"]
    sessions = (ROOT / "noxfile.py").read_text().partition("def demo(")[2].partition("@nox.session")[0]
    assert '"examples/demo.py", *session.posargs, interrupt_timeout=' in sessions


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_demo_ends_at_a_report_that_a_browser_gets(tmp_path: Path):
    """What that session runs, here in the environment of the tests: it prints an address, and the report is there."""
    demo = [sys.executable, "-u", str(ROOT / "examples" / "demo.py"), "--ui"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    process = subprocess.Popen(
        demo,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - no thread has been started yet
    )
    lines: Queue[str] = Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in process.stdout], daemon=True).start()
    said: list[str] = []
    try:
        while not said or not said[-1].startswith("Ctrl-C"):
            try:
                said.append(lines.get(timeout=120).rstrip())
            except Empty:
                pytest.fail("\n".join(said))
        assert "Runs equal: True" in said
        (report,) = [line.split()[-1] for line in said if line.startswith("Its report:")]
        server, _, run_id = re.fullmatch(
            r"(http://127.0.0.1:\d+)/#/experiments/(\d+)/runs/(\w+)/artifacts/\S+", report
        ).groups()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{server}/get-artifact?path=repro%2Freport.html&run_uuid={run_id}", timeout=30) as answer:
            assert "<strong>IDENTICAL</strong>" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert list(tmp_path.glob("mlflow-repro-demo-*")) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
