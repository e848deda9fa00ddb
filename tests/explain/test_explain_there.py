"""What explains must have been there: no line that was not loaded, no package that is not used, no absent fact."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from records import record_of
from test_explain import RECORD, changed, command, evidence_of, history

from mlflow_repro.explain import explain
from mlflow_repro.explain.evidence import ChangedFile, CodeHint
from mlflow_repro.explain.files import is_temporary
from mlflow_repro.judging.code import _is_path_of
from mlflow_repro.reproduce.prepare import PutBack, _find_gaps
from mlflow_repro.values.comparison import Finding, Status
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.run import Run

LOADED = frozenset({"train.py", "lib/model.py"})
VERSIONS = {"numpy": "2.1.0", "scikit-learn": "1.5.0", "requests": "2.0.0", "polars": "0.9", "tqdm": "4"}
COMMIT = {"mlflow.source.git.commit": "c" * 40, "mlflow.source.name": "/home/u/ml/train.py"}
TEMPORARY = ["/tmp/x", "/var/tmp/a/b", "/private/var/folders/z/T/a", "/scratch/tmpab_c1234/a", "/home/u/tmp/run"]  # noqa: S108
TEXTS = frozenset({"settings.yaml", "conf", "a.csv", "lr"})


def files(*paths: str) -> tuple[ChangedFile, ...]:
    return tuple(ChangedFile(path=path, how="changed", lines=100) for path in paths)


def with_modules(**digests: str) -> dict[str, Any]:
    """A record whose program had loaded these, each by the first letter of its digest."""
    rows = [{"path": f"{name}.py", "place": "repository", "sha256": digest * 64} for name, digest in digests.items()]
    return changed("code/modules", rows)


def kinds(causes: tuple[Any, ...]) -> list[str]:
    return [cause.kind for cause in causes]


class TestCode:
    """Files that differ."""

    @pytest.mark.parametrize(
        "path",
        ["other.py", "lib/unused.py", "tests/test_model.py", "scripts/plot.py", ".github/workflows/ci.yml", "setup.py",
         "requirements.txt", "docs/index.md", "Makefile", "tox.ini", "conda.yaml", "poetry.lock"],
    )  # fmt: skip
    def test_a_file_that_was_not_used_is_no_cause(self, path: str):
        evidence = evidence_of(
            changed("code/tree", "t2"), changed_files=files(path), loaded=LOADED, texts=TEXTS, has_sources=True
        )
        assert "code" not in kinds(explain(evidence))

    @pytest.mark.parametrize("path", ["lib/model.py", "settings.yaml", "conf/model/big.yaml"])
    def test_what_was_loaded_or_is_named_comes_before_larger_changes_of_what_was_not(self, path: str):
        others = ("lib/unused.py", "config/other.yaml", "notes.txt", "explore.ipynb")
        evidence = evidence_of(
            changed("code/tree", "t2"), changed_files=files(*others, path), loaded=LOADED, texts=TEXTS, has_sources=True
        )
        first = explain(evidence)[0]
        assert first.kind == "code"
        assert path in first.what

    @pytest.mark.parametrize(("path", "is_first"), [("a.csv", True), ("old/archive.csv", False)])
    def test_data_of_the_repository_counts_where_the_program_names_it(self, path: str, is_first):
        evidence = evidence_of(
            changed("code/tree", "t2"), changed_files=files(path), loaded=LOADED, texts=TEXTS, has_sources=True
        )
        first = explain(evidence)[0]
        assert (first.kind == "data" and first.confidence > 0.8) == is_first

    def test_code_that_cannot_be_fetched_is_judged_by_what_was_loaded(self):
        one, other = with_modules(train="a", model="b"), with_modules(train="a", model="c")
        other["code"]["tree"] = "t2"
        first = explain(evidence_of(other, one=one))[0]
        assert (first.kind, first.what) == ("code", "the code: model.py differs")
        other["code"]["modules"] = one["code"]["modules"]
        assert "code" not in kinds(explain(evidence_of(other, one=one)))[:1]

    def test_a_module_that_git_ignores_is_named(self):
        one, other = with_modules(train="a", local="b"), with_modules(train="a", local="c")
        first = explain(evidence_of(other, one=one, changed_files=()))[0]
        assert (first.kind, first.what) == ("code", "the module local.py, which git ignores, is another one")
        assert "b" * 16 in first.fix

    def test_a_module_outside_the_repository_is_named(self):
        one, other = with_modules(train="a", shared="b"), with_modules(train="a", shared="c")
        for record in (one, other):
            record["code"]["modules"][1].update(path="/opt/lib/shared.py", place="absolute")
        first = explain(evidence_of(other, one=one, changed_files=()))[0]
        assert first.what == "the module /opt/lib/shared.py, outside the repository, is another one"

    @pytest.mark.parametrize(
        ("name", "path", "is_same"),
        [
            ("train.py", "train.py", True), ("/home/u/proj/ml/train.py", "ml/train.py", True),
            ("train.py", "ml/train.py", True), ("/home/u/train.py", "ml/train.py", False),
            ("retrain.py", "train.py", False), ("", "train.py", False),
        ],
    )  # fmt: skip
    def test_the_script_of_a_run_without_a_record(self, name: str, path: str, is_same):
        assert _is_path_of(name, path) == is_same


class TestPackages:
    """Versions that differ."""

    def test_what_only_mlflow_had_loaded_is_no_advice(self):
        """``uninstall tqdm``, of a program that never asked for it."""
        one = changed("environment/used", ["numpy", "scikit-learn"])
        one["environment"]["imported"] += ["polars", "tqdm"]
        other = changed("environment/distributions", VERSIONS, one)
        text = str(explain(evidence_of(other, one=one)))
        assert "tqdm" not in text
        assert "polars" not in text

    def test_a_program_that_uses_none(self):
        one = changed("environment/used", [])
        other = changed("environment/distributions", VERSIONS, one)
        assert "package" not in kinds(explain(evidence_of(other, one=one)))

    def test_what_the_program_uses_is_advice(self):
        one = changed("environment/used", ["numpy", "polars"])
        first = explain(evidence_of(changed("environment/distributions", VERSIONS, one), one=one))[0]
        assert (first.kind, first.fix.partition(",")[0]) == ("package", "pip install polars==1.0.0")


class TestTool:
    """What the tool itself has set."""

    @pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONNOUSERSITE"])
    def test_the_search_path_of_a_relaunch_is_no_suspect(self, name: str):
        other = changed(f"launch/variables/{name}", "/home/u/.cache/checkout/src")
        evidence = evidence_of(other)
        assert kinds(explain(evidence))[0] == "variable"
        relaunch = Run(run_id="b", start_time=9000, tags={"repro.session": "s", "repro.reference_run_id": "a"})
        there = evidence_of(other, reproduction=relaunch)
        assert name not in str(explain(there))

    @pytest.mark.parametrize("path", TEMPORARY)
    def test_where_something_lay_for_a_while_is_no_cause(self, path: str):
        assert is_temporary(path)
        one = changed("launch/argv", ["python", "train.py", "--out", f"{path}/1"])
        other = changed("launch/argv", ["python", "train.py", "--out", f"{path}/2"])
        param = Finding(
            kind="param", name="out", reference=f"{path}/1", reproduction=f"{path}/2", status=Status.DIFFERENT
        )
        assert kinds(explain(evidence_of(other, one=one, facts=(param,))))[0] == "nondeterminism"

    @pytest.mark.parametrize("path", ["/data/x", "relative/tmp", "/home/tmpfiles/x", None, "tmp"])
    def test_other_paths_are_no_temporary_ones(self, path: str | None):
        assert not is_temporary(path)

    def test_a_launch_parameter_is_not_advised_to_a_script(self):
        facts = [Finding(kind="param", name="lr", reference="1", reproduction="2", status=Status.DIFFERENT)]
        first = explain(evidence_of({}, one={}, facts=facts))[0]
        assert (first.kind, "-P" in first.fix, "lr 1" in first.fix) == ("parameter", False, True)
        project = Run(run_id="a", tags={"mlflow.project.entryPoint": "main"})
        first = explain(evidence_of({}, one={}, facts=facts, reference=project))[0]
        assert first.fix == "start it with -P lr=1"


class TestAbsent:
    """Runs that did not record something."""

    @pytest.mark.parametrize("is_reference", [True, False])
    def test_a_run_without_a_record_is_no_change(self, is_reference):
        """``94 % the code is another one: commit nothing -> 17b05e4``, which MLflow's own tag had."""
        bare, full = Run(run_id="a", tags=COMMIT), Run(run_id="b", tags=COMMIT)
        sides = ({}, RECORD) if is_reference else (RECORD, {})
        runs = {"reference": bare, "reproduction": full} if is_reference else {"reference": full, "reproduction": bare}
        causes = explain(evidence_of(sides[1], one=sides[0], **runs))
        assert [cause.kind for cause in causes if cause.confidence > 0.2] == ["nondeterminism"]

    def test_its_commit_is_that_of_mlflows_tag(self):
        one = Run(run_id="a", tags=COMMIT)
        other = Run(run_id="b", tags={**COMMIT, "mlflow.source.git.commit": "d" * 40})
        evidence = evidence_of({}, one={}, reference=one, reproduction=other, changed_files=files("train.py"))
        first = explain(evidence)[0]
        assert (first.kind, first.evidence[0]) == ("code", "commit cccccccccccc -> dddddddddddd")
        assert first.fix == "git diff cccccccccccc dddddddddddd"

    def test_its_script_is_that_of_mlflows_tag(self):
        one = Run(run_id="a", tags=COMMIT)
        other = Run(run_id="b", tags={**COMMIT, "mlflow.source.name": "/home/u/ml/other.py"})
        first = explain(evidence_of({}, one={}, reference=one, reproduction=other))[0]
        assert (first.kind, "other.py" in first.what) == ("code", True)
        there = Run(run_id="b", tags={**COMMIT, "mlflow.source.name": "ml/train.py"})
        assert "code" not in kinds(explain(evidence_of({}, one={}, reference=one, reproduction=there)))

    @pytest.mark.parametrize("section", sorted(RECORD))
    def test_a_section_that_is_missing_is_no_change(self, section: str):
        """Whatever a probe could not have had."""
        for other in ({**RECORD, section: {}}, {**RECORD, section: {"section": {"absent": "it failed"}}}):
            for one, two in ((RECORD, other), (other, RECORD)):
                causes = explain(evidence_of(two, one=one))
                assert causes[0].kind == "nondeterminism", causes[0]

    def test_each_fact_that_is_missing_is_no_change(self):
        """Taken out of one record, one after another; but not of a list that is known to be whole."""
        for section, facts in RECORD.items():
            for name in facts:
                other = copy.deepcopy(RECORD)
                other[section][name] = {"absent": "it was not found out"}
                assert explain(evidence_of(other))[0].kind == "nondeterminism", (section, name)
                assert explain(evidence_of(RECORD, one=other))[0].kind == "nondeterminism", (section, name)

    def test_a_variable_that_is_not_set_is_a_change(self):
        first = explain(evidence_of(changed("launch/variables/TZ", "UTC")))[0]
        assert first.what == "TZ: not set -> UTC"


class TestNotPutBack:
    """What the plan says."""

    def test_it_comes_before_what_is_only_likely(self):
        caveats = ("files of the tree that were not recorded are missing (big.bin: it is too large)",)
        other = changed("launch/argv", ["python", "train.py", "--alpha", "0.4"])
        first, second, *_ = explain(evidence_of(other, caveats=caveats))
        assert (first.kind, first.evidence[0]) == ("not_restored", caveats[0])
        assert second.kind == "parameter"

    def test_a_package_that_stands_in_for_another_counts_where_it_is_used(self):
        one = changed("environment/used", ["numpy"])
        for caveat in ("polars==1.1 stands in for polars==1.0", "polars==1.0 is left out: it cannot be had"):
            assert "not_restored" not in kinds(explain(evidence_of(one, one=one, caveats=(caveat,))))
        used = ("numpy==2.2 stands in for numpy==2.1",)
        assert explain(evidence_of(one, one=one, caveats=used))[0].kind == "not_restored"

    @pytest.mark.parametrize(
        ("put_back", "fix"),
        [
            (PutBack(has_random_state=False, restore_rng=False), "leave --no-restore-rng out"),
            (PutBack(has_random_state=False), "unset MLFLOW_REPRO_SEED"),
            (PutBack(has_random_state=False, seed=7), "leave --seed out"),
        ],
    )
    def test_a_random_state_that_was_switched_off_on_purpose(self, put_back: PutBack, fix: str):
        """It is the certain cause, where something drew without a seed; and none where everything was seeded."""
        plan = LaunchPlan(
            reference_run_id="a", source=Source(uri="file:///x", commit="c" * 40), experiment_name="Default",
            tracking_uri="", backend="local", env_manager="local",
        )  # fmt: skip
        reference = Run(run_id="a", tags={"repro.capture": "complete"})
        caveats = tuple(_find_gaps(plan, reference, record_of(RECORD), put_back))
        unseeded = changed("seeds/numpy", None)
        unseeded["environment"]["used"] = ["numpy"]
        other = changed("launch/variables/TZ", "UTC", unseeded)
        first = explain(evidence_of(other, one=unseeded, caveats=caveats))[0]
        assert first.kind == "random_state"
        assert first.fix.startswith(fix)
        assert "numpy's global generator" in first.evidence[0]
        seeded = changed("environment/used", ["numpy"])
        assert kinds(explain(evidence_of(seeded, one=seeded, caveats=caveats)))[0] == "nondeterminism"

    def test_a_recording_that_was_switched_off(self):
        one = changed("seeds/mode", "off", changed("seeds/numpy", None))
        one["seeds"]["entropy"] = {"root": "r", "asked": 0}
        first = explain(evidence_of(one, one=one))[0]
        assert first.what == (
            "the random state of the reference and the reproduction was not recorded: MLFLOW_REPRO_SEED was off"
        )


class TestItself:
    """What is different each time."""

    def test_workers_are_named_with_the_line_that_starts_them(self):
        hints = (CodeHint(topic="workers", where="train.py:9", text="calls cross_val_score() with workers"),)
        first = explain(evidence_of(RECORD, hints=hints, has_sources=True))[0]
        assert (first.kind, first.evidence[0]) == ("random_state", "train.py:9 calls cross_val_score() with workers")
        assert "random_state=0" in first.fix

    def test_an_address_that_is_read_is_named(self):
        hints = (CodeHint(topic="network", where="train.py:9", text="calls pandas.read_csv() with an address"),)
        first = explain(evidence_of(RECORD, hints=hints, has_sources=True))[0]
        assert (first.kind, "train.py:9" in first.evidence[0]) == ("data", True)

    @pytest.mark.parametrize("is_old", [True, False])
    def test_a_hash_seed_that_was_set_too_late_is_still_a_suspect(self, is_old):
        """Older records have it among the variables; what Python says of itself tells that it came too late."""
        record = changed("launch/variables", {"PYTHONHASHSEED": "0"} if is_old else {})
        if is_old:
            record["environment"]["interpreter"] = {"flags": {"hash_randomization": 1}}
        else:
            record["launch"]["set_later"] = {"PYTHONHASHSEED": "0"}
        first = explain(evidence_of(record, one=record))[0]
        assert first.kind == "hash_seed"
        assert "was set inside the program" in first.evidence[0]
        seeded = (changed("launch/variables", {"PYTHONHASHSEED": value}) for value in "12")
        both = [changed("launch/set_later", {"PYTHONHASHSEED": "0"}, side) for side in seeded]
        assert explain(evidence_of(both[1], one=both[0]))[0].what.startswith("PYTHONHASHSEED: 1 -> 2")
        in_time = changed("launch/variables", {"PYTHONHASHSEED": "0"})
        in_time["environment"]["interpreter"] = {"flags": {"hash_randomization": 0}}
        assert "hash_seed" not in kinds(explain(evidence_of(in_time, one=in_time)))

    def test_a_variable_that_both_programs_set_themselves_is_hardly_a_cause(self):
        one = changed("launch/set_later", {"OMP_NUM_THREADS": "1"})
        other = changed("launch/variables/OMP_NUM_THREADS", "8", one)
        evidence = evidence_of(other, history(first=1e-16), one=one)
        assert kinds(explain(evidence))[0] != "threads"
        late = copy.deepcopy(other)
        late["machine"]["libraries"][0]["threads"] = 2  # the library had begun by then
        assert explain(evidence_of(late, history(first=1e-16), one=one))[0].what == "OMP_NUM_THREADS: 1 -> 8"
        optimized = changed("launch/set_later", {"PYTHONOPTIMIZE": "1"})
        other = changed("launch/variables/PYTHONOPTIMIZE", "2", optimized)
        assert kinds(explain(evidence_of(other, one=optimized)))[0] == "variable"


class TestData:
    """Files that the program names itself."""

    def rows(self, digest: str, **more: Any) -> dict[str, Any]:
        row = {"path": "/data/x.csv", "place": "absolute", "size": 3, "sha256": digest * 64, **more}
        return changed("data/named", [row])

    def test_data_behind_a_path_in_the_code_is_named(self):
        first = explain(evidence_of(self.rows("b"), one=self.rows("a")))[0]
        assert (first.kind, first.what) == ("data", "the data /data/x.csv has another content")

    def test_settings_of_the_repository_are_told_of_with_its_code(self):
        one, other = self.rows("a", path="settings.yaml"), self.rows("b", path="settings.yaml")
        other["code"]["tree"] = "t2"
        causes = explain(evidence_of(other, one=one, changed_files=files("settings.yaml"), loaded=LOADED, texts=TEXTS))
        assert [cause.kind for cause in causes if "settings.yaml" in cause.what] == ["code"]

    @pytest.mark.parametrize("flag", ["written", "produced"])
    def test_what_a_run_wrote_itself_is_no_data(self, flag: str):
        sides = [
            changed("data/opened", {"files": [{"path": "out.csv", "size": 3, "sha256": digest * 64, flag: True}]})
            for digest in "ab"
        ]
        assert kinds(explain(evidence_of(sides[1], one=sides[0])))[0] == "nondeterminism"


TRAIN = """\
import argparse, os
from pathlib import Path
import mlflow, local, model
parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float, default=1.0)
arguments = parser.parse_args()
with mlflow.start_run():
    mlflow.log_metric("loss", model.compute(arguments.x) + local.OFFSET + len(Path({data!r}).read_text()))
"""


class TestRuns:
    """Real runs of a project of several files, through the command line."""

    @pytest.fixture
    def project(self, bench, tmp_path):
        data = tmp_path / "kept" / "a.csv"
        data.parent.mkdir()
        data.write_text("1")
        bench.repository.commit(
            {
                "train.py": TRAIN.format(data=str(data)),
                "model.py": "def compute(x):\n    return 2 * x\n",
                "unused.py": "import time\nfor name in {'a', 'b'}: print(time.time(), name)\n",
                ".gitignore": "local.py\n",
            }
        )
        (bench.repository.clone / "local.py").write_text("OFFSET = 1\n")
        return bench, data

    def explain(self, bench, one: str, other: str) -> dict[str, Any]:
        code, out, _ = command(bench, "explain", one, other, "--format", "json")
        assert code == 1
        return json.loads(out)["causes"]

    def test_an_ignored_module_a_file_behind_a_path_and_lines_that_were_never_loaded(self, project):
        bench, data = project
        one = bench.train("train.py")
        (bench.repository.clone / "local.py").write_text("OFFSET = 22\n")
        (bench.repository.clone / "unused.py").write_text("import time\nprint(time.time())\n" * 20)
        bench.repository.commit({"notes.md": "n\n"})
        other = bench.train("train.py")
        causes = self.explain(bench, one, other)
        assert causes[0]["what"] == "the module local.py, which git ignores, is another one"
        assert "unused.py" not in json.dumps(causes)
        (bench.repository.clone / "local.py").write_text("OFFSET = 1\n")
        data.write_text("12345")
        third = bench.train("train.py")
        causes = self.explain(bench, one, third)
        assert causes[0]["what"] == f"the data {data} has another content"

    def test_a_run_of_another_client(self, project):
        """It has no record, and MLflow's tags where the plugin's would be."""
        bench, _ = project
        one = bench.train("train.py", MLFLOW_REPRO_DISABLE="1")
        bench.repository.commit({"notes.md": "another commit\n", "unused.py": "x = 1\n" * 50})
        other = bench.train("train.py", "--x", "2")
        causes = self.explain(bench, one, other)
        assert [cause["what"] for cause in causes if cause["kind"] in ("code", "package")] == []
        assert causes[0]["kind"] == "nondeterminism"
        assert Path(bench.repository.clone).is_dir()
