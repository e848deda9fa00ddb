"""Bring a run back: read it, plan, fetch its code, relaunch it, compare."""

from __future__ import annotations

import threading
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.launch.backends import LOCAL
from mlflow_repro.plan.launch import PlanOptions, check_options, check_reference, plan_launch
from mlflow_repro.reproduce.options import ReproduceOptions
from mlflow_repro.system.folders import hold_folder, sweep_folders
from mlflow_repro.values.changes import NO_CHANGES, recast_record, recast_reference
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.plan import EnvironmentPlan
from mlflow_repro.values.progress import BUILDING, COMPARING, FETCHING
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import check_run_id
from mlflow_repro.values.sections import Code

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.judging.options import Judging
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.judging.trees import Target
    from mlflow_repro.launch.launcher import Launcher
    from mlflow_repro.reproduce.environment import Rebuild
    from mlflow_repro.reproduce.prepare import PreparedCode
    from mlflow_repro.reproduce.relaunch import Relaunch
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.system.folders import HeldFolder
    from mlflow_repro.values.changes import Changes
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.report import Readiness


@takes(ReproduceOptions)
def reproduce_run(run_id: str = "", uri: str = "", **options: Any) -> Report:
    """Relaunch the run ``run_id`` with the same code, parameters and environment, and compare the two.

    ``uri`` is the git URI (``URI#subdirectory``) of the run's project; empty for the one that the run recorded.
    Returns the `Report`; ``report.verdict`` is the answer. Raises `ReproError` (see
    `mlflow_repro.errors`) when there is no answer: bad input, a reference that does not say enough, a relaunch that
    failed, a store or a repository that cannot be reached. Raises TypeError for an option that there is not.
    """
    return reproduce_with(make_options(ReproduceOptions, {**options, "run_id": run_id, "uri": uri}, "reproduce_run"))


def read_record(run_id: str, *, tracking_uri: str = "") -> dict[str, Any]:
    """The record that a run made of itself (`docs/record.md`), as plain JSON.

    Raises CannotJudgeError when the run has none, UnreachableError when the store does not answer.
    """
    return dict(_open_record(run_id, tracking_uri)[1].plain)


def save_record(run_id: str, directory: Path, *, tracking_uri: str = "") -> dict[str, Any]:
    """`read_record`, and write it and all files that belong to it into ``directory``, as ``repro/...``.

    Raises UsageError when nothing can be written there, CannotJudgeError when a file is missing.
    """
    from mlflow_repro.store.recorded import save_recorded

    store, record = _open_record(run_id, tracking_uri)
    try:
        save_recorded(store, run_id, record, directory)
    except OSError as error:
        raise UsageError(f"nothing can be written into {directory}: {error}", "name another folder") from error
    return dict(record.plain)


def _open_record(run_id: str, tracking_uri: str) -> tuple[TrackingStore, Record]:
    from mlflow_repro.store.opening import open_store, short_retries

    check_run_id(run_id)
    with short_retries():
        store = open_store(tracking_uri)
        store.read_run(run_id)
        record = store.read_own_record(run_id)
    if not record.exists:
        raise CannotJudgeError(
            f"run {run_id} has no record of itself",
            "it was made without mlflow-repro, or ended before it was written",
        )
    return store, record


def check_run(run_id: str, *, tracking_uri: str = "") -> Readiness:
    """Grade whether a run will reproduce, from what it recorded; nothing is fetched or launched.

    Raises CannotJudgeError when there is no such run, UnreachableError when the store does not answer.
    """
    from mlflow_repro.plan.readiness import grade_run
    from mlflow_repro.store.opening import open_store, short_retries

    check_run_id(run_id)
    with short_retries():
        store = open_store(tracking_uri)
        return grade_run(store.read_run(run_id), store.read_own_record(run_id), PlanOptions())


@dataclass(frozen=True, kw_only=True)
class Order:
    """One launch that was asked for: how its runs are judged, what it has other than the reference, what ends it."""

    options: ReproduceOptions
    judging: Judging
    changes: Changes = NO_CHANGES
    is_over: threading.Event = field(default_factory=threading.Event)


def reproduce_with(options: ReproduceOptions, changes: Changes = NO_CHANGES, judging: Judging | None = None) -> Report:
    """`reproduce_run` with its options as one value. ``changes`` are what this launch has other than the reference.

    ``judging`` is how it is judged, where that was read before.
    """
    from mlflow_repro.launch.launcher import read_backend_config
    from mlflow_repro.reproduce.answer import check_annotations
    from mlflow_repro.reproduce.repeats import check_repeats, reproduce_repeatedly

    if bool(options.run_id) == bool(options.model):
        raise UsageError("which run is meant is not said", "give either --run_id or --model")
    if options.run_id:
        check_run_id(options.run_id)
    check_options(options.plan_options(""))
    check_annotations(options)
    options.check()
    read_backend_config(options.backend_config)
    check_repeats(options)
    order = Order(options=options, judging=judging or options.judging.read(options.launch.work_dir), changes=changes)
    if options.is_repeated and not options.dry_run:
        return reproduce_repeatedly(order, _reproduce_once)
    if options.resume:
        return _judge_existing(order)
    if options.dry_run:
        with _work_directory(options) as place:
            return _reproduce(order, place, None)
    return _reproduce_once(order)


def _with_run_id(options: ReproduceOptions, store: TrackingStore) -> ReproduceOptions:
    return options if options.run_id else replace(options, run_id=store.find_model_run(options.model))


def _reproduce_once(order: Order) -> Report:
    """One relaunch, in a work directory and a session of its own. It ends when ``is_over`` is set."""
    from mlflow_repro.launch.launcher import Launcher

    options = order.options
    # The launching process imports mlflow while this one does too, reads the reference and fetches the code.
    with (
        _work_directory(options) as place,
        Launcher(place, session=uuid.uuid4().hex, show=options.show) as launcher,
    ):
        return _reproduce(order, place, launcher)


def _reproduce(order: Order, place: HeldFolder, launcher: Launcher | None) -> Report:
    from mlflow_repro.reproduce.environment import prepare_environment
    from mlflow_repro.reproduce.relaunch import Relaunch
    from mlflow_repro.store.opening import open_store, short_retries

    with short_retries():
        store = open_store(order.options.tracking_uri)
        options = _with_run_id(order.options, store)
        target = _find_target(options, store)
        options.say(FETCHING)
        code, rebuild, random_state = _prepare(options, target, store, place, order.changes)
        if launcher is None:
            return Report(plan=code.plan, reference=target.asked)
        for name in ("fail_fast", "isolated_home"):
            if getattr(options, name) and code.plan.backend != LOCAL:
                raise UsageError(f"{name} does not reach a run on the backend {code.plan.backend!r}", "leave it out")
        options.say(BUILDING)
        surroundings, notes = prepare_environment(
            code.plan, target.root, rebuild, code.checkout, allow_substitutions=options.launch.allow_substitutions
        )
        code = replace(code, plan=replace(code.plan, caveats=(*code.plan.caveats, *notes)))
        relaunch = Relaunch(
            target=target,
            code=code,
            store=store,
            launcher=launcher,
            session=launcher.session,
            timeout=options.timeout,
            random_state=random_state,
            surroundings=surroundings,
            rules=order.judging.rules,
            tell=options.tell,
            fail_fast=options.fail_fast,
            is_over=order.is_over,
            tags=order.changes.tags,
            allow_registry=options.allow_registry,
            isolated_home=options.isolated_home,
        )
        return _launch(replace(order, options=options), relaunch)


def _launch(order: Order, relaunch: Relaunch) -> Report:
    """Launch what is prepared, and judge it."""
    from mlflow_repro.reproduce.answer import report_pairs, report_stopped
    from mlflow_repro.reproduce.prepare import find_notes

    pairs, divergence = relaunch.run()
    plan = relaunch.code.plan
    plan = replace(plan, caveats=(*plan.caveats, *find_notes(pairs), *relaunch.held.notes))
    if divergence is not None:
        return report_stopped(plan, pairs[0], divergence, relaunch.rules)
    order.options.say(COMPARING)
    return report_pairs(order, plan, pairs, relaunch.store, folder=relaunch.code.checkout, reads=relaunch.held.reads)


def _find_target(options: ReproduceOptions, store: TrackingStore) -> Target:
    """The run that is asked for, and the one to launch again. Raises CannotJudgeError when either is no reference."""
    from mlflow_repro.judging.trees import find_target

    asked = store.read_run(options.run_id)
    plan_options = options.plan_options(store.uri)
    check_reference(asked, plan_options)
    target = find_target(store, asked)
    try:
        check_reference(target.root, plan_options)
    except CannotJudgeError as error:
        error.message = f"run {asked.run_id} comes back with the run that it belongs to, and {error.message}"
        raise
    return target


def _prepare(
    options: ReproduceOptions, target: Target, store: TrackingStore, place: HeldFolder, changes: Changes
) -> tuple[PreparedCode, Rebuild | None, Path | None]:
    """Plan the relaunch and fetch what it needs: the code, what its environment is made of, the random states."""
    from mlflow_repro.judging.sides import Side, read_tree
    from mlflow_repro.launch.notebook import check_installed
    from mlflow_repro.reproduce.environment import list_installed, plan_environment
    from mlflow_repro.reproduce.prepare import (
        PutBack,
        complete_plan,
        prepare_code,
        read_notebook,
        recast_plan,
        recast_rebuild,
    )

    side = Side(run=target.root, store=store)
    reference, record = side.run, side.record
    plan = plan_launch(recast_reference(reference, changes), options.plan_options(store.uri))
    plan = replace(plan, caveats=(*target.notes, *plan.caveats))
    wish = options.launch.environment_wish
    wish = replace(wish, env="recorded") if changes.needs_environment else wish
    plan, rebuild = plan_environment(plan, side, wish)
    rebuild = recast_rebuild(rebuild, changes)
    notebook = read_notebook(side)
    if notebook is not None:
        check_installed(*list_installed(plan, rebuild))
    random_state = None
    if options.restore_rng and options.seed is None and plan.backend == LOCAL:  # which runs on this machine
        random_state = _fetch_states(options, changes, target, store, Path(place.path, "random-state"))
    record = _recast(record, options, changes)
    ignore_diff = options.ignore_diff or changes.without_patch
    put_back = PutBack(
        has_random_state=random_state is not None,
        restore_rng=options.restore_rng,
        seed=options.seed,
        ignore_diff=ignore_diff,
    )
    code = prepare_code(
        recast_plan(complete_plan(plan, reference, record, put_back), changes),
        read_tree(_find_code(side, changes), record),
        place,
        notebook=notebook,
        given=options.params or {},
        recurse_submodules=options.launch.recurse_submodules,
        ignore_diff=ignore_diff,
    )
    return code, rebuild, random_state


def _find_code(side: Side, changes: Changes) -> Side:
    """The run that has the files of the code."""
    from mlflow_repro.judging.sides import read_sides

    if not changes.code_run:
        return side
    (other,) = read_sides([(changes.code_store or side.store.uri, changes.code_run)])
    return other


def _fetch_states(
    options: ReproduceOptions, changes: Changes, target: Target, store: TrackingStore, folder: Path
) -> Path | None:
    """The random states to put back, as files in ``folder``."""
    from mlflow_repro.reproduce.random_state import fetch_random_states, recast_folder

    is_same_launch = changes.is_same_launch and not (options.params or options.commit or options.ignore_diff)
    return recast_folder(fetch_random_states(store, target, folder, is_same_launch=is_same_launch), changes)


def _recast(record: Record, options: ReproduceOptions, changes: Changes) -> Record:
    """The record as this launch has it: what the run's own commit lacked does not belong to another commit."""
    record = recast_record(record, changes)
    return record.with_code(Code()) if options.commit else record


def _judge_existing(order: Order) -> Report:
    """Compare a reproduction that has run already (``resume``)."""
    from mlflow_repro.judging.trees import find_target, pair_relaunch
    from mlflow_repro.overlay.notes import HELD_TAG, parse_held
    from mlflow_repro.reproduce.answer import report_pairs
    from mlflow_repro.store.opening import open_store, short_retries

    check_run_id(order.options.resume)
    with short_retries():
        store = open_store(order.options.tracking_uri)
        options = _with_run_id(order.options, store)
        target = find_target(store, store.read_run(options.run_id))
        reproduction = store.read_run(options.resume)
        if reproduction.fact("reference_run_id").value not in (target.asked.run_id, target.tree.root_id):
            raise UsageError(f"run {options.resume} is not a reproduction of {target.asked.run_id}", "check both ids")
        plan = plan_launch(target.root, options.plan_options(store.uri))
        # What it was launched in is known to its own record alone.
        environment = EnvironmentPlan(kind="", reason="it had been launched before")
        held = parse_held(reproduction.tags.get(HELD_TAG, ""))
        plan = replace(plan, environment=environment, caveats=(*target.notes, *plan.caveats, *held.notes))
        pairs, _ = pair_relaunch(target, store, find_target(store, reproduction).root)
        return report_pairs(replace(order, options=options), plan, pairs, store, reads=held.reads)


@contextmanager
def _work_directory(options: ReproduceOptions) -> Iterator[HeldFolder]:
    """A folder of our own, removed in the end; what others have left when they were killed is removed first.

    Raises CannotJudgeError when none can be made.
    """
    for parent in dict.fromkeys((options.launch.work_dir, "")):
        sweep_folders(parent)
    with ExitStack() as stack:
        try:
            place = stack.enter_context(hold_folder(options.launch.work_dir))
        except OSError as error:
            raise CannotJudgeError(
                f"no work directory can be made: {error}", "give a folder with space: --work-dir DIRECTORY"
            ) from error
        yield place
