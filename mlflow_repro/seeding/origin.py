"""Where a generator's state comes from, and whether a recorded one may be put in its place.

A reproduction gives a generator that nobody has seeded the state that it had in the reference. It must never overrule
the program: where that has seeded differently than it had in the reference, its own state stands. All of this is read
from states; nothing in the program is watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlflow_repro.seeding.libraries import find_namespace
from mlflow_repro.seeding.log import describe_seed
from mlflow_repro.seeding.mt19937 import count_draws, recover_seed
from mlflow_repro.seeding.state import State, decode_twister

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# MLflow names a run that it makes by three draws from Python's generator, and does not name one that it resumes.
_NAMING_WORDS = 64
_INITIAL_WORD = 0x80000000  # word 0 of a Mersenne Twister that was made from many words, before it first twists
_FIRST_POSITIONS = {"python": 624, "numpy": 623}
_PERSON_LIMIT = 1 << 32
_NAMES = {"python": "Python's random", "numpy": "numpy's global generator", "torch": "torch's generator"}


@dataclass(frozen=True, kw_only=True)
class Origin:
    """``system``: the operating system's entropy, by nobody's call; ``seed``: that number or text; else ``unknown``."""

    kind: Literal["system", "seed", "unknown"]
    seed: str = ""


_SYSTEM, _UNKNOWN = Origin(kind="system"), Origin(kind="unknown")


def find_origin(generator: str, states: Sequence[State]) -> Origin:
    """Say where the last of ``states`` comes from; those before it are earlier ones of the same process.

    Takes microseconds for a generator that was not drawn from, at most some 15 ms. Raises ValueError when it is no
    state.
    """
    if generator == "torch":
        return _find_torch_origin(states)
    state, before = states[-1], states[:-1]
    words, position, _ = decode_twister(state)
    kind: Literal["python", "numpy"] = "numpy" if generator == "numpy" else "python"
    seed = recover_seed(words, position, kind=kind)
    if seed is not None:
        return Origin(kind="seed", seed=describe_seed(seed))
    if state.get("entropy") is not None:
        return _SYSTEM if _is_made_from(int(state["entropy"]), words, position) else _UNKNOWN
    if words[0] == _INITIAL_WORD:
        return _SYSTEM
    for other in reversed(before):
        earlier = decode_twister(other)
        if count_draws(earlier[:2], (words, position)) is not None:
            return find_origin(generator, before)
    return _UNKNOWN


def drew_early(generator: str, state: State) -> bool:
    """True for a generator that nobody has seeded and that was drawn from before this state was taken.

    Takes microseconds for one that was not drawn from, and some 15 ms for Python's when it was.
    """
    words, position, _ = decode_twister(state)
    if words[0] == _INITIAL_WORD and position >= _FIRST_POSITIONS[generator]:
        return False
    if generator == "numpy":
        return state.get("entropy") is not None
    return find_origin(generator, [state]).kind == "unknown"


def explain_refusal(
    generator: str, recorded: Sequence[State], present: Sequence[State], *, is_same_launch: bool
) -> str | None:
    """Say why the last of the ``recorded`` states may not be put in place of the last ``present`` one; None if it may.

    It may where both come from the operating system, where only MLflow's naming of a run is between the two, and where
    nothing tells where either comes from but the program was launched exactly as it had been.
    Raises ValueError when a state is none.
    """
    if generator == "python" and _is_naming_between(present[-1], recorded[-1]):
        return None
    theirs, own = find_origin(generator, recorded), find_origin(generator, present)
    if theirs.kind == own.kind and (own.kind == "system" or (own.kind == "unknown" and is_same_launch)):
        return None
    name = _NAMES[generator]
    if own == theirs and own.kind == "seed":
        return f"{name} was seeded with {own.seed} in both runs, and drew otherwise since"
    return f"{name} {_describe(theirs)} in the reference, {_describe(own)} in the reproduction"


def _describe(origin: Origin) -> str:
    texts = {"system": "was not seeded", "unknown": "came from a seed or a state that is not known"}
    return texts.get(origin.kind, f"was seeded with {origin.seed}")


def _is_naming_between(earlier: State, later: State) -> bool:
    drawn = count_draws(decode_twister(earlier)[:2], decode_twister(later)[:2], max_rewinds=1)
    return drawn is not None and drawn <= _NAMING_WORDS


def _is_made_from(entropy: int, words: Sequence[int], position: int) -> bool:
    """True when numpy's generator began with this entropy and was only drawn from since."""
    from numpy.random import MT19937, SeedSequence

    begun: Mapping[str, Any] = MT19937(SeedSequence(entropy)).state["state"]
    first = tuple(begun["key"].tolist()), int(begun["pos"])
    return count_draws(first, (words, position)) is not None


def _find_torch_origin(states: Sequence[State]) -> Origin:
    state, before = states[-1], states[:-1]
    try:
        seed, is_seeded = int(state["seed"]), state["is_seeded"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a generator's state: {error!r}") from error
    if is_seeded or seed < _PERSON_LIMIT:
        return Origin(kind="seed", seed=str(seed))
    if is_seeded is False and (_is_fresh(seed, state) or (before and before[-1].get("seed") == seed)):
        return _SYSTEM if _is_fresh(seed, state) else find_origin("torch", before)
    return _UNKNOWN


def _is_fresh(seed: int, state: State) -> bool:
    """True when torch's generator began with this seed and was not drawn from."""
    from mlflow_repro.seeding.state import encode_tensor

    names = find_namespace("torch") or {}
    if "Generator" not in names:
        return False
    return bool(encode_tensor(names["Generator"]().manual_seed(seed).get_state()) == state.get("cpu"))
