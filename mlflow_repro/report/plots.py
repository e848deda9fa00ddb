"""Draw both histories of a metric over each other, as SVG inside of a page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.report.document import Plot
    from mlflow_repro.values.comparison import Point

_WIDTH, _HEIGHT = 480, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 8, 16, 20
_TEXT_WIDTH = 150  # of the label of the mark, about


class _Scale:
    """Where a point stands in the picture. Halves are subtracted, since the whole range may be no float64."""

    def __init__(self, points: Sequence[Point], mark: int | None) -> None:
        steps = [step for step, _ in points] + ([mark] if mark is not None else [])
        values = [value for _, value in points] or [0.0]
        self.first, self.last = min(steps, default=0), max(steps, default=0)
        self.low, self.high = min(values), max(values)

    def x(self, step: int) -> float:
        width = self.last - self.first
        share = (step - self.first) / width if width else 0.5
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        height = self.high / 2 - self.low / 2
        share = (value / 2 - self.low / 2) / height if height else 0.5
        return _HEIGHT - _BOTTOM - min(max(share, 0.0), 1.0) * (_HEIGHT - _TOP - _BOTTOM)


def draw_plot(plot: Plot) -> ET.Element:
    """The picture. Whoever cannot see it is told the same by its label."""
    curve = plot.curve
    scale = _Scale((*curve.reference, *curve.reproduction), plot.mark)
    svg = ET.Element("svg", {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "aria-label": describe_plot(plot)})
    frame = {"x": _LEFT, "y": _TOP, "width": _WIDTH - _LEFT - _RIGHT, "height": _HEIGHT - _TOP - _BOTTOM}
    _add(svg, "rect", "frame", **frame)
    for kind, points in (("one", curve.reference), ("other", curve.reproduction)):
        if points:
            path = " ".join(f"{scale.x(step):.1f},{scale.y(value):.1f}" for step, value in points)
            _add(svg, "polyline", kind, points=path)
    if plot.mark is not None:
        x = round(scale.x(plot.mark), 1)
        _add(svg, "line", "mark", x1=x, x2=x, y1=_TOP, y2=_HEIGHT - _BOTTOM)
        is_right = x > _WIDTH - _TEXT_WIDTH
        _label(svg, x, _TOP - 4, f"differs from step {plot.mark}", "mark-label", anchor="end" if is_right else "start")
    for value, y in ((scale.high, _TOP + 9), (scale.low, _HEIGHT - _BOTTOM)):
        _label(svg, _LEFT - 4, y, f"{value:.4g}", anchor="end")
    for step, anchor in ((scale.first, "start"), (scale.last, "end")):
        _label(svg, scale.x(step) if scale.first != scale.last else _LEFT, _HEIGHT - 5, str(step), anchor=anchor)
    return svg


def describe_plot(plot: Plot) -> str:
    """The picture in words."""
    return f"{plot.label} by step, reference and reproduction: {plot.note}"


def _label(svg: ET.Element, x: float, y: float, text: str, kind: str = "", *, anchor: str) -> None:  # noqa: PLR0913
    element = _add(svg, "text", kind, x=x, y=y)
    element.set("text-anchor", anchor)
    element.text = text


def _add(parent: ET.Element, tag: str, kind: str, **numbers: float | str) -> ET.Element:
    attributes = {name: value if isinstance(value, str) else f"{value:g}" for name, value in numbers.items()}
    return ET.SubElement(parent, tag, {**({"class": kind} if kind else {}), **attributes})
