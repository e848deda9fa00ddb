"""Where a report goes: to files, to the summary of a GitHub job, to the pages of both runs in MLflow."""

from __future__ import annotations

import json
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import strategies
from hypothesis import given

from mlflow_repro.cli import main
from mlflow_repro.compare.curves import BUCKETS, CurveSampler, thin
from mlflow_repro.compare.figures import summarise
from mlflow_repro.judging.causes import compare_and_explain
from mlflow_repro.judging.options import CompareOptions
from mlflow_repro.plan.launch import PlanOptions, plan_launch
from mlflow_repro.reproduce.answer import REPORT_FILE, annotate, annotate_repeats
from mlflow_repro.store import open_store
from mlflow_repro.values.comparison import JudgedPair, Status
from mlflow_repro.values.options import make_options
from mlflow_repro.values.run import OWN_METRICS

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.values.report import Report

NOTE = "mlflow.note.content"


class TestThinning:
    """What is drawn of a long history."""

    def test_short_history_stays_as_it_is(self):
        steps, values = np.arange(2 * BUCKETS), np.random.default_rng(1).random(2 * BUCKETS)
        assert [part.tolist() for part in thin(steps, values)] == [steps.tolist(), values.tolist()]

    @pytest.mark.parametrize("count", [301, 5_000, 100_000])
    def test_ends_and_extremes_are_kept(self, count: int):
        steps, values = np.arange(count) * 7 - 50, np.random.default_rng(1).random(count)
        kept_steps, kept = thin(steps, values)
        assert len(kept) <= 2 * BUCKETS + 2
        assert (kept_steps[0], kept_steps[-1]) == (steps[0], steps[-1])
        assert (kept.min(), kept.max()) == (values.min(), values.max())
        assert (np.diff(kept_steps) > 0).all()

    def test_block_by_block_keeps_the_extremes_too(self):
        values = np.random.default_rng(2).random(200_000)
        values[123_456], values[3] = 9.0, np.nan
        sampler = CurveSampler()
        blocks = [
            (np.arange(start, start + 50_000), values[start : start + 50_000]) for start in range(0, 200_000, 50_000)
        ]
        passed = list(sampler.watch("m", 0, iter(blocks)))
        assert [id(block) for block in passed] == [id(block) for block in blocks]
        points = dict(sampler._points("m", 0))
        assert len(points) <= 2 * BUCKETS + 2
        assert points[123_456] == 9.0
        assert 3 not in points

    def test_any_steps(self):
        count = 4 * BUCKETS
        same = np.full(count, 5)
        assert len(thin(same, np.arange(count, dtype=float))[0]) == 2
        far = np.sort(np.random.default_rng(1).integers(-(2**63), 2**63 - 1, count))
        assert len(thin(far, np.ones(count))[0]) > BUCKETS / 2


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


def log_run(uri: str, *losses: float, **tags: str) -> str:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    code = {"repro.git.uri": "https://host/r.git", "repro.git.commit": "1" * 40}
    launch = {"repro.launch.argv": '["python", "t.py"]', "repro.launch.script": "t.py"}
    run_id = client.create_run("0", tags={**code, **launch, **tags}).info.run_id
    for step, loss in enumerate(losses):
        client.log_metric(run_id, "loss", loss, step=step)
    client.set_terminated(run_id)
    return run_id


def compare(uri: str, one: str, other: str) -> Report:
    report = compare_and_explain(one, [other], make_options(CompareOptions, {"tracking_uri": uri, "children": False}))
    return replace(report, plan=plan_launch(report.reference, PlanOptions()))


class TestFiles:
    """``--output`` and the summary of a job."""

    def test_every_form_at_once(self, uri: str, tmp_path: Path, capsys, monkeypatch):
        one, other = log_run(uri, 1.0, 0.5, 0.25), log_run(uri, 1.0, 0.75, 0.25)
        summary = tmp_path / "summary.md"
        summary.write_text("before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        files = [tmp_path / f"report{suffix}" for suffix in (".html", ".md", ".xml", ".json", ".TXT")]
        arguments = [argument for file in files for argument in ("--output", str(file))]
        assert main(["compare", one, other, "--tracking_uri", uri, "--format", "markdown", *arguments]) == 1
        html, markdown, junit, plain, text = (file.read_text(encoding="utf-8") for file in files)
        assert capsys.readouterr().out == markdown
        assert summary.read_text() == f"before\n{markdown}\n"
        assert "differs from step 1" in html
        assert html.count("<polyline") == 2
        assert ET.fromstring(junit).find("testsuite").get("failures") == "1"  # noqa: S314 - our own
        assert json.loads(plain)["comparison"]["verdict"] == "DIFFERENT"
        assert text.endswith("Runs equal: False\n")
        assert not list(tmp_path.glob("*.part"))

    @pytest.mark.parametrize(
        ("path", "words"),
        [("report.pdf", "no known suffix"), ("report", "no known suffix"), ("no/where.html", "there is no folder")],
    )
    def test_file_that_cannot_be_is_said_before_anything_is_done(self, path: str, words: str, capsys):
        assert main(["reproduce", "--run_id", "0" * 32, "--tracking_uri", "http://127.0.0.1:9", "--output", path]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1

    def test_file_that_cannot_be_written_is_one_line(self, uri: str, tmp_path: Path, capsys):
        run_id = log_run(uri, 1.0)
        (tmp_path / "taken.html").mkdir()
        files = ("--output", "taken.html", "--output", "other.html")
        assert main(["compare", run_id, run_id, "--tracking_uri", uri, *files]) == 3
        printed = capsys.readouterr()
        assert "cannot be written to taken.html" in printed.err
        assert printed.out.endswith("Runs equal: True\n")
        assert (tmp_path / "other.html").is_file()
        assert not list(tmp_path.glob("*.part"))

    def test_summary_that_cannot_be_written_is_a_note(self, uri: str, tmp_path: Path, capsys, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
        run_id = log_run(uri, 1.0)
        assert main(["compare", run_id, run_id, "--tracking_uri", uri]) == 0
        assert capsys.readouterr().err.startswith("note: the job's summary cannot be written")


class TestAnnotations:
    """What is left on the pages of the runs."""

    def test_reproduction_and_reference(self, uri: str):
        from mlflow import MlflowClient

        one, other = log_run(uri, 1.0, 0.5), log_run(uri, 1.0, 0.4)
        store, client = open_store(uri), MlflowClient(uri)
        assert annotate(compare(uri, one, other), store, with_reference=True) == ()
        made, reference = client.get_run(other).data, client.get_run(one).data
        assert made.tags[NOTE].splitlines()[0].startswith("❌ **DIFFERENT**, from 1 metric and 1 history with 2 points")
        assert f"](#/experiments/0/runs/{one})" in made.tags[NOTE]
        assert made.tags["repro.verdict"] == "DIFFERENT"
        assert {name: value for name, value in made.metrics.items() if name in OWN_METRICS} == {
            "repro.max_rel_error": pytest.approx(0.2),
            "repro.compared": 3,
            "repro.different": 2,
        }
        assert b"<!DOCTYPE html>" in store.read_file(other, REPORT_FILE)
        assert reference.tags["repro.last_verdict"] == "DIFFERENT"
        assert reference.tags["repro.last_reproduction"] == other
        assert set(reference.metrics) == {"loss"}

    def test_children_count(self, uri: str):
        """What the metrics say of a run with children is of all of them, and agrees with its verdict."""
        from mlflow import MlflowClient

        one, other = log_run(uri, 1.0, 0.5), log_run(uri, 1.0, 0.5)
        below = compare(uri, log_run(uri, 1.0, 0.5), log_run(uri, 1.0, 0.4)).comparison
        ids = {"reference_run_id": "", "reproduction_run_id": ""}
        children = (
            JudgedPair(name="a", **ids, status=Status.DIFFERENT, comparison=below),
            JudgedPair(name="b", **ids, status=Status.MISSING, note="only in the reference"),
            JudgedPair(name="c", **ids, status=Status.IGNORED, note="not judged"),
        )
        report = replace(compare(uri, one, other), children=children)
        assert report.comparison.verdict.value == "IDENTICAL"
        annotate(report, open_store(uri))
        made = MlflowClient(uri).get_run(other).data
        assert made.tags["repro.verdict"] == "DIFFERENT"
        assert {name: value for name, value in made.metrics.items() if name in OWN_METRICS} == {
            "repro.max_rel_error": pytest.approx(0.2),
            "repro.compared": 7,
            "repro.different": 3,
        }

    @given(strategies.reports)
    def test_something_differs_just_where_the_verdict_says_so(self, report: Report):
        if report.comparison is not None:
            figures = summarise(report.comparison, report.children)
            assert (figures["repro.different"] > 0) == (report.verdict.value == "DIFFERENT")
            assert figures["repro.compared"] >= figures["repro.different"]

    def test_what_was_annotated_is_never_judged(self, uri: str):
        """A reproduction that becomes a reference itself is compared by what it logged, as before."""
        one, other = log_run(uri, 1.0), log_run(uri, 1.0)
        store = open_store(uri)
        annotate(compare(uri, one, other), store)
        third = compare(uri, other, log_run(uri, 1.0))
        assert third.comparison.verdict.value == "IDENTICAL"
        assert {row.name for row in third.comparison.findings if row.is_judged} == {"loss", "status"}
        assert not any("verdict" in row.name or "last_" in row.name for row in third.comparison.findings)

    def test_description_of_the_runs_own_code_stays(self, uri: str):
        """Also when the run is judged once more."""
        from mlflow import MlflowClient

        one, other = log_run(uri, 1.0), log_run(uri, 1.0, **{NOTE: "my own words"})
        store = open_store(uri)
        for _ in range(2):
            annotate(compare(uri, one, other), store)
            note = MlflowClient(uri).get_run(other).data.tags[NOTE]
            assert note.count("IDENTICAL**") == 1
            assert note.endswith("\n\n---\n\nmy own words")

    def test_store_that_takes_nothing_is_a_note(self, uri: str, tmp_path: Path):
        one, other = log_run(uri, 1.0), log_run(uri, 1.0)
        report, store = compare(uri, one, other), open_store(uri)
        for table in ("tags", "metrics"):
            with sqlite3.connect(tmp_path / "mlflow.db") as database:
                database.execute(
                    f"create trigger no_{table} before insert on {table} begin select raise(abort, 'read only'); end"
                )
        notes = annotate(report, store, with_reference=True)
        assert [note.partition(":")[0] for note in notes] == [
            "the reproduction's page does not show the answer",
            "the reference's page does not name its reproduction",
        ]
        assert all("\n" not in note for note in notes)

    def test_reference_is_left_alone_unless_asked_for(self, uri: str):
        from mlflow import MlflowClient

        one, other = log_run(uri, 1.0), log_run(uri, 2.0)
        report, store = compare(uri, one, other), open_store(uri)
        store_notes = annotate_repeats(report, [store.read_run(other)], store)
        assert store_notes == ()
        assert MlflowClient(uri).get_run(other).data.tags["repro.verdict"] == "DIFFERENT"
        assert "mlflow.parentRunId" not in MlflowClient(uri).get_run(other).data.tags
        assert "repro.last_verdict" not in MlflowClient(uri).get_run(one).data.tags

    def test_repeats_are_grouped(self, uri: str):
        from mlflow import MlflowClient

        one, *others = (log_run(uri, value) for value in (1.0, 1.25, 1.5, 0.5))
        report = compare_and_explain(
            one, others, make_options(CompareOptions, {"tracking_uri": uri, "children": False})
        )
        store, client = open_store(uri), MlflowClient(uri)
        runs = [store.read_run(run_id) for run_id in others]
        assert annotate_repeats(report, runs, store, with_reference=True) == ()
        parents = {client.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in others}
        (parent,) = map(client.get_run, parents)
        assert parent.info.status == "FINISHED"
        assert parent.data.tags["repro.verdict"] == "CONSISTENT"
        assert parent.data.tags[NOTE].startswith("✅ **CONSISTENT**")
        assert client.get_run(one).data.tags["repro.last_reproduction"] == parent.info.run_id


def test_figures_of_numbers_that_are_not_finite(uri: str):
    """No store keeps infinity as it is, and a chart shows none: such an error is left out."""
    report = compare(uri, log_run(uri, float("nan")), log_run(uri, 1.0))
    assert summarise(report.comparison) == {"repro.compared": 2.0, "repro.different": 1.0}
