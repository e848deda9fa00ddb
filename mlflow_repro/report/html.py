"""A document as one HTML file that needs nothing else: no script, no network, light, dark and on paper.

The page is built as a tree of elements, so that no text can become markup, whatever stands in it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from mlflow_repro.report.document import Commands, Listing, Plot, Table
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


STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --raised: #f3f4f6; --ink: #1b1f24; --faint: #57606a; --line: #c9ced6;
  --same: #116329; --different: #a40e26; --unknown: #7a4d00; --link: #0550ae;
  --one: #0550ae; --other: #bc4c00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ground: #12161c; --raised: #1d232c; --ink: #e8ecf1; --faint: #a3adb9; --line: #3d4653;
    --same: #6fdd8b; --different: #ff9492; --unknown: #f0b72f; --link: #84b6ff;
    --one: #84b6ff; --other: #ffa657;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; }
.skip:focus { position: static; }
.verdict { border: 2px solid; border-radius: .5rem; padding: .75rem 1rem; margin: 1rem 0; }
.verdict strong { font-size: 1.35rem; margin-right: .75rem; }
.verdict p { margin: .25rem 0 0; color: var(--ink); }
.verdict.same { color: var(--same); } .verdict.different { color: var(--different); }
.verdict.unknown { color: var(--unknown); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .375rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--faint); padding: .35rem .6rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-top: 1px solid var(--line);
  max-width: 26rem; }
th, tbody td:first-child { overflow-wrap: normal; }
td.name { min-width: 7rem; } td.value { min-width: 8rem; } td.note { min-width: 14rem; }
td.result { overflow-wrap: normal; }
thead th { background: var(--raised); }
tr.different td.result, tr.unknown td.result { font-weight: 600; }
tr.same td.result { color: var(--same); }
tr.different td.result { color: var(--different); }
tr.unknown td.result { color: var(--unknown); }
tr.ignored td { color: var(--faint); }
code, pre, td.value { font-family: ui-monospace, monospace; font-size: .85rem; }
pre { background: var(--raised); border: 1px solid var(--line); border-radius: .375rem; padding: .75rem;
  white-space: pre-wrap; }
summary { cursor: pointer; padding: .35rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 30rem), 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid var(--line); border-radius: .375rem; padding: .6rem; break-inside: avoid; }
figcaption { font-size: .9rem; color: var(--faint); }
figcaption b { color: var(--ink); }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 11px system-ui, sans-serif; }
svg polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.one { stroke: var(--one); } .other { stroke: var(--other); stroke-dasharray: 5 3; }
.frame { fill: none; stroke: var(--line); } .mark { stroke: var(--different); stroke-width: 1.5; }
svg text.mark-label { fill: var(--different); }
.key { border-bottom: 3px solid; padding-bottom: 1px; margin-right: .75rem; }
.key-one { border-color: var(--one); } .key-other { border-color: var(--other); border-bottom-style: dashed; }
footer { margin-top: 3rem; color: var(--faint); font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; } nav, .skip { display: none; }
  .scroll { overflow: visible; border: 0; } tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
