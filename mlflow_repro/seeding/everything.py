"""Seed everything by one number, now and later; derive the seeds of a sweep's trials from the seed of the sweep."""

from __future__ import annotations

import hashlib
import operator
import random  # noqa: F401 - what is not loaded is not seeded, and Python's generator always is
import time
from typing import Any

from mlflow_repro.seeding.entropy import Entropy, adopt_entropy, feed_numpy, process_entropy, root_from_seed
from mlflow_repro.seeding.libraries import find_caller, find_namespace, on_library_loaded, seed_library
from mlflow_repro.seeding.log import Generator, SeedCall, process_log

SEED_LIMIT = 1 << 32
"""Seeds are below this: numpy's legacy generator takes 32 bits."""

_EXPERIMENT_LIMIT = 1 << 63
_GENERATORS: dict[str, Generator] = {
    "random": "python",
    "numpy.random": "numpy",
    "tensorflow": "tensorflow",
    "torch": "torch",
}
_KERAS_STATE = "keras.src.backend.common.global_state"


def seed_everything(seed: int) -> None:
    """Seed all random generators of this process with ``seed``, an integer from 0 to 2**32-1.

    Python's ``random``, numpy's legacy generator, TensorFlow with Keras, torch with all its devices: those that are
    imported now, and each of the others when it is imported. What this process makes without a seed
    (``numpy.random.default_rng()``, the global `tf.random.Generator`) follows from the same number. It is recorded as a
    seed that the program has set, also in a run that starts later.

    With its global seed TensorFlow repeats itself within one process, too: ``fit(shuffle=True)`` takes the same order
    in every epoch, and each `tf.function` has the same stream (`tf.random.set_seed` tells why).

    Not seeded: generators that exist already (``default_rng()`` and `torch.Generator` objects, layers of Keras), other
    processes (a worker that would take its parent's seed would draw its parent's numbers: seed each with
    ``derive_seed(seed, "worker", number)``), ``random.seed()`` without a number, and hashes of strings (start Python
    with ``PYTHONHASHSEED=0``).

    Raises ValueError when ``seed`` is not such an integer; then nothing is changed.
    """
    value = _check_integer("seed", seed, SEED_LIMIT)
    entropy, root = process_entropy(), root_from_seed(value)
    if entropy is None:
        entropy = Entropy(root)
    entropy.put_position({"root": root.hex()})
    adopt_entropy(entropy)
    where = find_caller()
    on_library_loaded("seed_everything", lambda library: _seed_library(library, value, where))
    _restart_keras(value)
    for library in _GENERATORS:
        _seed_library(library, value, where)


def derive_seed(experiment_seed: int, *path: int | str) -> int:
    """Derive the seed of one part of an experiment, such as ``derive_seed(seed, "trial", 7)``: 0 to 2**31-1.

    Equal arguments give equal seeds on every platform; different paths give seeds that are independent of each other
    and of ``experiment_seed``. The path is positional: ``("a", "b")`` and ``("b", "a")`` are two. Of 1,000 paths two
    have the same seed with a probability of 0.02 %, of 10,000 with 2 % (31 bits, birthdays).

    The formula: the first 32 bits that ``numpy.random.SeedSequence(experiment_seed, spawn_key=words)`` generates,
    without the lowest one. ``words`` has one number for each integer of the path, and for each text the eight 32-bit
    words, big-endian, of the SHA-256 of its UTF-8 form. So ``derive_seed(s, i)`` comes from the same sequence as
    ``SeedSequence(s).spawn(n)[i]``. Sources: numpy's ``SeedSequence``, whose output is guaranteed never to change
    (NEP 19; M. E. O'Neill, "Developing a seed_seq Alternative", 2015); the range is that of Determined's trial seeds.

    Raises ValueError when ``experiment_seed`` is not an integer from 0 to 2**63-1, or a part of the path neither an
    integer from 0 to 2**32-1 nor a text.
    """
    entropy = _check_integer("experiment_seed", experiment_seed, _EXPERIMENT_LIMIT)
    words = tuple(word for part in path for word in _to_words(part))
    from numpy.random import SeedSequence

    return int(SeedSequence(entropy, spawn_key=words).generate_state(1)[0]) >> 1


def _to_words(part: int | str) -> tuple[int, ...]:
    if isinstance(part, str):
        try:
            digest = hashlib.sha256(part.encode()).digest()
        except UnicodeEncodeError as error:
            raise ValueError(f"a part of the path must be a text that UTF-8 can write: {part!r}") from error
        return tuple(int.from_bytes(digest[start : start + 4], "big") for start in range(0, 32, 4))
    return (_check_integer("a part of the path", part, SEED_LIMIT),)


def _check_integer(name: str, value: object, limit: int) -> int:
    """``value`` as an int (numpy's integers are, too). Raises ValueError when it is none or out of range."""
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if not 0 <= number < limit:
        raise ValueError(f"{name} must be an integer from 0 to 2**{limit.bit_length() - 1}-1, not {value!r}")
    return number


def _seed_library(library: str, seed: int, where: str) -> None:
    """Seed the generator of ``library`` if that is loaded, and record it as the call that it stands for."""
    entropy, log = process_entropy(), process_log()
    if library == "numpy.random" and entropy is not None:
        feed_numpy(entropy)
    if library == "tensorflow" and entropy is not None:
        from mlflow_repro.seeding.tensorflow_draws import feed_tensorflow, restart_draws

        if feed_tensorflow(entropy, log):
            restart_draws()
    generator = _GENERATORS[library]
    if seed_library(generator, seed):
        log.record(SeedCall(generator, str(seed), time.time(), where, "called"))


def _restart_keras(seed: int) -> None:
    """Let Keras begin its own global generator anew, as ``keras.utils.set_random_seed`` does.

    That function itself would import TensorFlow where Keras runs on another backend.
    """
    names: dict[str, Any] = find_namespace(_KERAS_STATE) or {}
    put = names.get("set_global_attribute")
    if put is not None:
        put("global_random_seed", seed)
        put("global_seed_generator", None)
