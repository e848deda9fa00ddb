"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.model import Finding, Report, Status
from mlflow_repro.plan import check_run_id
from mlflow_repro.rules import RuleSettings, make_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mlflow_repro.artifact_outcomes import Selection
    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.model import Comparison, RunRecord
    from mlflow_repro.predictions import PredictionWish
    from mlflow_repro.rules import Rules
    from mlflow_repro.tracking import TrackingStore


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(RuleSettings):
    """How a comparison is judged: the rules, and ``config``, the file of rules that these stand on top of.

    An empty ``config`` means ``[tool.mlflow-repro]`` of the working directory's ``pyproject.toml``, if it has that.
    ``histories`` is ``full``, ``first`` (read no further than the first difference), ``sampled`` (find a difference by
    a sample, and read all where that shows none) or ``off``. ``against`` names more reference runs, several with
    commas. ``margin`` (``PATTERN=X``, or ``X`` for every metric) is how far the means of
    repeats may lie apart, in the metric's unit; where none matches, two standard deviations of the references.
    ``as_good_as`` (``PATTERN=higher`` or ``PATTERN=lower``, what is better) asks no more of repeats than to be as good.
    ``artifacts`` are patterns of the artifacts that are compared, empty for all and None for none; ``artifact_limit``
    is how many GiB of them are read. ``children``: the runs below, and the others of the launch, are judged as well.
    ``compare_predictions`` loads the models of both runs, which runs what is in them, and compares their outputs for
    the logged input example, or for ``prediction_data`` (a CSV, JSON, npy or Parquet file); a model that takes longer
    than ``prediction_timeout`` seconds is not compared.
    """

    config: str = ""
    histories: str = "full"
    against: tuple[str, ...] = ()
    margin: tuple[str, ...] = ()
    as_good_as: tuple[str, ...] = ()
    artifacts: Sequence[str] | None = ()
    artifact_limit: float = 8.0
    children: bool = True
    compare_predictions: bool = False
    prediction_data: str = ""
    prediction_timeout: float = 300.0

    def __post_init__(self) -> None:
        from mlflow_repro.history_outcomes import HISTORIES

        if self.histories not in HISTORIES:
            raise UsageError(f"histories is {self.histories!r}", f"it must be one of {', '.join(HISTORIES)}")

    @property
    def more_references(self) -> list[str]:
        """The names in ``against``. Raises UsageError when one is none."""
        names = [name.strip() for text in self.against for name in text.split(",")]
        for name in names:
            split_name(name, "")
        return names

    @property
    def margins(self) -> dict[str, float]:
        """Margins by pattern, the first that matches decides. Raises UsageError."""
        margins: dict[str, float] = {}
        for text in self.margin:
            pattern, _, number = text.rpartition("=")
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"margin is {text!r}", "write X or PATTERN=X, with X a number above 0")
            if margins.setdefault(pattern or "*", value) != value:
                raise UsageError(f"margin is given twice for {pattern or '*'!r}", "remove one of them")
        return margins

    @property
    def better(self) -> dict[str, str]:
        """Whether higher or lower is better, by pattern. Raises UsageError."""
        better: dict[str, str] = {}
        for text in self.as_good_as:
            pattern, _, word = text.rpartition("=")
            if not pattern or word not in ("higher", "lower"):
                raise UsageError(f"as_good_as is {text!r}", "write PATTERN=higher or PATTERN=lower")
            if better.setdefault(pattern, word) != word:
                raise UsageError(f"both higher and lower are better for {pattern!r}", "remove one of them")
        return better

    @property
    def selection(self) -> Selection | None:
        """Which artifacts are compared, None for none. Raises UsageError when the limit is none."""
        from mlflow_repro.artifact_outcomes import Selection

        if not (math.isfinite(self.artifact_limit) and self.artifact_limit >= 0):
            raise UsageError(
                f"artifact_limit is {self.artifact_limit!r}", "it must be a number of GiB that is not negative"
            )
        if self.artifacts is None:
            return None
        return Selection(patterns=tuple(self.artifacts), limit=int(self.artifact_limit * 2**30))

    @property
    def prediction_wish(self) -> PredictionWish | None:
        """How predictions are compared, None for not at all. Raises UsageError."""
        from mlflow_repro.prediction_worker import READERS
        from mlflow_repro.predictions import PredictionWish

        if not (math.isfinite(self.prediction_timeout) and self.prediction_timeout > 0):
            raise UsageError(
                f"prediction_timeout is {self.prediction_timeout!r}", "it must be a number of seconds above 0"
            )
        if self.prediction_data and not self.compare_predictions:
            raise UsageError("prediction_data is given, and compare_predictions is not", "give both")
        if self.prediction_data and not os.path.isfile(self.prediction_data):
            raise UsageError(f"there is no file {self.prediction_data!r}", "check --prediction-data")
        if self.prediction_data and os.path.splitext(self.prediction_data)[1].lower() not in READERS:
            raise UsageError(
                f"the form of {self.prediction_data!r} is not known", f"its name must end in {', '.join(READERS)}"
            )
        if self.compare_predictions and self.more_references:
            raise UsageError("predictions of repeats are not compared", "compare two runs")
        limit = int(self.artifact_limit * 2**30)
        wish = PredictionWish(data=self.prediction_data, timeout=self.prediction_timeout, limit=limit)
        return wish if self.compare_predictions else None

    def check(self) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        _ = self.read_rules(), self.more_references, self.margins, self.better, self.selection, self.prediction_wish

    def read_rules(self) -> Rules:
        """The rules of the file with these on top. Raises UsageError when they contradict each other."""
        from mlflow_repro.config import read_rules

        return make_rules(self, read_rules(self.config))


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run, and the store that it is in."""

    record: RunRecord
    store: TrackingStore


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
    from mlflow_repro.compare.models import compare_model_metrics

    rules = options.read_rules()
    fetched = [
        *_judge_histories(reference, reproduction, rules, options.histories, sampler),
        *compare_model_metrics(
            reference.store.read_model_metrics(reference.record.run_id),
            reproduction.store.read_model_metrics(reproduction.record.run_id),
            rules,
        ),
        *_judge_artifacts(reference, reproduction, rules, options.selection),
        *_judge_predictions(reference, reproduction, rules, options.prediction_wish),
        *facts,
    ]
    return compare_records(reference.record, reproduction.record, rules, fetched=fetched)


def compare_with_facts(
    reference: str, reproductions: Sequence[str], *, tracking_uri: str, options: JudgeOptions
) -> Report:
    """Compare runs, each named by its id or as ``TRACKING_URI#RUN_ID``, with the facts that explain a difference.

    With several reproductions, or with ``options.against``, as repeats: by their final metrics and their spread.
    Raises what `compare_runs` raises.
    """
    from mlflow_repro.compare.curves import CurveSampler
    from mlflow_repro.tracking import short_retries

    options.check()
    sampler = CurveSampler()
    names = [split_name(text, tracking_uri) for text in (reference, *options.more_references, *reproductions)]
    if len(reproductions) > 1 and options.compare_predictions:
        raise UsageError("predictions of repeats are not compared", "compare two runs")
    if len(set(names)) < len(names) and len(names) > 2:  # noqa: PLR2004 - one run and itself is a question of its own
        raise UsageError("a run is named twice", "a repeat that counts twice would narrow the spread")
    with short_retries():
        sides = read_sides(names)
        one, other, facts = sides[0], sides[-1], compare_facts_of(sides[0], sides[-1])
        if len(sides) == 2:  # noqa: PLR2004 - a pair
            comparison = judge_runs(one, other, options, facts, sampler)
        else:
            count = len(sides) - len(reproductions)
            records = [side.record for side in sides]
            comparison = judge_repeats(records[:count], records[count:], options, facts)
    curves = sampler.curves(comparison.findings)
    return Report(plan=None, reference=one.record, reproduction=other.record, comparison=comparison, curves=curves)


def judge_repeats(
    references: Sequence[RunRecord],
    reproductions: Sequence[RunRecord],
    options: JudgeOptions,
    facts: Iterable[Finding] = (),
) -> Comparison:
    """Compare runs that repeat each other; ``facts`` are findings that explain."""
    from mlflow_repro.compare.repeats import compare_repeats

    comparison = compare_repeats(references, reproductions, options.read_rules(), options.margins, options.better)
    return replace(comparison, findings=(*comparison.findings, *facts))


def read_more_references(options: JudgeOptions, tracking_uri: str) -> list[RunRecord]:
    """The runs that ``options.against`` names."""
    return [side.record for side in read_sides([split_name(name, tracking_uri) for name in options.more_references])]


def learn_tolerances(
    names: Sequence[str], output: str, *, overwrite: bool = False, config: str = "", tracking_uri: str = ""
) -> tuple[Rules, list[str]]:
    """Learn rules from repeats of one run, write them to ``output``, and say what was left out and why.

    Raises UsageError for fewer than three runs, RefusedError when ``output`` is there and not to be overwritten.
    """
    from mlflow_repro.compare.learned import learn_rules
    from mlflow_repro.compare.statistics import FEWEST
    from mlflow_repro.config import read_rules, write_rules
    from mlflow_repro.tracking import short_retries

    if len(set(names)) < max(FEWEST, len(names)):
        raise UsageError(f"{len(set(names))} different runs are given", f"give {FEWEST} or more, each once")
    base = read_rules(config)
    split = [split_name(name, tracking_uri) for name in names]
    with short_retries():
        rules, left_out = learn_rules([side.record for side in read_sides(split)], base)
    write_rules(output, rules, overwrite=overwrite)
    return rules, left_out


def split_name(text: str, tracking_uri: str) -> tuple[str, str]:
    """The store and the run that ``[TRACKING_URI#]RUN_ID`` names. Raises UsageError."""
    uri, hash_sign, run_id = text.rpartition("#")
    if hash_sign and not uri:
        raise UsageError(f"{text!r} names no tracking store", "write TRACKING_URI#RUN_ID, or the run id alone")
    return uri or tracking_uri, check_run_id(run_id)


def read_pair(reference: str, reproduction: str, tracking_uri: str) -> tuple[Side, Side]:
    """Two runs, each named by its id or as ``TRACKING_URI#RUN_ID``, with their stores. Raises `ReproError`."""
    one, other = read_sides([split_name(text, tracking_uri) for text in (reference, reproduction)])
    return one, other


def read_sides(names: Iterable[tuple[str, str]]) -> list[Side]:
    """Each run with its store; a store that several are in is opened once."""
    from mlflow_repro.tracking import open_store

    stores: dict[str, TrackingStore] = {}
    sides = []
    for uri, run_id in names:
        if uri not in stores:
            stores[uri] = open_store(uri)
        sides.append(Side(record=stores[uri].read_run(run_id), store=stores[uri]))
    return sides


def compare_facts_of(one: Side, other: Side) -> list[Finding]:
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


def _judge_artifacts(one: Side, other: Side, rules: Rules, selection: Selection | None) -> tuple[Finding, ...]:
    """What both runs left behind beside numbers."""
    from mlflow_repro.artifact_outcomes import compare_run_artifacts

    if selection is None:
        return ()
    here, there = ((side.store.uri, side.record.run_id) for side in (one, other))
    return compare_run_artifacts(here, there, rules, selection)


def _judge_predictions(one: Side, other: Side, rules: Rules, wish: PredictionWish | None) -> list[Finding]:
    """What the models of both runs predict; the default tolerance holds."""
    from mlflow_repro.predictions import compare_run_predictions

    if wish is None:
        return []
    here, there = ((side.store.uri, side.record.run_id) for side in (one, other))
    return compare_run_predictions(here, there, rules.default, wish)


def _judge_histories(one: Side, other: Side, rules: Rules, mode: str, sampler: CurveSampler | None) -> list[Finding]:
    """The findings about the metrics that both runs have and that judge."""
    from mlflow_repro.history_outcomes import compare_run_histories

    names = [name for name in sorted({*one.record.metrics} & {*other.record.metrics}) if not rules.why_ignored(name)]
    runs = (one.store, one.record.run_id), (other.store, other.record.run_id)
    return compare_run_histories(runs, names, rules, mode, sampler)


def compare_runs(reference_id: str, reproduction_id: str, *, tracking_uri: str = "", **options: Any) -> Comparison:
    """Compare two runs, each named by its id or by ``TRACKING_URI#RUN_ID``. ``options`` are those of `JudgeOptions`.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other.
    """
    from mlflow_repro.tracking import short_retries

    judge_options = JudgeOptions(**options)
    judge_options.check()
    names = [split_name(text, tracking_uri) for text in (reference_id, reproduction_id)]
    with short_retries():
        one, other = read_sides(names)
        return judge_runs(one, other, judge_options)
