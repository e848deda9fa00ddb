"""The house rules that a machine can check: which file imports which, and what an import costs."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_repro

ROOT = Path(mlflow_repro.__file__).parent
PACKAGE = ROOT.name

# A room imports only rooms below its line; rooms on one line do not import each other.
LINES = """\
cli
commands
isolate
guest  reproduce
launch  environment  data  judging
seeding  code  store  overlay  machine  compare  plan  explain  report
values
text  system
errors
"""
LINE_OF = {room: number for number, line in enumerate(LINES.splitlines()) for room in line.split()}
DOORS = {"", "__main__", "testing"}
"""Above all rooms: the public names, and what is started by ``python -m``. Nobody imports them."""
FOR_EVERYBODY = {"__version__"}
"""What the package itself has: every import of a room loads its ``__init__`` anyway."""
USERS_OF_MLFLOW = ("store", "overlay", "launch", "guest", "judging.prediction_worker")  # the last is a process
EVERYWHERE = {"packaging"}  # reads versions; it has no dependencies, and mlflow needs it anyway
STANDARD_LIBRARY_ONLY = {"errors", "text", "values"}  # `system` asks psutil, which knows the processes of other systems
PURE = {"values", "text", "plan", "compare", "explain", "report"}
WORLD = {"fcntl", "http", "multiprocessing", "psutil", "requests", "shutil", "socket", "sqlalchemy", "sqlite3"} | {
    "ssl", "subprocess", "tempfile", "threading", "urllib.request",
}  # fmt: skip
NOT_FOR_HELP = ("git", "mlflow", "numpy", "packaging", "pandas", "psutil", "rich", "scipy", "sqlalchemy", "yaml")


def read_package() -> dict[str, str]:
    """The source of each module of the package by its dotted name."""
    return {
        ".".join((PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path.read_text(
            encoding="utf-8"
        )
        for path in sorted(ROOT.rglob("*.py"))
    }


def room_of(module: str) -> str:
    """The room that a module stands in: a folder of the package, or a file beside the folders."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "__main__"
    room = parts[1] if len(parts) > 1 else ""
    return "guest" if room == "plugin" else room  # MLflow knows that door of the guest's by this name


@functools.cache
def import_nodes(source: str) -> list[ast.Import | ast.ImportFrom]:
    """Every import in ``source``; most sources are asked for many times."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def imported_modules(name: str, source: str, known: dict[str, str]) -> list[tuple[int, str]]:
    """Line and absolute name of every module that ``source`` imports, wherever in the file it does so."""
    found = []
    is_package = any(other.startswith(f"{name}.") for other in known)
    base = name if is_package else name.rpartition(".")[0]
    for node in import_nodes(source):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        else:
            dots = "." * node.level
            module = importlib.util.resolve_name(dots + (node.module or ""), base) if dots else str(node.module)
            targets = (f"{module}.{alias.name}" for alias in node.names)
            is_package_itself = module == PACKAGE
            found += [(node.lineno, t if t in known or is_package_itself else module) for t in targets]
    return found


def find_wrong_arrows(sources: dict[str, str]) -> list[str]:
    """Each import that breaks the rule of the lines, as ``module:line: reason``."""
    return [
        f"{name}:{line}: {reason}"
        for name, source in sources.items()
        for line, target in imported_modules(name, source, sources)
        if (reason := _judge_arrow(name, target))
    ]


def _judge_arrow(module: str, target: str) -> str:
    room = room_of(module)
    if target.partition(".")[0] != PACKAGE:
        return _judge_library(module.partition(".")[2], room, target)
    if target.rpartition(".")[2] in FOR_EVERYBODY:
        return ""
    other = room_of(target)
    if other == room or LINE_OF.get(other, -1) > LINE_OF.get(room, -1):
        return ""
    return f"{room or '__init__'} imports {other or '__init__'}, which stands no lower"


def _judge_library(module: str, room: str, target: str) -> str:
    top = target.partition(".")[0]
    if top == "mlflow" and not f"{module}.".startswith(tuple(f"{user}." for user in USERS_OF_MLFLOW)):
        return "imports mlflow"
    if room in STANDARD_LIBRARY_ONLY and top not in sys.stdlib_module_names | EVERYWHERE:
        return f"{room} imports {top}, which is no part of the standard library"
    if room in PURE and not {top, target}.isdisjoint(WORLD):
        return f"{room} is pure and imports {target}"
    return ""


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


def test_each_module_stands_in_a_room():
    """A new room is put on a line here before anybody imports it."""
    assert {room_of(name) for name in SOURCES} == {*LINE_OF, *DOORS}


def test_imports_follow_the_lines():
    """There is no list of exceptions: a wrong arrow is mended by moving code."""
    assert find_wrong_arrows(SOURCES) == []


@pytest.mark.parametrize(
    ("module", "statement", "reason"),
    [
        pytest.param("values.run", "from mlflow_repro.plan.launch import PlanOptions", "imports plan", id="upwards"),
        pytest.param("text.redact", "import yaml", "text imports yaml", id="library"),
        pytest.param("values.run", "import subprocess", "values is pure", id="pure"),
        pytest.param("plan.launch", "from urllib.request import urlopen", "plan is pure", id="pure-submodule"),
        pytest.param("plan.launch", "from mlflow_repro.code import git", "imports code", id="same-line"),
        pytest.param("plan.launch", "import mlflow_repro.compare.metrics", "imports compare", id="same-line-import"),
        pytest.param("data.digests", "from ..launch import launcher", "imports launch", id="relative"),
        pytest.param("code.worktree.take", "from ...store import open_store", "imports store", id="relative-up"),
        pytest.param("plan.launch", "import mlflow.projects", "imports mlflow", id="mlflow"),
        pytest.param("report.text", "def f():\n    import mlflow", "imports mlflow", id="mlflow-in-a-function"),
        pytest.param("judging.judge", "import mlflow", "imports mlflow", id="mlflow-beside-the-worker"),
        pytest.param("guest.hooks", "from mlflow_repro.reproduce import reproduce_run", "reproduce", id="two-stories"),
        pytest.param("code.git", "from mlflow_repro.plugin import is_disabled", "imports guest", id="plugin"),
        pytest.param("commands.compare", "from mlflow_repro.cli import main", "imports cli", id="cli"),
        pytest.param("cli", "from mlflow_repro import compare_runs", "imports compare_runs", id="public-name"),
        pytest.param("cli", "from mlflow_repro.reproduce.__main__ import main", "imports __main__", id="main"),
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
    allowed = "from mlflow_repro import __version__, errors\nfrom mlflow_repro.code import git\nimport psutil, mlflow\n"
    assert find_wrong_arrows({**SOURCES, f"{PACKAGE}.launch.launcher": allowed}) == []


def test_folders_stay_small():
    """Rule 13: whoever reads the list of folders, and then that of one room, has read the design."""
    files = {folder: len(list(folder.glob("*.py"))) for folder in {path.parent for path in ROOT.rglob("*.py")}}
    assert files.pop(ROOT) <= 6
    assert {folder.name: count for folder, count in files.items() if not 3 <= count <= 15} == {}


def test_contributors_see_the_lines():
    text = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert LINES in text


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
        pytest.param(("-m", "mlflow_repro", "--help"), id="package-help"),
        pytest.param(("-m", "mlflow_repro", "compare", "--help"), id="package-compare-help"),
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
