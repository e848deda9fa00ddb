"""Bring a run back: read it, plan, fetch its code, relaunch it, compare. Also ``python -m mlflow_repro.reproduce``."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before anything else is imported
    from mlflow_repro.searchpath import leave_working_directory_out

    leave_working_directory_out()

import json
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.env_choice import EnvironmentWish
from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.model import LaunchPlan, Report, RunRecord, Tolerances
from mlflow_repro.plan import (
    PlanOptions,
    check_options,
    check_reference,
    check_run_id,
    plan_launch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_repro.launch import Launcher
    from mlflow_repro.model import Comparison
    from mlflow_repro.tracking import TrackingStore


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    ``timeout`` is in seconds, None for no limit. ``resume`` is the id of a reproduction that has already run: it
    is judged, and nothing is launched. ``restore_rng`` puts the recorded random state back, so that a run that set no
    seed comes back too. ``env`` is ``recorded``, ``current`` or ``project``; with ``allow_substitutions`` what
    cannot be had exactly of a recorded environment is replaced or left out. ``show`` gets each line that the child
    prints.
    """

    run_id: str
    uri: str = ""
    experiment_name: str = "Default"
    rel_tol: float = 1e-9
    abs_tol: float = 0.0
    tracking_uri: str = ""
    env: str = ""
    allow_substitutions: bool = False
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


def read_record(run_id: str, *, tracking_uri: str = "") -> dict[str, Any]:
    """The record that a run made of itself (`docs/record.md`), as plain JSON.

    Raises CannotJudgeError when the run has none, UnreachableError when the store does not answer.
    """
    from mlflow_repro.tracking import RECORD_FILE, open_store, short_retries

    check_run_id(run_id)
    with short_retries(), tempfile.TemporaryDirectory(prefix="mlflow-repro-") as folder:
        store = open_store(tracking_uri)
        store.read_run(run_id)
        path = store.download_file(run_id, RECORD_FILE, Path(folder))
        if path is None:
            raise CannotJudgeError(
                f"run {run_id} has no record of itself",
                "it was made without mlflow-repro, or ended before it was written",
            )
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return record


def reproduce_with(options: ReproduceOptions) -> Report:
    """`reproduce_run` with its options as one value."""
    from mlflow_repro.launch import read_backend_config

    check_run_id(options.run_id)
    check_options(options.plan_options(""))
    if options.timeout is not None and not options.timeout > 0:
        raise UsageError(f"timeout is {options.timeout!r}", "it must be a number of seconds above 0")
    _ = options.tolerances, read_backend_config(options.backend_config)
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


def _reproduce(options: ReproduceOptions, directory: Path, *, launcher: Launcher | None, session: str) -> Report:
    from mlflow_repro.rebuild import plan_environment, prepare_environment
    from mlflow_repro.relaunch import Relaunch, prepare_code
    from mlflow_repro.tracking import open_store, short_retries

    with short_retries():
        store = open_store(options.tracking_uri)
        reference = store.read_run(options.run_id)
        plan_options = options.plan_options(store.uri)
        check_reference(reference, plan_options)
        plan = plan_launch(reference, plan_options)
        plan, recorded = plan_environment(plan, reference, store, options.environment_wish, directory / "record")
        code = prepare_code(plan, directory, given=options.params or {}, recurse_submodules=options.recurse_submodules)
        random_state = _fetch_random_state(options, plan, store, directory / "random-state")
        if random_state is None and reference.is_captured:
            reason = "is not put back" if options.restore_rng is False else "was not recorded and is not put back"
            caveat = f"the reference's random state {reason}: what sets no seed will differ"
            code = replace(code, plan=replace(code.plan, caveats=(*code.plan.caveats, caveat)))
        if launcher is None:
            return Report(plan=code.plan, reference=reference)
        surroundings, notes = prepare_environment(
            code.plan, reference, recorded, directory / "checkout", allow_substitutions=options.allow_substitutions
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
        )
        reproduction = relaunch.run()
    return _judge(options, code.plan, reference, reproduction)


def _fetch_random_state(
    options: ReproduceOptions, plan: LaunchPlan, store: TrackingStore, directory: Path
) -> Path | None:
    """The reference's random state, when it is wanted and recorded and the backend runs on this machine."""
    from mlflow_repro.tracking import RANDOM_STATE_FILE

    if not options.restore_rng or plan.backend != "local":
        return None
    return store.download_file(options.run_id, RANDOM_STATE_FILE, directory)


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
