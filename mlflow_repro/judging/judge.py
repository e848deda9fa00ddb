"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.judging.options import PairOptions, check_spread
from mlflow_repro.judging.sides import read_sides, split_name
from mlflow_repro.values.comparison import Finding, Status
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.judging.options import CompareOptions, ExplainOptions, Judging, SpreadOptions
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run


def judge_runs(
    reference: Side,
    reproduction: Side,
    judging: Judging,
    facts: Iterable[Finding] = (),
    sampler: CurveSampler | None = None,
) -> Comparison:
    """Compare two runs with everything that belongs to them; ``facts`` are findings that explain.

    ``sampler`` sees the histories go by, to draw them.

    Raises UnreachableError when a store fails.
    """
    from mlflow_repro.compare import compare_records
    from mlflow_repro.compare.metrics import compare_model_metrics
    from mlflow_repro.judging.artifacts import compare_run_artifacts
    from mlflow_repro.judging.histories import compare_run_histories
    from mlflow_repro.judging.predictions import compare_run_predictions

    sides, rules = (reference, reproduction), judging.rules
    judged = sorted({*reference.run.metrics} & {*reproduction.run.metrics})
    names = [name for name in judged if not rules.why_ignored(name)]
    fetched = [
        *compare_run_histories(sides, names, rules, judging.histories, sampler),
        *compare_model_metrics(reference.model_metrics, reproduction.model_metrics, rules),
        *(compare_run_artifacts(*sides, rules, judging.selection) if judging.selection else ()),
        *(compare_run_predictions(*sides, rules.default, judging.predictions) if judging.predictions else ()),
        *facts,
    ]
    return compare_records(reference.run, reproduction.run, rules, fetched=fetched)


@dataclass(frozen=True, kw_only=True)
class Existing:
    """Existing runs that are to be compared: the references and their reproductions, and how they are judged."""

    references: Sequence[Side]
    reproductions: Sequence[Side]
    judging: Judging
    spread: SpreadOptions

    @property
    def pair(self) -> tuple[Side, Side]:
        """The first reference and the last reproduction."""
        return self.references[0], self.reproductions[-1]

    @property
    def are_repeats(self) -> bool:
        """True when there are several runs on a side."""
        return len(self.references) + len(self.reproductions) > 2  # noqa: PLR2004 - more than a pair


def read_existing(reference: str, reproductions: Sequence[str], options: ExplainOptions | CompareOptions) -> Existing:
    """Read runs, each named by its id or as ``TRACKING_URI#RUN_ID``. Raises UsageError before anything is read."""
    spread, more = options.spread, options.spread.more_references
    judging = options.judging.read()
    check_spread(options.judging, spread, are_repeats=len(reproductions) > 1 or bool(more))
    named = (reference, *more, *reproductions)
    names = [split_name(text, options.store.tracking_uri) for text in named]
    if len(set(names)) < len(names) and len(names) > 2:  # noqa: PLR2004 - one run and itself is a question of its own
        raise UsageError("a run is named twice", "a repeat that counts twice would narrow the spread")
    sides, count = read_sides(names), 1 + len(more)
    return Existing(references=sides[:count], reproductions=sides[count:], judging=judging, spread=spread)


def compare_existing(asked: Existing) -> Report:
    """Compare runs, with the facts that explain a difference; repeats by their final metrics and their spread.

    Raises what `compare_runs` raises.
    """
    from mlflow_repro.compare.curves import CurveSampler

    one, other = asked.pair
    sampler, facts = CurveSampler(), compare_facts_of(one, other)
    if asked.are_repeats:
        here, there = ([side.run for side in sides] for sides in (asked.references, asked.reproductions))
        comparison = judge_repeats(here, there, asked.judging.rules, asked.spread, facts)
    else:
        comparison = judge_runs(one, other, asked.judging, facts, sampler)
    curves = sampler.curves(comparison.findings)
    return Report(plan=None, reference=one.run, reproduction=other.run, comparison=comparison, curves=curves)


def judge_repeats(
    references: Sequence[Run],
    reproductions: Sequence[Run],
    rules: Rules,
    spread: SpreadOptions,
    facts: Iterable[Finding] = (),
) -> Comparison:
    """Compare runs that repeat each other; ``facts`` are findings that explain."""
    from mlflow_repro.compare.repeats import compare_repeats

    comparison = compare_repeats(references, reproductions, rules, spread.margins, spread.better)
    return replace(comparison, findings=(*comparison.findings, *facts))


def read_more_references(spread: SpreadOptions, tracking_uri: str) -> list[Run]:
    """The runs that ``against`` names."""
    return [side.run for side in read_sides([split_name(name, tracking_uri) for name in spread.more_references])]


def learn_tolerances(
    names: Sequence[str], output: str, *, overwrite: bool = False, config: str = "", tracking_uri: str = ""
) -> tuple[Rules, list[str]]:
    """Learn rules from repeats of one run, write them to ``output``, and say what was left out and why.

    Raises UsageError for fewer than three runs, RefusedError when ``output`` is there and not to be overwritten.
    """
    from mlflow_repro.compare.learned import learn_rules
    from mlflow_repro.compare.statistics import FEWEST
    from mlflow_repro.judging.config import read_rules, write_rules
    from mlflow_repro.store.opening import short_retries

    if len(set(names)) < max(FEWEST, len(names)):
        raise UsageError(f"{len(set(names))} different runs are given", f"give {FEWEST} or more, each once")
    base = read_rules(config)
    split = [split_name(name, tracking_uri) for name in names]
    with short_retries():
        rules, left_out = learn_rules([side.run for side in read_sides(split)], base)
    write_rules(output, rules, overwrite=overwrite)
    return rules, left_out


def compare_facts_of(one: Side, other: Side) -> list[Finding]:
    """Code, launch, seeds, environment, machine and data of both runs, from their records or, without, their tags."""
    from mlflow_repro.compare.facts import compare_datasets, compare_facts, compare_tags

    records = one.record, other.record
    findings = [
        *compare_tags(one.run, other.run, with_facts=not all(record.exists for record in records)),
        *compare_datasets(one.inputs, other.inputs),
        *_tell_damage(*records),
    ]
    if all(record.exists for record in records):
        return [*findings, *compare_facts(*records)]
    has = ["repro/record.json" if record.exists else "nothing" for record in records]
    note = "code, seeds and environment are compared by tags alone"
    status = Status.IDENTICAL if has[0] == has[1] else Status.DIFFERENT
    row = Finding(kind="record", name="of itself", reference=has[0], reproduction=has[1], status=status, note=note)
    return [*findings, row]


def _tell_damage(one: Record, other: Record) -> Iterator[Finding]:
    """A row for each of the two records that is damaged."""
    for name, record in (("of the reference", one), ("of the reproduction", other)):
        if note := record.damage_note:
            yield Finding(kind="record", name=name, reference=None, reproduction=None, status=Status.UNKNOWN, note=note)


@takes(PairOptions)
def compare_runs(reference_id: str, reproduction_id: str, **options: Any) -> Comparison:
    """Compare two runs, each named by its id or by ``TRACKING_URI#RUN_ID``.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other, TypeError for an
    option that there is not.
    """
    from mlflow_repro.store.opening import short_retries

    chosen = make_options(PairOptions, options, "compare_runs")
    judging = chosen.judging.read()
    names = [split_name(text, chosen.store.tracking_uri) for text in (reference_id, reproduction_id)]
    with short_retries():
        one, other = read_sides(names)
        return judge_runs(one, other, judging)
