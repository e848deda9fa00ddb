"""The guest changes nothing that a program draws: a matrix of how it seeds, where, when and in which process.

What the guest does to random numbers it does when it is loaded and after a fork (`RandomControl.begin`), so most
programs here load just that: the import of mlflow around it takes seconds.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

KINDS = ["none", "int", "int63", "array", "text", "set_state", "checkpoint"]
MOMENTS = ["first", "middle", "last", "worker", "never"]
PROCESSES = [
    *("main", "subprocess", "fork", "threads", "spawn", "forkserver", "pool", "loky", "fork of a fork"),
    "pre-forked server",
]

PROGRAM = r'''
import importlib, json, os, pickle, random, subprocess, sys, threading

KIND, MOMENT, PROCESS, LIBRARIES = sys.argv[1:5]
LIBRARIES = LIBRARIES.split(",")

LOADED = []

def load_guest():
    if os.environ["GUEST"] == "1" and not LOADED:  # a fork has its parent's
        LOADED.append(True)
        from mlflow_repro.seeding.control import RandomControl
        from mlflow_repro.seeding.log import process_log
        RandomControl(process_log()).begin()

def seed_python(kind, number):
    if kind == "int": random.seed(42 + number)
    if kind == "int63": random.seed(2**62 + 1 + number)
    if kind == "array": random.seed(bytes([42, number]) * 30)
    if kind == "text": random.seed(f"a text that is a seed, number {number}")
    if kind == "set_state": random.setstate(random.Random(f"x{number}").getstate())
    if kind == "checkpoint":
        random.setstate(pickle.loads(pickle.dumps(drawn(random.Random(number), "random").getstate())))
    return lambda: [random.random(), random.gauss(0, 1)]

def seed_numpy(kind, number):
    import numpy as np
    if kind == "int": np.random.seed(42 + number)
    if kind == "int63": np.random.seed([(2**62 + 1 + number) >> 32, (2**62 + 1 + number) & 0xFFFFFFFF])
    if kind == "array": np.random.seed([42, number])
    if kind == "text": np.random.seed(np.frombuffer(f"a long text as seed {number:024d}".encode(), dtype="<u4"))
    if kind == "set_state": np.random.set_state(np.random.RandomState(7 + number).get_state())
    if kind == "checkpoint":
        other = drawn(np.random.RandomState([7, number]), "random_sample")
        np.random.set_state(pickle.loads(pickle.dumps(other.get_state())))
    return lambda: [np.random.rand(), np.random.normal()]

def drawn(generator, name):
    for _ in range(100_000):  # farther than a seed can be found
        getattr(generator, name)()
    return generator

def seed_default_rng(kind, number):
    import numpy as np
    seeds = {"none": None, "int": 42 + number, "int63": 2**62 + 1 + number, "array": [42, number],
             "text": list(f"text{number}".encode())}
    generator = np.random.default_rng(seeds.get(kind, 3 + number))
    if kind in ("set_state", "checkpoint"):
        generator.bit_generator.state = np.random.PCG64(11 + number).state
    other = np.random.Generator(np.random.SFC64(seeds.get(kind, 3 + number)))
    return lambda: [generator.random(), other.random()]

def seed_torch(kind, number):
    import torch
    if kind == "int": torch.manual_seed(42 + number)
    if kind in ("int63", "array", "text"): torch.manual_seed(2**62 + 1 + number)
    if kind in ("set_state", "checkpoint"):
        torch.set_rng_state(torch.Generator().manual_seed(2**40 + number).get_state())
        if kind == "checkpoint": torch.rand(1000)
    return lambda: torch.rand(3).tolist()

def seed_tensorflow(kind, number):
    import tensorflow as tf
    if kind != "none": tf.random.set_seed(42 + number)
    return lambda: tf.random.uniform([3]).numpy().tolist()

def seed_keras(kind, number):
    import keras
    if kind != "none": keras.utils.set_random_seed(42 + number)
    return lambda: keras.random.uniform([3]).numpy().tolist()

SEEDERS = {name: globals()[f"seed_{name}"] for name in LIBRARIES}

def work(number=0):
    """What one process does: seed, draw, and somewhere in between load the guest."""
    if MOMENT == "first": load_guest()
    draws = {name: seed(KIND, number) for name, seed in SEEDERS.items()}
    if MOMENT in ("middle", "worker"): load_guest()
    result = {name: draw() for name, draw in draws.items()}
    if MOMENT == "last": load_guest()
    return [result, {name: draw() for name, draw in draws.items()}]

def in_forks(count, inside=work):
    for number in range(count):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, json.dumps(inside(number)).encode())
            os._exit(0)
        os.close(write)
        with open(read, "rb") as pipe: yield json.loads(pipe.read())
        os.waitpid(pid, 0)

def run():
    if PROCESS == "main": return [work()]
    if PROCESS == "subprocess":
        command = [sys.executable, __file__, KIND, MOMENT, "main", ",".join(LIBRARIES)]
        return [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)[0] for _ in range(2)]
    if PROCESS == "fork": return list(in_forks(3))
    if PROCESS == "fork of a fork": return [one for rows in in_forks(2, lambda number: [*in_forks(2)]) for one in rows]
    if PROCESS == "threads":
        found = []
        threads = [threading.Thread(target=lambda: found.append([*in_forks(3)])) for _ in range(3)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        return [row for rows in found for row in rows]
    if PROCESS == "pre-forked server":
        return [one for rows in in_forks(2, lambda number: in_pool("spawn")) for one in rows]
    if PROCESS == "loky":
        from joblib.externals.loky import get_reusable_executor
        with get_reusable_executor(max_workers=2) as executor: return list(executor.map(work, range(2)))
    return in_pool({"pool": "fork"}.get(PROCESS, PROCESS))

def in_pool(method):
    import multiprocessing
    with multiprocessing.get_context(method).Pool(2, maxtasksperchild=1) as pool:
        return pool.map(work, range(2), chunksize=1)

if __name__ == "__main__":
    if MOMENT in ("first", "middle", "last") and PROCESS != "main":
        load_guest()
    if PROCESS not in ("main", "subprocess"):
        import numpy  # so that forks inherit it
    print(json.dumps(run()))
'''


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("matrix") / "program.py"
    path.write_text(PROGRAM)
    return path


def run(program: Path, *words: str, guest: bool, **variables: str) -> list[list[dict[str, list[float]]]]:
    """What each process of the program drew: before and after the last moment at which the guest may be loaded."""
    environment = {**os.environ, "GUEST": str(int(guest)), "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    command = [sys.executable, str(program), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip() or "keras" in words[-1] or "tensorflow" in words[-1], done.stderr
    return json.loads(done.stdout)


def shared_draws(processes: list[list[dict[str, list[float]]]], library: str) -> set[float]:
    """The numbers that two of the processes drew."""
    drawn = [{number for part in parts for number in part[library]} for parts in processes]
    return {number for one, other in itertools.combinations(drawn, 2) for number in one & other}


def check(program: Path, kind: str, moment: str, process: str, libraries: str) -> None:
    """Seeded: the same as without the guest. Unseeded: no two processes share a draw that they do not share without."""
    with_guest = run(program, kind, moment, process, libraries, guest=True)
    without = run(program, kind, moment, process, libraries, guest=False)
    if kind != "none":
        assert sorted(map(json.dumps, with_guest)) == sorted(map(json.dumps, without))
        return
    again = run(program, kind, moment, process, libraries, guest=True)
    for library in libraries.split(","):
        if not shared_draws(without, library):  # forks share numpy's global generator, with and without us
            assert not shared_draws(with_guest, library)
        assert not shared_draws([*with_guest[:1], *again[:1]], library)


def is_quick(kind: str, moment: str, process: str) -> bool:
    """Each value of each dimension, and what was broken: late imports in workers, forks, names that repeat."""
    if process == "main":
        return moment == "middle"
    if moment == "worker":
        return (kind, process) in {("none", "pre-forked server"), ("checkpoint", "spawn"), ("array", "loky")}
    return kind == "none" and (moment, process) in {("first", "threads"), ("last", "pool"), ("middle", "subprocess")}


def list_matrix() -> list[tuple[str, str, str]]:
    """Each pair of two values of two dimensions at least once; with ``WHOLE_MATRIX=1`` every combination there is."""
    whole = itertools.product(KINDS, MOMENTS, PROCESSES)
    if os.environ.get("WHOLE_MATRIX") == "1":
        return list(whole)
    pairs = {
        (kind, MOMENTS[(row + column) % len(MOMENTS)], process)
        for row, kind in enumerate(KINDS)
        for column, process in enumerate(PROCESSES)
    }
    return [combination for combination in whole if combination in pairs or is_quick(*combination)]


MATRIX = [
    pytest.param(*combination, marks=() if is_quick(*combination) else pytest.mark.slow, id="-".join(combination))
    for combination in list_matrix()
    if combination[1:] != ("worker", "main")
]


@pytest.mark.parametrize(("kind", "moment", "process"), MATRIX)
def test_draws_are_those_without_the_guest(program, kind, moment, process):
    if process == "loky":
        pytest.importorskip("joblib")
    check(program, kind, moment, process, "python,numpy,default_rng")


FRAMEWORKS = [name for name in ("torch", "tensorflow") if importlib.util.find_spec(name)]
FRAMEWORK_KINDS, FRAMEWORK_MOMENTS = ("none", "int", "int63", "checkpoint"), ("first", "middle", "last")


def list_frameworks() -> list[tuple[str, str, str]]:
    """Each kind, and each moment; with ``WHOLE_MATRIX=1`` every combination. Keras is drawn from beside TensorFlow."""
    libraries = ["tensorflow,keras" if name == "tensorflow" else name for name in FRAMEWORKS]
    if os.environ.get("WHOLE_MATRIX") == "1":
        return list(itertools.product(FRAMEWORK_KINDS, FRAMEWORK_MOMENTS, libraries))
    moments = itertools.cycle(FRAMEWORK_MOMENTS)
    return [(kind, moment, name) for kind, moment in zip(FRAMEWORK_KINDS, moments, strict=False) for name in libraries]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "moment", "libraries"), list_frameworks())
def test_draws_of_frameworks_are_those_without_the_guest(program, kind, moment, libraries):
    check(program, kind, moment, "main", libraries)


@pytest.mark.slow
@pytest.mark.skipif("torch" not in FRAMEWORKS, reason="no torch here")
@pytest.mark.parametrize("process", ["spawn", "fork", "subprocess", "loky"])
@pytest.mark.parametrize("kind", ["none", "int63", "checkpoint"])
def test_draws_of_torch_in_workers_are_those_without_the_guest(program, kind, process):
    check(program, kind, "worker", process, "torch")


FORKS = """
import os, random, sys, threading, time
from mlflow_repro.seeding.control import RandomControl
from mlflow_repro.seeding.log import process_log
from mlflow_repro.guest.background import Background
import numpy as np
if os.environ["GUEST"] == "1":
    RandomControl(process_log()).begin()
    background = Background(on_error=print)
    def talk_to_a_slow_store():
        with background.hold_forks(): time.sleep(0.05)
    for _ in range(20): background.submit(talk_to_a_slow_store)
read, write = os.pipe()
def fork_many(count):
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.write(write, f"{np.random.default_rng().random()!r} {random.random()!r}\\n".encode())
            os._exit(0)
        os.waitpid(pid, 0)
threads = [threading.Thread(target=fork_many, args=(int(sys.argv[1]),)) for _ in range(4)]
def finish():
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    os.close(write)
threading.Thread(target=finish).start()
with open(read) as pipe: drawn = pipe.read().split()
print(len(drawn), len(set(drawn)))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [100, pytest.param(600, marks=pytest.mark.slow)])
def test_forks_from_several_threads_share_nothing(count):
    """Also while a thread of ours talks to a store that is slow; 2,400 processes in the slow form."""
    environment = {**os.environ, "GUEST": "1"}
    command = [sys.executable, "-c", FORKS, str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=590)
    assert done.stdout.split() == [str(8 * count)] * 2


def test_processes_that_are_simulated_share_nothing():
    """Each draws its root for itself: 20,000 of them, and ten draws of each."""
    from mlflow_repro.seeding.entropy import Entropy, new_root

    entropy = Entropy(new_root())
    drawn = set()
    for _ in range(20_000):
        entropy.renew()
        drawn.update(entropy.draw_bits(128) for _ in range(10))
    assert len(drawn) == 200_000


DRIVER = """
import os, subprocess, sys
from mlflow_repro.seeding.control import RandomControl
from mlflow_repro.seeding.log import process_log
RandomControl(process_log()).begin()
assert not [name for name in os.environ if name.startswith("MLFLOW_REPRO") and name != "MLFLOW_REPRO_ABOVE"]
for _ in range(3):
    subprocess.run([sys.executable, sys.argv[1], "none", "worker", "spawn", "python,numpy,default_rng"], check=True)
"""


def test_simulations_of_one_driver_share_nothing(program):
    """Three programs, each with a pool whose workers have the same names: a sweep over them has n = 3."""
    command = [sys.executable, "-c", DRIVER, str(program)]
    environment = {**os.environ, "GUEST": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=110)
    processes = [process for line in done.stdout.splitlines() for process in json.loads(line)]
    assert len(processes) == 6
    for library in ("python", "numpy", "default_rng"):
        assert not shared_draws(processes, library)


@pytest.mark.parametrize("kind", KINDS)
def test_seed_variable_never_overrules_the_program(program, kind):
    """``MLFLOW_REPRO_SEED`` seeds what nobody has seeded, whenever mlflow is imported."""
    words = (kind, "middle", "main", "python,numpy,default_rng")
    with_guest = run(program, *words, guest=True, MLFLOW_REPRO_SEED="5")
    if kind == "none":  # generators that were made before the guest was loaded took their entropy already
        again = run(program, *words, guest=True, MLFLOW_REPRO_SEED="5")
        for library in ("python", "numpy"):
            assert with_guest[0][0][library] == again[0][0][library]
    else:
        assert with_guest == run(program, *words, guest=False)


def test_a_draw_looks_at_the_stack_a_few_times_and_not_each_time(monkeypatch):
    """At any depth of the stack a draw costs the same."""
    import numpy as np

    from mlflow_repro.seeding import entropy as module

    looks, examine = [], module._examine
    monkeypatch.setattr(module, "_examine", lambda *asked: looks.append(1) or examine(*asked))
    monkeypatch.setattr(np.random.bit_generator, "randbits", module.Entropy(module.new_root()).draw_bits)

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        else:
            for _ in range(1_000):
                np.random.default_rng()

    deep(200)
    assert 1 <= len(looks) <= 20


REAL = """
import random, sys
{before}
import mlflow
{after}
import numpy as np
print(random.random(), np.random.rand(), np.random.default_rng({seed}).random())
with mlflow.start_run():
    mlflow.log_metric("m", 1)
print("end")
sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.real_processes
@pytest.mark.parametrize("is_before", [True, False])
def test_a_program_prints_and_exits_as_without_the_plugin(bench, is_before):
    seeds = "import numpy as np; random.seed('text'); np.random.seed([4, 2])"
    script = REAL.format(before=seeds * is_before, after=seeds * (not is_before), seed="[1, 2]")
    bench.repository.commit({"train.py": script})
    answers = [bench.run_python("train.py", cwd=bench.repository.clone, MLFLOW_REPRO_DISABLE=off) for off in ("", "1")]
    assert [answer.returncode for answer in answers] == [3, 3]
    assert answers[0].stdout == answers[1].stdout
    assert "end" in answers[0].stdout
    assert "repro" not in answers[0].stderr
