"""Labelled pairs of runs for `verdicts.py` that differ in an artifact, or in the order and the pace of their points.

Of each it is known what a verdict must be: what has another meaning is DIFFERENT, what a library makes up anew in each
process is IDENTICAL.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import stat
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IDENTICAL, WITHIN, DIFFERENT, CONSISTENT = "IDENTICAL", "WITHIN_TOLERANCE", "DIFFERENT", "CONSISTENT"
INCONCLUSIVE = "INCONCLUSIVE"
Points = list[tuple[float, int]]
"""Values that were logged without a step, and their times in milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """What a run of a pair left behind: files by their names, and points of a metric ``loss``."""

    files: dict[str, bytes] = field(default_factory=dict)
    points: Points = field(default_factory=lambda: [(0.5, 0)])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pair of a kind, or a run with its repeats; the rules, and the verdict that is right."""

    kind: str
    reference: Side
    reproductions: tuple[Side, ...]
    expected: str
    rules: dict[str, Any] = field(default_factory=dict)


def pair(kind: str, name: str, one: bytes | str, other: bytes | str, expected: str, **rules: Any) -> Case:
    """Two runs with one artifact each."""
    sides = [Side(files={name: text.encode() if isinstance(text, str) else text}) for text in (one, other)]
    return Case(kind=kind, reference=sides[0], reproductions=(sides[1],), expected=expected, rules=rules)


def write(save: Callable[[Any], object]) -> bytes:
    """What is written into a stream."""
    stream = io.BytesIO()
    save(stream)
    return stream.getvalue()


def write_parquet(frame: Any) -> bytes:
    """A frame of pandas as Parquet."""
    return write(frame.to_parquet)


def write_hdf5(fill: Callable[[Any], object]) -> bytes:
    """An HDF5 file."""
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def write_frame(values: list[Any], **options: Any) -> bytes:
    """A column of values."""
    import pandas as pd

    return write_parquet(pd.DataFrame({"x": values}, **options))


INTEGERS: dict[str, Callable[[int], bytes | str]] = {
    "a.csv": lambda value: f"id,x\n{value},0.5\n",
    "a.tsv": lambda value: f"id\tx\n{value}\t0.5\n",
    "a.json": lambda value: json.dumps({"ids": [value]}),
    "a.jsonl": lambda value: json.dumps({"id": value}),
    "a.yaml": lambda value: f"seed: {value}\n",
    "a.pkl": lambda value: pickle.dumps({"seed": value}),
    "b.pkl": lambda value: pickle.dumps(np.array([value])),
    "a.npy": lambda value: write(lambda stream: np.save(stream, np.array([value]))),
    "a.npz": lambda value: write(lambda stream: np.savez(stream, ids=np.array([value]))),
    "a.parquet": lambda value: write_frame([value]),
    "a.h5": lambda value: write_hdf5(lambda file: file.create_dataset("ids", data=[value])),
}


def list_integers() -> Iterator[Case]:
    """Integers that differ by one are different, whatever their size, unless a rule names the file."""
    for name, form in INTEGERS.items():
        for value in (41, 1_000_000_000, 2**53, 2**62):
            yield pair("integers that differ by one", name, form(value), form(value + 1), DIFFERENT)
        yield pair("integers, loose", name, form(100), form(101), DIFFERENT, rel_tol=0.1, abs_tol=5.0)
        yield pair("integers, allowed", name, form(100), form(101), WITHIN, tolerance=(f"{name}=abs:1",))


TIMES: dict[str, Callable[[datetime], bytes | str]] = {
    "a.csv": lambda moment: f"at,x\n{moment.isoformat()},0.5\n",
    "a.json": lambda moment: json.dumps([moment.isoformat()]),
    "a.yaml": lambda moment: f"at: {moment.isoformat()}\n",
    "a.pkl": pickle.dumps,
    "a.npy": lambda moment: write(lambda stream: np.save(stream, np.array([moment.replace(tzinfo=None)], "M8[s]"))),
    "a.parquet": lambda moment: write_frame([moment]),
    "series.txt": lambda moment: f"{moment:%Y-%m-%d %H:%M:%S} 0.5\n",
}
TEXTS = [
    ("007", "7"), ("12345678901234567890", "12345678901234567891"), ("10000000000000001", "10000000000000000"),
    ("+491234567890", "+491234567891"), ("0e12345", "0e54321"), ("1e999", "2e999"), ("1_000", "1000"), ("", "nan"),
]  # fmt: skip
SAME_NUMBERS = [("1.0", "1.00"), ("1e3", "1000.0"), ("1", "1.0")]
NO_LINE_ENDS = ["\u2028", "\x0c", "\x1c", "\x85", "\r"]


def list_texts() -> Iterator[Case]:
    """Times, texts and what is between lines."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    for name, form in TIMES.items():
        yield pair("times a second apart", name, form(moment), form(moment + timedelta(seconds=1)), DIFFERENT)
    for texts in TEXTS:
        one, other = (f"id,x\n{text},0.5\n" for text in texts)
        yield pair("other texts in a cell", "a.csv", one, other, DIFFERENT)
    for texts in SAME_NUMBERS:
        one, other = (f"v,x\n{text},0.5\n" for text in texts)
        yield pair("a number in another form", "a.csv", one, other, IDENTICAL)
    for character in NO_LINE_ENDS:
        yield pair("no end of a line", "a.txt", f"a{character}b\n", "a\nb\n", DIFFERENT)
    yield pair("CR LF", "a.txt", "a\r\nb\r\n", "a\nb\n", IDENTICAL)


SVG = '<svg xmlns="s"><!-- {} --><g id="{}"><use href="#{}"/></g><clipPath id="{}"/></svg>'
HTML = {
    '<div id="{0}"></div><script>plot("{0}")</script>': (
        "b1e0bb1c-7d6b-4c6e-9a55-0123456789ab",
        "c1e0bb1c-7d6b-4c6e-aa55-0123456789ab",
    ),
    '<style>#T_{0}_row0 {{}}</style><table id="T_{0}"></table>': ("0a1b2", "ffffe"),
    '<div id="altair-viz-{0}"></div>': ("0123456789abcdef" * 2, "f" * 32),
    '<div id="sk-container-id-{0}"></div>': ("1", "12"),
}
LOGS = [
    ("2026-01-02 10:20:30,123 INFO x", "2026-01-02 10:20:31,456 INFO x"),
    ("[10:20:30] x", "[10:20:31] x"),
    ("I0102 10:20:30.123456 140001 a.cc:1] x", "I0103 10:20:30.123456 140002 a.cc:1] x"),
    ("100%|##| 5/5 [00:20<00:00,  1.0s/it, loss=0.5]", "100%|##| 5/5 [00:21<00:00,  1.2s/it, loss=0.5]"),
]


def notebook(made_up: int, result: str = "0.5") -> str:
    """A notebook that papermill executed."""
    cell = {"cell_type": "code", "id": f"c{made_up}", "source": "f()", "metadata": {"execution": {"t": made_up}},
            "outputs": [{"output_type": "execute_result", "data": {"text/plain": result}}]}  # fmt: skip
    return json.dumps({"cells": [cell], "metadata": {"papermill": {"duration": made_up}}, "nbformat": 4})


def list_pages() -> Iterator[Case]:
    """SVG, HTML, logs and notebooks: what is made up, and what means something."""
    clips = ("p0123456789", "pabcdef0123")
    for program in ("by hand", "Created with matplotlib"):
        one, other = (SVG.format(program, name, "x", "clip") for name in ("setosa", "virginica"))
        yield pair("other ids of SVG", "a.svg", one, other, DIFFERENT)
        one, other = (SVG.format(program, "x", name, "clip") for name in ("setosa", "virginica"))
        yield pair("links of SVG elsewhere", "a.svg", one, other, DIFFERENT)
    one, other = (SVG.format("Created with matplotlib", "x", clip, clip) for clip in clips)
    yield pair("made-up ids of SVG", "a.svg", one, other, IDENTICAL)
    for text, ids in HTML.items():
        one, other = (text.format(name) for name in ids)
        yield pair("made-up ids of HTML", "a.html", one, other, IDENTICAL)
        yield pair("another page", "a.html", one + "<p>1</p>", other + "<p>2</p>", DIFFERENT)
    for one, other in LOGS:
        yield pair("a log at another time", "train.log", one, other, IDENTICAL)
        yield pair("another log", "train.log", one, f"{other} and more", DIFFERENT)
    yield pair("a notebook executed again", "a.ipynb", notebook(1), notebook(2), IDENTICAL)
    yield pair("another result in a notebook", "a.ipynb", notebook(1), notebook(2, "0.6"), DIFFERENT)


def linked_zip(target: str) -> bytes:
    """A zip archive with a symbolic link."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        entry = zipfile.ZipInfo("l")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, target)
    return stream.getvalue()


def linked_hdf5(target: str) -> bytes:
    """An HDF5 file with two groups, and a name for one of them."""

    def fill(file: Any) -> None:
        for number, name in enumerate("ab"):
            file.create_group(name).create_dataset("x", data=[number])
        file["l"] = file[target]

    return write_hdf5(fill)


def animation(durations: list[int]) -> bytes:
    """A GIF whose frames are shown for so many milliseconds."""
    from PIL import Image

    frames = [Image.new("RGB", (8, 8), (40 * number, 0, 0)) for number in range(len(durations))]
    return write(
        lambda stream: frames[0].save(
            stream, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0
        )
    )


def list_frames() -> Iterator[Case]:
    """Frames of pandas, links, and moving pictures."""
    import pandas as pd

    plain = write_frame([1.0, 2.0, 3.0])
    for index in (range(5, 8), pd.RangeIndex(3, name="id"), [0, 1, 3], list("abc")):
        yield pair("another index", "a.parquet", plain, write_frame([1.0, 2.0, 3.0], index=index), DIFFERENT)
    for categories, ordered in ((["y", "x"], False), (["x", "y"], True), (["x", "y", "z"], False)):
        one, other = (
            write_frame(pd.Categorical(["x", "y"], categories=kinds, ordered=is_ordered))
            for kinds, is_ordered in ((["x", "y"], False), (categories, ordered))
        )
        yield pair("other categories", "a.parquet", one, other, DIFFERENT)
    yield pair("links of zip elsewhere", "a.zip", linked_zip("a"), linked_zip("b"), DIFFERENT)
    yield pair("links of HDF5 elsewhere", "a.h5", linked_hdf5("a"), linked_hdf5("b"), DIFFERENT)
    yield pair("another pace", "a.gif", animation([100, 200]), animation([100, 300]), DIFFERENT)
    yield pair("the same animation", "a.gif", animation([100, 200]), animation([100, 200]) + b";", IDENTICAL)


def searched(seconds: float, score: float = 0.5) -> bytes:
    """What a pickled search of scikit-learn holds beside its estimator."""
    results = {"mean_fit_time": np.array([seconds]), "mean_test_score": np.array([score])}
    return pickle.dumps({"best_": {"cv_results_": results, "refit_time_": seconds, "best_score_": score}})


def saved_by_torch(made_up: str, weight: float = 1.0) -> bytes:
    """A checkpoint of torch's form."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"weight": np.array([weight])}))
        archive.writestr("m/.data/serialization_id", made_up)
    return stream.getvalue()


def trained_by_catboost(made_up: int, leaf: int = 1) -> bytes:
    """The part of a CatBoost model in which the id and the time of its training are."""
    name = f"{made_up:08x}-00000000-00000000-00000000".encode()
    moment = f"2026-01-02T03:04:{made_up:02d}Z".encode()
    info = b"#\0\0\0" + name + b"\0\n\0\0\0model_guid\0\x14\0\0\0" + moment + b"\0\0\0\0\x11\0\0\0train_finish_time\0"
    return b"CBM1" + info + bytes([leaf])


SUMMARY = (
    "R-squared: {0}\nDate:    Mon, {1:02d} Nov 2026   Prob: 1.12e-92\nTime:    10:20:{1:02d}   Log-Likelihood: -29.7\n"
)
MLMODEL = "flavors: {{sklearn: {{skops_trusted_types: [{}]}}}}\nrun_id: {}\n"


def list_models() -> Iterator[Case]:
    """Parts of models that each training makes up, and a flipped weight beside them."""
    makers: dict[str, Callable[..., bytes]] = {
        "model.pkl": searched, "m.pt": lambda made_up, *more: saved_by_torch(str(made_up), *more),
        "model.cb": trained_by_catboost, "m.pkl": lambda *parts: pickle.dumps({"__model": trained_by_catboost(*parts)}),
        "model_summary.txt": lambda made_up, value=1: SUMMARY.format(value, made_up).encode(),
        "MLmodel": lambda made_up, more=0: MLMODEL.format("b, a" if made_up > 1 else "a, b", made_up).replace(
            "sklearn:", "sklearn:" if not more else "other:").encode(),
    }  # fmt: skip
    for name, make in makers.items():
        yield pair("a model trained again", name, make(1), make(2), IDENTICAL)
        yield pair("a flipped weight", name, make(1), make(2, 3), DIFFERENT)


VALUES = [float((7 * number) % 31) for number in range(30)]


def list_points() -> Iterator[Case]:
    """Points without a step, of which several share a millisecond; and repeats that are not finite."""
    for per_moment in (1, 2, 3, 7, 10, 30):
        one = Side(points=[(value, place // 4) for place, value in enumerate(VALUES)])
        other = Side(points=[(value, place // per_moment) for place, value in enumerate(VALUES)])
        yield Case(kind="another pace of logging", reference=one, reproductions=(other,), expected=IDENTICAL)
        swapped = [*VALUES]
        swapped[0], swapped[29] = swapped[29], swapped[0]
        again = Side(points=[(value, place // min(per_moment, 10)) for place, value in enumerate(swapped)])
        yield Case(kind="points in another order", reference=one, reproductions=(again,), expected=DIFFERENT)
        other_values = [VALUES[0] + 0.5, *VALUES[1:]]
        changed = Side(points=[(value, place // per_moment) for place, value in enumerate(other_values)])
        yield Case(kind="another value at another pace", reference=one, reproductions=(changed,), expected=DIFFERENT)
    nan = math.nan
    for reference, repeats, expected in (
        (nan, (1.0, nan, nan), INCONCLUSIVE), (nan, (1.0, 2.0, nan), INCONCLUSIVE), (nan, (1.0, 2.0, 3.0), DIFFERENT),
        (1.0, (nan, nan, nan), DIFFERENT), (nan, (nan, nan, nan), IDENTICAL), (1.0, (0.9, 1.0, 1.1), CONSISTENT),
        (5.0, (0.9, 1.0, 1.1), DIFFERENT),
    ):  # fmt: skip
        sides = [Side(points=[(value, 0)]) for value in (reference, *repeats)]
        yield Case(kind="repeats", reference=sides[0], reproductions=tuple(sides[1:]), expected=expected)


def list_cases() -> Iterator[Case]:
    """All of them, kind by kind."""
    for listed in (list_integers, list_texts, list_pages, list_frames, list_models, list_points):
        yield from listed()
