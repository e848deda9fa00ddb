"""Prove why a run does not reproduce: launch it with one thing changed after another."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.causes import Cause
from mlflow_repro.errors import CannotJudgeError, ReproError, UsageError
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.explaining import find_causes
from mlflow_repro.isolation.factors import Conditions, list_factors
from mlflow_repro.isolation.search import FIXED_LAUNCHES, search
from mlflow_repro.judging import Side, judge_runs
from mlflow_repro.model import Verdict
from mlflow_repro.plan import check_reference, check_run_id
from mlflow_repro.proofs import Conclusion, Isolation
from mlflow_repro.rebuild import describe_current
from mlflow_repro.redact import redact_text
from mlflow_repro.report.isolation_text import render_isolation
from mlflow_repro.report.markdown import render_text_note
from mlflow_repro.tracking import RANDOM_STATE_FILE, open_store, short_retries
from mlflow_repro.trial_options import TrialOptions, make_options
from mlflow_repro.trying import CannotChangeError, Trials, start_parent
from mlflow_repro.variables import record_variables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.changes import Changes
    from mlflow_repro.isolation.factors import Factor
    from mlflow_repro.model import Comparison, RunRecord
    from mlflow_repro.proofs import Blame
    from mlflow_repro.tracking import TrackingStore


@dataclass(frozen=True, kw_only=True)
class IsolateOptions(TrialOptions):
    """What `isolate_run` can be asked for. ``other`` is the run to hold against; empty for this machine as it is."""

    other: str = ""


def isolate_run(run_id: str, other: str = "", **options: Any) -> Isolation:
    """Prove which of the factors that differ changes the result of a run, by launching it again.

    The factors are what run ``other`` has otherwise; without it, what is otherwise here and now: environment variables,
    packages, the random state, uncommitted changes. ``options`` are the other fields of `IsolateOptions`. At most n + 3
    launches for n factors, each a run under one parent run.

    Raises `ReproError` when there is no answer: a run that cannot be launched as it was, a store that is not reached.
    """
    return isolate_with(make_options(IsolateOptions, run_id, {**options, "other": other}))


def isolate_with(options: IsolateOptions) -> Isolation:
    """`isolate_run` with its options as one value."""
    options.check()
    if options.other:
        check_run_id(options.other)
    if options.other == options.run_id:
        raise UsageError("a run is held against itself", "give another run with --other")
    with short_retries():
        store = open_store(options.tracking_uri)
        reference = store.read_run(options.run_id)
        check_reference(reference, options.plan_options(store.uri))
        one = _read_conditions(store, options.run_id)
        if not one.record:
            raise CannotJudgeError(f"run {options.run_id} has no record of itself", "it was made without mlflow-repro")
        comparison = _compare(store, reference, options)
        if comparison is not None and comparison.verdict is not Verdict.DIFFERENT:
            conclusion = Conclusion(state="no difference")
            return _answer(options, conclusion, (), None)
        other = _read_conditions(store, options.other) if options.other else _describe_here()
        factors = _rank(list_factors(one, other), comparison)
        parent = start_parent(store, options, reference, kind="isolate", other=options.other)
        limit = options.max_launches or len(factors) + FIXED_LAUNCHES
        trials = Trials(
            options=options, store=store, parent=parent, limit=limit, seconds=options.timeout, tell=options.tell_trial
        )
        return _search(options, factors, trials, reference)


def _search(options: IsolateOptions, factors: Sequence[Factor], trials: Trials, reference: RunRecord) -> Isolation:
    store, parent = trials.store, trials.parent
    try:
        conclusion = _conclude(factors, trials)
    except BaseException as error:
        with suppress(ReproError):
            store.finish_run(parent, "FAILED" if isinstance(error, ReproError) else "KILLED")
        raise
    isolation = _answer(options, conclusion, factors, trials)
    isolation = replace(isolation, causes=_find_proven(isolation, factors, trials, reference, options))
    note = render_text_note(redact_text(render_isolation(isolation)))
    store.set_tags(parent, {"mlflow.note.content": note, "repro.trials.state": conclusion.state})
    store.finish_run(parent, "FINISHED")
    return isolation


def _conclude(factors: Sequence[Factor], trials: Trials) -> Conclusion:
    """The conclusion of the search; factors that cannot be put in place here are left out of it, and named."""
    left = list(factors)
    impossible: list[str] = []
    while True:
        changes = {factor.name: factor.changes for factor in left}

        def ask(names: frozenset[str], attempt: int, changes: Mapping[str, Changes] = changes) -> str:
            return trials.run(names, changes, attempt).answer

        try:
            return replace(search(tuple(changes), ask), impossible=tuple(impossible))
        except CannotChangeError as error:
            gone = _find_impossible([factor for factor in left if factor.name in error.changed])
            if not gone:
                raise error.error from error
            impossible += gone
            left = [factor for factor in left if factor.name not in gone]


def _find_impossible(factors: Sequence[Factor]) -> list[str]:
    """Of factors that cannot be put in place together: those that need an environment, else the code."""
    environment = [factor.name for factor in factors if factor.changes.needs_environment]
    return environment or [factor.name for factor in factors if factor.changes.code]


def _answer(
    options: IsolateOptions, conclusion: Conclusion, factors: Sequence[Factor], trials: Trials | None
) -> Isolation:
    return Isolation(
        reference_run_id=options.run_id,
        other_run_id=options.other,
        parent_run_id=trials.parent if trials else "",
        factors={factor.name: factor.what for factor in factors},
        trials=tuple(trials.done) if trials else (),
        conclusion=conclusion,
        limit=trials.limit if trials else 0,
    )


def _find_proven(
    isolation: Isolation, factors: Sequence[Factor], trials: Trials, reference: RunRecord, options: IsolateOptions
) -> tuple[Cause, ...]:
    """The causes: proven ones, or, where the launches as recorded differ, what explains that."""
    by_name = {factor.name: factor for factor in factors}
    conclusion = isolation.conclusion
    if conclusion.state == "found":
        return tuple(_prove(blame, by_name, trials) for blame in conclusion.blames)
    if conclusion.state not in ("nondeterministic", "not restored"):
        return ()
    control, repeat = trials.known[frozenset(), 0], trials.known[frozenset(), 1]
    runs = [trials.store.read_run(run_id) for run_id in (control.run_id, repeat.run_id)]
    pair = runs if conclusion.state == "nondeterministic" else [reference, runs[0]]
    one, other = (Side(record=record, store=trials.store) for record in pair)
    causes = find_causes(one, other, judge_runs(one, other, options), fetches=True)
    if conclusion.state == "not restored":
        return causes
    proof = Cause(
        kind="nondeterminism",
        what="the run differs from itself",
        confidence=1.0,
        evidence=(f"launched twice as recorded: {repeat.difference or 'two results'} differs",),
        fix=causes[0].fix if causes else "",
    )
    return (proof, *(cause for cause in causes if cause.what != proof.what))


def _prove(blame: Blame, factors: dict[str, Factor], trials: Trials) -> Cause:
    parts = [factors[name] for name in blame.factors]
    trial = trials.known.get((blame.changed, 0))
    facts = [] if trial is None else [f"run {trial.run_id or 'without an id'}: {trial.answer}, {trial.difference}"]
    return Cause(
        kind=parts[0].kind,
        what=" together with ".join(part.what for part in parts),
        confidence=1.0,
        evidence=tuple(facts),
        fix=parts[0].fix,
    )


def _compare(store: TrackingStore, reference: RunRecord, options: IsolateOptions) -> Comparison | None:
    if not options.other:
        return None
    other = Side(record=store.read_run(options.other), store=store)
    return judge_runs(Side(record=reference, store=store), other, options)


def _rank(factors: Sequence[Factor], comparison: Comparison | None) -> list[Factor]:
    """The factors with the likeliest first, as the shape of the difference has it."""
    if comparison is None:
        return list(factors)
    shape = find_shape(comparison)
    return sorted(factors, key=lambda factor: -factor.weight * shape.likelihood(factor.kind))


def _read_conditions(store: TrackingStore, run_id: str) -> Conditions:
    import json

    content = store.read_file(run_id, RANDOM_STATE_FILE)
    return Conditions(
        run_id=run_id,
        record=store.read_own_record(run_id) or {},
        random_state=json.loads(content) if content else {},
    )


def _describe_here() -> Conditions:
    current = describe_current()
    environment = {"distributions": dict(current.distributions), "python": current.python.version}
    launch = {"variables": record_variables(os.environ)}
    return Conditions(record={"environment": environment, "launch": launch}, is_here=True)
