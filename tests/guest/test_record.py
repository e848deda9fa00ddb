"""The record that a run keeps of itself, through the plugin and ``mlflow-repro show``."""

from __future__ import annotations

import hashlib
import io
import json
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from mlflow_repro.cli import main
from mlflow_repro.data.digests import is_young, stamp_of
from mlflow_repro.guest.probes import build_record, collect_sections
from mlflow_repro.values.captured import Section, dump_record
from mlflow_repro.values.record import read_record
from mlflow_repro.values.run import Fact, absent

GOLDEN = Path(__file__).parents[1] / "golden" / "record_fields.json"
SCRIPT = (
    "import random, sys, mlflow\nrandom.seed(4)\n"
    "with mlflow.start_run():\n    random.random()\n    mlflow.log_metric('m', 1)\n"
)


def show(bench, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with bench.surroundings(), redirect_stdout(out), redirect_stderr(err):
        code = main(["show", *arguments])
    return code, out.getvalue(), err.getvalue()


def test_record_of_a_dirty_tree(bench):
    """Its fields are pinned; what the commit does not hold is beside it; the two forms of ``show`` tell the same."""
    bench.repository.commit({"train.py": SCRIPT})
    (bench.repository.clone / "train.py").write_text(SCRIPT + "# changed\n")
    (bench.repository.clone / "new.txt").write_text("new\n")
    run_id = bench.train("train.py", "--api-key", "s3cr3t-value")
    code, text, _ = show(bench, run_id, "--format", "json")
    assert code == 0
    record = json.loads(text)
    fields = {name: sorted(value) if isinstance(value, dict) else "value" for name, value in record.items()}
    assert fields == json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert record["complete"] is True
    assert read_record(record).damage == {}
    assert record["code"]["is_clean"] is False
    assert record["code"]["is_pushed"] is True
    assert record["launch"]["argv"][1:] == ["train.py", "--api-key", "[redacted]"]
    assert record["seeds"]["python"] == "4"
    assert record["seeds"]["digests"]["start"]["python"] != record["seeds"]["digests"]["end"]["python"]
    assert record["environment"]["distributions"]["mlflow"]
    assert record["machine"]["cores"]
    code, text, _ = show(bench, run_id, "--files", str(bench.root / "record"))
    files = {str(path.relative_to(bench.root / "record/repro")) for path in (bench.root / "record").rglob("*.*")}
    assert {"record.json", "random_state.json", "code/changes.patch", "code/untracked.tar"} <= files
    assert "environment/requirements.lock" in files
    assert code == 0
    assert "  is_clean: no" in text
    assert "s3cr3t-value" not in text


def test_show_of_a_run_without_a_record(bench):
    run_id = bench.client().create_run("0").info.run_id
    code, out, err = show(bench, run_id)
    assert (code, out) == (3, "")
    assert "has no record of itself" in err


def test_a_probe_that_fails_costs_only_its_own_facts():
    """Not even SystemExit passes; the reason is recorded."""

    def leave(_: float) -> Section:
        raise SystemExit(3)

    probes = {"machine": leave, "data": lambda _: Section(facts={"files": 2})}
    record = build_record([], collect_sections(probes, seconds=1), run_id="r", is_complete=False)
    assert record["machine"] == {"section": {"absent": "SystemExit: 3"}}
    assert record["data"] == {"files": 2}


def test_record_is_strict_json_with_absent_facts_said():
    facts = [Fact(name="git.dirty", value="true"), absent("git.branch", "HEAD is detached")]
    record = json.loads(dump_record(build_record(facts, {}, run_id="r", is_complete=True)))
    assert record["code"] == {"dirty": True, "branch": {"absent": "HEAD is detached"}}
    with pytest.raises(ValueError, match="JSON"):
        dump_record({"not": float("nan")})


def test_large_data_is_hashed_while_the_run_goes_on(bench):
    """At the end there is no time left for it here. What is imported during the run is in the record as well."""
    script = (
        "import os, sys, time, mlflow\n"
        "from mlflow_repro.data import digests; from mlflow_repro.guest import writer\n"
        "writer._DATA_SECONDS, writer._IMPORTED_SECONDS = -1, 60\n"  # the machine may be busy
        "with mlflow.start_run():\n"
        "    import tabulate\n"
        "    stamp = digests.stamp_of(os.stat(sys.argv[1]))\n"
        "    deadline = time.monotonic() + 60\n"
        "    while digests.recall_digest(stamp) is None and time.monotonic() < deadline: time.sleep(0.05)\n"
        "    mlflow.log_metric('m', 1)\n"
    )
    project = "entry_points:\n  main:\n    parameters: {data: path}\n    command: 'python train.py {data}'\n"
    bench.repository.commit({"MLproject": project, "train.py": script})
    data = bench.root / "some data.bin"
    data.write_bytes(bytes(1000))
    while is_young(stamp_of(data.stat())):  # its digest would not be remembered
        time.sleep(0.05)
    run_id = bench.mlflow_run(str(bench.repository.clone), "-P", f"data={data}")
    record = json.loads(show(bench, run_id, "--format", "json")[1])
    (row,) = record["data"]["params"]
    assert (row["param"], row["sha256"]) == ("data", hashlib.sha256(bytes(1000)).hexdigest())
    assert {"tabulate", "mlflow"} <= set(record["environment"]["imported"])


def test_a_process_that_has_imported_mlflow_already_records_the_same(tiny):
    """What the other tests' quick starts rest on."""
    place, runs = tiny.repository.clone / "ml/tiny", []
    for tiny.is_quick in (False, True):
        runs.append(tiny.get(tiny.train("train.py", "--alpha=3", cwd=place)))
    one, other = ({name for name in run.data.tags if name.startswith("repro.")} for run in runs)
    assert one == other
    for tag in ("repro.capture", "repro.launch.argv", "repro.launch.cwd", "repro.launch.script", "repro.git.commit"):
        assert runs[0].data.tags[tag] == runs[1].data.tags[tag]
    assert runs[0].data.metrics == runs[1].data.metrics
