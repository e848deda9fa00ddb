"""Artifacts of each format, made by the library that people make them with: same, other bytes, one element changed."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import io
import json
import lzma
import math
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import strategies  # noqa: F401 - hypothesis' profile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from mlflow_repro.compare.artifacts import COMPARATORS, compare_artifact
from mlflow_repro.values.comparison import MIRRORED, Status
from mlflow_repro.values.rules import EXACT, Tolerances

TOLERANCES = Tolerances()
LOOSE = Tolerances(rel_tol=1e-3)
WEIGHTS = np.linspace(-1, 1, 24, dtype="f4").reshape(2, 3, 4)


def compare(directory: Path, name: str, one: bytes, other: bytes, tolerances: Tolerances = TOLERANCES):
    """The finding about two contents of an artifact called ``name``."""
    paths = []
    for side, content in (("one", one), ("other", other)):
        path = directory / side / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    return compare_artifact(name, *paths, tolerances)


def nudged(array: np.ndarray, *, by: float = 1.0) -> np.ndarray:
    """A copy with one element changed."""
    changed = array.copy()
    changed.reshape(-1)[5] += np.array(by, dtype=array.dtype)
    return changed


def npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_v2(array: np.ndarray) -> bytes:
    """The same array in the second version of the format."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    return stream.getvalue()


def npz(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def zipped(members: dict[str, bytes], year: int = 2020, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (year, 1, 1, 0, 0, 0)), content, method)
    return stream.getvalue()


def tarred(members: dict[str, bytes | tarfile.TarInfo], mtime: int = 0, mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), mtime
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def parquet(columns: dict[str, object], **options: object) -> bytes:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), stream, **options)
    return stream.getvalue()


def hdf5(kernel: np.ndarray, **options: object) -> bytes:
    h5py = pytest.importorskip("h5py")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["model_config"] = json.dumps({"units": 3})
        group = file.create_group("layers/dense")
        group.create_dataset("kernel", data=kernel, **options)
        group.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
        group["again"] = h5py.SoftLink("/layers/dense/kernel")
        group["self"] = file["layers"]
    return stream.getvalue()


def keras_file(kernel: np.ndarray, date: str, object_id: int) -> bytes:
    return zipped(
        {
            "metadata.json": json.dumps({"keras_version": "3.0", "date_saved": date}).encode(),
            "config.json": json.dumps({"class_name": "Sequential", "shared_object_id": object_id}).encode(),
            "model.weights.h5": hdf5(kernel),
        }
    )


def safetensors(tensors: dict[str, tuple[str, np.ndarray]], metadata: dict[str, str] | None = None) -> bytes:
    """The format by its specification: the length of the header, the header, the data."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    content = b""
    for name, (dtype, array) in tensors.items():
        raw = array.tobytes()
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(content), len(content) + len(raw)]}
        content += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def checkpoint_index(tensors: dict[str, int], graph: bytes = b"graph") -> bytes:
    """An index of TensorFlow's: one block of names and messages, one of blocks, a footer; all keys written whole."""

    def block(entries: dict[bytes, bytes]) -> bytes:
        content, starts = b"", []
        for key, value in sorted(entries.items()):
            starts.append(len(content))
            content += bytes([0, len(key), len(value)]) + key + value
        return content + b"".join(n.to_bytes(4, "little") for n in (*starts, len(starts)))

    def message(checksum: int) -> bytes:
        return b"\x08\x01\x12\x04\x12\x02\x08\x03\x28\x0c\x35" + checksum.to_bytes(4, "little")

    def number(value: int) -> bytes:
        return bytes([value % 128 + 128, value // 128])

    entries = {name.encode(): message(checksum) for name, checksum in tensors.items()}
    data = block({b"": b"", b"_CHECKPOINTABLE_OBJECT_GRAPH": graph, **entries})
    blocks = block({b"z": b"\0" + number(len(data))})
    place = number(len(data) + 5) + number(len(blocks))
    return data + bytes(5) + blocks + bytes(5) + (b"\0\0" + place).ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def picture(color: tuple[int, int, int] = (10, 20, 30), **options: object) -> bytes:
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.new("RGB", (40, 30), (10, 20, 30))
    image.putpixel((7, 3), color)
    stream = io.BytesIO()
    image.save(stream, **{"format": "PNG", **options})
    return stream.getvalue()


def joblib_bytes(value: object, **options: object) -> bytes:
    joblib = pytest.importorskip("joblib")
    stream = io.BytesIO()
    joblib.dump(value, stream, **options)
    return stream.getvalue()


def figure(extension: str, date: dt.datetime, values: list[int]) -> bytes:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    drawn = plt.figure(figsize=(2, 2))
    plt.plot(values)
    stream = io.BytesIO()
    drawn.savefig(stream, format=extension, metadata={"Date" if extension == "svg" else "CreationDate": date})
    plt.close(drawn)
    return stream.getvalue()


COLUMNS = {"x": [1.0, None, 3.0], "t": ["a", "b", "a"], "l": [[1], [], [2]]}
MODEL = {"coef_": WEIGHTS, "steps": ["scale", {"C": 1.0}], "classes": {"a", "b", "c"}}
MLMODEL = """\
artifact_path: /tmp/{0}
flavors:
  sklearn: {{pickled_model: model.pkl, sklearn_version: 1.{0}}}
mlflow_version: 3.{0}
model_id: m-{0}
model_size_bytes: {0}
model_uuid: {0}
run_id: {0}
saved_input_example_info: {{artifact_path: {1}}}
utc_time_created: '{0}'
"""
PNG_INFO = "a comment"
PLOTLY = '<div id="{0}" class="plotly-graph-div"></div><script>Plotly.newPlot("{0}", [1, 2])</script>\n'
LOG = """\
2026-01-02 10:20:{0},123 INFO train: epoch 1, loss 0.5
[10:20:{1}] done
"""
SUMMARY = """\
Dep. Variable:                      y   R-squared:                       0.977
Date:                Mon, {0} Nov 2026   Prob (F-statistic):           1.12e-92
Time:                        10:20:3{1}   Log-Likelihood:                -29.741
"""


def notebook(made_up: str, result: str = "0.5") -> bytes:
    """A notebook as papermill leaves it; ``made_up`` is in everything that is another one in each execution."""
    output = {"name": "stdout", "output_type": "stream", "text": ["loss\n", f"<f at 0x7f00000000{made_up}0>\n"]}
    cells = [
        {"cell_type": "code", "id": f"cell{made_up}", "source": "# Parameters\nx = 1", "outputs": [],
         "execution_count": 1, "metadata": {"tags": ["injected-parameters"], "papermill": {"duration": made_up}}},
        {"cell_type": "code", "id": "fixed", "source": ["print(x)"], "execution_count": 2,
         "outputs": [output, {"output_type": "execute_result", "data": {"text/plain": result}, "execution_count": 2}],
         "metadata": {"execution": {"iopub.execute_input": f"2026-01-0{made_up}"}}},
    ]  # fmt: skip
    metadata = {"papermill": {"start_time": made_up}, "kernelspec": {"name": "python3"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def png_with_text() -> bytes:
    png = pytest.importorskip("PIL.PngImagePlugin")
    info = png.PngInfo()
    info.add_text("Software", PNG_INFO)
    return picture(pnginfo=info, compress_level=1)


def catboost_model(made_up: int, *, is_onnx: bool = False, leaf: int = 1) -> bytes:
    """The part of a model in which CatBoost writes an id and the time of the training."""
    name = f"{made_up:08x}-00000000-00000000-00000000".encode()
    moment = f"2026-01-02T03:04:{made_up:02d}Z".encode()
    if is_onnx:
        return b"\x0a\x11train_finish_time\x12\x14" + moment + b"r1\x0a\x0amodel_guid\x12#" + name + bytes([leaf, 0xFF])
    info = b"#\0\0\0" + name + b"\0\n\0\0\0model_guid\0\x14\0\0\0" + moment + b"\0\0\0\0\x11\0\0\0train_finish_time\0"
    return b"CBM1" + info + bytes([leaf])


def field(number: int, value: bytes) -> bytes:
    """A field of a message of Protocol Buffers, of fewer than 128 bytes."""
    return bytes([8 * number + 2, len(value)]) + value


def onnx_model(operator_sets: bytes = b"ab", *, nodes: bytes = b"pq", weights: bytes = b"xy") -> bytes:
    """A model in ONNX, each of whose parts is a letter."""
    parts = [field(1, bytes([one])) for one in nodes] + [field(5, bytes([one])) for one in weights]
    version = bytes([8, 10])  # a field of a number
    return version + field(7, b"".join(parts)) + b"".join(field(8, bytes([one])) for one in operator_sets)


SAME_CONTENT = {
    "a.json": lambda: (b'{"a": [1, 2.5], "b": null}', b'{"b":null,\n"a":[1,2.5]}\n'),
    "a.jsonl": lambda: (b'{"a": 1}\n{"b": 2}\n', b'{"a":1}\n\n{"b":2}'),
    "a.yaml": lambda: (b"a: 1\nb: [x, y]\n", b"# a comment\nb:\n- x\n- y\na: 1\n"),
    "a.csv": lambda: (b"x,y\n1,a\n", b'"x","y"\r\n1.0,"a"\r\n'),
    "cv_results.csv": lambda: (b"mean_fit_time,rank\n0.25,1\n", b"mean_fit_time,rank\n0.5,1\n"),
    "a.tsv": lambda: (b"x\ty\n1\ta\n", b"x\ty\r\n1\ta\r\n"),
    "a.txt": lambda: (b"one\ntwo\n", b"one\r\ntwo\r\n"),
    "a.html": lambda: (b"<p>f at 0x7fd658d07740\n", b"<p>f at 0x7f11dd86c900\n"),
    "b.html": lambda: tuple(PLOTLY.format(f"{n}1e0bb1c-7d6b-4c6e-9a55-0123456789ab").encode() for n in (1, 2)),
    "train.log": lambda: tuple(LOG.format(second, second).encode() for second in (10, 11)),
    "a.ipynb": lambda: tuple(notebook(str(n)) for n in (1, 2)),
    "model_summary.txt": lambda: tuple(SUMMARY.format(f"0{n}", n).encode() for n in (1, 2)),
    "m/MLmodel": lambda: (MLMODEL.format(1, "x").encode(), MLMODEL.format(2, "x").encode()),
    "a.npy": lambda: (npy(WEIGHTS), npy_v2(WEIGHTS)),
    "a.npz": lambda: (npz(a=WEIGHTS), npz(a=WEIGHTS, compressed=True)),
    "a.parquet": lambda: (
        parquet(COLUMNS),
        parquet(COLUMNS, row_group_size=2, compression="gzip"),
    ),
    "a.h5": lambda: (hdf5(WEIGHTS), hdf5(WEIGHTS, compression="gzip", chunks=True)),
    "a.keras": lambda: (keras_file(WEIGHTS, "2020", 1), keras_file(WEIGHTS, "2021", 2)),
    "variables/variables.index": lambda: (
        checkpoint_index({"w": 1, "_all_variables/0/x": 5, "_all_variables/1/x": 6}),
        checkpoint_index({"w": 1, "_all_variables/0/x": 6, "_all_variables/1/x": 5}, b"another"),
    ),
    "a.safetensors": lambda: (
        safetensors({"a": ("F32", WEIGHTS), "b": ("I64", np.arange(3))}),
        safetensors({"b": ("I64", np.arange(3)), "a": ("F32", WEIGHTS)}, {"made": "today"}),
    ),
    "a.zip": lambda: (zipped({"a": b"1", "b.json": b"[1]"}), zipped({"b.json": b"[ 1]", "a": b"1"}, year=2021)),
    "a.tar": lambda: (tarred({"a": b"1", "b": b"2"}), tarred({"b": b"2", "a": b"1"}, mtime=9)),
    "a.tar.gz": lambda: (tarred({"a": b"1"}, mode="w:gz"), tarred({"a": b"1"}, mtime=9, mode="w:gz")),
    "a.json.gz": lambda: (gzip.compress(b"[1]", mtime=1), gzip.compress(b"[1]", mtime=2)),
    "a.txt.bz2": lambda: (bz2.compress(b"a" * 999, 1), bz2.compress(b"a" * 999, 9)),
    "a.txt.xz": lambda: (lzma.compress(b"a" * 999, check=1), lzma.compress(b"a" * 999, check=4)),
    "a.png": lambda: (picture(), png_with_text()),
    "a.tiff": lambda: (picture(format="TIFF"), picture(format="TIFF", compression="tiff_lzw")),
    "a.svg": lambda: (
        figure("svg", dt.datetime(2020, 1, 1), [1, 2]),  # noqa: DTZ001 - as matplotlib writes it
        figure("svg", dt.datetime(2021, 1, 1), [1, 2]),  # noqa: DTZ001
    ),
    "a.pdf": lambda: (
        figure("pdf", dt.datetime(2020, 1, 1), [1, 2]),  # noqa: DTZ001
        figure("pdf", dt.datetime(2021, 1, 1), [1, 2]),  # noqa: DTZ001
    ),
    "a.cbm": lambda: (catboost_model(1), catboost_model(2)),
    "a.onnx": lambda: tuple(catboost_model(n, is_onnx=True) for n in (1, 2)),
    "b.onnx": lambda: (onnx_model(b"ab", weights=b"xy"), onnx_model(b"ba", weights=b"yx")),
    "prophet.pkl": lambda: tuple(
        pickle.dumps({"fit": {"runset": {"_output_dir": n, "_args": {"data": n}}, "_cmdstan_config": {"init": n}}})
        for n in ("one/b", "two/b")
    ),
    "cat.pkl": lambda: tuple(pickle.dumps({"__model": catboost_model(n)}) for n in (1, 2)),
    "cat.json": lambda: tuple(
        json.dumps({"features_info": {}, "model_info": {"model_guid": n, "train_finish_time": n}}).encode()
        for n in (1, 2)
    ),
    "grid.pkl": lambda: tuple(
        pickle.dumps([{"cv_results_": {"mean_fit_time": n}, "refit_time_": n, "_stop_words_id": n}]) for n in (1, 2)
    ),
    "a.pkl": lambda: (pickle.dumps(MODEL, 2), pickle.dumps(MODEL, 5)),
    "a.joblib": lambda: (joblib_bytes(MODEL), joblib_bytes(MODEL, compress=3)),
    "unknown": lambda: (zipped({"a": b"1"}), zipped({"a": b"1"}, year=2021)),
}  # fmt: skip
"""Two contents that mean the same and are not the same bytes, by a name that the format has."""

CHANGED = {
    "a.json": (lambda: (b'{"a": {"b": [1, 2]}}', b'{"a": {"b": [1, 3]}}'), "1 value differs: a.b[1]: 2 and 3"),
    "b.json": (lambda: (b'{"a": 1}', b"{}"), "1 value differs: a: 1 and nothing"),
    "c.json": (lambda: (b"[1, 2]", b"[1]"), "1 value differs: length of the list: 2 values and 1 values"),
    "d.json": (lambda: (b"[true]", b"[1]"), "1 value differs: [0]: True and 1"),
    "a.jsonl": (lambda: (b"1\n2\n", b"1\n3\n"), "[1]: 2 and 3"),
    "a.yaml": (lambda: (b"a: {b: x}\n", b"a: {b: y}\n"), "a.b: 'x' and 'y'"),
    "a.csv": (lambda: (b"x,y\n1,2\n3,4\n", b"x,y\n1,2\n3,5\n"), "1 cell differs: row 3, column 'y': '4' and '5'"),
    "b.csv": (lambda: (b"x,y\n1,2\n3,4\n", b"x,y\n3,4\n1,2\n"), "the same 3 rows in another order"),
    "cv_results.csv": (lambda: (b"std_fit_time,a\n1,1\n", b"std_fit_time,a\n2,2\n"), "1 cell differs: row 2, column"),
    "d.csv": (lambda: (b"mean_fit_time\n1\n", b"mean_fit_time\n2\n"), "column 'mean_fit_time': '1' and '2'"),
    "c.csv": (lambda: (b"x\n1\n2\n", b"x\n1\n"), "3 and 2 rows, those that both have are the same"),
    "a.tsv": (lambda: (b"x\ty\n", b"x\tz\n"), "columns 'x\\ty' and 'x\\tz'"),
    "a.txt": (
        lambda: (b"a\nb\nc\n", b"a\nx\nc\nd\n"),
        "line 2: 'b' and 'x'; 1 lines are in the reference only, 2 in the reproduction only",
    ),
    "b.txt": (lambda: (b"a\nb\n", b"b\na\n"), "the same 2 lines in another order"),
    "b.html": (
        lambda: tuple(PLOTLY.format("plot").replace("2]", f"{n}]").encode() for n in (2, 3)),
        "line 1: ",
    ),
    "train.log": (
        lambda: tuple(LOG.format(10, 11).replace("0.5", loss).encode() for loss in ("0.5", "0.6")),
        "line 1: 'INFO train: epoch 1, loss 0.5' and 'INFO train: epoch 1, loss 0.6'",
    ),
    "a.ipynb": (
        lambda: (notebook("1"), notebook("2", "0.6")),
        "1 value differs: cells[1].outputs[1].data.text/plain: '0.5' and '0.6'",
    ),
    "model_summary.txt": (
        lambda: tuple(SUMMARY.format("01", 1).replace("0.977", r).encode() for r in ("0.977", "0.978")),
        "line 1: ",
    ),
    "m/MLmodel": (
        lambda: (MLMODEL.format(1, "x").encode(), MLMODEL.format(2, "y").encode()),
        "1 value differs: saved_input_example_info.artifact_path: 'x' and 'y'",
    ),
    "n/MLmodel": (
        lambda: (b"metadata: {run_id: a, data_version: 1}\n", b"metadata: {run_id: b, data_version: 2}\n"),
        "2 values differ: metadata.run_id: 'a' and 'b'; metadata.data_version: 1 and 2",
    ),
    "a.npy": (
        lambda: (npy(WEIGHTS), npy(nudged(WEIGHTS))),
        "1 of 24 elements differ (shape [2, 3, 4], float32), the first at [5]: ",
    ),
    "b.npy": (lambda: (npy(WEIGHTS), npy(WEIGHTS[:1])), "shape [2, 3, 4] and [1, 3, 4]"),
    "c.npy": (lambda: (npy(WEIGHTS), npy(WEIGHTS.astype("f8"))), "dtype float32 and float64"),
    "a.npz": (
        lambda: (npz(a=WEIGHTS, b=WEIGHTS), npz(a=WEIGHTS, b=nudged(WEIGHTS))),
        "1 of 2 members differ: b.npy: 1 of 24",
    ),
    "a.parquet": (
        lambda: (parquet({"x": [1.0, 2.0], "y": [1, 2]}), parquet({"x": [1.0, 2.0], "y": [1, 3]})),
        "1 of 2 columns differ: y: 1 of 2 elements differ, the first at [1]: 2 and 3",
    ),
    "b.parquet": (
        lambda: (parquet({"t": ["a", "b"]}), parquet({"t": ["a", "c"]})),
        "[1]: 'b' and 'c'",
    ),
    "c.parquet": (lambda: (parquet({"x": [1.0, None]}), parquet({"x": [1.0, 2.0]})), "row 2 is empty on one side only"),
    "a.h5": (lambda: (hdf5(WEIGHTS), hdf5(nudged(WEIGHTS))), "/layers/dense/kernel: 1 of 24 elements differ"),
    "a.keras": (
        lambda: (keras_file(WEIGHTS, "1", 1), keras_file(nudged(WEIGHTS), "2", 2)),
        "model.weights.h5: 1 of 2 objects differ: /layers/dense/kernel: 1 of 24",
    ),
    "variables/variables.index": (
        lambda: (checkpoint_index({"v": 1, "w": 1}), checkpoint_index({"v": 1, "w": 2})),
        "1 of 2 tensors differ: w: another checksum",
    ),
    "b.index": (
        lambda: (checkpoint_index({"v": 1, "w": 2}), checkpoint_index({"v": 2, "w": 1})),
        "2 of 2 tensors differ",
    ),
    "a.safetensors": (
        lambda: (safetensors({"a": ("F32", WEIGHTS)}), safetensors({"a": ("F32", nudged(WEIGHTS))})),
        "1 of 1 tensors differ: a: 1 of 24",
    ),
    "b.safetensors": (
        lambda: tuple(safetensors({"a": ("BF16", np.array([bits, 1], "u2"))}) for bits in (0x3F80, 0x3F81)),
        "the first at [0]: 1.0 and 1.0078125",
    ),
    "c.safetensors": (
        lambda: tuple(safetensors({"a": ("F8_E4M3", np.array([1, bits], "u1"))}) for bits in (2, 3)),
        "1 of 2 elements differ",
    ),
    "a.zip": (
        lambda: (zipped({"a": b"1", "b": b"2"}), zipped({"a": b"1", "c": b"2"})),
        "2 of 3 members differ: b: only in the reference; c: only in the reproduction",
    ),
    "a.tar.gz": (
        lambda: (tarred({"a": b"1"}, mode="w:gz"), tarred({"a": b"2"}, mode="w:gz")),
        "a: line 1: '1' and '2'",
    ),
    "a.csv.gz": (lambda: (gzip.compress(b"x\n1\n"), gzip.compress(b"x\n2\n")), "row 2, column 'x': '1' and '2'"),
    "a.png": (
        lambda: (picture(), picture((10, 20, 31))),
        "1 of 1200 pixels differ, the first at x 7, y 3, by at most 1",
    ),
    "a.svg": (
        lambda: (figure("svg", None, [1, 2]), figure("svg", None, [1, 3])),
        "lines are in the reference only",
    ),
    "a.pdf": (
        lambda: (figure("pdf", None, [1, 2]), figure("pdf", None, [1, 3])),
        "a PDF is compared without its dates and ids, and no deeper",
    ),
    "a.pkl": (
        lambda: (pickle.dumps(MODEL), pickle.dumps({**MODEL, "coef_": nudged(WEIGHTS)})),
        "1 value differs: coef_: 1 of 24 elements differ (shape [2, 3, 4], float32), the first at [5]",
    ),
    "b.pkl": (lambda: (pickle.dumps({"a", "b"}), pickle.dumps({"a", "c"})), "'b' and 'c'"),
    "d.pkl": (lambda: (pickle.dumps({1}), pickle.dumps(frozenset({1}))), "the object: a set and a frozenset"),
    "e.pkl": (
        lambda: (pickle.dumps(np.ones((1, 2))), pickle.dumps(np.ones((1, 2)).view(np.recarray))),
        "numpy.ndarray and numpy.rec",
    ),
    "f.pkl": (
        lambda: tuple(pickle.dumps([np.ones(2), n], 5, buffer_callback=lambda _: None) for n in (1, 2)),
        "compared as bytes: a part of what the pickle makes is kept outside of it",
    ),
    "c.pkl": (
        lambda: (pickle.dumps(dt.timedelta(1)), pickle.dumps(Path("x"))),
        "the object: a datetime.timedelta and a ",
    ),
    "a.joblib": (
        lambda: (joblib_bytes(MODEL), joblib_bytes({**MODEL, "coef_": nudged(WEIGHTS)})),
        "1 value differs: coef_: 1 of 24 elements differ",
    ),
    "a.cbm": (
        lambda: (catboost_model(1), catboost_model(2, leaf=9)),
        "compared as bytes: nobody looks deeper into this format",
    ),
    "a.onnx": (
        lambda: tuple(catboost_model(n, is_onnx=True, leaf=n) for n in (1, 2)),
        "compared as bytes: it is cut off",
    ),
    "b.onnx": (lambda: (onnx_model(nodes=b"ab"), onnx_model(nodes=b"ba")), "compared as bytes: nobody"),
    "c.onnx": (lambda: (onnx_model(weights=b"ab"), onnx_model(weights=b"ac")), "compared as bytes: nobody"),
    "d.onnx": (lambda: (onnx_model(), onnx_model()[:-1]), "compared as bytes: it is cut off"),
    "e.onnx": (lambda: (onnx_model(), b"\x0f"), "compared as bytes: it is no message of Protocol Buffers"),
    "f.onnx": (lambda: (field(8, b"a"), field(8, b"b")), "compared as bytes: it holds no graph"),
    "prophet.pkl": (
        lambda: tuple(pickle.dumps({"runset": {"seed": n}, "_args": {"data": n}}) for n in (1, 2)),
        "2 values differ: runset.seed: 1 and 2; _args.data: 1 and 2",
    ),
    "cat.pkl": (lambda: tuple(pickle.dumps([catboost_model(n, leaf=n)]) for n in (1, 2)), "[0]: b'CBM1"),
    "cat.json": (lambda: (b'{"train_finish_time": 1}', b'{"train_finish_time": 2}'), "train_finish_time: 1 and 2"),
    "grid.pkl": (
        lambda: tuple(pickle.dumps({"mean_fit_time": n, "cv_results_": {"rank": n}}) for n in (1, 2)),
        "mean_fit_time: 1 and 2; cv_results_.rank: 1 and 2",
    ),
    "a.bin": (lambda: (b"\0\1\2", b"\0\1\3"), "the first difference is at byte 2; compared as bytes: it is not text"),
    "a.dat": (lambda: (b"\0\1\2", b"\0\1"), "3 and 2 bytes, the first difference is at byte 2; compared as bytes"),
}  # fmt: skip
"""Two contents that mean something else, and a part of what is said about it."""


@pytest.mark.parametrize("name", SAME_CONTENT)
def test_other_bytes_with_the_same_content_are_identical_and_it_says_so(tmp_path, name):
    one, other = SAME_CONTENT[name]()
    assert one != other
    found = compare(tmp_path, name, one, other)
    assert (found.status, found.kind, found.name) == (Status.IDENTICAL, "artifact", name), found.note
    assert found.note.startswith("same content in other bytes: ")
    assert "sha256 " in found.reference
    assert found.reference != found.reproduction


@pytest.mark.parametrize("name", SAME_CONTENT)
def test_the_same_bytes_are_identical_without_a_word(tmp_path, name):
    one, _ = SAME_CONTENT[name]()
    found = compare(tmp_path, name, one, one)
    assert (found.status, found.note) == (Status.IDENTICAL, "")


@pytest.mark.parametrize("name", CHANGED)
def test_one_change_is_a_difference_and_is_named(tmp_path, name):
    make, expected = CHANGED[name]
    found = compare(tmp_path, name, *make())
    assert found.status is Status.DIFFERENT
    assert expected in found.note


@pytest.mark.parametrize("name", CHANGED)
def test_swapping_the_sides_mirrors_the_finding(tmp_path, name):
    make, _ = CHANGED[name]
    one, other = make()
    forth, back = compare(tmp_path, name, one, other), compare(tmp_path, name, other, one)
    assert back.status is MIRRORED.get(forth.status, forth.status)
    assert (back.reference, back.reproduction) == (forth.reproduction, forth.reference)


NEAR = {
    "a.json": lambda: (b'{"loss": 0.5}', b'{"loss": 0.50001}'),
    "a.yaml": lambda: (b"loss: 0.5", b"loss: 0.50001"),
    "a.csv": lambda: (b"x\n0.5\n", b"x\n0.50001\n"),
    "a.npy": lambda: (npy(WEIGHTS), npy(nudged(WEIGHTS, by=1e-5))),
    "a.npz": lambda: (npz(a=WEIGHTS), npz(a=nudged(WEIGHTS, by=1e-5))),
    "a.parquet": lambda: (parquet({"x": [0.5]}), parquet({"x": [0.50001]})),
    "a.h5": lambda: (hdf5(WEIGHTS), hdf5(nudged(WEIGHTS, by=1e-5))),
    "a.safetensors": lambda: (
        safetensors({"a": ("F32", WEIGHTS)}),
        safetensors({"a": ("F32", nudged(WEIGHTS, by=1e-5))}),
    ),
    "a.pkl": lambda: (pickle.dumps(WEIGHTS), pickle.dumps(nudged(WEIGHTS, by=1e-5))),
    "a.joblib": lambda: (joblib_bytes(WEIGHTS), joblib_bytes(nudged(WEIGHTS, by=1e-5))),
}


@pytest.mark.parametrize("name", NEAR)
def test_numbers_may_lie_within_tolerance(tmp_path, name):
    assert compare(tmp_path, name, *NEAR[name](), LOOSE).status is Status.CLOSE
    assert compare(tmp_path, name, *NEAR[name]()).status is Status.DIFFERENT


@pytest.mark.parametrize(("ulp", "status"), [(2, Status.CLOSE), (1, Status.DIFFERENT)])
def test_numbers_of_a_text_may_lie_some_ulp_apart(tmp_path, ulp: int, status: Status):
    later = math.nextafter(math.nextafter(0.1, 1), 1)
    tolerances = Tolerances(rel_tol=0.0, ulp=ulp)
    for name, form in (("a.json", '{{"x": {!r}}}'), ("a.csv", "x\n{!r}\n")):
        one, other = (form.format(number).encode() for number in (0.1, later))
        assert compare(tmp_path, name, one, other, tolerances).status is status


class TestArrays:
    """What is said about two arrays."""

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
    def test_one_unit_in_the_last_place(self, tmp_path, dtype):
        one = np.array([1.0, -2.0, 3.0], dtype=dtype)
        other = np.nextafter(one.astype(one.dtype.newbyteorder("=")), np.array(9, one.dtype.newbyteorder("="))).astype(
            dtype
        )
        found = compare(tmp_path, "a.npy", npy(one), npy(other), Tolerances(rel_tol=0.01))
        assert found.status is Status.CLOSE
        assert "3 of 3 elements differ" in found.note
        assert "1 ULP)" in found.note
        for ulp, status in ((1, Status.CLOSE), (0, Status.DIFFERENT)):
            assert compare(tmp_path, "a.npy", npy(one), npy(other), Tolerances(rel_tol=0.0, ulp=ulp)).status is status

    @pytest.mark.parametrize(
        ("one", "other", "status", "note"),
        [
            ([np.nan, 1], [np.nan, 1.5], Status.DIFFERENT, "1 of 2 elements differ"),
            ([np.nan], [1.0], Status.DIFFERENT, "NaN on one side only"),
            ([0.0], [-0.0], Status.CLOSE, "1 of 1 elements differ"),
            ([np.inf], [-np.inf], Status.DIFFERENT, "the first at [0]: inf and -inf"),
            ([1 + 2j], [1 + 3j], Status.DIFFERENT, "(1+2j) and (1+3j)"),
            ([2**62], [2**62 + 1], Status.DIFFERENT, "by at most 1 (relative 2.17e-19)"),
            ([True], [False], Status.DIFFERENT, "True and False"),
            (["a"], ["b"], Status.DIFFERENT, "'a' and 'b'"),
            (["2020-01-01"], ["2020-01-02"], Status.DIFFERENT, "elements differ"),
        ],
        ids=repr,
    )
    def test_kinds_of_elements(self, tmp_path, one, other, status, note):
        is_date = one == ["2020-01-01"]
        arrays = [np.array(side, dtype="M8[D]" if is_date else None) for side in (one, other)]
        found = compare(tmp_path, "a.npy", *map(npy, arrays))
        assert found.status is status
        assert note in found.note

    def test_exact_tells_zeros_of_two_signs_apart(self, tmp_path):
        sides = [np.array([zero, 1.0]) for zero in (0.0, -0.0)]
        for name, write in (("a.npy", npy), ("a.json", lambda array: json.dumps(array.tolist()).encode())):
            contents = list(map(write, sides))
            assert compare(tmp_path, name, *contents).status is Status.CLOSE, name
            assert compare(tmp_path, name, *contents, EXACT).status is Status.DIFFERENT, name

    def test_padding_between_the_fields_of_a_structure_does_not_count(self, tmp_path):
        """scikit-learn's trees are such arrays, and what is in the gaps is whatever was in memory."""
        dtype = np.dtype([("a", "i1"), ("b", "f8")], align=True)
        one, other = (np.frombuffer(bytes([1, *gap, *bytes(8)]), dtype=dtype) for gap in ([0] * 7, [9] * 7))
        for name, dump in (("a.npy", npy), ("a.pkl", pickle.dumps), ("a.joblib", joblib_bytes)):
            assert dump(one) != dump(other)
            assert compare(tmp_path, name, dump(one), dump(other)).status is Status.IDENTICAL, name
        other = other.copy()
        other["b"] = 1
        assert ".b[0]: 0.0 and 1.0" in compare(tmp_path, "a.npy", npy(one), npy(other)).note

    @given(st_numpy.arrays(st.sampled_from(["f4", "f8", "i8", "u2", "c16"]), st.integers(1, 6)), st.floats(0, 1))
    def test_any_array_is_itself_in_any_format(self, tmp_path_factory, array, tolerance):
        """NaN of any payload, zeros of both signs: IDENTICAL even where the bytes are not compared."""
        directory = tmp_path_factory.mktemp("arrays")
        found = compare(directory, "a.npz", npz(a=array), npz(a=array, compressed=True), Tolerances(rel_tol=tolerance))
        assert found.status is Status.IDENTICAL


class TestPickles:
    """They are read, never loaded."""

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize(
        "value",
        [
            [1, 2**70, -1.5, None, True, "é\n", b"\0\xff", bytearray(b"x")],
            {"a": (1, (2, (3, (4, 5)))), "b": [{}, [], (), set(), frozenset({1})]},
            np.arange(6.0).reshape(2, 3).T,
            np.array([1, "a", None], dtype=object),
            np.float64(0.5),
            dt.datetime(2020, 1, 2, tzinfo=dt.timezone.utc),
            Path("a/b"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_whatever_the_protocol(self, tmp_path, protocol, value):
        """Protocol 0 is lines of text; every opcode that Python's own pickler writes is understood."""
        one, other = pickle.dumps([value, value], protocol), pickle.dumps([value, value, 1], protocol)
        found = compare(tmp_path, "a.pkl", one, other)
        assert found.status is Status.DIFFERENT
        assert "2 and 3 values" in found.note
        assert "compared as bytes" not in found.note

    def test_a_part_of_itself(self, tmp_path):
        value: list[object] = [1]
        value.append(value)
        other: list[object] = [2]
        other.append(other)
        assert (
            compare(tmp_path, "a.pkl", pickle.dumps(value), pickle.dumps(other)).note == "1 value differs: [0]: 1 and 2"
        )

    def test_sets_whose_order_depends_on_the_process(self, tmp_path):
        """PYTHONHASHSEED orders a set of text anew in each process."""
        program = "import pickle, sys; sys.stdout.buffer.write(pickle.dumps([{'a', 'b', 'c', 'd'}, frozenset('xyz')]))"
        one, other = (
            subprocess.run(
                [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True, capture_output=True
            ).stdout
            for seed in ("1", "2")
        )
        assert one != other
        assert compare(tmp_path, "a.pkl", one, other).status is Status.IDENTICAL

    def test_classes_and_functions_of_a_script(self, tmp_path):
        """Cloudpickle writes them whole, with an id drawn anew in each process and the folder of the script."""
        pytest.importorskip("cloudpickle")
        made = []
        for folder, constant in (("one", 2), ("two", 2), ("three", 3)):
            script = tmp_path / folder / "train.py"
            script.parent.mkdir()
            script.write_text(
                "import cloudpickle, sys\n"
                "class Model:\n"
                "    def predict(self, x):\n"
                f"        return x * {constant} + 0.5\n"
                "sys.stdout.buffer.write(cloudpickle.dumps([Model(), lambda v: v + 1]))\n"
            )
            made.append(subprocess.run([sys.executable, str(script)], check=True, capture_output=True).stdout)
        assert made[0] != made[1]
        found = compare(tmp_path, "python_model.pkl", made[0], made[1])
        assert (found.status, "compared as bytes" in found.note) == (Status.IDENTICAL, False), found.note
        assert "cloudpickle's class ids, the folders of source files" in found.note
        found = compare(tmp_path, "python_model.pkl", made[0], made[2])
        assert (found.status, "compared as bytes" in found.note) == (Status.DIFFERENT, False), found.note

    def test_a_forest_of_scikit_learn(self, tmp_path):
        """Same seed: the same; another seed: the arrays of the trees differ, and it says where."""
        ensemble = pytest.importorskip("sklearn.ensemble")
        features, target = np.arange(60.0).reshape(20, 3) % 7, np.arange(20) % 2
        forests = [ensemble.RandomForestClassifier(3, random_state=seed).fit(features, target) for seed in (1, 1, 2)]
        forests[1]._mlflow_run_id = "autologging writes this"
        forests[0]._mlflow_run_id = "and in another run this"
        for name, dump in (("m.pkl", pickle.dumps), ("m.joblib", joblib_bytes)):
            same = compare(tmp_path, name, dump(forests[0]), dump(forests[1]))
            assert same.status is Status.IDENTICAL
            assert same.note.endswith("what the pickle makes, without _mlflow_run_id")
            other = compare(tmp_path, name, dump(forests[0]), dump(forests[2]))
            assert other.status is Status.DIFFERENT
            assert "random_state: 1 and 2" in other.note


def test_skops_names_members_by_addresses_which_do_not_count(tmp_path):
    skops = pytest.importorskip("skops.io")
    linear = pytest.importorskip("sklearn.linear_model")
    features, target = np.arange(60.0).reshape(20, 3) % 7, np.arange(20) % 2
    models = [linear.LogisticRegression(C=c).fit(features, target) for c in (1.0, 1.0, 0.5)]
    one, again, other = map(skops.dumps, models)
    assert one != again
    found = compare(tmp_path, "m.skops", one, again)
    assert (found.status, "ids and member names by their order" in found.note) == (Status.IDENTICAL, True), found.note
    found = compare(tmp_path, "m.skops", one, other)
    assert found.status is Status.DIFFERENT
    assert "compared as bytes" not in found.note


KERAS = """\
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np
keras.utils.set_random_seed(int(sys.argv[2]))
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
model.compile("adam", "mse")
model.fit(np.arange(40.0).reshape(10, 4), np.arange(10.0), verbose=0)
os.makedirs(sys.argv[1])
for name in ("m.keras", "m.h5"):
    model.save(f"{sys.argv[1]}/{name}")
model.save_weights(f"{sys.argv[1]}/m.weights.h5")
model.export(f"{sys.argv[1]}/saved", verbose=False)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_models_of_keras_of_three_processes(tmp_path):
    """Every form that Keras writes: the same from the same seed, another one from another seed."""
    pytest.importorskip("tensorflow")
    for folder, seed in (("one", "1"), ("two", "1"), ("three", "2")):
        command = [sys.executable, "-c", KERAS, str(tmp_path / folder), seed]
        subprocess.run(command, check=True, capture_output=True)
    names = [str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert {"m.keras", "m.h5", "m.weights.h5", "saved/variables/variables.index"} <= set(names)
    for name in names:
        found = compare_artifact(name, tmp_path / "one" / name, tmp_path / "two" / name, TOLERANCES)
        assert found.status in (Status.IDENTICAL, Status.IGNORED), (name, found.note)
        found = compare_artifact(name, tmp_path / "one" / name, tmp_path / "three" / name, TOLERANCES)
        # A graph without weights may be the same from another seed.
        assert found.status in (Status.DIFFERENT, Status.IGNORED) or ".pb" in name, (name, found.note)
        assert "compared as bytes" not in found.note
        assert found.status is Status.DIFFERENT or ".pb" in name or ".data-" in name


def test_a_checkpoint_of_torch(tmp_path):
    torch = pytest.importorskip("torch")

    def checkpoint(value: float) -> bytes:
        stream = io.BytesIO()
        torch.save({"weight": torch.tensor([1.0, value])}, stream)
        return stream.getvalue()

    assert compare(tmp_path, "m.pt", checkpoint(2.0), checkpoint(2.0)).status is Status.IDENTICAL
    assert compare(tmp_path, "m.pt", checkpoint(2.0), checkpoint(3.0)).status is Status.DIFFERENT


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("model/requirements.txt", b"numpy==1\n", b"numpy==2\n"),
        ("model/conda.yaml", b"dependencies: [a]\n", b"dependencies: [b]\n"),
        ("model/python_env.yaml", b"python: 3.11\n", b"python: 3.12\n"),
    ],
)
def test_environment_of_a_model_explains_and_does_not_judge(tmp_path, name, one, other):
    found = compare(tmp_path, name, one, other)
    assert (found.status, found.is_judged) == (Status.IGNORED, False)
    assert "describes the environment" in found.note
    assert compare(tmp_path, name, one, one).status is Status.IDENTICAL
    assert (
        compare(tmp_path, name, one, one + b"# x\n" if name.endswith("yaml") else one.replace(b"\n", b"\r\n")).status
        is Status.IDENTICAL
    )


@pytest.mark.parametrize(
    "name",
    [
        "m/data/model/saved_model.pb",
        "fingerprint.pb",
        "variables/variables.data-00000-of-00001",
        "logs/train/events.out.tfevents.1.host.2.v2",
        "estimator.html",
    ],
)
def test_what_nobody_can_read_and_always_differs_is_shown_and_not_judged(tmp_path, name):
    found = compare(tmp_path, name, b"\x08\1", b"\x08\2")
    assert found.status is Status.IGNORED
    assert found.note.startswith("not judged: ")
    assert compare(tmp_path, name, b"\x08\1", b"\x08\1").status is Status.IDENTICAL


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("h5py", "a.h5", "hdf5"), ("pyarrow", "a.parquet", "parquet"), ("PIL", "a.png", "images")],
)
def test_without_a_reader_nobody_can_say_and_it_says_what_to_install(tmp_path, monkeypatch, module, name, extra):
    """Of the file, and of an archive with it, unless another member differs; the same bytes are equal."""
    one, other = SAME_CONTENT[name]()
    for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    for wrapped in ("{}", "{}.gz", "a.zip"):
        pack = {"{}": bytes, "{}.gz": gzip.compress, "a.zip": lambda content: zipped({name: content, "b.txt": b"b"})}
        found = compare(tmp_path, wrapped.format(name), *map(pack[wrapped], (one, other)))
        assert found.status is Status.UNKNOWN
        assert "the bytes differ, and reading " in found.note
        assert f"pip install 'mlflow-repro[{extra}]'" in found.note
    found = compare(tmp_path, "a.zip", zipped({name: one, "b.txt": b"b"}), zipped({name: other, "b.txt": b"c"}))
    assert (found.status, "of 2 members differ" in found.note) == (Status.DIFFERENT, True)
    assert compare(tmp_path, name, one, one).status is Status.IDENTICAL


def test_secrets_in_files_are_not_quoted(tmp_path):
    one, other = b'{"api_key": "hunter2hunter2", "url": "https://u:hunter2@h/"}', b'{"api_key": "x", "url": "y"}'
    note = compare(tmp_path, "a.json", one, other).note
    assert "hunter2" not in note
    assert "[redacted]" in note
    note = compare(tmp_path, "a.txt", b"password = hunter2hunter2\n", b"password=hunter2\n").note
    assert "hunter2" not in note


def test_each_format_is_tested():
    """Every row of the table is met by a content above that is read by it."""
    from fnmatch import fnmatchcase

    names = [name.rpartition("/")[2].lower() for name in (*SAME_CONTENT, *CHANGED, "conda.yaml", "m.skops")]
    missing = [
        row.name
        for row in COMPARATORS
        if row.patterns and not any(fnmatchcase(name, pattern) for name in names for pattern in row.patterns)
    ]
    assert missing == []
