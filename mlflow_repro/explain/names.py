"""What the names in a program stand for, by its imports, assignments and functions. Read from its syntax, never run."""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    AnyFunction = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_LIMIT = 1_000_000  # characters of a file
_ROOTS = ("", "src", "lib", "python", "code")  # folders that programs put on their search path
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(eq=False)
class Scope:
    """The names of a module or a function, each with all that it is ever bound to."""

    module: Module
    outer: Scope | None = None
    names: dict[str, list[Binding]] = field(default_factory=dict)

    def find(self, name: str) -> list[Binding]:
        """What a name is bound to in the nearest scope that binds it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        return []


@dataclass(frozen=True, eq=False)
class Binding:
    """One thing that a name is bound to; ``node`` is to be understood in ``scope``.

    ``how``: it is the ``value`` of the node, an ``element`` of it, the value of an ``item`` of it, a container of it
    (``holder``), what the ``annotation`` says, the ``function`` or the ``class`` itself; or ``import``, of ``target``.
    """

    how: str
    scope: Scope
    node: ast.AST | None = None
    target: str = ""


@dataclass(eq=False)
class Module:
    """One file: its syntax, its names, and the names of the modules of which it imports everything."""

    path: str
    tree: ast.Module
    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    scopes: dict[ast.AST, Scope] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    attributes: dict[str, list[Binding]] = field(default_factory=dict)

    @property
    def top(self) -> Scope:
        """The scope of the module itself."""
        return self.scopes[self.tree]

    def scope_of(self, node: ast.AST) -> Scope:
        """The scope that a node stands in."""
        place: ast.AST | None = node
        while place is not None:
            above = self.parents.get(place)
            if place in self.scopes and (place is not node or above is None):
                return self.scopes[place]
            place = above
        return self.top


class Program:
    """The Python files of a program, by their paths, and what their names stand for."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        found = ((path, _parse(source)) for path, source in sources.items())
        self.modules = {path: _read_module(path, tree) for path, tree in found if tree is not None}
        self._known: dict[tuple[ast.AST, int], str] = {}
        for module in self.modules.values():
            self._bind_arguments(module)
        self._known.clear()

    def find_module(self, name: str, importer: str) -> Module | None:
        """The program's own module of that dotted name, as ``importer`` (a path) sees it; None for one of others."""
        if not name:
            return None
        folder = importer.rpartition("/")[0]
        above = [folder[:end] for end in range(len(folder) + 1) if end == len(folder) or folder[end] == "/"]
        for root in (*reversed(above), *_ROOTS):
            stem = f"{root}/{name.replace('.', '/')}".lstrip("/")
            for path in (f"{stem}.py", f"{stem}/__init__.py"):
                if path in self.modules and path != importer:
                    return self.modules[path]
        return None

    def reach(self, paths: Iterable[str]) -> set[str]:
        """The files that are imported when these are run, those themselves included."""
        found: set[str] = set()
        left = [path for path in paths if path in self.modules]
        while left:
            path = left.pop()
            if path in found:
                continue
            found.add(path)
            for name in self.modules[path].imports:
                parts = name.split(".")
                modules = [self.find_module(".".join(parts[:end]), path) for end in range(1, len(parts) + 1)]
                left += [module.path for module in modules if module is not None]
        return found

    def resolve(self, node: ast.AST | None, scope: Scope) -> str:
        """The dotted name of what an expression is, as its library calls it; empty where that is not known.

        The result of a call is the name of what was called with ``()`` behind it: ``pathlib.Path().glob``. Where only
        the last part is known, it begins with ``?.``.
        """
        if node is None:
            return ""
        key = node, id(scope)
        if key not in self._known:
            self._known[key] = ""  # what leads back to itself is not known
            self._known[key] = self._resolve(node, scope)
        return self._known[key]

    def _resolve(self, node: ast.AST, scope: Scope) -> str:
        if isinstance(node, ast.Name):
            return self._resolve_name(node.id, scope)
        if isinstance(node, ast.Attribute):
            return self._resolve_attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._resolve_call(node, scope)
        parts: list[ast.AST] = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):  # a path with another part
            parts = [node.left]
        elif isinstance(node, (ast.NamedExpr, ast.Await)):
            parts = [node.value]
        elif isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        return next((text for part in parts if (text := self.resolve(part, scope))), "")

    def functions(self, node: ast.AST, scope: Scope, depth: int = 6) -> Iterator[tuple[AnyFunction, Scope]]:
        """The program's own functions that an expression may be, each with the scope of its body."""
        for binding in self.bindings(node, scope) if depth else ():
            if binding.how == "function" and isinstance(binding.node, _FUNCTIONS):
                yield binding.node, binding.scope.module.scopes[binding.node]
            elif binding.how == "value" and isinstance(binding.node, (ast.Name, ast.Attribute)):
                yield from self.functions(binding.node, binding.scope, depth - 1)

    def bindings(self, node: ast.AST, scope: Scope) -> list[Binding]:
        """What a name or an attribute of the program is bound to, imports from its own modules followed."""
        if isinstance(node, ast.Name):
            return [one for binding in scope.find(node.id) for one in self._follow(binding)]
        if not isinstance(node, ast.Attribute):
            return []
        module = self._own_module(node.value, scope)
        if module is not None:
            return [one for binding in module.top.names.get(node.attr, ()) for one in self._follow(binding)]
        base = self.resolve(node.value, scope)
        if base and not base.startswith("?."):  # a library's
            return []
        own = scope.module.attributes.get(node.attr)
        every = (module.attributes.get(node.attr, ()) for module in self.modules.values())
        return own or [binding for bindings in every for binding in bindings]

    def _follow(self, binding: Binding, depth: int = 6) -> list[Binding]:
        """A binding, or what the program's own module has under the name that is imported."""
        if binding.how != "import" or not depth:
            return [binding]
        before, _, last = binding.target.rpartition(".")
        module = self.find_module(before, binding.scope.module.path)
        if module is None or last not in module.top.names:
            return [binding]
        return [one for inner in module.top.names[last] for one in self._follow(inner, depth - 1)]

    def _own_module(self, node: ast.AST, scope: Scope) -> Module | None:
        """The program's own module that an expression is."""
        for binding in self.bindings(node, scope) if isinstance(node, ast.Name) else ():
            if binding.how == "import":
                return self.find_module(binding.target, binding.scope.module.path)
        return None

    def _resolve_name(self, name: str, scope: Scope) -> str:
        bindings = [one for binding in scope.find(name) for one in self._follow(binding)]
        if not bindings:
            is_builtin = hasattr(builtins, name) and not scope.module.stars
            return f"builtins.{name}" if is_builtin else self._resolve_star(name, scope)
        found = (self._resolve_binding(binding) for binding in bindings)
        return next((text for text in found if text), "")

    def _resolve_binding(self, binding: Binding) -> str:
        if binding.how == "import":
            return binding.target
        if binding.how == "annotation":
            text = self.resolve(_plain_annotation(binding.node), binding.scope)
            return f"{text}()" if text and not text.startswith("builtins.") else ""
        return self.resolve(binding.node, binding.scope) if binding.how == "value" else ""

    def _resolve_star(self, name: str, scope: Scope) -> str:
        """A name that only ``from ... import *`` can have given."""
        for star in scope.module.stars:
            module = self.find_module(star, scope.module.path)
            if module is not None and name in module.top.names:
                return self._resolve_name(name, module.top)
        others = [star for star in scope.module.stars if self.find_module(star, scope.module.path) is None]
        return f"*{name}" if others else f"builtins.{name}" if hasattr(builtins, name) else ""

    def _resolve_attribute(self, node: ast.Attribute, scope: Scope) -> str:
        texts = (self._resolve_binding(one) for one in self.bindings(node, scope))
        found = next((text for text in texts if text), "")
        if found or self._own_module(node.value, scope) is not None:
            return found
        base = self.resolve(node.value, scope)
        return f"{base}.{node.attr}" if base and not base.startswith("?.") else f"?.{node.attr}"

    def _resolve_call(self, node: ast.Call, scope: Scope) -> str:
        name = self.resolve(node.func, scope)
        if name == "functools.partial" and node.args:
            return self.resolve(node.args[0], scope)
        if name in ("importlib.import_module", "builtins.__import__") and node.args:
            argument = node.args[0]
            return str(argument.value) if isinstance(argument, ast.Constant) else ""
        if name and not name.startswith("?."):
            return f"{name}()"
        for function, inner in self.functions(node.func, scope):
            for value in list_results(function):
                text = self.resolve(value, inner)
                if text:
                    return text
        return ""

    def _bind_arguments(self, module: Module) -> None:
        """Bind the parameters of the program's functions to what its calls give."""
        for call in [node for node in ast.walk(module.tree) if isinstance(node, ast.Call)]:
            scope = module.scope_of(call)
            for function, inner in self.functions(call.func, scope):
                named = [*function.args.posonlyargs, *function.args.args]
                is_method = isinstance(call.func, ast.Attribute) and bool(named) and named[0].arg in ("self", "cls")
                pairs = list(zip((one.arg for one in named[int(is_method) :]), call.args, strict=False))
                pairs += [(keyword.arg, keyword.value) for keyword in call.keywords if keyword.arg]
                for name, value in pairs:
                    inner.names.setdefault(name, []).append(Binding("value", scope, value))


def list_results(function: AnyFunction) -> list[ast.AST]:
    """What a function returns: the expressions, not those of functions in it."""
    if isinstance(function, ast.Lambda):
        return [function.body]
    found: list[ast.AST] = []
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            found.append(node.value)
        elif not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            left += ast.iter_child_nodes(node)
    return found


def _plain_annotation(node: ast.AST | None) -> ast.AST | None:
    """What an annotation names: ``X`` of ``X``, ``"X"``, ``X[...]`` and ``X | None``."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            return _plain_annotation(ast.parse(node.value, mode="eval").body)
        except (SyntaxError, ValueError):
            return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _plain_annotation(node.left)
    return node.value if isinstance(node, ast.Subscript) else node


def _parse(source: str) -> ast.Module | None:
    """The syntax of a file; None of one that is no Python."""
    if len(source) > _LIMIT:
        return None
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _read_module(path: str, tree: ast.Module) -> Module:
    module = Module(path=path, tree=tree)
    module.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    module.scopes[tree] = Scope(module)
    for node in ast.walk(tree):  # from outside inwards
        if isinstance(node, _FUNCTIONS):
            outer = module.scope_of(module.parents[node])
            module.scopes[node] = Scope(module, outer)
    for node in ast.walk(tree):
        _bind(module, node)
    return module


def _bind(module: Module, node: ast.AST) -> None:
    """Note what a statement binds."""
    scope = module.scope_of(node)
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        _bind_import(module, scope, node)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        how = "class" if isinstance(node, ast.ClassDef) else "function"
        _add(scope.module, node, node.name, Binding(how, scope, node))
        if not isinstance(node, ast.ClassDef):
            _bind_parameters(module.scopes[node], node)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            _bind_target(module, target, "value", node.value)
    elif isinstance(node, (ast.NamedExpr, ast.AugAssign)):
        _bind_target(module, node.target, "value", node.value)
    elif isinstance(node, ast.AnnAssign):
        _bind_target(module, node.target, "annotation", node.annotation)
        _bind_target(module, node.target, "value", node.value)
    elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        _bind_target(module, node.target, "element", node.iter)
    elif isinstance(node, ast.withitem):
        _bind_target(module, node.optional_vars, "value", node.context_expr)


def _bind_import(module: Module, scope: Scope, node: ast.Import | ast.ImportFrom) -> None:
    if isinstance(node, ast.Import):
        for name in node.names:
            module.imports.append(name.name)
            target = name.name if name.asname else name.name.partition(".")[0]
            scope.names.setdefault(name.asname or target, []).append(Binding("import", scope, target=target))
        return
    package = module.path.split("/")[: -node.level] if node.level else []
    base = ".".join([*package, *([node.module] if node.module else [])])
    for name in node.names:
        target = f"{base}.{name.name}" if base else name.name
        module.imports.append(base if name.name == "*" else target)
        if name.name == "*":
            module.stars.append(base)
        else:
            scope.names.setdefault(name.asname or name.name, []).append(Binding("import", scope, target=target))


def _bind_parameters(scope: Scope, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    arguments = node.args
    outer = scope.outer or scope
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        found = scope.names.setdefault(one.arg, [])
        if one.annotation is not None:
            found.append(Binding("annotation", outer, one.annotation))
    named = [*arguments.posonlyargs, *arguments.args]
    defaults = zip(named[len(named) - len(arguments.defaults) :], arguments.defaults, strict=True)
    for one, default in (*defaults, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)):
        if default is not None:
            scope.names[one.arg].append(Binding("value", outer, default))


def _bind_target(module: Module, target: ast.AST | None, how: str, value: ast.AST | None) -> None:
    if target is None or value is None:
        return
    if isinstance(target, ast.Subscript):
        _bind_target(module, target.value, "holder", value)
    elif isinstance(target, ast.Starred):
        _bind_target(module, target.value, how, value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        _bind_several(module, target, how, value)
    elif isinstance(target, ast.Name):
        _add(module, target, target.id, Binding(how, module.scope_of(target), value))
    elif isinstance(target, ast.Attribute):
        module.attributes.setdefault(target.attr, []).append(Binding(how, module.scope_of(target), value))


def _bind_several(module: Module, target: ast.Tuple | ast.List, how: str, value: ast.AST) -> None:
    """``a, b = x, y``; of ``for key, value in x.items()`` the value; else nothing is known but that there are names."""
    values = value.elts if isinstance(value, (ast.Tuple, ast.List)) and how == "value" else []
    for number, one in enumerate(target.elts):
        if len(values) == len(target.elts):
            _bind_target(module, one, how, values[number])
        else:
            _bind_target(module, one, "item" if how == "element" and number == len(target.elts) - 1 else "part", value)


def _add(module: Module, node: ast.AST, name: str, binding: Binding) -> None:
    """Bind a name where a node stands: in its scope, or, in the body of a class, as an attribute."""
    above = module.parents.get(node)
    while above is not None and not isinstance(above, (*_FUNCTIONS, ast.ClassDef)):
        above = module.parents.get(above)
    if isinstance(above, ast.ClassDef):
        module.attributes.setdefault(name, []).append(binding)
    else:
        binding.scope.names.setdefault(name, []).append(binding)
