"""Let the stores of a relaunch write to what is of this relaunch, and to nothing else.

Each public method of every store class is wrapped: the classes that are there, and those that are defined later. What
reads passes; what makes something new passes and is noted as this relaunch's; what writes to something passes when that
is of this relaunch. All else is held back, with an answer that a script can go on with where there is one, and is said
in the report.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay import methods
from mlflow_repro.overlay.answers import answer_held
from mlflow_repro.overlay.calls import Call, is_passing
from mlflow_repro.overlay.reading import note_read
from mlflow_repro.overlay.registry import call_registry
from mlflow_repro.overlay.targets import find_targets, fit_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.overlay.session import Session

_MARK = "_mlflow_repro_overlay"


def guard_class(cls: type, wrap: Callable[[str, Any], Any]) -> None:
    """Wrap the public methods of ``cls`` and of the classes that it has them from, each once."""
    for owner in cls.__mro__:
        if owner is object or owner.__module__ in ("typing", "abc"):
            continue
        for name, value in list(vars(owner).items()):
            is_method = callable(value) and not isinstance(value, (type, staticmethod, classmethod))
            if is_method and is_guarded(name) and not getattr(value, _MARK, False):
                replacement = wrap(name, value)
                setattr(replacement, _MARK, True)
                setattr(owner, name, replacement)


def is_guarded(name: str) -> bool:
    """True for the name of a method that others call: a public one, or one of those that delete for good."""
    return not name.startswith("_") or name.startswith("_hard_")


def guard_family(base: Any, wrap: Callable[[str, Any], Any]) -> None:
    """Wrap ``base``, all classes that derive from it, and those that will."""
    for cls in family(base):
        guard_class(cls, wrap)
    inherited = base.__dict__.get("__init_subclass__")

    def on_subclass(cls: Any, /, **options: Any) -> None:
        if inherited is None:
            super(base, cls).__init_subclass__(**options)
        else:
            inherited.__func__(cls, **options)
        guard_class(cls, wrap)

    base.__init_subclass__ = classmethod(on_subclass)


def family(base: Any) -> list[Any]:
    """A class and all that derive from it."""
    return [base, *(cls for child in base.__subclasses__() for cls in family(child))]


def wrap_store_method(session: Session, name: str, original: Any) -> Any:
    """The method ``name`` of a store, which looks at what it is asked for first."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def guarded_coroutine(self: Any, *arguments: Any, **named: Any) -> Any:
            if is_passing():
                return await original(self, *arguments, **named)
            answer = judge(session, Call(store=self, name=name, original=original, arguments=arguments, named=named))
            return await answer if inspect.isawaitable(answer) else answer

        return guarded_coroutine

    @functools.wraps(original)
    def guarded(self: Any, *arguments: Any, **named: Any) -> Any:
        if is_passing():
            return original(self, *arguments, **named)
        return judge(session, Call(store=self, name=name, original=original, arguments=arguments, named=named))

    return guarded


def judge(session: Session, call: Call) -> Any:
    """Do what was asked for, or hold it back."""
    name = call.name
    if name in methods.NEUTRAL:
        return call.do_watched()
    if name in methods.READS:
        result = call_registry(session, call) if name in methods.REGISTRY_VIEWS else call.do_watched()
        note_read(session, call, result)
        return result
    if name in methods.REGISTRY_WRITES or name in methods.REGISTRY_COMPOSITES:
        return _write_registry(session, call)
    if name in methods.MAKES:
        return _make(session, call)
    if name in methods.WRITES:
        return _write(session, call)
    return answer_held(session, call, "")


def _write_registry(session: Session, call: Call) -> Any:
    if session.allow_registry:
        return call.do()
    if call.name in methods.REGISTRY_WRITES:
        return call_registry(session, call)
    # A store that does it in its own way does it past the methods that are looked at.
    is_common = call.original.__module__ == "mlflow.store.model_registry.abstract_store"
    return call.do_watched() if is_common else answer_held(session, call, "")


def _make(session: Session, call: Call) -> Any:
    kind, *steps = methods.MAKES[call.name]
    result = call.do(**fit_arguments(session, call))
    made = result
    for step in steps:
        made = getattr(made, step)
    session.ledger.add_made(kind, scoped(call.store, kind, str(made)))
    return result


def _write(session: Session, call: Call) -> Any:
    kind = methods.WRITES[call.name]
    targets = find_targets(call, kind)
    changes: dict[str, Any] = {}
    if kind == "run":
        own = session.find_own_run(targets[0]) if targets else ""
        is_own, changes = bool(own), {} if not own or own == targets[0] else {_run_argument(call): own}
    elif call.name in ("start_trace", "log_spans", "log_spans_async"):
        is_own = all(_is_own_trace(session, call, target) for target in targets)
    else:
        is_own = bool(targets) and all(session.owns(kind, scoped(call.store, kind, target)) for target in targets)
    if not is_own:
        return answer_held(session, call, ", ".join(targets))
    result = call.do(**{**changes, **fit_arguments(session, call)})
    if call.name == "start_trace" and not targets:  # MLflow 2 makes up the id in the store
        session.ledger.add_made("trace", str(result.request_id))
    return result


def _run_argument(call: Call) -> str:
    return next(name for name in methods.ARGUMENTS["run"] if name in call.bound())


def _is_own_trace(session: Session, call: Call, trace_id: str) -> bool:
    """True for a trace of this relaunch, which one that is not in the store yet becomes."""
    if session.owns("trace", trace_id):
        return True
    try:
        call.ask("get_trace_info", trace_id)
    except Exception as error:  # noqa: BLE001 - stores have errors of their own; only this one says that it is new
        if getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
            return False
        session.ledger.add_made("trace", trace_id)
        return True
    return False


def scoped(store: Any, kind: str, name: str) -> str:
    """The name of something, with its store where another may have one of the same name: experiments are numbered."""
    if kind != "experiment":
        return name
    for attribute in ("db_uri", "root_directory"):
        place = getattr(store, attribute, None)
        if place:
            return f"{place}#{name}"
    host = getattr(store, "get_host_creds", None)
    return f"{host().host}#{name}" if host is not None else name
