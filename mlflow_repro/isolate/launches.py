"""Launch a run again and again with something changed, as runs under one parent, and say how each came out."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import (
    CannotJudgeError,
    ExitCode,
    LaunchError,
    RefusedError,
    ReproError,
    UnreachableError,
    UsageError,
)
from mlflow_repro.isolate.changes import NO_CHANGES, Changes, merge_changes
from mlflow_repro.isolate.parts import change_parts
from mlflow_repro.isolate.search import BudgetSpentError
from mlflow_repro.judging.judge import judge_runs
from mlflow_repro.judging.sides import Side
from mlflow_repro.report.verdict_text import render_verdict
from mlflow_repro.reproduce.pipeline import reproduce_with
from mlflow_repro.store.sessions import hold_session
from mlflow_repro.values.comparison import DIFFERENT_STATUSES, OUTCOMES, Status
from mlflow_repro.values.options import change_options
from mlflow_repro.values.proofs import ANSWERS, DIFFERENT, EQUAL, FAILED, Trial
from mlflow_repro.values.run import SESSION_TAG, TAG_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow_repro.isolate.options import TrialOptions
    from mlflow_repro.judging.options import Judging
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.run import Run


PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
_TRIAL = f"{TAG_PREFIX}trial."
_KIND_TAG, _OF_TAG, _OTHER_TAG, _BASIS_TAG = (f"{TAG_PREFIX}trials.{name}" for name in ("kind", "of", "other", "basis"))


class CannotChangeError(Exception):
    """What was to be changed in a launch cannot be put in place here; ``error`` says why."""

    def __init__(self, changed: tuple[str, ...], error: ReproError) -> None:
        super().__init__(str(error))
        self.changed = changed
        self.error = error


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """What a search asks, by which an interrupted one is known again.

    ``kind`` is its command, ``other`` names the other run, ``basis`` is what the answers of its launches depend on.
    """

    kind: str
    other: str = ""
    basis: str = ""


@dataclass
class Trials:
    """The launches of one search. Each is a run under ``parent``; ``known`` are those of an interrupted search.

    ``limit`` is how many launches there may be in all, ``seconds`` how long they may take from now on. ``tell`` gets
    each launch as it begins (without an answer) and ends. ``base`` is changed in every launch.
    """

    run_id: str
    options: TrialOptions
    judging: Judging
    store: TrackingStore
    parent: str
    limit: int
    seconds: float | None = None
    tell: Callable[[int, int, Trial], None] | None = None
    base: Changes = NO_CHANGES
    known: dict[tuple[frozenset[str], int], Trial] = field(default_factory=dict)
    done: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._deadline = None if self.seconds is None else time.monotonic() + self.seconds
        self.known = read_trials(self.store, self.parent)
        self.done = list(self.known.values())

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Whatever ends the search, close the parent run, with a note there that says how to go on."""
        try:
            with hold_session(self.store.uri) as session:
                self.store.set_tags(self.parent, {SESSION_TAG: session})
                yield
        except BaseException as error:
            note = f"Ended early, after {len(self.done)} launches. --resume {self.parent} goes on from there."
            with suppress(ReproError):
                self.store.set_tags(self.parent, {NOTE_TAG: note})
                self.store.finish_run(self.parent, "FAILED" if isinstance(error, ReproError) else "KILLED")
            raise
        self.store.finish_run(self.parent, "FINISHED")

    def run(
        self,
        names: frozenset[str],
        changes: Mapping[str, Changes],
        attempt: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> Trial:
        """Launch with the changes of ``names``, unless that was done. ``settings`` are options of this one.

        Raises BudgetSpentError, CannotChangeError, and of a control LaunchError.
        """
        key = (names, attempt)
        if key in self.known:
            return self.known[key]
        if len(self.done) >= self.limit or (self._left() or 1) <= 0:
            raise BudgetSpentError
        changed = tuple(name for name in changes if name in names)
        tags = {
            PARENT_TAG: self.parent,
            f"{_TRIAL}changed": json.dumps(changed),
            f"{_TRIAL}attempt": str(attempt),
        }
        if self.tell:
            self.tell(len(self.done) + 1, self.limit, Trial(changed=changed, answer="", attempt=attempt))
        started = time.monotonic()
        merged = merge_changes([self.base, *(changes[name] for name in changed), Changes(tags=tags)])
        trial = self._launch(merged, changed, attempt, settings or {})
        trial = replace(trial, seconds=round(time.monotonic() - started, 1))
        if trial.run_id:
            answer = {f"{_TRIAL}answer": trial.answer, f"{_TRIAL}difference": trial.difference[:500]}
            self.store.set_tags(trial.run_id, {**tags, **answer})
        self.known[key] = trial
        self.done.append(trial)
        if self.tell:
            self.tell(len(self.done), self.limit, trial)
        return trial

    def _launch(self, changes: Changes, changed: tuple[str, ...], attempt: int, settings: Mapping[str, Any]) -> Trial:
        timeout = self._left() or self.options.timeout
        options = change_options(self.options.launch_options(self.run_id, timeout), **settings)
        try:
            report = reproduce_with(options, change_parts(changes), self.judging)
        except LaunchError as error:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                raise BudgetSpentError from error
            if not changed:
                raise
            note = error.message.partition(": ")[2] or error.message
            return Trial(changed=changed, answer=FAILED, run_id=error.run_id, attempt=attempt, difference=note)
        except (CannotJudgeError, RefusedError, UnreachableError) as error:
            if not changed:
                raise
            raise CannotChangeError(changed, error) from error
        comparison, reproduction = report.comparison, report.reproduction
        if comparison is None or reproduction is None:
            raise CannotJudgeError("a launch gave no result", "nothing was launched")
        if attempt:
            comparison = self._judge_against_first(reproduction)
        return Trial(
            changed=changed,
            answer=_to_answer(comparison),
            run_id=reproduction.run_id,
            attempt=attempt,
            difference=describe_difference(comparison),
        )

    def _judge_against_first(self, repeat: Run) -> Comparison:
        first = self.known[frozenset(), 0]
        control = Side(run=self.store.read_run(first.run_id), store=self.store)
        return judge_runs(control, Side(run=repeat, store=self.store), self.judging)

    def _left(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()


def start_parent(store: TrackingStore, options: TrialOptions, reference: Run, inquiry: Inquiry) -> str:
    """The run that all launches are nested under: a new one, or that of an interrupted search.

    Raises UsageError for the parent of another search.
    """
    parent = _find_parent(store, options, reference, inquiry)
    if options.tell_parent:
        options.tell_parent(parent)
    return parent


def _find_parent(store: TrackingStore, options: TrialOptions, reference: Run, inquiry: Inquiry) -> str:
    kind, basis = inquiry.kind, hashlib.sha256(inquiry.basis.encode()).hexdigest()
    tags = {_KIND_TAG: kind, _OF_TAG: reference.run_id, _OTHER_TAG: inquiry.other, _BASIS_TAG: basis}
    if options.parent:
        found = store.read_run(options.parent)
        if any(found.tags.get(name) != value for name, value in tags.items() if name != _BASIS_TAG):
            raise UsageError(
                f"run {options.parent} is not the parent of such a search", f"check both ids, and mlflow-repro {kind}"
            )
        if found.tags.get(_BASIS_TAG, basis) != basis:
            raise UsageError(
                f"what differs is not what it was when the search of {options.parent} began",
                "begin another one: leave --resume out",
            )
        return options.parent
    experiment = store.ensure_experiment(options.launch.experiment_name)
    name = f"{kind} of {reference.run_name or reference.run_id}"
    return store.create_run(experiment, name=name, tags=tags, params={})


def read_trials(store: TrackingStore, parent: str) -> dict[tuple[frozenset[str], int], Trial]:
    """The launches under ``parent`` that came to an end."""
    known = {}
    for run in store.find_children(parent):
        answer = run.tags.get(f"{_TRIAL}answer")
        if answer not in ANSWERS:
            if run.status == "RUNNING":  # whoever launched it is gone
                store.finish_run(run.run_id, "KILLED")
            continue
        changed = tuple(json.loads(run.tags[f"{_TRIAL}changed"]))
        attempt = int(run.tags[f"{_TRIAL}attempt"])
        known[frozenset(changed), attempt] = Trial(
            changed=changed,
            answer=answer,
            run_id=run.run_id,
            attempt=attempt,
            difference=run.tags.get(f"{_TRIAL}difference", ""),
        )
    return known


def describe_difference(comparison: Comparison) -> str:
    """What differs first: a metric with its step, else the first kind of outcome; empty where nothing does."""
    unequal = [row for row in comparison.findings if row.is_judged and row.status in DIFFERENT_STATUSES]
    histories = [row for row in unequal if row.kind == "history" and "first_different_step" in row.details]
    if histories:
        first = min(histories, key=lambda row: float(row.details["first_different_step"]))
        return f"{first.name} from step {first.details['first_different_step']} on"
    ranked = sorted(unequal, key=lambda row: OUTCOMES.index(row.kind))
    return ranked[0].name if ranked else ""


def _why_unknown(comparison: Comparison) -> str:
    if any(row.is_judged and row.status is Status.UNKNOWN for row in comparison.findings):
        return render_verdict(comparison)
    return "there is nothing to compare (log a metric in the run)"


def _to_answer(comparison: Comparison) -> str:
    code = comparison.verdict.exit_code
    if code is ExitCode.NOT_JUDGED:
        raise CannotJudgeError(f"a launch cannot be judged: {_why_unknown(comparison)}")
    return EQUAL if code is ExitCode.EQUAL else DIFFERENT
