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
from mlflow_repro.judging.sides import Side, read_tree
from mlflow_repro.launch.backends import LOCAL, check_backend
from mlflow_repro.launch.launcher import read_backend_config
from mlflow_repro.launch.notebook import check_installed, fit_notebook, write_kernel
from mlflow_repro.launch.project import read_project, resolve_path_parameters
from mlflow_repro.plan.launch import fit_to_project, plan_launch
from mlflow_repro.reproduce.environment import list_installed, plan_environment
from mlflow_repro.reproduce.random_state import fetch_random_states
from mlflow_repro.store.writing import RANDOM_STATE_FILE
from mlflow_repro.text.redact import redact_value
from mlflow_repro.text.variables import choose_variables
from mlflow_repro.values.run import is_project_run
from mlflow_repro.values.sections import Code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.code.worktree.values import TakenTree
    from mlflow_repro.judging.trees import Target
    from mlflow_repro.launch.notebook import RecordedNotebook
    from mlflow_repro.reproduce.environment import Rebuild
    from mlflow_repro.reproduce.options import ReproduceOptions
    from mlflow_repro.reproduce.pipeline import Order
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.system.folders import HeldFolder
    from mlflow_repro.values.plan import LaunchPlan, Project
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run, RunPair


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


def list_variables(plan: LaunchPlan, record: Record, put_back: PutBack) -> dict[str, str | None]:
    """What changes in the environment of the relaunch, for its variables to be the recorded ones.

    Raises UsageError when a seed is wanted where it cannot be set.
    """
    if put_back.seed is not None and plan.backend != LOCAL:
        raise UsageError(
            f"a seed is set for processes of this machine, and the backend is {plan.backend!r}",
            "leave --seed out, or pass --backend local",
        )
    recorded = record.launch.variables
    variables = {} if recorded is None else choose_variables(recorded, os.environ)
    return variables if put_back.seed is None else {**variables, "MLFLOW_REPRO_SEED": str(put_back.seed)}


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
    if plan.backend != LOCAL:
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
    elif plan.backend == LOCAL and reference.is_captured and not put_back.has_random_state:
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


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a launch is made of: as the reference recorded it. Who launches it otherwise gives other parts.

    ``tags`` are set on the new run beside those that each reproduction gets, ``variables`` in the environment of what
    runs. ``is_same_launch``: the program, its arguments and its data are the reference's. ``without_patch``: the commit
    is run alone. ``needs_environment``: it has to be built, as it is neither the recorded one nor the one that is here.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    is_same_launch: bool = True
    without_patch: bool = False
    needs_environment: bool = False

    def give_reference(self, reference: Run) -> Run:
        """The reference as the plan sees it."""
        return reference

    def give_record(self, record: Record) -> Record:
        """Its record of itself."""
        return record

    def find_code(self, reference: Side) -> Side:
        """The run that has the files of the code."""
        return reference

    def give_environment(self, rebuild: Rebuild | None) -> Rebuild | None:
        """What the environment is made of. Raises CannotJudgeError."""
        return rebuild

    def give_states(self, folder: Path | None) -> Path | None:
        """The folder with the random states."""
        return folder


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that one launch needs, fetched, checked and in a place of our own."""

    plan: LaunchPlan
    work_directory: Path
    checkout: Path
    project_directory: Path
    parameters: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    """What the child's environment has for this folder's sake, beside what the plan says."""
    random_state: Path | None = None
    """The folder with the random states to put back, None for a run that goes its own way."""
    rebuild: Rebuild | None = None
    """What the recorded environment is made of, None for another."""


def prepare(order: Order, target: Target, store: TrackingStore, place: HeldFolder) -> Preparation:
    """Plan the relaunch and fetch what it needs: the code, what its environment is made of, the random states.

    ``place`` is the work directory. All is checked before any run is created: raises what planning and fetching raise.
    """
    options, parts, side = order.options, order.parts, Side(run=target.root, store=store)
    record = side.record
    draft = plan_launch(parts.give_reference(side.run), options.plan_options(store.uri))
    wish = options.launch.environment_wish
    wish = replace(wish, env="recorded") if parts.needs_environment else wish
    choice, rebuild = plan_environment(draft, side, wish)
    rebuild = parts.give_environment(rebuild)
    notebook = read_notebook(side)
    if notebook is not None:
        check_installed(*list_installed(choice, rebuild))
    states = None
    if options.restore_rng and options.seed is None and draft.backend == LOCAL:  # which runs on this machine
        is_same = parts.is_same_launch and not (options.params or options.commit or options.ignore_diff)
        folder = Path(place.path, "random-state")
        states = parts.give_states(fetch_random_states(store, target, folder, is_same_launch=is_same))
    # What the run's own commit lacked does not belong to another commit.
    record = record.with_code(Code()) if options.commit else parts.give_record(record)
    put_back = PutBack(
        has_random_state=states is not None,
        restore_rng=options.restore_rng,
        seed=options.seed,
        ignore_diff=options.ignore_diff or parts.without_patch,
    )
    plan = replace(
        draft,
        environment=choice.environment,
        env_manager=choice.env_manager,
        variables={**list_variables(draft, record, put_back), **parts.variables},
        restores=_list_restores(record.code, put_back),
        caveats=(*target.notes, *draft.caveats, *choice.notes, *_find_gaps(draft, side.run, record, put_back)),
    )
    tree = read_tree(parts.find_code(side), record)
    prepared = prepare_code(plan, tree, place, notebook, options, ignore_diff=put_back.ignore_diff)
    return replace(prepared, random_state=states, rebuild=rebuild)


def prepare_code(  # noqa: PLR0913 - what is known of the code, and the user's choices about it
    plan: LaunchPlan,
    recorded: TakenTree | None,
    place: HeldFolder,
    notebook: RecordedNotebook | None,
    options: ReproduceOptions,
    *,
    ignore_diff: bool,
) -> Preparation:
    """Fetch the code, make it the recorded tree, and check that it can be launched.

    ``recorded`` is what the commit does not hold, None when the run has no record of it; ``notebook`` is that of a run
    that was made in one. Raises the errors of `checkout`, `restore_working_tree`, `fit_notebook`, `read_project`,
    `fit_to_project` and `check_backend`.
    """
    work_directory, directory = Path(place.path), Path(place.path, "checkout")
    bundle, modules = (recorded and recorded.bundle) or b"", options.launch.recurse_submodules
    notes = checkout(plan.source, directory, bundle=bundle, hold=place.held.append)
    notes += restore_working_tree(plan.source, directory, recorded, recurse_submodules=modules, ignore_diff=ignore_diff)
    check_subdirectory(directory, plan.source)
    project_directory = check_subdirectory(directory, replace(plan.source, subdirectory=plan.working_directory))
    command, parameters, variables = plan.command, plan.parameters, {}
    if notebook is not None:
        command, more = fit_notebook(plan, notebook, directory, work_directory)
        parameters, variables = {}, write_kernel(work_directory)
        notes += more
    project = read_project(project_directory, plan.entry_point)
    parameters = parameters if command else fit_to_project(plan, project, given=options.params or {})
    _check_start(plan, project, project_directory, directory)
    _check_backend(plan, project, directory)
    if plan.backend != LOCAL or project.environment == "docker_env":
        notes.append("what the run writes is not looked at where it runs: it may change more than its own runs")
    plan = replace(plan, command=command, parameters=parameters, caveats=(*plan.caveats, *notes))
    return Preparation(
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
