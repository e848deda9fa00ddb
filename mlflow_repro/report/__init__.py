"""Turn a report into text for people or for programs. Every format is rendered from the same value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.report.html import render_html
from mlflow_repro.report.json_format import render_json
from mlflow_repro.report.junit import render_junit
from mlflow_repro.report.markdown import render_markdown
from mlflow_repro.report.sections import make_document
from mlflow_repro.report.text import render_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.report.document import Document
    from mlflow_repro.values.report import Report


def _of_document(render: Callable[[Document], str]) -> Callable[[Report, bool], str]:
    return lambda report, _verbose: render(make_document(report))


RENDERERS: dict[str, Callable[[Report, bool], str]] = {
    "text": render_text,
    "json": render_json,
    "markdown": _of_document(render_markdown),
    "html": _of_document(render_html),
    "junit": _of_document(render_junit),
}
"""By the name that ``--format`` takes: a function of the report and of ``verbose``."""
