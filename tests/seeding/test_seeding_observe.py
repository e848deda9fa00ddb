"""Which seeds a program set: seen as they are set, recovered from the generators' states, or read."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlflow_repro
from mlflow_repro.seeding import mt19937, observe
from mlflow_repro.seeding.everything import seed_everything
from mlflow_repro.seeding.log import NO_SEED, SeedCall, SeedLog, describe_seed, process_log
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.observe import current_calls, current_seeds, digest_states
from mlflow_repro.seeding.state import take_states

np = pytest.importorskip("numpy")

PYTHON_SEEDS = [0, 1, 42, 2**31, 2**32 - 1, 2**32, 2**64 - 1, 0x1234_5678_9ABC_DEF0, 2**128 - 3, 2**1000 + 7]
NUMPY_SEEDS = [0, 1, 42, 2**31, 2**32 - 1]
DRAWS = [0, 1, 10, 311, 312, 313, 1000, 5000]
HERE = Path(__file__).name


def _python_state(generator):
    state = generator.getstate()[1]
    return state[:-1], state[-1]


def _numpy_state(generator):
    state = generator.get_state(legacy=False)["state"]
    return state["key"].tolist(), int(state["pos"])


@pytest.fixture
def log():
    """Lend a fresh log; put both generators back afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    yield SeedLog()
    random.setstate(python)
    np.random.set_state(numpy)


def run_python(code, *paths, cwd=None):
    """Run ``code`` in a fresh interpreter and give back the JSON of its last line."""
    root = str(Path(mlflow_repro.__file__).resolve().parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([*map(str, paths), root]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---- seeds from states


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("seed", [*PYTHON_SEEDS, -1, -42, -(2**40)])
def test_python_seed_is_recovered(seed, draws):
    generator = random.Random(seed)
    for _ in range(draws):
        generator.random()
    assert recover_seed(*_python_state(generator), kind="python") == abs(seed)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("seed", NUMPY_SEEDS)
def test_numpy_seed_is_recovered(seed, draws):
    generator = np.random.RandomState(seed)
    generator.random_sample(draws)
    assert recover_seed(*_numpy_state(generator), kind="numpy") == seed


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(-(2**1376) + 1, 2**1376 - 1), words=st.integers(0, 4000))
def test_any_python_seed_after_any_draws(seed, words):
    generator = random.Random(seed)
    generator.getrandbits(32 * words) if words else None
    assert recover_seed(*_python_state(generator), kind="python") == abs(seed)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), words=st.integers(0, 4000))
def test_any_numpy_seed_after_any_draws(seed, words):
    generator = np.random.RandomState(seed)
    generator.bytes(4 * words)
    assert recover_seed(*_numpy_state(generator), kind="numpy") == seed


@pytest.mark.parametrize("seed", NUMPY_SEEDS)
def test_forward_seeding_is_that_of_numpy(seed):
    assert mt19937.seed_genrand(seed) == _numpy_state(np.random.RandomState(seed))[0]


def test_a_state_that_the_operating_system_seeded_has_no_seed():
    for attempt in range(150):
        draws = (attempt * 7) % 700
        generator, legacy = random.Random(), np.random.RandomState()
        for _ in range(draws):
            generator.random()
        legacy.random_sample(draws)
        for kind in ("python", "numpy"):
            assert recover_seed(*_python_state(generator), kind=kind, max_rewinds=8) is None
            assert recover_seed(*_numpy_state(legacy), kind=kind, max_rewinds=8) is None


def test_a_state_that_was_seeded_otherwise_has_no_seed():
    """The other library's way of seeding, a jump, words that no twist makes."""
    assert recover_seed(*_numpy_state(np.random.RandomState(42)), kind="python") is None
    jumped = np.random.RandomState(np.random.MT19937(1).jumped())
    assert recover_seed(*_numpy_state(jumped), kind="numpy", max_rewinds=8) is None
    words = [random.Random(5).getrandbits(32) for _ in range(624)]
    for position in (1, 300, 624):
        assert recover_seed(words, position, kind="python") is None
        assert recover_seed(words, position, kind="numpy") is None


@pytest.mark.parametrize("draws", [0, 1, 1000])
@pytest.mark.parametrize("index", [0, 1, 5, 100, 226, 227, 396, 397, 623])
def test_one_wrong_bit_anywhere_and_there_is_no_seed(index, draws):
    for kind, state in (
        ("python", _python_state(_drawn(random.Random(42), draws))),
        ("numpy", _numpy_state(_drawn(np.random.RandomState(42), draws))),
    ):
        for bit in (0, 30, 31):
            words = list(state[0])
            words[index] ^= 1 << bit
            assert recover_seed(words, state[1], kind=kind) is None


def _drawn(generator, draws):
    for _ in range(draws):
        generator.random()
    return generator


def test_a_seeded_state_at_a_place_where_no_drawing_leads_has_no_seed():
    words, _ = _python_state(random.Random(42))
    for position in (-1, 0, 1, 623, 625):
        assert recover_seed(words, position, kind="python") is None


def test_the_search_ends_at_its_bound():
    generator = random.Random(42)
    generator.getrandbits(32 * 624 * 10)
    state = _python_state(generator)
    assert recover_seed(*state, kind="python", max_rewinds=9) is None
    assert recover_seed(*state, kind="python", max_rewinds=10) == 42
    assert recover_seed(*state, kind="python", max_rewinds=0) is None


@pytest.mark.parametrize("found", [None, 42])
def test_the_search_ends_at_an_earlier_state(found):
    generator = random.Random()
    generator.getrandbits(32 * 1000)
    earlier = (_python_state(generator)[0], found)
    assert recover_seed(*_python_state(generator), kind="python", max_rewinds=0, earlier=earlier) == found
    generator.getrandbits(32 * 624 * 3)
    assert recover_seed(*_python_state(generator), kind="python", max_rewinds=3, earlier=earlier) == found
    generator.seed(7)
    generator.random()
    assert recover_seed(*_python_state(generator), kind="python", max_rewinds=3, earlier=earlier) == 7


def test_the_seeded_state_itself_can_be_the_earlier_one():
    generator = random.Random(42)
    earlier = (_python_state(generator)[0], 4242)
    generator.random()
    assert recover_seed(*_python_state(generator), kind="python", earlier=earlier) == 42
    legacy = np.random.RandomState(range(60))  # too long a key to be found
    earlier = (_numpy_state(legacy)[0], 4242)
    legacy.random_sample(1000)
    assert recover_seed(*_numpy_state(legacy), kind="numpy", earlier=earlier) == 4242


@pytest.mark.parametrize("words", [[], [0] * 623, [0] * 625, [-1] * 624, [2**32] * 624, ["a"] * 624, [0.5] * 624])
def test_what_is_no_state_is_an_error(words):
    with pytest.raises(ValueError, match="not 624 words of 32 bits"):
        recover_seed(words, 624, kind="python")


# ---- calls


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NO_SEED),
        (42, "42"),
        (-42, "-42"),
        (True, "1"),
        (2**64, "18446744073709551616"),
        (np.int64(7), "7"),
        (np.array(7), "7"),
        ("abc", "'abc'"),
        (b"abc", "b'abc'"),
        (0.5, "0.5"),
        ("\udcff\n", "'\\udcff\\n'"),
        (
            "x" * 100,
            "'" + "x" * 63 + " sha256:1a6f8c1d4f7bb6a4",
        ),
    ],
)
def test_a_seed_is_described_in_one_short_line(value, text):
    described = describe_seed(value)
    assert described.partition(" sha256:")[0] == text.partition(" sha256:")[0]
    assert ("sha256" in described) == ("sha256" in text)


def test_what_is_no_plain_seed_is_described_by_its_beginning_and_its_digest():
    first, second = np.arange(2000), np.arange(2000)
    second[1000] = 0
    for value in (first, second, first[::2], [1, 2, 3], 10**5000, object()):
        described = describe_seed(value)
        assert len(described) <= 64 + 8 + 16
        assert "\n" not in described
        assert " sha256:" in described
    assert describe_seed(first) != describe_seed(second)
    assert describe_seed([1, 2]).startswith("[1, 2] sha256:")


def test_only_our_own_seeding_is_a_call():
    """`seed_everything` says what it does; whatever else seeds is read from what it leaves behind."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        seed_everything(5)
        calls = current_calls(process_log())
        assert [(calls[name].value, calls[name].how) for name in ("python", "numpy")] == [("5", "called")] * 2
        assert HERE in calls["python"].where
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def test_only_so_many_calls_are_kept(log):
    for seed in range(SeedLog.LIMIT + 5):
        log.record(SeedCall("python", str(seed), 0.0, "", "recovered"))
    assert len(log.calls) == SeedLog.LIMIT
    assert log.dropped == 5
    assert log.find_last("python").value == str(SeedLog.LIMIT + 4)


def test_threads_that_look_disturb_no_one(log):
    random.seed(1)
    looking = [threading.Thread(target=lambda: [current_seeds(log) for _ in range(50)]) for _ in range(4)]
    for thread in looking:
        thread.start()
    drawn = [random.random() for _ in range(2000)]
    for thread in looking:
        thread.join()
    mine = random.Random(1)
    assert drawn == [mine.random() for _ in range(2000)]
    assert current_seeds(log)["python"] == "1"


# ---- what holds now


def test_no_generator_is_disturbed(log):
    random.seed(5)
    np.random.seed(5)
    np.random.standard_normal(3)
    random.gauss(0, 1)
    python, numpy = random.getstate(), np.random.get_state(legacy=False)
    for _ in range(2):
        current_seeds(log)
        digest_states(take_states())
    current_seeds(SeedLog())
    assert random.getstate() == python
    assert str(np.random.get_state(legacy=False)) == str(numpy)
    assert np.random.get_state()[1].tolist() == numpy["state"]["key"].tolist()


@pytest.mark.parametrize("draws", [0, 1, 10, 1000, 5000])
def test_seeds_that_nobody_saw_are_recovered(log, draws):
    random.seed(-42)
    np.random.seed(43)
    for _ in range(draws):
        random.random()
        np.random.random_sample()
    calls = current_calls(log)
    assert [(calls[name].value, calls[name].how) for name in ("python", "numpy")] == [
        ("42", "recovered"),
        ("43", "recovered"),
    ]
    assert [call.how for call in log.calls] == ["recovered"] * 2
    current_calls(log)
    assert len(log.calls) == 2


@pytest.mark.parametrize("seed", ["", "hello", "ünï", b"hello", b"\xff\xfe", "y" * 60])
def test_a_text_is_recovered_as_a_text(log, seed):
    random.seed(seed)
    random.random()
    shown = seed.decode() if seed == b"hello" else seed  # the same state: Python encodes a text before it seeds
    assert current_seeds(log)["python"] == repr(shown)


def test_unseeded_generators_have_no_seed(log):
    random.seed()
    np.random.seed(None)
    assert not {"python", "numpy"} & current_seeds(log).keys()
    random.random()
    np.random.random_sample(700)
    assert not {"python", "numpy"} & current_seeds(log).keys()


def test_seeding_from_the_operating_system_clears_a_seed(log):
    random.seed(1)
    np.random.seed(1)
    assert current_seeds(log)["python"] == "1"
    random.seed()
    np.random.seed(None)
    current_seeds(log)
    assert [call.value for call in log.calls[-2:]] == [NO_SEED, NO_SEED]
    assert not {"python", "numpy"} & current_seeds(log).keys()


def test_the_last_seed_is_the_one_that_holds(log):
    """By a call or by a state that is put back."""
    for seed in (1, 7):
        random.seed(seed)
        np.random.seed(seed)
        assert current_seeds(log) | {"torch": ""} == {"python": str(seed), "numpy": str(seed), "torch": ""}
    random.setstate(random.Random(8).getstate())
    np.random.set_state(np.random.RandomState(9).get_state())
    seeds = current_seeds(log)
    assert (seeds["python"], seeds["numpy"]) == ("8", "9")


@given(
    key=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40) | st.lists(st.just(0), min_size=2, max_size=5),
    words=st.integers(0, 2000),
)
@settings(max_examples=40, deadline=None)
def test_numpy_seeds_that_are_arrays_are_recovered(key, words):
    generator = np.random.RandomState(np.array(key, dtype=np.int64))
    generator.bytes(4 * words)
    found = recover_seed(*_numpy_state(generator), kind="numpy")
    other = np.random.RandomState(np.array([found] if isinstance(found, int) else found, dtype=np.int64))
    assert found == key or np.array_equal(
        other.get_state()[1], np.random.RandomState(np.array(key, dtype=np.int64)).get_state()[1]
    )


def test_a_recovered_seed_holds_when_its_state_is_out_of_reach_later(log):
    random.seed(5)
    assert current_seeds(log)["python"] == "5"
    random.getrandbits(32 * 624 * 1000)
    assert current_seeds(log)["python"] == "5"


def test_an_unchanged_state_is_searched_once_and_a_later_one_only_so_far(log, monkeypatch):
    searches = []

    def counted(words, position, **options):
        searches.append(options)
        return recover_seed(words, position, **options)

    monkeypatch.setattr(observe, "recover_seed", counted)
    random.seed()
    random.random()
    for _ in range(3):
        current_seeds(log)
    assert len([options for options in searches if options["kind"] == "python"]) == 1
    random.getrandbits(32 * 700)
    current_seeds(log)
    assert searches[-1]["earlier"][0] is not None
    assert "python" not in current_seeds(log)


def test_broken_libraries_are_survived(log, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError

    odd = types.ModuleType("odd")
    odd.seed = odd.set_seed = odd.manual_seed = odd.getstate = odd.get_state = odd.initial_seed = fail
    odd._context = object()
    for name in ("random", "numpy.random.mtrand", "numpy.random", "torch", "torch.random"):
        monkeypatch.setitem(sys.modules, name, odd)
    monkeypatch.setitem(sys.modules, "tensorflow.python.eager.context", object())
    monkeypatch.setitem(sys.modules, "tensorflow.python.framework.random_seed", None)
    assert current_seeds(log) == {}
    assert digest_states(take_states()) == {}
    with pytest.raises(RuntimeError):
        odd.manual_seed(1)
    assert log.calls == ()


def test_another_bit_generator_is_left_alone(log):
    if not hasattr(np.random, "set_bit_generator"):
        pytest.skip("numpy before 1.24")
    before = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        assert "numpy" not in current_seeds(log)
        assert len(digest_states(take_states())["numpy"]) == 16
    finally:
        np.random.set_bit_generator(before)


def test_digests_tell_who_drew(log):
    def digests(*, draw):
        random.seed(5)
        np.random.seed(5)
        for name in draw:
            {"python": random.random, "numpy": np.random.random_sample}[name]()
        return digest_states(take_states())

    base = digests(draw=())
    assert base == digests(draw=())
    assert all(len(digest) == 16 for digest in base.values())
    assert {name for name in base if digests(draw=("python",))[name] != base[name]} == {"python"}
    assert {name for name in base if digests(draw=("numpy",))[name] != base[name]} == {"numpy"}
    np.random.seed(5)
    np.random.standard_normal(1)
    with_spare = digest_states(take_states())["numpy"]
    state = np.random.get_state(legacy=False)
    np.random.set_state({**state, "has_gauss": 0, "gauss": 0.0})
    assert digest_states(take_states())["numpy"] != with_spare
    # The same on every machine and with every version.
    assert base == {"python": "194df3e255cb9f48", "numpy": "0b21639fac0d3ad6"}


# ---- fresh processes

OURS = """\
from mlflow_repro.seeding.log import SeedLog
from mlflow_repro.seeding.observe import current_calls, current_seeds, digest_states
from mlflow_repro.seeding.state import take_states
import json, sys; log = SeedLog()
"""
WATCH = "from mlflow_repro.seeding.libraries import on_library_loaded; told = []; on_library_loaded('t', told.append)\n"
SHOW = "print(json.dumps({name: [call.value, call.how] for name, call in current_calls(log).items()}))"


def test_seeds_set_before_our_import(tmp_path):
    code = "import random, numpy; random.seed(42); numpy.random.seed(7); random.random(); numpy.random.rand(9)\n"
    assert run_python(code + OURS + SHOW, cwd=tmp_path) == {
        "python": ["42", "recovered"],
        "numpy": ["7", "recovered"],
    }


def test_seeds_set_after_our_import(tmp_path):
    code = "import random; random.seed(42)\nimport numpy; numpy.random.seed(7)\n"
    assert run_python(OURS + WATCH + code + SHOW, cwd=tmp_path) == {
        "python": ["42", "recovered"],
        "numpy": ["7", "recovered"],
    }


def test_nothing_is_imported_and_nothing_is_seeded(tmp_path):
    code = (
        "import random; random.random(); before = set(sys.modules)\n"
        "seeds = current_seeds(log); digests = digest_states(take_states())\n"
        "heavy = {'numpy', 'tensorflow', 'torch', 'keras'} & set(sys.modules)\n"
        "print(json.dumps([sorted(set(sys.modules) - before), sorted(heavy), seeds, sorted(digests)]))"
    )
    assert run_python(OURS + code, cwd=tmp_path) == [[], [], {}, ["python"]]


def test_a_forked_child_knows_that_python_seeded_anew(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    code = (
        "import random, numpy, os\n"
        "random.seed(1); numpy.random.seed(2); current_seeds(log); log._lock.acquire()\n"
        "read, write = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    first = current_seeds(log); random.seed(3)\n"
        "    os.write(write, json.dumps([first, current_seeds(log)]).encode()); os._exit(0)\n"
        "os.wait(); print(json.dumps([json.loads(os.read(read, 999)), current_seeds(log)]))"
    )
    assert run_python(OURS + code, cwd=tmp_path) == [
        [{"numpy": "2"}, {"python": "3", "numpy": "2"}],
        {"python": "1", "numpy": "2"},
    ]


def test_a_later_import_of_numpy_leaves_no_trace(tmp_path):
    code = (
        "import importlib.resources, importlib.machinery, pkgutil, inspect, numpy\n"
        "import numpy.random as module\n"
        "facts = [module.__spec__.loader is module.__loader__,\n"
        "  type(module.__loader__) is importlib.machinery.SourceFileLoader,\n"
        "  'exec_module' in vars(module.__loader__), module.__spec__.name,\n"
        "  module.__spec__.origin == module.__file__,\n"
        "  importlib.resources.files('numpy.random').joinpath('__init__.py').is_file(),\n"
        "  pkgutil.get_data('numpy.random', '__init__.py') is not None, inspect.getsource(module)[:3],\n"
        "  'mtrand' in [found.name for found in pkgutil.iter_modules(module.__path__)]]\n"
        "importlib.reload(module)\n"
        "print(json.dumps([facts, told]))"
    )
    facts, told = run_python(OURS + WATCH + code, cwd=tmp_path)
    assert facts == [True, True, False, "numpy.random", True, True, True, '"""', True]
    assert told == ["numpy.random"] * 2


FAKE_TORCH = "def manual_seed(seed):\n    return seed\nprint('loaded torch')\n"


@pytest.fixture
def fake_torch(tmp_path):
    """Make a directory with a package that goes by the name of torch."""
    directory = tmp_path / "fake"
    (directory / "torch").mkdir(parents=True)
    (directory / "torch" / "__init__.py").write_text(FAKE_TORCH)
    return directory


def test_a_lazily_loaded_library_is_not_woken(fake_torch):
    code = (
        "import importlib.util\n"
        "spec = importlib.util.find_spec('torch'); spec.loader = importlib.util.LazyLoader(spec.loader)\n"
        "torch = importlib.util.module_from_spec(spec)\n"
        "sys.modules['torch'] = torch; spec.loader.exec_module(torch)\n"
        "current_seeds(log); take_states()\n"
        "asleep = 'manual_seed' not in object.__getattribute__(torch, '__dict__')\n"
        "print(json.dumps([asleep, torch.manual_seed(5)]))"
    )
    assert run_python(OURS + WATCH + code, fake_torch) == [True, 5]


def test_asking_whether_a_library_is_there_does_not_load_it(fake_torch, tmp_path):
    code = (
        "import importlib.util\n"
        "there = [importlib.util.find_spec(name) is not None for name in ('torch', 'tensorflow')]\n"
        "loaded = 'torch' in sys.modules\nbefore = list(told)\nimport torch\n"
        "print(json.dumps([there[0], loaded, before, told]))"
    )
    assert run_python(OURS + WATCH + code, fake_torch, cwd=tmp_path) == [True, False, [], ["torch"]]


def test_a_library_that_fails_to_load_fails_as_before_and_can_be_tried_again(fake_torch):
    broken = "import os\nif 'BROKEN' in os.environ: raise OSError('no libcudart')\n" + FAKE_TORCH
    (fake_torch / "torch" / "__init__.py").write_text(broken)
    code = (
        "import os; os.environ['BROKEN'] = '1'; errors = []\n"
        "for _ in range(2):\n"
        "    try:\n        import torch\n"
        "    except OSError as error:\n        errors.append(str(error))\n"
        "sys.modules['torch'] = None\n"
        "try:\n    import torch\nexcept ImportError as error:\n    errors.append(type(error).__name__)\n"
        "del sys.modules['torch'], os.environ['BROKEN']\nimport torch\n"
        "print(json.dumps([errors, told]))"
    )
    errors, told = run_python(OURS + WATCH + code, fake_torch)
    assert errors == ["no libcudart", "no libcudart", "ModuleNotFoundError"]
    assert told == ["torch"]


def test_other_finders_of_this_kind_go_on_working(fake_torch):
    """MLflow's hook asks sys.meta_path from the start and wraps the loader; a blocker refuses a name."""
    code = (
        "import importlib.util\n"
        "class Loader:\n"
        "    def __init__(self, loader): self.loader = loader\n"
        "    def create_module(self, spec): return self.loader.create_module(spec)\n"
        "    def exec_module(self, module): self.loader.exec_module(module); seen.append('loaded')\n"
        "class Finder:\n"
        "    busy = False\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'tensorflow': raise ImportError('blocked')\n"
        "        if name != 'torch' or self.busy: return None\n"
        "        self.busy = True; spec = importlib.util.find_spec(name); self.busy = False\n"
        "        spec.loader = Loader(spec.loader); return spec\n"
        "seen = []\n"
        "if BEFORE: sys.meta_path.insert(0, Finder())\n"
        f"{WATCH}"
        "if not BEFORE: sys.meta_path.insert(0, Finder())\n"
        "import torch\n"
        "try:\n    import tensorflow\nexcept ImportError as error:\n    seen.append(str(error))\n"
        "print(json.dumps([seen, told, 'exec_module' in vars(torch.__loader__)]))"
    )
    for before in ("True", "False"):
        result = run_python(OURS + f"BEFORE = {before}\n" + code, fake_torch)
        assert result == [["loaded", "blocked"], ["torch"], False]


def test_a_library_in_a_zip_file_is_watched(fake_torch, tmp_path):
    archive = tmp_path / "library.zip"
    with contextlib.closing(__import__("zipfile").ZipFile(archive, "w")) as file:
        file.writestr("torch/__init__.py", "import other\nfrom torch.inner import manual_seed\n")
        file.writestr("torch/inner.py", FAKE_TORCH)
        file.writestr("other.py", "")
    assert run_python(OURS + WATCH + "import torch\nprint(json.dumps(told))", archive) == ["torch"]


def test_threads_that_import_at_once_all_succeed(fake_torch):
    code = (
        "import threading\nresults = []\n"
        "def load():\n    import torch; results.append(torch.manual_seed(5))\n"
        "threads = [threading.Thread(target=load) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "print(json.dumps([results, told]))"
    )
    assert run_python(OURS + WATCH + code, fake_torch) == [[5] * 8, ["torch"]]


# ---- TensorFlow and torch

needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow here")
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch here")


@pytest.mark.slow
@needs_tensorflow
def test_tensorflow_seed_before_and_after_our_import(tmp_path):
    code = (
        "import tensorflow as tf\nfrom tensorflow.python.eager import context\n"
        + OURS
        + "def now(): return current_seeds(log).get('tensorflow')\n"
        "result = [now(), context._context is None]\n"
        "tf.random.set_seed(1); result += [now(), current_calls(log)['tensorflow'].how]\n"
        "tf.random.set_seed(2); result += [now(), log.calls[-1].how]\n"
        "from tensorflow.python.framework import random_seed\n"
        "random_seed.set_random_seed(3); result += [now()]\n"
        "tf.compat.v2.random.set_seed(4); result += [now(), log.calls[-1].how]\n"
        "tf.random.set_seed(None); result += [now()]\n"
        "result += [context._context._initialized]\n"
        "tf.keras.utils.set_random_seed(5); result += [current_seeds(log)]\n"
        "tf.random.uniform([3]); result += [now()]\n"
        "print(json.dumps(result))"
    )
    result = run_python(code, cwd=tmp_path)
    everything = {"python": "5", "numpy": "5", "tensorflow": "5"}
    assert result == [
        *(None, True, "1", "read", "2", "read", "3", "4", "read", None, False),
        *(everything, "5"),
    ]


@pytest.mark.slow
@needs_torch
def test_torch_says_who_has_seeded_it(tmp_path):
    """However large the seed, and whether or not it looks as if a person had chosen it."""
    code = (
        "import torch\n" + OURS + "def now(): return current_seeds(log).get('torch')\n"
        "first = torch.get_rng_state(); result = [now(), take_states()['torch']['is_seeded']]\n"
        "for seed in (42, 2**40 + 1, 2**63 - 1, -1):\n"
        "    torch.manual_seed(seed); torch.rand(10); result += [now(), current_calls(log)['torch'].how]\n"
        "state = torch.get_rng_state(); torch.manual_seed(1); before = torch.get_rng_state()\n"
        "current_seeds(log); digest_states(take_states()); result += [bool((torch.get_rng_state() == before).all())]\n"
        "print(json.dumps(result))"
    )
    assert run_python(code, cwd=tmp_path) == [
        *(None, False, "42", "read", str(2**40 + 1), "read", str(2**63 - 1), "read", str(2**64 - 1), "read", True),
    ]


def test_a_call_is_a_value():
    call = SeedCall("python", "42", 0.0, "train.py:3", "called")
    with pytest.raises(AttributeError):
        call.value = "43"
