"""The process that loads one model and writes what it predicts: what is in the model runs here, and nowhere else.

It is given one line of JSON: ``model`` (a folder), ``data`` (a file, or the folder of the model whose logged input
example is meant) and ``output``, the file that it writes. That is an ``npz`` without objects: arrays by the names of
the outputs.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from mlflow_repro.system.searchpath import leave_working_directory_out

_SEED = 0


class PredictionError(Exception):
    """Why there is no prediction, in one line."""


def main(text: str) -> int:
    """Load, predict, write. The last line of standard error says what went wrong."""
    leave_working_directory_out()
    job = json.loads(text)
    try:
        _predict(job["model"], job["data"], job["output"])
    except PredictionError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - it is what this process answers
        return 3
    except BaseException as error:  # noqa: BLE001 - what somebody's model raises, SystemExit included, is an answer
        print(f"error: {type(error).__name__}: {error}".replace("\n", " ")[:500], file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _predict(model: str, data: str, output: str) -> None:
    import numpy as np
    from mlflow import pyfunc

    inputs = read_data(data)
    load_model: Any = pyfunc.load_model
    try:
        loaded = load_model(model)
    except Exception as error:
        raise PredictionError(f"it cannot be loaded: {_first_line(error)}") from error
    _seed()
    try:
        predicted = loaded.predict(inputs)
    except Exception as error:
        raise PredictionError(f"it does not predict: {_first_line(error)}") from error
    arrays = to_arrays(predicted)
    with open(output, "wb") as file:
        np.savez(file, **{f"a{number}": array for number, array in enumerate(arrays.values())})
    with open(f"{output}.json", "w", encoding="utf-8") as names:
        json.dump(list(arrays), names)


def _seed() -> None:
    """Both models draw the same, should they draw at all while they predict."""
    import random

    import numpy as np

    random.seed(_SEED)
    np.random.seed(_SEED)  # noqa: NPY002 - the global generator is what models draw from
    for name, seed in (("torch", "manual_seed"), ("tensorflow", "random.set_seed")):
        found: Any = sys.modules.get(name)
        for part in seed.split("."):
            found = getattr(found, part, None)
        if found is not None:
            found(_SEED)


def read_data(path: str) -> Any:
    """The inputs: a CSV, JSON, npy or Parquet file, or the input example of the model in a folder.

    Raises PredictionError.
    """
    if os.path.isdir(path):
        return _read_example(path)
    ending = os.path.splitext(path)[1].lower()
    if ending not in READERS:
        raise PredictionError(f"{os.path.basename(path)} has none of the forms {', '.join(READERS)}")
    try:
        return READERS[ending](path)
    except Exception as error:
        raise PredictionError(f"{os.path.basename(path)} cannot be read: {_first_line(error)}") from error


def _read_example(folder: str) -> Any:
    from mlflow.models import Model

    try:
        example = Model.load(folder).load_input_example(folder)
    except Exception as error:
        raise PredictionError(f"its input example cannot be read: {_first_line(error)}") from error
    if example is None:
        raise PredictionError("it has no input example: log one with it, or give data")
    return example


def _read_csv(path: str) -> Any:
    import pandas as pd

    return pd.read_csv(path)


def _read_parquet(path: str) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


def _read_npy(path: str) -> Any:
    import numpy as np

    return np.load(path, allow_pickle=False)


def _read_json(path: str) -> Any:
    """A list of records or of rows, or one of the forms that MLflow's scoring server takes."""
    import numpy as np
    import pandas as pd

    with open(path, encoding="utf-8") as file:
        plain = json.load(file)
    for name in ("dataframe_split", "dataframe_records", "instances", "inputs"):
        if isinstance(plain, dict) and name in plain:
            plain = plain[name]
            break
    if isinstance(plain, dict):
        is_split = "data" in plain and set(plain) <= {"columns", "data", "index"}
        return pd.DataFrame(**plain) if is_split else {name: np.array(value) for name, value in plain.items()}
    return pd.DataFrame(plain) if plain and isinstance(plain[0], dict) else np.array(plain)


READERS = {".csv": _read_csv, ".json": _read_json, ".npy": _read_npy, ".parquet": _read_parquet}
"""By the ending of the file that holds the inputs."""


def to_arrays(predicted: Any, name: str = "") -> dict[str, Any]:
    """What a model gave, as arrays of numbers or of text by a name. Raises PredictionError for other things."""
    import numpy as np

    if hasattr(predicted, "columns") and hasattr(predicted, "iloc"):  # a table of pandas, or of what stands in for it
        predicted = {str(column): predicted.iloc[:, place] for place, column in enumerate(predicted.columns)}
    if isinstance(predicted, dict):
        parts = [to_arrays(value, f"{name}.{key}" if name else str(key)) for key, value in predicted.items()]
        return {label: array for part in parts for label, array in part.items()}
    if hasattr(predicted, "toarray"):  # a sparse matrix
        predicted = predicted.toarray()
    if hasattr(predicted, "detach"):  # a tensor of torch
        predicted = predicted.detach().cpu().numpy()
    try:
        array = np.asarray(predicted)
    except ValueError as error:  # rows of different lengths
        raise PredictionError(f"its outputs are no table: {_first_line(error)}") from error
    if array.dtype.kind in "OT":
        array = _plain_objects(array)
    return {name: array}


def _plain_objects(array: Any) -> Any:
    """An array of Python objects as one of numbers, where these are all, else as one of JSON texts."""
    import numpy as np

    flat = array.reshape(-1).tolist()
    if flat and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in flat):
        return np.array(flat, np.float64).reshape(array.shape)
    try:
        texts = [item if isinstance(item, str) else json.dumps(item, sort_keys=True, default=_to_list) for item in flat]
    except (TypeError, ValueError) as error:
        raise PredictionError(f"its outputs are neither numbers nor text: {_first_line(error)}") from error
    return np.array(texts, np.str_).reshape(array.shape)


def _to_list(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"an output is of type {type(value).__name__}")


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
