"""Prove why a run does not reproduce: launch it with one thing changed after another."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.data.finder import DataFinder
from mlflow_repro.errors import CannotJudgeError, ExitCode, UsageError
from mlflow_repro.explain.itself import DIFFERS_FROM_ITSELF
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.isolate.changes import merge_changes, names_file
from mlflow_repro.isolate.data import NO_DATA, DataFactors, list_changed_data, make_data_factors
from mlflow_repro.isolate.factors import Conditions, list_factors
from mlflow_repro.isolate.launches import (
    NOTE_TAG,
    CannotChangeError,
    Inquiry,
    Trials,
    start_parent,
)
from mlflow_repro.isolate.options import IsolateOptions
from mlflow_repro.isolate.search import FIXED_LAUNCHES, search
from mlflow_repro.judging.causes import find_causes
from mlflow_repro.judging.judge import judge_runs
from mlflow_repro.judging.sides import Side, split_name
from mlflow_repro.plan.launch import check_reference
from mlflow_repro.report.isolation_text import render_isolation
from mlflow_repro.report.markdown import render_text_note
from mlflow_repro.report.verdict_text import render_verdict
from mlflow_repro.reproduce.environment import describe_current
from mlflow_repro.reproduce.random_state import read_random_state
from mlflow_repro.store.opening import open_store, short_retries
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.text.redact import redact_text
from mlflow_repro.text.variables import record_variables
from mlflow_repro.values.comparison import Verdict
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.proofs import Conclusion, Isolation
from mlflow_repro.values.record import Record
from mlflow_repro.values.report import Cause
from mlflow_repro.values.sections import Cores, Environment, Launch, Machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow_repro.isolate.changes import Changes
    from mlflow_repro.isolate.factors import Factor
    from mlflow_repro.isolate.options import TrialOptions
    from mlflow_repro.judging.options import Judging
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.proofs import Blame
    from mlflow_repro.values.run import Run

_WITHOUT_PROOF = 0.95  # confidence in what every launch had changed


@takes(IsolateOptions)
def isolate_run(run_id: str, other: str = "", **options: Any) -> Isolation:
    """Prove which of the factors that differ changes the result of a run, by launching it again.

    The factors are what run ``other`` (an id, or ``TRACKING_URI#RUN_ID``) has otherwise; without it, what is otherwise
    here and now: environment variables, packages, the random state, uncommitted changes, data files. At most n + 3
    launches for n factors, each a run under one parent run.

    Raises `ReproError` when there is no answer: a run that cannot be launched as it was, a store that is not reached.
    Raises TypeError for an option that there is not.
    """
    return isolate_with(run_id, make_options(IsolateOptions, {**options, "other": other}, "isolate_run"))


def isolate_with(run_id: str, options: IsolateOptions) -> Isolation:
    """`isolate_run` with its options as one value."""
    trials = options.trials
    trials.check(run_id)
    judging = trials.judging.read(trials.launch.work_dir)
    named = split_name(options.other, "") if options.other else None
    finder = DataFinder(options.data)
    with short_retries():
        store = open_store(trials.tracking_uri)
        reference = store.read_run(run_id)
        check_reference(reference, trials.launch.plan_options(store.uri))
        sides = [Side(run=reference, store=store), *([_read_other(store, *named)] if named else [])]
        if named and _name(sides) == run_id:
            raise UsageError("a run is held against itself", "give another run with --other")
        one = _read_conditions(sides[0])
        if not one.record.exists:
            raise CannotJudgeError(f"run {run_id} has no record of itself", "it was made without mlflow-repro")
        comparison = judge_runs(sides[0], sides[1], judging) if named else None
        if comparison is not None and comparison.verdict.exit_code is ExitCode.NOT_JUDGED:
            raise CannotJudgeError(f"whether the two runs differ cannot be said: {render_verdict(comparison)}")
        if comparison is not None and comparison.verdict is not Verdict.DIFFERENT:
            return _answer(Conclusion(state="no difference"), _Question(sides=tuple(sides), judging=judging), None)
        other = _read_conditions(sides[1]) if named else _describe_here()
        question = _Question(
            factors=tuple(_rank(list_factors(one, other), comparison)),
            data=_look_at_data(one, other, finder, reference),
            sides=tuple(sides),
            judging=judging,
        )
        return _search(trials, question)


@dataclass(frozen=True, kw_only=True)
class _Question:
    """What is asked: the runs (reference first), and the factors that differ; those of the data are apart."""

    judging: Judging
    sides: tuple[Side, ...] = ()
    factors: tuple[Factor, ...] = ()
    data: DataFactors = NO_DATA

    @property
    def tried(self) -> tuple[Factor, ...]:
        """The factors that launches can change, in their order."""
        return (*self.data.factors, *self.factors)

    @property
    def named(self) -> dict[str, Factor]:
        """All factors by their names."""
        every = (*self.tried, *self.data.pinned, *self.data.impossible)
        return {factor.name: factor for factor in every}

    def describe(self) -> str:
        """What the answers of the launches depend on, as text."""
        pinned = [factor.name for factor in self.data.pinned]
        return "\n".join(sorted(factor.what for factor in self.named.values()) + sorted(pinned))


def _search(options: TrialOptions, question: _Question) -> Isolation:
    store = question.sides[0].store
    inquiry = Inquiry(kind="isolate", other=_name(question.sides), basis=question.describe())
    parent = start_parent(store, options, question.sides[0].run, inquiry)
    trials = Trials(
        run_id=question.sides[0].run.run_id,
        options=options,
        judging=question.judging,
        store=store,
        parent=parent,
        limit=options.max_launches or len(question.tried) + FIXED_LAUNCHES,
        seconds=options.timeout,
        tell=options.tell_trial,
        base=merge_changes([question.data.base, *(factor.base for factor in question.factors)]),
    )
    with trials.closing():
        conclusion = _conclude(question.tried, trials, question.data)
        isolation = _answer(conclusion, question, trials)
        isolation = replace(isolation, causes=_find_proven(isolation, question, trials))
        note = render_text_note(redact_text(render_isolation(isolation)))
        store.set_tags(parent, {NOTE_TAG: note, "repro.trials.state": conclusion.state})
    return isolation


def _name(sides: Sequence[Side]) -> str:
    """The other run, with its store where that is another one; empty without one."""
    if len(sides) == 1:
        return ""
    one, other = sides
    where = "" if one.store.uri == other.store.uri else f"{strip_credentials(other.store.uri)}#"
    return f"{where}{other.run.run_id}"


def _conclude(factors: Sequence[Factor], trials: Trials, data: DataFactors = NO_DATA) -> Conclusion:
    """The conclusion of the search; factors that cannot be put in place here are left out of it, and named."""
    left = list(factors)
    impossible = [factor.name for factor in data.impossible]
    pinned = tuple(factor.name for factor in data.pinned)
    while True:
        changes = {factor.name: factor.changes for factor in left}

        def ask(names: frozenset[str], attempt: int, changes: Mapping[str, Changes] = changes) -> str:
            return trials.run(names, changes, attempt).answer

        try:
            return replace(search(tuple(changes), ask, pinned), impossible=tuple(impossible))
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


def _answer(conclusion: Conclusion, question: _Question, trials: Trials | None) -> Isolation:
    return Isolation(
        reference_run_id=question.sides[0].run.run_id,
        other_run_id=question.sides[1].run.run_id if len(question.sides) > 1 else "",
        parent_run_id=trials.parent if trials else "",
        factors={name: factor.what for name, factor in question.named.items()},
        trials=tuple(trials.done) if trials else (),
        conclusion=conclusion,
        limit=trials.limit if trials else 0,
    )


def _find_proven(isolation: Isolation, question: _Question, trials: Trials) -> tuple[Cause, ...]:
    """The causes: proven ones, or, where the launches as recorded differ, what explains that."""
    conclusion = isolation.conclusion
    if conclusion.state == "found":
        return tuple(
            _suspect(blame, question, trials) if blame.was_there else _prove(blame, question.named, trials)
            for blame in conclusion.blames
        )
    if conclusion.state not in ("nondeterministic", "not restored"):
        return ()
    control, repeat = trials.known[frozenset(), 0], trials.known[frozenset(), 1]
    runs = [trials.store.read_run(run_id) for run_id in (control.run_id, repeat.run_id)]
    pair = runs if conclusion.state == "nondeterministic" else [question.sides[0].run, runs[0]]
    one, other = (Side(run=run, store=trials.store) for run in pair)
    causes = find_causes(one, other, judge_runs(one, other, trials.judging), fetches=True)
    named = tuple(cause for cause in causes if cause.what != DIFFERS_FROM_ITSELF)
    if conclusion.state == "not restored":  # twice in the same way: not that
        return named
    clues = [fact for cause in causes if cause.what == DIFFERS_FROM_ITSELF for fact in cause.evidence]
    proof = Cause(
        kind="nondeterminism",
        what=DIFFERS_FROM_ITSELF,
        confidence=1.0,
        evidence=(f"launched twice as recorded: {repeat.difference or 'two results'} differs", *clues),
        fix=named[0].fix if named else "",
    )
    return (proof, *named)


def _suspect(blame: Blame, question: _Question, trials: Trials) -> Cause:
    """The cause that is data whose old content is gone: no proof, as no launch can be made without it."""
    parts = [question.named[name] for name in blame.factors]
    control = trials.known[frozenset(), 0]
    facts = [f"run {control.run_id}, as recorded but for this: {control.difference or 'the result'} differs"]
    if len(question.sides) > 1:
        launched = Side(run=trials.store.read_run(control.run_id), store=trials.store)
        is_same = judge_runs(launched, question.sides[1], trials.judging).verdict.exit_code is ExitCode.EQUAL
        facts += ["its result is that of the other run"] if is_same else []
    return Cause(
        kind=parts[0].kind,
        what=" or ".join(part.what for part in parts),
        confidence=_WITHOUT_PROOF,
        evidence=(*facts, "the old content is not at hand: --data FOLDER tells where it lies, and proves it"),
        fix=parts[0].fix,
    )


def _prove(blame: Blame, factors: Mapping[str, Factor], trials: Trials) -> Cause:
    parts = [factors[name] for name in blame.factors]
    trial = trials.known.get((blame.changed, 0), trials.known.get((blame.changed, 1)))
    facts = [] if trial is None else [f"run {trial.run_id or 'without an id'}: {trial.answer}, {trial.difference}"]
    if blame.needs:
        others = ", ".join(factors[name].what for name in blame.needs)
        facts.append(f"by itself it changes nothing: it needs one or more of {others}")
    return Cause(
        kind=parts[0].kind,
        what=" together with ".join(part.what for part in parts),
        confidence=1.0,
        evidence=tuple(facts),
        fix=parts[0].fix,
    )


def _read_other(store: TrackingStore, uri: str, run_id: str) -> Side:
    """The other run, in its own store where one is named."""
    theirs = open_store(uri) if uri else store
    return Side(run=theirs.read_run(run_id), store=theirs)


def _look_at_data(one: Conditions, other: Conditions, finder: DataFinder, reference: Run) -> DataFactors:
    """The data files that differ, as far as their contents can be had."""
    changed = list_changed_data(one, other, finder.look, finds_others=finder.has_places)
    return make_data_factors(changed, finder.find, lambda path: names_file(reference, path))


def _rank(factors: Sequence[Factor], comparison: Comparison | None) -> list[Factor]:
    """The factors with the likeliest first, as the shape of the difference has it."""
    if comparison is None:
        return list(factors)
    shape = find_shape(comparison)
    return sorted(factors, key=lambda factor: -factor.weight * shape.likelihood(factor.kind))


def _read_conditions(side: Side) -> Conditions:
    store, run_id = side.store, side.run.run_id
    return Conditions(
        run_id=run_id,
        store=store.uri,
        record=side.record,
        random_state=read_random_state(store, side.run) or {},
    )


def _describe_here() -> Conditions:
    current = describe_current()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    here = Record(
        environment=Environment(distributions=current.distributions, python=current.python.version),
        launch=Launch(variables=record_variables(os.environ)),
        machine=Machine(cores=Cores(available=cores)),
    )
    return Conditions(record=here, is_here=True)
