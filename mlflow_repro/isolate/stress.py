"""Find out what the result of a run depends on: launch it with its surroundings varied, one thing at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.isolate.launches import (
    NOTE_TAG,
    CannotChangeError,
    Inquiry,
    Trials,
    start_parent,
)
from mlflow_repro.isolate.options import StressOptions
from mlflow_repro.isolate.search import BudgetSpentError
from mlflow_repro.isolate.variations import VARIATIONS, Place, vary
from mlflow_repro.judging.sides import Side
from mlflow_repro.plan.launch import check_reference
from mlflow_repro.report.isolation_text import render_profile
from mlflow_repro.report.markdown import render_text_note
from mlflow_repro.store.opening import open_store, short_retries
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.proofs import EQUAL, Profile, Stress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.isolate.options import TrialOptions
    from mlflow_repro.isolate.variations import Variation
    from mlflow_repro.judging.options import Judging

_CONTROLS = 2


@takes(StressOptions)
def stress_run(run_id: str, **options: Any) -> Profile:
    """Launch a run with its surroundings varied, and say what its result depends on.

    Each launch is a run under one parent run. Raises `ReproError` when there is no answer, TypeError for an option that
    there is not.
    """
    return stress_with(run_id, make_options(StressOptions, options, "stress_run"))


def stress_with(run_id: str, options: StressOptions) -> Profile:
    """`stress_run` with its options as one value."""
    options.check(run_id)
    trials = options.trials
    judging = trials.judging.read(trials.launch.work_dir)
    with short_retries(), tempfile.TemporaryDirectory(prefix="mlflow-repro-") as folder:
        store = open_store(trials.tracking_uri)
        reference = store.read_run(run_id)
        check_reference(reference, trials.launch.plan_options(store.uri))
        record = store.read_own_record(run_id)
        if not record.exists:
            raise CannotJudgeError(f"run {run_id} has no record of itself", "it was made without mlflow-repro")
        wanted = options.vary or VARIATIONS
        variations = [one for one in vary(record, _make_places(Path(folder))) if one.name in wanted]
        return _stress(trials, judging, Side(run=reference, store=store), variations)


def _make_places(folder: Path) -> Place:
    """Folders for what is varied: an empty home, and a work directory with a blank in its name."""
    home, work = folder / "home", folder / "another place"
    home.mkdir()
    work.mkdir()
    return Place(home=str(home), work_directory=str(work))


def _stress(options: TrialOptions, judging: Judging, side: Side, variations: Sequence[Variation]) -> Profile:
    store, reference = side.store, side.run
    parent = start_parent(store, options, reference, Inquiry(kind="stress"))
    possible = [one for one in variations if not one.skipped]
    limit = options.max_launches or len(possible) + _CONTROLS
    trials = Trials(
        run_id=reference.run_id,
        options=options,
        judging=judging,
        store=store,
        parent=parent,
        limit=limit,
        seconds=options.timeout,
        tell=options.tell_trial,
    )
    with trials.closing():
        profile = _launch_all(reference.run_id, trials, variations)
        store.set_tags(parent, {NOTE_TAG: render_text_note(render_profile(profile))})
    return profile


def _launch_all(run_id: str, trials: Trials, variations: Sequence[Variation]) -> Profile:
    changes = {one.name: one.changes for one in variations}
    nothing: frozenset[str] = frozenset()
    try:
        control, repeat = trials.run(nothing, changes), trials.run(nothing, changes, attempt=1)
    except BudgetSpentError as error:
        raise CannotJudgeError("the budget does not suffice for the controls", "allow 3 launches or more") from error
    rows = [_launch_one(trials, one) for one in variations] if repeat.answer == EQUAL else []
    return Profile(
        run_id=run_id,
        parent_run_id=trials.parent,
        control=control.answer,
        repeat=repeat.answer,
        rows=tuple(rows),
    )


def _launch_one(trials: Trials, variation: Variation) -> Stress:
    skipped = variation.skipped
    if not skipped:
        try:
            trial = trials.run(
                frozenset({variation.name}), {variation.name: variation.changes}, settings=variation.settings
            )
        except BudgetSpentError:
            skipped = "out of budget"
        except CannotChangeError as error:
            skipped = error.error.message
        else:
            return Stress(
                name=variation.name,
                what=variation.what,
                answer=trial.answer,
                run_id=trial.run_id,
                note=trial.difference,
                seconds=trial.seconds,
            )
    return Stress(name=variation.name, what=variation.what, answer="skipped", note=skipped)
