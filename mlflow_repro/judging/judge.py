"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.judging.options import PairOptions
from mlflow_repro.judging.sides import Side, read_sides, split_name
from mlflow_repro.values.comparison import Finding, Status
from mlflow_repro.values.options import make_options, takes
from mlflow_repro.values.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.judging.artifacts import Selection
    from mlflow_repro.judging.options import ExplainOptions, JudgeOptions, SpreadOptions
    from mlflow_repro.judging.predictions import PredictionWish
    from mlflow_repro.values.comparison import Comparison
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.rules import Rules
    from mlflow_repro.values.run import Run


def judge_runs(
    reference: Side,
    reproduction: Side,
    options: JudgeOptions,
    facts: Iterable[Finding] = (),
    sampler: CurveSampler | None = None,
) -> Comparison:
    """Compare two runs with everything that belongs to them; ``facts`` are findings that explain.

    ``sampler`` sees the histories go by, to draw them.

    Raises UnreachableError when a store fails.
    """
    from mlflow_repro.compare import compare_records
    from mlflow_repro.compare.metrics import compare_model_metrics

    rules = options.read_rules()
    fetched = [
        *_judge_histories(reference, reproduction, rules, options.histories, sampler),
        *compare_model_metrics(
            reference.store.read_model_metrics(reference.run.run_id),
            reproduction.store.read_model_metrics(reproduction.run.run_id),
            rules,
        ),
        *_judge_artifacts(reference, reproduction, rules, options.selection),
        *_judge_predictions(reference, reproduction, rules, options.prediction_wish),
        *facts,
    ]
    return compare_records(reference.run, reproduction.run, rules, fetched=fetched)


def compare_with_facts(reference: str, reproductions: Sequence[str], options: ExplainOptions) -> Report:
    """Compare runs, each named by its id or as ``TRACKING_URI#RUN_ID``, with the facts that explain a difference.

    With several reproductions, or with more references to hold them against, as repeats: by their final metrics and
    their spread. Raises what `compare_runs` raises.
    """
    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.store.opening import short_retries

    judging, spread = options.judging, options.spread
    _check_spread(judging, spread, are_repeats=len(reproductions) > 1 or bool(spread.against))
    sampler = CurveSampler()
    named = (reference, *spread.more_references, *reproductions)
    names = [split_name(text, options.store.tracking_uri) for text in named]
    if len(set(names)) < len(names) and len(names) > 2:  # noqa: PLR2004 - one run and itself is a question of its own
        raise UsageError("a run is named twice", "a repeat that counts twice would narrow the spread")
    with short_retries():
        sides = read_sides(names)
        one, other, facts = sides[0], sides[-1], compare_facts_of(sides[0], sides[-1])
        if len(sides) == 2:  # noqa: PLR2004 - a pair
            comparison = judge_runs(one, other, judging, facts, sampler)
        else:
            count = len(sides) - len(reproductions)
            runs = [side.run for side in sides]
            comparison = judge_repeats(runs[:count], runs[count:], judging, spread, facts)
    curves = sampler.curves(comparison.findings)
    return Report(plan=None, reference=one.run, reproduction=other.run, comparison=comparison, curves=curves)


def _check_spread(judging: JudgeOptions, spread: SpreadOptions, *, are_repeats: bool) -> None:
    judging.check()
    spread.check()
    if are_repeats:
        judging.check_repeats()
    else:
        spread.check_pair()


def judge_repeats(
    references: Sequence[Run],
    reproductions: Sequence[Run],
    judging: JudgeOptions,
    spread: SpreadOptions,
    facts: Iterable[Finding] = (),
) -> Comparison:
    """Compare runs that repeat each other; ``facts`` are findings that explain."""
    from mlflow_repro.compare.repeats import compare_repeats

    comparison = compare_repeats(references, reproductions, judging.read_rules(), spread.margins, spread.better)
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
    from mlflow_repro.store.writing import read_data

    with one.store.explained(), other.store.explained():
        inputs = [read_data(side.store.uri, side.run.run_id)[0] for side in (one, other)]
    records = [side.store.read_own_record(side.run.run_id) for side in (one, other)]
    findings = [
        *compare_tags(one.run, other.run, with_facts=not all(record.exists for record in records)),
        *compare_datasets(*inputs),
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


def _judge_artifacts(one: Side, other: Side, rules: Rules, selection: Selection | None) -> tuple[Finding, ...]:
    """What both runs left behind beside numbers."""
    from mlflow_repro.judging.artifacts import compare_run_artifacts

    if selection is None:
        return ()
    here, there = ((side.store.uri, side.run.run_id) for side in (one, other))
    return compare_run_artifacts(here, there, rules, selection)


def _judge_predictions(one: Side, other: Side, rules: Rules, wish: PredictionWish | None) -> list[Finding]:
    """What the models of both runs predict; the default tolerance holds."""
    from mlflow_repro.judging.predictions import compare_run_predictions

    if wish is None:
        return []
    here, there = ((side.store.uri, side.run.run_id) for side in (one, other))
    return compare_run_predictions(here, there, rules.default, wish)


def _judge_histories(one: Side, other: Side, rules: Rules, mode: str, sampler: CurveSampler | None) -> list[Finding]:
    """The findings about the metrics that both runs have and that judge."""
    from mlflow_repro.judging.histories import compare_run_histories

    names = [name for name in sorted({*one.run.metrics} & {*other.run.metrics}) if not rules.why_ignored(name)]
    runs = (one.store, one.run.run_id), (other.store, other.run.run_id)
    return compare_run_histories(runs, names, rules, mode, sampler)


@takes(PairOptions)
def compare_runs(reference_id: str, reproduction_id: str, **options: Any) -> Comparison:
    """Compare two runs, each named by its id or by ``TRACKING_URI#RUN_ID``.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other, TypeError for an
    option that there is not.
    """
    from mlflow_repro.store.opening import short_retries

    chosen = make_options(PairOptions, options, "compare_runs")
    chosen.judging.check()
    names = [split_name(text, chosen.store.tracking_uri) for text in (reference_id, reproduction_id)]
    with short_retries():
        one, other = read_sides(names)
        return judge_runs(one, other, chosen.judging)
