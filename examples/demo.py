"""The main job from beginning to end: `nox -s demo`, or this script where mlflow-repro is installed.

Makes a git repository from examples/sklearn, trains a reference run from it into a SQLite store, and brings
that run back from the repository alone. Everything lies in a temporary folder; the exit code is the
reproduction's. With `--ui` (`nox -s demo -- --ui`) an `mlflow server` then shows both runs until Ctrl-C.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent / "sklearn"
SUBDIRECTORY = "python/sklearn"
NEW_MAIN = ("-c", "init.defaultBranch=main")
PORT = 5000
SERVER_STARTS = 120  # seconds, at most


def set_environment(store: str, cache: str) -> None:
    """Make the commands below do the same on every machine."""
    # With --env-manager local a project runs the `python` that comes first on PATH: let it be this one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ["MLFLOW_TRACKING_URI"] = store
    os.environ["MLFLOW_REPRO_CACHE"] = cache  # the repository is thrown away, and nothing of it is worth keeping
    # A fresh machine has no git identity, and a person's own settings (signing, hooks) have no part in this.
    os.environ["GIT_CONFIG_GLOBAL"] = os.devnull
    for role in ("AUTHOR", "COMMITTER"):
        os.environ[f"GIT_{role}_NAME"] = "demo"
        os.environ[f"GIT_{role}_EMAIL"] = "demo@example.org"


def say(text: str) -> None:
    """Print at once, so that the lines of the commands come between ours and not before them."""
    print(text, flush=True)


def run(*command: str, folder: Path) -> None:
    """Show a command as a person would type it, and run it; its failure ends the demo."""
    say(f"$ {shlex.join(command)}")
    subprocess.run(command, cwd=folder, check=True)


def make_repository(folder: Path) -> Path:
    """Put the example into a clone, push it to a bare repository, and return the bare one."""
    say("# A git repository with a project in a subdirectory, and the remote that it is pushed to")
    bare, clone = folder / "remote.git", folder / "clone"
    run("git", *NEW_MAIN, "init", "--quiet", "--bare", "remote.git", folder=folder)
    run("git", *NEW_MAIN, "init", "--quiet", "clone", folder=folder)
    say("$ cd clone")
    run("git", "remote", "add", "origin", str(bare), folder=clone)
    say(f"$ mkdir -p {SUBDIRECTORY} && cp -r {shlex.quote(str(EXAMPLE))}/. {SUBDIRECTORY}")
    shutil.copytree(EXAMPLE, clone / SUBDIRECTORY, ignore=shutil.ignore_patterns("__pycache__"))
    run("git", "add", ".", folder=clone)
    run("git", "commit", "--quiet", "-m", "Add the sklearn example", folder=clone)
    run("git", "push", "--quiet", "origin", "HEAD", folder=clone)
    return bare


def train_reference(folder: Path) -> str:
    """Train by `mlflow run`, show what it prints, and return the run id that it names."""
    say("\n# The reference run: an ordinary `mlflow run`; the plugin is installed, and that is all")
    command = ["mlflow", "run", f"clone/{SUBDIRECTORY}", "--env-manager", "local"]
    command += ["-P", "max_depth=2", "-P", 'note=it\'s a "small" tree']
    say("$ cd ..")
    say(f"$ export MLFLOW_TRACKING_URI={os.environ['MLFLOW_TRACKING_URI']}")
    say(f"$ {shlex.join(command)}")
    run_id = None
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            # The dozens of migrations of a new SQLite store say nothing of the run.
            if "[alembic" not in line:
                say(line.rstrip())
            if found := re.search(r"Run \(ID '([0-9a-f]{32})'\) succeeded", line):
                run_id = found[1]
    if process.returncode or run_id is None:
        sys.exit(f"demo: the reference run failed: mlflow run ended with exit code {process.returncode}")
    return run_id


def reproduce(run_id: str, bare: Path, folder: Path) -> int:
    """Reproduce the run from the bare repository, and return the exit code: 0 when the runs are equal."""
    say("\n# Bring it back, from the remote alone")
    command = ["-m", "mlflow_repro.reproduce", "--run_id", run_id, "--uri", f"{bare.as_uri()}#{SUBDIRECTORY}"]
    command += ["--tracking_uri", os.environ["MLFLOW_TRACKING_URI"]]
    say(f"$ {shlex.join(['python', *command])}")
    code = subprocess.run([sys.executable, *command], cwd=folder, check=False).returncode
    say(f"$ echo $?\n{code}")
    return code


def show_runs(run_id: str, folder: Path) -> None:
    """Serve the store on loopback, print where the report of the reproduction of `run_id` is, and wait for Ctrl-C."""
    from mlflow import MlflowClient

    client = MlflowClient()
    (run,) = client.search_runs(["0"], f"tags.`repro.reference_run_id` = '{run_id}'", max_results=1)
    port = find_port()
    say("\n# Both runs in MLflow's UI")
    command = ["mlflow", "server", "--backend-store-uri", os.environ["MLFLOW_TRACKING_URI"], "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    # Seven more processes, which import MLflow before the server answers, for jobs that nobody has here.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    say(f"$ {shlex.join(command)}")
    log = folder / "server.log"
    with log.open("w") as output:
        # A session of its own, so that the processes that the server starts can be ended with it.
        server = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, log)
            page = f"http://127.0.0.1:{port}/#/experiments/0/runs"
            say(f"The reference:    {page}/{run_id}")
            say(f"The reproduction: {page}/{run.info.run_id}")
            say(f"Its report:       {page}/{run.info.run_id}/artifacts/repro/report.html")
            say("Ctrl-C ends the server and removes the folder.")
            server.wait()
        except KeyboardInterrupt:
            say("")
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                    os.killpg(server.pid, number)
                    server.wait(10)


def find_port() -> int:
    """5000, MLflow's own, or a free one where something listens on it."""
    with socket.socket() as one, socket.socket() as other:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", PORT))
        except OSError:
            other.bind(("127.0.0.1", 0))
            return int(other.getsockname()[1])
    return PORT


def wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until the server answers; end the demo, with what the server said, where it does not."""
    end = time.monotonic() + SERVER_STARTS
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy has a way to this machine
    while time.monotonic() < end and server.poll() is None:
        with suppress(OSError), direct.open(url, timeout=5):
            return
        time.sleep(0.2)
    sys.exit(f"demo: the server does not answer:\n{log.read_text()[-2000:]}")


def main() -> int:
    """Run the steps in a temporary folder."""
    parser = argparse.ArgumentParser(description="Train a run, bring it back, and say whether they are equal.")
    parser.add_argument("--ui", action="store_true", help="show both runs in MLflow's UI, until Ctrl-C")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        set_environment(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "cache"))
        say(f"$ cd {folder}")
        try:
            bare = make_repository(folder)
        except subprocess.CalledProcessError as error:
            sys.exit(f"demo: {error}")
        run_id = train_reference(folder)
        code = reproduce(run_id, bare, folder)
        if options.ui:
            show_runs(run_id, folder)
        return code


if __name__ == "__main__":
    sys.exit(main())
