"""The histories of a metric in both runs, thinned out until they can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[int, float]
"""A step and a finite value."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn of one metric: points in the order of their steps, the extremes of each stretch among them.

    No more than about 300 of a run, however many were logged; what is not finite is left out.
    """

    name: str
    reference: tuple[Point, ...]
    reproduction: tuple[Point, ...]
