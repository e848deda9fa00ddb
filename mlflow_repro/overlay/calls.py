"""One call of a store's method, and how far what it calls in turn is looked at."""

from __future__ import annotations

import functools
import inspect
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

# A store's method calls others of its own: what one that may write calls, may write.
_is_passing: ContextVar[bool] = ContextVar("mlflow_repro_is_passing", default=False)
# A method whose doings are known; what a client sends past all of them is looked at on its way to the server.
_is_known: ContextVar[bool] = ContextVar("mlflow_repro_is_known", default=False)

# What is asked of a run meanwhile is where its artifacts are.
_is_locating: ContextVar[bool] = ContextVar("mlflow_repro_is_locating", default=False)


def is_passing() -> bool:
    """True inside of a call that may do what it likes."""
    return _is_passing.get()


def is_known() -> bool:
    """True inside of a call of which is known what it does."""
    return _is_known.get()


def is_locating() -> bool:
    """True while a client asks the store where the artifacts of a run are."""
    return _is_locating.get()


def locating(function: Callable[..., Any]) -> Callable[..., Any]:
    """A client's method that asks where the artifacts of a run are."""

    @functools.wraps(function)
    def located(*arguments: Any, **named: Any) -> Any:
        with passing(_is_locating):
            return function(*arguments, **named)

    return located


@contextmanager
def passing(flag: ContextVar[bool] = _is_passing) -> Iterator[None]:
    """Let everything that is called meanwhile pass."""
    token = flag.set(True)
    try:
        yield
    finally:
        flag.reset(token)


@contextmanager
def known() -> Iterator[None]:
    """Let requests to the server pass meanwhile."""
    with passing(_is_known):
        yield


@functools.lru_cache(maxsize=1_000)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of the method ``name`` of ``store``, as it was made."""

    store: Any
    name: str
    original: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    def bound(self) -> dict[str, Any]:
        """The arguments by their names; raises the TypeError that the call itself would."""
        call = _signature(self.original).bind(self.store, *self.arguments, **self.named)
        names = list(call.arguments)[1:]
        flat = {name: call.arguments[name] for name in names}
        parameters = call.signature.parameters
        for name in names:
            if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                flat.update(flat.pop(name))
        return flat

    def do(self, **changes: Any) -> Any:
        """Do it, with some arguments other than they were. What it calls may do what it likes."""
        with passing(), known():
            return self._do(changes)

    def do_watched(self) -> Any:
        """Do it; what it calls in turn is looked at as well."""
        with known():
            return self._do({})

    def ask(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What another method of the store answers, unnoted."""
        with passing(), known():
            return getattr(self.store, name)(*arguments, **named)

    def _do(self, changes: Mapping[str, Any]) -> Any:
        if not changes:
            return self.original(self.store, *self.arguments, **self.named)
        call = _signature(self.original).bind(self.store, *self.arguments, **self.named)
        call.arguments.update(changes)
        return self.original(*call.args, **call.kwargs)
