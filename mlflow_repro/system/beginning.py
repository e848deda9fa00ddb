"""What this process began with: its environment, and when. What a program makes of it later changes neither.

A library reads its variables when it is loaded, Python its own before anything else: what is set afterwards has no
effect, and in a relaunch, which is given what was recorded, it would have one.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_KERNEL_FILE = "/proc/self/environ"
_environ: dict[str, str] = {}
_times: list[float] = []


def remember_beginning(environ: Mapping[str, str] | None = None) -> None:
    """Note the environment and the time, once. Called when the plugin is loaded. Raises nothing.

    ``environ`` is for one who knows better than the kernel what the process began with.
    """
    if not _times:
        _times.append(time.time())
        _environ.update(environ or _read_kernels() or os.environ)


def first_environ() -> Mapping[str, str]:
    """The environment that the process was started with; where the kernel does not keep it, that of the first call.

    In a forked process it is that of the process that was started.
    """
    remember_beginning()
    return _environ


def first_time() -> float:
    """When the plugin was loaded, in seconds since 1970."""
    remember_beginning()
    return _times[0]


def _read_kernels() -> dict[str, str]:
    """The environment as the kernel was given it (Linux); empty where it does not tell, or a title stands over it."""
    try:
        with open(_KERNEL_FILE, "rb") as file:
            content = file.read()
    except OSError:
        return {}
    pairs = [os.fsdecode(part).partition("=") for part in content.split(b"\0") if part]
    return {name: value for name, _, value in pairs} if all(equals for _, equals, _ in pairs) else {}
