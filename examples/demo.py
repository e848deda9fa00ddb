"""The main job from beginning to end: `nox -s demo`, or this script where mlflow-repro is installed.

Makes a git repository from examples/sklearn, trains a reference run from it into a SQLite store, and brings
that run back from the repository alone. Everything lies in a temporary folder; the exit code is the
reproduction's.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent / "sklearn"
SUBDIRECTORY = "python/sklearn"
NEW_MAIN = ("-c", "init.defaultBranch=main")


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


def main() -> int:
    """Run the three steps in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-demo-") as name:
        folder = Path(name).resolve()
        set_environment(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "cache"))
        say(f"$ cd {folder}")
        try:
            bare = make_repository(folder)
        except subprocess.CalledProcessError as error:
            sys.exit(f"demo: {error}")
        run_id = train_reference(folder)
        return reproduce(run_id, bare, folder)


if __name__ == "__main__":
    sys.exit(main())
