"""The line or command that settles a cause, in the terms of the libraries that the run used, to be copied."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from mlflow_repro.text.redact import redact_named

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

EVERYTHING = "mlflow_repro.seed_everything(0)"
_SEED_LINES = {
    "python": "random.seed(0)",
    "numpy": "np.random.seed(0)",
    "torch": "torch.manual_seed(0)",
    "tensorflow": "tf.random.set_seed(0)",
    "entropy": "np.random.default_rng(0)",
}
_KERAS_LINE = "keras.utils.set_random_seed(0)"
_DETERMINISTIC_LINES = {
    "tensorflow": "tf.config.experimental.enable_op_determinism()",
    "torch": "torch.use_deterministic_algorithms(True)",
}
# Of a framework's switch the line that sets it as the reference had it, or where one way is the right one, that.
_SWITCHES = {
    "tensorflow.op_determinism": _DETERMINISTIC_LINES["tensorflow"],
    "tensorflow.tf32": "tf.config.experimental.enable_tensor_float_32_execution({})",
    "tensorflow.inter_op_threads": "tf.config.threading.set_inter_op_parallelism_threads({})",
    "tensorflow.intra_op_threads": "tf.config.threading.set_intra_op_parallelism_threads({})",
    "torch.deterministic_algorithms": _DETERMINISTIC_LINES["torch"],
    "torch.cudnn_benchmark": "torch.backends.cudnn.benchmark = False",
    "torch.cudnn_deterministic": "torch.backends.cudnn.deterministic = True",
    "torch.cudnn_enabled": "torch.backends.cudnn.enabled = {}",
    "torch.tf32_matmul": "torch.backends.cuda.matmul.allow_tf32 = {}",
    "torch.tf32_cudnn": "torch.backends.cudnn.allow_tf32 = {}",
    "torch.float32_matmul_precision": "torch.set_float32_matmul_precision('{}')",
    "torch.default_dtype": "torch.set_default_dtype({})",
    "torch.threads": "torch.set_num_threads({})",
}


def give_seed_line(generator: str, imported: Collection[str] | None, seed: str = "0") -> str:
    """The line that seeds a generator; ``imported`` are the distributions that the run had imported."""
    known = imported or ()
    if generator == "entropy":
        line = f"{_SEED_LINES[generator]} instead of np.random.default_rng(), or {EVERYTHING} at the top of the script"
    elif "keras" in known:
        line = f"{_KERAS_LINE} at the top of the script: it seeds Python, numpy and the backend"
    elif generator == "numpy" and "scikit-learn" in known:
        line = f"{_SEED_LINES[generator]} at the top of the script, or random_state=0 for each estimator and split"
    else:
        line = f"{_SEED_LINES[generator]} at the top of the script, or {EVERYTHING}"
    return line.replace("(0)", f"({seed})").replace("random_state=0", f"random_state={seed}")


def give_variable_lines(variables: Mapping[str, str | None]) -> str:
    """The command that gives environment variables these values; None takes one away."""
    values = {name: value for name, value in variables.items() if value is not None}
    parts = [f"{name}={shlex.quote(redact_named(name, value))}" for name, value in values.items()]
    gone = [name for name in variables if name not in values]
    commands = [f"export {' '.join(parts)}" if parts else "", f"unset {' '.join(gone)}" if gone else ""]
    return "; ".join(command for command in commands if command)


def give_environment_command(run_id: str) -> str:
    """The command that runs the reference in what it had installed."""
    return f"mlflow-repro reproduce --run_id {run_id} --env recorded"


def give_switch_line(name: str, reference: object) -> str:
    """The line that sets a switch of a framework (``torch.cudnn_benchmark``); where there is none, what sets all."""
    value = "0" if name.endswith("threads") and reference == "default" else str(reference)
    line = _SWITCHES.get(name, "")
    return f"{line.format(value)} at the top of the script" if line else "mlflow_repro.make_deterministic()"


def give_determinism_line(imported: Collection[str] | None) -> str:
    """The line that makes the operations of the imported framework deterministic."""
    names = {name.split("-")[0] for name in imported or ()}
    lines = [line for name, line in _DETERMINISTIC_LINES.items() if name in names]
    return f"{' and '.join(lines) or 'mlflow_repro.make_deterministic()'} at the top of the script"


def give_argument(name: str, value: str | None) -> str:
    """How to start the run with an argument or a launch parameter as the reference had it; None for without."""
    return f"start it with {_as_option(name, value)}" if value is not None else f"start it without {name}"


def _as_option(name: str, value: str) -> str:
    if name.startswith("argument "):
        return f"{name} = {value}"
    if value == "set":  # a flag
        return name
    return f"{name} {shlex.quote(value)}" if name.startswith("-") else f"-P {shlex.quote(f'{name}={value}')}"
