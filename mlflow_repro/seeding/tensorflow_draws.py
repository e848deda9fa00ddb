"""Make TensorFlow's unseeded randomness repeatable without giving it a global seed.

A global seed, even a random one, changes what a program does, not only whether it can be repeated (measured with
TensorFlow 2.21, Keras 3.15): ``fit(shuffle=True)`` takes the same order in every epoch and in every fit; every
`tf.function` has the same stream, and one that is used twice inside another gives the same numbers twice; a draw with a
seed of its own (``seed=1``) no longer gives the same numbers in every process; and an eager draw leaves 35 KiB of
memory behind each time. So no global seed is set. What is left unseeded asks for its seeds here:

* *eager operations*. An operation's kernel seeds itself once and keeps its stream as long as the context keeps the
  kernel. Here the seeds come from the recorded root and from what makes a kernel another one (operation, types,
  device, how often the kernels were thrown away). So each kernel has one stream of its own, as before.
* *shuffled datasets* made outside of functions: their two seeds, from which they derive another order at each
  iteration, come from the root and the dataset's number.
* *new generators* (`tf.random.Generator.from_non_deterministic_state`): their state.
* the *order of Keras' fit* on arrays: drawn by a generator of its own, which goes on from epoch to epoch.

Other random operations inside a `tf.function` or a function of a dataset stay as they are. Their seeds are a part of
the graph, and a graph may be made into several kernels (it is called by another function, under a gradient tape, by
every iterator of a dataset), which would then all draw the same numbers. They are noted as not repeatable.
"""

from __future__ import annotations

import functools
import sys
import threading
from typing import TYPE_CHECKING, Any

from mlflow_repro.seeding.libraries import find_namespace
from mlflow_repro.system.harmless import harmless

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from mlflow_repro.seeding.entropy import Entropy
    from mlflow_repro.seeding.log import SeedLog

_OPS = "tensorflow.python.ops."
_RANDOM_OPS = (
    "multinomial",
    "parameterized_truncated_normal",
    "random_gamma",
    "random_poisson_v2",
    "random_shuffle",
    "random_standard_normal",
    "random_uniform",
    "random_uniform_int",
    "truncated_normal",
)
# Operations with attributes besides types: their kernels differ by those, too.
_SAMPLERS = (
    ("gen_candidate_sampling_ops", "all_candidate_sampler"),
    ("gen_candidate_sampling_ops", "fixed_unigram_candidate_sampler"),
    ("gen_candidate_sampling_ops", "learned_unigram_candidate_sampler"),
    ("gen_candidate_sampling_ops", "log_uniform_candidate_sampler"),
    ("gen_candidate_sampling_ops", "uniform_candidate_sampler"),
    ("gen_image_ops", "sample_distorted_bounding_box_v2"),
)
_KERAS_ADAPTERS = ("data_adapters.array_data_adapter", "engine.data_adapter")
_MARK = "_mlflow_repro_fed"
_NO_ATTRIBUTES = frozenset({"seed", "seed2", "name"})
_SEED_BITS = 63  # of a seed attribute that is not negative


class _Feed:
    """Where the seeds come from, and what was given."""

    entropy: Entropy | None = None
    log: SeedLog | None = None
    context: dict[str, Any] = {}  # noqa: RUF012 - the names of TensorFlow's module
    seeds: dict[tuple[object, ...], tuple[int, int]] = {}  # noqa: RUF012 - one process, one feed
    generation = 0  # how often the kernels were thrown away
    taken = 0  # how many seeds were given to what is made once: datasets, generators
    has_drawn = False
    lock = threading.Lock()


def feed_tensorflow(entropy: Entropy, log: SeedLog) -> bool:
    """Let TensorFlow's unseeded operations take their seeds from ``entropy``; False when it is not loaded.

    What cannot be made repeatable is noted in ``log`` as it appears. Calling this again changes the entropy and the
    log. Raises nothing.
    """
    if find_namespace(f"{_OPS}gen_random_ops") is None:
        return False
    _Feed.context = find_namespace("tensorflow.python.eager.context") or {}
    _Feed.entropy, _Feed.log = entropy, log
    for name in _RANDOM_OPS:
        _wrap(f"{_OPS}gen_random_ops", name, _wrap_operation(name, with_values=False))
    for module, name in _SAMPLERS:
        _wrap(f"{_OPS}{module}", name, _wrap_operation(name, with_values=True))
    _wrap(f"{_OPS}gen_dataset_ops", "shuffle_dataset_v3", _wrap_shuffle)
    _wrap(f"{_OPS}stateful_random_ops", "non_deterministic_ints", _wrap_new_state)
    _wrap("tensorflow.python.pywrap_tfe", "TFE_ContextClearCaches", _wrap_clearing)
    return True


def draws_were_seen() -> bool | None:
    """Say whether TensorFlow has drawn, with a seed or without; None when that was not watched."""
    return None if _Feed.entropy is None else _Feed.has_drawn


def restart_draws() -> None:
    """Begin to give out seeds anew, because the entropy has another root."""
    _Feed.generation = _Feed.taken = 0
    _Feed.seeds = {}


def take_place() -> dict[str, int]:
    """How far the seeds have been given out, for `put_place`."""
    return {"generation": _Feed.generation, "taken": _Feed.taken}


def put_place(place: dict[str, int]) -> None:
    """Go on behind ``place``: with new streams, because a kernel's position in its own cannot be put back."""
    _Feed.generation = max(_Feed.generation, int(place["generation"])) + 1
    _Feed.taken = max(_Feed.taken, int(place["taken"]))
    _Feed.seeds = {}


def _wrap(module: str, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    namespace = find_namespace(module) or {}
    original = namespace.get(name)
    if callable(original) and not getattr(original, _MARK, False):
        wrapper = functools.wraps(original)(wrap(original))
        setattr(wrapper, _MARK, True)
        namespace[name] = wrapper


def _wrap_operation(name: str, *, with_values: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Wrap an operation, which has both seeds as keywords, both None or 0 when the program gave no seed."""

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            _Feed.has_drawn = True
            if "seed" in kwargs and not kwargs["seed"] and not kwargs.get("seed2"):
                with harmless():
                    if _is_eager():
                        kwargs["seed"], kwargs["seed2"] = _kernel_seeds(name, args, kwargs, with_values=with_values)
                    else:
                        shuffled = _shuffle_for_keras(args[0]) if name == "random_shuffle" else None
                        if shuffled is not None:
                            return shuffled
                        _note(name)
            return original(*args, **kwargs)

        return operation

    return wrap


def _wrap_shuffle(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the making of a shuffled dataset, whose seeds are tensors, both 0 when the program gave no seed."""

    def shuffle_dataset(*args: Any, **kwargs: Any) -> Any:
        _Feed.has_drawn = True
        with harmless():
            if _is_eager():
                if int(kwargs["seed"]) == int(kwargs["seed2"]) == 0:
                    kwargs["seed"], kwargs["seed2"] = _split(_take_bits("dataset", 2 * _SEED_BITS))
            else:
                constant = (find_namespace("tensorflow.python.framework.tensor_util") or {})["constant_value"]
                if constant(kwargs["seed"]) == 0 and constant(kwargs["seed2"]) == 0:
                    _note("shuffle_dataset")
        return original(*args, **kwargs)

    return shuffle_dataset


def _wrap_new_state(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that takes a generator's state from the operating system."""

    def non_deterministic_ints(shape: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(shape, *args, **kwargs)
        _Feed.has_drawn = True
        with harmless():
            if _is_eager():
                import numpy as np

                state = result.numpy()
                content = _take_bits("generator", 8 * state.nbytes).to_bytes(state.nbytes, "little")
                tensors = find_namespace("tensorflow.python.framework.constant_op") or {}
                ours = np.frombuffer(content, dtype=state.dtype.newbyteorder("<")).astype(state.dtype)
                return tensors["constant"](ours.reshape(state.shape))
            _note("non_deterministic_ints")
        return result

    return non_deterministic_ints


def _wrap_clearing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the function that throws all kernels away: the next ones must not begin the same streams again."""

    def clear(*args: Any, **kwargs: Any) -> Any:
        _Feed.generation += 1
        _Feed.seeds = {}
        return original(*args, **kwargs)

    return clear


def _is_eager() -> bool:
    return bool(_Feed.context["executing_eagerly"]())


def _kernel_seeds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, with_values: bool) -> tuple[int, int]:
    """The seeds of the one kernel that the context keeps for this operation, these types and this device."""
    parts = [name, _Feed.context["context"]().device_name]
    parts += [_describe(value, with_values=with_values) for value in args]
    parts += [_describe(kwargs[key], with_values=with_values) for key in kwargs if key not in _NO_ATTRIBUTES]
    key = tuple(parts)
    found = _Feed.seeds.get(key)
    if found is None:
        if _Feed.entropy is None:
            raise LookupError(name)
        path = ("tensorflow", str(_Feed.generation), *map(str, key))
        found = _Feed.seeds[key] = _split(_Feed.entropy.derive(*path, bits=2 * _SEED_BITS))
    return found


def _describe(value: Any, *, with_values: bool) -> object:
    """What of an argument makes a kernel another one: its type, and the value of an attribute."""
    try:
        return getattr(value, "dtype", value).name
    except AttributeError:
        pass
    if with_values:
        return repr(value)
    import numpy as np

    return np.asarray(value).dtype.name


def _take_bits(purpose: str, bits: int) -> int:
    """Random bits for what is made once, such as a dataset."""
    if _Feed.entropy is None:
        raise LookupError(purpose)
    with _Feed.lock:
        _Feed.taken += 1
        number = _Feed.taken
    return _Feed.entropy.derive("tensorflow", purpose, str(number), bits=bits)


def _split(bits: int) -> tuple[int, int]:
    one, two = bits >> _SEED_BITS, bits & ((1 << _SEED_BITS) - 1)
    return one or 1, two or 1  # 0 would mean that there is none


def _shuffle_for_keras(value: Any) -> Any:
    """The order in which Keras takes the rows of its arrays, or None when it is not Keras that asks.

    Keras shuffles by an operation in a function of a dataset, which every epoch makes into a new kernel. Here numpy
    shuffles instead, with one generator for all epochs of this fit. A distribution strategy may run the function in
    another process, so there everything is left as it is.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as the standard library's logging does
    while frame is not None and not str(frame.f_globals.get("__name__")).endswith(_KERAS_ADAPTERS):
        frame = frame.f_back
    distribution = find_namespace("tensorflow.python.distribute.distribute_lib") or {}
    if frame is None or distribution["has_strategy"]():
        return None
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(_take_bits("keras", 128)))
    function = (find_namespace(f"{_OPS}script_ops") or {})["numpy_function"]
    shuffled = function(generator.permutation, [value], value.dtype, name="permutation")
    shuffled.set_shape(value.shape)
    return shuffled


def _note(operation: str) -> None:
    """Note a draw that cannot be made repeatable, with the name of its graph."""
    graph = (find_namespace("tensorflow.python.framework.ops") or {})["get_default_graph"]()
    if _Feed.log is not None:
        _Feed.log.note_unrepeatable(f"tensorflow: {operation} in {getattr(graph, 'name', 'a graph')}")
