"""What both benchmarks need to measure fairly: fresh interpreters that take turns, and a clean environment."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_IDENTITY = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "init.defaultBranch=main")


class Finished(NamedTuple):
    """A process that ended well: seconds of its CPU, its children's included, seconds of wall, standard output."""

    cpu: float
    wall: float
    output: str


def take_turns(sides: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Give ``(round, side)`` with every other round backwards, so that drifting speed is unfair to no side."""
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            yield number, side


def run_process(
    command: Sequence[str],
    *,
    variables: Mapping[str, str],
    cwd: Path | None = None,
    timeout: float | None = None,
    stderr: IO[str] | None = None,
) -> Finished:
    """Run ``command`` with ``variables`` added to the environment, and end what it leaves behind.

    Raises `subprocess.SubprocessError`.
    """
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, **variables},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        wall = time.perf_counter() - begin
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Finished(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall, output)


def clean_environment() -> None:
    """Take out of this process's environment what would change what is measured."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        del os.environ[name]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling modules anew each time is not what users pay


def run_git(*arguments: str, cwd: Path) -> str:
    """Run git as a person without a configuration; its standard output."""
    return subprocess.run(
        ["git", *_IDENTITY, *arguments], cwd=cwd, capture_output=True, text=True, check=True
    ).stdout.strip()
