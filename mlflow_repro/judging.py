"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.model import Finding, Report, Status
from mlflow_repro.plan import check_run_id
from mlflow_repro.rules import RuleSettings, make_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def judge_runs(reference: Side, reproduction: Side, options: JudgeOptions, facts: Iterable[Finding] = ()) -> Comparison:
    """Compare two runs with everything that belongs to them; ``facts`` are findings that explain.

    Raises UnreachableError when a store fails.
    """
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
        *facts,
    ]
    return compare_records(reference.record, reproduction.record, rules, fetched=fetched)


def compare_with_facts(reference: str, reproduction: str, *, tracking_uri: str, options: JudgeOptions) -> Report:
    """Compare two runs, each named by its id or as ``TRACKING_URI#RUN_ID``, with the facts that explain a difference.

    Raises what `compare_runs` raises.
    """
    from mlflow_repro.tracking import short_retries

    options.read_rules()
    names = [_split_name(text, tracking_uri) for text in (reference, reproduction)]
    with short_retries():
        one, other = _read_sides(*names)
        comparison = judge_runs(one, other, options, _compare_facts(one, other))
    return Report(plan=None, reference=one.record, reproduction=other.record, comparison=comparison)


def _split_name(text: str, tracking_uri: str) -> tuple[str, str]:
    """The store and the run that ``[TRACKING_URI#]RUN_ID`` names. Raises UsageError."""
    uri, hash_sign, run_id = text.rpartition("#")
    if hash_sign and not uri:
        raise UsageError(f"{text!r} names no tracking store", "write TRACKING_URI#RUN_ID, or the run id alone")
    return uri or tracking_uri, check_run_id(run_id)


def _read_sides(one: tuple[str, str], other: tuple[str, str]) -> tuple[Side, Side]:
    from mlflow_repro.tracking import open_store

    store = open_store(one[0])
    store_there = store if other[0] == one[0] else open_store(other[0])
    return (
        Side(record=store.read_run(one[1]), store=store),
        Side(record=store_there.read_run(other[1]), store=store_there),
    )


def _compare_facts(one: Side, other: Side) -> list[Finding]:
    """Code, launch, seeds, environment, machine and data of both runs, from their records or, without, their tags."""
    from mlflow_repro.compare.facts import compare_datasets, compare_facts, compare_tags
    from mlflow_repro.tracking import read_data

    with one.store.explained(), other.store.explained():
        inputs = [read_data(side.store.uri, side.record.run_id)[0] for side in (one, other)]
    records = [side.store.read_own_record(side.record.run_id) for side in (one, other)]
    findings = [
        *compare_tags(one.record, other.record, with_facts=None in records),
        *compare_datasets(*inputs),
    ]
    if None not in records:
        return [*findings, *compare_facts(*records)]
    has = ["nothing" if record is None else "repro/record.json" for record in records]
    note = "code, seeds and environment are compared by tags alone"
    status = Status.IDENTICAL if has[0] == has[1] else Status.DIFFERENT
    row = Finding(kind="record", name="of itself", reference=has[0], reproduction=has[1], status=status, note=note)
    return [*findings, row]


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
    """Compare two runs, each named by its id or by ``TRACKING_URI#RUN_ID``. ``options`` are those of `JudgeOptions`.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other.
    """
    from mlflow_repro.tracking import short_retries

    judge_options = JudgeOptions(**options)
    judge_options.read_rules()
    names = [_split_name(text, tracking_uri) for text in (reference_id, reproduction_id)]
    with short_retries():
        return judge_runs(*_read_sides(*names), judge_options)
