"""Data files that were changed in place, runs of two stores, and searches that are taken up again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import record_of

from mlflow_repro.cli import main
from mlflow_repro.data.finder import DataFinder
from mlflow_repro.errors import UsageError
from mlflow_repro.isolate.changes import Changes, names_file, recast_reference
from mlflow_repro.isolate.data import ChangedData, list_changed_data, list_contents, make_data_factors
from mlflow_repro.isolate.factors import Conditions
from mlflow_repro.isolate.launches import Trials
from mlflow_repro.isolate.options import TrialOptions
from mlflow_repro.isolate.search import search
from mlflow_repro.judging.options import Judging
from mlflow_repro.report.isolation_text import render_sentence
from mlflow_repro.store import open_store
from mlflow_repro.values.proofs import Blame, Conclusion, Isolation, Trial
from mlflow_repro.values.run import Run
from mlflow_repro.values.sections import DataContent

OLD, NEW, OTHER = ("a" * 64, "b" * 64, "c" * 64)


def file_row(digest: str, path: str = "/d/a.csv", **more: Any) -> dict[str, Any]:
    return {"path": path, "place": "absolute", "size": 10, "sha256": digest, **more}


def with_data(*rows: dict[str, Any], is_here: bool = False) -> Conditions:
    return Conditions(record=record_of({} if is_here else {"data": {"params": list(rows)}}), is_here=is_here)


def content(digest: str) -> DataContent:
    return DataContent(digest=digest, size=10)


class TestContents:
    """What a record says of data, and which of it differs."""

    def test_files_folders_inputs_and_opened_files_outside_the_repository(self):
        record = {
            "data": {
                "params": [file_row(OLD), file_row(OLD, "code.csv", place="repository"), {"path": "/x"}],
                "inputs": [{"name": "set", "file": file_row(NEW, "/d/b.csv")}, {"name": "no file"}],
                "opened": {"files": [file_row(OTHER, "~/c"), file_row(OLD, "/d/log", written=True)]},
                "named": [file_row(NEW, "/d/named.csv"), file_row(OLD, "settings.json", place="repository")],
            }
        }
        record["data"]["params"].append({"path": "/d/f", "size": 3, "merkle_sha256": OLD, "place": "absolute"})
        assert list_contents(record_of(record).data) == {
            "/d/a.csv": content(OLD),
            "/d/f": DataContent(digest=OLD, size=3, is_folder=True),
            "~/c": content(OTHER),
            "/d/b.csv": content(NEW),
            "/d/named.csv": content(NEW),
        }

    def test_what_two_runs_had_otherwise(self):
        looked = []

        def look(path: str, _expected: object) -> DataContent:
            looked.append(path)
            return content(NEW)

        one = with_data(file_row(OLD), file_row(OLD, "/d/same"), file_row(OLD, "/d/gone"))
        other = with_data(file_row(NEW), file_row(OLD, "/d/same"))
        (found,) = list_changed_data(one, other, look)
        assert found == ChangedData(path="/d/a.csv", one=content(OLD), other=content(NEW), now=content(NEW))
        assert looked == ["/d/a.csv"]  # nothing is read that the runs agree on
        assert [row.path for row in list_changed_data(one, other, look, finds_others=True)] == ["/d/a.csv", "/d/same"]

    def test_what_is_otherwise_here_and_now(self):
        now = {"/d/a.csv": content(NEW), "/d/same": content(OLD), "/d/gone": None}
        one = with_data(*(file_row(OLD, path) for path in now))
        (found,) = list_changed_data(one, with_data(is_here=True), lambda path, _: now[path])
        assert (found.path, found.other) == ("/d/a.csv", content(NEW))


class TestDataFactors:
    """What can be tried of data that differ: by what can be had of their contents."""

    def make(self, now: str, *kept: str, can_place: bool = True, other: str = NEW):
        data = ChangedData(path="/d/a.csv", one=content(OLD), other=content(other), now=content(now))

        def find(_path: str, wanted: DataContent) -> str:
            return f"/kept/{wanted.digest[0]}" if wanted.digest in kept else ""

        return make_data_factors([data], find, lambda _: can_place)

    def test_the_old_content_lies_elsewhere(self):
        found = self.make(NEW, OLD)
        (factor,) = found.factors
        assert found.base.files == {"/d/a.csv": "/kept/a"}
        assert factor.changes.files == {"/d/a.csv": None}
        assert (found.pinned, found.impossible) == ((), ())
        assert factor.what == f"the data /d/a.csv (sha256 {OLD[:12]} -> {NEW[:12]})"

    def test_the_old_content_is_in_its_place_and_the_new_one_elsewhere(self):
        found = self.make(OLD, NEW)
        assert found.base.files == {}
        assert found.factors[0].changes.files == {"/d/a.csv": "/kept/b"}

    def test_the_old_content_is_gone(self):
        for found in (self.make(NEW), self.make(NEW, OLD, can_place=False)):
            assert (found.factors, found.impossible) == ((), ())
            assert found.pinned[0].kind == "data"

    def test_what_is_there_now_neither_run_had(self):
        assert OTHER[:12] in self.make(OTHER, NEW).pinned[0].what

    def test_the_new_content_is_gone(self):
        found = self.make(OLD)
        assert (found.factors, found.pinned, len(found.impossible)) == ((), (), 1)

    def test_what_both_runs_had_is_put_in_place_and_no_factor(self):
        found = self.make(NEW, OLD, other=OLD)
        assert found.base.files == {"/d/a.csv": "/kept/a"}
        assert (found.factors, found.pinned, found.impossible) == ((), (), ())


def run_with(argv: list[str], params: dict[str, str] | None = None) -> Run:
    tags = {"repro.capture": "complete", "repro.launch.argv": json.dumps(argv)}
    return Run(run_id="a", tags={**tags, **({"repro.launch.params": json.dumps(params)} if params else {})})


class TestPlacing:
    """Another file is read where the command line or a launch parameter names it."""

    @pytest.mark.parametrize(
        ("words", "expected"),
        [
            (["--data", "/d/a.csv"], ["--data", "/k"]),
            (["--data=/d/./a.csv"], ["--data=/k"]),
            (["/d/a.csv", "-n", "/d/a.csv.bak"], ["/k", "-n", "/d/a.csv.bak"]),
        ],
    )
    def test_arguments(self, words: list[str], expected: list[str]):
        run = recast_reference(run_with(["python", "t.py", *words]), Changes(files={"/d/a.csv": "/k"}))
        assert json.loads(run.tags["repro.launch.argv"]) == ["python", "t.py", *expected]

    def test_launch_parameters_and_the_home_directory(self, monkeypatch):
        monkeypatch.setenv("HOME", "/home/u")
        run = run_with(["python", "t.py"], {"data": "/home/u/a.csv", "n": "1"})
        recast = recast_reference(run, Changes(files={"~/a.csv": "/k"}))
        assert json.loads(recast.tags["repro.launch.params"]) == {"data": "/k", "n": "1"}
        assert names_file(run, "~/a.csv")
        assert not names_file(run, "~/b.csv")

    def test_no_other_file(self):
        run = run_with(["python", "t.py", "/d/a.csv"])
        assert recast_reference(run, Changes(files={"/d/a.csv": None})) == run


class TestDataFinder:
    """Contents by their digests."""

    def test_looks_and_finds(self, tmp_path):
        old, new = b"old content", b"new content"
        wanted = DataContent(digest=hashlib.sha256(old).hexdigest(), size=len(old))
        (tmp_path / "a.csv").write_bytes(new)
        (tmp_path / "kept" / "deep").mkdir(parents=True)
        (tmp_path / "kept" / "another").write_bytes(new)
        (tmp_path / "kept" / "deep" / "b").write_bytes(old)
        finder = DataFinder([str(tmp_path / "kept")])
        path = str(tmp_path / "a.csv")
        assert finder.look(path, [wanted]) == DataContent(digest=hashlib.sha256(new).hexdigest(), size=len(new))
        assert finder.look(path, [replace(wanted, size=3)]) == DataContent(digest="", size=len(new))
        assert finder.look(str(tmp_path / "none"), [wanted]) is None
        assert finder.find(path, wanted) == str(tmp_path / "kept" / "deep" / "b")
        assert finder.find(path, replace(wanted, digest="0" * 64)) == ""
        assert DataFinder([]).find(path, wanted) == ""

    def test_folders(self, tmp_path):
        for name in ("now", "kept/was"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "x").write_text(name)
        finder = DataFinder([str(tmp_path / "kept")])
        was = finder.look(str(tmp_path / "kept" / "was"), [])
        assert was is not None
        assert was.is_folder
        assert finder.find(str(tmp_path / "now"), was) == str(tmp_path / "kept" / "was")

    def test_a_place_that_is_not_there(self):
        with pytest.raises(UsageError, match="--data"):
            DataFinder(["/no/such/folder"])


class TestPinned:
    """A factor that every launch has changed."""

    def ask(self, matters: set[str], *, is_data: bool = True):
        """Launches whose control differs from the reference when the data matters."""
        asked: list[tuple[frozenset[str], int]] = []

        def answer(changed: frozenset[str], attempt: int) -> str:
            asked.append((changed, attempt))
            differs = bool(changed & matters) or (is_data and not attempt)
            return "different" if differs else "equal"

        return answer, asked

    def test_is_blamed_by_the_control_and_the_others_are_held_against_it(self):
        answer, asked = self.ask({"b"})
        found = search(["a", "b", "c"], answer, ["data"])
        assert [blame.factors for blame in found.blames] == [("data",), ("b",)]
        assert found.blames[0] == Blame(factors=("data",), is_alone=True, changed=frozenset(), was_there=True)
        assert {*found.harmless} == {"a", "c"}
        assert all(attempt == 1 for _, attempt in asked[1:])

    def test_is_harmless_where_the_control_is_equal(self):
        found = search(["a"], self.ask(set(), is_data=False)[0], ["data"])
        assert (found.state, found.harmless) == ("none matters", ("a", "data"))

    def test_says_what_the_budget_leaves_open(self):
        calls = iter(range(2))

        def ask(_changed: frozenset[str], attempt: int) -> str:
            if next(calls, None) is None:
                from mlflow_repro.isolate.search import BudgetSpentError

                raise BudgetSpentError
            return "equal" if attempt else "different"

        found = search(["a"], ask, ["data"])
        assert (found.state, [blame.factors for blame in found.blames]) == ("found", [("data",)])
        assert found.untested == ("a",)

    @given(st.sets(st.sampled_from(["a", "b", "c", "d"])))
    def test_no_factor_is_wronged(self, chosen: set[str]):
        found = search(["a", "b", "c", "d"], self.ask(chosen)[0], ["data"])
        assert {name for blame in found.blames[1:] for name in blame.factors} <= chosen
        assert not chosen & {*found.harmless}

    def test_the_sentence_says_what_is_not_proven(self):
        blames = (Blame(factors=("data x",), is_alone=True, changed=frozenset(), was_there=True),)
        control = Trial(changed=(), answer="different", difference="loss from step 0 on")
        isolation = Isolation(
            reference_run_id="a", other_run_id="b", parent_run_id="p", factors={"data x": "the data x (1 -> 2)"},
            trials=(control,), conclusion=Conclusion(state="found", blames=blames),
        )  # fmt: skip
        assert render_sentence(isolation) == (
            "`the data x (1 -> 2)` changes loss from step 0 on, or something that was not recorded: what it was is not"
            " at hand (--data)."
        )


READER = """\
import argparse
import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--data")
parser.add_argument("--rate", default="1")
arguments = parser.parse_args()
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    with open(arguments.data, encoding="utf-8") as file:
        total = sum(map(float, file))
    for step in range(2):
        mlflow.log_metric("total", total * (step + 1), step=step)
"""


def command(bench, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with bench.surroundings(), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


@pytest.mark.timeout(300)
class TestRealRuns:
    """Through the command line."""

    @pytest.mark.slow
    def test_data_that_was_changed_in_place(self, bench):
        """Without its old content all but a proof; with it, a factor as any other."""
        bench.repository.commit({"read.py": READER})
        data, kept = bench.root / "a.csv", bench.root / "kept"
        kept.mkdir()
        data.write_text("1\n2\n")
        shutil.copy(data, kept / "b.csv")
        one = bench.train("read.py", "--data", str(data))
        data.write_text("1\n3\n")
        other = bench.train("read.py", "--data", str(data), "--rate", "2")
        code, out, _ = command(bench, "isolate", one, "--other", other, "--format", "json")
        found = json.loads(out)
        assert (code, found["state"], found["blamed"]) == (1, "found", [[f"data {data}"]])
        assert sorted(found["harmless"]) == ["parameter rate", "random state of python"]
        assert found["unproven"] == [f"data {data}"]
        assert found["causes"][0]["confidence"] < 1
        assert "its result is that of the other run" in found["causes"][0]["evidence"]
        code, out, err = command(bench, "isolate", one, "--other", other, "--data", str(kept))
        assert code == 1
        assert f"proven the data {data} (sha256 " in out
        assert " alone changes total from step 0 on" in out.splitlines()[-1]
        parent = next(run for run in map(bench.get, bench.run_ids()) if run.data.tags.get("repro.trials.of") == one)
        assert f"--resume {parent.info.run_id} goes on there" in err
        # Without the old content it is another question, and its answers are other ones.
        arguments = ("isolate", one, "--other", other, "--resume", parent.info.run_id)
        code, out, err = command(bench, *arguments)
        assert (code, out) == (2, "")
        assert "not what it was when the search" in err

    @pytest.mark.slow
    def test_the_other_run_is_in_another_store(self, bench, tmp_path, empty_store):
        """Its uncommitted changes come from there."""
        bench.repository.commit({"read.py": READER})
        (tmp_path / "a.csv").write_text("1\n")
        one = bench.train("read.py", "--data", str(tmp_path / "a.csv"))
        (bench.repository.clone / "read.py").write_text(READER.replace("total * (", "total * 2 * ("))
        there = replace(bench, store=tmp_path / "there.db")
        shutil.copy(empty_store, there.store)
        other = there.train("read.py", "--data", str(tmp_path / "a.csv"))
        code, out, _ = command(bench, "isolate", one, "--other", f"sqlite:///{there.store}#{other}")
        assert code == 1, out
        last = out.splitlines()[-1]
        assert last.startswith("`the uncommitted changes (those on commit ")
        assert "alone changes total from step 0 on" in last

    def test_an_interruption_is_noted_on_the_parent(self, bench):
        with bench.surroundings():
            store = open_store()
            parent = store.create_run("0", name="isolate of x", tags={}, params={})
            trials = Trials(
                run_id="a" * 32, options=TrialOptions(), judging=Judging(), store=store, parent=parent, limit=3
            )
            with pytest.raises(KeyboardInterrupt), trials.closing():
                raise KeyboardInterrupt
        run = bench.get(parent)
        assert run.info.status == "KILLED"
        assert run.data.tags["mlflow.note.content"] == (
            f"Ended early, after 0 launches. --resume {parent} goes on from there."
        )

    def test_names_that_are_none(self, bench):
        for other, expected in (("#" + "a" * 32, 2), ("sqlite:////no/such.db#" + "a" * 32, 5), ("no run id", 2)):
            run = "a" * 32 if expected == 2 else bench.client().create_run("0").info.run_id
            if expected != 2:
                bench.client().set_terminated(run)
            code, out, err = command(bench, "isolate", run, "--other", other)
            assert (code, out, len(err.splitlines())) == (expected, "", 1), other
