"""Read a pickle without running it: its opcodes build inert nodes, and nothing is imported, called or looked up.

The opcodes and their effect on the stack are those that `pickletools` documents. What a pickle would call is a node
of kind ``call`` with the names of what it would call; it stays one.
"""

from __future__ import annotations

import io
import pickletools
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import TooLargeError, UnreadableError, reading
from mlflow_repro.compare.artifacts.pickle_arrays import UNORDERED, Node

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMPY_WRAPPERS = ("NumpyArrayWrapper", "NDArrayWrapper")
_NESTED = 8  # pickles inside each other, as joblib writes arrays of objects


def read_pickle(content: bytes, *, limit: int) -> Any:
    """The node of a pickle, or of a file of joblib's. Raises UnreadableError when it is neither."""
    with reading("a pickle"):
        stream = io.BytesIO(content)
        node = _Machine(stream, limit, depth=0).run()
        if stream.read(1):
            raise UnreadableError("something follows the end of the pickle")
        return node


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self, stream: io.BytesIO, limit: int, *, depth: int) -> None:
        if depth > _NESTED:
            raise TooLargeError(f"more than {_NESTED} pickles lie inside each other")
        self.stream = stream
        self.limit = limit
        self.depth = depth
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Follow the opcodes to STOP, and give what is on top of the stack then."""
        for count, (opcode, argument, _position) in enumerate(pickletools.genops(self.stream)):
            if count > self.limit:
                raise TooLargeError(f"the pickle has more than {self.limit} opcodes")
            name = opcode.name
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _VALUES:
                self.stack.append(argument)
            elif name == "STOP":
                return self.finish()
            elif name in _HANDLERS:
                _HANDLERS[name](self, argument)
            else:
                raise UnreadableError(f"opcode {name} is not known")
        raise UnreadableError("the pickle has no end")

    def finish(self) -> Any:
        """What the pickle makes. Raises UnreadableError when it makes more than one thing."""
        result = self.stack.pop()
        if self.stack:
            raise UnreadableError("the pickle leaves something on its stack")
        return result

    def discard(self, values: list[Any]) -> None:
        """Drop values, but keep what a call among them has done: to give an object its state is one way to use it."""
        for value in values:
            if isinstance(value, Node) and value.kind == "call":
                self.top().states.append(value)

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def top(self) -> Node:
        """The node on top of the stack. Raises UnreadableError when there is none."""
        node = self.stack[-1] if self.stack else None
        if not isinstance(node, Node):
            raise UnreadableError("it changes what is no object")
        return node

    def push_tuple(self, size: int) -> None:
        """Replace the upper ``size`` values by their tuple."""
        start = len(self.stack) - size
        if start < 0:
            raise UnreadableError("its stack is empty")
        items = self.stack[start:]
        del self.stack[start:]
        self.stack.append(Node("tuple", items=items))

    def push_call(self, target: Any, arguments: Any, keywords: Any = None) -> None:
        """A call; that of a set with a list is the set itself, which older protocols write so."""
        items = arguments.items if isinstance(arguments, Node) and arguments.kind == "tuple" else [arguments]
        node = Node("call", target, *items)
        if keywords is not None:
            node.pairs.append(("keywords", keywords))
        module, _, kind = node.called.rpartition(".")
        is_set = kind in UNORDERED and module in ("builtins", "__builtin__")
        if is_set and len(items) == 1 and isinstance(items[0], Node) and items[0].kind == "list":
            node = Node(kind, items=items[0].items)
        self.stack.append(node)

    def set_pairs(self, values: list[Any]) -> None:
        """Keys and values in turn, for the node on top."""
        self.top().pairs.extend(zip(values[::2], values[1::2], strict=True))

    def build(self) -> None:
        """Give the node on top its state; after a wrapper of joblib's the array itself follows in the file."""
        state = self.stack.pop()
        node = self.top()
        node.states.append(state)
        if node.called.startswith("joblib.") and node.called.rpartition(".")[2] in _NUMPY_WRAPPERS:
            self.stack[-1] = self.read_joblib_array(state)

    def read_joblib_array(self, state: Any) -> Node:
        """The array that follows its wrapper: padding, then the elements, or a pickle when they are objects."""
        import math

        from mlflow_repro.compare.artifacts.pickle_arrays import read_dtype

        if not isinstance(state, Node):
            raise UnreadableError("joblib's array has no description")
        fields = {key: value for key, value in state.pairs if isinstance(key, str)}
        shape = fields["shape"].items
        dtype = read_dtype(fields["dtype"])
        if dtype is None:
            return Node(
                "array", fields["dtype"], fields["shape"], _Machine(self.stream, self.limit, depth=self.depth + 1).run()
            )
        if fields.get("numpy_array_alignment_bytes") is not None:
            padding = self.stream.read(1)
            self.stream.read(padding[0])
        if not all(isinstance(size, int) and size >= 0 for size in shape):
            raise UnreadableError("the shape of an array is impossible")
        size = math.prod(shape) * dtype.itemsize
        content = self.stream.read(size) if size <= len(self.stream.getbuffer()) else b""
        if len(content) != size:
            raise UnreadableError("an array is cut off")
        return Node("array", fields["dtype"], fields["shape"], content, fields.get("order") == "F")


def _pop_two(machine: _Machine) -> tuple[Any, Any]:
    upper = machine.stack.pop()
    return machine.stack.pop(), upper


def _append(machine: _Machine, _argument: Any) -> None:
    value = machine.stack.pop()
    machine.top().items.append(value)


def _append_marked(machine: _Machine, _argument: Any) -> None:
    values = machine.pop_mark()
    machine.top().items.extend(values)


def _set_item(machine: _Machine, _argument: Any) -> None:
    machine.set_pairs(list(_pop_two(machine)))


def _set_items(machine: _Machine, _argument: Any) -> None:
    machine.set_pairs(machine.pop_mark())


def _make_marked(kind: str) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _argument: Any) -> None:
        values = machine.pop_mark()
        if kind == "dict":
            machine.stack.append(Node("dict"))
            machine.set_pairs(values)
        else:
            machine.stack.append(Node(kind, items=values))

    return make


def _get(machine: _Machine, argument: Any) -> None:
    machine.stack.append(machine.memo[int(argument)])


def _put(machine: _Machine, argument: Any) -> None:
    machine.memo[int(argument)] = machine.stack[-1]


def _memoize(machine: _Machine, _argument: Any) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _global(machine: _Machine, argument: Any) -> None:
    module, _, name = str(argument).partition(" ")
    machine.stack.append(Node("global", module, name))


def _stack_global(machine: _Machine, _argument: Any) -> None:
    machine.stack.append(Node("global", *_pop_two(machine)))


def _reduce(machine: _Machine, _argument: Any) -> None:
    machine.push_call(*_pop_two(machine))


def _new_object_with_keywords(machine: _Machine, _argument: Any) -> None:
    keywords = machine.stack.pop()
    machine.push_call(*_pop_two(machine), keywords)


def _inst(machine: _Machine, argument: Any) -> None:
    values = machine.pop_mark()
    _global(machine, argument)
    machine.push_call(machine.stack.pop(), Node("tuple", items=values))


def _obj(machine: _Machine, _argument: Any) -> None:
    target, *values = machine.pop_mark()
    machine.push_call(target, Node("tuple", items=values))


def _pop(machine: _Machine, _argument: Any) -> None:
    if machine.marks and machine.marks[-1] == len(machine.stack):
        machine.marks.pop()
    else:
        machine.discard([machine.stack.pop()])


def _refuse_buffer(_machine: _Machine, _argument: Any) -> None:
    raise UnreadableError("a part of what the pickle makes is kept outside of it")


def _pop_mark(machine: _Machine, _argument: Any) -> None:
    machine.discard(machine.pop_mark())


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_HANDLERS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda _machine, _argument: None,
    "FRAME": lambda _machine, _argument: None,
    "MARK": lambda machine, _argument: machine.marks.append(len(machine.stack)),
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, _argument: machine.stack.append(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _argument: machine.stack.append(Node("list")),
    "EMPTY_TUPLE": lambda machine, _argument: machine.stack.append(Node("tuple")),
    "EMPTY_DICT": lambda machine, _argument: machine.stack.append(Node("dict")),
    "EMPTY_SET": lambda machine, _argument: machine.stack.append(Node("set")),
    "LIST": _make_marked("list"),
    "TUPLE": _make_marked("tuple"),
    "DICT": _make_marked("dict"),
    "FROZENSET": _make_marked("frozenset"),
    "TUPLE1": lambda machine, _argument: machine.push_tuple(1),
    "TUPLE2": lambda machine, _argument: machine.push_tuple(2),
    "TUPLE3": lambda machine, _argument: machine.push_tuple(3),
    "APPEND": _append,
    "APPENDS": _append_marked,
    "ADDITEMS": _append_marked,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GET": _get,
    "BINGET": _get,
    "LONG_BINGET": _get,
    "PUT": _put,
    "BINPUT": _put,
    "LONG_BINPUT": _put,
    "MEMOIZE": _memoize,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_object_with_keywords,
    "INST": _inst,
    "OBJ": _obj,
    "BUILD": lambda machine, _argument: machine.build(),
    "PERSID": lambda machine, argument: machine.stack.append(Node("persistent", argument)),
    "BINPERSID": lambda machine, _argument: machine.stack.append(Node("persistent", machine.stack.pop())),
    "EXT1": lambda machine, argument: machine.stack.append(Node("extension", argument)),
    "EXT2": lambda machine, argument: machine.stack.append(Node("extension", argument)),
    "EXT4": lambda machine, argument: machine.stack.append(Node("extension", argument)),
    "NEXT_BUFFER": _refuse_buffer,
}
