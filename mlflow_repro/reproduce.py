"""Bring a run back: read it, plan, fetch its code, relaunch it, compare. Also ``python -m mlflow_repro.reproduce``."""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before anything else is imported
    from mlflow_repro.searchpath import leave_working_directory_out

    leave_working_directory_out()

import json
import math
import os
import shutil
import tempfile
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.model import LaunchPlan, Report, RunRecord, Tolerances
from mlflow_repro.plan import (
    PlanOptions,
    check_options,
    check_reference,
    check_run_id,
    plan_launch,
)
from mlflow_repro.variables import choose_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mlflow_repro.artifact_outcomes import Selection
    from mlflow_repro.gittree import TakenTree
    from mlflow_repro.grading import Readiness
    from mlflow_repro.launch import Launcher
    from mlflow_repro.model import Comparison
    from mlflow_repro.tracking import TrackingStore


_LARGEST_SEED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    The reference is ``run_id``, or the run that ``model`` came from (``models:/NAME/VERSION``, ``models:/NAME@ALIAS``,
    ``runs:/ID/PATH``). ``ignore_diff`` runs the commit without the uncommitted changes that the reference had.
    ``timeout`` is in seconds, None for no limit. ``resume`` is the id of a reproduction that has already run: it
    is judged, and nothing is launched. ``restore_rng`` puts the recorded random state back, so that a run that set no
    seed comes back too. ``seed`` (0 to 2**63-1) asks the other question, whether the result replicates: everything is
    seeded with it instead, but where the code does that itself. ``artifacts`` are patterns of the artifacts that are
    compared, empty for all and None for none; ``artifact_limit`` is how many GiB of them are read. ``show`` gets each
    line that the child prints.
    """

    run_id: str = ""
    model: str = ""
    uri: str = ""
    experiment_name: str = "Default"
    rel_tol: float = 1e-9
    abs_tol: float = 0.0
    artifacts: Sequence[str] | None = ()
    artifact_limit: float = 8.0
    tracking_uri: str = ""
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
    show: Callable[[str], None] | None = None

    @property
    def tolerances(self) -> Tolerances:
        """Raises UsageError when they are no tolerances."""
        return Tolerances(rel_tol=self.rel_tol, abs_tol=self.abs_tol)

    @property
    def selection(self) -> Selection | None:
        """Which artifacts are compared, None for none. Raises UsageError when the limit is none."""
        return _select_artifacts(self.artifacts, self.artifact_limit)

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


def compare_runs(  # noqa: PLR0913 - a public function: each option is an argument that an editor completes
    reference_id: str,
    reproduction_id: str,
    *,
    rel_tol: float = 1e-9,
    abs_tol: float = 0.0,
    artifacts: Sequence[str] | None = (),
    artifact_limit: float = 8.0,
    tracking_uri: str = "",
) -> Comparison:
    """Compare two runs of one tracking store: their metrics, parameters and artifacts (patterns; None for none).

    ``artifact_limit`` is how many GiB of artifacts are read. Raises `ReproError` when one of the runs cannot be read.
    """
    from mlflow_repro.tracking import open_store, short_retries

    tolerances = Tolerances(rel_tol=rel_tol, abs_tol=abs_tol)
    selection = _select_artifacts(artifacts, artifact_limit)
    with short_retries():
        store = open_store(tracking_uri)
        reference = store.read_run(check_run_id(reference_id))
        reproduction = store.read_run(check_run_id(reproduction_id))
    return _compare(store.uri, reference, reproduction, tolerances, selection)


def _select_artifacts(patterns: Sequence[str] | None, limit: float) -> Selection | None:
    from mlflow_repro.artifact_outcomes import Selection

    if not (math.isfinite(limit) and limit >= 0):
        raise UsageError(f"artifact_limit is {limit!r}", "it must be a number of GiB that is not negative")
    return None if patterns is None else Selection(patterns=tuple(patterns), limit=int(limit * 2**30))


def _compare(
    uri: str, reference: RunRecord, reproduction: RunRecord, tolerances: Tolerances, selection: Selection | None
) -> Comparison:
    """Compare two records, and what their runs left in the store ``uri``."""
    from mlflow_repro.artifact_outcomes import compare_run_artifacts
    from mlflow_repro.compare import compare_records
    from mlflow_repro.tracking import short_retries

    comparison = compare_records(reference, reproduction, tolerances)
    if selection is None:
        return comparison
    with short_retries():
        rows = compare_run_artifacts(uri, reference, reproduction, tolerances, selection)
    return replace(comparison, findings=(*comparison.findings, *rows))


def read_record(run_id: str, *, tracking_uri: str = "") -> dict[str, Any]:
    """The record that a run made of itself (`docs/record.md`), as plain JSON.

    Raises CannotJudgeError when the run has none, UnreachableError when the store does not answer.
    """
    from mlflow_repro.tracking import open_store, short_retries

    check_run_id(run_id)
    with short_retries():
        store = open_store(tracking_uri)
        store.read_run(run_id)
        record = store.read_record(run_id)
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
        return grade_run(store.read_run(run_id), store.read_record(run_id), PlanOptions())


def reproduce_with(options: ReproduceOptions) -> Report:
    """`reproduce_run` with its options as one value."""
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
    _ = options.tolerances, options.selection, read_backend_config(options.backend_config)
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


def _with_run_id(options: ReproduceOptions, store: TrackingStore) -> ReproduceOptions:
    return options if options.run_id else replace(options, run_id=store.find_model_run(options.model))


def _reproduce(options: ReproduceOptions, directory: Path, *, launcher: Launcher | None, session: str) -> Report:
    from mlflow_repro.relaunch import Relaunch, prepare_code
    from mlflow_repro.tracking import open_store, short_retries

    with short_retries():
        store = open_store(options.tracking_uri)
        options = _with_run_id(options, store)
        reference = store.read_run(options.run_id)
        plan_options = options.plan_options(store.uri)
        check_reference(reference, plan_options)
        record = store.read_record(options.run_id) or {}
        plan = plan_launch(reference, plan_options)
        random_state = _fetch_random_state(options, plan, store, directory / "random-state")
        plan = replace(
            plan,
            variables=_choose_variables(options, record),
            restores=_list_restores(record, has_random_state=random_state is not None, ignore_diff=options.ignore_diff),
            caveats=(*plan.caveats, *_find_gaps(options, reference, record, has_random_state=random_state is not None)),
        )
        code = prepare_code(
            plan,
            _read_code(store, options.run_id, record),
            directory,
            given=options.params or {},
            recurse_submodules=options.recurse_submodules,
            ignore_diff=options.ignore_diff,
        )
        if launcher is None:
            return Report(plan=code.plan, reference=reference)
        relaunch = Relaunch(
            reference=reference,
            code=code,
            store=store,
            launcher=launcher,
            session=session,
            timeout=options.timeout,
            random_state=random_state,
        )
        reproduction = relaunch.run()
    plan = replace(code.plan, caveats=(*code.plan.caveats, *_find_overruled(reproduction)))
    return _judge(options, store.uri, plan, reference, reproduction)


def _read_code(store: TrackingStore, run_id: str, record: Mapping[str, Any]) -> TakenTree | None:
    """What the run recorded of its working tree, None when it recorded nothing. Raises the errors of `read_code`."""
    from mlflow_repro.capture.tree import read_code

    def read_file(path: str) -> bytes:
        content = store.read_file(run_id, path)
        if content is None:
            raise CannotJudgeError(f"run {run_id} has no artifact {path}, which its record names", "it was deleted")
        return content

    is_recorded = "tree" in record.get("code", {})
    return read_code(record["code"], read_file) if is_recorded else None


def _list_restores(record: Mapping[str, Any], *, has_random_state: bool, ignore_diff: bool) -> tuple[str, ...]:
    """The artifacts that are put back."""
    from mlflow_repro.tracking import RANDOM_STATE_FILE

    code = record.get("code", {})
    parts = ("bundle",) if ignore_diff else ("bundle", "patch", "untracked")
    files = [code[part]["file"] for part in parts if "file" in code.get(part, ())]
    return (*files, *([RANDOM_STATE_FILE] if has_random_state else ()))


def _choose_variables(options: ReproduceOptions, record: Mapping[str, Any]) -> dict[str, str | None]:
    """What to change in the environment of the relaunch."""
    variables = choose_variables(record["launch"]["variables"], os.environ) if record else {}
    return variables if options.seed is None else {**variables, "MLFLOW_REPRO_SEED": str(options.seed)}


def _find_gaps(
    options: ReproduceOptions, reference: RunRecord, record: Mapping[str, Any], *, has_random_state: bool
) -> list[str]:
    """What of a run that was made with mlflow-repro will not be put back, and why."""
    gaps = []
    if reference.fact("git.dirty").value == "true" and "tree" not in record.get("code", {}):
        gaps.append("the reference was made from a working tree with uncommitted changes, which were not recorded")
    if options.seed is not None:
        gaps.append(
            f"everything is seeded with {options.seed}, but where the code sets a seed of its own: this asks whether"
            " the result replicates, not whether it is reproduced"
        )
    elif reference.is_captured and not has_random_state:
        reason = "is not put back" if options.restore_rng is False else "was not recorded and is not put back"
        gaps.append(f"the reference's random state {reason}: what sets no seed will differ")
    return gaps


def _find_overruled(reproduction: RunRecord) -> list[str]:
    """What the script wanted of MLflow, and did not get."""
    stored = reproduction.fact("launch.overruled").value
    if stored is None:
        return []
    calls = ", ".join(json.loads(stored)) if stored.startswith("[") else stored
    return [f"the script's own {calls} was overruled: the reproduction stays in this store and experiment"]


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
    return _judge(options, store.uri, plan, reference, reproduction)


def _judge(
    options: ReproduceOptions, uri: str, plan: LaunchPlan, reference: RunRecord, reproduction: RunRecord
) -> Report:
    comparison = _compare(uri, reference, reproduction, options.tolerances, options.selection)
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
