"""How large the house is, and how much of it one reproduction walks through.

Prints the files of this package in which one ``reproduce`` of a run with one metric calls a function (counted by a
profiler in the tool's own process), the levels and the circles of its imports, and the sizes of its folders. Imports
for types alone do not count; those inside functions do, for they are arrows as well.

Usage: python benchmarks/house.py
"""

from __future__ import annotations

import ast
import json
import sys
import tempfile
from collections import Counter
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from measuring import clean_environment, run_git, run_process

import mlflow_repro

ROOT = Path(mlflow_repro.__file__).parent
PACKAGE = ROOT.name
TARGETS = {"entered": 60, "levels": 9, "circles": 0, "files in the root": 6, "largest folder": 15}

TRAIN = "import mlflow\nwith mlflow.start_run():\n    mlflow.log_metric('m', 1.0)\n"
WALK = f"""
import json, sys, threading
entered = set()
def note(frame, event, _):
    name = frame.f_code.co_filename
    is_function = frame.f_code.co_flags & 2  # CO_NEWLOCALS: neither a module nor a class
    if event == "call" and is_function and name.startswith({str(ROOT)!r}):
        entered.add(name)
sys.setprofile(note)
threading.setprofile(note)
from mlflow_repro.cli import main
code = main(["reproduce", "--run_id", sys.argv[1]])
sys.setprofile(None)
print(json.dumps([code, sorted(entered)]))
"""


def read_modules() -> dict[str, ast.Module]:
    """The syntax tree of each module by its dotted name."""
    return {
        ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in ROOT.rglob("*.py")
    }


def list_arrows(tree: ast.AST, known: set[str]) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(PACKAGE):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) | ({node.module} if names - known else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}.")}
        found |= list_arrows(node, known)
    return found


def count_levels(arrows: dict[str, set[str]]) -> tuple[int, int]:
    """How many modules the longest chain of imports has, and how many circles were cut to find it."""
    circles = 0
    while True:
        try:
            order = list(TopologicalSorter(arrows).static_order())
        except CycleError as error:
            circle = error.args[1]
            arrows = {name: set(targets) for name, targets in arrows.items()}
            arrows[circle[1]].discard(circle[0])
            circles += 1
        else:
            break
    levels: dict[str, int] = {}
    for name in order:
        levels[name] = 1 + max((levels[target] for target in arrows.get(name, ())), default=0)
    return max(levels.values()), circles


def count_entered(root: Path) -> set[str]:
    """The files that one reproduction of a run with one metric enters."""
    clone = root / "clone"
    clone.mkdir()
    (clone / "train.py").write_text(TRAIN)
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "one metric"]):
        run_git(*command, cwd=clone)
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"}
    run_process([sys.executable, "train.py"], variables=variables, cwd=clone)
    found = run_process(
        [sys.executable, "-c", "import mlflow; print(mlflow.search_runs(['0']).run_id[0])"], variables=variables
    )
    run_id = found.output.split()[-1]
    told = run_process([sys.executable, "-c", WALK, run_id], variables=variables, cwd=root).output
    code, entered = json.loads(told.splitlines()[-1])
    if code:
        raise SystemExit(f"the reproduction ended with {code}")
    return set(entered)


def tell(name: str, number: int) -> None:
    """Print one figure, beside its target where it has one."""
    target = f" (target <= {TARGETS[name]})" if name in TARGETS else ""
    print(f"{name}: {number:,}{target}")


def main() -> None:
    """Print all of it."""
    clean_environment()
    modules = read_modules()
    arrows = {name: list_arrows(tree, set(modules)) - {name} for name, tree in modules.items()}
    levels, circles = count_levels(arrows)
    folders = Counter(path.parent for path in ROOT.rglob("*.py"))
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-bench-") as folder:
        tell("entered", len(count_entered(Path(folder))))
    tell("levels", levels)
    tell("circles", circles)
    tell("files in the root", folders.pop(ROOT))
    tell("largest folder", max(folders.values()))
    tell("lines", sum(len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")))


if __name__ == "__main__":
    main()
