"""Runs that set no seed come back bit for bit, and nothing about their randomness changes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import make_repository, make_workbench
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.seeding import restoring
from mlflow_repro.seeding import state as states
from mlflow_repro.seeding.control import RandomControl, _read_mode
from mlflow_repro.seeding.entropy import Entropy, new_root, root_from_seed
from mlflow_repro.seeding.log import SeedLog


@given(seed=st.integers(0, 2**32 - 1), draws=st.integers(0, 1500), normals=st.integers(0, 1))
def test_states_survive_json_and_come_back(seed, draws, normals):
    """Words, position and the spare normal number: the next draws are the same."""
    before = random.getstate(), np.random.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        [random.random() for _ in range(draws)]
        np.random.rand(draws)
        for _ in range(normals):
            random.gauss(0, 1)
            np.random.normal()
        kept = json.loads(json.dumps(states.encode_states(states.take_states())))
        expected = random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand()
        random.seed(1)
        np.random.seed(1)
        assert states.restore_states(kept) == ["python", "numpy"]
        assert (random.gauss(0, 1), random.random(), np.random.normal(), np.random.rand()) == expected
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@pytest.mark.parametrize(
    "broken",
    [{}, {"words": "AA==", "position": 0, "gauss": None}, {"words": 3, "position": 0, "gauss": None}],
)
def test_what_is_no_state_is_refused_and_changes_nothing(broken):
    before = random.getstate()
    with pytest.raises(ValueError, match="not a generator's state"):
        states.restore_states({"python": broken})
    assert random.getstate() == before


@pytest.mark.parametrize(
    ("before", "early"),
    [
        ("", []),
        ("random.seed(5); np.random.seed(6); random.random(); np.random.rand()", []),
        ("random.random()", ["python"]),
        ("np.random.rand(1000)", ["numpy"]),
        ("np.random.seed([1, 2]); np.random.rand(10**6)", []),
        ("random.random(); np.random.shuffle([1, 2, 3]); np.random.rand(700)", ["python", "numpy"]),
    ],
)
def test_draws_before_the_import_of_mlflow_are_detected(before, early):
    code = (
        f"import json, random, numpy as np\n{before}\n"
        "from mlflow_repro.seeding.control import RandomControl\nfrom mlflow_repro.seeding.log import SeedLog\n"
        "control = RandomControl(SeedLog())\ncontrol.begin()\nprint(json.dumps(control.describe()['drew_early']))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == early


@pytest.mark.parametrize("schema", [1, 2])
def test_entropy_is_the_same_for_the_same_root_and_never_twice_within_one(schema):
    """Another root shares nothing, and a fork draws one of its own."""

    def bits(root: bytes) -> list[int]:
        entropy = Entropy(root)
        entropy.put_position({"root": root.hex(), "schema": schema})
        return [entropy.draw_bits(128) for _ in range(500)]

    root = new_root()
    assert bits(root) == bits(root)
    entropy = Entropy(root)
    before = [entropy.draw_bits(128) for _ in range(100)]
    entropy.renew()
    drawn = [*bits(root), *bits(new_root()), *(entropy.draw_bits(bits) for bits in (128, 256) for _ in range(100))]
    assert len(set(drawn)) == 1200
    assert entropy.root != root
    assert schema == 1 or before == bits(root)[:100]


def test_draws_of_a_record_from_before_come_back():
    """Schema 1 hashed the root and the number of the draw: runs that were recorded so still come back."""
    entropy = Entropy(b"-")
    entropy.put_position({"root": "00" * 32, "schema": 1})
    assert entropy.draw_bits(128) == int.from_bytes(hashlib.shake_256(bytes(32) + b"draw/0").digest(16), "big")


def test_a_process_that_forked_where_nobody_told_draws_its_own_root(monkeypatch):
    """A library that forks by itself runs no hooks of Python's."""
    entropy = Entropy(new_root())
    root = entropy.root
    monkeypatch.setattr("mlflow_repro.seeding.entropy.os.getpid", lambda: -1)
    assert entropy.draw_bits(128) != Entropy(root).draw_bits(128)
    assert entropy.root != root


def test_no_number_is_given_twice_to_threads_and_signal_handlers():
    entropy, drawn = Entropy(new_root()), []
    handler = signal.signal(signal.SIGALRM, lambda *_: drawn.append(entropy.draw_bits(128)))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
    try:
        threads = [
            threading.Thread(target=lambda: drawn.extend([entropy.draw_bits(128) for _ in range(5000)]))
            for _ in range(4)
        ]
        [thread.start() for thread in threads]
        drawn.extend([entropy.draw_bits(128) for _ in range(20000)])
        [thread.join() for thread in threads]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert len(drawn) >= 40000
    assert len(set(drawn)) == len(drawn)


def test_entropy_is_uniform():
    """Each of 128 bits is set in about half of 4,000 draws: no one is further off than 5 standard deviations."""
    entropy = Entropy(root_from_seed(1))
    draws = [entropy.draw_bits(128) for _ in range(4000)]
    counts = [sum(draw >> bit & 1 for draw in draws) for bit in range(128)]
    assert max(abs(count - 2000) for count in counts) < 5 * (4000 / 4) ** 0.5
    assert all(draw < 1 << 128 for draw in draws)


@pytest.mark.parametrize(("text", "mode"), [("", "auto"), ("auto", "auto"), ("OFF", "off"), ("42", 42)])
def test_modes(text, mode):
    assert _read_mode(text) == mode


@pytest.mark.parametrize("text", ["yes", "-1", "1.5", str(1 << 63), "٣"])
def test_what_is_no_mode_is_refused(text):
    with pytest.raises(ValueError, match="off, auto or an integer"):
        RandomControl(SeedLog(), environ={"MLFLOW_REPRO_SEED": text})


def put_states(folder, *rows: tuple[str, str, str]) -> None:
    """Files of recorded states for a relaunch: key, script and arguments of each; ``root`` tells them apart."""
    numbers: dict[str, int] = {}
    for order, (key, script, arguments) in enumerate(rows):
        number = numbers[key] = numbers.get(key, -1) + 1
        recorded = {"schema": 2, "key": key, "order": order, "script": script, "arguments": arguments}
        (folder / restoring.name_file(key, number)).write_text(json.dumps({**recorded, "root": str(order)}))


def test_each_program_takes_the_state_of_its_script_and_arguments(tmp_path, monkeypatch):
    """By the arguments first, in the order of the reference among the rest, and none twice."""
    mine, other = (restoring.script_name(), restoring.digest_arguments()), "0" * 16
    rows = [("else.py", mine[1]), (mine[0], other), mine, (mine[0], other)]
    put_states(tmp_path, *[("", *row) for row in rows], ("+fork1", *mine))
    monkeypatch.setenv(restoring.RESTORE_VARIABLE, str(tmp_path))
    assert [restoring.take_random_state("").get("root") for _ in range(4)] == ["2", "1", "3", None]
    assert os.environ[restoring.RESTORE_VARIABLE] == str(tmp_path)
    assert (tmp_path / restoring.name_file("", 0)).exists()


def test_each_worker_takes_what_its_own_key_has_and_nothing_else(tmp_path, monkeypatch):
    mine = (restoring.script_name(), restoring.digest_arguments())
    put_states(tmp_path, ("", *mine), ("+fork1", *mine), ("+fork1", *mine), ("/a.py+fork2", *mine))
    monkeypatch.setenv(restoring.RESTORE_VARIABLE, str(tmp_path))
    keys = ["+fork1", "+fork1", "+fork1", "+fork2", "/a.py+fork2"]
    assert [restoring.take_random_state(key).get("root") for key in keys] == ["1", "2", None, None, "3"]


def test_arguments_that_name_runs_are_the_same_in_each_launch(monkeypatch):
    digests = []
    for path in ("/a/mlruns/0/" + "1" * 32 + "/artifacts", "s3://b/7/" + "2" * 32 + "/artifacts", "elsewhere"):
        monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python", "draw.py", path])
        digests.append(restoring.digest_arguments())
    assert digests[0] == digests[1] != digests[2]


UNSEEDED = """\
import random
import numpy as np
import mlflow
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

early = random.random() + np.random.rand()
generator = np.random.default_rng()
with mlflow.start_run():
    mlflow.log_metric("early", early)
    mlflow.log_metric("python", random.random())
    mlflow.log_metric("numpy_legacy", np.random.normal())
    mlflow.log_metric("default_rng", generator.random())
    mlflow.log_metric("another_default_rng", np.random.default_rng().random())
    mlflow.log_metric("random_state", np.random.RandomState().rand())
    x, y = load_iris(return_X_y=True)
    parts = train_test_split(x, y)
    forest = RandomForestClassifier(5).fit(parts[0], parts[2])
    mlflow.log_metric("sklearn", float(forest.predict_proba(parts[1])[:, 0] @ np.arange(len(parts[1]))))
"""


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, empty_store, preloaded):
    root = tmp_path_factory.mktemp("unseeded")
    bench = make_workbench(root, empty_store, make_repository(root), preloaded)
    bench.repository.commit({"train.py": UNSEEDED})
    bench.is_quick = False
    return bench, bench.train("train.py")


@pytest.fixture
def unseeded(trained_once, request):
    """A workbench and its run of `UNSEEDED`, which was a real process."""
    bench, run_id = trained_once
    bench.is_quick = request.node.get_closest_marker("real_processes") is None
    return bench, run_id


@pytest.mark.real_processes
def test_unseeded_run_comes_back_bit_for_bit(unseeded):
    """Python, numpy old and new, scikit-learn; drawn before and after the run has started."""
    bench, run_id = unseeded
    answer = bench.reproduce(run_id, "--rel_tol", "0", "--format", "json")
    report = json.loads(answer.stdout)
    different = [row for row in report["comparison"]["findings"] if row["status"] != "identical"]
    assert different == []
    assert report["comparison"]["verdict"] == "IDENTICAL"
    assert len(report["reference"]["metrics"]) == 7


@pytest.mark.real_processes
def test_unseeded_runs_differ_from_each_other(unseeded):
    """Nothing is fixed: two runs of one script share no number, nor does a reproduction without restoring."""
    bench, first = unseeded
    second = bench.train("train.py")
    assert bench.reproduce(first, "--no-restore-rng").returncode == 1
    runs = [bench.get(first), bench.get(second), bench.reproduction_of(first)]
    for name in runs[0].data.metrics:
        values = [run.data.metrics[name] for run in runs]
        assert name == "sklearn" or len(set(values)) == 3, name


@pytest.mark.real_processes
def test_seeded_plain_script_comes_back_although_mlflow_draws(bench):
    """MLflow names a new run by drawing from the user's generator, and does not when a run is resumed."""
    script = (
        "import random\nrandom.seed(1)\nimport mlflow\n"
        "with mlflow.start_run():\n    mlflow.log_metric('first_draw', random.random())\n"
    )
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py")
    assert bench.reproduce(run_id).stdout.endswith("Runs equal: True\n")


def test_another_seed_asks_whether_the_result_replicates(unseeded):
    """Twice the same seed gives twice the same numbers, which are not the reference's; and it is said."""
    bench, run_id = unseeded
    answers = [bench.reproduce(run_id, "--seed", "5", "--format", "json") for _ in range(2)]
    one, other = (json.loads(answer.stdout) for answer in answers)
    assert [answer.returncode for answer in answers] == [1, 1]
    assert one["reproduction"]["metrics"] == other["reproduction"]["metrics"]
    assert one["reproduction"]["metrics"]["default_rng"] != one["reference"]["metrics"]["default_rng"]
    assert "whether the result replicates" in " ".join(one["plan"]["caveats"])
    answer = bench.reproduce(run_id, "--seed", "-1")
    assert (answer.returncode, answer.stderr[:17]) == (2, "error: seed is -1")


def test_seed_variable_seeds_everything(bench):
    bench.repository.commit({"train.py": UNSEEDED})
    one, two = (bench.train("train.py", MLFLOW_REPRO_SEED="7") for _ in range(2))
    assert bench.get(one).data.metrics == bench.get(two).data.metrics
    other = bench.train("train.py", MLFLOW_REPRO_SEED="8")
    assert bench.get(one).data.metrics["default_rng"] != bench.get(other).data.metrics["default_rng"]


def test_off_records_seeds_and_nothing_else(bench):
    script = (
        "import mlflow, numpy as np\nfrom numpy.random import bit_generator\nnp.random.seed(3)\n"
        "assert bit_generator.randbits.__module__ != 'mlflow_repro.seeding.entropy'\n"
        "with mlflow.start_run(): mlflow.log_metric('m', np.random.rand())\n"
    )
    bench.repository.commit({"train.py": script})
    run = bench.get(bench.train("train.py", MLFLOW_REPRO_SEED="off"))
    assert run.data.tags["repro.seed.numpy"] == "3"
    assert bench.recorded(run.info.run_id, "record.json")
    assert bench.recorded(run.info.run_id, "random_state.json") is None


SEEDED = """\
import argparse, random
import numpy as np, mlflow
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=42)
SEED = parser.parse_args().seed
random.seed(SEED)
np.random.seed(SEED)
with mlflow.start_run():
    mlflow.log_metrics({"python": random.random(), "numpy": np.random.rand()})
"""


def test_recorded_state_never_overrules_what_the_program_now_seeds(bench):
    """Another parameter, and another commit: both seed with 7, and the recorded state is of 42."""
    project = "name: p\nentry_points:\n  main:\n    parameters:\n      seed: {type: int, default: 42}\n"
    project += "    command: python train.py --seed {seed}\n"
    bench.repository.commit({"MLproject": project, "train.py": SEEDED})
    run_id = bench.mlflow_run(str(bench.repository.clone))
    commit = bench.repository.commit({"train.py": SEEDED.replace("SEED = ", "SEED = 7 or ")})
    for options in ("-P", "seed=7"), ("--commit", commit):
        report = json.loads(bench.reproduce(run_id, *options, "--format", "json").stdout)
        assert report["comparison"]["verdict"] == "DIFFERENT", options
        assert {row["name"] for row in report["comparison"]["findings"] if row["status"] == "different"} >= {"numpy"}
        assert (
            "numpy's global generator was seeded with 42 in the reference, was seeded with 7 in the reproduction"
            in (" ".join(report["plan"]["caveats"]))
        )
        assert "seed" in report["causes"][0]["what"]
    assert bench.reproduce(run_id).stdout.endswith("Runs equal: True\n")


WORKERS = """\
import multiprocessing, random, sys
import mlflow
import numpy as np

def draw(number, answers):
    answers.put((number, random.random(), np.random.default_rng().random()))

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    answers = context.SimpleQueue()
    with mlflow.start_run():
        workers = [context.Process(target=draw, args=(number, answers)) for number in range(2)]
        [worker.start() for worker in workers]
        for number, one, two in [answers.get() for _ in workers]:
            mlflow.log_metric(f"python{number}", one)
            mlflow.log_metric(f"numpy{number}", two)
        [worker.join() for worker in workers]
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_have_streams_of_their_own(bench, method):
    """No two processes draw the same, and what they draw comes back."""
    bench.repository.commit({"train.py": WORKERS})
    run_id = bench.train("train.py", method)
    metrics = bench.get(run_id).data.metrics
    assert len(set(metrics.values())) == 4
    answer = bench.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
