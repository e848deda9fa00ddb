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
        rows.append(Check(name="record", grade=Grade.WARNING, text=f"there is no record: {reason}", advice=advice))
        return Readiness(run_id=reference.run_id, checks=tuple(rows))
    for look in (_check_damage, _check_notebook, _check_code, _check_randomness, _check_environment, _check_data):
        rows += look(record)
    return Readiness(run_id=reference.run_id, checks=tuple(rows))


def _check_plan(name: str, attempt: Callable[[], object], good: str) -> Check:
    try:
        attempt()
    except ReproError as error:
        return Check(name=name, grade=Grade.OBSTACLE, text=error.message, advice=error.hint)
    return Check(name=name, grade=Grade.READY, text=good)


def _check_outcome(reference: Run) -> Check:
    if reference.metrics:
        return Check(name="metrics", grade=Grade.READY, text=f"{len(reference.metrics)} metrics to compare")
    return Check(
        name="metrics",
        grade=Grade.OBSTACLE,
        text="it logged no metric to compare",
        advice="log one by mlflow.log_metric",
    )


def _check_damage(record: Record) -> Iterable[Check]:
    if record.damage:
        advice = "make the run again: what the record says now, it did not say when it was made"
        yield Check(name="record", grade=Grade.WARNING, text=record.damage_note, advice=advice)


def _check_notebook(record: Record) -> Iterable[Check]:
    """Nothing for a run that was not made in a notebook."""
    notebook = record.launch.notebook
    if notebook is None:
        return
    if notebook.cells == notebook.cells_kept:
        text = f"its {notebook.cells} cells are recorded; papermill executes them (the extra notebook)"
        yield Check(name="notebook", grade=Grade.READY, text=text)
    else:
        yield Check(
            name="notebook",
            grade=Grade.WARNING,
            text=f"only {notebook.cells_kept} of its {notebook.cells} cells are recorded",
            advice="commit the notebook before it is run, and run it from the top",
        )


def _check_code(record: Record) -> Iterable[Check]:
    code, script = record.code, record.launch.script
    if code.tree is None:
        yield Check(name="code", grade=Grade.WARNING, text="the working tree was not recorded", advice="log_code=True")
        return
    if code.script == "untracked" and not (code.untracked and script in code.untracked.paths):
        yield Check(
            name="script",
            grade=Grade.OBSTACLE,
            text=f"git does not track {script!r}, and it was not recorded",
            advice="commit it, or do not let git ignore it",
        )
    if code.is_pushed or (code.bundle and code.bundle.file):
        where = "on a remote" if code.is_pushed else "in the record, as it was on no remote"
        yield Check(name="commit", grade=Grade.READY, text=f"its commit is {where}")
    elif code.commit:
        yield Check(
            name="commit",
            grade=Grade.WARNING,
            text=f"its commit may be on no remote, and is not recorded: {_reason(code.bundle)}",
            advice="push it",
        )
    parts = (code.patch, code.untracked)
    withheld = [_reason(part) for part in parts if part is None or part.withheld]
    if isinstance(code.tree, Missing) or withheld:
        why = "; ".join(withheld) or _reason(code.tree)
        yield Check(
            name="changes",
            grade=Grade.OBSTACLE,
            text=f"uncommitted changes were not recorded: {why}",
            advice="commit them, or reproduce without them: --ignore-diff",
        )
    else:
        state = "there were no uncommitted changes" if code.is_clean else "uncommitted changes are recorded"
        yield Check(name="changes", grade=Grade.READY, text=state)
    if code.left_out:
        names = ", ".join(row.path for row in code.left_out[:_NAMED])
        yield Check(
            name="left out",
            grade=Grade.WARNING,
            text=f"{len(code.left_out)} files of the tree are not recorded ({names})",
            advice="commit what the run needs, ignore what it does not",
        )


def _check_randomness(record: Record) -> Iterable[Check]:
    seeds = record.seeds
    if seeds.mode in ("off", None):
        yield Check(
            name="randomness",
            grade=Grade.WARNING,
            text="the random state is not recorded: what sets no seed will differ",
            advice="leave MLFLOW_REPRO_SEED at auto",
        )
        return
    if seeds.not_repeatable:
        yield Check(
            name="randomness",
            grade=Grade.WARNING,
            text=f"draws that cannot be put back: {', '.join(seeds.not_repeatable[:_NAMED])}",
            advice="set a seed there",
        )
    else:
        yield Check(name="randomness", grade=Grade.READY, text="the random state is recorded")
    if record.launch.variables is not None and "PYTHONHASHSEED" not in record.launch.variables:
        yield Check(
            name="hash seed",
            grade=Grade.WARNING,
            text="the order of sets of strings is another in each process",
            advice="start with PYTHONHASHSEED=0 if the result depends on it",
        )


def _check_environment(record: Record) -> Iterable[Check]:
    environment = record.environment
    locks = environment.locks
    if locks is None or isinstance(locks, Missing):
        yield Check(
            name="environment", grade=Grade.WARNING, text=f"the packages are not recorded: {_reason(locks)}", advice=""
        )
        return
    count = sum(lock.packages for lock in locks)
    left_out = {name: why for name, why in (environment.left_out_of_locks or {}).items() if name != "mlflow-repro"}
    needed = [name for name in left_out if environment.imported is None or name in environment.imported]
    if needed:
        named = ", ".join(f"{name}: {left_out[name]}" for name in needed[:_NAMED])
        yield Check(
            name="environment",
            grade=Grade.WARNING,
            text=f"{len(needed)} imported packages are in no lock ({named})",
            advice="install them from an index or a git commit",
        )
    else:
        yield Check(name="environment", grade=Grade.READY, text=f"{count} packages are locked")


def _check_data(record: Record) -> Iterable[Check]:
    data = record.data
    if not record.is_complete:
        yield Check(
            name="data",
            grade=Grade.WARNING,
            text="the run ended before its data was recorded",
            advice="let it end by itself",
        )
        return
    if data.not_hashed.files:
        yield Check(
            name="data",
            grade=Grade.WARNING,
            text=f"{data.not_hashed.files} files or folders have no digest, so that a change of them is not seen",
            advice="",
        )
        return
    files = [*data.params, *(data.opened.files if data.opened else ())]
    inputs = len(data.inputs)
    if files or inputs:
        yield Check(
            name="data", grade=Grade.READY, text=f"{len(files)} files and {inputs} data sets have their digests"
        )
    else:
        yield Check(
            name="data",
            grade=Grade.READY,
            text="no parameter names a file, no data set was logged",
            advice="MLFLOW_REPRO_TRACK_FILES=1 records the files that a run reads",
        )


def _reason(fact: object) -> str:
    if isinstance(fact, TreePart):
        return fact.absent or "not recorded"
    return fact.reason if isinstance(fact, Missing) else "not recorded"
