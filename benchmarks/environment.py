"""What rebuilding a recorded environment takes, as ratios to MLflow's own environment managers in the same run.

One small project, numpy, scikit-learn and mlflow with everything that they need, each pinned. Two cases: the
environment was removed while the installers' caches are warm, and the environment is there already. For MLflow it is
the time of ``mlflow run`` with the manager less that with ``--env-manager local``; the project does nothing. The sides
take turns, medians are compared. A manager that is not installed (virtualenv needs pyenv) is left out.

Usage: python benchmarks/environment.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlflow_repro.environment.build import Wanted, provide_environment
from mlflow_repro.reproduce.environment import describe_current
from mlflow_repro.text.pins import parse_lock

PACKAGES = ("numpy", "scikit-learn", "mlflow")
TARGET = 3.0  # seconds, for a rebuild with a warm cache


def write_project(folder: Path) -> str:
    """A project that does nothing in an environment of pinned packages; the text of its lock."""
    folder.mkdir()
    wanted = "".join(f"{name}=={version}\n" for name, version in pick_versions().items())
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--python", sys.executable, "-"]
    lock = subprocess.run(command, input=wanted, capture_output=True, text=True, check=True).stdout
    (folder / "requirements.txt").write_text(lock)
    (folder / "python_env.yaml").write_text(
        f'python: "{platform.python_version()}"\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n'
    )
    (folder / "MLproject").write_text(
        "name: bench\npython_env: python_env.yaml\nentry_points:\n  main:\n    command: python -c pass\n"
    )
    return lock


def pick_versions() -> dict[str, str]:
    """The versions that are installed here, so that everything has wheels for this Python."""
    return {name: describe_current().distributions[name] for name in PACKAGES}


def measure_ours(root: Path, lock: str, *, is_there: bool) -> float:
    """Seconds to have the environment from a lock."""
    os.environ["MLFLOW_REPRO_CACHE"] = str(root / "ours")
    if not is_there:
        shutil.rmtree(root / "ours", ignore_errors=True)
    begin = time.perf_counter()
    provide_environment(
        Wanted(python=describe_current().python, groups=[("default", parse_lock(lock, "lock"))], versions={})
    )
    return time.perf_counter() - begin


def measure_mlflow(root: Path, manager: str, *, is_there: bool) -> float:
    """Seconds of ``mlflow run`` of the project with an environment manager."""
    place = root / f"mlflow-{manager}"
    if not is_there:
        shutil.rmtree(place, ignore_errors=True)
    command = [sys.executable, "-m", "mlflow", "run", str(root / "project"), "--env-manager", manager]
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=root,
        env={**os.environ, "MLFLOW_ENV_ROOT": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{manager}: {done.stderr[-500:]}")
    return time.perf_counter() - begin


def measure(root: Path, rounds: int) -> None:
    """Print one line for each case."""
    lock = write_project(root / "project")
    managers = []
    for manager in ("uv", "virtualenv"):
        try:
            measure_mlflow(root, manager, is_there=False)  # warms the cache
        except RuntimeError as error:
            print(f"left out: {error}", flush=True)
        else:
            managers.append(manager)
    measure_ours(root, lock, is_there=False)
    for is_there in (False, True):
        seconds: dict[str, list[float]] = {name: [] for name in ("ours", "local", *managers)}
        for _ in range(rounds):
            seconds["ours"].append(measure_ours(root, lock, is_there=is_there))
            seconds["local"].append(measure_mlflow(root, "local", is_there=True))
            for manager in managers:
                seconds[manager].append(measure_mlflow(root, manager, is_there=is_there))
        middle = {name: statistics.median(values) for name, values in seconds.items()}
        case = "there already" if is_there else "rebuilt with a warm cache"
        print(f"{case}, {len(lock.splitlines())} packages: {middle['ours']:.2f} s (target < {TARGET:g} s)", flush=True)
        for manager in managers:
            theirs = middle[manager] - middle["local"]
            ratio = f"{theirs / middle['ours']:.1f}" if theirs > 0 else "-"
            print(f"  MLflow's {manager}: {theirs:.2f} s, {ratio} times as long", flush=True)


def main() -> None:
    """Measure everything; ``--quick`` with one round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, to see that it works")
    quick = parser.parse_args().quick
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ["PATH"] = os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"]))
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-bench-") as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        measure(Path(folder), 1 if quick else 5)


if __name__ == "__main__":
    main()
