"""Functions that seed and draw are with the guest what they are without it, whoever looks at them and however."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

LOAD = """
import os
if os.environ["GUEST"] == "1":
    from mlflow_repro.seeding.control import RandomControl
    from mlflow_repro.seeding.log import process_log
    RandomControl(process_log()).begin()
"""

# Each prints what it finds; the outputs with the guest and without are compared.
PROBES = {
    "identity": """
from random import seed as one, random as draw
from numpy.random import seed as other, default_rng as make
{load}
import random, numpy as np
print(one == random.seed, other is np.random.seed, other is np.random.mtrand.seed, make is np.random.default_rng,
      draw == random.random, random.seed.__self__ is random._inst, np.random.mtrand._rand is np.random.rand.__self__,
      type(random._inst), type(np.random.mtrand._rand._bit_generator), random.Random.seed.__code__.co_name)
""",
    "pickle": """
import copy, pickle
{load}
import random, numpy as np
print(type(pickle.loads(pickle.dumps(random.seed))), pickle.loads(pickle.dumps(np.random.seed)) is np.random.seed,
      copy.deepcopy(np.random.seed) is np.random.seed, copy.copy(random.seed) == random.seed,
      type(pickle.loads(pickle.dumps(np.random.default_rng()))))
np.random.seed(3)
print(pickle.loads(pickle.dumps(np.random.mtrand._rand)).rand(), np.random.SeedSequence(5).spawn(2)[1].entropy)
""",
    "cloudpickle": """
{load}
import cloudpickle, pickle, random, numpy as np
from random import seed
from numpy.random import seed as numpy_seed
for function in (lambda: seed(1), lambda: numpy_seed(1), lambda: random.seed(1), lambda: np.random.default_rng(1)):
    pickle.loads(cloudpickle.dumps(function))()
print(random.random(), np.random.rand())
""",
    "dill": """
{load}
import dill, random, numpy as np
from random import seed
print(dill.loads(dill.dumps(lambda: seed(1)))(), dill.loads(dill.dumps(lambda: np.random.seed(1)))(), np.random.rand())
""",
    "inspect": """
{load}
import inspect, random, numpy as np
for function in (random.seed, np.random.seed, np.random.default_rng, random.random):
    print(inspect.isroutine(function), type(function), function.__name__, function.__qualname__, function.__module__)
print(inspect.signature(random.seed), inspect.signature(np.random.seed), inspect.getsource(random.seed)[:40])
print(inspect.ismethod(random.seed), random.seed.__doc__ == random.Random.seed.__doc__)
""",
    "mock": """
{load}
import random, numpy as np
from unittest import mock
with mock.patch("random.seed", autospec=True) as one, mock.patch("numpy.random.seed", autospec=True) as other:
    random.seed(5); np.random.seed(6)
    print(one.call_args, other.call_args)
random.seed(5); np.random.seed(6)
print(random.random(), np.random.rand())
""",
    "traceback": """
{load}
import random, traceback, numpy as np
for call in (lambda: random.seed([1]), lambda: np.random.seed(-1), lambda: np.random.default_rng(-1)):
    try:
        call()
    except Exception as error:
        print(type(error), len(traceback.extract_tb(error.__traceback__)), error)
""",
    "subclass": """
{load}
import random, numpy as np
class Mine(random.Random):
    def seed(self, a=None, version=2): super().seed(3)
class Other(np.random.RandomState): pass
class Settings: seed = random.seed
Settings().seed(7)
print(Mine(9).random(), Other(4).rand(), isinstance(random._inst, random.Random), random.random())
""",
    "numba": """
{load}
import numba, random, numpy as np
from random import seed
@numba.njit
def draw():
    np.random.seed(3); random.seed(4); seed(5)
    return np.random.rand() + random.random()
print(draw())
""",
    "dask": """
{load}
from dask.base import tokenize
import random, numpy as np
print(tokenize(np.random.seed), tokenize(np.random.RandomState(5)))
""",
    "torch": """
import torch
from torch import manual_seed as one
{load}
import pickle, inspect
print(one is torch.manual_seed, torch.manual_seed is torch.random.manual_seed, inspect.signature(one),
      pickle.loads(pickle.dumps(torch.manual_seed)) is one)
def draw(x):
    torch.manual_seed(5)
    return x + torch.rand(3)
print(torch.jit.script(draw)(torch.zeros(3)), torch.compile(draw, backend="eager")(torch.zeros(3)))
""",
    "untouched": """
import secrets, uuid, random, os, ssl
before = secrets.randbits, secrets.token_bytes, random.SystemRandom.random, uuid.uuid4, os.urandom, ssl.RAND_bytes
{load}
import numpy
now = secrets.randbits, secrets.token_bytes, random.SystemRandom.random, uuid.uuid4, os.urandom, ssl.RAND_bytes
print([one == other for one, other in zip(before, now)], secrets._sysrand.__class__, secrets.SystemRandom)
drawn = [secrets.randbits(128), uuid.uuid4().int, int.from_bytes(os.urandom(16), "big"), secrets.token_hex()]
print(len(set(map(str, drawn))))
""",
    "environment": """
import os, sys
before = dict(os.environ)
{load}
print({{name for name in os.environ.keys() ^ before.keys()}}, os.environ == before, len(sys.meta_path) < 12)
""",
}


def run(script: Path, *, guest: bool) -> str:
    environment = {**os.environ, "GUEST": str(int(guest)), "NUMBA_DISABLE_PERFORMANCE_WARNINGS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PROBES)
def test_probe_finds_what_it_finds_without_the_guest(name, tmp_path):
    if name in {"cloudpickle", "dill", "numba", "dask", "torch"}:
        pytest.importorskip(name)
    script = tmp_path / "probe.py"
    script.write_text(PROBES[name].format(load=LOAD))
    with_guest, without = run(script, guest=True), run(script, guest=False)
    assert with_guest == without
    assert without.strip()
