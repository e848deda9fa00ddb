"""What a comparison takes into account, as the user chose it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mlflow_repro.errors import UsageError
from mlflow_repro.judging.sides import split_name
from mlflow_repro.values.options import group, option
from mlflow_repro.values.rules import Rules, RuleSettings, make_rules

if TYPE_CHECKING:
    from collections.abc import Sequence


HISTORIES = ("full", "first", "sampled", "off")
"""How much of the histories is read: all, no more than the first difference, as little as finds one, nothing."""
_ARTIFACT_LIMIT = 8.0


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """The tracking store that the runs are in."""

    tracking_uri: str = option("", metavar="URI", help="Default: MLFLOW_TRACKING_URI, or MLflow's own default.")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which artifacts are compared, by patterns of their paths (none: all), and how many bytes may be read in all.

    Files that have to be fetched are kept in ``work_directory`` for as long (empty: in the system's).
    """

    patterns: tuple[str, ...] = ()
    limit: int = 8 * 2**30
    work_directory: str = ""

    def keeps(self, name: str) -> bool:
        """True when the artifact is wanted; ``*`` stands for any text, slashes included."""
        return not self.patterns or any(fnmatchcase(name, pattern) for pattern in self.patterns)


@dataclass(frozen=True, kw_only=True)
class PredictionWish:
    """What is asked for: ``data`` is a file with the inputs, empty for the logged input example.

    Loading and predicting may take ``timeout`` seconds a model.
    """

    data: str = ""
    timeout: float = 300.0
    limit: int = 8 * 2**30
    work_directory: str = ""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """How runs are judged, read and checked once, before anything is launched. None: that is not compared."""

    rules: Rules = field(default_factory=Rules)
    histories: str = "full"
    selection: Selection | None = None
    predictions: PredictionWish | None = None


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """How two runs are judged: the rules, and how much of what the runs left is read."""

    rules: RuleSettings = group(RuleSettings)
    config: str = option(
        "", metavar="FILE", help="TOML file of these rules. Default: [tool.mlflow-repro] of ./pyproject.toml."
    )
    histories: str = option(
        "full",
        choices=HISTORIES,
        help="Compare each point of the metrics; read no further than the first difference; find a difference by"
        " samples, and read all only where they show none; or compare final values only.",
    )
    artifacts: Sequence[str] | None = option(
        (),
        metavar="PATTERN",
        none="no-artifacts",
        help="Compare only these artifacts, 'model/**' for one. Default: all; None for none.",
    )
    artifact_limit: float = option(
        _ARTIFACT_LIMIT,
        metavar="GIB",
        help="How much of the artifacts may be read; what is beyond it cannot be judged.",
    )
    compare_predictions: bool = option(
        default=False,
        help="Load both runs' models, which runs what is in them, and compare what they predict for the logged input"
        " example.",
    )
    prediction_data: str = option(
        "", metavar="FILE", help="Compare predictions for these inputs: .csv, .json, .npy or .parquet."
    )
    prediction_timeout: float = option(
        300.0, metavar="SECONDS", help="How long a model may take to be loaded and to predict."
    )

    def __post_init__(self) -> None:
        if self.histories not in HISTORIES:
            raise UsageError(f"histories is {self.histories!r}", f"it must be one of {', '.join(HISTORIES)}")

    def read(self, work_directory: str = "") -> Judging:
        """Read the rules, those of the file with these on top, and find bad input before anything is started.

        Files that have to be fetched are kept in ``work_directory`` for as long; empty for the system's. Raises
        UsageError.
        """
        from mlflow_repro.judging.config import read_rules

        return Judging(
            rules=make_rules(self.rules, read_rules(self.config)),
            histories=self.histories,
            selection=self._select(work_directory),
            predictions=self._wish(work_directory),
        )

    def _select(self, work_directory: str) -> Selection | None:
        """Which artifacts are compared. Raises UsageError when the limit is none."""
        if not (math.isfinite(self.artifact_limit) and self.artifact_limit >= 0):
            raise UsageError(
                f"artifact_limit is {self.artifact_limit!r}", "it must be a number of GiB that is not negative"
            )
        if self.artifacts is None:
            return None
        limit = int(self.artifact_limit * 2**30)
        return Selection(patterns=tuple(self.artifacts), limit=limit, work_directory=work_directory)

    def _wish(self, work_directory: str) -> PredictionWish | None:
        """How predictions are compared. Raises UsageError."""
        from mlflow_repro.judging.prediction_worker import READERS

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
        wish = PredictionWish(
            data=self.prediction_data,
            timeout=self.prediction_timeout,
            limit=int(self.artifact_limit * 2**30),
            work_directory=work_directory,
        )
        return wish if self.compare_predictions else None

    def check_repeats(self) -> None:
        """Refuse what only a pair of runs is judged by. Raises UsageError."""
        if self.compare_predictions:
            raise UsageError("predictions of repeats are not compared", "compare two runs")
        if self.artifacts or self.artifact_limit != _ARTIFACT_LIMIT or self.histories not in ("full", "off"):
            raise UsageError(
                "of repeats final values are judged: there are no histories or artifacts to choose",
                "leave histories, artifacts and artifact_limit out, or compare two runs",
            )


@dataclass(frozen=True, kw_only=True)
class SpreadOptions:
    """How repeats are judged, by their spread."""

    against: tuple[str, ...] = option(
        (),
        metavar="ID,ID",
        help="More reference runs, repeats of the reference, to judge by the spread; several with commas.",
    )
    margin: tuple[str, ...] = option(
        (),
        metavar="[PATTERN=]X",
        help="How far the means of repeats may lie apart, in the metric's unit. The first that matches decides."
        " Default: two standard deviations of the references.",
    )
    as_good_as: tuple[str, ...] = option(
        (),
        metavar="PATTERN=higher|lower",
        help="Of repeats: ask of metrics that match only whether the reproductions are as good as the references,"
        " where higher or lower is better.",
    )

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

    def check(self) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        _ = self.more_references, self.margins, self.better

    def check_pair(self) -> None:
        """Refuse what only repeats are judged by. Raises UsageError."""
        if self.margin or self.as_good_as:
            name = "margin" if self.margin else "as_good_as"
            raise UsageError(f"{name} is for repeats, and there is one run on each side", "leave it out")


def check_spread(judging: JudgeOptions, spread: SpreadOptions, *, are_repeats: bool) -> None:
    """Refuse what only a pair is judged by, or only repeats. Raises UsageError."""
    spread.check()
    if are_repeats:
        judging.check_repeats()
    else:
        spread.check_pair()


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What `compare_runs` can be asked for."""

    store: StoreOptions = group(StoreOptions)
    judging: JudgeOptions = group(JudgeOptions)


@dataclass(frozen=True, kw_only=True)
class ExplainOptions:
    """What `explain_runs` can be asked for."""

    store: StoreOptions = group(StoreOptions)
    judging: JudgeOptions = group(JudgeOptions)
    spread: SpreadOptions = group(SpreadOptions)


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """What ``mlflow-repro compare`` can be asked for."""

    store: StoreOptions = group(StoreOptions)
    judging: JudgeOptions = group(JudgeOptions)
    spread: SpreadOptions = group(SpreadOptions)
    children: bool = option(default=True, help="Judge the runs below, and the others of the launch, as well.")
