"""Save the random state of this process to a file and load it again, to pause a program and resume it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import platform
import random  # noqa: F401 - of what is not loaded no state is taken, and Python's is always in the file
import warnings
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.seeding import state as states
from mlflow_repro.seeding import tensorflow_draws as draws
from mlflow_repro.seeding.entropy import Entropy, adopt_entropy, process_entropy
from mlflow_repro.seeding.libraries import find_namespace, seed_library

if TYPE_CHECKING:
    from collections.abc import Callable

    Section = dict[str, Any]
    Setter = Callable[[], object]

RNG_STATE_SCHEMA = 1
_KIND = "mlflow-repro random state"
_TWISTER = "MT19937"
_TENSORFLOW_LIMIT = (
    "tensorflow: the positions of random operations and of iterators of datasets, to which TensorFlow gives no access; "
    "those with a seed begin their streams again, those without go on with new ones"
)


class RngStateError(UsageError):
    """A random state cannot be saved or loaded; nothing was changed."""


class RngStateWarning(UserWarning):
    """A part of the random state is not in the file, or not put back."""


def save_rng_state(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Save the random state of this process to ``path``; returns what is not saved, a line each.

    Saved: Python's ``random``, numpy's legacy generator, where the next unseeded ``default_rng()`` takes its entropy,
    torch's generators of the CPU and (when CUDA has started) of each device, and of TensorFlow the global seed, how
    many operations have taken theirs, the global ``tf.random.Generator`` and Keras' global seed generator. Not the
    generators that a program made itself: pickle a ``numpy.random.Generator`` or use its ``bit_generator.state``,
    ``torch.Generator.get_state()``; the seed generators of Keras' layers are saved with their model.

    TensorFlow does not tell how far its random operations and its datasets' iterators are. If there may be some, that
    is warned of (`RngStateWarning`) and noted in the file.

    The file is JSON of about 10 kB, written beside ``path`` and then renamed: it is complete or it is not there. Raises
    `RngStateError` when a generator was exchanged for one of another kind, OSError when the file cannot be written.
    """
    limits = _find_limits()
    content = {
        "kind": _KIND,
        "schema": RNG_STATE_SCHEMA,
        "python_version": platform.python_version(),
        "not_saved": list(limits),
        "sections": _take_sections(),
    }
    _write(os.fspath(path), json.dumps({**content, "sha256": _digest(content)}, indent=1))
    return _warn(limits)


def load_rng_state(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Put the random state that `save_rng_state` wrote to ``path`` back; returns what is not put back, a line each.

    Import the libraries and build the model before: only what is loaded can be set. Everything is checked before
    anything is set, and if a library refuses its part after all, the others get their states of before.

    Raises `RngStateError` when the file is incomplete, was changed, has another schema, holds the state of a library
    that is not imported here, or of another kind of generator or another number of devices; OSError when it cannot be
    read.
    """
    content = _read(os.fspath(path))
    sections: dict[str, Section] = content["sections"]
    setters = _prepare(sections)
    before = _prepare(_take_sections())
    try:
        for put in setters:
            put()
    except Exception as error:
        for put in before:
            with contextlib.suppress(Exception):
                put()
        raise RngStateError(f"a library refused its random state: {type(error).__name__}: {error}") from error
    present = _take_sections()
    missing = [f"{name}: the file has no state of it, so it stays as it is" for name in present if name not in sections]
    return _warn((*content["not_saved"], *missing))


def take_sections() -> dict[str, Section]:
    """The states of all generators as plain values; one that cannot be taken is left out. Raises nothing."""
    sections: dict[str, Section] = {}
    for name, (take, _) in _SECTIONS.items():
        with contextlib.suppress(Exception):
            section = take()
            if section is not None:
                sections[name] = section
    return sections


def _take_sections() -> dict[str, Section]:
    sections = {name: take() for name, (take, _) in _SECTIONS.items()}
    return {name: section for name, section in sections.items() if section is not None}


def _prepare(sections: dict[str, Section]) -> list[Setter]:
    """A function for each section that puts it back; everything that can be is checked here."""
    setters: list[Setter] = []
    for name, section in sections.items():
        if name not in _SECTIONS:
            raise RngStateError(f"the file has a state of {name}, which this version does not know")
        try:
            setters.append(_SECTIONS[name][1](section))
        except RngStateError:
            raise
        except Exception as error:
            raise RngStateError(f"the state of {name} in the file is not one: {error}") from error
    return setters


def _take_python() -> Section:
    section = states.encode_states(states.take_states()).get("python")
    if section is None:
        raise RngStateError("Python's random has a state of an unknown version")
    return section


def _prepare_python(section: Section) -> Setter:
    state = states.decode_python(section)
    return lambda: _names("random")["setstate"](state)


def _take_numpy() -> Section | None:
    taken = states.take_states()
    if "numpy" not in taken:
        return None
    section = states.encode_states({"numpy": taken["numpy"]}).get("numpy")
    if section is None:
        raise RngStateError(_foreign_generator(taken["numpy"]))
    section.pop("entropy", None)  # what it was made from, long before
    return {"bit_generator": _TWISTER, **section}


def _prepare_numpy(section: Section) -> Setter:
    import numpy.random  # noqa: F401 - newer numpy loads it at first use

    present = states.take_states().get("numpy")
    if section["bit_generator"] != _TWISTER:
        raise RngStateError(f"the file has a state of numpy's {section['bit_generator']}, not of {_TWISTER}")
    if isinstance(present, dict) and present["bit_generator"] != _TWISTER:
        raise RngStateError(_foreign_generator(present))
    states.decode_twister(section)
    return lambda: states.restore_states({"numpy": section})


def _foreign_generator(state: Any) -> str:
    return f"numpy's global generator is here a {state['bit_generator']}: only {_TWISTER} can be saved and loaded"


def _take_entropy() -> Section | None:
    entropy = process_entropy()
    return None if entropy is None else entropy.take_position()


def _prepare_entropy(section: Section) -> Setter:
    Entropy(b"-").put_position(section)  # the check

    def put() -> None:
        entropy = process_entropy() or Entropy(b"-")
        entropy.put_position(section)
        adopt_entropy(entropy)

    return put


def _take_torch() -> Section | None:
    names = find_namespace("torch.random")
    if names is None:
        return None
    cuda = find_namespace("torch.cuda") or {}
    devices = cuda["get_rng_state_all"]() if cuda and cuda["is_initialized"]() else []
    return {"cpu": _to_text(names["get_rng_state"]()), "cuda": [_to_text(state) for state in devices]}


def _prepare_torch(section: Section) -> Setter:
    names, torch, cuda = _names("torch.random"), _names("torch"), _names("torch.cuda")
    states_of = [base64.b64decode(text, validate=True) for text in (section["cpu"], *section["cuda"])]
    cpu, *devices = [torch["frombuffer"](bytearray(content), dtype=torch["uint8"]) for content in states_of]
    if cpu.shape != names["get_rng_state"]().shape:
        raise ValueError(f"{len(cpu)} bytes for the CPU")
    if devices and len(devices) != cuda["device_count"]():
        raise RngStateError(f"the file has states of {len(devices)} CUDA devices; here are {cuda['device_count']()}")

    def put() -> None:
        names["set_rng_state"](cpu)
        if devices:
            cuda["set_rng_state_all"](devices)

    return put


def _to_text(state: Any) -> str:
    return base64.b64encode(bytes(state.tolist())).decode()


def _take_tensorflow() -> Section | None:
    names = find_namespace("tensorflow.python.eager.context")
    if names is None:
        return None
    context = names["context"]()
    seed: Any = getattr(context, "_seed", None)
    operations: Any = getattr(context, "_rng", None)
    generator = _names("tensorflow.python.ops.stateful_random_ops").get("global_generator")
    return {
        "seed": None if seed is None else int(seed),
        "operations": None if seed is None else states.encode_states({"python": operations.getstate()})["python"],
        "generator": None
        if generator is None
        else {"algorithm": int(generator.algorithm), "state": generator.state.numpy().tolist()},
        "place": draws.take_place(),
    }


def _prepare_tensorflow(section: Section) -> Setter:
    context = _names("tensorflow.python.eager.context")["context"]()
    operations = None if section["seed"] is None else states.decode_python(section["operations"])
    seed, place = section["seed"], {name: int(value) for name, value in section["place"].items()}
    put_generator = _prepare_generator(section["generator"])

    def put() -> None:
        if seed is not None or getattr(context, "_seed", None) is not None:
            seed_library("tensorflow", seed)
        if operations is not None:
            context._rng.setstate(operations)  # noqa: SLF001 - there is no other way to it
        put_generator()
        draws.put_place(place)

    return put


def _prepare_generator(section: Section | None) -> Setter:
    """Of TensorFlow's global ``tf.random.Generator``; one that the file does not have is taken away."""
    names = _names("tensorflow.python.ops.stateful_random_ops")
    if section is None:
        return lambda: names.update(global_generator=None)
    tensor = _names("tensorflow.python.framework.constant_op")["constant"](section["state"], dtype="int64")
    algorithm = int(section["algorithm"])
    return lambda: names["set_global_generator"](names["Generator"](state=tensor, alg=algorithm))


def _take_keras() -> Section | None:
    names = find_namespace("keras.src.backend.common.global_state")
    generator = None if names is None else names["get_global_attribute"]("global_seed_generator")
    return None if generator is None else {"state": [int(number) for number in generator.state.numpy()]}


def _prepare_keras(section: Section) -> Setter:
    names, generators = _names("keras.src.backend.common.global_state"), _names("keras.src.random.seed_generator")
    numbers = [int(number) for number in section["state"]]
    seed, _ = numbers

    def put() -> None:
        generator = generators["SeedGenerator"](seed=seed)
        generator.state.assign(numbers)
        names["set_global_attribute"]("global_seed_generator", generator)

    return put


_SECTIONS: dict[str, tuple[Callable[[], Section | None], Callable[[Section], Setter]]] = {
    "entropy": (_take_entropy, _prepare_entropy),
    "python": (_take_python, _prepare_python),
    "numpy": (_take_numpy, _prepare_numpy),
    "torch": (_take_torch, _prepare_torch),
    "tensorflow": (_take_tensorflow, _prepare_tensorflow),
    "keras": (_take_keras, _prepare_keras),
}


def _names(module: str) -> dict[str, Any]:
    """The names of a module that must be loaded."""
    found = find_namespace(module)
    if found is None:
        library = module.partition(".")[0]
        raise RngStateError(f"the file has a state of {library}, which is not imported", f"import {library} first")
    return found


def _find_limits() -> tuple[str, ...]:
    is_loaded = find_namespace("tensorflow.python.eager.context") is not None
    return (_TENSORFLOW_LIMIT,) if is_loaded and draws.draws_were_seen() is not False else ()


def _warn(limits: tuple[str, ...]) -> tuple[str, ...]:
    for limit in limits:
        warnings.warn(f"not in the saved random state: {limit}", RngStateWarning, stacklevel=3)
    return limits


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: str, text: str) -> None:
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        with open(beside, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def _read(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RngStateError(f"{path} is not a saved random state, or not a complete one: {error}") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise RngStateError(f"{path} is not a saved random state")
    if content.get("schema") != RNG_STATE_SCHEMA:
        raise RngStateError(f"{path} has schema {content.get('schema')}: this version reads {RNG_STATE_SCHEMA}")
    if content.pop("sha256", None) != _digest(content):
        raise RngStateError(f"{path} was changed after it had been saved")
    return content
