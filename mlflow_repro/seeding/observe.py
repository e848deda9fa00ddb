"""See which seeds a program set, without disturbing it.

Three ways, because the program may seed before or after this code is loaded:

* *called*: the module-level seeding functions are wrapped (`watch_generators`, `watch_imports`);
* *recovered*: the seed is computed from the present state of Python's and numpy's Mersenne Twisters;
* *read*: TensorFlow and torch can be asked.

Everything here runs inside somebody else's training process. It imports no numpy, TensorFlow or torch, draws
no number, changes no state, and raises nothing.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, Literal

from mlflow_repro.seeding.log import NO_SEED, Generator, SeedCall, SeedLog, describe_seed, shorten_digest
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.watch import find_namespace
from mlflow_repro.system.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Twists to look back: for a seed that nobody saw being set, and for one that supersedes what the log says.
_REWINDS = 128
_REWINDS_AFTER_CALL = 8
_STATE_VERSION = 3  # of random.getstate(), since Python 3.2


def current_calls(log: SeedLog) -> dict[str, SeedCall]:
    """Say for each generator by which observation its present seed is known; without those that have none.

    A generator that was seeded from the operating system, by default or by ``seed(None)``, has none. What the
    state or the library says now takes precedence over a logged call that it contradicts (a seeding through a
    name that was imported before it was wrapped, or a state that was put back). New observations are recorded
    in ``log``. Costs about 0.1 ms when nothing was drawn since the last time; at worst, once, for unseeded
    generators that were drawn from, about 3 ms each for Python and numpy. Raises nothing.
    """
    calls: dict[str, SeedCall] = {}
    for generator, look in _LOOKS.items():
        with harmless():
            call = last = log.find_last(generator)
            with harmless():
                call = look(log, last)
            if call is not None and call.value != NO_SEED:
                calls[generator] = call
    return calls


def current_seeds(log: SeedLog) -> dict[str, str]:
    """Say the present seed of each generator that has one: ``{"python": "42", ...}``; see `current_calls`."""
    return {generator: call.value for generator, call in current_calls(log).items()}


def _look_at_python(log: SeedLog, last: SeedCall | None) -> SeedCall | None:
    namespace = find_namespace("random")
    if namespace is None:
        return last
    version, words, _ = namespace["getstate"]()
    return _look_at_twister(log, "python", words[:-1], words[-1], last) if version == _STATE_VERSION else last


def _look_at_numpy(log: SeedLog, last: SeedCall | None) -> SeedCall | None:
    namespace = find_namespace("numpy.random.mtrand")
    state = None if namespace is None else namespace["get_state"](legacy=False)
    if state is None or state["bit_generator"] != "MT19937":
        return last
    twister = state["state"]
    return _look_at_twister(log, "numpy", tuple(twister["key"].tolist()), int(twister["pos"]), last)


def _look_at_twister(
    log: SeedLog,
    generator: Literal["python", "numpy"],
    words: Sequence[int],
    position: int,
    last: SeedCall | None,
) -> SeedCall | None:
    examined = log.find_examined(generator)
    if examined is not None and examined[0] == words:
        seed = examined[1]
    else:
        rewinds = _REWINDS if last is None else _REWINDS_AFTER_CALL
        seed = recover_seed(words, position, kind=generator, max_rewinds=rewinds, earlier=examined)
        log.record_examined(generator, words, seed)
    if seed is None or (last is not None and _agrees(last, seed)):
        return last
    return _record(log, generator, _describe_recovered(seed), "recovered")


def _agrees(last: SeedCall, seed: int) -> bool:
    """Say whether ``last`` can be the call that seeded with ``seed``; a text or an array is taken to be."""
    try:
        return abs(int(last.value)) == seed
    except ValueError:
        return last.value != NO_SEED and (last.how == "called" or last.value == _describe_recovered(seed))


def _describe_recovered(seed: int) -> str:
    """Describe a recovered seed; of a text, ``random.seed`` makes an integer that ends in its SHA-512."""
    content = seed.to_bytes((seed.bit_length() + 7) // 8, "big")
    text, digest = content[:-64], content[-64:]
    if hashlib.sha512(text).digest() != digest:
        return describe_seed(seed)
    try:
        return describe_seed(text.decode())
    except UnicodeDecodeError:
        return describe_seed(text)


def _look_at_tensorflow(log: SeedLog, last: SeedCall | None) -> SeedCall | None:
    """Read the eager context's seed where there is a context; `context()` would make one."""
    namespace = find_namespace("tensorflow.python.eager.context") or {}
    seed = getattr(namespace.get("_context"), "_seed", None)
    # Never set, or set for a graph (compat.v1), where only the call tells; or set by us.
    if seed is None or seed == log.assigned.get("tensorflow"):
        return last
    value = describe_seed(seed)
    return last if last is not None and last.value == value else _record(log, "tensorflow", value, "read")


def _look_at_torch(log: SeedLog, last: SeedCall | None) -> SeedCall | None:
    """Ask torch for its initial seed, which it always has; one below 2**32 is taken to have been set.

    torch seeds its default generator from the operating system at import
    (``c10::detail::getNonDeterministicRandom`` in ``at::detail::getDefaultCPUGenerator``), with 53 random
    bits, newer versions with 64: at most one in 2**21 such processes is taken for seeded. ``initial_seed``
    gives a negative seed modulo 2**64.
    """
    namespace = find_namespace("torch.random")
    if namespace is None or "initial_seed" not in namespace:
        return last
    seed = int(namespace["initial_seed"]())
    if last is not None and last.value != NO_SEED and int(last.value) % (1 << 64) == seed:
        return last
    return _record(log, "torch", str(seed), "read") if seed < 1 << 32 else None


def _record(log: SeedLog, generator: Generator, value: str, how: Literal["recovered", "read"]) -> SeedCall:
    call = SeedCall(generator, value, time.time(), "", how)
    log.record(call)
    return call


_LOOKS: dict[Generator, Callable[[SeedLog, SeedCall | None], SeedCall | None]] = {
    "python": _look_at_python,
    "numpy": _look_at_numpy,
    "tensorflow": _look_at_tensorflow,
    "torch": _look_at_torch,
}


def digest_states(states: Mapping[str, object]) -> dict[str, str]:
    """Digest the states that `take_states` has taken, by the names of their generators.

    16 hexadecimal digits of SHA-256 over the whole state: words, position and the spare normal number.
    Processes that seeded alike and drew alike have the same digests, on every platform. Raises nothing.
    """
    digests: dict[str, str] = {}
    for generator, state in states.items():
        with harmless():
            digests[generator] = shorten_digest(repr(_to_plain(state)).encode())
    return digests


def _to_plain(state: Any) -> object:
    """Turn a state into plain values in a fixed order."""
    if isinstance(state, dict):
        return sorted((name, _to_plain(value)) for name, value in state.items())
    return state.tolist() if hasattr(state, "tolist") else state
