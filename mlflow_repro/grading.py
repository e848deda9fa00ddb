"""The values of a judgement beforehand: whether a run will reproduce, from what it recorded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from mlflow_repro.errors import ExitCode
from mlflow_repro.model import SCHEMA_VERSION


class Grade(str, Enum):
    """How far one thing that a reproduction needs is there."""

    READY = "ready"
    WARNING = "warning"
    """The run can be launched again; whether the result will be the same is not certain."""
    OBSTACLE = "obstacle"
    """It cannot be launched again, or not be judged, as it is."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a reproduction needs: what of it is there, and what to do where it is not."""

    name: str
    grade: Grade
    text: str
    advice: str = ""


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Whether a run will come back, as far as its record tells."""

    run_id: str
    checks: tuple[Check, ...]

    @property
    def grade(self) -> Grade:
        """The worst of all."""
        grades = {check.grade for check in self.checks}
        return next((grade for grade in (Grade.OBSTACLE, Grade.WARNING) if grade in grades), Grade.READY)

    @property
    def exit_code(self) -> ExitCode:
        """EQUAL (0) when nothing is missing, DIFFERENT (1) with warnings, NOT_JUDGED (3) with an obstacle."""
        codes = {Grade.READY: ExitCode.EQUAL, Grade.WARNING: ExitCode.DIFFERENT, Grade.OBSTACLE: ExitCode.NOT_JUDGED}
        return codes[self.grade]

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        checks = [{**asdict(check), "grade": check.grade.value} for check in self.checks]
        return {
            "schema": SCHEMA_VERSION,
            "run_id": self.run_id,
            "grade": self.grade.value,
            "checks": checks,
            "exit_code": int(self.exit_code),
        }
