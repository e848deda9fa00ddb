"""Turn a report into text for people or for programs. Every format is rendered from the same value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.report.json_format import render_json
from mlflow_repro.report.text import render_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.model import Report

RENDERERS: dict[str, Callable[[Report, bool], str]] = {"table": render_text, "json": render_json}
"""By the name that ``--format`` takes: a function of the report and of ``verbose``."""
