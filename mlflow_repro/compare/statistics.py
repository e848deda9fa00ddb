"""What repeats allow to say: prediction interval, equivalence, and how many repeats would decide.

Plain functions of numbers. Sources: the prediction interval and Welch's test of any textbook; Schuirmann 1987 and
Lakens 2017 (doi 10.1177/1948550617697177) for two one-sided tests; Holm 1979; MLPerf's reference convergence check.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALPHA = 0.05
FEWEST = 3
"""Repeats below which a spread says nothing."""
MOST_REPEATS = 1000
TRIMMED_RATIO = 4
"""References for each reproduction from which on `find_limit` fails equal pairs about as often as its level says."""
_POWER = 0.8
_LEARNED_FACTOR, _LEARNED_FLOOR = 1.5, 0.001


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Of two one-sided tests: the greater of both p values, and the ``1 - 2 alpha`` interval of the difference."""

    p: float
    low: float
    high: float


def spread(values: Sequence[float]) -> float:
    """The standard deviation of a sample (``n - 1``); infinite when it is beyond the greatest float."""
    try:
        return statistics.stdev(values)
    except OverflowError:
        return math.inf


def average(values: Sequence[float]) -> float:
    """The mean, also of numbers whose sum is beyond the greatest float; NaN of infinities with both signs."""
    try:
        return statistics.fmean(values)
    except (OverflowError, ValueError):
        return float(statistics.mean(values))  # exact, and slower


def find_interval(values: Sequence[float], alpha: float = ALPHA) -> tuple[float, float]:
    """The interval in which one more value falls with probability ``1 - alpha``: ``mean +- t s sqrt(1 + 1/n)``."""
    count, mean = len(values), average(values)
    half = _quantile(1 - alpha / 2, count - 1) * spread(values) * math.sqrt(1 + 1 / count)
    return mean - half, mean + half


def judge_value(values: Sequence[float], value: float) -> float:
    """The two-sided p value of ``value`` as one more of ``values``, whose spread must not be zero."""
    count = len(values)
    distance = abs(value - average(values)) / (spread(values) * math.sqrt(1 + 1 / count))
    return 2 * _probability(-distance, count - 1)


def judge_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """The two-sided p value of Welch's test; the spread of at least one side must not be zero."""
    difference, error, freedom = _welch(one, other)
    return 2 * _probability(-abs(difference) / error, freedom)


def judge_equivalence(one: Sequence[float], other: Sequence[float], margin: float, alpha: float = ALPHA) -> Equivalence:
    """Two one-sided tests (Welch) that the means lie less than ``margin`` apart: equivalent when ``p < alpha``."""
    difference, error, freedom = _welch(one, other)
    lower = _probability(-(difference + margin) / error, freedom)
    upper = _probability((difference - margin) / error, freedom)
    half = _quantile(1 - alpha, freedom) * error
    return Equivalence(p=max(lower, upper), low=difference - half, high=difference + half)


def find_limit(reference: Sequence[float], count: int, alpha: float = ALPHA) -> float:
    """The least trimmed mean of ``count`` values that passes for as good as ``reference``, where higher is better.

    Both sides lose their best and their worst: ``mean - t(1 - alpha, n + m - 2) s sqrt(1/n + 1/m)`` with the trimmed
    numbers of values, and s the deviation of the trimmed reference (of all of it, not of a sample), as MLPerf does.
    """
    kept = sorted(reference)[1:-1]
    left = count - 2
    error = spread(kept) * math.sqrt((len(kept) - 1) / len(kept)) * math.sqrt(1 / len(kept) + 1 / left)
    return average(kept) - _quantile(1 - alpha, len(kept) + left - 2) * error


def trim_mean(values: Sequence[float]) -> float:
    """The mean without the least and the greatest value."""
    return average(sorted(values)[1:-1])


def reject_holm(p_values: Mapping[str, float], alpha: float = ALPHA) -> set[str]:
    """The names whose hypothesis Holm's procedure rejects, with a chance below ``alpha`` of any wrong one."""
    rejected: set[str] = set()
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        if p >= alpha / (len(p_values) - place):
            break
        rejected.add(name)
    return rejected


def learn_tolerance(values: Sequence[float]) -> tuple[str, float]:
    """``rel`` or, around zero, ``abs``, and the tolerance that repeats with these values suggest.

    ``max(1.5 max|x - mean| / |mean|, 0.001)``, the practice of Megatron-LM's golden values.
    """
    mean = average(values)
    farthest = max(abs(value - mean) for value in values)
    if abs(mean) <= farthest:
        return "abs", _LEARNED_FACTOR * farthest
    return "rel", max(_LEARNED_FACTOR * farthest / abs(mean), _LEARNED_FLOOR)


def count_repeats(ratio: float, alpha: float = ALPHA, power: float = _POWER) -> int | None:
    """How many repeats a side show equivalence with ``power`` when there is no difference; None above a thousand.

    ``ratio`` is margin over standard deviation. By the shifted central t distribution:
    ``2 P(T < ratio / sqrt(2/n) - t(1 - alpha)) - 1 >= power`` with ``2n - 2`` degrees of freedom.
    """
    for count in range(FEWEST, MOST_REPEATS + 1):
        freedom = 2 * count - 2
        shifted = ratio / math.sqrt(2 / count) - _quantile(1 - alpha, freedom)
        if 2 * _probability(shifted, freedom) - 1 >= power:
            return count
    return None


def _welch(one: Sequence[float], other: Sequence[float]) -> tuple[float, float, float]:
    """The difference of the means, its standard error, and the degrees of freedom (Welch and Satterthwaite)."""
    spreads = [spread(side) for side in (one, other)]
    scale = max(spreads)  # squares of very small or very great numbers are no floats
    if math.isinf(scale):
        return average(one) - average(other), math.inf, float(min(len(one), len(other)) - 1)
    parts = [(own / scale) * (own / scale) / len(side) for own, side in zip(spreads, (one, other), strict=True)]
    total = sum(parts)
    freedom = total * total / sum(part * part / (len(side) - 1) for part, side in zip(parts, (one, other), strict=True))
    return average(one) - average(other), scale * math.sqrt(total), freedom


def _quantile(probability: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _probability(value: float, freedom: float) -> float:
    from scipy.special import stdtr

    return float(stdtr(freedom, value))
