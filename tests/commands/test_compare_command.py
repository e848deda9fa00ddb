"""``mlflow-repro compare``: two runs that are there, also of two stores, with what explains a difference."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from records import make_plain, make_record

from mlflow_repro.cli import main
from mlflow_repro.compare.facts import compare_datasets, compare_facts, compare_tags
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.record import read_record
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow_repro.values.comparison import Finding


def differing(findings: list[Finding]) -> dict[str, tuple]:
    return {
        f"{row.kind} {row.name}": (row.reference, row.reproduction)
        for row in findings
        if row.status is not Status.IDENTICAL
    }


def log_run(uri: str, *, loss: float, own: dict | str | None = None, **tags: str) -> str:
    """A run with a metric, a param, a data set, tags, and ``own`` as its record of itself."""
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag

    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0", tags=tags).info.run_id
    client.log_metric(run_id, "loss", loss)
    client.log_param(run_id, "lr", "0.5")
    data = Dataset(name="iris", digest=f"d{loss}", source_type="local", source="x")
    client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])
    if own is not None:
        client.log_text(run_id, own if isinstance(own, str) else json.dumps(own), "repro/record.json")
    client.set_terminated(run_id)
    return run_id


@pytest.fixture
def uri(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]):
    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["compare", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


class TestFacts:
    """What is put side by side."""

    def test_leaves_are_named_by_their_path(self):
        one = make_record(
            environment={
                "python": "3.10.1", "digest": "x", "extras": [{"name": "numpy", "version": "1.26"}],
                "os": {"name": "Linux", "release": "6.1"}, "conda": {"absent": "no conda"},
            },
            seeds={"python": "3", "calls": [{"value": "1"}]},
        )  # fmt: skip
        other = make_record(
            environment={
                "python": "3.10.1", "digest": "y",
                "extras": [{"name": "numpy", "version": "2.0"}, {"name": "x"}],
                "os": {"name": "Linux", "release": "6.2"}, "conda": "24.1",
            },
            seeds={"python": "4", "calls": []},
        )  # fmt: skip
        assert differing(compare_facts(one, other)) == {
            "environment extras.numpy": ("1.26", "2.0"),
            "environment extras.x": (None, "{}"),
            "environment os.release": ("6.1", "6.2"),
            "environment conda": (None, "24.1"),
            "seeds python": ("3", "4"),
        }

    def test_equal_facts_are_rows_too(self):
        found = compare_facts(make_record(code={"commit": "c"}), make_record(code={"commit": "c"}))
        assert [(row.kind, row.name, row.status) for row in found] == [("code", "commit", Status.IDENTICAL)]

    @pytest.mark.parametrize(
        "broken", [{"code": "text"}, {"code": [1, {"name": "x"}]}, {"code": {"commit": 3}}, {"code": None}]
    )
    def test_what_is_damaged_on_one_side_is_no_difference(self, broken: dict):
        whole = make_record(code={"commit": "c"}, launch={"cwd": "."})
        damaged = read_record(make_plain(launch={"cwd": "a"}, **broken))
        for sides in ((whole, damaged), (damaged, whole)):
            assert differing(compare_facts(*sides)).keys() == {"launch cwd"}

    def test_tags_stand_in_for_a_record(self):
        one = Run(run_id="a", tags={"repro.git.commit": "1", "mlflow.user": "x", "team": "red"})
        other = Run(run_id="b", tags={"repro.git.commit": "2", "mlflow.user": "y", "repro.capture": "complete"})
        assert differing(compare_tags(one, other, with_facts=True)) == {
            "code commit": ("1", "2"),
            "tag team": ("red", None),
        }
        assert differing(compare_tags(one, other, with_facts=False)) == {"tag team": ("red", None)}

    def test_data_sets_are_matched_by_name_and_context(self):
        one = [{"name": "iris", "context": "training", "digest": "1"}, {"name": "iris", "context": "", "digest": "2"}]
        assert differing(compare_datasets(one, [{**one[0], "digest": "3"}])) == {
            "dataset iris (training)": ("1", "3"),
            "dataset iris": ("2", None),
        }


class TestCommand:
    """Through the command line, with real stores."""

    def test_only_what_differs(self, compare, uri: str):
        one = log_run(uri, loss=0.5, own=make_plain(code={"commit": "c1" * 20, "uri": "u"}), team="red")
        other = log_run(uri, loss=0.25, own=make_plain(code={"commit": "c2" * 20, "uri": "u"}), team="blue")
        code, out, err = compare(one, other, "--tracking_uri", uri)
        assert (code, err) == (1, "")
        lines = out.splitlines()
        causes = lines[lines.index("Why they differ, the most likely first:") : -1]
        assert any("the code is another one" in line for line in causes)
        assert [line for line in lines[5:] if line not in causes] == [
            "Metric loss: 0.5 and 0.25, differs by 0.25 (relative 0.5)",
            "Tag team: 'red' in the reference, 'blue' in the reproduction",
            "Data set iris (training): 'd0.5' in the reference, 'd0.25' in the reproduction",
            f"Code commit: '{'c1' * 20}' in the reference, '{'c2' * 20}' in the reproduction",
            "Verdict: DIFFERENT, from 1 metric, 1 not equal (rel:1e-09)",
            "Runs equal: False",
        ]
        everything = compare(one, other, "--tracking_uri", uri, "--all")[1]
        assert "Code uri: 'u' in both" in everything
        assert "Parameter lr: '0.5' in both" in everything
        assert everything.startswith("Run1 (reference):")

    def test_run_of_another_store(self, compare, uri: str, tracking_server: str, tmp_path: Path):
        """The same run on a tracking server and in a database, named either way round."""
        one, other = log_run(uri, loss=0.5), log_run(tracking_server, loss=0.5)
        code, out, err = compare(one, f"{tracking_server}#{other}", "--tracking_uri", uri)
        assert (code, err) == (0, "")
        assert out.endswith("Runs equal: True\n")
        assert compare(f"{tracking_server}/#{other}", f"sqlite:///{tmp_path}/mlflow.db#{one}")[0] == 0

    def test_json_is_a_report_without_a_plan(self, compare, uri: str):
        one, other = log_run(uri, loss=0.5, own=make_plain(code={"commit": "c"})), log_run(uri, loss=0.5)
        code, out, _ = compare(one, other, "--tracking_uri", uri, "--json")
        plain = json.loads(out, parse_constant=pytest.fail)
        assert (code, plain["plan"], plain["comparison"]["verdict"]) == (0, None, "IDENTICAL")
        (row,) = (row for row in plain["comparison"]["findings"] if row["kind"] == "record")
        assert (row["reference"], row["reproduction"], row["judged"]) == ("repro/record.json", "nothing", False)
        del plain["exit_code"], plain["error"]
        assert Report.from_dict(plain).to_dict() == plain

    def test_rules_are_those_of_reproduce(self, compare, uri: str):
        one, other = log_run(uri, loss=0.5), log_run(uri, loss=0.25)
        assert compare(one, other, "--tracking_uri", uri, "--tolerance", "loss=abs:0.5")[0] == 0
        assert compare(one, other, "--tracking_uri", uri, "--ignore", "loss")[0] == 3

    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            ((), 2, "Missing argument 'REFERENCE'"),
            (("a" * 32,), 2, "Missing argument 'REPRODUCTION...'"),
            (("#" + "a" * 32, "b" * 32), 2, "names no tracking store"),
            (("a/b", "b" * 32), 2, "not a run id: 'a/b'"),
            (("a" * 32, "b" * 32, "--tracking_uri", "{uri}"), 3, "not found"),
            (("{uri}.none#" + "a" * 32, "b" * 32), 5, "does not exist"),
            (("a" * 32, "b" * 32, "--exact", "--abs_tol", "1"), 2, "exact contradicts abs_tol"),
        ],
    )
    def test_bad_input_is_one_line(self, compare, uri: str, arguments: tuple[str, ...], code: int, words: str):
        answer = compare(*(argument.format(uri=uri) for argument in arguments))
        assert (answer[0], answer[1]) == (code, "")
        assert words in answer[2]
        assert answer[2].count("\n") == 1

    @pytest.mark.parametrize("own", ["[1]", "not json"])
    def test_record_that_is_none_is_an_obstacle(self, compare, uri: str, own: str):
        one = log_run(uri, loss=0.5, own=own)
        code, _, err = compare(one, one, "--tracking_uri", uri)
        assert code == 3
        assert f"repro/record.json of run {one} is no JSON object" in err
