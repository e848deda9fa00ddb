"""What it costs to have a run recorded, and what is recorded: mlflow-repro side by side with what else does it.

Bare MLflow, MLflow with this plugin, wandb, sacred, dvclive and clearml, each in an environment of its own with the
same numpy, record the same tiny training (`peer_project/train.py`) in the same little git repository with a dirty tree
(`canaries.py`), in fresh interpreters, offline. They take turns, forwards and backwards, so that a machine whose speed
drifts is unfair to none; the first round warms caches and is dropped; medians are compared. BLAS has one thread, so
that what a tool does in the background has a core where the machine has two. Two rows record nothing: the second shows
how much is noise.

Ctrl-C ends it with the table of the rounds that were measured until then.

Usage: python benchmarks/peers.py [--quick] [--rounds N] [--envs DIR] [--only NAME,NAME]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from canaries import CHECKS, NOTE, SEED_HALF, check_stored, list_files, make_repository
from measuring import Finished, clean_environment, run_process, take_turns
from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
PLUGIN = HERE.parent
COMMON = ("numpy==2.*", "iniconfig==2.*")  # iniconfig is there to be locked: it is installed, and nobody imports it
CANARY_PACKAGES = ("numpy", "iniconfig")
TIMEOUT = 120.0
INSTALL_TIMEOUT = 900.0


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One row: what is installed, under which name `train.py` knows it, what it needs done to the repository first."""

    requirements: tuple[str, ...] = ()
    package: str = ""
    adapter: str
    prepare: tuple[str, ...] = ()


MLFLOW = f"mlflow=={importlib.metadata.version('mlflow')}"
TOOLS = {
    "nothing": Tool(adapter="nothing"),
    "nothing again": Tool(adapter="nothing"),
    "mlflow": Tool(requirements=(MLFLOW,), package="mlflow", adapter="mlflow"),
    "mlflow-repro": Tool(requirements=(MLFLOW, str(PLUGIN)), package="mlflow-repro", adapter="mlflow"),
    "wandb": Tool(requirements=("wandb==0.*",), package="wandb", adapter="wandb"),
    # sacred imports pkg_resources, which setuptools 81 took away.
    "sacred": Tool(requirements=("sacred==0.*", "setuptools<81"), package="sacred", adapter="sacred"),
    "dvclive": Tool(
        requirements=("dvclive==3.*",), package="dvclive", adapter="dvclive", prepare=("-m", "dvc", "init", "--quiet")
    ),
    "clearml": Tool(requirements=("clearml==2.*",), package="clearml", adapter="clearml"),
}
BASE, AGAIN, BARE, OURS = "nothing", "nothing again", "mlflow", "mlflow-repro"
PEERS = [name for name in TOOLS if name not in (BASE, AGAIN, BARE, OURS)]

# Offline, no telemetry, no crash reports; and whoever asks the network all the same finds nobody there.
NOWHERE = "http://127.0.0.1:9"
VARIABLES = {
    "CLEARML_OFFLINE_MODE": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "DVC_STUDIO_OFFLINE": "1",
    "ITERATIVE_DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "SENTRY_DSN": "",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"), NOWHERE),
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}


@dataclass
class Side:
    """A tool with its environment, its place (repository, home, store), and what was measured of it."""

    name: str
    tool: Tool
    python: str
    place: Path
    version: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    before: dict[Path, tuple[int, int]] = field(default_factory=dict)
    reason: str = ""
    lack: str = ""
    is_stopped: bool = False
    samples: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    grades: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the place. Raises `subprocess.SubprocessError`."""
        for folder in ("home", "store"):
            (self.place / folder).mkdir(parents=True)
        make_repository(self.place)
        if self.tool.prepare:
            self.run(*self.tool.prepare)
        code = (
            "import importlib.metadata as m, json, sys\n"
            "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
        )
        names = [*CANARY_PACKAGES, *([self.tool.package] if self.tool.package else [])]
        self.packages = json.loads(self.run("-c", code, *names).output)
        self.version = self.packages.pop(self.tool.package, "")
        self.before = list_files(self.place)

    def run(self, *arguments: str) -> Finished:
        """Run this side's Python in the repository. Raises `subprocess.SubprocessError`."""
        home, store = self.place / "home", self.place / "store"
        places = {
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "MLFLOW_TRACKING_URI": f"sqlite:///{store}/mlflow.db",
            "SACRED_STORE": str(store),
            "WANDB_DIR": str(store),
        }
        with (self.place / "stderr.log").open("w") as log:
            return run_process(
                [self.python, *arguments],
                variables={**VARIABLES, **places},
                cwd=self.place / "repo",
                timeout=TIMEOUT,
                stderr=log,
            )

    def explain(self, error: Exception) -> str:
        """Why it does not work, in one line."""
        if isinstance(error, subprocess.TimeoutExpired):
            return f"no end after {TIMEOUT:.0f} s"
        log = self.place / "stderr.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return lines[-1].strip() if lines else f"{type(error).__name__}: {error}"


def make_environment(folder: Path, requirements: Sequence[str]) -> str:
    """The Python of an environment that has ``requirements``, made by uv. Raises `subprocess.SubprocessError`."""
    uv = shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))
    if uv is None:
        raise FileNotFoundError("uv is not installed: pip install uv")
    python = str(folder / "bin" / "python")
    # Else uv would take the plugin that it built before the last change.
    options = ["--quiet", "--compile-bytecode", "--reinstall-package", OURS]
    commands = [["pip", "install", *options, "--python", python, *requirements]]
    if not os.path.exists(python):
        commands.insert(0, ["venv", "--quiet", "--python", sys.executable, str(folder)])
    for command in commands:
        subprocess.run([uv, *command], check=True, stderr=subprocess.PIPE, text=True, timeout=INSTALL_TIMEOUT)
    return python


def set_up(name: str, envs: Path, places: Path) -> Side:
    """The side called ``name``; one with a ``reason`` when it cannot be installed."""
    tool = TOOLS[name]
    side = Side(name=name, tool=tool, python="", place=places / name.replace(" ", "-"))
    try:
        # The control has the environment of what it controls.
        side.python = make_environment(envs / (tool.package or BASE), [*COMMON, *tool.requirements])
        side.prepare()
    except subprocess.CalledProcessError as error:
        side.reason = (error.stderr or "").strip().rpartition("\n")[2].strip() or side.explain(error)
    except (OSError, subprocess.SubprocessError) as error:
        side.reason = side.explain(error)
    return side


def measure_round(side: Side, *, steps: int, runs: int, is_kept: bool) -> None:
    """Measure everything of one side once. Raises `subprocess.SubprocessError`, OSError or ValueError."""
    samples: dict[str, list[float]] = defaultdict(list)
    module = "" if side.tool.adapter == BASE else f"import {side.tool.adapter}"
    samples["import"].append(side.run("-c", module).cpu)
    report = side.place.parent / f"{side.place.name}.json"

    def train(mode: str, count: int) -> Finished:
        command = ["train.py", "--tool", side.tool.adapter, "--mode", mode, "--note", NOTE, "--report", str(report)]
        return side.run(*command, "--steps", str(count), "--runs", str(runs), "--seed-half", str(SEED_HALF))

    size = sum(size for size, _ in list_files(side.place).values())
    samples["train"].append(train("train", steps).wall)
    samples["bytes"].append(sum(size for size, _ in list_files(side.place).values()) - size)
    samples["first"].append(json.loads(report.read_text())["first"])
    if not side.grades:
        side.grades = check_stored(side.place, side.before, report, side.packages)
    train("steady", steps)
    samples["step"].append(json.loads(report.read_text())["step"])
    if not side.lack:
        try:
            train("runs", steps)
        except subprocess.SubprocessError as error:
            side.lack = f"many runs in one process: {side.explain(error)}"
    for part, times in {} if side.lack else json.loads(report.read_text()).items():
        samples[f"{part} start"] += [start for start, _ in times]
        samples[f"{part} end"] += [end for _, end in times]
        samples[part] += [start + end for start, end in times]
    if is_kept:
        for name, values in samples.items():
            side.samples[name] += values


def measure(sides: dict[str, Side], *, rounds: int, steps: int, runs: int) -> None:
    """Measure all sides in turns; one that fails is said to, and left out of later rounds."""
    for number, name in take_turns(list(sides), rounds + 1):
        side = sides[name]
        if side.reason or side.is_stopped:
            continue
        print(f"round {number}, {name} ...", file=sys.stderr, flush=True)
        try:
            measure_round(side, steps=steps, runs=runs, is_kept=number > 0)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            side.is_stopped = True
            if number > 1:
                side.lack = f"round {number} and later: {side.explain(error)}"
            else:
                side.reason = side.explain(error)


def median(side: Side, name: str) -> float:
    """The middle of what was measured; NaN when nothing was."""
    return statistics.median(side.samples[name] or [math.nan])


def step_ratio(side: Side, base: Side) -> float:
    """How much slower a step is than one of the same round in a process that records nothing."""
    return statistics.median(
        ours / theirs
        for ours, theirs in zip(side.samples["step"], base.samples["step"], strict=False)  # one that failed has fewer
    )


HEADERS = (
    "tool",
    "import\nCPU s",
    "of bare\nPython",
    "first run\nms",
    "start\nms",
    "end\nms",
    "start+end\nback to\nback, ms",
    "training\nwall, s",
    "step\nratio",
    "kB a\nrun",
    *CHECKS,
)


def show(milliseconds: float) -> str:
    """A figure of the table."""
    return "-" if math.isnan(milliseconds) else f"{milliseconds:.1f}"


def make_row(side: Side, base: Side) -> list[str]:
    """The row of one tool, or its name and why there is none."""
    title = f"{side.name} {side.version}".strip()
    if side.reason:
        return [title]
    return [
        title,
        f"{median(side, 'import'):.2f}",
        f"{median(side, 'import') / median(base, 'import'):.1f}",
        f"{median(side, 'first'):.0f}",
        show(median(side, "paused start")),
        show(median(side, "paused end")),
        show(median(side, "back_to_back")),
        f"{median(side, 'train') - median(base, 'train'):+.2f}",
        f"{step_ratio(side, base):.3f}",
        f"{median(side, 'bytes') / 1000:.0f}",
        *(side.grades[name] for name in CHECKS),
    ]


def judge(sides: dict[str, Side]) -> list[str]:
    """The targets beside the figures."""
    ours, bare, base = (sides.get(name) for name in (OURS, BARE, BASE))
    if ours is None or bare is None or base is None or ours.reason or bare.reason:
        return ["the targets need the rows nothing, mlflow and mlflow-repro"]
    added = {part: median(ours, part) - median(bare, part) for part in ("paused", "back_to_back", "first")}
    imports = median(ours, "import") / median(bare, "import")
    steps = step_ratio(ours, base) / step_ratio(bare, base)
    noise = f"{step_ratio(sides[AGAIN], base):.3f}" if AGAIN in sides else "not measured"
    both = f"{added['paused']:+.1f}, back to back {added['back_to_back']:+.1f}"
    lines = [
        f"import, against bare mlflow: {imports:.3f} (target <= 1.02)",
        f"ms of start and end added to bare mlflow: {both} (target <= +10)",
        f"steady step, against bare mlflow: {steps:.3f} (target 1; nothing against nothing {noise})",
    ]
    for name in PEERS:
        peer = sides.get(name)
        if peer is not None and not peer.reason:
            theirs = {part: median(peer, part) for part in added if peer.samples[part]}
            words = ", ".join(f"{part.replace('_', ' ')} {added[part]:+.1f} : {theirs[part]:.1f}" for part in theirs)
            verdict = "met" if all(added[part] < theirs[part] for part in theirs) else "missed"
            lines.append(f"ms added by mlflow-repro : by {name}: {words} (target: fewer; {verdict})")
    return lines


def calibrate(base: Side) -> int:
    """How many steps take about a second."""
    report = base.place.parent / "calibration.json"
    base.run("train.py", "--tool", BASE, "--mode", "steady", "--report", str(report))
    return max(20, round(1000 / json.loads(report.read_text())["step"]))


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    parser.add_argument("--rounds", type=int, default=7, help="of all tools in turns, and one more that is dropped")
    parser.add_argument("--envs", type=Path, help="keep the environments of the tools in this folder")
    parser.add_argument("--only", default=",".join(TOOLS), help="these tools, separated by commas")
    options = parser.parse_args()
    clean_environment()
    names = [name for name in TOOLS if name == BASE or name in options.only.split(",")]
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-peers-", ignore_cleanup_errors=True) as folder:
        root = Path(folder)
        envs = options.envs.resolve() if options.envs else root / "envs"
        sides = {name: set_up(name, envs, root) for name in names}
        if sides[BASE].reason:
            sys.exit(f"without a bare environment nothing can be compared: {sides[BASE].reason}")
        steps = calibrate(sides[BASE])
        rounds, runs = (2, 3) if options.quick else (options.rounds, 15)
        with suppress(KeyboardInterrupt):
            measure(sides, rounds=rounds, steps=steps, runs=runs)
        rounds = max(len(side.samples["import"]) for side in sides.values())
    rows = [make_row(side, sides[BASE]) for side in sides.values()]
    print(tabulate(rows, headers=HEADERS, disable_numparse=True))
    for side in sides.values():
        if side.reason or side.lack:
            print(f"{side.name}: not measured: {side.reason or side.lack}")
    print(*judge(sides), sep="\n")
    print(
        f"{rounds} rounds of {runs} runs, {steps} steps, Python {sys.version.split()[0]}, {os.cpu_count()} cores,"
        f" load {os.getloadavg()[0]:.1f}, {time.monotonic() - begin:.0f} s"
    )


if __name__ == "__main__":
    main()
