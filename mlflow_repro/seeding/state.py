"""The states of Python's and numpy's global generators: take them, write them as plain values, put them back.

In a relaunch each process takes the state that was recorded for it, and none is taken twice. ``MLFLOW_REPRO_RESTORE``
names one file, for the first process of that script; or a folder of files, one for each process of the reference, in
the order in which these began. A file is taken by renaming it: only one process can.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import struct
import sys
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


RESTORE_VARIABLE = "MLFLOW_REPRO_RESTORE"
SCHEMA = 1
_TAKEN = ".taken"
# In an argument: what is another one in each launch, the id of a run and the place of its files.
_PLACE = re.compile(r"\S*[0-9a-f]{32}")


def take_random_state() -> dict[str, Any]:
    """The random state that this process is to begin with, which no other will get; empty when there is none for it."""
    path = os.environ.get(RESTORE_VARIABLE, "")
    if os.path.isdir(path):
        return _take_from_folder(path)
    os.environ.pop(RESTORE_VARIABLE, None)
    if not path:
        return {}
    try:
        recorded = _read(path)
        script = recorded.get("script")
        if script and script != script_name():
            os.environ[RESTORE_VARIABLE] = path  # another program of the same command; leave it to the right one
            return {}
        os.rename(path, f"{path}{_TAKEN}")
    except FileNotFoundError:
        return {}
    return recorded if recorded.get("schema") == SCHEMA else {}


def script_name() -> str:
    """The file name of the script that this process runs, empty when there is none."""
    main = find_namespace("__main__") or {}
    return os.path.basename(str(main.get("__file__") or ""))


def digest_arguments() -> str:
    """A digest of the command line without Python itself, run ids and the places of runs' files."""
    words = [_PLACE.sub("#", word) for word in getattr(sys, "orig_argv", sys.argv)[1:]]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


def _take_from_folder(folder: str) -> dict[str, Any]:
    """The first file of a process with this script and these arguments, else the first one of this script."""
    names = sorted(name for name in os.listdir(folder) if not name.endswith(_TAKEN))
    found: list[tuple[str, dict[str, Any]]] = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            recorded = _read(os.path.join(folder, name))
            if recorded.get("schema") == SCHEMA and recorded.get("script") in ("", script_name()):
                found.append((name, recorded))
    arguments = digest_arguments()
    for name, recorded in sorted(found, key=lambda row: row[1].get("arguments") != arguments):
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(folder, name), os.path.join(folder, name + _TAKEN))
            return recorded
    return {}


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        recorded: dict[str, Any] = json.load(file)
    return recorded
