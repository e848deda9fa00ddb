"""TensorFlow, Keras and torch: unseeded trainings come back, and what they draw is as unrelated as without us.

Each test starts processes that import a framework: all are slow.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_repro

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.real_processes]
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None or importlib.util.find_spec("keras") is None, reason="no TensorFlow"
)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="no torch")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}


def python(script: str, *, cwd: Path | None = None, **variables: str) -> str:
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(Path(mlflow_repro.__file__).parent.parent), **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_comes_back_and_is_random(bench, script: str, *, constant: frozenset[str] = frozenset()) -> list:
    """A reproduction is equal to the last bit; two plain runs share no metric but the ``constant`` ones."""
    bench.environment.update(QUIET)
    bench.repository.commit({"train.py": script})
    first, second = bench.train("train.py"), bench.train("train.py")
    metrics = [bench.get(run_id).data.metrics for run_id in (first, second)]
    shared = {name for name in metrics[0] if metrics[0][name] == metrics[1][name]}
    assert shared == constant
    answer = bench.reproduce(first, "--rel_tol", "0")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    return [first, second]


KERAS = """\
import mlflow
import numpy as np
import keras

class Orders(keras.callbacks.Callback):
    '''Which rows each epoch begins with, told from the loss of its first batches: the weights are frozen.'''
    def on_epoch_begin(self, epoch, logs=None):
        self.epochs = [*getattr(self, "epochs", []), []]
    def on_train_batch_end(self, batch, logs=None):
        self.epochs[-1].append(float(logs["loss"]))

def build(rate):
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model

x = np.arange(64.0).reshape(32, 2) / 64
y = x @ [1.0, -2.0]
with mlflow.start_run():
    model = build(0.05)
    history = model.fit(x, y, epochs=3, batch_size=4, shuffle=True, verbose=0).history["loss"]
    mlflow.log_metrics({f"loss{epoch}": loss for epoch, loss in enumerate(history)})
    mlflow.log_metric("weights", float(sum(np.abs(w).sum() for w in model.get_weights())))

    frozen = keras.Sequential([keras.layers.Dense(1)])
    frozen.compile(keras.optimizers.SGD(0.0), "mse")
    orders = Orders()
    for fit in range(2):
        frozen.fit(x, y, epochs=3, batch_size=1, shuffle=True, verbose=0, callbacks=[orders])
    mlflow.log_metric("different_orders", len(set(map(tuple, orders.epochs))))
    frozen.fit(x, y, epochs=2, batch_size=4, shuffle="batch", verbose=0, callbacks=[orders])
    mlflow.log_metric("first_batch", orders.epochs[0][0])
"""


@needs_tensorflow
def test_unseeded_keras_training_comes_back_and_each_epoch_has_its_own_order(bench):
    """Dropout, initial weights and shuffling; three epochs of two fits take six orders, as without the plugin."""
    runs = assert_comes_back_and_is_random(bench, KERAS, constant=frozenset({"different_orders"}))
    assert bench.get(runs[0]).data.metrics["different_orders"] == 6
    assert not [name for name in bench.get(runs[0]).data.tags if name.startswith("repro.seed.")]


TENSORFLOW = """\
import mlflow
import tensorflow as tf

with mlflow.start_run() as run:
    for name, draw in {
        "uniform": lambda: tf.random.uniform([]),
        "double": lambda: tf.random.uniform([], dtype=tf.float64),
        "normal": lambda: tf.random.normal([]),
        "truncated": lambda: tf.random.truncated_normal([]),
        "gamma": lambda: tf.random.gamma([], 2.0),
        "integer": lambda: tf.random.uniform([], maxval=1 << 60, dtype=tf.int64),
        "shuffled": lambda: tf.random.shuffle(tf.range(10**6))[0],
        "dropout": lambda: tf.reduce_sum(tf.nn.dropout(tf.range(1000.0), 0.5)),
        "dataset": lambda: next(iter(tf.data.Dataset.range(10**6).shuffle(10**6))),
        "generator": lambda: tf.random.get_global_generator().uniform([]),
        "op_seed": lambda: tf.random.uniform([], seed=1),
    }.items():
        for number in range(3):
            mlflow.log_metric(f"{name}{number}", float(draw()))
    in_function = tf.function(lambda: tf.random.uniform([]))
    in_function()
"""


@needs_tensorflow
def test_unseeded_operations_come_back_and_what_cannot_is_recorded(bench):
    """A draw with a seed of its own gives every run the same numbers: that is TensorFlow's, and stays."""
    op_seeds = frozenset(f"op_seed{number}" for number in range(3))
    run_id, _ = assert_comes_back_and_is_random(bench, TENSORFLOW, constant=op_seeds)
    from mlflow.artifacts import load_dict

    with bench.surroundings():
        record = load_dict(f"runs:/{run_id}/repro/record.json")
    (draw,) = record["seeds"]["not_repeatable"]
    assert draw.startswith("tensorflow: random_uniform in ")


FACTS = """\
import json, sys
{start}
import numpy as np
import tensorflow as tf

facts = {{"op_seed": tf.random.uniform([3], seed=1).numpy().tolist()}}
function = lambda: tf.function(lambda: tf.random.uniform([4]))
one, two = function(), function()
facts["functions"] = one().numpy().tolist() != two().numpy().tolist()
noise = tf.function(lambda: tf.random.normal([4]))
facts["nested"] = bool(np.any(tf.function(lambda: noise() - noise())().numpy()))
mapped = tf.data.Dataset.range(4).map(lambda _: tf.random.uniform([]))
facts["iterators"] = [float(v) for v in mapped] != [float(v) for v in mapped]
shuffled = tf.data.Dataset.range(50).shuffle(50)
facts["reshuffled"] = [int(v) for v in shuffled] != [int(v) for v in shuffled]
fixed = tf.data.Dataset.range(50).shuffle(50, reshuffle_each_iteration=False)
facts["kept"] = [int(v) for v in fixed] == [int(v) for v in fixed]
inner = tf.data.Dataset.range(2).flat_map(lambda _: tf.data.Dataset.range(50).shuffle(50))
drawn = [int(v) for v in inner]
facts["inner"] = drawn[:50] != drawn[50:]

def size():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

for _ in range(300):
    tf.random.uniform([4])
before = size()
for _ in range(2000):
    tf.random.uniform([4])
facts["memory"] = size() - before < 8e6
print(json.dumps(facts))
"""


@needs_tensorflow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads /proc")
def test_statistical_properties_are_those_without_the_plugin():
    """A global seed fails each of these; functions, iterators, epochs and nested calls have streams of their own."""
    without = json.loads(python(FACTS.format(start=""), MLFLOW_REPRO_DISABLE="1"))
    with_plugin = json.loads(python(FACTS.format(start="import mlflow")))
    assert with_plugin == without
    assert all(value for name, value in without.items() if name != "op_seed")


STREAMS = """\
import mlflow
import numpy as np
import tensorflow as tf

N = 20_000
def draw():
    yield tf.random.uniform([N])
    yield tf.random.uniform(tf.constant([N], tf.int64))
    yield tf.random.uniform([N], dtype=tf.float64)
    yield tf.random.uniform([N], dtype=tf.float16)
    yield tf.random.uniform([N], maxval=1 << 30, dtype=tf.int32)
    yield tf.random.uniform([N], maxval=1 << 60, dtype=tf.int64)
    yield tf.random.normal([N])
    yield tf.random.normal([N], dtype=tf.float64)
    yield tf.random.truncated_normal([N])
    yield tf.random.gamma([N], 2.0)
    yield tf.random.poisson([N], 3.0)
    yield tf.random.categorical([[0.0, 0.0, 0.0]], N)[0]
    yield tf.random.shuffle(tf.range(N))
    yield tf.random.shuffle(np.arange(float(N)))
    yield tf.random.shuffle(list(range(N)))
    yield tf.random.get_global_generator().uniform([N])
    yield tf.random.Generator.from_non_deterministic_state().uniform([N])
    yield tf.random.uniform_candidate_sampler(tf.zeros([1, 1], tf.int64), 1, N, False, 10**6).sampled_candidates
    yield next(iter(tf.data.Dataset.range(N).shuffle(N).batch(N)))

streams = [np.asarray(drawn, float) for drawn in draw()]
streams += [np.asarray(drawn, float) for drawn in draw()]
tf.keras.backend.clear_session()  # throws the kernels away, which must not begin anew
streams += [np.asarray(drawn, float) for drawn in draw()]
with tf.device("CPU:0"):
    streams += [np.asarray(drawn, float) for drawn in draw()]
correlations = np.corrcoef(streams)
np.fill_diagonal(correlations, 0)
print(len(streams), float(np.abs(correlations).max() * N**0.5))
"""


@needs_tensorflow
def test_no_two_streams_are_related():
    """76 streams: operations, types, calls, kernels made anew, devices. The greatest of 2,850 correlations is chance's.

    Times the root of the length each is standard normal: one beyond 5.5 has a probability of 1e-4 in all.
    """
    number, greatest = python(STREAMS).split()
    assert int(number) == 76
    assert float(greatest) < 5.5


PAUSE = """\
import json, random, sys, warnings
import mlflow_repro
mlflow_repro.seed_everything(5)
import keras, numpy as np, tensorflow as tf

def draw():
    return [random.random(), np.random.rand(), float(tf.random.uniform([])), float(keras.random.uniform(())),
            float(tf.random.get_global_generator().uniform([])), np.random.default_rng().random()]

{steps}
"""


@needs_tensorflow
def test_paused_tensorflow_program_resumes_and_says_what_does_not(tmp_path):
    whole = python(PAUSE.format(steps="[print(draw()) for _ in range(4)]"))
    save = "[print(draw()) for _ in range(2)]\nmlflow_repro.save_rng_state('state')"
    load = "mlflow_repro.load_rng_state('state')\n[print(draw()) for _ in range(2)]"
    assert python(PAUSE.format(steps=save), cwd=tmp_path) + python(PAUSE.format(steps=load), cwd=tmp_path) == whole
    say = "try: mlflow_repro.save_rng_state('state')\nexcept Warning as e: print(e)\n"
    steps = f"warnings.simplefilter('error')\n{say}print('drawn')\ndraw()\n{say}"
    before, after = python(PAUSE.format(steps=steps), cwd=tmp_path).split("drawn")
    assert before == ""
    assert "TensorFlow gives no access" in after


DETERMINISTIC = """\
import mlflow_repro
mlflow_repro.autolog(deterministic=True)
import keras
import mlflow
import numpy as np

with mlflow.start_run():
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.arange(64.0).reshape(32, 2) / 64
    mlflow.log_metric("loss", model.fit(x, x[:, 0], epochs=2, batch_size=4, verbose=0).history["loss"][-1])
"""


@needs_tensorflow
def test_deterministic_keras_training_without_a_seed_runs_and_comes_back(bench):
    """With deterministic operations TensorFlow refuses to draw without a seed; the program still has none to set."""
    run_id, other = assert_comes_back_and_is_random(bench, DETERMINISTIC)
    from mlflow.artifacts import load_dict

    with bench.surroundings():
        achieved = load_dict(f"runs:/{run_id}/repro/record.json")["seeds"]["determinism"]
    assert achieved["tensorflow.op_determinism"] == "on"
    assert achieved["tensorflow.global_seed"] == bench.get(run_id).data.tags["repro.seed.tensorflow"]
    assert bench.get(other).data.tags["repro.seed.tensorflow"] != achieved["tensorflow.global_seed"]


TORCH = """\
import mlflow
import torch

x = torch.arange(64.0).reshape(32, 2) / 64
data = torch.utils.data.TensorDataset(x, x[:, :1])
model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.05)
with mlflow.start_run():
    for epoch in range(2):
        for inputs, targets in torch.utils.data.DataLoader(data, 4, shuffle=True, num_workers=epoch):
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        mlflow.log_metric(f"loss{epoch}", loss.item())
    mlflow.log_metric("weights", sum(p.abs().sum().item() for p in model.parameters()))
    mlflow.log_metric("draw", torch.rand(()).item())
"""


@needs_torch
def test_unseeded_torch_training_comes_back(bench):
    """Initial weights, dropout, shuffling, a loader with a worker process."""
    run_id, _ = assert_comes_back_and_is_random(bench, TORCH)
    assert not [name for name in bench.get(run_id).data.tags if name.startswith("repro.seed.")]


@needs_torch
def test_devices_of_an_unseeded_program_have_seeds_of_their_own():
    """torch.manual_seed gives all devices one seed; torch itself gives each another. The program's seed wins."""
    script = """
import torch
from mlflow_repro.seeding.libraries import seed_torch_devices
torch.cuda._queued_calls.clear()
torch.cuda.default_generators = tuple(torch.Generator() for _ in range(3))
torch.cuda.random.device_count = lambda: 3
seeds = lambda: [generator.initial_seed() for generator in torch.cuda.default_generators]
def start():  # as torch.cuda._lazy_init does
    calls = [*torch.cuda._queued_calls, *(call for call in torch.cuda._lazy_seed_tracker.get_calls() if call)]
    for call, _ in calls:
        call()
assert seed_torch_devices(1 << 62)
assert torch.initial_seed() == 1 << 62
start()
print(len({torch.initial_seed(), *seeds()}))
torch.manual_seed(3)
start()
print(set(seeds()))
"""
    assert python(script, MLFLOW_REPRO_DISABLE="1").split() == ["4", "{3}"]


@needs_torch
def test_torch_is_seeded_saved_and_loaded_with_everything_else(tmp_path):
    script = """
import mlflow_repro
mlflow_repro.seed_everything(5)
import torch
assert torch.initial_seed() == 5
{steps}
"""
    draws = "print(torch.rand(3).tolist())\n"
    whole = python(script.format(steps=2 * draws), cwd=tmp_path)
    first = python(script.format(steps=f"{draws}mlflow_repro.save_rng_state('state')"), cwd=tmp_path)
    second = python(script.format(steps=f"mlflow_repro.load_rng_state('state')\n{draws}"), cwd=tmp_path)
    assert first + second == whole
    missing = "import mlflow_repro\ntry: mlflow_repro.load_rng_state('state')\nexcept ValueError as error: print(error)"
    assert "import torch first" in python(missing, cwd=tmp_path)


@needs_torch
def test_deterministic_torch_warns_and_goes_on():
    script = """
import json, torch
from mlflow_repro import make_deterministic
achieved = make_deterministic()
assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
print(json.dumps(achieved))
"""
    achieved = json.loads(python(script, MLFLOW_REPRO_DISABLE="1"))
    assert achieved["torch.deterministic_algorithms"] == "on, warns only"
    assert achieved["torch.cudnn.deterministic"] == achieved["torch.cuda.matmul.no_tf32"] == "on"
