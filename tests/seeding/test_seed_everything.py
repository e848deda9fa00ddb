"""Seeds for everything, for trials, deterministic modes, saved random states, and the explicit line for all of it.

What changes a process's randomness runs in a process of its own.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlflow_repro
from mlflow_repro.guest.options import AutologOptions
from mlflow_repro.seeding import determinism
from mlflow_repro.seeding.checkpoint import RngStateError, RngStateWarning, load_rng_state, save_rng_state
from mlflow_repro.seeding.entropy import Entropy, new_root
from mlflow_repro.seeding.everything import derive_seed, seed_everything

NO_PLUGIN = {"MLFLOW_REPRO_DISABLE": "1"}


def python(script: str, *, cwd: Path | None = None, **variables: str) -> str:
    """What a program prints on its standard output; with it, its errors are shown when it fails."""
    environment = {**os.environ, "PYTHONPATH": str(Path(mlflow_repro.__file__).parent.parent), **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# ---- seed_everything


@pytest.mark.parametrize("seed", [-1, 1 << 32, 1.0, "1", None, True])
def test_what_is_no_seed_is_refused_and_changes_nothing(seed):
    before = random.getstate()
    with pytest.raises(ValueError, match=r"seed must be an integer from 0 to 2\*\*32-1, not "):
        seed_everything(seed)
    assert random.getstate() == before


DRAWS = """
import json, random
import numpy as np
from mlflow_repro import seed_everything
{before}
seed_everything(np.int64({seed}))
{after}
drawn = [random.random(), np.random.rand(), np.random.default_rng().random()]
drawn.append(np.random.SeedSequence().entropy)
print(json.dumps(drawn))
"""


def test_seeding_everything_gives_the_same_draws_whenever_mlflow_is_imported():
    """Python, numpy old and new; with the plugin, with it later, and without it."""
    warm = "np.random.default_rng(); random.random(); np.random.rand()"
    variants = [
        python(DRAWS.format(before=f"{warm}; import mlflow; {warm}", seed=7, after="")),
        python(DRAWS.format(before=warm, seed=7, after="import mlflow")),
        python(DRAWS.format(before="", seed=7, after=""), **NO_PLUGIN),
    ]
    assert len(set(variants)) == 1
    drawn = json.loads(variants[0])
    random_state = random.Random(7), np.random.RandomState(7)
    assert drawn[:2] == [random_state[0].random(), random_state[1].rand()]
    other = json.loads(python(DRAWS.format(before="", seed=8, after=""), **NO_PLUGIN))
    assert not set(drawn) & set(other)


def test_libraries_that_are_imported_later_are_seeded_and_recorded_as_set_by_the_program():
    script = """
import sys
from mlflow_repro import seed_everything
seed_everything(3)
assert "numpy" not in sys.modules
import numpy as np
from mlflow_repro.seeding.observe import current_calls
from mlflow_repro.seeding.log import process_log
print(np.random.rand() == np.random.RandomState(3).rand())
calls = current_calls(process_log())
print(sorted((name, call.value, call.how, call.where) for name, call in calls.items()))
"""
    first, second = python(script, **NO_PLUGIN).splitlines()
    assert first == "True"
    assert second == "[('numpy', '3', 'called', '<string>:4'), ('python', '3', 'called', '<string>:4')]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_children_of_a_seeded_process_have_streams_of_their_own():
    """With their parent's seed they would draw the same numbers; what to seed them with is the program's to say."""
    script = """
import os, random, sys
import numpy as np
from mlflow_repro import seed_everything
seed_everything(5)
for number in range(2):
    if os.fork() == 0:
        print(number, random.random(), np.random.default_rng().random(), flush=True)
        os._exit(0)
    os.wait()
"""
    words = python(script, **NO_PLUGIN).split() + python(script, **NO_PLUGIN).split()
    assert len(set(words)) == 2 + 8


@pytest.mark.real_processes
def test_seeded_run_records_the_seed_and_comes_back(bench):
    script = (
        "import numpy as np, mlflow, mlflow_repro\n"
        "early = np.random.default_rng().random()\n"
        "mlflow_repro.seed_everything(11)\n"
        "with mlflow.start_run():\n"
        "    mlflow.log_metrics({'early': early, 'rng': np.random.default_rng().random(), 'old': np.random.rand()})\n"
    )
    bench.repository.commit({"train.py": script})
    run_id, other = bench.train("train.py"), bench.train("train.py")
    run = bench.get(run_id)
    assert run.data.tags["repro.seed.numpy"] == run.data.tags["repro.seed.python"] == "11"
    differs = {name for name in run.data.metrics if run.data.metrics[name] != bench.get(other).data.metrics[name]}
    assert differs == {"early"}
    assert bench.reproduce(run_id, "--rel_tol", "0").stdout.endswith("Runs equal: True\n")


# ---- derive_seed

SEEDS = st.integers(0, 2**63 - 1)
PARTS = st.one_of(st.integers(0, 2**32 - 1), st.text(st.characters(exclude_categories=["Cs"])))
PATHS = st.lists(PARTS, max_size=4)


@pytest.mark.parametrize(
    ("arguments", "seed"),
    [
        ((0,), 1484405855),
        ((0, 0), 1878776328),
        ((0, 1), 336614359),
        ((42, "trial", 7), 2070390624),
        ((2**63 - 1, 2**32 - 1), 1668885614),
        ((1, "Größe"), 815727326),
        ((1, ""), 1722089962),
    ],
)
def test_derived_seeds_never_change(arguments, seed):
    """A sweep that is resumed in ten years gets the seeds of today."""
    assert derive_seed(*arguments) == seed


@given(seed=st.integers(0, 2**63 - 1), index=st.integers(0, 50))
def test_derived_seed_of_a_number_is_numpys_spawned_child(seed, index):
    child = np.random.SeedSequence(seed).spawn(index + 1)[index]
    assert derive_seed(seed, index) == child.generate_state(1)[0] >> 1


@given(seed=SEEDS, path=PATHS, other_seed=SEEDS, other_path=PATHS)
def test_derived_seeds_are_in_range_stable_and_distinct(seed, path, other_seed, other_path):
    """By chance two differ with a probability of all but 2**-31: a failure here is not chance."""
    derived = derive_seed(seed, *path)
    assert 0 <= derived < 2**31
    assert isinstance(derived, int)
    assert derive_seed(seed, *path) == derived
    if (seed, path) != (other_seed, other_path):
        assert derive_seed(other_seed, *other_path) != derived


@given(path=PATHS, number=st.integers(0, 2**32 - 1))
def test_where_a_part_stands_counts(path, number):
    longer = [(), (number,), (str(number),), (number, 0), (0, number, 0), (number, "")]
    seeds = [derive_seed(1, *path, *more) for more in longer]
    assert len(set(seeds)) == len(seeds)


def test_derived_seeds_are_uniform_and_unrelated_to_their_neighbours():
    """Each of 31 bits is set in half of 8,000 seeds, and flips in half of the steps, within 5 standard deviations."""
    seeds = [derive_seed(123, "trial", number) for number in range(8000)]
    steps = [one ^ two for one, two in itertools.pairwise(seeds)]
    for values in (seeds, steps):
        counts = [sum(value >> bit & 1 for value in values) for bit in range(31)]
        assert max(abs(count - len(values) / 2) for count in counts) < 5 * (len(values) / 4) ** 0.5
    assert len(set(seeds)) > 7990


@pytest.mark.parametrize(
    "arguments", [(-1,), (2**63,), (1.5,), (1, -1), (1, 2**32), (1, None), (1, b"x"), (True,), (1, "\ud800")]
)
def test_what_no_seed_can_be_derived_from_is_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        derive_seed(*arguments)


# ---- save_rng_state, load_rng_state


@pytest.fixture
def _same_generators():
    """The generators of the test process as they were."""
    before = random.getstate(), np.random.get_state()
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])


def draw() -> list[float]:
    return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal()]


@pytest.mark.usefixtures("_same_generators")
@pytest.mark.filterwarnings("ignore::mlflow_repro.seeding.checkpoint.RngStateWarning")
def test_saved_state_goes_on_where_it_was(tmp_path):
    """Also between the two numbers of a normal pair."""
    random.gauss(0, 1)
    np.random.normal()
    save_rng_state(tmp_path / "state.json")
    expected = draw()
    assert draw() != expected
    load_rng_state(str(tmp_path / "state.json"))
    assert draw() == expected
    assert os.listdir(tmp_path) == ["state.json"]


def test_saved_state_resumes_in_another_process(tmp_path):
    """Three draws, a pause, three draws are six draws; with the entropy of `default_rng()`."""
    header = "import random, numpy as np, mlflow_repro\n"
    draws = "print([[random.random(), np.random.rand(), np.random.default_rng().random()] for _ in range(3)])\n"
    whole = python(f"{header}mlflow_repro.seed_everything(9)\n{draws}{draws}", cwd=tmp_path, **NO_PLUGIN)
    first = python(
        f"{header}mlflow_repro.seed_everything(9)\n{draws}mlflow_repro.save_rng_state('s')", cwd=tmp_path, **NO_PLUGIN
    )
    second = python(f"{header}mlflow_repro.load_rng_state('s')\n{draws}", cwd=tmp_path, **NO_PLUGIN)
    assert first + second == whole


def change(content: dict, *path: str, to: object) -> dict:
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = to
    return content


@pytest.mark.usefixtures("_same_generators")
@pytest.mark.filterwarnings("ignore::mlflow_repro.seeding.checkpoint.RngStateWarning")
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        pytest.param(lambda text: text[:-100], "not a complete one", id="truncated"),
        pytest.param(lambda _: "", "not a complete one", id="empty"),
        pytest.param(lambda _: "[1]", "not a saved random state", id="other-json"),
        pytest.param(lambda _: "\x00\ufffd", "not a complete one", id="binary"),
        pytest.param(lambda text: text.replace('"schema": 1', '"schema": 2'), "has schema 2", id="schema"),
        pytest.param(lambda text: text.replace('"position": ', '"position": 1'), "was changed", id="changed"),
    ],
)
def test_file_that_is_not_whole_is_refused_and_changes_nothing(tmp_path, break_it, message):
    path = tmp_path / "state.json"
    save_rng_state(path)
    path.write_text(break_it(path.read_text(encoding="utf-8")), encoding="utf-8")
    random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(RngStateError, match=message):
        load_rng_state(path)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.usefixtures("_same_generators")
@pytest.mark.filterwarnings("ignore::mlflow_repro.seeding.checkpoint.RngStateWarning")
@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("sections", "numpy", "bit_generator"), "PCG64", "numpy's PCG64, not of MT19937"),
        (("sections", "numpy", "position"), 700, "state of numpy in the file is not one"),
        (("sections", "numpy", "words"), "AAAA", "state of numpy in the file is not one"),
        (("sections", "python"), {}, "state of python in the file is not one"),
        (("sections", "entropy"), {"root": "zz"}, "state of entropy in the file is not one"),
        (("sections", "entropy"), {"root": "aa", "drawn": -1}, "state of entropy in the file is not one"),
        (("sections", "jax"), {}, "state of jax, which this version does not know"),
        (("sections", "torch"), {"cpu": "AAAA", "cuda": []}, "import torch first|1 bytes|3 bytes"),
    ],
)
def test_nothing_is_half_restored(tmp_path, path, value, message):
    """The file is whole, one part of it is of no use here: the others stay, too."""
    from mlflow_repro.seeding.checkpoint import _digest

    file = tmp_path / "state.json"
    save_rng_state(file)
    content = json.loads(file.read_text(encoding="utf-8"))
    del content["sha256"]
    change(content, *path, to=value)
    file.write_text(json.dumps({**content, "sha256": _digest(content)}), encoding="utf-8")
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(RngStateError, match=message):
        load_rng_state(file)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.usefixtures("_same_generators")
@pytest.mark.filterwarnings("ignore::mlflow_repro.seeding.checkpoint.RngStateWarning")
def test_state_that_a_library_refuses_puts_the_others_back(tmp_path, monkeypatch):
    save_rng_state(tmp_path / "state.json")
    random.seed(1)
    before = random.getstate()
    real = np.random.mtrand.set_state
    calls = []

    def refuse_once(state):
        calls.append(state)
        if len(calls) == 1:
            raise TypeError("refused")
        real(state)

    monkeypatch.setattr(np.random.mtrand, "set_state", refuse_once)
    with pytest.raises(RngStateError, match="refused its random state: TypeError: refused"):
        load_rng_state(tmp_path / "state.json")
    assert random.getstate() == before


def test_exchanged_numpy_generator_is_refused(tmp_path):
    script = """
import numpy as np
from mlflow_repro import RngStateError, load_rng_state, save_rng_state
save_rng_state("before")
np.random.set_bit_generator(np.random.PCG64())
for function, path in (save_rng_state, "after"), (load_rng_state, "before"):
    try:
        function(path)
    except RngStateError as error:
        print(error)
"""
    said = python(script, cwd=tmp_path, **NO_PLUGIN).splitlines()
    assert said == ["numpy's global generator is here a PCG64: only MT19937 can be saved and loaded"] * 2
    assert os.listdir(tmp_path) == ["before"]


@pytest.mark.filterwarnings("ignore::mlflow_repro.seeding.checkpoint.RngStateWarning")
def test_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_rng_state(tmp_path / "missing" / "state.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        save_rng_state(tmp_path / "folder")
    assert os.listdir(tmp_path) == ["folder"]


def test_position_of_the_entropy_can_be_put_back():
    one, other = Entropy(new_root()), Entropy(new_root())
    one.renew()
    one.draw_bits(8)
    other.put_position(json.loads(json.dumps(one.take_position())))
    assert [one.draw_bits(64) for _ in range(3)] == [other.draw_bits(64) for _ in range(3)]


# ---- make_deterministic


def test_deterministic_modes_before_the_libraries_start_need_no_more_than_the_hash_seed():
    script = (
        "import json, os; from mlflow_repro import make_deterministic as f; first = f()\n"
        "import numpy; print(json.dumps([first, f(), dict(os.environ)]))"
    )
    first, again, environment = json.loads(python(script, PYTHONHASHSEED="0", **NO_PLUGIN))
    assert first["PYTHONHASHSEED"] == "0"
    assert first["OMP_NUM_THREADS"] == environment["OMP_NUM_THREADS"] == "1"
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert not [value for value in first.values() if value.startswith("not set")]
    assert again == first


def test_what_must_be_set_before_the_start_is_warned_of_once_with_the_line_to_type(tmp_path):
    (tmp_path / "train.py").write_text(
        "import os; os.environ['PYTHONHASHSEED'] = '0'\nimport numpy\n"
        "from mlflow_repro import make_deterministic as f\nprint(f() == f(), f()['PYTHONHASHSEED'])\n",
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    environment.pop("PYTHONHASHSEED", None)
    environment["PYTHONPATH"] = str(Path(mlflow_repro.__file__).parent.parent)
    command = [sys.executable, "train.py", "--name", "a b"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True not set: start with PYTHONHASHSEED=0\n"
    (warning,) = done.stderr.splitlines()
    variables = "PYTHONHASHSEED=0 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1"
    assert warning.endswith(f"Start with: {variables} {sys.executable} train.py --name 'a b'")


def test_number_of_threads_that_the_user_chose_stays():
    script = "import json, numpy; from mlflow_repro import make_deterministic as f; print(f()['OMP_NUM_THREADS'])"
    assert python(script, OMP_NUM_THREADS="3", **NO_PLUGIN) == "3\n"


def test_setting_that_a_library_does_not_have_is_said(monkeypatch):
    achieved: dict[str, str] = {}

    def fail():
        raise RuntimeError("too late\nfor that")

    determinism._put(achieved, "x.y", fail)
    assert achieved == {"x.y": "not set: RuntimeError: too late"}


# ---- autolog


def test_autolog_is_a_function_however_its_module_is_imported():
    import mlflow_repro.guest.autolog
    from mlflow_repro import autolog

    assert mlflow_repro.autolog is autolog is mlflow_repro.guest.autolog.autolog


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        ("git.commit", "log_code"),
        ("code.tree", "log_code"),
        ("env.python", "log_environment"),
        ("machine", "log_environment"),
        ("data.files", "log_data"),
        ("seed.numpy", "log_rng"),
        ("seeds.control", "log_rng"),
    ],
)
def test_each_switch_leaves_out_its_own(name, switch):
    assert AutologOptions().keeps(name)
    assert not AutologOptions(**{switch: False}).keeps(name)
    others = {"log_code", "log_environment", "log_data", "log_rng"} - {switch}
    assert AutologOptions(**dict.fromkeys(others, False)).keeps(name)
    assert not AutologOptions(disable=True).keeps(name)


AUTOLOG = """
import mlflow_repro
mlflow_repro.autolog({options})
import mlflow, numpy as np
with mlflow.start_run():
    mlflow.log_metric("m", np.random.rand())
"""


def read_record(bench, run_id: str) -> dict:
    from mlflow.artifacts import load_dict

    with bench.surroundings():
        return load_dict(f"runs:/{run_id}/repro/record.json")


def autologged(bench, options: str, **variables: str):
    bench.repository.commit({"train.py": AUTOLOG.format(options=options)}, message=options or "plain")
    return bench.get(bench.train("train.py", **variables))


def prefixes(run) -> set[str]:
    return {name.split(".")[1] for name in run.data.tags if name.startswith("repro.")}


def test_autolog_switches_have_their_effect(bench):
    whole = autologged(bench, "")
    assert {"git", "env", "launch"} <= prefixes(whole)
    assert bench.recorded(whole.info.run_id, "random_state.json")

    bare = autologged(bench, "seed=4, log_code=False, log_environment=False, log_data=False, log_rng=False")
    assert not {"git", "env", "seed"} & prefixes(bare)
    assert "launch" in prefixes(bare)
    assert bare.data.metrics["m"] == np.random.RandomState(4).rand()
    assert bench.recorded(bare.info.run_id, "random_state.json") is None
    record = read_record(bench, bare.info.run_id)
    for section in ("code", "environment", "machine", "data", "seeds"):
        assert record[section]["section"]["absent"] == "switched off by autolog", section
    assert "section" not in record["launch"]


@pytest.mark.real_processes
def test_autolog_records_where_the_entry_point_is_not_installed(bench, tmp_path):
    """A package on the path without its metadata: MLflow knows no plugin of ours. An active run is recorded, too."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "mlflow_repro").symlink_to(Path(mlflow_repro.__file__).parent)
    script = (
        "import importlib.metadata as m, sys\n"
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in getattr(f, '__module__', '')]\n"
        "real = m.entry_points\n"
        "m.entry_points = lambda **k: [p for p in real(**k) if 'mlflow_repro' not in p.value]\n"
        "import mlflow\n"
        "assert 'mlflow_repro' not in sys.modules\n"
        "with mlflow.start_run():\n"
        "    import mlflow_repro\n    mlflow_repro.autolog()\n    mlflow.log_metric('m', 1)\n"
        "with mlflow.start_run():\n    mlflow.log_metric('m', 2)\n"
    )
    bench.repository.commit({"train.py": script})
    answer = bench.run_python("train.py", cwd=bench.repository.clone, PYTHONPATH=str(tmp_path / "site"))
    assert answer.returncode == 0, answer.stderr
    runs = [bench.get(run_id) for run_id in bench.run_ids()]
    assert len(runs) == 2
    for run in runs:
        assert {"git", "env", "launch", "capture"} <= prefixes(run)
        assert run.data.tags["repro.capture"] == "complete"


def test_autolog_disable_stops_it_for_later_runs_until_it_is_called_again(bench):
    script = (
        "import mlflow, mlflow_repro\n"
        "for number, options in enumerate(({}, {'disable': True}, {})):\n"
        "    mlflow_repro.autolog(**options)\n"
        "    with mlflow.start_run():\n        mlflow.log_metric('number', number)\n"
    )
    bench.repository.commit({"train.py": script})
    assert bench.run_python("train.py", cwd=bench.repository.clone).returncode == 0
    runs = {run.data.metrics["number"]: run for run in map(bench.get, bench.run_ids())}
    assert [bool(prefixes(runs[number])) for number in range(3)] == [True, False, True]


@pytest.mark.real_processes
def test_autolog_deterministic_is_recorded_and_silent_says_nothing(bench):
    script = AUTOLOG.format(options="deterministic=True, silent=True")
    bench.repository.commit({"train.py": script})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert "mlflow-repro" not in answer.stderr
    record = read_record(bench, bench.run_ids()[0])
    assert record["seeds"]["determinism"]["PYTHONHASHSEED"] == "not set: start with PYTHONHASHSEED=0"
    bench.repository.commit({"train.py": script.replace(", silent=True", "")})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert "mlflow-repro could not make everything deterministic: PYTHONHASHSEED" in answer.stderr


def test_autolog_refuses_a_wrong_seed_and_changes_nothing():
    level = logging.getLogger("mlflow_repro").level
    with pytest.raises(ValueError, match="seed must be"):
        mlflow_repro.autolog(seed=-1, silent=True)
    assert logging.getLogger("mlflow_repro").level == level


def test_autolog_leaves_recording_to_the_users_switch(bench):
    run = autologged(bench, "seed=4", **NO_PLUGIN)
    assert prefixes(run) == set()
    assert run.data.metrics["m"] == np.random.RandomState(4).rand()


def test_warning_names_what_is_not_saved(tmp_path, monkeypatch):
    from mlflow_repro.seeding import checkpoint

    monkeypatch.setattr(checkpoint, "_find_limits", lambda: ("tensorflow: positions",))
    with pytest.warns(RngStateWarning, match="tensorflow: positions") as caught:
        assert save_rng_state(tmp_path / "state.json") == ("tensorflow: positions",)
    assert caught[0].filename == __file__
