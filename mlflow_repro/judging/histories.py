"""Compare the histories of two runs' metrics: open the quickest reader of each store, read no more than was asked."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlflow_repro.compare.histories import SAMPLE, compare_histories, compare_history, describe_sampled, find_interval
from mlflow_repro.compare.ties import compare_timed
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.compare.histories import Reading
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.store.histories import HistoryReader, Points
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.rules import Rules

    Stream = Iterator[Points]

_FEW_STEPS = 10_000
"""Up to so many, reading a history is as quick as sampling it."""


def compare_run_histories(
    sides: tuple[Side, Side],
    names: Sequence[str],
    rules: Rules,
    mode: str,
    sampler: CurveSampler | None = None,
) -> list[Finding]:
    """The findings about the histories of the metrics ``names``, by a mode of `mlflow_repro.judging.options`.

    ``sampler`` sees what is read go by, to draw it. Raises UnreachableError when a store fails.
    """
    if mode == "off":
        note = "not compared, as histories is off"
        row = Finding(kind="history", name="*", reference=None, reproduction=None, status=Status.IGNORED, note=note)
        return [row] if names else []
    (one, run_id), (other, other_id) = ((side.store, side.run.run_id) for side in sides)
    with one.explained(), other.explained(), ExitStack() as stack:
        reader = stack.enter_context(open_histories(one))
        here = _Histories(reader, run_id)
        there = _Histories(reader if other is one else stack.enter_context(open_histories(other)), other_id)
        single, single_there = here.reader.read_single_steps(run_id), there.reader.read_single_steps(other_id)
        names = [name for name in names if name not in single or single[name] != single_there.get(name)]
        findings: dict[str, Finding] = {}
        if mode == "sampled":
            findings = _find_by_samples(here, there, names, rules)
        rest = [name for name in names if name not in findings]
        reading: Reading = "first" if mode == "first" else "whole"
        findings |= {
            row.name: row for row in compare_histories(rest, partial(_fetch, here, there, sampler), rules, reading)
        }
        for name, row in findings.items():
            if row.details.get("repeated"):
                timed = here.reader.read_timed(run_id, name), there.reader.read_timed(other_id, name)
                findings[name] = compare_timed(name, *timed, rules.tolerances_of(name)) or row
        return [findings[name] for name in names if name in findings]


def open_histories(store: TrackingStore) -> HistoryReader:
    """The quickest reader of histories that a store allows."""
    from mlflow_repro.store.histories import ClientHistories, RestHistories, SqlHistories

    if store.sql_engine is not None:
        return SqlHistories(store.sql_engine)
    version = store.read_server_version()
    if version:
        return RestHistories(store.get_json, server_version=version)
    return ClientHistories(store.read_points, store.read_last_points)


@dataclass(frozen=True)
class _Histories:
    """A run, and what reads its histories."""

    reader: HistoryReader
    run_id: str

    def stream_range(self, name: str, low: int, high: int) -> Iterator[Points]:
        """The points of the steps from ``low`` to ``high``, of which the store gives so many at once as it likes."""
        while low <= high:
            points = self.reader.read_range(self.run_id, name, low, high)
            if not len(points[0]):
                return
            yield points
            low = int(points[0][-1]) + 1


def _fetch(here: _Histories, there: _Histories, sampler: CurveSampler | None, name: str) -> tuple[Stream, Stream]:
    """Begin to read both histories of one metric."""
    streams = here.reader.stream(here.run_id, name), there.reader.stream(there.run_id, name)
    return (sampler.watch(name, 0, streams[0]), sampler.watch(name, 1, streams[1])) if sampler else streams


def _find_by_samples(here: _Histories, there: _Histories, names: Iterable[str], rules: Rules) -> dict[str, Finding]:
    """What a sample of both histories shows to differ, located between two points of it."""
    latest = [side.reader.read_latest(side.run_id) for side in (here, there)]
    findings = {}
    for name in names:
        high = min(steps[name][0] for steps in latest)
        if high < _FEW_STEPS:
            continue
        one, other = (side.reader.read_sample(side.run_id, name, high, SAMPLE) for side in (here, there))
        tolerances = rules.tolerances_of(name)
        interval = find_interval(one, other, tolerances)
        if interval is None:
            continue
        one_part, other_part = (side.stream_range(name, interval.low, interval.high) for side in (here, there))
        found = compare_history(name, one_part, other_part, tolerances, "part")
        # A metric that is being written to may be another one by now.
        if found is not None and found.status is Status.DIFFERENT and not found.details.get("repeated"):
            findings[name] = describe_sampled(found, interval)
    return findings
