"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.model import Finding, Status
from mlflow_repro.plan import check_run_id
from mlflow_repro.rules import RuleSettings, make_rules

if TYPE_CHECKING:
    from mlflow_repro.histories import HistoryReader
    from mlflow_repro.model import Comparison, RunRecord
    from mlflow_repro.rules import Rules
    from mlflow_repro.tracking import TrackingStore

HISTORIES = ("full", "first", "off")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(RuleSettings):
    """How a comparison is judged: the rules, and ``config``, the file of rules that these stand on top of.

    An empty ``config`` means ``[tool.mlflow-repro]`` of the working directory's ``pyproject.toml``, if it has that.
    ``histories`` is ``full``, ``first`` (read no further than the first difference) or ``off``.
    """

    config: str = ""
    histories: str = "full"

    def __post_init__(self) -> None:
        if self.histories not in HISTORIES:
            raise UsageError(f"histories is {self.histories!r}", f"it must be one of {', '.join(HISTORIES)}")

    def read_rules(self) -> Rules:
        """The rules of the file with these on top. Raises UsageError when they contradict each other."""
        from mlflow_repro.config import read_rules

        return make_rules(self, read_rules(self.config))


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run, and the store that it is in."""

    record: RunRecord
    store: TrackingStore


def judge_runs(reference: Side, reproduction: Side, options: JudgeOptions) -> Comparison:
    """Compare two runs with everything that belongs to them. Raises UnreachableError when a store fails."""
    from mlflow_repro.compare import compare_records
    from mlflow_repro.compare.models import compare_model_metrics

    rules = options.read_rules()
    fetched = [
        *_judge_histories(reference, reproduction, rules, options.histories),
        *compare_model_metrics(
            reference.store.read_model_metrics(reference.record.run_id),
            reproduction.store.read_model_metrics(reproduction.record.run_id),
            rules,
        ),
    ]
    return compare_records(reference.record, reproduction.record, rules, fetched=fetched)


def _judge_histories(one: Side, other: Side, rules: Rules, mode: str) -> list[Finding]:
    """The findings about the metrics that both runs have and that judge."""
    from mlflow_repro.compare.histories import compare_histories

    names = [name for name in sorted({*one.record.metrics} & {*other.record.metrics}) if not rules.why_ignored(name)]
    if mode == "off":
        note = "not compared, as histories is off"
        row = Finding(kind="history", name="*", reference=None, reproduction=None, status=Status.IGNORED, note=note)
        return [row] if names else []
    with one.store.explained(), other.store.explained(), ExitStack() as stack:
        here = stack.enter_context(_open_histories(one.store))
        there = here if other.store is one.store else stack.enter_context(_open_histories(other.store))
        ids = one.record.run_id, other.record.run_id
        single, single_there = here.read_single_steps(ids[0]), there.read_single_steps(ids[1])
        return compare_histories(
            [name for name in names if name not in single or single[name] != single_there.get(name)],
            lambda name: (here.stream(ids[0], name), there.stream(ids[1], name)),
            rules,
            stop_at_difference=mode == "first",
        )


def _open_histories(store: TrackingStore) -> HistoryReader:
    from mlflow_repro.histories import ClientHistories, RestHistories, SqlHistories

    if store.sql_engine is not None:
        return SqlHistories(store.sql_engine)
    version = store.read_server_version()
    if version:
        return RestHistories(store.get_json, server_version=version)
    return ClientHistories(store.read_points)


def compare_runs(reference_id: str, reproduction_id: str, *, tracking_uri: str = "", **options: Any) -> Comparison:
    """Compare two runs of one tracking store. ``options`` are the fields of `JudgeOptions`.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other.
    """
    from mlflow_repro.tracking import open_store, short_retries

    judge_options = JudgeOptions(**options)
    judge_options.read_rules()
    with short_retries():
        store = open_store(tracking_uri)
        reference = Side(record=store.read_run(check_run_id(reference_id)), store=store)
        reproduction = Side(record=store.read_run(check_run_id(reproduction_id)), store=store)
        return judge_runs(reference, reproduction, judge_options)
