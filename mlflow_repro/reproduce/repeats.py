"""Relaunch a run several times, some of them at once."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import ReproError
from mlflow_repro.judging.judge import judge_repeats, read_more_references
from mlflow_repro.reproduce.origin import RESULT
from mlflow_repro.values.options import change_options
from mlflow_repro.values.progress import DONE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.reproduce.options import ReproduceOptions
    from mlflow_repro.reproduce.pipeline import Order
    from mlflow_repro.values.progress import Moment
    from mlflow_repro.values.report import Report


def reproduce_repeatedly(order: Order, reproduce_once: Callable[[Order], Report]) -> Report:
    """Relaunch the run several times, and judge all of it together."""
    from mlflow_repro.reproduce.answer import annotate_repeats, with_causes, with_caveats
    from mlflow_repro.store.opening import open_store, short_retries

    # It changes the environment of this process: here, so that no repeat takes away what another one relies on.
    with short_retries():
        options = order.options
        store = open_store(options.tracking_uri)
        options = replace(options, run_id=options.run_id or store.find_model_run(options.model), model="")
        more = read_more_references(options.spread, store.uri) if options.spread.against else []
        # What only pairs of runs are judged by need not be read.
        single = change_options(options, against=(), annotate=False, children=False, explain=False)
        judging = replace(order.judging, histories="off", selection=None)

        def run_one(number: int, is_over: threading.Event) -> Report:
            report = reproduce_once(replace(order, options=_number(single, number), judging=judging, is_over=is_over))
            single.say(DONE, number)
            return report

        reports = run_repeats(options.repeats, options.jobs, run_one)
    reproductions = [report.reproduction for report in reports if report.reproduction]
    references, rules = [reports[0].reference, *more], order.judging.rules
    results = [row for report in reports if report.comparison for row in report.comparison.of_kind("status")]
    origins = [row for row in results if row.name == RESULT]
    comparison = judge_repeats(references, reproductions, rules, options.spread, origins)
    with short_retries():
        report = with_causes(options, replace(reports[-1], comparison=comparison, curves=()), store)
        if not options.annotate:
            return report
        notes = annotate_repeats(report, reproductions, store, with_reference=options.annotate_reference)
        return with_caveats(report, notes)


def _number(options: ReproduceOptions, number: int) -> ReproduceOptions:
    """The options of one of several relaunches, whose lines and moments bear its number."""
    show, tell = options.show, options.tell

    def show_numbered(line: str) -> None:
        if show is not None:
            show(f"[{number}] {line}")

    def tell_numbered(moment: Moment) -> None:
        if tell is not None:
            tell(replace(moment, repeat=number, repeats=options.repeats))

    return options if options.repeats == 1 else replace(options, show=show_numbered, tell=tell_numbered)


def run_repeats(count: int, jobs: int, run_one: Callable[[int, threading.Event], Report]) -> list[Report]:
    """The reports of ``count`` relaunches, ``jobs`` at a time. ``run_one`` gets the number, from 1, and an event.

    When the event is set, it is to end what it has begun: the user has interrupted. One that fails costs the others
    nothing: they go on, and then the first failure is raised, with the runs that are there in its hint. Only when none
    has come back by the first failure is no further one begun: most likely none would.
    """
    is_over = threading.Event()
    reports: dict[int, Report] = {}
    errors: dict[int, ReproError] = {}
    running: dict[Future[Report], int] = {}
    executor = ThreadPoolExecutor(jobs, thread_name_prefix="mlflow-repro-repeat")
    try:
        numbers = iter(range(1, count + 1))
        while True:
            while len(running) < jobs and (reports or not errors):
                number = next(numbers, None)
                if number is None:
                    break
                running[executor.submit(run_one, number, is_over)] = number
            if not running:
                break
            # Not for ever: a signal that another thread gets wakes this one only when it wakes by itself.
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                number = running.pop(future)
                try:
                    reports[number] = future.result()
                except ReproError as error:
                    errors[number] = error
    finally:
        is_over.set()
        executor.shutdown(wait=True, cancel_futures=True)
    if errors:
        raise _describe_failure(errors, [reports[number] for number in sorted(reports)], count)
    return [reports[number] for number in sorted(reports)]


def _describe_failure(errors: dict[int, ReproError], reports: list[Report], count: int) -> ReproError:
    """The first error; with those that are done it says how to judge them."""
    number = min(errors)
    error = errors[number]
    if count > 1:
        others = f", and so did {len(errors) - 1} more" if len(errors) > 1 else ""
        error.message = f"repeat {number} of {count} failed{others}: {error.message}"
    done = [report.reproduction.run_id for report in reports if report.reproduction is not None]
    if done:
        command = f"mlflow-repro compare {reports[0].reference.run_id} {' '.join(done)}"
        error.hint = "; ".join(filter(None, (error.hint, f"{len(done)} repeats are done, to judge them: {command}")))
    return error
