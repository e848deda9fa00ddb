"""Lines of a Python program whose result may be another one each time. Found in its syntax, never run."""

from __future__ import annotations

import ast
import re
from contextlib import suppress
from typing import TYPE_CHECKING, TypeGuard

from mlflow_repro.explain.calls import converts_time, find_topic, is_random_estimator, spreads_work, takes_entropy
from mlflow_repro.explain.evidence import CodeHint
from mlflow_repro.explain.names import Program
from mlflow_repro.explain.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.explain.names import Module, Scope

_UNORDERED = ("len", "any", "all", "set", "frozenset", "min", "max", "sorted", "natsorted", "sort", "unique")
_PASSES = ("list", "tuple", "map", "filter", "iter")  # what they are given goes on in its order
_TAKES_ORDER = re.compile(
    r"list|tuple|enumerate|iter|next|map|filter|zip|sum|str|repr|print|join|extend|fromkeys|Counter|deque|OrderedDict"
    r"|array|asarray|fromiter|DataFrame|Series|Index|Categorical|tensor|as_tensor|choices?|sample|chain|product"
    r"|permutations|combinations|accumulate|islice|cycle|starmap|reduce|dumps"
)
_BY_KEY = ("sorted", "min", "max", "nlargest", "nsmallest")  # ties stay as they came
_URL = re.compile(r"(?:https?|ftp|s3a?|gs|az|abfss?|hf)://")
_READS = re.compile(r"(?:.*\.)?(?:read_\w+|scan_\w+|load\w*|open|get|genfromtxt|from_csv|DataSource)")
_TEXTS = re.compile(r"builtins\.open|io\.open|os\.fdopen|pathlib\..*\.open|.*\.(?:read_text|write_text)")
_SEEDS = ("random_state", "seed", "random_seed", "rng", "generator", "revision")
_UNSEEDED = ("numpy.random.default_rng", "numpy.random.SeedSequence", "numpy.random.RandomState")
_CHOSEN = (None, False, 0, 1)  # ``n_jobs`` that starts no worker


def find_hints(path: str, source: str) -> list[CodeHint]:
    """The hints in one file; none in one that is no Python."""
    return find_program_hints({path: source})


def find_program_hints(sources: Mapping[str, str]) -> list[CodeHint]:
    """The hints in the files of a program, by their paths.

    What only measures a time for a log is told as well: the rules take it for a hint and no more.
    """
    program = Program(sources)
    shapes = Shapes(program)
    found: dict[CodeHint, None] = {}
    for module in program.modules.values():
        look = _Look(program, shapes, module)
        for node in ast.walk(module.tree):
            with suppress(RecursionError):  # an expression of a thousand parts
                found.update((hint, None) for hint in look.at(node))
    return list(found)


class _Look:
    """What the nodes of one module hint at."""

    def __init__(self, program: Program, shapes: Shapes, module: Module) -> None:
        self._program = program
        self._shapes = shapes
        self._module = module

    def at(self, node: ast.AST) -> Iterator[CodeHint]:
        scope = self._module.scope_of(node)
        line = getattr(node, "lineno", 0)
        found = [*self._at_variable(node, scope), *self._at_set(node, scope)]
        if isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "__debug__"):
            found.append(("optimize", "is left out by PYTHONOPTIMIZE"))
        elif isinstance(node, ast.Call):
            found += self._at_call(node, scope)
        elif isinstance(node, ast.Attribute) and self._program.resolve(node, scope).startswith("sys.std"):
            found += [("locale", f"reads {self._program.resolve(node, scope)}")] if node.attr == "encoding" else []
        elif isinstance(node, ast.comprehension):
            line = node.iter.lineno
        for topic, text in found:
            yield CodeHint(topic=topic, where=f"{self._module.path}:{line}", text=text)

    def _at_variable(self, node: ast.AST, scope: Scope) -> Iterator[tuple[str, str]]:
        """Environment variables that are read or set, by their names."""
        named: list[tuple[str, ast.AST | None]] = []
        if isinstance(node, ast.Subscript) and self._is_environment(node.value, scope):
            named = [("reads" if isinstance(node.ctx, ast.Load) else "sets", node.slice)]
        elif isinstance(node, ast.Compare) and self._is_environment(node.comparators[0], scope):
            named = [("reads", node.left)]
        elif isinstance(node, ast.Call):
            named = list(self._variables_of_call(node, scope))
        elif isinstance(node, ast.AugAssign) and self._is_environment(node.target, scope):
            named = [("sets", name) for name in _keys(node.value)]
        for how, name in named:
            text = self._text_of(name, scope)
            if text:
                yield ("variable" if how == "reads" else "set_variable"), f"{how} {text}"

    def _variables_of_call(self, node: ast.Call, scope: Scope) -> Iterator[tuple[str, ast.AST | None]]:
        name = self._program.resolve(node.func, scope)
        first = node.args[0] if node.args else None
        if name in ("os.environ.get", "os.getenv", "os.environ.pop", "*getenv", "*environ.get"):
            yield "reads", first
        elif name in ("os.environ.setdefault", "os.putenv"):
            yield "sets", first
            yield "reads", first if name != "os.putenv" else None
        elif name == "os.environ.update":
            yield from (("sets", key) for key in [*_keys(first), *(ast.Constant(one.arg) for one in node.keywords)])

    def _is_environment(self, node: ast.AST, scope: Scope) -> bool:
        return self._program.resolve(node, scope) in ("os.environ", "os.environb", "*environ")

    def _text_of(self, node: ast.AST | None, scope: Scope) -> str:
        """The text that an expression is: a literal one, or a name that has one; empty for others."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        values = self._program.bindings(node, scope) if isinstance(node, (ast.Name, ast.Attribute)) else []
        found = [one.node.value for one in values if one.how == "value" and isinstance(one.node, ast.Constant)]
        return next((text for text in found if isinstance(text, str)), "")

    def _at_set(self, node: ast.AST, scope: Scope) -> Iterator[tuple[str, str]]:
        """Places where the elements of a set are taken in its order."""
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            is_harmless = isinstance(node, ast.comprehension) and self._leads_to(node, (*_UNORDERED, "sum"))
            if not is_harmless and self._is_set(node.iter, scope):
                yield "hash_seed", "iterates over a set"
        elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load):
            if not isinstance(self._module.parents.get(node), ast.Set) and self._is_set(node.value, scope):
                yield "hash_seed", "unpacks a set"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Tuple, ast.List)):
            yield from [("hash_seed", "unpacks a set")] if self._is_set(node.value, scope) else []
        elif isinstance(node, (ast.FormattedValue, ast.YieldFrom)) or _is_sum(node):
            yield from [("hash_seed", "takes a set in its order")] if self._is_set(node.value, scope) else []

    def _is_set(self, node: ast.AST, scope: Scope) -> bool:
        return self._shapes.is_set(node, scope)

    def _at_call(self, node: ast.Call, scope: Scope) -> Iterator[tuple[str, str]]:
        name = self._program.resolve(node.func, scope)
        shown = name.lstrip("?.*").removeprefix("builtins.")
        seeds = [one.value for one in node.keywords if one.arg in _SEEDS]
        has_seed = any(not _is_none(value) for value in (*node.args[:1], *seeds))
        topic = find_topic(name)
        if topic == "workers":
            topic = self._topic_of_workers(node)
        elif topic == "time" and converts_time(name, len(node.args)):
            topic = "" if name == "time.gmtime" else "timezone"
        if takes_entropy(name, has_seed=has_seed):
            yield "entropy", f"calls {shown}() without a seed"
        elif name in _UNSEEDED and not has_seed:
            yield "unseeded", f"calls {shown}() without a seed"
        elif topic and not self._is_harmless(node, topic, scope):
            yield topic, f"calls {shown}()"
        elif spreads_work(name) and self._starts_workers(node) and self._draws(node, scope):
            yield "workers", f"calls {shown}() with workers"
        if topic != "network" and self._reads_url(node, name, scope):
            yield "network", f"calls {shown}() with an address"
        if _TEXTS.fullmatch(name) and not _tells_encoding(node, name):
            yield "locale", "opens a text without an encoding"
        yield from self._call_of_set(node, name, scope)

    def _call_of_set(self, node: ast.Call, name: str, scope: Scope) -> Iterator[tuple[str, str]]:
        last = name.rpartition(".")[2]
        has_key = any(one.arg == "key" for one in node.keywords)
        if name == "builtins.hash" and node.args:
            yield "hash_seed", "calls hash()"
        elif last in _BY_KEY and has_key and any(self._is_set(one, scope) for one in node.args):
            yield "hash_seed", f"gives a set to {last}() with a key, where ties stay in its order"
        elif _TAKES_ORDER.fullmatch(last) and any(self._is_set(one, scope) for one in node.args):
            if not self._leads_to(node, _UNORDERED):
                yield "hash_seed", f"gives a set to {last}(), which takes it in its order"
        elif isinstance(node.func, ast.Attribute) and last == "pop" and not node.args:
            yield from [("hash_seed", "pops from a set")] if self._is_set(node.func.value, scope) else []

    def _topic_of_workers(self, node: ast.Call) -> str:
        """Workers, threads, or nothing: how many jobs of joblib there are, and of what kind."""
        given = {one.arg: one.value for one in node.keywords}
        kinds = [
            value.value
            for name in ("prefer", "backend", "require")
            if isinstance(value := given.get(name), ast.Constant)
        ]
        if any(kind in ("threads", "threading", "sharedmem", "sequential") for kind in kinds):
            return "threads"
        jobs = given.get("n_jobs", node.args[0] if node.args else None)
        is_joblib = ast.unparse(node.func).endswith("Parallel")
        return "" if is_joblib and (jobs is None or _is_one_of(jobs, _CHOSEN)) else "workers"

    def _starts_workers(self, node: ast.Call) -> bool:
        return any(one.arg == "n_jobs" and not _is_one_of(one.value, _CHOSEN) for one in node.keywords)

    def _draws(self, node: ast.Call, scope: Scope) -> bool:
        """True when an estimator is given that draws, and no seed for it."""
        left: list[tuple[ast.AST, Scope]] = [
            (one, scope) for one in (*node.args, *(key.value for key in node.keywords))
        ]
        seen: set[ast.AST] = set()
        while left:
            one, place = left.pop()
            if one in seen:
                continue
            seen.add(one)
            if isinstance(one, (ast.Name, ast.Attribute)):
                found = self._program.bindings(one, place)
                left += [(binding.node, binding.scope) for binding in found if binding.how == "value" and binding.node]
            elif isinstance(one, ast.Call):
                is_seeded = any(key.arg in _SEEDS and not _is_none(key.value) for key in one.keywords)
                if is_random_estimator(self._program.resolve(one.func, place)) and not is_seeded:
                    return True
                left += [(inner, place) for inner in (*one.args, *(key.value for key in one.keywords))]
            elif isinstance(one, (ast.List, ast.Tuple)):
                left += [(inner, place) for inner in one.elts]
        return False

    def _reads_url(self, node: ast.Call, name: str, scope: Scope) -> bool:
        """True for a call that is given an address to read from."""
        if not _READS.fullmatch(name) or name.startswith("mlflow."):
            return False
        texts = (self._text_of(one, scope) for one in (*node.args, *(key.value for key in node.keywords)))
        return any(_URL.match(text) for text in texts if text)

    def _is_harmless(self, node: ast.Call, topic: str, scope: Scope) -> bool:
        """True for a listing that is sorted before it is used, and for what names a fixed revision."""
        if topic == "network":
            return any(one.arg == "revision" for one in node.keywords)
        if topic != "files":
            return False
        return self._leads_to(node, _UNORDERED, with_key=True) or self._is_sorted_later(node, scope)

    def _leads_to(self, node: ast.AST, functions: tuple[str, ...], *, with_key: bool = False) -> bool:
        """True when a node's elements are given to one of ``functions``, for which their order does not count."""
        inner, above = node, self._module.parents.get(node)
        while above is not None:
            if isinstance(above, ast.SetComp):
                return True
            if isinstance(above, ast.Compare):
                return isinstance(above.ops[0], (ast.In, ast.NotIn)) and above.left is not inner
            if isinstance(above, ast.Call):
                last = _last(above.func)
                has_key = any(one.arg == "key" for one in above.keywords)
                if last in functions and inner is not above.func:
                    return with_key or not has_key
                if last not in _PASSES:
                    return False
            elif not isinstance(above, (ast.GeneratorExp, ast.ListComp, ast.comprehension)):
                return False
            inner, above = above, self._module.parents.get(above)
        return False

    def _is_sorted_later(self, node: ast.Call, scope: Scope) -> bool:
        """True for a listing that gets a name, or the names of a loop, and is sorted by those."""
        above = self._module.parents.get(node)
        while isinstance(above, ast.Call) and _last(above.func) in _PASSES:
            above = self._module.parents.get(above)
        while isinstance(above, (ast.ListComp, ast.comprehension)):
            above = self._module.parents.get(above)
        if isinstance(above, ast.For) and isinstance(above.target, ast.Tuple):  # os.walk
            names = [one.id for one in above.target.elts[1:3] if isinstance(one, ast.Name)]
            return (
                len(names) > 1
                and self._is_sorted(names[0], scope)
                and (names[1] == "_" or self._is_sorted(names[1], scope))
            )
        if isinstance(above, ast.Assign) and isinstance(above.targets[0], ast.Name):
            return self._is_sorted(above.targets[0].id, scope)
        return False

    def _is_sorted(self, name: str, scope: Scope) -> bool:
        """True when a name's list is sorted in place, or is nowhere used but where its order does not count."""
        uses = [
            node
            for node in ast.walk(self._module.tree)
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load)
            and self._module.scope_of(node) is scope
        ]  # fmt: skip
        above = [self._module.parents.get(node) for node in uses]
        if any(isinstance(one, ast.Attribute) and one.attr == "sort" for one in above):
            return True
        return bool(uses) and all(self._leads_to(node, _UNORDERED, with_key=True) for node in uses)


def _is_sum(node: ast.AST) -> TypeGuard[ast.AugAssign]:
    return isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add)


def _keys(node: ast.AST | None) -> list[ast.AST | None]:
    return list(node.keys) if isinstance(node, ast.Dict) else []


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_one_of(node: ast.AST, values: tuple[object, ...]) -> bool:
    return isinstance(node, ast.Constant) and node.value in values


def _last(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _tells_encoding(node: ast.Call, name: str) -> bool:
    """True for a call that opens bytes, or a text whose encoding is given."""
    is_method = not name.startswith(("builtins.", "io.", "os."))
    if any(one.arg in ("encoding", None) for one in node.keywords):
        return True
    if name.endswith("_text"):
        return len(node.args) > int(name.endswith("write_text"))
    first = 0 if is_method else 1
    modes = [*node.args[first : first + 1], *(one.value for one in node.keywords if one.arg == "mode")]
    return len(node.args) > first + 2 or any(
        isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes
    )
