"""The house rules that a machine can check: which file imports which, and what an import costs."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_repro

ROOT = Path(mlflow_repro.__file__).parent
PACKAGE = ROOT.name

# A unit is a module or a subpackage of mlflow_repro; "" is the package's own __init__.
FLOORS = {
    0: {
        "arguments",
        "cachedir",
        "causes",
        "changes",
        "curves",
        "environments",
        "errors",
        "giturl",
        "grading",
        "harmless",
        "leftovers",
        "mlproject",
        "model",
        "moments",
        "options",
        "outcomes",
        "pins",
        "plain",
        "proofs",
        "pyargv",
        "quoting",
        "recorded",
        "redact",
        "rules",
        "runtree",
        "searchpath",
        "secretfiles",
        "section",
        "tempfolders",
        "variables",
    },
    1: {"compare", "env_choice", "explain", "isolation", "plan", "readiness", "report"},
    2: {
        "artifacts",
        "background",
        "backends",
        "capture",
        "clones",
        "config",
        "digests",
        "environment",
        "fetching",
        "fileorder",
        "gitrepo",
        "gittree",
        "histories",
        "importing",
        "launch",
        "launch_worker",
        "lineage",
        "loopback",
        "notebook",
        "prediction_worker",
        "project",
        "pythons",
        "restoring",
        "seeding",
        "store_schema",
        "tracking",
        "treediff",
        "uv",
    },
    3: {
        "",
        "annotating",
        "artifact_outcomes",
        "autologging",
        "cli",
        "commands",
        "datafiles",
        "explaining",
        "history_outcomes",
        "isolate",
        "judging",
        "plugin",
        "predictions",
        "rebuild",
        "recasting",
        "recorder",
        "recording",
        "redirection",
        "reference",
        "relaunch",
        "repeating",
        "reporting",
        "reproduce",
        "tree_judging",
        "watching",
        "stress",
        "trial_options",
        "trying",
        "testing",
    },
}
FLOOR_OF = {unit: floor for floor, units in FLOORS.items() for unit in units}
ARROWS_WITHIN_A_FLOOR = {
    ("readiness", "plan"),
    ("isolation", "explain"),  # what it ranks, this proves
    ("capture", "gitrepo"),
    ("clones", "gitrepo"),
    ("fetching", "clones"),
    ("fetching", "gitrepo"),
    ("fetching", "gittree"),
    ("importing", "capture"),
    ("importing", "gitrepo"),
    ("restoring", "fetching"),
    ("restoring", "gittree"),
    ("capture", "digests"),
    ("capture", "gittree"),
    ("gittree", "gitrepo"),
    ("launch", "gitrepo"),
    ("project", "gitrepo"),
    ("environment", "pythons"),
    ("environment", "uv"),
    ("pythons", "uv"),
    ("tracking", "store_schema"),
    ("launch_worker", "loopback"),
    ("launch", "launch_worker"),  # the two halves of one launch, on both sides of a pipe
    ("cli", "commands"),
    ("cli", "reproduce"),
    ("commands", "judging"),
    ("commands", "explaining"),
    ("commands", "isolate"),
    ("commands", "stress"),
    ("commands", "trial_options"),  # the type of the options
    ("isolate", "datafiles"),
    ("isolate", "explaining"),
    ("isolate", "judging"),
    ("isolate", "rebuild"),
    ("isolate", "trial_options"),
    ("isolate", "trying"),
    ("stress", "trial_options"),
    ("stress", "trying"),
    ("trial_options", "reproduce"),
    ("trying", "judging"),
    ("trying", "reproduce"),
    ("trying", "trial_options"),
    ("recasting", "rebuild"),
    ("reproduce", "recasting"),
    ("explaining", "judging"),
    ("explaining", "reference"),
    ("reproduce", "explaining"),
    ("cli", ""),  # the version number
    ("plugin", "recorder"),
    ("autologging", "plugin"),  # the user's switch
    ("autologging", "recorder"),
    ("recorder", "recording"),
    ("recorder", "redirection"),
    ("recording", "redirection"),
    ("commands", "tree_judging"),
    ("reference", "tree_judging"),
    ("relaunch", "redirection"),
    ("repeating", "annotating"),
    ("reproduce", "annotating"),
    ("relaunch", "tree_judging"),
    ("reproduce", "tree_judging"),
    ("tree_judging", "judging"),
    ("relaunch", "watching"),
    ("watching", "history_outcomes"),
    ("judging", "history_outcomes"),
    ("reproduce", "artifact_outcomes"),
    ("reproduce", "judging"),
    ("judging", "artifact_outcomes"),
    ("judging", "predictions"),
    ("predictions", "artifact_outcomes"),
    ("reproduce", "reference"),
    ("reproduce", "rebuild"),
    ("reproduce", "relaunch"),
    ("reproduce", "repeating"),
    ("reproduce", "reporting"),
    ("repeating", "reporting"),
    ("explaining", "tree_judging"),
    ("reporting", "annotating"),
    ("reporting", "explaining"),
    ("reporting", "judging"),
    ("reporting", "reproduce"),  # the type of the options
    ("reporting", "tree_judging"),
    ("repeating", "judging"),
    ("repeating", "reproduce"),  # the type of the options
    ("reproduce", "cli"),  # python -m mlflow_repro.reproduce
    ("", "explaining"),
    ("", "isolate"),
    ("", "stress"),
    ("testing", "reproduce"),
    ("", "autologging"),  # the public names, loaded on first use
    ("", "judging"),
    ("", "reproduce"),
}
USERS_OF_MLFLOW = {
    "artifacts",
    "autologging",
    "tracking",
    "launch_worker",
    "plugin",
    "prediction_worker",
    "recorder",
    "recording",
}
NOT_FOR_HELP = ("git", "mlflow", "numpy", "pandas", "psutil", "rich", "scipy", "sqlalchemy", "yaml")


def read_package() -> dict[str, str]:
    """The source of each module of the package by its dotted name."""
    return {
        ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path.read_text(
            encoding="utf-8"
        )
        for path in sorted(ROOT.rglob("*.py"))
    }


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported_modules(name: str, source: str, known: dict[str, str]) -> list[tuple[int, str]]:
    """Line and absolute name of every module that ``source`` imports, wherever in the file it does so."""
    found = []
    is_package = any(other.startswith(f"{name}.") for other in known)
    base = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level
            module = importlib.util.resolve_name(dots + (node.module or ""), base) if dots else str(node.module)
            targets = (f"{module}.{alias.name}" for alias in node.names)
            found += [(node.lineno, target if target in known else module) for target in targets]
    return found


def find_wrong_arrows(sources: dict[str, str]) -> list[str]:
    """Each import that breaks the floor rule, as ``module:line: reason``."""
    wrong = []
    for name, source in sources.items():
        unit = unit_of(name)
        for line, target in imported_modules(name, source, sources):
            reason = _judge_arrow(unit, target) if unit in FLOOR_OF else f"{unit} stands on no floor"
            if reason:
                wrong.append(f"{name}:{line}: {reason}")
    return wrong


def _judge_arrow(unit: str, target: str) -> str:
    top = target.partition(".")[0]
    floor = FLOOR_OF[unit]
    if top != PACKAGE:
        if top == "mlflow" and unit not in USERS_OF_MLFLOW:
            return "imports mlflow"
        if floor == 0 and top not in sys.stdlib_module_names:
            return f"floor 0 imports {top}"
        return ""
    other = unit_of(target)
    if other == unit or (unit, other) in ARROWS_WITHIN_A_FLOOR:
        return ""
    if FLOOR_OF.get(other, 99) == 0 or (floor == 3 and FLOOR_OF.get(other, 99) < 3):
        return ""
    return f"{unit or '__init__'} (floor {floor}) imports {other or '__init__'} (floor {FLOOR_OF.get(other)})"


def public_definitions(tree: ast.Module) -> list[ast.FunctionDef | ast.ClassDef]:
    """The public functions and classes of a module, and the public methods of those classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    methods = [
        node
        for owner in top
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, kinds) and not node.name.startswith("_")
    ]
    return [*top, *methods]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this Python in a process of its own, without the plugins of pytest in its environment."""
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )


SOURCES = read_package()


def test_each_module_stands_on_a_floor():
    """A new module is put on a floor here before anybody imports it."""
    assert {unit_of(name) for name in SOURCES} == set(FLOOR_OF)


def test_imports_follow_the_floors():
    """Floors 1 and 2 import floor 0; floor 3 wires; mlflow has its four users; floor 0 has the standard library."""
    assert find_wrong_arrows(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "statement", "reason"),
    [
        pytest.param("model", "from mlflow_repro.plan import PlanOptions", "imports plan", id="floor-0-to-1"),
        pytest.param("redact", "import yaml", "floor 0 imports yaml", id="floor-0-to-library"),
        pytest.param("plan", "from mlflow_repro import gitrepo", "imports gitrepo", id="floor-1-to-2"),
        pytest.param("plan", "import mlflow_repro.compare.metrics", "imports compare", id="within-floor-1"),
        pytest.param("digests", "from .launch import Launcher", "imports launch", id="relative"),
        pytest.param("compare.params", "from ..tracking import open_store", "imports tracking", id="relative-up"),
        pytest.param("seeding", "from mlflow_repro.gitrepo import run_git", "imports gitrepo", id="within-floor-2"),
        pytest.param("launch", "import mlflow.projects", "imports mlflow", id="mlflow"),
        pytest.param("report.text", "def f():\n    import mlflow", "imports mlflow", id="mlflow-in-a-function"),
        pytest.param(
            "capture.code", "from mlflow_repro.recorder import Recorder", "imports recorder", id="floor-2-to-3"
        ),
        pytest.param("recorder", "from mlflow_repro.reproduce import reproduce_run", "reproduce", id="within-floor-3"),
    ],
)
def test_checker_finds_a_planted_wrong_arrow(module: str, statement: str, reason: str):
    """The rule test is worth something only if it fails when the rule is broken."""
    name = f"{PACKAGE}.{module}"
    planted = {**SOURCES, name: SOURCES[name] + f"\n{statement}\n"}
    (found,) = set(find_wrong_arrows(planted)) - set(find_wrong_arrows(SOURCES))
    assert found.startswith(f"{name}:")
    assert reason in found


def test_checker_lets_the_allowed_arrows_pass():
    sources = {**SOURCES, f"{PACKAGE}.launch": "from mlflow_repro import gitrepo, errors\nimport psutil\n"}
    assert set(find_wrong_arrows(sources)) <= set(find_wrong_arrows(SOURCES))


def test_entry_point_module_imports_the_standard_library_only_at_its_top():
    """CAP-01: an error while the plugin's module is imported would end the user's ``import mlflow``."""
    tree = ast.parse(SOURCES[f"{PACKAGE}.plugin"])
    names = [alias.name for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names]
    assert names
    assert all(name in sys.stdlib_module_names for name in names)


def test_mlflow_is_imported_where_it_is_used():
    """CAP-37: a name that another version of MLflow lacks is one step that fails, not a module that is missing."""
    for name, source in SOURCES.items():
        for node in ast.parse(source).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not [module for module in names if module.partition(".")[0] == "mlflow"], name


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_module_is_small_and_documented(name: str):
    """Rules 13 and 15: up to 400 lines a module and 50 a function; a docstring for each public name."""
    tree = ast.parse(SOURCES[name])
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    assert len(SOURCES[name].splitlines()) <= 400
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= 50] == []
    assert ast.get_docstring(tree)
    assert [node.name for node in public_definitions(tree) if not ast.get_docstring(node)] == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-c", "import mlflow_repro"), id="import"),
        pytest.param(("-c", "from mlflow_repro import reproduce_run, Report"), id="public-names"),
        pytest.param(("-c", "import mlflow_repro.cli"), id="import-cli"),
        pytest.param(("-c", "import mlflow_repro.plugin"), id="import-plugin"),
        pytest.param(("-m", "mlflow_repro.cli", "--help"), id="help"),
        pytest.param(("-m", "mlflow_repro.cli", "reproduce", "--help"), id="reproduce-help"),
        pytest.param(("-m", "mlflow_repro.cli", "compare", "--help"), id="compare-help"),
        pytest.param(("-m", "mlflow_repro.cli", "explain", "--help"), id="explain-help"),
        pytest.param(("-m", "mlflow_repro.cli", "isolate", "--help"), id="isolate-help"),
        pytest.param(("-m", "mlflow_repro.cli", "stress", "--help"), id="stress-help"),
        pytest.param(("-m", "mlflow_repro.cli", "tolerances", "--help"), id="tolerances-help"),
        pytest.param(("-m", "mlflow_repro.cli", "completion", "--help"), id="completion-help"),
        pytest.param(("-m", "mlflow_repro.reproduce", "--help"), id="module-help"),
    ],
)
def test_import_and_help_load_nothing_heavy(arguments: tuple[str, ...]):
    """Neither ``import mlflow_repro`` nor any ``--help`` waits for mlflow, numpy, pandas or git."""
    done = python("-X", "importtime", *arguments)
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert done.returncode == 0
    assert PACKAGE in loaded
    assert sorted(loaded & set(NOT_FOR_HELP)) == []


def test_importing_the_package_loads_none_of_its_modules():
    """The plugin's package is imported inside other people's trainings: it costs them nothing until it is used."""
    done = python("-c", "import sys, mlflow_repro; print([n for n in sys.modules if n.startswith('mlflow_repro.')])")
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("mlflow_repro.cli", "--help"), id="cli"),
        pytest.param(("mlflow_repro.cli", "reproduce", "--help"), id="reproduce"),
        pytest.param(("mlflow_repro.reproduce", "--help"), id="module"),
    ],
)
def test_help_answers_within_a_third_of_a_second_of_cpu(arguments: tuple[str, ...]):
    """The least of up to five runs counts: a busy machine can only make it slower."""
    times = []
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        times.append(usage.ru_utime + usage.ru_stime)
        if times[-1] < 0.3:
            break
    assert min(times) < 0.3


def test_each_public_name_can_be_had_from_the_package():
    """``__init__`` names them as text, so nothing but this finds a name that has moved."""
    assert {name for name in mlflow_repro.__all__ if not hasattr(mlflow_repro, name)} == set()
    assert dir(mlflow_repro) == sorted(mlflow_repro.__all__)


def test_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mlflow_repro.nothing  # noqa: B018 - reading it is the point


def test_package_is_marked_as_typed():
    assert (ROOT / "py.typed").is_file()
