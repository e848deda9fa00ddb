"""Plant causes in trainings, and count how often explain names and isolate proves them.

Each case is two runs of a small project (numpy, scikit-learn, Keras, plain Python) that differ in something that was
put in by hand: a parameter, a seed, the code, a data file, the number of threads, an environment variable. In five
cases there are two causes at once; in five the run differs from itself, and nothing around it may be blamed, though
most have something else that differs. Printed are

* the accuracy of explain: how often its first cause is one that was planted;
* the accuracy of isolate: how often it blames what was planted, all of it and nothing else;
* wrong blames: how often either names a cause for a run that differs from itself;
* launches against the number of factors.

The exit code is 1 when a target is missed: explain 90 %, isolate 100 %, no wrong blame.

Usage: python benchmarks/causes.py [--quick] [--only TEXT] [--no-isolate] [--no-keras]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cause_cases import CASES

if TYPE_CHECKING:
    from cause_cases import Case, Edits, Setting

    from mlflow_repro.causes import Cause
    from mlflow_repro.proofs import Isolation

PROJECTS = Path(__file__).resolve().parent / "cause_projects"
_IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "init.defaultBranch=main")
_OF_ITSELF = ("nondeterminism", "hash_seed", "time")
_FIXED = {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
_SCRUBBED = ("LC_", "PYTHONHASHSEED", "PYTHONOPTIMIZE", "OMP_", "OPENBLAS_", "NPY_", "TZ", "MLFLOW_")
_EXPLAIN_TARGET = 0.9


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one case came out; None for what was not asked."""

    case: Case
    is_explained: bool
    is_isolated: bool | None
    is_blamed_wrongly: bool
    factors: int = 0
    launches: int = 0
    text: str = ""


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="four cases")
    parser.add_argument("--only", action="append", help="cases whose name has this text; may be repeated")
    parser.add_argument("--no-isolate", action="store_true", help="explain alone: two trainings a case")
    parser.add_argument("--no-keras", action="store_true", help="without the cases that import TensorFlow")
    arguments = parser.parse_args()
    words = arguments.only or [""]
    chosen = [case for case in CASES if any(word in case.name for word in words)]
    chosen = [case for case in chosen if case.is_quick or not arguments.quick]
    chosen = [case for case in chosen if not (arguments.no_keras and case.project == "keras")]
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-causes-") as folder:
        prepare(Path(folder))
        results = []
        for number, case in enumerate(chosen, start=1):
            begin = time.monotonic()
            result = run_case(case, Path(folder) / f"case{number}", isolates=not arguments.no_isolate)
            results.append(result)
            print(f"{_mark(result):<18}{case.name:<32}{time.monotonic() - begin:4.0f} s  {result.text}", flush=True)
    return report(results)


def prepare(folder: Path) -> None:
    """An environment that holds nothing of ours, and a store with its schema."""
    for name in list(os.environ):
        if name.startswith(_SCRUBBED):
            del os.environ[name]
    os.environ.update(_FIXED, MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    os.chdir(folder)
    from mlflow import MlflowClient

    MlflowClient().search_experiments()


def run_case(case: Case, folder: Path, *, isolates: bool) -> Result:
    """Make the two runs, and ask."""
    from mlflow_repro import explain_runs, isolate_run

    shutil.copytree(PROJECTS / case.project, folder)
    git(folder, "init", "--quiet")
    apply(folder, case.edits)
    commit(folder)
    ids = [train(folder, case.one)]
    apply(folder, case.other.edits)
    if case.other.is_committed:
        commit(folder)
    ids.append(train(folder, case.other))
    causes = explain_runs(*ids)
    first = causes[0] if causes else None
    isolation = isolate_run(ids[0], ids[1], env="current") if isolates else None
    return Result(
        case=case,
        is_explained=is_expected(case, first),
        is_isolated=None if isolation is None else judge_isolation(case, isolation),
        is_blamed_wrongly=case.is_nondeterministic
        and (not is_expected(case, first) or (isolation is not None and isolation.conclusion.state == "found")),
        factors=len(isolation.factors) if isolation else 0,
        launches=len(isolation.trials) if isolation else 0,
        text=_describe(first, isolation),
    )


def is_expected(case: Case, first: Cause | None) -> bool:
    """Whether the first cause is one that was planted."""
    if first is None:
        return False
    if case.is_nondeterministic:
        return first.kind in _OF_ITSELF and "TZ" not in first.what
    return any(first.kind == kind and word in first.what for kind, word in case.causes)


def judge_isolation(case: Case, isolation: Isolation) -> bool:
    """Whether isolate blamed all that was planted, and nothing else; or ended as it had to."""
    conclusion = isolation.conclusion
    if isinstance(case.isolated, str):
        return conclusion.state == case.isolated
    pairs = zip(isolation.causes, conclusion.blames, strict=False) if conclusion.state == "found" else ()
    blamed = [(cause.kind, f"{cause.what} {' '.join(blame.factors)}") for cause, blame in pairs]
    found = [any(kind == wanted and word in what for kind, what in blamed) for wanted, word in case.isolated]
    return all(found) and len(blamed) == len(case.isolated) and not conclusion.untested


def train(folder: Path, setting: Setting) -> str:
    """Run the script as a user does; the id of the run."""
    from mlflow import MlflowClient

    outside = folder.with_name(f"{folder.name}-data")
    outside.mkdir(exist_ok=True)
    for name, text in setting.outside.items():
        (outside / name).write_text(text, encoding="utf-8")
    words = [word.replace("OUTSIDE", str(outside)) for word in setting.arguments]
    command = [sys.executable, setting.script, *words]
    client = MlflowClient()
    known = {run.info.run_id for run in client.search_runs(["0"])}
    subprocess.run(command, cwd=folder, env={**os.environ, **setting.variables}, check=True, capture_output=True)
    (new,) = {run.info.run_id for run in client.search_runs(["0"])} - known
    return new


def apply(folder: Path, edits: Edits) -> None:
    """Replace text in files, or write them."""
    for name, edit in edits.items():
        path = folder / name
        if isinstance(edit, str):
            path.write_text(edit, encoding="utf-8")
            continue
        text = path.read_text(encoding="utf-8")
        if edit[0] not in text:
            raise ValueError(f"{name} has no {edit[0]!r}")
        path.write_text(text.replace(*edit), encoding="utf-8")


def commit(folder: Path) -> None:
    """Commit everything."""
    git(folder, "add", "--all")
    git(folder, *_IDENTITY, "commit", "--quiet", "--allow-empty", "--message", "change")


def git(folder: Path, *arguments: str) -> None:
    """Run git in ``folder``."""
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def report(results: list[Result]) -> int:
    """Print the figures; 1 when a target is missed."""
    planted = [result for result in results if not result.case.is_nondeterministic]
    unstable = [result for result in results if result.case.is_nondeterministic]
    explained = sum(result.is_explained for result in planted)
    judged = [result for result in results if result.is_isolated is not None]
    isolated = sum(bool(result.is_isolated) for result in judged)
    wrong = sum(result.is_blamed_wrongly for result in unstable)
    is_met = wrong == 0
    if planted:
        print(f"explain: {explained} of {len(planted)} first causes are right ({explained / len(planted):.0%})")
        is_met &= explained / len(planted) >= _EXPLAIN_TARGET
    if judged:
        launches, factors = sum(r.launches for r in judged), sum(r.factors for r in judged)
        print(f"isolate: {isolated} of {len(judged)} are right ({isolated / len(judged):.0%})")
        print(f"launches: {launches} for {factors} factors in {len(judged)} cases; "
              f"{sum(r.launches > r.factors + 3 for r in judged)} cases took more than n + 3")  # fmt: skip
        is_met &= isolated == len(judged)
    print(f"wrong blames: {wrong} of {len(unstable)} runs that differ from themselves")
    return 0 if is_met else 1


def _mark(result: Result) -> str:
    words = {True: "right", False: "WRONG", None: "-"}
    return f"{words[result.is_explained]}/{words[result.is_isolated]}"


def _describe(first: Cause | None, isolation: Isolation | None) -> str:
    text = f"{first.confidence:.0%} {first.kind}: {first.what}" if first else "no cause"
    if isolation is None:
        return text
    return f"{text} | {isolation.conclusion.state}, {len(isolation.trials)} launches, {len(isolation.factors)} factors"


if __name__ == "__main__":
    sys.exit(main())
