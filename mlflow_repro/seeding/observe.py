"""See which seeds a program set, without disturbing it.

Nothing is wrapped: the seed is computed from the state of Python's and numpy's Mersenne Twisters (*recovered*), or
asked of TensorFlow and torch (*read*). Only `seed_everything`, which is ours, says by itself what it did (*called*).

Everything here runs inside somebody else's training process. It imports no numpy, TensorFlow or torch, draws
no number, changes no state, and raises nothing.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any, Literal

from mlflow_repro.seeding.libraries import find_namespace
from mlflow_repro.seeding.log import NO_SEED, Generator, SeedCall, SeedLog, describe_seed, shorten_digest
from mlflow_repro.seeding.mt19937 import recover_seed
from mlflow_repro.seeding.state import take_states
from mlflow_repro.system.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mlflow_repro.seeding.mt19937 import Seed

# Twists to look back: for a seed that nobody saw being set, and for one that supersedes what the log says.
_REWINDS = 1_000
_REWINDS_AFTER_CALL = 100
_STATE_VERSION = 3  # of random.getstate(), since Python 3.2
_PERSON_LIMIT = 1 << 32
_INITIAL_WORD = 0x80000000  # word 0 of a Mersenne Twister that was made from many words, before it first twists


def current_calls(log: SeedLog, states: Mapping[str, Any] | None = None) -> dict[str, SeedCall]:
    """Say for each generator by which observation its seed is known; without those that have none.

    ``states`` are those of `take_states`, by default the present ones. What a state or a library says takes precedence
    over an earlier observation that it contradicts. New observations are recorded in ``log``. Costs about 0.1 ms when
    nothing was drawn since the last time; at worst, once, for generators that drew much or were never seeded, about
    20 ms each for Python and numpy: not for the thread of the training. Raises nothing.
    """
    states = take_states() if states is None else states
    calls: dict[str, SeedCall] = {}
    for generator, look in _LOOKS.items():
        with harmless():
            call = last = log.find_last(generator)
            with harmless():
                call = look(log, states, last)
            if call is not None and call.value != NO_SEED:
                calls[generator] = call
    return calls


def current_seeds(log: SeedLog, states: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Say the seed of each generator that has one: ``{"python": "42", ...}``; see `current_calls`."""
    return {generator: call.value for generator, call in current_calls(log, states).items()}


def _look_at_python(log: SeedLog, states: Mapping[str, Any], last: SeedCall | None) -> SeedCall | None:
    if "python" not in states:
        return last
    version, words, _ = states["python"]
    return _look_at_twister(log, "python", words[:-1], words[-1], last) if version == _STATE_VERSION else last


def _look_at_numpy(log: SeedLog, states: Mapping[str, Any], last: SeedCall | None) -> SeedCall | None:
    state = states.get("numpy")
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
    if seed is None and words[0] == _INITIAL_WORD and last is not None:
        return _record(log, generator, NO_SEED, "recovered")  # seeded anew, from the operating system
    if seed is None or (last is not None and _agrees(last, seed)):
        return last
    if seed == log.assigned.get(generator):
        return None  # ours, by the user's variable
    return _record(log, generator, _describe_recovered(seed), "recovered")


def _agrees(last: SeedCall, seed: Seed) -> bool:
    """Say whether ``last`` can be the call that seeded with ``seed``; a text is taken to be."""
    try:
        return isinstance(seed, int) and abs(int(last.value)) == seed
    except ValueError:
        return last.value == _describe_recovered(seed) or (last.value != NO_SEED and last.how == "called")


def _describe_recovered(seed: Seed) -> str:
    """Describe a recovered seed; of a text, ``random.seed`` makes an integer that ends in its SHA-512."""
    if not isinstance(seed, int):
        return describe_seed(seed)
    content = seed.to_bytes((seed.bit_length() + 7) // 8, "big")
    text, digest = content[:-64], content[-64:]
    if hashlib.sha512(text).digest() != digest:
        return describe_seed(seed)
    try:
        return describe_seed(text.decode())
    except UnicodeDecodeError:
        return describe_seed(text)


def _look_at_tensorflow(log: SeedLog, _: Mapping[str, Any], last: SeedCall | None) -> SeedCall | None:
    """Read the eager context's seed where there is a context; `context()` would make one."""
    namespace = find_namespace("tensorflow.python.eager.context") or {}
    context = namespace.get("_context")
    if context is None:
        return last
    seed = getattr(context, "_seed", None)
    # Never set, or set for a graph (compat.v1), where only the call tells; or set by us.
    if seed is None or seed == log.assigned.get("tensorflow"):
        return None
    value = describe_seed(seed)
    return last if last is not None and last.value == value else _record(log, "tensorflow", value, "read")


def _look_at_torch(log: SeedLog, states: Mapping[str, Any], last: SeedCall | None) -> SeedCall | None:
    """Ask torch for its initial seed, which it always has, and whether somebody gave it.

    Where torch does not tell that, a seed below 2**32 is taken to have been given. ``initial_seed`` gives a negative
    seed modulo 2**64.
    """
    state = states.get("torch")
    if state is None:
        return last
    seed = state["seed"]
    if last is not None and last.value != NO_SEED and int(last.value) % (1 << 64) == seed:
        return last
    is_seeded = state["is_seeded"] if state["is_seeded"] is not None else seed < _PERSON_LIMIT
    if not (is_seeded or seed < _PERSON_LIMIT) or seed == log.assigned.get("torch"):
        return None
    return _record(log, "torch", str(seed), "read")


def _record(log: SeedLog, generator: Generator, value: str, how: Literal["recovered", "read"]) -> SeedCall:
    call = SeedCall(generator, value, time.time(), "", how)
    log.record(call)
    return call


_LOOKS: dict[Generator, Callable[[SeedLog, Mapping[str, Any], SeedCall | None], SeedCall | None]] = {
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
        return sorted((name, _to_plain(value)) for name, value in state.items() if name not in ("entropy", "is_seeded"))
    if isinstance(state, list):
        return [_to_plain(value) for value in state]
    return state.tolist() if hasattr(state, "tolist") else state
