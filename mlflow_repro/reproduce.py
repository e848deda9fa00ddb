"""Bring a run back: read it, plan, fetch its code, relaunch it, compare. Also ``python -m mlflow_repro.reproduce``."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before anything else is imported
    from mlflow_repro.searchpath import leave_working_directory_out

    leave_working_directory_out()

import shutil
import tempfile
import uuid
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.changes import NO_CHANGES, recast_record, recast_reference
from mlflow_repro.env_choice import EnvironmentWish
from mlflow_repro.errors import CannotJudgeError, LaunchError, ReproError, UsageError
from mlflow_repro.judging import JudgeOptions, Side, judge_repeats, judge_runs, read_more_references
from mlflow_repro.model import LaunchPlan, Report, RunRecord
from mlflow_repro.plan import (
    PlanOptions,
    check_options,
    check_reference,
    check_run_id,
    plan_launch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_repro.artifact_outcomes import Selection
    from mlflow_repro.changes import Changes
    from mlflow_repro.grading import Readiness
    from mlflow_repro.launch import Launcher
    from mlflow_repro.rebuild import Rebuild
    from mlflow_repro.relaunch import PreparedCode
    from mlflow_repro.tracking import TrackingStore


_LARGEST_SEED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(JudgeOptions):
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    The reference is ``run_id``, or the run that ``model`` came from (``models:/NAME/VERSION``, ``models:/NAME@ALIAS``,
    ``runs:/ID/PATH``). ``ignore_diff`` runs the commit without the uncommitted changes that the reference had.
    ``timeout`` is in seconds, None for no limit. ``resume`` is the id of a reproduction that has already run: it
    is judged, and nothing is launched. ``restore_rng`` puts the recorded random state back, so that a run that set no
    seed comes back too. ``seed`` (0 to 2**63-1) asks the other question, whether the result replicates: everything is
    seeded with it instead, but where the code does that itself. ``repeats`` is how often the run is relaunched.
    ``env`` is ``recorded``, ``current`` or ``project``; with ``allow_substitutions`` what cannot be had exactly of a
    recorded environment is replaced or left out. With ``explain`` the report says why the runs differ, where they do.
    ``show`` gets each line that the child prints.
    """

    run_id: str = ""
    model: str = ""
    uri: str = ""
    experiment_name: str = "Default"
    tracking_uri: str = ""
    env: str = ""
    allow_substitutions: bool = False
    env_manager: str = ""
    backend: str = ""
    backend_config: str = ""
    params: Mapping[str, str] | None = None
    recurse_submodules: bool = False
    ignore_diff: bool = False
    include_deleted: bool = False
    allow_failed: bool = False
    timeout: float | None = None
    work_dir: str = ""
    resume: str = ""
    dry_run: bool = False
    restore_rng: bool = True
    seed: int | None = None
    repeats: int = 1
    explain: bool = True
    show: Callable[[str], None] | None = None

    @property
    def selection(self) -> Selection | None:
        """As in `JudgeOptions`, with the work directory."""
        chosen = super().selection
        return chosen and replace(chosen, work_directory=self.work_dir)

    @property
    def environment_wish(self) -> EnvironmentWish:
        """The part that the choice of the environment depends on."""
        return EnvironmentWish(env=self.env, env_manager=self.env_manager, allow_substitutions=self.allow_substitutions)

    def plan_options(self, tracking_uri: str) -> PlanOptions:
        """The part that the plan depends on, with the store's absolute URI."""
        shared = {field.name: getattr(self, field.name) for field in fields(PlanOptions)}
        return PlanOptions(**{**shared, "tracking_uri": tracking_uri})


def reproduce_run(run_id: str, uri: str = "", **options: Any) -> Report:
    """Relaunch the run ``run_id`` with the same code, parameters and environment, and compare the two.

    ``uri`` is the git URI (``URI#subdirectory``) of the run's project; empty for the one that the run recorded.
    ``options`` are the other fields of `ReproduceOptions`, among them ``experiment_name`` (where the new run lives,
    created when missing), ``tracking_uri``, ``env_manager``, ``timeout`` (seconds), ``dry_run`` (plan only) and those
    of `JudgeOptions`, ``rel_tol`` for one.

    Returns the `Report`; ``report.comparison.verdict`` is the answer. Raises `ReproError` (see
    `mlflow_repro.errors`) when there is no answer: bad input, a reference that does not say enough, a relaunch that
    failed, a store or a repository that cannot be reached.
    """
    names = {field.name for field in fields(ReproduceOptions)}
    unknown = sorted(set(options) - names)
    if unknown:
        raise TypeError(f"reproduce_run() has no option {unknown[0]!r}; it has {', '.join(sorted(names))}")
    return reproduce_with(ReproduceOptions(run_id=run_id, uri=uri, **options))


def read_record(run_id: str, *, tracking_uri: str = "") -> dict[str, Any]:
    """The record that a run made of itself (`docs/record.md`), as plain JSON.

    Raises CannotJudgeError when the run has none, UnreachableError when the store does not answer.
    """
    from mlflow_repro.tracking import open_store, short_retries

    check_run_id(run_id)
    with short_retries():
        store = open_store(tracking_uri)
        store.read_run(run_id)
        record = store.read_own_record(run_id)
    if record is None:
        raise CannotJudgeError(
            f"run {run_id} has no record of itself",
            "it was made without mlflow-repro, or ended before it was written",
        )
    return record


def check_run(run_id: str, *, tracking_uri: str = "") -> Readiness:
    """Grade whether a run will reproduce, from what it recorded; nothing is fetched or launched.

    Raises CannotJudgeError when there is no such run, UnreachableError when the store does not answer.
    """
    from mlflow_repro.readiness import grade_run
    from mlflow_repro.tracking import open_store, short_retries

    check_run_id(run_id)
    with short_retries():
        store = open_store(tracking_uri)
        return grade_run(store.read_run(run_id), store.read_own_record(run_id), PlanOptions())


def reproduce_with(options: ReproduceOptions, changes: Changes = NO_CHANGES) -> Report:
    """`reproduce_run` with its options as one value. ``changes`` are what this launch has other than the reference."""
    from mlflow_repro.launch import read_backend_config

    if bool(options.run_id) == bool(options.model):
        raise UsageError("which run is meant is not said", "give either --run_id or --model")
    if options.run_id:
        check_run_id(options.run_id)
    check_options(options.plan_options(""))
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"timeout is {options.timeout!r}", "it must be a number of seconds above 0")
    if options.seed is not None and not 0 <= options.seed <= _LARGEST_SEED:
        raise UsageError(f"seed is {options.seed!r}", f"it must be an integer from 0 to {_LARGEST_SEED}")
    options.check()
    read_backend_config(options.backend_config)
    if options.repeats < 1 or (options.repeats > 1 and options.resume):
        raise UsageError(
            f"repeats is {options.repeats}", "it is 1 or more, and 1 with resume; mlflow-repro compare judges several"
        )
    if (options.repeats > 1 or options.against) and not options.dry_run:
        return _reproduce_repeatedly(options)
    if options.resume:
        return _judge_existing(options)
    if options.dry_run:
        with _work_directory(options) as directory:
            return _reproduce(options, directory, launcher=None, session="", changes=changes)
    from mlflow_repro.launch import Launcher

    session = uuid.uuid4().hex
    # The launching process imports mlflow while this one does too, reads the reference and fetches the code.
    with (
        _work_directory(options) as directory,
        Launcher(directory, session=session, show=options.show) as launcher,
    ):
        return _reproduce(options, directory, launcher=launcher, session=session, changes=changes)


def _with_run_id(options: ReproduceOptions, store: TrackingStore) -> ReproduceOptions:
    return options if options.run_id else replace(options, run_id=store.find_model_run(options.model))


def _reproduce_repeatedly(options: ReproduceOptions) -> Report:
    """Relaunch the run several times, one after another, and judge all of it together."""
    from mlflow_repro.tracking import open_store, short_retries

    with short_retries():
        more = read_more_references(options, open_store(options.tracking_uri).uri) if options.against else []
    single = replace(options, repeats=1, against=(), histories="off", explain=False)
    reports: list[Report] = []
    for number in range(options.repeats):
        try:
            reports.append(reproduce_with(single))
        except LaunchError as error:
            done = " ".join(report.reproduction.run_id for report in reports if report.reproduction)
            if done:
                error.hint += f"; {number} of {options.repeats} repeats are done, to judge them:"
                error.hint += f" mlflow-repro compare {options.run_id} {done}"
            raise
    reproductions = [report.reproduction for report in reports if report.reproduction]
    comparison = judge_repeats([reports[0].reference, *more], reproductions, options)
    return _with_causes(options, replace(reports[-1], comparison=comparison))


def _with_causes(options: ReproduceOptions, report: Report) -> Report:
    """The report of repeats with the causes of a difference, from the reference and the last repeat."""
    from mlflow_repro.explaining import find_causes
    from mlflow_repro.tracking import open_store, short_retries

    if not (options.explain and report.comparison and report.reproduction):
        return report
    with short_retries():
        store = open_store(options.tracking_uri)
        sides = Side(record=report.reference, store=store), Side(record=report.reproduction, store=store)
        caveats = report.plan.caveats if report.plan else ()
        with suppress(ReproError):
            return replace(report, causes=find_causes(*sides, report.comparison, caveats=caveats))
        return report


def _reproduce(
    options: ReproduceOptions, directory: Path, *, launcher: Launcher | None, session: str, changes: Changes
) -> Report:
    from mlflow_repro.rebuild import prepare_environment
    from mlflow_repro.reference import find_overruled
    from mlflow_repro.relaunch import Relaunch
    from mlflow_repro.tracking import open_store, short_retries

    with short_retries():
        store = open_store(options.tracking_uri)
        options = _with_run_id(options, store)
        reference = store.read_run(options.run_id)
        check_reference(reference, options.plan_options(store.uri))
        code, rebuild, random_state = _prepare(options, reference, store, directory, changes)
        if launcher is None:
            return Report(plan=code.plan, reference=reference)
        surroundings, notes = prepare_environment(
            code.plan, reference, rebuild, code.checkout, allow_substitutions=options.allow_substitutions
        )
        code = replace(code, plan=replace(code.plan, caveats=(*code.plan.caveats, *notes)))
        relaunch = Relaunch(
            reference=reference,
            code=code,
            store=store,
            launcher=launcher,
            session=session,
            timeout=options.timeout,
            random_state=random_state,
            surroundings=surroundings,
            tags=changes.tags,
        )
        reproduction = relaunch.run()
        plan = replace(code.plan, caveats=(*code.plan.caveats, *find_overruled(reproduction)))
        return _judge(options, plan, reference, reproduction, store, folder=code.checkout)


def _prepare(
    options: ReproduceOptions, reference: RunRecord, store: TrackingStore, directory: Path, changes: Changes
) -> tuple[PreparedCode, Rebuild | None, Path | None]:
    """Plan the relaunch and fetch what it needs: the code, what its environment is made of, the random state."""
    from mlflow_repro.rebuild import plan_environment
    from mlflow_repro.recasting import recast_file, recast_plan, recast_rebuild
    from mlflow_repro.reference import PutBack, complete_plan, read_tree
    from mlflow_repro.relaunch import prepare_code

    record: Mapping[str, Any] = store.read_own_record(options.run_id) or {}
    plan = plan_launch(recast_reference(reference, changes), options.plan_options(store.uri))
    wish = options.environment_wish
    wish = replace(wish, env="recorded") if changes.needs_environment else wish
    plan, rebuild = plan_environment(plan, reference, record, store, wish)
    rebuild = recast_rebuild(rebuild, changes)
    random_state = recast_file(_fetch_random_state(options, plan, store, directory / "random-state"), changes)
    record = recast_record(record, changes)
    ignore_diff = options.ignore_diff or changes.without_patch
    put_back = PutBack(
        has_random_state=random_state is not None,
        restore_rng=options.restore_rng,
        seed=options.seed,
        ignore_diff=ignore_diff,
    )
    code = prepare_code(
        recast_plan(complete_plan(plan, reference, record, put_back), changes),
        read_tree(store, changes.code_run or options.run_id, record),
        directory,
        given=options.params or {},
        recurse_submodules=options.recurse_submodules,
        ignore_diff=ignore_diff,
    )
    return code, rebuild, random_state


def _fetch_random_state(
    options: ReproduceOptions, plan: LaunchPlan, store: TrackingStore, directory: Path
) -> Path | None:
    """The reference's random state, when it is wanted and recorded and the backend runs on this machine."""
    from mlflow_repro.tracking import RANDOM_STATE_FILE

    if not options.restore_rng or options.seed is not None or plan.backend != "local":
        return None
    return store.download_file(options.run_id, RANDOM_STATE_FILE, directory)


def _judge_existing(options: ReproduceOptions) -> Report:
    """Compare a reproduction that has run already (``resume``)."""
    from mlflow_repro.tracking import open_store, short_retries

    check_run_id(options.resume)
    with short_retries():
        store = open_store(options.tracking_uri)
        options = _with_run_id(options, store)
        reference, reproduction = store.read_run(options.run_id), store.read_run(options.resume)
        if reproduction.fact("reference_run_id").value != reference.run_id:
            raise UsageError(f"run {options.resume} is not a reproduction of {reference.run_id}", "check both ids")
        plan = plan_launch(reference, options.plan_options(store.uri))
        return _judge(options, plan, reference, reproduction, store)


def _judge(  # noqa: PLR0913 - both runs with all that is known of them
    options: ReproduceOptions,
    plan: LaunchPlan,
    reference: RunRecord,
    reproduction: RunRecord,
    store: TrackingStore,
    *,
    folder: Path | None = None,
) -> Report:
    from mlflow_repro.explaining import find_causes

    sides = Side(record=reference, store=store), Side(record=reproduction, store=store)
    comparison = judge_runs(*sides, options)
    report = Report(plan=plan, reference=reference, reproduction=reproduction, comparison=comparison)
    if options.explain:
        with suppress(ReproError):  # the verdict stands, with its causes or without
            return replace(report, causes=find_causes(*sides, comparison, caveats=plan.caveats, folder=folder))
    return report


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
