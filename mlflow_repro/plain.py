"""Numbers in a form that JSON has."""

from __future__ import annotations

import math


def plain_number(value: float | str | None) -> float | str | None:
    """``value`` in a form that JSON has: numbers that are not finite as text that `float` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value
