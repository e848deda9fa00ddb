"""A document as JUnit XML: a test case for each outcome, for the reports of a CI system.

What differs is a failure. What cannot be judged is an error, since a job must not pass on it, and so is a comparison in
which nothing judges. What is shown and not judged is skipped.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_repro.report.document import Document, Outcome

_ELEMENTS = {"different": "failure", "unknown": "error", "ignored": "skipped"}


def render_junit(document: Document) -> str:
    """One suite, named by the document's title."""
    suites = ET.Element("testsuites")
    suite = ET.SubElement(suites, "testsuite", {"name": document.title, "errors": "0"})
    for outcome in document.outcomes:
        _add_case(suite, outcome)
    counts = {name: len(suite.findall(f"./testcase/{name}")) for name in ("failure", "error", "skipped")}
    if document.verdict.tone == "unknown" and not counts["error"] and document.verdict.runs_equal:
        case = ET.SubElement(suite, "testcase", {"classname": "verdict", "name": document.verdict.word, "time": "0"})
        ET.SubElement(case, "error", {"message": document.verdict.line, "type": document.verdict.word})
        counts["error"] += 1
    suite.attrib |= {"tests": str(len(suite)), "failures": str(counts["failure"]), "errors": str(counts["error"])}
    suite.attrib |= {"skipped": str(counts["skipped"]), "time": "0"}
    out = ET.SubElement(suite, "system-out")
    out.text = f"Verdict: {document.verdict.line}\nRuns equal: {document.verdict.runs_equal}\n"
    ET.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _add_case(suite: ET.Element, outcome: Outcome) -> None:
    case = ET.SubElement(suite, "testcase", {"classname": outcome.kind, "name": outcome.name, "time": "0"})
    element = _ELEMENTS.get(outcome.tone)
    if element is None:
        return
    attributes = {"message": outcome.note or outcome.status}
    if element != "skipped":
        attributes["type"] = outcome.status
    ET.SubElement(case, element, attributes).text = outcome.values
