"""Lines of a Python program whose result may be another one each time it is run. Found in its syntax, never run."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mlflow_repro.explain.evidence import CodeHint

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS = {
    "time": "time.time time.time_ns time.monotonic time.perf_counter time.localtime time.gmtime time.ctime"
    " time.strftime datetime.now datetime.utcnow datetime.today date.today Timestamp.now pd.Timestamp.now",
    "entropy": "os.urandom uuid.uuid1 uuid.uuid4 secrets.token_bytes secrets.token_hex secrets.randbelow"
    " secrets.randbits secrets.choice random.SystemRandom SystemRandom",
    "files": "os.listdir os.scandir os.walk glob.glob glob.iglob iterdir rglob",
    "threads": "threading.Thread Thread ThreadPoolExecutor ProcessPoolExecutor as_completed imap_unordered"
    " multiprocessing.Pool mp.Pool Pool",
    "process": "os.getpid os.getppid id",
    "locale": "locale.getpreferredencoding sys.getfilesystemencoding sys.getdefaultencoding"
    " locale.setlocale locale.strxfrm locale.strcoll locale.getlocale locale.localeconv locale.atof",
}
_TOPIC_OF = {name: topic for topic, names in _CALLS.items() for name in names.split()}
_ENDINGS = ("datetime.now", "datetime.utcnow", "date.today", "iterdir", "rglob", "imap_unordered", "Timestamp.now")
_HARMLESS_AROUND = ("sorted", "len", "sum", "min", "max", "any", "all", "set", "frozenset")
_ORDERED_BY = ("list", "tuple", "enumerate", "iter", "next", "join", "array", "map", "zip", "DataFrame", "Series")
_LIMIT = 1_000_000  # characters of a file


def find_hints(path: str, source: str) -> list[CodeHint]:
    """The hints in one file; none in one that is no Python.

    What only measures a time for a log is told as well: the rules take it for a hint and no more.
    """
    if len(source) > _LIMIT:
        return []
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    sets = _names_of_sets(tree)
    found = {hint: None for node in ast.walk(tree) for hint in _look_at(path, node, parents, sets)}
    return list(found)


def _read_variable(node: ast.AST) -> str:
    """The name of the environment variable that an expression reads; empty where it reads none."""
    name: ast.AST | None = None
    if isinstance(node, ast.Subscript) and _dotted(node.value).endswith("environ"):
        name = node.slice
    elif isinstance(node, ast.Call) and node.args and _dotted(node.func).endswith(("environ.get", "getenv")):
        name = node.args[0]
    return name.value if isinstance(name, ast.Constant) and isinstance(name.value, str) else ""


def _look_at(path: str, node: ast.AST, parents: dict[ast.AST, ast.AST], sets: frozenset[str]) -> Iterator[CodeHint]:
    variable = _read_variable(node)
    if variable and isinstance(node, ast.expr):
        yield CodeHint(topic="variable", where=f"{path}:{node.lineno}", text=f"reads {variable}")
    if isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "__debug__"):
        yield CodeHint(topic="optimize", where=f"{path}:{node.lineno}", text="is left out by PYTHONOPTIMIZE")
    if isinstance(node, ast.Call):
        for topic, text in _look_at_call(node, parents, sets):
            yield CodeHint(topic=topic, where=f"{path}:{node.lineno}", text=text)
    elif isinstance(node, ast.Attribute) and node.attr == "encoding" and _dotted(node).startswith("sys.std"):
        yield CodeHint(topic="locale", where=f"{path}:{node.lineno}", text=f"reads {_dotted(node)}")
    elif (
        isinstance(node, (ast.For, ast.comprehension))
        and _is_set(node.iter, sets)
        and not _is_inside(node, parents, _HARMLESS_AROUND)
    ):
        yield CodeHint(topic="hash_seed", where=f"{path}:{node.iter.lineno}", text="iterates over a set")


def _look_at_call(node: ast.Call, parents: dict[ast.AST, ast.AST], sets: frozenset[str]) -> Iterator[tuple[str, str]]:
    name = _dotted(node.func)
    topic = _TOPIC_OF.get(name) or next((_TOPIC_OF[end] for end in _ENDINGS if name.endswith(f".{end}")), None)
    if topic and not (topic == "files" and _is_inside(node, parents, ("sorted", "len", "set"))):
        yield topic, f"calls {name}()"
    if name == "open" and not any(keyword.arg == "encoding" for keyword in node.keywords) and not _is_binary(node):
        yield "locale", "opens a text without an encoding"
    last = name.rpartition(".")[2]
    takes_set = any(_is_set(argument, sets) for argument in node.args)
    if name == "hash" and node.args:
        yield "hash_seed", "calls hash()"
    elif takes_set and (last in _ORDERED_BY or name == "sum"):
        yield "hash_seed", f"gives a set to {last}(), which takes it in its order"
    elif last == "pop" and isinstance(node.func, ast.Attribute) and not node.args and _is_set(node.func.value, sets):
        yield "hash_seed", "pops from a set"


def _is_binary(call: ast.Call) -> bool:
    modes = [*call.args[1:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)


def _is_inside(node: ast.AST, parents: dict[ast.AST, ast.AST], functions: tuple[str, ...]) -> bool:
    """True when a call of one of ``functions`` is what the node's expression is given to."""
    parent = parents.get(node)
    while isinstance(parent, (ast.GeneratorExp, ast.ListComp, ast.comprehension)):
        parent = parents.get(parent)
    return isinstance(parent, ast.Call) and _dotted(parent.func) in functions


def _names_of_sets(tree: ast.AST) -> frozenset[str]:
    """The names that a set is assigned to, wherever in the file; one that is assigned something else, too, stays in."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _is_set(node.value, frozenset()):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and node.value is not None and _is_set(node.value, frozenset()):
            names.update([node.target.id] if isinstance(node.target, ast.Name) else [])
    return frozenset(names)


def _is_set(node: ast.AST, sets: frozenset[str]) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    if isinstance(node, ast.Name):
        return node.id in sets
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)):
        return _is_set(node.left, sets) or _is_set(node.right, sets)
    return isinstance(node, ast.Call) and _dotted(node.func) in ("set", "frozenset")


def _dotted(node: ast.AST) -> str:
    """``a.b.c`` of an attribute or a name; of another expression its last attribute."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return f"{before}.{node.attr}" if before else node.attr
    return ""
