"""How a run is launched again: its code, its command, its environment, all decided before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlflow_repro.values.plain import Stored

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
    """What a launch (`mlflow_repro.launch.launcher.Job`) is told of its environment; empty for the one we run in."""

    environment: str = ""
    import_path: tuple[str, ...] = ()
    served_artifact_root: str = ""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that an entry point of an MLproject file declares."""

    name: str
    type: str = "string"
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class Project:
    """An MLproject file, or the lack of one (``has_file`` false): its entry points and its kind of environment."""

    has_file: bool = False
    name: str = ""
    environment: str = ""
    """``python_env``, ``conda_env``, ``docker_env`` or empty."""
    entry_points: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the code of a run is: a git URI without credentials, the project's folder in it, and the commit."""

    uri: str
    commit: str
    subdirectory: str = ""

    @property
    def project_uri(self) -> str:
        """``uri#subdirectory``, the form that MLflow uses."""
        return f"{self.uri}#{self.subdirectory}" if self.subdirectory else self.uri


@dataclass(frozen=True, kw_only=True)
class LaunchPlan(Stored):
    """Everything that the relaunch needs, decided before anything is done.

    ``parameters`` are the exact values of the launch parameters. ``command`` is the argument vector of a run
    that was not launched through an entry point (``python train.py 3``), else empty. ``working_directory`` is
    relative to the top of the repository. ``caveats`` say what the relaunch will not be able to put back.
    """

    reference_run_id: str
    source: Source
    entry_point: str = "main"
    parameters: Mapping[str, str] = field(default_factory=dict)
    only_declared: bool = False
    command: tuple[str, ...] = ()
    working_directory: str = ""
    experiment_name: str = "Default"
    tracking_uri: str = ""
    backend: str = "local"
    backend_config: str = ""
    env_manager: str = "local"
    environment: EnvironmentPlan = field(default_factory=EnvironmentPlan)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    """What changes in the environment of the relaunch: values by name; None takes a variable away."""
    restores: tuple[str, ...] = ()
    """The artifacts of the reference that are put back: unpushed commits, changes, new files, random state."""
    caveats: tuple[str, ...] = ()

    def noting(self, *notes: str) -> LaunchPlan:
        """The plan with what a later step has to say of it."""
        return replace(self, caveats=(*self.caveats, *notes))
