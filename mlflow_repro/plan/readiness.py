"""Say of a run at once whether it will come back: what it recorded, what is missing, and what to do next time.

A pure function over the run and its record; nothing is fetched or launched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import ReproError
from mlflow_repro.plan.launch import check_reference, plan_launch
from mlflow_repro.values.report import Check, Grade, Readiness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_repro.plan.launch import PlanOptions
    from mlflow_repro.values.run import Run

_NAMED = 3
_WHOLE = "complete"


def grade_run(reference: Run, record: Mapping[str, Any] | None, options: PlanOptions) -> Readiness:
    """One row for each thing that a reproduction needs. ``record`` is the run's own, None when it has none.

    Raises nothing: what `plan_launch` or `check_reference` would refuse is a row.
    """
    rows = [
        _check_plan("reference", lambda: check_reference(reference, options), "the run has ended and can be compared"),
        _check_plan("launch", lambda: plan_launch(reference, options), "how it was started is known"),
        _check_outcome(reference),
    ]
    if record is None:
        advice = (
            "install mlflow-repro where the run is made" if not reference.is_captured else "let the run end by itself"
        )
        reason = reference.fact("capture").reason or "it ended before its record was written"
        rows.append(Check(name="record", grade=Grade.WARNING, text=f"there is no record: {reason}", advice=advice))
        return Readiness(run_id=reference.run_id, checks=tuple(rows))
    for section in (_check_notebook, _check_code, _check_randomness, _check_environment, _check_data):
        rows += section(record)
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


def _check_notebook(record: Mapping[str, Any]) -> Iterable[Check]:
    """Nothing for a run that was not made in a notebook."""
    notebook = record["launch"].get("notebook")
    if not isinstance(notebook, dict) or "cells" not in notebook:
        return
    if notebook["cells"] == notebook.get("cells_kept"):
        text = f"its {notebook['cells']} cells are recorded; papermill executes them (the extra notebook)"
        yield Check(name="notebook", grade=Grade.READY, text=text)
    else:
        yield Check(
            name="notebook",
            grade=Grade.WARNING,
            text=f"only {notebook.get('cells_kept')} of its {notebook['cells']} cells are recorded",
            advice="commit the notebook before it is run, and run it from the top",
        )


def _check_code(record: Mapping[str, Any]) -> Iterable[Check]:
    code = record["code"]
    if "tree" not in code:
        yield Check(name="code", grade=Grade.WARNING, text="the working tree was not recorded", advice="log_code=True")
        return
    script = record["launch"].get("script")
    if code.get("script") == "untracked" and script not in code["untracked"].get("paths", ()):
        yield Check(
            name="script",
            grade=Grade.OBSTACLE,
            text=f"git does not track {script!r}, and it was not recorded",
            advice="commit it, or do not let git ignore it",
        )
    bundle = code["bundle"]
    is_pushed = code["is_pushed"]
    if is_pushed is True or "file" in bundle:
        where = "on a remote" if is_pushed is True else "in the record, as it was on no remote"
        yield Check(name="commit", grade=Grade.READY, text=f"its commit is {where}")
    elif isinstance(code.get("commit"), str):
        yield Check(
            name="commit",
            grade=Grade.WARNING,
            text=f"its commit may be on no remote, and is not recorded: {_reason(bundle)}",
            advice="push it",
        )
    parts = [part for part in ("patch", "untracked") if code[part].get("withheld")]
    if isinstance(code["tree"], dict) or parts:
        why = "; ".join(_reason(code[part]) for part in parts) or _reason(code["tree"])
        yield Check(
            name="changes",
            grade=Grade.OBSTACLE,
            text=f"uncommitted changes were not recorded: {why}",
            advice="commit them, or reproduce without them: --ignore-diff",
        )
    else:
        state = "there were no uncommitted changes" if code["is_clean"] is True else "uncommitted changes are recorded"
        yield Check(name="changes", grade=Grade.READY, text=state)
    if code["left_out"]:
        names = ", ".join(str(row["path"]) for row in code["left_out"][:_NAMED])
        yield Check(
            name="left out",
            grade=Grade.WARNING,
            text=f"{len(code['left_out'])} files of the tree are not recorded ({names})",
            advice="commit what the run needs, ignore what it does not",
        )


def _check_randomness(record: Mapping[str, Any]) -> Iterable[Check]:
    seeds = record["seeds"]
    if seeds.get("mode") == "off" or "mode" not in seeds:
        yield Check(
            name="randomness",
            grade=Grade.WARNING,
            text="the random state is not recorded: what sets no seed will differ",
            advice="leave MLFLOW_REPRO_SEED at auto",
        )
        return
    unrepeatable = seeds.get("not_repeatable") or []
    if unrepeatable:
        yield Check(
            name="randomness",
            grade=Grade.WARNING,
            text=f"draws that cannot be put back: {', '.join(map(str, unrepeatable[:_NAMED]))}",
            advice="set a seed there",
        )
    else:
        yield Check(name="randomness", grade=Grade.READY, text="the random state is recorded")
    variables = record["launch"].get("variables", {})
    if isinstance(variables, dict) and "PYTHONHASHSEED" not in variables:
        yield Check(
            name="hash seed",
            grade=Grade.WARNING,
            text="the order of sets of strings is another in each process",
            advice="start with PYTHONHASHSEED=0 if the result depends on it",
        )


def _check_environment(record: Mapping[str, Any]) -> Iterable[Check]:
    environment = record["environment"]
    locks = environment.get("locks")
    if not isinstance(locks, list):
        yield Check(
            name="environment", grade=Grade.WARNING, text=f"the packages are not recorded: {_reason(locks)}", advice=""
        )
        return
    count = sum(lock["packages"] for lock in locks)
    left_out = {name: why for name, why in environment["left_out_of_locks"].items() if name != "mlflow-repro"}
    imported = environment.get("imported")
    needed = [name for name in left_out if not isinstance(imported, list) or name in imported]
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


def _check_data(record: Mapping[str, Any]) -> Iterable[Check]:
    data = record["data"]
    if not record.get(_WHOLE):
        yield Check(
            name="data",
            grade=Grade.WARNING,
            text="the run ended before its data was recorded",
            advice="let it end by itself",
        )
        return
    not_hashed = data.get("not_hashed", {}).get("files", 0)
    if not_hashed:
        yield Check(
            name="data",
            grade=Grade.WARNING,
            text=f"{not_hashed} files or folders have no digest, so that a change of them is not seen",
            advice="",
        )
        return
    files = [
        *data.get("params", ()),
        *(data["opened"].get("files", ()) if isinstance(data.get("opened"), dict) else ()),
    ]
    inputs = len(data.get("inputs", ()))
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


def _reason(fact: Any) -> str:
    return str(fact.get("absent", "not recorded")) if isinstance(fact, dict) else "not recorded"
