"""Runs that set no seed come back bit for bit, and nothing about their randomness changes."""

from __future__ import annotations

import json
import os
import random
import sys

import numpy as np
import pytest
from conftest import make_repository, make_workbench
from hypothesis import given
from hypothesis import strategies as st

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


def test_entropy_is_the_same_for_the_same_root_and_never_twice_within_one():
    """Draws, forks and forks of forks are all different; another root shares nothing."""

    def bits(root: bytes) -> list[int]:
        drawn = []
        for path in ((), (1,), (2,), (1, 1), (11,)):
            entropy = Entropy(root)
            for number in path:
                for _ in range(number):
                    entropy.count_fork()
                entropy.enter_child()
            drawn += [entropy.draw_bits(128) for _ in range(50)]
        return drawn

    root = new_root()
    assert bits(root) == bits(root)
    assert len(set(bits(root))) == 250
    assert not set(bits(root)) & set(bits(new_root()))


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


def put_states(folder, *rows: tuple[str, str]) -> None:
    """Files of recorded states for a relaunch: script and arguments of each; ``root`` tells them apart."""
    for number, (script, arguments) in enumerate(rows):
        recorded = {"schema": 1, "script": script, "arguments": arguments, "root": str(number)}
        (folder / f"{number}.json").write_text(json.dumps(recorded))


def test_each_process_takes_the_state_of_its_script_and_arguments(tmp_path, monkeypatch):
    """By the arguments first, in the order of the reference among the rest, and none twice."""
    mine, other = (states.script_name(), states.digest_arguments()), "0" * 16
    put_states(tmp_path, ("else.py", mine[1]), (mine[0], other), mine, (mine[0], other))
    monkeypatch.setenv(states.RESTORE_VARIABLE, str(tmp_path))
    assert [states.take_random_state().get("root") for _ in range(4)] == ["2", "1", "3", None]
    assert os.environ[states.RESTORE_VARIABLE] == str(tmp_path)
    assert (tmp_path / "0.json").exists()


def test_arguments_that_name_runs_are_the_same_in_each_launch(monkeypatch):
    digests = []
    for path in ("/a/mlruns/0/" + "1" * 32 + "/artifacts", "s3://b/7/" + "2" * 32 + "/artifacts", "elsewhere"):
        monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python", "draw.py", path])
        digests.append(states.digest_arguments())
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
    mlflow.log_metric("python_reseeded", (random.seed(), random.random())[1])
    mlflow.log_metric("numpy_legacy", np.random.normal())
    mlflow.log_metric("numpy_legacy_reseeded", (np.random.seed(), np.random.rand())[1])
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
    assert len(report["reference"]["metrics"]) == 9


@pytest.mark.real_processes
def test_unseeded_runs_differ_from_each_other(unseeded):
    """Nothing is fixed: two runs of one script share no number, nor does a reproduction without states."""
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
    files = [file.path for file in bench.client().list_artifacts(run.info.run_id, "repro")]
    assert "repro/random_state.json" not in files


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
