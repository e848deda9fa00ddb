"""What a relaunch needs: the code, fetched and checked, and what the run recorded of itself."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.code.checkout import check_subdirectory, checkout, make_independent, restore_working_tree
from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.launch.backends import LOCAL, check_backend
from mlflow_repro.launch.launcher import read_backend_config
from mlflow_repro.launch.notebook import fit_notebook, write_kernel
from mlflow_repro.launch.project import read_project, resolve_path_parameters
from mlflow_repro.plan.launch import fit_to_project
from mlflow_repro.store.writing import RANDOM_STATE_FILE
from mlflow_repro.text.pins import DEFAULT_INDEX, Pin
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.variables import choose_variables
from mlflow_repro.values.run import is_project_run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mlflow_repro.code.worktree.values import TakenTree
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.launch.notebook import RecordedNotebook
    from mlflow_repro.reproduce.environment import Rebuild
    from mlflow_repro.system.folders import HeldFolder
    from mlflow_repro.values.changes import Changes
    from mlflow_repro.values.plan import LaunchPlan, Project
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run, RunPair
    from mlflow_repro.values.sections import Code


def read_notebook(reference: Side) -> RecordedNotebook | None:
    """What the run recorded of the notebook that it was made in, None when it was made in none."""
    from mlflow_repro.launch.capture import CELLS_FILE
    from mlflow_repro.launch.notebook import read_recorded_notebook

    if reference.run.fact("launch.kind").value != "notebook" or is_project_run(reference.run):
        return None
    return read_recorded_notebook(reference.record.launch.notebook, reference.read_file(CELLS_FILE))


@dataclass(frozen=True, kw_only=True)
class PutBack:
    """What is put back of what was recorded: the random state, when there is one, and changes; or another ``seed``."""

    has_random_state: bool
    restore_rng: bool = True
    seed: int | None = None
    ignore_diff: bool = False


def complete_plan(plan: LaunchPlan, reference: Run, record: Record, put_back: PutBack) -> LaunchPlan:
    """The plan with what is put back of the record, and what is not, and why.

    Raises UsageError when a seed is wanted where it cannot be set.
    """
    if put_back.seed is not None and plan.backend != "local":
        raise UsageError(
            f"a seed is set for processes of this machine, and the backend is {plan.backend!r}",
            "leave --seed out, or pass --backend local",
        )
    recorded = record.launch.variables
    variables = {} if recorded is None else choose_variables(recorded, os.environ)
    if put_back.seed is not None:
        variables["MLFLOW_REPRO_SEED"] = str(put_back.seed)
    return replace(
        plan,
        variables=variables,
        restores=_list_restores(record.code, put_back),
        caveats=(*plan.caveats, *_find_gaps(plan, reference, record, put_back)),
    )


def _list_restores(code: Code, put_back: PutBack) -> tuple[str, ...]:
    parts = (code.bundle,) if put_back.ignore_diff else (code.bundle, code.patch, code.untracked)
    files = [part.file for part in parts if part and part.file]
    return (*files, *([RANDOM_STATE_FILE] if put_back.has_random_state else ()))


def _find_gaps(plan: LaunchPlan, reference: Run, record: Record, put_back: PutBack) -> list[str]:
    gaps = [record.damage_note] if record.damage else []
    dirty, has_tree = reference.fact("git.dirty").value, record.code.tree is not None
    if dirty == "true" and not has_tree:
        gaps.append("the reference was made from a working tree with uncommitted changes, which were not recorded")
    if dirty is None and reference.is_captured and not has_tree:
        gaps.append("whether the reference was made from uncommitted changes was not recorded")
    if plan.backend != "local":
        gaps.append(
            f"the backend {plan.backend!r} gets the recorded tree as a folder; environment variables, the random state"
            " and the recorded environment are put back on this machine only"
        )
    if record.exists and record.launch.variables is None:
        gaps.append("the environment variables of the reference are not recorded: those that are here stay")
    if put_back.seed is not None:
        gaps.append(
            f"everything is seeded with {put_back.seed}, but where the code sets a seed of its own: this asks whether"
            " the result replicates, not whether it is reproduced"
        )
    elif plan.backend == "local" and reference.is_captured and not put_back.has_random_state:
        reason = "was not recorded and is not put back" if put_back.restore_rng else "is not put back"
        gaps.append(f"the reference's random state {reason}: what sets no seed will differ")
    return gaps


def find_notes(pairs: Iterable[RunPair]) -> list[str]:
    """What the scripts wanted and did not get: stores and experiments of their own, random states of the reference."""
    runs = [pair.reproduction for pair in pairs if pair.reproduction is not None]
    calls = ", ".join(_list_told(runs, "launch.overruled"))
    notes = [f"the script's own {calls} was overruled: the reproduction stays in this store and experiment"]
    refusals = _list_told(runs, "launch.not_restored")
    refused = [f"{reason}: the recorded state is not restored, the program's own stands" for reason in refusals]
    return [*(notes if calls else []), *refused]


def _list_told(runs: Iterable[Run], fact: str) -> list[str]:
    """The items of a fact that is a list, each once: the next run of a process tells those of the runs before it."""
    told = [(run.words(fact), run.fact(fact).value) for run in runs]
    lists = [((text,) if text else ()) if words is None else words for words, text in told]
    return list(dict.fromkeys(item for row in lists for item in row))


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


def _change_pins(pins: tuple[Pin, ...], changes: Changes) -> tuple[Pin, ...]:
    changed = []
    for pin in pins:
        if pin.name not in changes.packages:
            changed.append(pin)
        elif (version := changes.packages[pin.name]) is not None:
            changed.append(Pin(name=pin.name, version=version))
    return tuple(changed)


@dataclass(frozen=True, kw_only=True)
class PreparedCode:
    """The recorded code in a place of our own, and the plan that was fitted to it."""

    plan: LaunchPlan
    work_directory: Path
    checkout: Path
    project_directory: Path
    parameters: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    """What the child's environment has for this folder's sake, beside what the plan says."""


def prepare_code(  # noqa: PLR0913 - what is known of the code, and the user's two choices about it
    plan: LaunchPlan,
    recorded: TakenTree | None,
    place: HeldFolder,
    *,
    notebook: RecordedNotebook | None = None,
    given: Collection[str],
    recurse_submodules: bool,
    ignore_diff: bool,
) -> PreparedCode:
    """Fetch the code, make it the recorded tree, and check, before any run is created, that it can be launched.

    ``recorded`` is what the commit does not hold, None when the run has no record of it; ``place`` is the work
    directory; ``given`` names the parameters that the user set; ``notebook`` is that of a run that was made in one.
    Raises the errors of `checkout`, `restore_working_tree`, `fit_notebook`, `read_project`, `fit_to_project` and
    `check_backend`.
    """
    work_directory, directory = Path(place.path), Path(place.path, "checkout")
    bundle = (recorded and recorded.bundle) or b""
    caveats = checkout(plan.source, directory, bundle=bundle, hold=place.held.append)
    caveats += restore_working_tree(
        plan.source, directory, recorded, recurse_submodules=recurse_submodules, ignore_diff=ignore_diff
    )
    plan = replace(plan, caveats=(*plan.caveats, *caveats))
    check_subdirectory(directory, plan.source)
    project_directory = check_subdirectory(directory, replace(plan.source, subdirectory=plan.working_directory))
    variables: Mapping[str, str] = {}
    if notebook is not None:
        plan = fit_notebook(plan, notebook, directory, work_directory)
        variables = write_kernel(work_directory)
    project = read_project(project_directory, plan.entry_point)
    plan = fit_to_project(plan, project, given=given)
    _check_start(plan, project, project_directory, directory)
    _check_backend(plan, project, directory)
    if plan.backend != LOCAL or project.environment == "docker_env":
        elsewhere = "what the run writes is not looked at where it runs: it may change more than its own runs"
        plan = replace(plan, caveats=(*plan.caveats, elsewhere))
    return PreparedCode(
        plan=plan,
        work_directory=work_directory,
        checkout=directory,
        project_directory=project_directory,
        parameters=resolve_path_parameters(plan, project, project_directory),
        variables=variables,
    )


def _check_backend(plan: LaunchPlan, project: Project, directory: Path) -> None:
    """Raise the errors of `check_backend`; make a checkout that will be taken elsewhere one that stands alone."""
    check_backend(
        plan.backend,
        read_backend_config(plan.backend_config),
        env_manager=plan.env_manager,
        environment=project.environment,
        tracking_uri=plan.tracking_uri,
    )
    if plan.backend != LOCAL or project.environment == "docker_env":
        make_independent(directory)  # it is taken to where the cache is not


def _check_start(plan: LaunchPlan, project: Project, project_directory: Path, checkout: Path) -> None:
    """Raise CannotJudgeError when the script or the program that is to be started is not there."""
    is_program = bool(plan.command) and plan.command[0] != "python"
    if is_program and plan.environment.kind == "current":
        here = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
        if shutil.which(plan.entry_point, path=here) is None:
            raise CannotJudgeError(
                f"the program {plan.entry_point!r}, by which the run was started, is not installed here",
                "install what it belongs to, or pass --env recorded",
            )
    is_module = ("-m", plan.entry_point) in zip(plan.command, plan.command[1:], strict=False)
    if is_program or is_module or (not plan.command and plan.entry_point in project.entry_points):
        return
    script = (project_directory / plan.entry_point).resolve()
    if not (script.is_file() and script.is_relative_to(checkout)):
        raise CannotJudgeError(
            f"the script {plan.entry_point!r} is not in {redact_value(plan.source.project_uri)}"
            f" at commit {plan.source.commit[:12]}",
            "it was not committed when the run was made",
        )
