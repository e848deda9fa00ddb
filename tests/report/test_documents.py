"""Every form of a report: goldens, and names that try to be more than names."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import strategies
from hypothesis import given
from markdown_it import MarkdownIt

from mlflow_repro.compare import compare_records
from mlflow_repro.compare.curves import MOST_CURVES
from mlflow_repro.compare.repeats import compare_repeats
from mlflow_repro.report import RENDERERS
from mlflow_repro.report.html import STYLE, render_html
from mlflow_repro.report.junit import render_junit
from mlflow_repro.report.markdown import NOTE_LIMIT, render_markdown, render_note, render_text_note
from mlflow_repro.report.plots import describe_plot
from mlflow_repro.report.sections import make_document
from mlflow_repro.text.redact import show
from mlflow_repro.values.comparison import OUTCOMES, Curve, Finding, JudgedPair, Status
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.report import Cause, Report
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run

GOLDEN = Path(__file__).parents[1] / "golden" / "document"
CANARY = "hunter2hunter2"
HOSTILE = {
    "script": "<script>window.hacked=1</script>",
    "img": "\"'><img src=x onerror=window.hacked=1>",
    "closing": "</bdi></td></table></style><svg onload=window.hacked=1>",
    "entity": "&lt;b&gt; &amp;lt; &#60;",
    "cdata": "]]> <![CDATA[ <!-- --> <?x?>",
    "markdown": "**bold** _it_ `code` [x](javascript:alert(1)) ![i](http://host/i) # h ~~s~~",
    "table": "a | b | c \\| d",
    "backticks": "``` ```` `````",
    "right-to-left": "a\u202eb",
    "hebrew": "\u05d3\u05d9\u05d5\u05e7",
    "controls": "\x00\x1b[31m\x07\r\n\u2028\ufffe",
    "surrogate": "a\udce9b",
    "workflow-command": "::error::x",
    "long": "x" * 10_000,
    "long-words": "<b>" * 3_334,
}
GAP = "\u200b"  # what keeps an address from becoming a link
VOID = {"meta", "link", "img", "br", "hr", "input"}
TAGS = {
    "html", "head", "meta", "title", "style", "body", "a", "main", "h1", "h2", "div", "strong", "span", "p", "nav",
    "ul", "li", "section", "table", "caption", "thead", "tbody", "tr", "th", "td", "bdi", "b", "pre", "details",
    "summary",
    "figure", "figcaption", "footer", "svg", "rect", "polyline", "line", "text",
}  # fmt: skip


def run(metrics: dict[str, float], **fields: object) -> Run:
    return Run(**{"run_id": "a" * 32, "run_name": "gifted-shrimp-1", "metrics": metrics, **fields})


def plan(**fields: object) -> LaunchPlan:
    source = Source(uri="https://host/repo.git", commit="0123456789abcdef" * 2 + "01234567")
    return LaunchPlan(**{"reference_run_id": "a" * 32, "source": source, **fields})


def full_report() -> Report:
    """Something of everything that a document can hold."""
    fields = {"experiment_name": "Default", "status": "FINISHED", "start_time": 1_700_000_000_000}
    reference = run(
        {"acc": 0.75, "loss": 0.5, "gone": 1.0, "near": 1.0, "fit_time": 1.0, "nan": math.nan},
        params={"lr": "1e-3", "same": "1", "api_key": CANARY},
        **fields,
    )
    reproduction = run(
        {"acc": 0.5, "loss": 0.5, "near": 1.0 + 2**-52, "fit_time": 2.0, "nan": math.nan},
        **{**fields, "run_id": "b" * 32, "run_name": "", "params": {"lr": "0.001", "same": "1", "api_key": "x"}},
    )
    history = Finding(
        kind="history", name="loss", reference=4.0, reproduction=4.0, status=Status.DIFFERENT,
        note="differs from step 2 on, 1 of 4 points",
        details={"points": 4, "unequal": 1, "first_different_step": 2, "max_relative": 0.5},
    )  # fmt: skip
    artifact = Finding(
        kind="artifact", name="model/m.bin", reference="4 bytes, sha256 00", reproduction="4 bytes, sha256 01",
        status=Status.UNKNOWN, note="cannot be read",
    )  # fmt: skip
    curve = Curve(
        name="loss",
        reference=((0, 1.0), (1, 0.75), (2, 0.5), (3, 0.5)),
        reproduction=((0, 1.0), (1, 0.75), (2, 1.0), (3, 0.5)),
    )
    cause = Cause(
        kind="package",
        what="numpy 1.26.4 -> 2.1.0",
        confidence=0.75,
        evidence=("the run imported numpy", "it differs here"),
        fix="mlflow-repro reproduce --run_id ID --env recorded",
    )
    return Report(
        plan=plan(caveats=("the reference's random state was not recorded",), parameters={"alpha": "a b"}),
        reference=reference,
        reproduction=reproduction,
        comparison=compare_records(reference, reproduction, fetched=[history, artifact]),
        causes=(cause, replace(cause, what="another", confidence=1.0, evidence=(), fix="")),
        curves=(curve,),
        children=(
            JudgedPair(
                name="trial 1",
                reference_run_id="c" * 32,
                reproduction_run_id="d" * 32,
                status=Status.DIFFERENT,
                comparison=compare_records(run({"acc": 1.0}), run({"acc": 0.5})),
            ),
            JudgedPair(
                name="trial 2",
                reference_run_id="e" * 32,
                reproduction_run_id="",
                status=Status.MISSING,
                note="only in the reference",
            ),
        ),
    )


def equal_report() -> Report:
    one = run({"acc": 0.75})
    return Report(plan=None, reference=one, reproduction=one, comparison=compare_records(one, one))


def repeats_report() -> Report:
    """Three reproductions against one reference."""
    sides = [
        [run({"acc": value, "loss": 0.5}, run_id=f"{side}{number}" * 16) for number, value in enumerate(values)]
        for side, values in (("a", (0.75,)), ("b", (0.5, 0.5625, 0.53125)))
    ]
    comparison = compare_repeats(*sides, Rules(), {})
    return Report(plan=plan(), reference=sides[0][0], reproduction=sides[1][0], comparison=comparison)


def empty_report() -> Report:
    return Report(plan=plan(), reference=run({}), reproduction=run({}), comparison=compare_records(run({}), run({})))


REPORTS = {
    "full": full_report,
    "equal": equal_report,
    "repeats": repeats_report,
    "nothing": empty_report,
    "plan": lambda: Report(plan=plan(tracking_uri=f"https://me:{CANARY}@host"), reference=run({})),
}
FORMATS = {"txt": "text", "json": "json", "md": "markdown", "html": "html", "xml": "junit"}


class Page(HTMLParser):
    """Reads a page as a browser does, and fails where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def handle_comment(self, data):
        pytest.fail(f"a comment: {data!r}")


def check_page(text: str) -> Page:
    page = Page(text)
    assert page.tags <= TAGS
    assert [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "style", "action")] == []
    links = [value for name, value in page.attributes if name in ("href", "xlink:href")]
    assert all(re.fullmatch(r"#[a-z]+", link) for link in links)
    assert text.count("<style") == 1
    return page


def check_markdown(text: str) -> None:
    """No HTML, link or picture comes out of it, and every row of a table has as many cells as its head."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    inline = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inline)}
    assert kinds & {"html_block", "html_inline", "image", "s_open", "em_open"} == set()
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    parsed = sum(token.type == "tr_open" for token in tokens)
    assert parsed == len(rows) - sum(set(row) <= set("| -") and "---" in row for row in rows)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", REPORTS)
def test_report_is_as_reviewed(name: str, suffix: str):
    """One report in every form: what a tree, repeats and causes look like in each of them."""
    text = RENDERERS[FORMATS[suffix]](REPORTS[name](), False).replace(STYLE, "") + "\n"  # noqa: FBT003
    path = GOLDEN / f"{name}.{suffix}"
    assert path.is_file(), f"{path} is missing; it should hold:\n{text}"
    assert text == path.read_text(encoding="utf-8")
    assert CANARY not in text


def test_each_golden_has_its_test():
    assert set(FORMATS.values()) == set(RENDERERS)
    names = {f"{name}.{suffix}" for name in REPORTS for suffix in FORMATS}
    assert {path.name for path in GOLDEN.iterdir()} == names


def hostile_report(text: str) -> Report:
    """``text`` wherever a document takes one from other people."""
    fields = {"status": text, "experiment_name": text, "run_name": text, "tags": {"repro.git.uri": text}}
    reference = run({text: 1.0, "x": 0.0}, params={text: text, "p": text}, **fields)
    reproduction = run({text: 2.0}, **{**fields, "run_id": text, "params": {"p": "1"}})
    rows = [
        Finding(kind=kind, name=text, reference=side, reproduction=side, status=Status.DIFFERENT, note=text,
                details={"first_different_step": 1, "max_relative": 0.5})
        for kind, side in (("history", 2.0), ("artifact", text), ("tag", text), ("rule", None), ("run", text))
    ]  # fmt: skip
    return Report(
        plan=plan(caveats=(text,), parameters={text: text}, command=("python", text), experiment_name=text),
        reference=reference,
        reproduction=reproduction,
        comparison=compare_records(reference, reproduction, fetched=rows),
        causes=(Cause(kind=text, what=text, confidence=0.5, evidence=(text,), fix=text),),
        curves=(Curve(name=text, reference=((0, 1.0), (1, 2.0)), reproduction=((0, 1.0), (1, 3.0))),),
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
class TestHostileText:
    """REP-01, -03, -04, -06, -08, -09: shown as text, in every format, and not more of it than one can read."""

    def test_html(self, text: str):
        rendered = render_html(make_document(hostile_report(text)))
        page = check_page(rendered)
        assert len(rendered) < 200_000
        assert all(part.isprintable() for part in page.text.split("\n"))
        if text.isprintable() and len(text) < 300:
            assert page.text.count(text) >= 10

    def test_markdown(self, text: str):
        document = make_document(hostile_report(text))
        rendered = render_markdown(document)
        check_markdown(rendered)
        assert all(line.isprintable() for line in rendered.split("\n"))
        tokens = MarkdownIt("commonmark").enable("table").parse(rendered)
        heading = next(token for token in tokens if token.type == "inline")
        assert [child.type for child in heading.children] == ["text"] * len(heading.children)
        assert "".join(child.content for child in heading.children).replace(GAP, "") == document.title
        assert not any(token.type == "link_open" for part in tokens for token in part.children or ())

    def test_note(self, text: str):
        note = render_note(make_document(hostile_report(text)), link="#/experiments/0/runs/1", report="repro/r.html")
        check_markdown(note)
        assert len(note) <= NOTE_LIMIT
        assert note.splitlines()[0].startswith("❌ **DIFFERENT**")
        tokens = MarkdownIt("commonmark").parse(note)
        links = [token for part in tokens for token in part.children or () if token.type == "link_open"]
        assert [link.attrs["href"] for link in links] == ["#/experiments/0/runs/1"]

    def test_note_of_what_was_printed(self, text: str):
        note = render_text_note(f"+---+\n| {show(text)} |\n{show(text)} changes loss")
        assert len(note) <= NOTE_LIMIT
        tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(note)
        assert [token.type for token in tokens][:3] == ["paragraph_open", "inline", "paragraph_close"]
        assert {child.type for child in tokens[1].children} == {"text"}
        answer = "".join(child.content for child in tokens[1].children).replace(GAP, "")
        assert answer[:100] == f"{show(text)} changes loss"[:100]
        assert {token.type for token in tokens[3:]} <= {"fence"}

    def test_junit(self, text: str):
        document = make_document(hostile_report(text))
        suite = ET.fromstring(render_junit(document)).find("testsuite")  # noqa: S314 - our own
        assert suite.get("name") == document.title
        assert {case.get("name") for case in suite.iter("testcase")} >= {outcome.name for outcome in document.outcomes}


class TestLaws:
    """What holds of the document of any report."""

    @given(strategies.reports)
    def test_all_forms_give_one_answer(self, report: Report):
        """The text and the JSON are made from the report, the others from the document of it."""
        texts = {name: render(report, True) for name, render in RENDERERS.items()}  # noqa: FBT003
        if report.comparison is None or report.reproduction is None or report.verdict is None:
            return
        plain = json.loads(texts["json"])
        word, (line, runs_equal) = plain["verdict"], texts["text"].split("\n")[-1].partition(": ")[::2]
        assert line == "Runs equal"
        assert re.search(rf"^Verdict: {word}\b", texts["text"], flags=re.MULTILINE)
        assert runs_equal.split(" ")[0] == plain["runs_equal"]
        assert f"<strong>{word}</strong><span>Runs equal: {runs_equal}</span>" in texts["html"]
        assert f"**{word.replace('_', chr(92) + '_')}**" in texts["markdown"].split("\n")[2]
        assert f"Verdict: {word}" in texts["junit"]
        assert f"Runs equal: {runs_equal}\n" in texts["junit"]

    @pytest.mark.parametrize("kind", OUTCOMES)
    def test_each_kind_that_judges_is_shown(self, kind: str):
        """Also what ``--compare-predictions`` adds."""
        row = Finding(kind=kind, name="net", reference=1.0, reproduction=2.0, status=Status.DIFFERENT, note="differs")
        one = run({})
        comparison = replace(compare_records(one, one), findings=(row,))
        made = Report(plan=plan(), reference=one, reproduction=one, comparison=comparison)
        for name, render in RENDERERS.items():
            assert "net" in render(made, False), name  # noqa: FBT003 - a renderer's form

    @given(strategies.reports)
    def test_page_is_well_formed_and_runs_nothing(self, report: Report):
        check_page(render_html(make_document(report)))

    @given(strategies.reports)
    def test_markdown_has_its_rows_and_no_html(self, report: Report):
        check_markdown(render_markdown(make_document(report)))
        assert len(render_note(make_document(report))) <= NOTE_LIMIT

    @given(strategies.reports)
    def test_junit_counts_what_the_verdict_says(self, report: Report):
        suite = ET.fromstring(render_junit(make_document(report))).find("testsuite")  # noqa: S314 - our own
        counts = {name: int(suite.get(name)) for name in ("failures", "errors")}
        if report.comparison is not None:
            code = report.exit_code
            assert {0: counts == {"failures": 0, "errors": 0}, 1: counts["failures"] > 0, 3: counts["errors"] > 0}[code]


def contrast(one: str, other: str) -> float:
    """Of two colours, as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio defines it."""
    lights = []
    for colour in (one, other):
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        lights.append(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_of_text_can_be_read(scheme: str):
    """4.5 is the least for text of WCAG's level AA, 3 for the curves of a plot."""
    blocks = dict(zip(("light", "dark"), re.findall(r":root \{(.*?)\}", STYLE, flags=re.DOTALL), strict=True))
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[scheme]))
    grounds = [colours.pop("ground"), colours.pop("raised")]
    del colours["line"]  # of borders, which say nothing
    curves = {name: colours.pop(name) for name in ("one", "other")}
    assert {name for name, colour in colours.items() if min(contrast(colour, one) for one in grounds) < 4.5} == set()
    assert {name for name, colour in curves.items() if min(contrast(colour, one) for one in grounds) < 3} == set()


class TestPlots:
    """Pictures that say in words what they show."""

    def test_whoever_cannot_see_it_is_told(self):
        (plot,) = make_document(full_report()).section("curves").blocks
        said = describe_plot(plot)
        assert said == "loss by step, reference and reproduction: differs from step 2 on, 1 of 4 points"
        assert f'aria-label="{said}"' in render_html(make_document(full_report()))

    @pytest.mark.parametrize(
        "points",
        [
            ((0, 1.0), (0, 1.0)),
            ((-(2**63), -1.7e308), (2**63 - 1, 1.7e308)),
            ((0, 5e-324), (1, 0.0)),
            ((5, 3.0), (6, 3.0)),
        ],
        ids=["one-place", "everything", "tiny", "flat"],
    )
    def test_any_numbers_stay_inside_of_the_picture(self, points):
        report = full_report()
        curve = Curve(name="loss", reference=points, reproduction=())
        text = render_html(make_document(replace(report, curves=(curve,))))
        (path,) = re.findall(r'points="([^"]*)"', text)
        places = [tuple(map(float, pair.split(","))) for pair in path.split()]
        assert all(0 <= x <= 480 and 0 <= y <= 200 for x, y in places)

    def test_what_is_not_drawn_is_counted(self):
        report = full_report()
        more = tuple(Finding(kind="history", name=f"m{n}", reference=2.0, reproduction=2.0, status=Status.IDENTICAL)
                     for n in range(3))  # fmt: skip
        comparison = replace(report.comparison, findings=(*report.comparison.findings, *more))
        assert "3 more histories were compared and are not drawn." in render_html(
            make_document(replace(report, comparison=comparison))
        )


def large_report(metrics: int) -> Report:
    """As many metrics, each with a history that was thinned out and differs in the middle."""
    names = [f"layer.{number}/loss" for number in range(metrics)]
    one, other = (run(dict.fromkeys(names, value)) for value in (1.0, 1.0 + 1e-6))
    curve = tuple((step * 3_333, math.sin(step / 9) / (1 + step)) for step in range(300))
    late = tuple((step, value + (step > 500_000) / 50) for step, value in curve)
    rows = [
        Finding(kind="history", name=name, reference=1e6, reproduction=1e6, status=Status.DIFFERENT,
                note="differs from step 500001 on, 499999 of 1000000 points",
                details={"points": 1_000_000, "unequal": 499_999, "first_different_step": 500_001})
        for name in names
    ]  # fmt: skip
    curves = tuple(Curve(name=name, reference=curve, reproduction=late) for name in names[:MOST_CURVES])
    comparison = compare_records(one, other, fetched=rows)
    return Report(plan=plan(), reference=one, reproduction=other, comparison=comparison, curves=curves)


def test_report_of_many_metrics_stays_small():
    text = render_html(make_document(large_report(500)))
    assert len(text.encode()) < 2_000_000
    assert "400 more histories were compared and are not drawn." in text


def test_markdown_of_many_rows_keeps_those_that_differ():
    names = {f"m{number:04}": 1.0 for number in range(2_000)}
    one, other = run(names), run({**names, "m1999": 2.0})
    report = Report(plan=None, reference=one, reproduction=other, comparison=compare_records(one, other))
    text = render_markdown(make_document(report))
    assert "| metric | m1999 | 1.0 | 2.0 | different |" in text.partition("## Everything")[2]
    assert "1800 more rows are not shown." in text
