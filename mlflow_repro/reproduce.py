"""Bring a run back: read it, plan, fetch its code, relaunch it, compare. Also ``python -m mlflow_repro.reproduce``."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before anything else is imported
    from mlflow_repro.searchpath import leave_working_directory_out

    leave_working_directory_out()

import getpass
import json
import shutil
import tempfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, LaunchError, ReproError, UnreachableError, UsageError
from mlflow_repro.model import LaunchPlan, Report, RunRecord, Tolerances
from mlflow_repro.plan import (
    PlanOptions,
    check_options,
    check_reference,
    check_run_id,
    fit_to_project,
    plan_launch,
)
from mlflow_repro.redact import redact_named, redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_repro.launch import Launcher, Outcome
    from mlflow_repro.model import Comparison
    from mlflow_repro.tracking import TrackingStore


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    ``timeout`` is in seconds, None for no limit. ``resume`` is the id of a reproduction that has already run: it
    is judged, and nothing is launched. ``restore_rng`` puts the recorded random state back, so that a run that set no
    seed comes back too. ``show`` gets each line that the child prints.
    """

    run_id: str
    uri: str = ""
    experiment_name: str = "Default"
    rel_tol: float = 1e-9
    abs_tol: float = 0.0
    tracking_uri: str = ""
    env_manager: str = ""
    backend: str = ""
    backend_config: str = ""
    params: Mapping[str, str] | None = None
    recurse_submodules: bool = False
    include_deleted: bool = False
    allow_failed: bool = False
    timeout: float | None = None
    work_dir: str = ""
    resume: str = ""
    dry_run: bool = False
    restore_rng: bool = True
    show: Callable[[str], None] | None = None

    @property
    def tolerances(self) -> Tolerances:
        """Raises UsageError when they are no tolerances."""
        return Tolerances(rel_tol=self.rel_tol, abs_tol=self.abs_tol)

    def plan_options(self, tracking_uri: str) -> PlanOptions:
        shared = {field.name: getattr(self, field.name) for field in fields(PlanOptions)}
        return PlanOptions(**{**shared, "tracking_uri": tracking_uri})


def reproduce_run(run_id: str, uri: str = "", **options: Any) -> Report:
    """Relaunch the run ``run_id`` with the same code, parameters and environment, and compare the two.

    ``uri`` is the git URI (``URI#subdirectory``) of the run's project; empty for the one that the run recorded.
    ``options`` are the other fields of `ReproduceOptions`, among them ``experiment_name`` (where the new run lives,
    created when missing), ``rel_tol``, ``abs_tol`` (as of `math.isclose`), ``tracking_uri``, ``env_manager``,
    ``timeout`` (seconds) and ``dry_run`` (plan only).

    Returns the `Report`; ``report.comparison.verdict`` is the answer. Raises `ReproError` (see
    `mlflow_repro.errors`) when there is no answer: bad input, a reference that does not say enough, a relaunch that
    failed, a store or a repository that cannot be reached.
    """
    names = {field.name for field in fields(ReproduceOptions)}
    unknown = sorted(set(options) - names)
    if unknown:
        raise TypeError(f"reproduce_run() has no option {unknown[0]!r}; it has {', '.join(sorted(names))}")
    return reproduce_with(ReproduceOptions(run_id=run_id, uri=uri, **options))


def compare_runs(
    reference_id: str,
    reproduction_id: str,
    *,
    rel_tol: float = 1e-9,
    abs_tol: float = 0.0,
    tracking_uri: str = "",
) -> Comparison:
    """Compare two runs of one tracking store. Raises `ReproError` when one of them cannot be read."""
    from mlflow_repro.compare import compare_records
    from mlflow_repro.tracking import open_store, short_retries

    tolerances = Tolerances(rel_tol=rel_tol, abs_tol=abs_tol)
    with short_retries():
        store = open_store(tracking_uri)
        reference = store.read_run(check_run_id(reference_id))
        reproduction = store.read_run(check_run_id(reproduction_id))
    return compare_records(reference, reproduction, tolerances)


def reproduce_with(options: ReproduceOptions) -> Report:
    """`reproduce_run` with its options as one value."""
    check_run_id(options.run_id)
    check_options(options.plan_options(""))
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"timeout is {options.timeout!r}", "it must be a number of seconds above 0")
    _ = options.tolerances
    if options.resume:
        return _judge_existing(options)
    if options.dry_run:
        with _work_directory(options) as directory:
            return _reproduce(options, directory, launcher=None, session="")
    from mlflow_repro.launch import Launcher

    session = uuid.uuid4().hex
    # The launching process imports mlflow while this one does too, reads the reference and fetches the code.
    with (
        _work_directory(options) as directory,
        Launcher(directory, session=session, show=options.show) as launcher,
    ):
        return _reproduce(options, directory, launcher=launcher, session=session)


@dataclass(frozen=True, kw_only=True)
class _Checkout:
    """The recorded code in a place of our own, and the plan that was fitted to it."""

    plan: LaunchPlan
    work_directory: Path
    project_directory: Path
    parameters: Mapping[str, str]


def _reproduce(options: ReproduceOptions, directory: Path, *, launcher: Launcher | None, session: str) -> Report:
    from mlflow_repro.tracking import open_store, short_retries

    with short_retries():
        store = open_store(options.tracking_uri)
        reference = store.read_run(options.run_id)
        plan_options = options.plan_options(store.uri)
        check_reference(reference, plan_options)
        code = _prepare_code(options, plan_launch(reference, plan_options), directory)
        if launcher is None:
            return Report(plan=code.plan, reference=reference)
        reproduction = _relaunch(options, code, reference, store, launcher, session)
    return _judge(options, code.plan, reference, reproduction)


def _prepare_code(options: ReproduceOptions, plan: LaunchPlan, work_directory: Path) -> _Checkout:
    """Fetch the code and check, before anything is created, that it can be launched as planned."""
    from mlflow_repro.gitrepo import check_subdirectory, checkout
    from mlflow_repro.launch import check_tools
    from mlflow_repro.project import read_project, resolve_path_parameters

    directory = work_directory / "checkout"
    caveats = checkout(plan.source, directory, recurse_submodules=options.recurse_submodules)
    plan = replace(plan, caveats=(*plan.caveats, *caveats))
    project_directory = check_subdirectory(directory, replace(plan.source, subdirectory=plan.working_directory))
    project = read_project(project_directory, plan.entry_point)
    plan = fit_to_project(plan, project, given=options.params or {})
    is_script = bool(plan.command) or plan.entry_point not in project.entry_points
    script = (project_directory / plan.entry_point).resolve()
    if is_script and "-m" not in plan.command and not (script.is_file() and script.is_relative_to(directory)):
        raise CannotJudgeError(
            f"the script {plan.entry_point!r} is not in {plan.source.project_uri} at commit {plan.source.commit[:12]}",
            "it was not committed when the run was made",
        )
    check_tools(plan.env_manager, project.environment)
    return _Checkout(
        plan=plan,
        work_directory=work_directory,
        project_directory=project_directory,
        parameters=resolve_path_parameters(plan, project, project_directory),
    )


def _relaunch(
    options: ReproduceOptions,
    code: _Checkout,
    reference: RunRecord,
    store: TrackingStore,
    launcher: Launcher,
    session: str,
) -> RunRecord:
    """Create the reproduction's run, launch it, and return its record. Whatever fails, that run is closed."""
    from mlflow_repro.launch import Job, read_backend_config
    from mlflow_repro.project import write_command_project

    plan = code.plan
    backend_config = read_backend_config(plan.backend_config)
    experiment_id = store.ensure_experiment(plan.experiment_name)
    tags = _reproduction_tags(plan, reference, session)
    run_id = ""
    if plan.backend == "local":  # other backends create their run themselves
        name = f"reproduction of {reference.run_name or reference.run_id}"
        run_id = store.create_run(experiment_id, name=name, tags=tags, params=plan.parameters)
    try:
        entry_point = plan.entry_point
        if plan.command:
            entry_point = write_command_project(code.project_directory, plan.command)
        job = Job(
            directory=str(code.project_directory),
            entry_point=entry_point,
            parameters=code.parameters,
            run_id=run_id,
            experiment_id=experiment_id,
            tracking_uri=store.uri,
            backend=plan.backend,
            backend_config=backend_config,
            env_manager=plan.env_manager,
            storage_directory=str(code.work_directory / "storage"),
        )
        job = replace(job, variables=_random_state_variables(options, reference, store, code))
        outcome = launcher.run(job, timeout=options.timeout)
    except BaseException as error:
        launcher.end()
        _close_run(store, run_id, "KILLED", f"the reproduction was ended: {type(error).__name__}")
        raise
    if outcome.error:
        _raise_failure(outcome, store, reference, options)
    if not run_id:
        store.set_tags(outcome.run_id, tags)
    return _read_reproduction(outcome, store, reference, session)


def _random_state_variables(
    options: ReproduceOptions, reference: RunRecord, store: TrackingStore, code: _Checkout
) -> dict[str, str]:
    """The variable that names the file with the reference's random state, when there is one to put back."""
    from mlflow_repro.seeding.control import RESTORE_VARIABLE
    from mlflow_repro.tracking import RANDOM_STATE_FILE

    if not options.restore_rng or code.plan.backend != "local":
        return {}
    path = store.download_file(reference.run_id, RANDOM_STATE_FILE, code.work_directory / "random-state")
    return {RESTORE_VARIABLE: str(path)} if path else {}


def _reproduction_tags(plan: LaunchPlan, reference: RunRecord, session: str) -> dict[str, str]:
    """The tags that the reproduction starts with: the true source instead of a temporary path."""
    kept = (
        "mlflow.project.entryPoint",
        "mlflow.project.env",
        "mlflow.source.type",
        "mlflow.source.git.branch",
    )
    tags = {name: reference.tags[name] for name in kept if name in reference.tags}
    is_project = not plan.command
    tags.update(
        {
            "mlflow.user": _user(),
            "mlflow.source.name": plan.source.project_uri
            if is_project
            else reference.tags.get("mlflow.source.name", ""),
            "mlflow.source.git.commit": plan.source.commit,
            "mlflow.source.git.repoURL": plan.source.uri,
            "repro.git.uri": plan.source.project_uri,
            "repro.git.commit": plan.source.commit,
            "repro.reference_run_id": reference.run_id,
            "repro.session": session,
        }
    )
    if is_project:
        params = {name: redact_named(name, value) for name, value in plan.parameters.items()}
        tags["repro.launch.params"] = json.dumps(params)
    return {name: redact_text(value) if name.startswith("mlflow.source") else value for name, value in tags.items()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def _raise_failure(outcome: Outcome, store: TrackingStore, reference: RunRecord, options: ReproduceOptions) -> None:
    """Close the failed run and say why it failed. Raises LaunchError."""
    if outcome.is_timeout:
        message = f"the relaunched run {outcome.run_id} took longer than {options.timeout:g} s and was ended"
        _close_run(store, outcome.run_id, "KILLED", f"timeout after {options.timeout:g} s")
        raise LaunchError(message, "allow it more: --timeout SECONDS", run_id=outcome.run_id, log_tail=outcome.log_tail)
    code = outcome.exit_code
    if code is None:
        how = outcome.error
    elif code < 0 or code > 128:
        how = f"it was ended by signal {-code if code < 0 else code - 128}"
    else:
        how = f"exit code {code}"
    _close_run(store, outcome.run_id, "FAILED", how)
    raise LaunchError(
        f"the relaunched run {outcome.run_id or '(none was created)'} failed: {how}",
        _failure_hint(outcome, reference),
        run_id=outcome.run_id,
        log_tail=outcome.log_tail,
    )


def _failure_hint(outcome: Outcome, reference: RunRecord) -> str:
    text = f"{outcome.log_tail}\n{outcome.error}"
    if "active experiment ID does not match" in text:
        return f"the script calls mlflow.set_experiment: pass --experiment_name {reference.experiment_name!r}"
    if outcome.run_id and f"{outcome.run_id}" in outcome.log_tail and "not found" in outcome.log_tail:
        return "the script sets a tracking URI of its own, where this run is not"
    if "ModuleNotFoundError" in text:
        return "the environment lacks a package: install it, or build the project's with --env-manager virtualenv"
    return "its last lines are above; the failed run is kept"


def _read_reproduction(outcome: Outcome, store: TrackingStore, reference: RunRecord, session: str) -> RunRecord:
    """The finished reproduction. Raises LaunchError or CannotJudgeError when it is not one that can be judged."""
    run_id = outcome.run_id
    try:
        reproduction = store.read_run_patiently(run_id)
        index = reference.fact("launch.run_index").value or "0"
        if index != "0":
            reproduction = _read_later_run(store, reference, session, index)
            run_id = reproduction.run_id
        # MLflow makes every run whose process exits with 0 FINISHED, whatever the script said.
        if reproduction.fact("status").value in ("FAILED", "KILLED") and reference.status == "FINISHED":
            _close_run(store, run_id, "FAILED", "the script ended its run as failed")
            raise LaunchError(
                f"the relaunched run {run_id} ended itself {reproduction.fact('status').value}, though its process exited with 0",
                "its last lines are above; the failed run is kept",
                run_id=run_id,
                log_tail=outcome.log_tail,
            )
    except UnreachableError as error:
        raise UnreachableError(
            f"the relaunch is done, as run {run_id}, but cannot be read: {error.message}",
            f"compare it later: mlflow-repro reproduce --run_id {reference.run_id} --resume {run_id}",
        ) from error
    if reference.metrics and not reproduction.metrics:
        raise CannotJudgeError(
            f"the relaunched run {run_id} logged no metric, where the reference has {len(reference.metrics)}",
            "the script logged into another run or store, or did nothing; --verbose shows its output",
        )
    return reproduction


def _read_later_run(store: TrackingStore, reference: RunRecord, session: str, index: str) -> RunRecord:
    """The counterpart of a reference that was not the first run of its process. Raises CannotJudgeError."""
    found = store.find_session_runs(session, index)
    if len(found) != 1:
        raise CannotJudgeError(
            f"the reference was run number {int(index) + 1} of its process, and the relaunch made {len(found)} such runs",
            "which of them is its counterpart cannot be told",
        )
    store.set_tags(found[0], {"repro.reference_run_id": reference.run_id})
    return store.read_run(found[0])


def _close_run(store: TrackingStore, run_id: str, status: str, reason: str) -> None:
    """Give a run that did not end well its status and the reason. A store that is gone is not a second error."""
    if not run_id:
        return
    with suppress(ReproError):
        store.finish_run(run_id, status)
        store.set_tags(run_id, {"repro.error": reason[:500]})


def _judge_existing(options: ReproduceOptions) -> Report:
    """Compare a reproduction that has run already (``resume``)."""
    from mlflow_repro.tracking import open_store, short_retries

    check_run_id(options.resume)
    with short_retries():
        store = open_store(options.tracking_uri)
        reference, reproduction = store.read_run(options.run_id), store.read_run(options.resume)
    if reproduction.fact("reference_run_id").value != reference.run_id:
        raise UsageError(f"run {options.resume} is not a reproduction of {reference.run_id}", "check both ids")
    plan = plan_launch(reference, options.plan_options(store.uri))
    return _judge(options, plan, reference, reproduction)


def _judge(options: ReproduceOptions, plan: LaunchPlan, reference: RunRecord, reproduction: RunRecord) -> Report:
    from mlflow_repro.compare import compare_records

    comparison = compare_records(reference, reproduction, options.tolerances)
    return Report(plan=plan, reference=reference, reproduction=reproduction, comparison=comparison)


@contextmanager
def _work_directory(options: ReproduceOptions) -> Iterator[Path]:
    """A folder of our own, removed in the end. Raises CannotJudgeError when none can be made."""
    try:
        directory = Path(tempfile.mkdtemp(prefix="mlflow-repro-", dir=options.work_dir or None)).resolve()
    except OSError as error:
        raise CannotJudgeError(
            f"no work directory can be made: {error}", "give a folder with space: --work-dir DIRECTORY"
        ) from error
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    from mlflow_repro.cli import main

    sys.exit(main(["reproduce", *sys.argv[1:]], program="python -m mlflow_repro.reproduce"))
