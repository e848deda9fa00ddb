"""JSON, YAML, and the files that MLflow writes beside a model."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_repro.compare.artifacts.blobs import Outcome, TooLargeError, UnreadableError, quote, reading
from mlflow_repro.compare.artifacts.models import LEFT_OUT, clean_json
from mlflow_repro.compare.artifacts.scalars import compare_trees, read_number
from mlflow_repro.compare.artifacts.text import clean_output
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from mlflow_repro.compare.artifacts.blobs import Blob, Context

VOLATILE_MLMODEL_KEYS = (
    "artifact_path",  # in MLflow 3 the folder of the model, which has its id in it
    "model_id",
    "model_size_bytes",  # follows from the files, which are compared themselves
    "model_uuid",
    "run_id",
    "utc_time_created",
)
"""What of an MLmodel file differs between two runs that are the same."""
ENVIRONMENT_FILES = ("conda.yaml", "python_env.yaml", "requirements.txt")
"""They describe the environment of a model: facts, which explain and do not judge."""
_YAML_WORD = re.compile(r"\.(inf|nan)$", re.IGNORECASE)
_SETS = ("skops_trusted_types",)
"""Keys of an MLmodel file under which there is a list in the order of a set."""
_WIDGET = "application/vnd.jupyter.widget-view+json"
_NOT_JUDGED = "it describes the environment, which explains and does not judge"


def parse_json(content: bytes, context: Context) -> Any:
    """JSON in UTF-8; of a key that is given twice nobody knows which one counts. Raises UnreadableError."""
    _check_nodes(content, context)
    with reading("JSON"):
        return _JSON.decode(content.decode("utf-8-sig"))


def _check_nodes(content: bytes, context: Context) -> None:
    """Before they are made: as many values, or nearly, as there are signs that begin one."""
    if sum(map(content.count, (b",", b"[", b"{"))) > context.limits.nodes:
        raise TooLargeError(f"it holds more than {context.limits.nodes} values")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnreadableError("a key is given twice")
    return found


def _read_real(text: str) -> float | str:
    value = float(text)
    return value if math.isfinite(value) else text  # 1e999 is a number, and not the same as 2e999


_JSON = json.JSONDecoder(object_pairs_hook=_read_object, parse_float=_read_real)


def compare_json(one: Blob, other: Blob, context: Context, ignored: tuple[str, ...] = ()) -> Outcome:
    """The values; spaces and the order of keys do not count."""
    left, right = (parse_json(blob.read(context.limits.parsed), context) for blob in (one, other))
    taken = clean_json(left), clean_json(right)
    same = "the JSON values" + (f", without {LEFT_OUT}" if taken[0] != taken[1] else "")
    return compare_trees(left, right, context, ignored=ignored, same=same)


def compare_json_lines(one: Blob, other: Blob, context: Context) -> Outcome:
    """One JSON value a line; empty lines do not count."""
    left, right = (_parse_lines(blob.read(context.limits.parsed), context) for blob in (one, other))
    return compare_trees(left, right, context, same="the JSON values")


def _parse_lines(content: bytes, context: Context) -> list[Any]:
    _check_nodes(content, context)
    with reading("JSON"):
        lines = content.decode("utf-8-sig").encode().splitlines()  # by bytes: text ends lines at more places
        return [_JSON.decode(line.decode()) for line in lines if line.strip()]


def compare_keras_metadata(one: Blob, other: Blob, context: Context) -> Outcome:
    """``metadata.json`` of a ``.keras`` file, without the date."""
    return compare_json(one, other, context, ignored=("date_saved",))


def compare_keras_config(one: Blob, other: Blob, context: Context) -> Outcome:
    """``config.json`` of a ``.keras`` file, without what are addresses in memory."""
    return compare_json(one, other, context, ignored=("shared_object_id",))


def compare_yaml(one: Blob, other: Blob, context: Context) -> Outcome:
    """The values; comments, spaces and the order of keys do not count."""
    return compare_trees(_parse_yaml(one, context), _parse_yaml(other, context), context, same="the YAML values")


def compare_mlmodel(one: Blob, other: Blob, context: Context) -> Outcome:
    """An MLmodel file without what every run has anew; versions of packages are the environment, a fact."""
    left, right = _parse_yaml(one, context), _parse_yaml(other, context)
    taken, also_taken = _take_volatile(left), _take_volatile(right)
    paths = [path for path in {**taken, **also_taken} if taken.get(path) != also_taken.get(path)]
    differing = sorted({path.rpartition(".")[2] for path in paths})
    same = "the model's description" + (f", without {', '.join(differing)}" if differing else "")
    return compare_trees(left, right, context, same=same)


def _take_volatile(tree: Any) -> dict[str, Any]:
    """Take out of an MLmodel file, and give by its path, what is not judged; only where MLflow writes it."""
    if not isinstance(tree, dict):
        return {}
    flavors = tree.get("flavors")
    levels = {"": tree, **(flavors if isinstance(flavors, dict) else {})}
    taken = {}
    for place, level in levels.items():
        for key in list(level) if isinstance(level, dict) else ():
            if str(key).endswith("_version") or (level is tree and key in VOLATILE_MLMODEL_KEYS):
                taken[f"{place}.{key}"] = level.pop(key)
            elif key in _SETS and isinstance(level[key], list):
                taken[f"{place}.the order of {key}"] = level[key]
                level[key] = sorted(level[key], key=repr)
    return taken


def compare_notebook(one: Blob, other: Blob, context: Context) -> Outcome:
    """A notebook: cells and their outputs, without when and how long they were executed, and without made-up ids."""
    left, right = (parse_json(blob.read(context.limits.parsed), context) for blob in (one, other))
    taken = [_clean_notebook(tree) for tree in (left, right)]
    differing = sorted(name for name in {**taken[0], **taken[1]} if taken[0].get(name) != taken[1].get(name))
    same = "the notebook" + (f", without {', '.join(differing)}" if differing else "")
    return compare_trees(left, right, context, same=same)


def _clean_notebook(tree: Any) -> dict[str, list[Any]]:
    """Take out of a notebook, and give by its name, what is not judged; text that is kept as lines becomes one."""
    taken: dict[str, list[Any]] = {}
    if not isinstance(tree, dict):
        return taken
    places = [(tree.get("metadata"), "metadata.papermill", "papermill"), (tree.get("metadata"), "widgets", "widgets")]
    cells = [cell for cell in tree.get("cells") or () if isinstance(cell, dict)]
    for cell in cells:
        places += [(cell, "ids of cells", "id")]
        places += [(cell.get("metadata"), f"metadata.{key}", key) for key in ("execution", "papermill")]
        cell["source"] = _join(cell.get("source"))
    for level, name, key in places:
        if isinstance(level, dict) and key in level:
            taken.setdefault(name, []).append(level.pop(key))
    outputs = [output for cell in cells for output in cell.get("outputs") or () if isinstance(output, dict)]
    for output in outputs:
        _clean_output(output, taken)
    return taken


def _clean_output(output: dict[str, Any], taken: dict[str, list[Any]]) -> None:
    found = output.get("data")
    data: dict[str, Any] = found if isinstance(found, dict) else {}
    for level, key in [(output, "text"), *((data, key) for key in data)]:
        text = _join(level.get(key))
        if isinstance(text, str):
            level[key], out = clean_output(key, text)
            for name, values in out.items():
                taken.setdefault(name, []).extend(values)
    view = data.get(_WIDGET)
    if isinstance(view, dict) and "model_id" in view:
        taken.setdefault("widgets", []).append(view.pop("model_id"))


def _join(text: Any) -> Any:
    return "".join(text) if isinstance(text, list) and all(isinstance(line, str) for line in text) else text


def compare_environment_file(one: Blob, other: Blob, context: Context) -> Outcome:
    """What a model says about its environment: compared as what it is, shown, and not judged."""
    from mlflow_repro.compare.artifacts.text import compare_text

    compare = compare_text if one.name.endswith(".txt") else compare_yaml
    try:
        outcome = compare(one, other, context)
    except UnreadableError as error:
        outcome = Outcome(status=Status.DIFFERENT, note=str(error))
    if outcome.status is Status.IDENTICAL:
        return outcome
    return Outcome(status=Status.IGNORED, note=f"{_NOT_JUDGED}; {outcome.note}")


class _Loader(yaml.SafeLoader):
    """The safe loader, written in Python: a document that is too deep is an exception there, not a crash."""


class _Written(str):
    """A number or a time that YAML reads, and that is compared as it is written: ``007``, ``0x10``, ``12:30:45``."""

    __slots__ = ()


def _construct_number(_loader: _Loader, node: yaml.ScalarNode) -> Any:
    value = read_number(_YAML_WORD.sub(r"\1", node.value))
    return _Written(node.value) if value is None else value


_Loader.add_constructor("tag:yaml.org,2002:int", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_number)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: _Written(node.value))


def _parse_yaml(blob: Blob, context: Context) -> Any:
    content = blob.read(context.limits.parsed_yaml)
    with reading("YAML"):
        loader = _Loader(content.decode("utf-8-sig"))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if _expanded_size(node, {}) > context.limits.nodes:
                raise TooLargeError("its aliases stand for too many values")
            return loader.construct_document(node)
        finally:
            loader.dispose()


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for when each alias is written out. Raises UnreadableError for a circle."""
    known = sizes.get(id(node))
    if known is not None:
        if known < 0:
            raise UnreadableError("an alias is a part of itself")
        return known
    sizes[id(node)] = -1
    size = 1
    if isinstance(node, yaml.SequenceNode):
        size += sum(_expanded_size(item, sizes) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if len(set(keys)) != len(keys):
            raise UnreadableError(f"a key is given twice: {quote(max(keys, key=keys.count))}")
        size += sum(_expanded_size(key, sizes) + _expanded_size(value, sizes) for key, value in node.value)
    sizes[id(node)] = size
    return size
