"""Make a program's randomness repeatable without changing it: record where it starts, and put that back on request.

Three modes, chosen by ``MLFLOW_REPRO_SEED``:

* ``auto`` (the default): nothing is seeded that the user would notice. The states of Python's and numpy's generators
  are taken when mlflow is imported and when a run starts. Entropy for numpy's unseeded generators comes from a recorded
  root (`entropy`), and so do the seeds that TensorFlow's operations take (`tensorflow_draws`). torch, when nobody has
  seeded it, gets a random seed that is recorded.
* an integer: everything is seeded with it, as if the program had begun with that.
* ``off``: seeds that the program sets are still seen, nothing else happens.

A reproduction gives the recorded values to its processes by files (`restoring`). Workers of a process get streams that
are derived from its own, and not the same again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding import state as states
from mlflow_repro.seeding.entropy import (
    ROOT_VARIABLE,
    STATE_BITS,
    Entropy,
    adopt_entropy,
    feed_numpy,
    fill_python,
    new_root,
    process_entropy,
    root_from_seed,
)
from mlflow_repro.seeding.state import SCHEMA, digest_arguments, script_name, take_random_state
from mlflow_repro.seeding.watch import on_library_loaded, seed_unwatched

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.seeding.log import SeedLog

MODE_VARIABLE = "MLFLOW_REPRO_SEED"
_FRAMEWORKS = ("tensorflow", "torch")
# As multiprocessing and joblib name the n-th child of a process; a child's child has two numbers.
_WORKER_NAME = re.compile(r"(?:Spawn|ForkServer|Loky)(?:Process|PoolWorker)-(\d+(?::\d+)*)")
_NUMPY_SEEDS = 1 << 32
_ROOT_DIGITS = 16  # of the digest that tells two roots apart


class RandomControl:
    """What this process's randomness began with, and what is put back in a reproduction."""

    def __init__(self, log: SeedLog, environ: Mapping[str, str] | None = None) -> None:
        """Raises ValueError when ``MLFLOW_REPRO_SEED`` is neither a mode nor an integer from 0 to 2**63-1."""
        environ = os.environ if environ is None else environ
        self.seed = _read_mode(environ.get(MODE_VARIABLE, ""))
        self.is_off = self.seed == "off"
        self.restored: list[str] = []
        self._log = log
        inherited = _inherited_root()
        self._is_worker = inherited is not None
        self._restore = {} if self.is_off or self._is_worker else take_random_state()
        self.entropy = process_entropy() or Entropy(self._choose_root(inherited))
        self._root = self.entropy.root.hex()  # `seed_everything` begins another one
        self._at_import: dict[str, object] = {}
        self._at_first_run: dict[str, object] = {}

    def begin(self) -> None:
        """Called once, when mlflow is being imported."""
        if self.is_off:
            return
        self._seed_start("python")
        self._seed_start("numpy")
        self._put_back("import", ("python", "numpy"))
        self._at_import = states.take_states()
        adopt_entropy(self.entropy)
        for framework in _FRAMEWORKS:
            if framework in sys.modules:
                self._framework_loaded(framework)
        on_library_loaded("control", self._library_loaded)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._enter_child)

    def run_started(self, index: int) -> dict[str, Any]:
        """Called when the ``index``-th run of this process has started; returns the random state to record.

        The state of this moment is put back first when there is one: MLflow may have drawn from the user's
        generator to name the run, and does not in a process that resumes one.
        """
        if self.is_off:
            return {}
        if index == 0:
            self._put_back("first_run", ("python", "numpy"))
        if index == self._restore.get("run_index", 0):
            self._put_back("run", ("python", "numpy"))
        now = states.take_states()
        if index == 0:
            self._at_first_run = now
        return {
            "schema": SCHEMA,
            "root": self._root,
            "place": list(self.entropy.place),
            "assigned": dict(self._log.assigned),
            "run_index": index,
            "script": script_name(),
            "arguments": digest_arguments(),
            "states": {"import": self._at_import, "first_run": self._at_first_run, "run": now},
        }

    def describe(self) -> dict[str, Any]:
        """What there is to know about this process's randomness, as plain values."""
        from mlflow_repro.seeding.determinism import achieved_determinism

        return {
            "mode": self.seed,
            "assigned": dict(self._log.assigned),
            "restored": list(self.restored),
            "calls": [asdict(call) for call in self._log.calls],
            "calls_not_listed": self._log.dropped,
            "not_repeatable": list(self._log.unrepeatable),
            "entropy": {
                "root": hashlib.sha256(self.entropy.root).hexdigest()[:_ROOT_DIGITS],
                "drawn": self.entropy.take_position()["drawn"],
                "asked": self.entropy.asked,
                "users": sorted(self.entropy.users.copy()),
            },
            "determinism": achieved_determinism(),
        }

    def _choose_root(self, inherited: bytes | None) -> bytes:
        if "root" in self._restore:
            return bytes.fromhex(self._restore["root"])
        if inherited is not None:
            return inherited
        return root_from_seed(self.seed) if isinstance(self.seed, int) else new_root()

    def _seed_start(self, generator: str) -> None:
        """Where it is wanted, seed one of Python's and numpy's generators: by the user's integer, or in a worker."""
        if not (self._is_worker or isinstance(self.seed, int)) or self._is_seeded(generator):
            return
        # In a worker, Python and numpy took the operating system's entropy; the same from our root can be given again.
        if self._is_worker and generator == "python":
            fill_python(self.entropy.derive("start", generator, bits=STATE_BITS))
        elif self._is_worker:
            words = [self.entropy.derive("start", generator, str(number), bits=32) for number in range(16)]
            seed_unwatched(generator, words)
        elif isinstance(self.seed, int):
            seed_unwatched(generator, self.seed % _NUMPY_SEEDS if generator == "numpy" else self.seed)

    def _put_back(self, moment: str, generators: tuple[str, ...]) -> None:
        recorded = self._restore.get("states", {}).get(moment, {})
        wanted = {name: recorded[name] for name in generators if name in recorded}
        if wanted:
            self.restored += [f"{moment}:{name}" for name in states.restore_states(wanted)]

    def _library_loaded(self, module: str) -> None:
        """Called after ``numpy.random``, ``tensorflow`` or ``torch`` was imported."""
        if module == "numpy.random":
            self._seed_start("numpy")
            self._put_back("import", ("numpy",))
            feed_numpy(self.entropy)
            self._at_import.setdefault("numpy", states.take_states().get("numpy"))
        elif module in _FRAMEWORKS:
            self._framework_loaded(module)

    def _framework_loaded(self, framework: str) -> None:
        if framework == "tensorflow":
            from mlflow_repro.seeding.tensorflow_draws import feed_tensorflow

            feed_tensorflow(self.entropy, self._log)
        self._assign_seed(framework)

    def _assign_seed(self, framework: str) -> None:
        """Give ``framework`` a recorded seed, unless the program has seeded it.

        Of itself only torch gets one, in the way in which it would have taken it from the operating system: each
        device another. What a global seed does to TensorFlow is told in `tensorflow_draws`.
        """
        if framework in self._log.assigned or self._is_seeded(framework):
            return
        if isinstance(self.seed, int):
            if seed_unwatched(framework, self.seed):
                self._log.assigned[framework] = self.seed
        elif framework == "torch":
            from mlflow_repro.seeding.torch_devices import seed_torch_devices

            seed = self._restore.get("assigned", {}).get(framework)
            if seed is None:
                # 63 bits. A torch seed below 2**32 is taken for one that a person chose.
                seed = self.entropy.derive(framework, bits=62) | 1 << 62
            if seed_torch_devices(seed):
                self._log.assigned[framework] = seed

    def _is_seeded(self, framework: str) -> bool:
        from mlflow_repro.seeding.observe import current_seeds

        return framework in current_seeds(self._log)

    def _enter_child(self) -> None:
        """After a fork: what is put back was this process's parent's."""
        self._restore = {}


def encode_random_state(record: dict[str, Any]) -> dict[str, Any]:
    """The record of `RandomControl.run_started` with its states as plain values, each stored once."""
    encoded = {moment: states.encode_states(taken) for moment, taken in record["states"].items()}
    return {**record, "states": encoded}


def _read_mode(text: str) -> str | int:
    word = text.strip().lower()
    if word in ("", "auto"):
        return "auto"
    if word == "off":
        return "off"
    if word.isascii() and word.isdigit() and int(word) < 1 << 63:
        return int(word)
    raise ValueError(f"{MODE_VARIABLE} is {text!r}: it must be off, auto or an integer from 0 to 2**63-1")


def _inherited_root() -> bytes | None:
    """For a worker of `multiprocessing`: a root derived from its parent's and its own number there.

    Only a process that was named by `multiprocessing` itself is known to have a number that no other has. Any other
    child process gets a root of its own.
    """
    process = sys.modules.get("multiprocessing.process")
    name = process.current_process().name if process is not None else ""
    number = _WORKER_NAME.fullmatch(name)
    inherited = os.environ.get(ROOT_VARIABLE, "")
    if not (number and inherited):
        return None
    with contextlib.suppress(ValueError):
        parent = Entropy(bytes.fromhex(inherited))
        size = len(parent.root)
        return parent.derive("worker", number[1], bits=8 * size).to_bytes(size, "big")
    return None
