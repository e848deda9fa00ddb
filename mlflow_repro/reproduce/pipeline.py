"""Bring a run back: read it, plan, fetch its code, relaunch it, compare."""

from __future__ import annotations

import threading
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, ReproError, UsageError
from mlflow_repro.launch.backends import LOCAL
from mlflow_repro.plan.launch import PlanOptions, check_options, check_reference, plan_launch
from mlflow_repro.reproduce.options import ReproduceOptions
from mlflow_repro.system.folders import hold_folder, sweep_folders
from mlflow_repro.system.spool import sweep_launches
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.plan import EnvironmentPlan
from mlflow_repro.values.progress import BUILDING, COMPARING, FETCHING
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import check_run_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlflow_repro.judging.options import Judging
    from mlflow_repro.judging.trees import Target
    from mlflow_repro.launch.launcher import Launcher
    from mlflow_repro.reproduce.prepare import Parts
    from mlflow_repro.reproduce.relaunch import Relaunch
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.system.folders import HeldFolder
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
    """One launch that was asked for: how its runs are judged, what it is made of, and what ends it."""

    options: ReproduceOptions
    judging: Judging
    parts: Parts
    is_over: threading.Event = field(default_factory=threading.Event)


def reproduce_with(options: ReproduceOptions, parts: Parts | None = None, judging: Judging | None = None) -> Report:
    """`reproduce_run` with its options as one value.

    ``parts`` is what it is made of, where that is not all as the reference recorded it; ``judging`` is how it is
    judged, where that was read before.
    """
    from mlflow_repro.launch.launcher import read_backend_config
    from mlflow_repro.reproduce.answer import check_annotations
    from mlflow_repro.reproduce.prepare import Parts as Recorded

    if bool(options.run_id) == bool(options.model):
        raise UsageError("which run is meant is not said", "give either --run_id or --model")
    if options.run_id:
        check_run_id(options.run_id)
    check_options(options.plan_options(""))
    check_annotations(options)
    options.check()
    read_backend_config(options.backend_config)
    judging = judging or options.judging.read(options.launch.work_dir)
    order = Order(options=options, judging=judging, parts=parts or Recorded())
    if options.is_repeated and not options.dry_run:
        from mlflow_repro.reproduce.repeats import reproduce_repeatedly

        return reproduce_repeatedly(order, _reproduce_once)
    if options.resume:
        return _judge_existing(order)
    if options.dry_run:
        with _work_directory(options) as place:
            return _reproduce(order, place, None)
    return _reproduce_once(order)


def _with_run_id(order: Order, store: TrackingStore) -> Order:
    options = order.options
    if options.run_id:
        return order
    return replace(order, options=replace(options, run_id=store.find_model_run(options.model)))


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
    from mlflow_repro.reproduce.prepare import prepare
    from mlflow_repro.reproduce.relaunch import Relaunch
    from mlflow_repro.store.opening import open_store, short_retries

    with short_retries():
        store = open_store(order.options.tracking_uri)
        order = _with_run_id(order, store)
        options = order.options
        target = _find_target(options, store)
        options.say(FETCHING)
        prepared = prepare(order, target, store, place)
        if launcher is None:
            return Report(plan=prepared.plan, reference=target.asked)
        for name in ("fail_fast", "isolated_home"):
            if getattr(options, name) and prepared.plan.backend != LOCAL:
                backend = prepared.plan.backend
                raise UsageError(f"{name} does not reach a run on the backend {backend!r}", "leave it out")
        options.say(BUILDING)
        surroundings, notes = prepare_environment(
            prepared, target.root, allow_substitutions=options.launch.allow_substitutions
        )
        relaunch = Relaunch(
            order=order, target=target, prepared=prepared, store=store, launcher=launcher, surroundings=surroundings
        )
        return _launch(relaunch, notes)


def _launch(relaunch: Relaunch, notes: Sequence[str]) -> Report:
    """Launch what is prepared, and judge it."""
    from mlflow_repro.reproduce.answer import report_pairs, report_stopped
    from mlflow_repro.reproduce.prepare import find_notes

    order, prepared = relaunch.order, relaunch.prepared
    pairs, divergence = relaunch.run()
    held = relaunch.held
    plan = prepared.plan.noting(*notes, *find_notes(pairs), *held.notes)
    if divergence is not None:
        return report_stopped(plan, pairs[0], divergence, order.judging.rules)
    order.options.say(COMPARING)
    return report_pairs(order, plan, pairs, relaunch.store, folder=prepared.checkout, reads=held.reads)


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


def _judge_existing(order: Order) -> Report:
    """Compare a reproduction that has run already (``resume``)."""
    from mlflow_repro.judging.trees import find_target, pair_relaunch
    from mlflow_repro.overlay.notes import HELD_TAG, parse_held
    from mlflow_repro.reproduce.answer import report_pairs
    from mlflow_repro.store.opening import open_store, short_retries

    check_run_id(order.options.resume)
    with short_retries():
        store = open_store(order.options.tracking_uri)
        order = _with_run_id(order, store)
        options = order.options
        target = find_target(store, store.read_run(options.run_id))
        reproduction = store.read_run(options.resume)
        if reproduction.fact("reference_run_id").value not in (target.asked.run_id, target.tree.root_id):
            raise UsageError(f"run {options.resume} is not a reproduction of {target.asked.run_id}", "check both ids")
        plan = plan_launch(target.root, options.plan_options(store.uri))
        # What it was launched in is known to its own record alone.
        environment = EnvironmentPlan(kind="", reason="it had been launched before")
        held = parse_held(reproduction.tags.get(HELD_TAG, ""))
        plan = replace(plan, environment=environment, caveats=(*target.notes, *plan.caveats)).noting(*held.notes)
        pairs, _ = pair_relaunch(target, store, find_target(store, reproduction).root)
        return report_pairs(order, plan, pairs, store, reads=held.reads)


def _close_dead_session(options: ReproduceOptions, duty: str) -> bool:
    """Close the runs of a session that was killed, where they are in the store of this one; whether that is done."""
    from mlflow_repro.store.opening import open_store, short_retries
    from mlflow_repro.store.sessions import close_described

    try:
        with short_retries():
            return close_described(open_store(options.tracking_uri), duty)
    except ReproError:
        return False


@contextmanager
def _work_directory(options: ReproduceOptions) -> Iterator[HeldFolder]:
    """A folder of our own, removed in the end; what others have left when they were killed is removed first.

    Raises CannotJudgeError when none can be made.
    """
    sweep_launches()
    for parent in dict.fromkeys((options.launch.work_dir, "")):
        sweep_folders(parent, lambda duty: _close_dead_session(options, duty))
    with ExitStack() as stack:
        try:
            place = stack.enter_context(hold_folder(options.launch.work_dir))
        except OSError as error:
            raise CannotJudgeError(
                f"no work directory can be made: {error}", "give a folder with space: --work-dir DIRECTORY"
            ) from error
        yield place
