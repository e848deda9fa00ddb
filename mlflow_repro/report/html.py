"""A document as one HTML file that needs nothing else: no script, no network, light, dark and on paper.

The page is built as a tree of elements, so that no text can become markup, whatever stands in it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from mlflow_repro.report.document import Commands, Listing, Plot, Table
from mlflow_repro.report.html_style import STYLE
from mlflow_repro.report.plots import draw_plot

if TYPE_CHECKING:
    from mlflow_repro.report.document import Document, Section

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
_MOST_ROWS = 5_000
_CLASSES = {"Name": "name", "Reference": "value", "Reproduction": "value", "Result": "result", "Note": "note"}


def render_html(document: Document) -> str:
    """The page."""
    page = ET.Element("html", {"lang": "en"})
    _add_head(page, document)
    body = ET.SubElement(page, "body")
    _add(body, "a", "Skip to what differs", href="#differences", class_="skip")
    main = ET.SubElement(body, "main")
    _add(main, "h1", document.title)
    _add_verdict(main, document)
    _add_contents(main, document)
    for section in document.sections:
        _add_section(main, section)
    _add(body, "footer", "Made by mlflow-repro.")
    return "<!DOCTYPE html>\n" + ET.tostring(page, encoding="unicode", method="html") + "\n"


def _add(parent: ET.Element, tag: str, text: str = "", **attributes: str) -> ET.Element:
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    element = ET.SubElement(parent, tag, names)
    element.text = text or None
    return element


def _add_head(page: ET.Element, document: Document) -> None:
    head = ET.SubElement(page, "head")
    _add(head, "meta", charset="utf-8")
    ET.SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", f"{document.verdict.word}: {document.title}")
    _add(head, "style", STYLE)


def _add_verdict(main: ET.Element, document: Document) -> None:
    verdict = document.verdict
    box = _add(main, "div", class_=f"verdict {verdict.tone}")
    _add(box, "strong", verdict.word)
    if verdict.runs_equal:
        _add(box, "span", f"Runs equal: {verdict.runs_equal}")
    _add(box, "p", verdict.line)


def _add_contents(main: ET.Element, document: Document) -> None:
    items = _add(_add(main, "nav", aria_label="Contents"), "ul")
    for section in document.sections:
        _add(_add(items, "li"), "a", section.title, href=f"#{section.key}")


def _add_section(main: ET.Element, section: Section) -> None:
    parent = _add(main, "section", id=section.key, aria_labelledby=f"{section.key}-title")
    _add(parent, "h2", section.title, id=f"{section.key}-title")
    plots = [block for block in section.blocks if isinstance(block, Plot)]
    if plots:
        _add_plots(parent, plots)
    for block in section.blocks:
        if isinstance(block, Table):
            _add_table(parent, block)
        elif isinstance(block, Listing):
            items = _add(parent, "ul")
            for line in block.lines:
                _add(_add(items, "li"), "bdi", line)
        elif isinstance(block, Commands):
            _add(parent, "p", f"{block.caption}:")
            _add(parent, "pre", "\n".join(block.lines), tabindex="0", aria_label=block.caption)


def _add_table(parent: ET.Element, table: Table) -> None:
    if table.is_folded:
        parent = _add(parent, "details")
        _add(parent, "summary", f"{table.caption}: {len(table.rows)}")
    # A wide table is scrolled with the arrow keys, so it can have the focus.
    box = _add(parent, "div", class_="scroll", role="region", tabindex="0", aria_label=table.caption)
    element = _add(box, "table")
    _add(element, "caption", table.caption)
    header = _add(_add(element, "thead"), "tr")
    for text in table.headers:
        _add(header, "th" if text else "td", text, **({"scope": "col"} if text else {}))
    body = _add(element, "tbody")
    for row in table.rows[:_MOST_ROWS]:
        line = _add(body, "tr", **({"class_": row.tone} if row.tone else {}))
        for name, cell in zip(table.headers, row.cells, strict=True):
            _add(_add(line, "td", **({"class_": _CLASSES[name]} if name in _CLASSES else {})), "bdi", cell)
    if len(table.rows) > _MOST_ROWS:
        _add(parent, "p", f"{len(table.rows) - _MOST_ROWS} more rows are not shown; the JSON form has all.")


def _add_plots(parent: ET.Element, plots: list[Plot]) -> None:
    key = _add(parent, "p")
    _add(key, "span", "reference", class_="key key-one")
    _add(key, "span", "reproduction", class_="key key-other")
    grid = _add(parent, "div", class_="plots")
    for plot in plots:
        figure = _add(grid, "figure")
        figure.append(draw_plot(plot))
        caption = _add(figure, "figcaption")
        _add(_add(caption, "b"), "bdi", plot.label).tail = ": "
        _add(caption, "bdi", plot.note)
