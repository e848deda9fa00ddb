"""Put `Changes` into what a relaunch is made of: the environment's pins, and the files with the random state."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.changes import recast_random_state
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.pins import DEFAULT_INDEX, Pin

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.changes import Changes
    from mlflow_repro.model import LaunchPlan
    from mlflow_repro.rebuild import Rebuild


def recast_plan(plan: LaunchPlan, changes: Changes) -> LaunchPlan:
    """The plan with the changed environment variables."""
    return replace(plan, variables={**plan.variables, **changes.variables}) if changes.variables else plan


def recast_rebuild(rebuild: Rebuild | None, changes: Changes) -> Rebuild | None:
    """What an environment is made of, with other versions. Raises CannotJudgeError when there is none to change."""
    if not changes.needs_environment:
        return rebuild
    if rebuild is None:
        raise CannotJudgeError("the run's environment is not recorded, so no package of it can be changed")
    groups = [(index, _change_pins(pins, changes)) for index, pins in rebuild.groups]
    known = {pin.name for _, pins in rebuild.groups for pin in pins}
    added = tuple(
        Pin(name=name, version=version)
        for name, version in changes.packages.items()
        if name not in known and version is not None
    )
    if added:
        groups.append((DEFAULT_INDEX, added))
    installed = rebuild.recorded.installed
    python = replace(installed.python, version=changes.python) if changes.python else installed.python
    versions = {**installed.distributions, **changes.packages}
    distributions = {name: version for name, version in versions.items() if version is not None}
    recorded = replace(rebuild.recorded, installed=replace(installed, python=python, distributions=distributions))
    return replace(rebuild, recorded=recorded, groups=tuple(groups))


def recast_folder(folder: Path | None, changes: Changes) -> Path | None:
    """The folder with the random states of a launch's processes; that of the first is changed in its place."""
    if folder is not None and changes.generators:
        path = min(folder.iterdir())
        stored = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(recast_random_state(stored, changes)), encoding="utf-8")
    return folder


def _change_pins(pins: tuple[Pin, ...], changes: Changes) -> tuple[Pin, ...]:
    changed = []
    for pin in pins:
        if pin.name not in changes.packages:
            changed.append(pin)
        elif (version := changes.packages[pin.name]) is not None:
            changed.append(Pin(name=pin.name, version=version))
    return tuple(changed)
