"""What a comparison takes into account, as the user chose it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import UsageError
from mlflow_repro.judging.sides import split_name
from mlflow_repro.values.rules import RuleSettings, make_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.judging.artifacts import Selection
    from mlflow_repro.judging.predictions import PredictionWish
    from mlflow_repro.values.rules import Rules


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
        from mlflow_repro.judging.histories import HISTORIES

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
        from mlflow_repro.judging.artifacts import Selection

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
        from mlflow_repro.judging.prediction_worker import READERS
        from mlflow_repro.judging.predictions import PredictionWish

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
        from mlflow_repro.judging.config import read_rules

        return make_rules(self, read_rules(self.config))
