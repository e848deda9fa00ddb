"""Choose the environment of a relaunch from the run's record, and have it made."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import time
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from mlflow_repro.environment.build import Wanted, provide_environment
from mlflow_repro.environment.digest import digest_distributions
from mlflow_repro.environment.digest import list_distributions as list_names
from mlflow_repro.environment.distributions import list_distributions
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.plan.environment import Choice, choose_environment, differs_in_schema, list_missing, plan_surroundings
from mlflow_repro.store.loopback import is_database
from mlflow_repro.text.giturl import local_path
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.pins import Pin, parse_lock
from mlflow_repro.values.environment import (
    Installed,
    PythonVersion,
    RecordedEnvironment,
    list_differences,
    read_environment,
)
from mlflow_repro.values.plan import Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlflow_repro.judging.sides import Side
    from mlflow_repro.plan.environment import EnvironmentWish
    from mlflow_repro.reproduce.prepare import Preparation
    from mlflow_repro.values.plan import LaunchPlan
    from mlflow_repro.values.run import Run

_READ_SECONDS = 20.0
_SHOWN = 8  # differences that are named


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """What a recorded environment is made of: the record, its pins by index, and what the checkout itself has."""

    recorded: RecordedEnvironment
    groups: tuple[tuple[str, tuple[Pin, ...]], ...]
    at_hand: tuple[str, ...]


def plan_environment(plan: LaunchPlan, side: Side, wish: EnvironmentWish) -> tuple[Choice, Rebuild | None]:
    """The environment of a launch, and what is needed to rebuild it when it is the recorded one.

    Raises CannotJudgeError when the recorded environment is to be
    rebuilt and the record does not say enough, RefusedError when it holds what no installer may be given, UsageError.
    """
    reference = side.run
    planned = plan_surroundings(plan, reference, wish)
    if planned is not None:
        return planned, None
    current = describe_current()
    recorded, why_none = None, ""
    if wish.env == "recorded" or not _is_same(reference, current):
        recorded, why_none = _read_recorded(side, is_wanted=wish.env == "recorded")
    choice = choose_environment(plan, wish, recorded, current, why_none=why_none)
    if choice.environment.kind != "recorded" or recorded is None:
        return choice, None
    at_hand, notes = list_missing(recorded, plan.source.commit, wish)
    groups = _fetch_locks(side, recorded)
    packages = sum(len(pins) for _, pins in groups)
    if not packages:
        raise CannotJudgeError(
            f"run {reference.run_id} recorded no lock of its packages: there is nothing to rebuild",
            "pass --env current",
        )
    choice = Choice(environment=replace(choice.environment, packages=packages), notes=tuple(notes))
    return choice, Rebuild(recorded=recorded, groups=groups, at_hand=tuple(at_hand))


def prepare_environment(
    prepared: Preparation, reference: Run, *, allow_substitutions: bool
) -> tuple[Surroundings, list[str]]:
    """Make the environment of the plan; what the launch is told of it, and what is to be said beside the verdict.

    Raises the errors of `provide_environment`.
    """
    ours, plan, rebuild = metadata.version("mlflow"), prepared.plan, prepared.rebuild
    if rebuild is None:
        # What MLflow is going to build is not known yet; the reference was made in the same.
        is_built = plan.environment.kind == "project" and plan.env_manager != "local"  # else current, or a container
        theirs = reference.fact("env.mlflow").value or "" if is_built else ""
        return _serve(Surroundings(), plan, ours, theirs)
    wanted = Wanted(
        python=rebuild.recorded.installed.python,
        groups=rebuild.groups,
        versions=rebuild.recorded.installed.distributions,
    )
    built = provide_environment(wanted, allow_substitutions=allow_substitutions)
    found = _versions([str(built.site_packages)])
    # A Python that stands in for another is in the notes already.
    installed = Installed(python=rebuild.recorded.installed.python, distributions=found)
    pinned = [pin.name for _, pins in rebuild.groups for pin in pins]
    differences = list_differences(rebuild.recorded.installed, installed, pinned, "rebuilt")
    notes = [f"relaunched in the recorded environment ({plan.environment.reason})", *built.notes]
    notes += _summarise(differences)
    surroundings = Surroundings(
        environment=str(built.directory), import_path=find_import_path(rebuild, prepared.checkout)
    )
    theirs = found.get("mlflow") or found.get("mlflow-skinny") or ""
    surroundings, more = _serve(surroundings, plan, ours, theirs)
    return surroundings, [*notes, *more]


def list_installed(choice: Choice, rebuild: Rebuild | None) -> tuple[Iterable[str] | None, str]:
    """What that environment is going to have, None where MLflow builds it, and a word for it."""
    if rebuild is not None:
        return rebuild.recorded.installed.distributions, "the recorded environment"
    return (describe_current().distributions if choice.environment.kind == "current" else None), "this environment"


def describe_current() -> Installed:
    """The environment that runs this tool."""
    python = PythonVersion(
        version=platform.python_version(),
        implementation=platform.python_implementation().lower(),
        is_free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    )
    return Installed(python=python, distributions=_versions(sys.path))


def _versions(search_path: Iterable[str]) -> dict[str, str]:
    inventory = list_distributions(search_path, time.monotonic() + _READ_SECONDS)
    return {name: one.version for name, one in inventory.distributions.items()}


def _is_same(reference: Run, current: Installed) -> bool:
    """True when the tags alone say that nothing differs: most often, and then nothing has to be fetched."""
    same_python = reference.fact("env.python").value == current.python.version
    return same_python and reference.fact("env.digest").value == digest_distributions(list_names())


def _read_recorded(side: Side, *, is_wanted: bool) -> tuple[RecordedEnvironment | None, str]:
    """The environment that the run recorded, or why there is none."""
    if not side.run.is_captured:
        return None, "the run was made without mlflow-repro"
    if not side.record.exists:
        return None, "the run has no record of itself"
    try:
        return read_environment(side.record.environment), ""
    except CannotJudgeError as error:
        if is_wanted:
            raise
        return None, error.message


def _fetch_locks(side: Side, recorded: RecordedEnvironment) -> tuple[tuple[str, tuple[Pin, ...]], ...]:
    groups = []
    for lock in recorded.locks:
        try:
            content = side.read_recorded(lock)
        except CannotJudgeError as error:
            raise CannotJudgeError(error.message, "pass --env current") from error
        groups.append((lock.index, parse_lock(content.decode("utf-8", "replace"), lock.file)))
    return tuple(groups)


def find_import_path(rebuild: Rebuild, checkout: Path) -> tuple[str, ...]:
    """The folders of the checkout from which the packages are imported that were installed from that repository."""
    folders = []
    for name in rebuild.at_hand:
        parts = (local_path(rebuild.recorded.checkouts[name][1]) or "").strip("/").split("/")
        # Where the repository lay is not recorded, so the longest end of the path that is a package in the checkout.
        tails = ["/".join(parts[start:]) for start in range(len(parts) + 1)]
        found = next((checkout / tail for tail in tails if _is_package_source(checkout / tail)), checkout)
        folders.append(str(found / "src" if (found / "src").is_dir() else found))
    return tuple(dict.fromkeys(folders))


def _is_package_source(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))


def _serve(surroundings: Surroundings, plan: LaunchPlan, ours: str, theirs: str) -> tuple[Surroundings, list[str]]:
    """With a server on loopback, when the child's MLflow would migrate the database or could not open it."""
    if not (is_database(plan.tracking_uri) and plan.backend == "local" and differs_in_schema(ours, theirs)):
        return surroundings, []
    note = f"the child has mlflow {theirs} and gets the store through a server of mlflow {ours} on loopback"
    return replace(surroundings, served_artifact_root=os.path.abspath("mlruns")), [note]


def _summarise(differences: list[str]) -> list[str]:
    if not differences:
        return []
    return [f"the rebuilt environment differs from the recorded one: {list_some(differences, _SHOWN)}"]
