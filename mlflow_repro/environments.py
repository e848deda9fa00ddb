"""The environment that a run is relaunched in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENTS = ("recorded", "current", "project")
"""Rebuilt from the record; the one that runs the tool; built by MLflow's own environment managers."""


@dataclass(frozen=True, kw_only=True)
class EnvironmentPlan:
    """The environment that a relaunch runs in: its kind, why it is that one, and what is needed to make it.

    ``kind`` is one of `ENVIRONMENTS`, or empty when it is not known.

    ``python`` (a version), ``packages`` (their number) and ``locks`` (index by artifact path) are those of a recorded
    environment.
    """

    kind: str = "current"
    reason: str = ""
    python: str = ""
    packages: int = 0
    locks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the launch is told of its environment, see `mlflow_repro.launch.Job`; empty for the one that runs us."""

    environment: str = ""
    import_path: tuple[str, ...] = ()
    served_artifact_root: str = ""
