"""The states of Python's and numpy's global generators: take them, write them as plain values, put them back."""

from __future__ import annotations

import base64
import contextlib
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.watch import find_namespace

if TYPE_CHECKING:
    from collections.abc import Callable

State = dict[str, Any]
"""One Mersenne Twister: ``words`` (base64 of 624 little-endian 32-bit words), ``position``, ``gauss`` (the spare
normal number, or None)."""

_WORDS = struct.Struct("<624I")
_STATE_VERSION = 3  # of random.getstate(), since Python 3.2


def take_states() -> dict[str, object]:
    """The present states in the libraries' own form, for `encode_states`. Draws nothing; microseconds."""
    states: dict[str, object] = {}
    with contextlib.suppress(Exception):
        states["python"] = (find_namespace("random") or {})["getstate"]()
    with contextlib.suppress(Exception):
        states["numpy"] = (find_namespace("numpy.random.mtrand") or {})["get_state"](legacy=False)
    return states


def encode_states(states: dict[str, object]) -> dict[str, State]:
    """States of `take_states` as plain values that JSON can hold. A generator that was exchanged is left out."""
    encoded: dict[str, State] = {}
    for name, encode in (("python", _encode_python), ("numpy", _encode_numpy)):
        if name in states:
            with contextlib.suppress(KeyError, TypeError, ValueError, struct.error):
                encoded[name] = encode(states[name])
    return encoded


def restore_states(encoded: dict[str, State]) -> list[str]:
    """Put encoded states back into the generators that are loaded; returns the names of those that were.

    Raises ValueError when a state is not one; then no generator is changed.
    """
    random, numpy = find_namespace("random"), find_namespace("numpy.random.mtrand")
    setters: dict[str, Callable[[], object]] = {}
    if random is not None and "python" in encoded:
        setters["python"] = partial(random["setstate"], decode_python(encoded["python"]))
    if numpy is not None and "numpy" in encoded:
        words, position, gauss = _decode(encoded["numpy"])
        array = (find_namespace("numpy") or {})["array"](words, dtype="uint32")
        state = ("MT19937", array, position, int(gauss is not None), gauss or 0.0)
        setters["numpy"] = partial(numpy["set_state"], state)
    for put in setters.values():
        put()
    return list(setters)


def decode_python(state: State) -> tuple[int, tuple[int, ...], float | None]:
    """An encoded state as ``random.setstate`` takes it. Raises ValueError when it is none."""
    words, position, gauss = _decode(state)
    return _STATE_VERSION, (*words, position), gauss


def _encode_python(state: Any) -> State:
    version, words, gauss = state
    if version != _STATE_VERSION:
        raise ValueError(f"state version {version}")
    return _encode(words[:-1], words[-1], gauss)


def _encode_numpy(state: Any) -> State:
    if state["bit_generator"] != "MT19937":
        raise ValueError(state["bit_generator"])
    gauss = float(state["gauss"]) if state["has_gauss"] else None
    return _encode(state["state"]["key"].tolist(), int(state["state"]["pos"]), gauss)


def _encode(words: Any, position: int, gauss: float | None) -> State:
    return {"words": base64.b64encode(_WORDS.pack(*words)).decode(), "position": position, "gauss": gauss}


def _decode(state: State) -> tuple[tuple[int, ...], int, float | None]:
    try:
        words = _WORDS.unpack(base64.b64decode(state["words"], validate=True))
        position, gauss = int(state["position"]), state["gauss"]
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"not a generator's state: {error}") from error
    if not 0 <= position <= len(words):
        raise ValueError(f"not a generator's state: position {position}")
    return words, position, None if gauss is None else float(gauss)
