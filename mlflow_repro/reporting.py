"""Make the report of a relaunch: judge its pairs of runs, name the causes, leave the answer on the runs' pages."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, ReproError
from mlflow_repro.judging import Side, judge_runs
from mlflow_repro.model import Report

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.model import LaunchPlan, RunRecord
    from mlflow_repro.moments import Divergence
    from mlflow_repro.reproduce import ReproduceOptions
    from mlflow_repro.rules import Rules
    from mlflow_repro.runtree import RunPair
    from mlflow_repro.tracking import TrackingStore


def report_pairs(
    options: ReproduceOptions,
    plan: LaunchPlan,
    pairs: tuple[RunPair, ...],
    store: TrackingStore,
    folder: Path | None = None,
) -> Report:
    """The report of a launch that has ended, whose first pair is that of the run that was asked for.

    ``folder`` is the checkout that was launched, None where it is gone. Raises CannotJudgeError when one of the two
    runs is not there, UnreachableError when the store fails.
    """
    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.tree_judging import judge_children

    reference, reproduction = _both_sides(pairs[0])
    sides, sampler = (Side(record=reference, store=store), Side(record=reproduction, store=store)), CurveSampler()
    comparison = judge_runs(*sides, options, sampler=sampler)
    report = Report(
        plan=plan,
        reference=reference,
        reproduction=reproduction,
        comparison=comparison,
        curves=sampler.curves(comparison.findings),
    )
    if options.children:
        comparison, children = judge_children(comparison, pairs, (store, store), options)
        report = replace(report, comparison=comparison, children=children)
    report = with_causes(options, report, store, folder)
    if not options.annotate:
        return report
    from mlflow_repro.annotating import annotate, with_caveats

    return with_caveats(report, annotate(report, store, with_reference=not options.commit))


def with_causes(options: ReproduceOptions, report: Report, store: TrackingStore, folder: Path | None = None) -> Report:
    """The report with the causes of the difference of its first pair, where they are wanted."""
    from mlflow_repro.explaining import find_causes

    if not (options.explain and report.comparison and report.reproduction):
        return report
    sides = Side(record=report.reference, store=store), Side(record=report.reproduction, store=store)
    caveats = report.plan.caveats if report.plan else ()
    with suppress(ReproError):  # the verdict stands, with its causes or without
        return replace(report, causes=find_causes(*sides, report.comparison, caveats=caveats, folder=folder))
    return report


def report_stopped(plan: LaunchPlan, pair: RunPair, divergence: Divergence, rules: Rules) -> Report:
    """The report of a reproduction that was ended where it diverged."""
    from mlflow_repro.compare.live import compare_stopped, describe_saving

    reference, reproduction = _both_sides(pair)
    expected = max(reference.end_time - reference.start_time, 0) / 1000
    plan = replace(plan, caveats=(*plan.caveats, describe_saving(divergence, expected)))
    comparison = compare_stopped(reference, reproduction, divergence, rules)
    return Report(plan=plan, reference=reference, reproduction=reproduction, comparison=comparison)


def _both_sides(pair: RunPair) -> tuple[RunRecord, RunRecord]:
    if pair.reference is None or pair.reproduction is None:
        raise CannotJudgeError("one of the two runs is not there")
    return pair.reference, pair.reproduction
