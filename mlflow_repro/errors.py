"""The obstacles: errors that carry what is wrong, what to do about it, and an exit code.

A *difference* between two runs is a value (`Finding`). An *obstacle*, something that keeps us from asking the
question at all, is one of these, raised where it is met and caught once, in `mlflow_repro.cli.main`.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process's exit status means; a documented contract for scripts and CI."""

    EQUAL = 0
    DIFFERENT = 1
    USAGE = 2
    NOT_JUDGED = 3
    LAUNCH_FAILED = 4
    UNREACHABLE = 5
    REFUSED = 6
    BUG = 70
    BROKEN_PIPE = 141


class ReproError(Exception):
    """An obstacle: ``message`` says what is wrong and where, ``hint`` what to do."""

    exit_code = ExitCode.NOT_JUDGED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(ReproError, ValueError):
    """Bad input: an option, a value, a name that does not exist where the user said it does."""

    exit_code = ExitCode.USAGE


class CannotJudgeError(ReproError):
    """The reference, the code or the environment is incomplete, so that no verdict is possible."""

    exit_code = ExitCode.NOT_JUDGED


class LaunchError(ReproError):
    """The relaunched run failed or ran out of time. ``run_id`` names the run that was kept."""

    exit_code = ExitCode.LAUNCH_FAILED

    def __init__(self, message: str, hint: str = "", *, run_id: str = "", log_tail: str = "") -> None:
        super().__init__(message, hint)
        self.run_id = run_id
        self.log_tail = log_tail


class UnreachableError(ReproError, ConnectionError):
    """The tracking store, the artifact store or the git remote cannot be reached or refuses us."""

    exit_code = ExitCode.UNREACHABLE


class RefusedError(ReproError):
    """Refused for safety: doing it could run or overwrite something that nobody asked for."""

    exit_code = ExitCode.REFUSED
