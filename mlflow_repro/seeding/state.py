"""The states of the global generators: take them, write them as plain values, put them back.

Taking is reading: nothing is drawn, seeded or changed by it, whoever seeded the generator and with what.
"""

from __future__ import annotations

import base64
import contextlib
import struct
from functools import partial
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.libraries import find_namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

State = dict[str, Any]
"""Of Python and numpy, one Mersenne Twister: ``words`` (base64 of 624 little-endian 32-bit words), ``position``,
``gauss`` (the spare normal number, or None); of numpy also ``entropy``, what the generator was made from, None once it
was seeded. Of torch: ``cpu`` (base64 of the generator's bytes), ``seed`` (the initial one), ``is_seeded`` (whether
somebody called ``manual_seed``; None when that cannot be told), ``cuda`` (a list of the devices' states)."""

GENERATORS = ("python", "numpy", "torch")
_WORDS = struct.Struct("<624I")
_STATE_VERSION = 3  # of random.getstate(), since Python 3.2


def take_states() -> dict[str, Any]:
    """The present states in the libraries' own form, for `encode_states`. Draws nothing; microseconds."""
    states: dict[str, Any] = {}
    for name, take in (("python", _take_python), ("numpy", _take_numpy), ("torch", _take_torch)):
        with contextlib.suppress(Exception):
            state = take()
            if state is not None:
                states[name] = state
    return states


def encode_states(states: dict[str, Any]) -> dict[str, State]:
    """States of `take_states` as plain values that JSON can hold. A generator that was exchanged is left out."""
    encoders = {"python": _encode_python, "numpy": _encode_numpy, "torch": _encode_torch}
    encoded: dict[str, State] = {}
    for name, state in states.items():
        with contextlib.suppress(KeyError, TypeError, ValueError, struct.error):
            encoded[name] = encoders[name](state)
    return encoded


def restore_states(encoded: dict[str, State]) -> list[str]:
    """Put encoded states back into the generators that are loaded; returns the names of those that were.

    Raises ValueError when a state is not one; then no generator is changed.
    """
    preparations = {"python": _prepare_python, "numpy": _prepare_numpy, "torch": _prepare_torch}
    setters: dict[str, Callable[[], object]] = {}
    for name, state in encoded.items():
        put = preparations[name](state) if name in preparations else None
        if put is not None:
            setters[name] = put
    for put in setters.values():
        put()
    return list(setters)


def decode_twister(state: State) -> tuple[tuple[int, ...], int, float | None]:
    """Words, position and spare normal number of a Mersenne Twister's encoded state. Raises ValueError for others."""
    try:
        words = _WORDS.unpack(base64.b64decode(state["words"], validate=True))
        position, gauss = int(state["position"]), state["gauss"]
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise ValueError(f"not a generator's state: {error}") from error
    if not 0 <= position <= len(words):
        raise ValueError(f"not a generator's state: position {position}")
    return words, position, None if gauss is None else float(gauss)


def decode_python(state: State) -> tuple[int, tuple[int, ...], float | None]:
    """An encoded state as ``random.setstate`` takes it. Raises ValueError when it is none."""
    words, position, gauss = decode_twister(state)
    return _STATE_VERSION, (*words, position), gauss


def _take_python() -> Any:
    return (find_namespace("random") or {})["getstate"]()


def _take_numpy() -> Any:
    names = find_namespace("numpy.random.mtrand")
    if names is None:
        return None
    state = names["get_state"](legacy=False)
    with contextlib.suppress(Exception):
        made_from = names["_rand"]._bit_generator._seed_seq  # noqa: SLF001 - public as `seed_seq` since numpy 1.25
        state["entropy"] = None if made_from is None else int(made_from.entropy)
    return state


def _take_torch() -> Any:
    names = find_namespace("torch.random")
    if names is None or "get_rng_state" not in names:
        return None
    cuda = find_namespace("torch.cuda") or {}
    devices: Iterable[Any] = ()
    if cuda and cuda["is_initialized"]() and not cuda["_is_in_bad_fork"]():
        devices = cuda["get_rng_state_all"]()
    return {
        "cpu": names["get_rng_state"](),
        "seed": int(names["initial_seed"]()),
        "is_seeded": _is_torch_seeded(names, cuda),
        "cuda": list(devices),
    }


def _is_torch_seeded(names: dict[str, Any], cuda: dict[str, Any]) -> bool | None:
    """Whether ``torch.manual_seed`` or ``torch.seed`` was called; None when nothing tells.

    Both seed all CUDA devices as well. As long as CUDA has not started, torch keeps that for later
    (``torch.cuda._lazy_seed_tracker``); then every device has the CPU's seed, and else each a random one of its own.
    """
    if cuda.get("is_initialized", bool)():
        seeds = {int(generator.initial_seed()) for generator in cuda["default_generators"]}
        return int(names["initial_seed"]()) in seeds if seeds else None
    tracker = cuda.get("_lazy_seed_tracker")
    return None if tracker is None else getattr(tracker, "manual_seed_all_cb", None) is not None


def _encode_python(state: Any) -> State:
    version, words, gauss = state
    if version != _STATE_VERSION:
        raise ValueError(f"state version {version}")
    return _encode(words[:-1], words[-1], gauss)


def _encode_numpy(state: Any) -> State:
    if state["bit_generator"] != "MT19937":
        raise ValueError(state["bit_generator"])
    gauss = float(state["gauss"]) if state["has_gauss"] else None
    encoded = _encode(state["state"]["key"].tolist(), int(state["state"]["pos"]), gauss)
    return {**encoded, "entropy": state["entropy"]} if "entropy" in state else encoded


def _encode(words: Any, position: int, gauss: float | None) -> State:
    return {"words": base64.b64encode(_WORDS.pack(*words)).decode(), "position": position, "gauss": gauss}


def _encode_torch(state: Any) -> State:
    return {**state, "cpu": encode_tensor(state["cpu"]), "cuda": [encode_tensor(one) for one in state["cuda"]]}


def encode_tensor(tensor: Any) -> str:
    """A tensor of bytes as base64."""
    return base64.b64encode(bytes(tensor.tolist())).decode()


def _prepare_python(state: State) -> Callable[[], object] | None:
    names = find_namespace("random")
    return None if names is None else partial(names["setstate"], decode_python(state))


def _prepare_numpy(state: State) -> Callable[[], object] | None:
    names = find_namespace("numpy.random.mtrand")
    if names is None:
        return None
    words, position, gauss = decode_twister(state)
    array = (find_namespace("numpy") or {})["array"](words, dtype="uint32")
    return partial(names["set_state"], ("MT19937", array, position, int(gauss is not None), gauss or 0.0))


def _prepare_torch(state: State) -> Callable[[], object] | None:
    names, torch = find_namespace("torch.random"), find_namespace("torch")
    if names is None or torch is None or "frombuffer" not in torch:
        return None
    try:
        contents = [base64.b64decode(text, validate=True) for text in (state["cpu"], *state["cuda"])]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a generator's state: {error}") from error
    cpu, *devices = [torch["frombuffer"](bytearray(content), dtype=torch["uint8"]) for content in contents]
    if cpu.shape != names["get_rng_state"]().shape:
        raise ValueError(f"not a generator's state: {len(cpu)} bytes")
    cuda = find_namespace("torch.cuda") or {}

    def put() -> None:
        names["set_rng_state"](cpu)
        if devices and cuda["is_initialized"]() and cuda["device_count"]() == len(devices):
            cuda["set_rng_state_all"](devices)

    return put
