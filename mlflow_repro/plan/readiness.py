"""Say of a run at once whether it will come back: what it recorded, what is missing, and what to do next time.

A pure function over the run and its record; nothing is fetched or launched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.errors import ReproError
from mlflow_repro.plan.launch import check_reference, plan_launch
from mlflow_repro.values.report import Check, Grade, Readiness
from mlflow_repro.values.sections import Missing, TreePart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_repro.plan.launch import PlanOptions
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run

_NAMED = 3


def grade_run(reference: Run, record: Record, options: PlanOptions) -> Readiness:
    """One row for each thing that a reproduction needs. ``record`` is the run's own.

    Raises nothing: what `plan_launch` or `check_reference` would refuse is a row.
    """
    rows = [
        _check_plan("reference", lambda: check_reference(reference, options), "the run has ended and can be compared"),
        _check_plan("launch", lambda: plan_launch(reference, options), "how it was started is known"),
        _check_outcome(reference),
    ]
    if not record.exists:
        advice = (
            "install mlflow-repro where the run is made" if not reference.is_captured else "let the run end by itself"
        )
        reason = reference.fact("capture").reason or "it ended before its record was written"
        rows.append(_warn("record", f"there is no record: {reason}", advice))
        return Readiness(run_id=reference.run_id, checks=tuple(rows))
    for look in (_check_damage, _check_notebook, _check_code, _check_randomness, _check_environment, _check_data):
        rows += look(record)
    return Readiness(run_id=reference.run_id, checks=tuple(rows))


def _ready(name: str, text: str, advice: str = "") -> Check:
    return Check(name=name, grade=Grade.READY, text=text, advice=advice)


def _warn(name: str, text: str, advice: str = "") -> Check:
    return Check(name=name, grade=Grade.WARNING, text=text, advice=advice)


def _stop(name: str, text: str, advice: str) -> Check:
    return Check(name=name, grade=Grade.OBSTACLE, text=text, advice=advice)


def _check_plan(name: str, attempt: Callable[[], object], good: str) -> Check:
    try:
        attempt()
    except ReproError as error:
        return _stop(name, error.message, error.hint)
    return _ready(name, good)


def _check_outcome(reference: Run) -> Check:
    if reference.metrics:
        return _ready("metrics", f"{len(reference.metrics)} metrics to compare")
    return _stop("metrics", "it logged no metric to compare", "log one by mlflow.log_metric")


def _check_damage(record: Record) -> Iterable[Check]:
    if record.damage:
        advice = "make the run again: what the record says now, it did not say when it was made"
        yield _warn("record", record.damage_note, advice)


def _check_notebook(record: Record) -> Iterable[Check]:
    """Nothing for a run that was not made in a notebook."""
    notebook = record.launch.notebook
    if notebook is None:
        return
    if notebook.cells == notebook.cells_kept:
        yield _ready(
            "notebook", f"its {notebook.cells} cells are recorded; papermill executes them (the extra notebook)"
        )
    else:
        text = f"only {notebook.cells_kept} of its {notebook.cells} cells are recorded"
        yield _warn("notebook", text, "commit the notebook before it is run, and run it from the top")


def _check_code(record: Record) -> Iterable[Check]:
    code, script = record.code, record.launch.script
    if code.tree is None:
        yield _warn("code", "the working tree was not recorded", "log_code=True")
        return
    if code.script == "untracked" and not (code.untracked and script in code.untracked.paths):
        advice = "commit it, or do not let git ignore it"
        yield _stop("script", f"git does not track {script!r}, and it was not recorded", advice)
    if code.is_pushed or (code.bundle and code.bundle.file):
        yield _ready(
            "commit", f"its commit is {'on a remote' if code.is_pushed else 'in the record, as it was on no remote'}"
        )
    elif code.commit:
        text = f"its commit may be on no remote, and is not recorded: {_reason(code.bundle)}"
        yield _warn("commit", text, "push it")
    parts = (code.patch, code.untracked)
    withheld = [_reason(part) for part in parts if part is None or part.withheld]
    if isinstance(code.tree, Missing) or withheld:
        why = "; ".join(withheld) or _reason(code.tree)
        advice = "commit them, or reproduce without them: --ignore-diff"
        yield _stop("changes", f"uncommitted changes were not recorded: {why}", advice)
    else:
        state = "there were no uncommitted changes" if code.is_clean else "uncommitted changes are recorded"
        yield _ready("changes", state)
    if code.left_out:
        names = ", ".join(row.path for row in code.left_out[:_NAMED])
        text = f"{len(code.left_out)} files of the tree are not recorded ({names})"
        yield _warn("left out", text, "commit what the run needs, ignore what it does not")


def _check_randomness(record: Record) -> Iterable[Check]:
    seeds = record.seeds
    if seeds.mode in ("off", None):
        text = "the random state is not recorded: what sets no seed will differ"
        yield _warn("randomness", text, "leave MLFLOW_REPRO_SEED at auto")
        return
    if seeds.not_repeatable:
        text = f"draws that cannot be put back: {', '.join(seeds.not_repeatable[:_NAMED])}"
        yield _warn("randomness", text, "set a seed there")
    else:
        yield _ready("randomness", "the random state is recorded")
    if record.launch.variables is not None and "PYTHONHASHSEED" not in record.launch.variables:
        text = "the order of sets of strings is another in each process"
        yield _warn("hash seed", text, "start with PYTHONHASHSEED=0 if the result depends on it")


def _check_environment(record: Record) -> Iterable[Check]:
    environment = record.environment
    locks = environment.locks
    if locks is None or isinstance(locks, Missing):
        yield _warn("environment", f"the packages are not recorded: {_reason(locks)}")
        return
    left_out = {name: why for name, why in (environment.left_out_of_locks or {}).items() if name != "mlflow-repro"}
    needed = [name for name in left_out if environment.imported is None or name in environment.imported]
    if needed:
        named = ", ".join(f"{name}: {left_out[name]}" for name in needed[:_NAMED])
        text = f"{len(needed)} imported packages are in no lock ({named})"
        yield _warn("environment", text, "install them from an index or a git commit")
    else:
        yield _ready("environment", f"{sum(lock.packages for lock in locks)} packages are locked")


def _check_data(record: Record) -> Iterable[Check]:
    data = record.data
    files, inputs = [*data.params, *(data.opened.files if data.opened else ())], len(data.inputs)
    if not record.is_complete:
        yield _warn("data", "the run ended before its data was recorded", "let it end by itself")
    elif data.not_hashed.files:
        text = f"{data.not_hashed.files} files or folders have no digest, so that a change of them is not seen"
        yield _warn("data", text)
    elif files or inputs:
        yield _ready("data", f"{len(files)} files and {inputs} data sets have their digests")
    else:
        advice = "MLFLOW_REPRO_TRACK_FILES=1 records the files that a run reads"
        yield _ready("data", "no parameter names a file, no data set was logged", advice)


def _reason(fact: object) -> str:
    if isinstance(fact, TreePart):
        return fact.absent or "not recorded"
    return fact.reason if isinstance(fact, Missing) else "not recorded"
