"""The parts of a launch as the reference recorded them, but for the changes of one trial."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.isolate.changes import Changes, recast_random_state, recast_reference
from mlflow_repro.judging.sides import Side
from mlflow_repro.reproduce.prepare import Parts
from mlflow_repro.seeding.restoring import name_file
from mlflow_repro.store.opening import open_store
from mlflow_repro.text.pins import DEFAULT_INDEX, Pin

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.reproduce.environment import Rebuild
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run


def recast_rebuild(rebuild: Rebuild | None, changes: Changes) -> Rebuild:
    """What an environment is made of, with other versions. Raises CannotJudgeError when there is none to change."""
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


def _change_pins(pins: tuple[Pin, ...], changes: Changes) -> tuple[Pin, ...]:
    changed = []
    for pin in pins:
        if pin.name not in changes.packages:
            changed.append(pin)
        elif (version := changes.packages[pin.name]) is not None:
            changed.append(Pin(name=pin.name, version=version))
    return tuple(changed)


def change_parts(changes: Changes) -> Parts:
    """The parts of a launch with ``changes``."""
    program = (changes.params, changes.arguments, changes.variables, changes.code, changes.files)
    return _ChangedParts(
        changes=changes,
        tags=changes.tags,
        variables=changes.variables,
        is_same_launch=not any(program) and not changes.without_patch,
        without_patch=changes.without_patch,
        needs_environment=changes.needs_environment,
    )


@dataclass(frozen=True, kw_only=True)
class _ChangedParts(Parts):
    changes: Changes

    def give_reference(self, reference: Run) -> Run:
        """With the changed command line, launch parameters and commit."""
        return recast_reference(reference, self.changes)

    def give_record(self, record: Record) -> Record:
        """With the other run's code in it."""
        return record.with_code(self.changes.code) if self.changes.code else record

    def find_code(self, reference: Side) -> Side:
        """The run that the code is of."""
        changes = self.changes
        if not changes.code_run:
            return reference
        store = open_store(changes.code_store) if changes.code_store else reference.store
        return Side(run=store.read_run(changes.code_run), store=store)

    def give_environment(self, rebuild: Rebuild | None) -> Rebuild | None:
        """With other versions."""
        return recast_rebuild(rebuild, self.changes) if self.needs_environment else rebuild

    def give_states(self, folder: Path | None) -> Path | None:
        """The state of the first process is changed in its place."""
        if folder is not None and self.changes.generators:
            path = folder / name_file("", 0)
            stored = json.loads(path.read_text(encoding="utf-8"))
            path.write_text(json.dumps(recast_random_state(stored, self.changes)), encoding="utf-8")
        return folder
