"""Make a program's randomness repeatable without changing it: record what it begins with, put that back on request.

Three modes, chosen by ``MLFLOW_REPRO_SEED``:

* ``auto`` (the default): nothing that the program draws from is seeded or set. The states of Python's, numpy's and
  torch's generators are read when mlflow is imported, when a run starts, and in each worker and forked child. The
  entropy of numpy's unseeded generators comes from a root that this process drew for itself (`entropy`), and so do the
  seeds that TensorFlow's operations take (`tensorflow_draws`).
* an integer: everything that nobody has seeded is seeded with it, as if the program had begun with that.
* ``off``: seeds that the program sets are still seen, nothing else happens.

A reproduction gives each of its processes the states of the process that corresponds to it (`restoring`), and never
over a seed that the program sets itself (`origin`).
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding import state as states
from mlflow_repro.seeding.entropy import Entropy, adopt_entropy, feed_numpy, new_root, process_entropy, root_from_seed
from mlflow_repro.seeding.libraries import on_library_loaded, seed_library, seed_torch_devices
from mlflow_repro.seeding.origin import drew_early, explain_refusal, find_origin
from mlflow_repro.seeding.restoring import SCHEMA, digest_arguments, script_name, take_random_state
from mlflow_repro.system.harmless import harmless
from mlflow_repro.system.spool import is_worker, process_key, report_process

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.seeding.log import SeedLog

MODE_VARIABLE = "MLFLOW_REPRO_SEED"
_FRAMEWORKS = ("tensorflow", "torch")
_NUMPY_SEEDS = 1 << 32
_ROOT_DIGITS = 16  # of the digest that tells two roots apart
_MOMENTS = ("import", "first_run", "run")


class RandomControl:
    """What this process's randomness began with, and what is put back in a reproduction."""

    def __init__(self, log: SeedLog, environ: Mapping[str, str] | None = None) -> None:
        """Raises ValueError when ``MLFLOW_REPRO_SEED`` is neither a mode nor an integer from 0 to 2**63-1."""
        environ = os.environ if environ is None else environ
        self.seed = _read_mode(environ.get(MODE_VARIABLE, ""))
        self.is_off = self.seed == "off"
        self.restored: list[str] = []
        self.refused: dict[str, str] = {}
        """Why a recorded state was not put back, by moment and generator: the program's own will stands."""
        self._log = log
        self._restore = {} if self.is_off else take_random_state(process_key())
        self.entropy = process_entropy() or Entropy(self._choose_root())
        self._restore_root()
        self._root = self.entropy.root.hex()  # `seed_everything` begins another one
        self._taken: dict[str, dict[str, Any]] = {}
        self._early: list[str] | None = None
        self._made_from: dict[str, int | None] = {}

    def begin(self) -> None:
        """Called once, when mlflow is being imported."""
        if self.is_off:
            return
        for generator in states.GENERATORS:
            self._seed_start(generator)
        self._put_back("import", states.GENERATORS)
        self._taken["import"] = self._take()
        adopt_entropy(self.entropy)
        for framework in _FRAMEWORKS:
            if framework in sys.modules:
                self._library_loaded(framework)
        on_library_loaded("control", self._library_loaded)
        if process_key():
            self._report()
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
            self._put_back("first_run", states.GENERATORS)
        if index == self._restore.get("run_index", 0):
            self._put_back("run", states.GENERATORS)
        self._taken["run"] = self._take()
        if index == 0:
            self._taken["first_run"] = self._taken["run"]
        return {
            **self._describe_process(),
            "assigned": dict(self._log.assigned),
            "run_index": index,
            "states": {moment: self._taken[moment] for moment in _MOMENTS if moment in self._taken},
        }

    def describe(self) -> dict[str, Any]:
        """What there is to know about this process's randomness, as plain values."""
        from mlflow_repro.seeding.determinism import achieved_determinism

        return {
            "mode": self.seed,
            "assigned": dict(self._log.assigned),
            "restored": list(self.restored),
            "not_restored": dict(self.refused),
            "calls": [asdict(call) for call in self._log.calls],
            "calls_not_listed": self._log.dropped,
            "not_repeatable": list(self._log.unrepeatable),
            "drew_early": self._list_early(),
            "entropy": {
                "root": hashlib.sha256(self.entropy.root).hexdigest()[:_ROOT_DIGITS],
                "drawn": self.entropy.drawn,
                "asked": self.entropy.asked,
                "users": sorted(self.entropy.users.copy()),
            },
            "determinism": achieved_determinism(),
        }

    def _list_early(self) -> list[str]:
        """The generators that were drawn from before mlflow was imported, and that nobody had seeded."""
        if self._early is None:
            self._early = []
            taken = states.encode_states(self._taken.get("import", {}))
            for generator in ("python", "numpy"):
                with harmless():
                    if generator in taken and drew_early(generator, taken[generator]):
                        self._early.append(generator)
        return self._early

    def _describe_process(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "root": self._root,
            "key": process_key(),
            "script": script_name(),
            "arguments": digest_arguments(),
        }

    def _restore_root(self) -> None:
        if "root" in self._restore:
            self.entropy.put_position({name: self._restore[name] for name in ("root", "schema")})

    def _choose_root(self) -> bytes:
        return root_from_seed(self.seed) if isinstance(self.seed, int) and not is_worker() else new_root()

    def _seed_start(self, generator: str) -> None:
        """Seed a generator by the integer that the user has given, unless somebody has seeded it or drawn from it.

        A worker is left alone: with its parent's seed it would draw its parent's numbers.
        """
        if not isinstance(self.seed, int) or is_worker():
            return
        present = states.encode_states(self._take()).get(generator)
        if present is not None and find_origin(generator, [present]).kind == "system":
            seed = self.seed % _NUMPY_SEEDS if generator == "numpy" else self.seed
            if seed_library(generator, seed):
                self._log.assigned[generator] = seed

    def _take(self) -> dict[str, Any]:
        """The present states; of a numpy that was given another one, with the entropy that this one was made from."""
        taken = states.take_states()
        if taken.get("numpy", {}).get("entropy") is not None:
            taken["numpy"].update(self._made_from)
        return taken

    def _put_back(self, moment: str, generators: tuple[str, ...]) -> None:
        """Put back what was recorded of ``moment``, where the program has not decided otherwise."""
        recorded: Mapping[str, Any] = self._restore.get("states", {})
        wanted = {name: state for name, state in recorded.get(moment, {}).items() if name in generators}
        if not wanted:
            return
        present = states.encode_states(self._take())
        before = [states.encode_states(self._taken[name]) for name in _MOMENTS[:1] if name in self._taken]
        for name, state in wanted.items():
            if name not in present or state == present[name]:
                continue
            theirs = [recorded.get("import", {}).get(name), state] if moment != "import" else [state]
            own = [*(taken.get(name) for taken in before), present[name]]
            refusal = explain_refusal(
                name,
                [one for one in theirs if one is not None],
                [one for one in own if one is not None],
                is_same_launch=not self._restore.get("is_changed", False),
            )
            if refusal is None:
                self.restored += [f"{moment}:{one}" for one in states.restore_states({name: state})]
                if name == "numpy":
                    self._made_from = {"entropy": state.get("entropy")}
            else:
                self.refused[f"{moment}:{name}"] = refusal

    def _library_loaded(self, module: str) -> None:
        """Called after ``numpy.random``, ``tensorflow`` or ``torch`` was imported."""
        if module == "tensorflow":
            from mlflow_repro.seeding.tensorflow_draws import feed_tensorflow

            feed_tensorflow(self.entropy, self._log)
            self._seed_tensorflow()
            return
        generator = "numpy" if module == "numpy.random" else module
        self._seed_start(generator)
        self._put_back("import", (generator,))
        if generator == "numpy":
            feed_numpy(self.entropy)
        else:
            self._seed_torch_as_before()
        taken = self._take()
        if generator in taken:
            self._taken["import"].setdefault(generator, taken[generator])

    def _seed_tensorflow(self) -> None:
        """By the integer that the user has given. Of itself TensorFlow gets no global seed: see `tensorflow_draws`."""
        if isinstance(self.seed, int) and not is_worker() and "tensorflow" not in self._log.assigned:
            context = sys.modules.get("tensorflow.python.eager.context")
            if getattr(getattr(context, "_context", None), "_seed", None) is None:
                seed_library("tensorflow", self.seed)
                self._log.assigned["tensorflow"] = self.seed

    def _seed_torch_as_before(self) -> None:
        """Give torch the seed that a record of schema 1 has, when it gave unseeded torch one of its own."""
        seed = self._restore.get("assigned", {}).get("torch") if self._restore.get("schema") == 1 else None
        present = states.encode_states(self._take()).get("torch")
        is_unseeded = present is not None and find_origin("torch", [present]).kind == "system"
        if seed is not None and is_unseeded and seed_torch_devices(seed):
            self.restored.append("import:torch")

    def _report(self) -> None:
        """Tell the launch what this process, a worker or another program, has begun with."""
        taken = states.encode_states(self._taken.get("import", {}))
        report_process({**self._describe_process(), "states": {"import": taken}})

    def _enter_child(self) -> None:
        """After a fork: Python has seeded its generator from the operating system, and numpy gets another root.

        What was to be put back was the parent's; in a reproduction there may be something for this child.
        """
        with harmless():
            self._restore, self._taken, self.refused, self.restored = {}, {}, {}, []
            self._restore = take_random_state(process_key())
            self._restore_root()
            self._root = self.entropy.root.hex()
            self._put_back("import", ("python",))
            self._taken["import"] = self._take()
            report = {"python": self._taken["import"]["python"]}
            facts = {**self._describe_process(), "states": {"import": states.encode_states(report)}}
            report_process(facts)


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
