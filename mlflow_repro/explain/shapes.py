"""Which expressions of a program are sets, or hold sets: what is taken from those comes in the order of hashes."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mlflow_repro.explain.names import list_results

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.explain.names import Binding, Program, Scope

SET = "set"
VIEW = "view"
"""The keys or items of a mapping: in order themselves, and a set where two are combined."""
_EACH = "each "  # of a container whose elements, or values, are what follows
_SET_NAMES = {
    "": ("set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"),
    "builtins.": ("set", "frozenset"),
    "typing.": ("Set", "FrozenSet", "AbstractSet", "MutableSet"),
    "collections.abc.": ("Set", "MutableSet"),
}
_SETS = frozenset(module + name for module, names in _SET_NAMES.items() for name in names)
_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_SET_METHODS = ("union", "intersection", "difference", "symmetric_difference", "copy")
_SAME = ("builtins.dict", "builtins.list", "builtins.tuple", "builtins.sorted", "builtins.reversed", "copy.copy",
         "copy.deepcopy", "builtins.iter")  # fmt: skip
_ONE_OF = ("get", "pop", "setdefault", "popleft", "popitem")


class Shapes:
    """The shapes of the expressions of one program: `SET`, `VIEW`, a container of such, or empty."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[tuple[ast.AST, int], str] = {}

    def is_set(self, node: ast.AST, scope: Scope) -> bool:
        """True for a set or a frozen one, as far as that can be seen."""
        return self.find(node, scope) == SET

    def find(self, node: ast.AST | None, scope: Scope) -> str:
        """The shape of an expression."""
        if node is None:
            return ""
        key = node, id(scope)
        if key not in self._known:
            self._known[key] = ""
            self._known[key] = self._find(node, scope)
        return self._known[key]

    def _find(self, node: ast.AST, scope: Scope) -> str:
        if isinstance(node, (ast.Set, ast.SetComp)):
            return SET
        if isinstance(node, (ast.Name, ast.Attribute)):
            return _first(self._of_binding(binding) for binding in self._program.bindings(node, scope))
        if isinstance(node, ast.Call):
            return self._of_call(node, scope)
        if isinstance(node, ast.BinOp):
            sides = self.find(node.left, scope), self.find(node.right, scope)
            return SET if isinstance(node.op, _OPERATORS) and not {SET, VIEW}.isdisjoint(sides) else ""
        if isinstance(node, ast.Subscript):
            whole = self.find(node.value, scope)
            return whole if isinstance(node.slice, ast.Slice) else _inner(whole)
        return self._of_display(node, scope)

    def _of_display(self, node: ast.AST, scope: Scope) -> str:
        if isinstance(node, (ast.NamedExpr, ast.Await)):
            return self.find(node.value, scope)
        if isinstance(node, ast.IfExp):
            return _first(self.find(one, scope) for one in (node.body, node.orelse))
        if isinstance(node, ast.BoolOp):
            return _first(self.find(one, scope) for one in node.values)
        parts: list[ast.AST | None] = []
        if isinstance(node, (ast.List, ast.Tuple)):
            parts = list(node.elts)
        elif isinstance(node, ast.Dict):
            parts = list(node.values)
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            parts = [node.elt]
        elif isinstance(node, ast.DictComp):
            parts = [node.value]
        return _each(_first(self.find(part, scope) for part in parts))

    def _of_binding(self, binding: Binding) -> str:
        if binding.how == "annotation":
            return self._of_annotation(binding.node, binding.scope)
        shape = self.find(binding.node, binding.scope) if binding.how not in ("import", "function", "class") else ""
        if binding.how in ("element", "item"):
            return _inner(shape)
        if binding.how == "holder":
            return _each(shape)
        return shape if binding.how == "value" else ""

    def _of_call(self, node: ast.Call, scope: Scope) -> str:
        name = self._program.resolve(node.func, scope)
        if name in ("builtins.set", "builtins.frozenset"):
            return SET
        if name == "collections.defaultdict" and node.args:
            return _each(self._of_factory(node.args[0], scope))
        if name in ("dataclasses.field", "attrs.field", "pydantic.Field"):
            factories = [one.value for one in node.keywords if one.arg in ("default_factory", "factory")]
            return _first(self._of_factory(one, scope) for one in factories)
        if name in _SAME and node.args:
            shape = self.find(node.args[0], scope)
            return shape if shape.startswith(_EACH) or name.startswith("copy.") else ""
        results = ((value, inner) for function, inner in self._program.functions(node.func, scope)
                   for value in _results(function))  # fmt: skip
        own = _first(self._of_result(value, inner) for value, inner in results)
        return own or (self._of_method(node, node.func, scope) if isinstance(node.func, ast.Attribute) else "")

    def _of_result(self, value: ast.AST, scope: Scope) -> str:
        if isinstance(value, ast.Expression):  # what the function says that it returns
            return self._of_annotation(value.body, scope)
        return self.find(value, scope)

    def _of_method(self, node: ast.Call, method: ast.Attribute, scope: Scope) -> str:
        shape = self.find(method.value, scope)
        if method.attr in _SET_METHODS and shape:
            return shape
        if method.attr == "keys" and not node.args:
            return VIEW
        if method.attr in ("values", "items") and not node.args:
            return shape or (VIEW if method.attr == "items" else "")
        if method.attr in _ONE_OF:
            given = self.find(node.args[1], scope) if len(node.args) > 1 else ""
            return _inner(shape) or given
        return ""

    def _of_factory(self, node: ast.AST, scope: Scope) -> str:
        """The shape of what a function without arguments makes."""
        if isinstance(node, ast.Lambda):
            return self.find(node.body, scope)
        return SET if self._program.resolve(node, scope) in _SETS else ""

    def _of_annotation(self, node: ast.AST | None, scope: Scope) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                return self._of_annotation(ast.parse(node.value, mode="eval").body, scope)
            except (SyntaxError, ValueError):
                return ""
        if isinstance(node, ast.BinOp):
            return _first(self._of_annotation(one, scope) for one in (node.left, node.right))
        if not isinstance(node, ast.Subscript):
            return SET if self._program.resolve(node, scope) in _SETS or _last(node) in _SETS else ""
        outer = self._of_annotation(node.value, scope)
        inner = node.slice.elts[-1] if isinstance(node.slice, ast.Tuple) and node.slice.elts else node.slice
        shape = self._of_annotation(inner, scope)
        return outer or (shape if _last(node.value) in ("Optional", "Final", "ClassVar", "Annotated") else _each(shape))


def _results(function: ast.AST) -> list[ast.AST]:
    """What a function returns; first, as an `ast.Expression`, what it says that it returns."""
    if isinstance(function, ast.Lambda):
        return [function.body]
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return []
    said: list[ast.AST] = [ast.Expression(body=function.returns)] if function.returns is not None else []
    return [*said, *list_results(function)]


def _last(node: ast.AST | None) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _first(shapes: Iterable[str]) -> str:
    return next((shape for shape in shapes if shape), "")


def _each(shape: str) -> str:
    return f"{_EACH}{shape}" if shape else ""


def _inner(shape: str) -> str:
    return shape.removeprefix(_EACH) if shape.startswith(_EACH) else ""
