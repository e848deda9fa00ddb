"""A process that has imported mlflow, and becomes each program that a test asks for: the import takes seconds.

Reads one JSON object a line: what to run, where, and what is to go wrong; answers with its exit code. The plugin was
loaded through its entry point, switched off; in the child it is switched on, as if mlflow were imported there and then.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from preloaded import prepare_main, run_script, switch_on, warm_up

import mlflow_repro

if TYPE_CHECKING:
    from types import FrameType

OURS = os.path.dirname(mlflow_repro.__file__)
PATIENCE = 300  # seconds; the machine may be busy


class Injection:
    """Raises an exception at the k-th line of the plugin's functions that the main thread comes to for the first time.

    With k = 0 it counts them. ``where`` gets what it did, as JSON.
    """

    def __init__(self, *, error: str, at: int, where: str) -> None:
        self._error: type[BaseException] = getattr(__import__("builtins"), error)
        self._at = at
        self._where = where
        self._seen: set[tuple[str, int]] = set()

    def begin(self) -> None:
        sys.settrace(self._enter)

    def end(self) -> None:
        sys.settrace(None)
        if self._at == 0:
            self._tell({"lines": len(self._seen)})

    def _enter(self, frame: FrameType, _event: str, _: Any) -> Any:
        code = frame.f_code
        # The lines that call a guard stand outside of it; nothing goes wrong there by itself.
        is_outside = code.co_name in ("set_terminated", "_guarded") or "original" in code.co_freevars
        is_ours = code.co_filename.startswith(OURS) and code.co_name != "<module>" and not is_outside
        return self._step if is_ours else None

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        spot = (frame.f_code.co_filename, frame.f_lineno)
        if event != "line" or spot in self._seen:
            return self._step
        self._seen.add(spot)
        if len(self._seen) == self._at:
            sys.settrace(None)
            callers = []
            outer = frame
            while outer is not None and outer.f_code.co_filename.startswith(OURS):
                callers.append(outer.f_code.co_name)
                outer = outer.f_back
            self._tell({"file": os.path.relpath(spot[0], OURS), "line": spot[1], "callers": callers})
            raise self._error("injected")
        return self._step

    def _tell(self, what: dict[str, Any]) -> None:
        with open(self._where, "w", encoding="utf-8") as file:
            json.dump(what, file)


def serve() -> dict[str, Any] | None:
    """Answer until there is no more to do; in each child the case that it is to be."""
    for line in sys.stdin:
        case: dict[str, Any] = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            return case
        print(json.dumps({"code": wait(child)}), flush=True)  # noqa: T201 - the answer
    return None


def wait(child: int) -> int | None:
    """The exit code of a child, or None when it had to be killed."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return None


def become(case: dict[str, Any]) -> None:
    """Be the program ``case["script"]`` of the folder ``case["directory"]``."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(case[name], os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(case["directory"])
    os.environ.update(case["variables"])
    for name in case["unset"]:
        os.environ.pop(name, None)
    script = os.path.join(case["directory"], case["script"])
    prepare_main(script, case["arguments"])
    exec(case["setup"], {})  # noqa: S102 - a line of the test's
    if case["light"]:
        from mlflow_repro.guest.probes import SLOW_PROBES

        for name in [name for name in SLOW_PROBES if name != "code.tree"]:
            del SLOW_PROBES[name]
    injection = Injection(**case["inject"]) if case["inject"] else None
    if injection is not None:
        injection.begin()
    if case["plugin"]:
        os.environ.pop("MLFLOW_REPRO_DISABLE")
        try:
            switch_on()
        except KeyboardInterrupt:
            print("interrupted import")  # noqa: T201 - as the user's import of mlflow would be
    run_script(script)
    if injection is not None:
        injection.end()


if __name__ == "__main__":
    warm_up(sys.argv[1])
    asked = serve()
    if asked is not None:
        become(asked)
