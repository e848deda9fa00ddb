"""What changes the meaning of an artifact counts; what a library makes up anew in each process does not."""

from __future__ import annotations

import io
import json
import os
import re
import stat
import zipfile

import numpy as np
import pytest
import strategies  # noqa: F401 - hypothesis' profile
from hypothesis import given
from hypothesis import strategies as st
from test_artifacts import compare, notebook, npy, tarred, zipped

from mlflow_repro.compare.artifacts import compare_artifact
from mlflow_repro.compare.artifacts.text import split_lines
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.rules import Tolerances

LINE_LIKE = ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\r"]


class TestLines:
    """LF and CR LF end a line, and nothing else."""

    @pytest.mark.parametrize("name", ["a.txt", "a.md", "a.log", "a.html", "a.svg", "a.csv"])
    @pytest.mark.parametrize("character", LINE_LIKE, ids=ascii)
    def test_what_only_python_takes_for_the_end_of_a_line_counts(self, tmp_path, name, character):
        if (name, character) == ("a.csv", "\r"):
            pytest.skip("CR ends a row of CSV")
        one, other = f"a,b{character}c\nd,e\n", "a,b\nc\nd,e\n"
        assert compare(tmp_path, name, one.encode(), other.encode()).status is Status.DIFFERENT
        assert compare(tmp_path, name, one.encode(), one.replace(character, " ").encode()).status is Status.DIFFERENT

    @given(st.lists(st.sampled_from(["a", "\n", "\r\n", *LINE_LIKE]), max_size=12).map("".join))
    def test_lines_are_what_is_between_lf_and_cr_lf(self, text):
        assert split_lines(text) == re.split(r"\r?\n", re.sub(r"\r?\n\Z", "", text)) or text == ""


SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><!-- {program} -->
<g id="{name}"><path d="M 0 0"/></g><a xlink:href="#{target}"><use clip-path="url(#{clip})"/></a>
<clipPath id="{clip}"/></svg>
"""
SVG_PARTS = {"program": "by hand", "name": "setosa", "target": "setosa", "clip": "clip"}
MATPLOTLIB = {**SVG_PARTS, "program": "Created with matplotlib", "clip": "p0123456789"}


def svg(**parts: str) -> bytes:
    return SVG.format(**parts).encode()


class TestSvg:
    """An id that a person gave means something."""

    @pytest.mark.parametrize("parts", [SVG_PARTS, MATPLOTLIB], ids=["by hand", "matplotlib"])
    @pytest.mark.parametrize("key", ["name", "target"])
    def test_ids_and_targets_of_links_count(self, tmp_path, parts, key):
        for one, other in (("setosa", "virginica"), ("x1", "x2"), ("a", "p9876543210"[:10])):
            pair = svg(**{**parts, key: one}), svg(**{**parts, key: other})
            assert compare(tmp_path, "a.svg", *pair).status is Status.DIFFERENT

    def test_ids_that_matplotlib_makes_up_do_not(self, tmp_path):
        for one, other in (
            ("p0123456789", "pabcdef0123"),
            ("m0123456789", "mabcdef0123"),
            ("C0_0_0123456789", "C0_0_abcdef0123"),
        ):
            pair = svg(**{**MATPLOTLIB, "clip": one}), svg(**{**MATPLOTLIB, "clip": other})
            found = compare(tmp_path, "a.svg", *pair)
            assert (found.status, "without the names of made-up ids" in found.note) == (Status.IDENTICAL, True)

    def test_two_made_up_ids_that_change_places_count(self, tmp_path):
        text = '<!-- matplotlib --><a id="p0123456789"/><b id="p9876543210"/><use href="#{}"/>'
        pair = [text.format(name).encode() for name in ("p0123456789", "p9876543210")]
        assert compare(tmp_path, "a.svg", *pair).status is Status.DIFFERENT

    def test_what_looks_made_up_and_is_not_declared_counts(self, tmp_path):
        pair = [f'<!-- matplotlib --><use href="#{name}"/>'.encode() for name in ("p0123456789", "p9876543210")]
        assert compare(tmp_path, "a.svg", *pair).status is Status.DIFFERENT

    def test_ids_of_plotly(self, tmp_path):
        text = '<svg class="main-svg"><clipPath id="clip{0}xy"/><g id="topdefs-{0}"/><use x="url(#clip{0}xy)"/></svg>'
        pair = [text.format(name).encode() for name in ("0a1b2c", "ffee00")]
        assert compare(tmp_path, "a.svg", *pair).status is Status.IDENTICAL


MADE_UP_IDS = {
    "plotly": ('<div id="{0}"></div><script>Plotly.newPlot("{0}")</script>',
               "b1e0bb1c-7d6b-4c6e-9a55-0123456789ab", "c1e0bb1c-7d6b-4c6e-aa55-0123456789ab"),
    "pandas": ('<style>#T_{0}_row0_col0 {{color: red}}</style><table id="T_{0}"><td id="T_{0}_row0_col0"></table>',
               "0a1b2", "ffffe"),
    "folium": ('<div id="map_{0}"></div><script>var map_{0} = 1; var tile_layer_{0} = map_{0};</script>',
               "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"),
    "altair": ('<div id="altair-viz-{0}"></div>', "0123456789abcdef0123456789abcdef", "f" * 32),
    "scikit-learn": ('<div id="sk-container-id-{0}"></div><style>#sk-container-id-{0} a {{}}</style>', "1", "12"),
    "shap": ('<div id="i{0}"></div>', "AAAAAAAAAAAAAAAAAAA", "BCDEFGHIJKLMNOP0123"),
    "mpld3": ('<div id="fig_el{0}"></div>', "1405566778899", "1405566778800"),
}  # fmt: skip
"""By the library, HTML with an id of its making, and two such ids."""


class TestHtml:
    """Ids that a library makes up."""

    @pytest.mark.parametrize("library", MADE_UP_IDS)
    def test_they_do_not_count_and_the_report_says_so(self, tmp_path, library):
        text, *ids = MADE_UP_IDS[library]
        found = compare(tmp_path, "a.html", *(text.format(name).encode() for name in ids))
        assert (found.status, found.note) == (
            Status.IDENTICAL,
            "same content in other bytes: the lines, without the names of made-up ids",
        )

    @pytest.mark.parametrize("library", MADE_UP_IDS)
    def test_what_the_page_shows_counts(self, tmp_path, library):
        text, *ids = MADE_UP_IDS[library]
        pair = [(text.format(name) + f"<p>{value}</p>").encode() for name, value in zip(ids, "12", strict=True)]
        assert compare(tmp_path, "a.html", *pair).status is Status.DIFFERENT

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ('<p id="setosa">', '<p id="virginica">'),
            ("<p>0123456789abcdef0123456789abcdef</p>", "<p>fedcba9876543210fedcba9876543210</p>"),
            ("<p>b1e0bb1c-7d6b-4c6e-9a55-0123456789ab</p>", "<p>c1e0bb1c-7d6b-4c6e-9a55-0123456789ab</p>"),
            ('<p id="patient-1234">', '<p id="patient-1235">'),
            ('<a href="#first">', '<a href="#second">'),
        ],
    )
    def test_ids_and_digests_that_mean_something_count(self, tmp_path, one, other):
        assert compare(tmp_path, "a.html", one.encode(), other.encode()).status is Status.DIFFERENT


LOG_TIMES = [
    ("2026-01-02 10:20:30,123 INFO x", "2026-01-02 10:20:31,456 INFO x"),
    ("2026-01-02T10:20:30Z x", "2026-02-03T11:00:00Z x"),
    ("[2026-01-02 10:20:30.123456+02:00] x", "[2026-01-02 10:20:31.000001+02:00] x"),
    ("10:20:30 x", "11:20:30 x"),
    ("[10:20:30]: x", "[10:20:31]: x"),
    ("Jan  2 10:20:30 host x", "Jan 12 10:20:30 host x"),
    ("Fri Jan  2 10:20:30 2026", "Sat Jan  3 10:20:30 2026"),
    ("I0102 10:20:30.123456 140001 a.cc:1] x", "I0103 10:20:30.123456 140002 a.cc:1] x"),
    (
        "  5%|# | 1/20 [00:01<00:19,  1.0it/s]\r100%|##| 20/20 [00:20<00:00,  1.0it/s]",
        "100%|##| 20/20 [00:21<00:00, 1.1it/s]",
    ),
    ("100%|##| 5/5 [00:20<00:00,  1.0s/it, loss=0.5]", "100%|##| 5/5 [00:21<00:00,  1.2s/it, loss=0.5]"),
    ("10/10 - 2s 30ms/step - loss: 0.5", "10/10 - 3s 312us/step - loss: 0.5"),
]


class TestLogs:
    """A log says when something happened; that is another time in each run."""

    @pytest.mark.parametrize("name", ["train.log", "logs/train.log.1", "stdout.txt", "stderr", "job.out"])
    @pytest.mark.parametrize(("one", "other"), LOG_TIMES)
    def test_the_time_of_a_line_does_not_count(self, tmp_path, name, one, other):
        found = compare(tmp_path, name, f"start\n{one}\n".encode(), f"start\n{other}\n".encode())
        assert found.status is Status.IDENTICAL, found.note
        assert "the lines, without " in found.note

    @pytest.mark.parametrize(("one", "other"), LOG_TIMES)
    def test_what_it_says_counts(self, tmp_path, one, other):
        assert compare(tmp_path, "a.log", one.encode(), f"{other} and y".encode()).status is Status.DIFFERENT

    def test_in_any_text_the_time_of_a_message_with_a_level_does_not_count(self, tmp_path):
        for line in ("{} INFO a: x", "{} - a - WARNING - x", "[{}] [error] x", "{} 4321 DEBUG x"):
            pair = [line.format(time).encode() for time in ("2026-01-02 10:20:30,123", "2026-01-02 10:20:31,004")]
            assert compare(tmp_path, "notes.txt", *pair).status is Status.IDENTICAL, line

    @pytest.mark.parametrize(
        ("name", "one", "other"),
        [
            ("series.txt", "2026-01-02 10:20:30 1.5", "2026-01-02 10:20:31 1.5"),
            ("a.log", "2026-01-02 x", "2026-01-03 x"),
            ("a.log", "lasts until 10:20:30", "lasts until 10:20:31"),
            ("a.log", "loss=0.5 [00:01<00:02, 5.0it/s, loss=0.5]", "loss=0.5 [00:01<00:02, 5.0it/s, loss=0.6]"),
            ("a.log", "10:20:300 x", "10:20:301 x"),
            ("a.md", "10:20:30 information", "10:20:31 information"),
        ],
    )
    def test_times_that_are_data_count(self, tmp_path, name, one, other):
        assert compare(tmp_path, name, one.encode(), other.encode()).status is Status.DIFFERENT


class TestNotebooks:
    """Executed again, from the same notebook."""

    def test_what_is_left_out_is_named(self, tmp_path):
        note = compare(tmp_path, "a.ipynb", notebook("1"), notebook("2")).note
        assert note.endswith(
            "the notebook, without addresses in memory, ids of cells, metadata.execution, metadata.papermill"
        )

    @pytest.mark.parametrize("change", ["source", "outputs", "execution_count", "metadata", "order"])
    def test_everything_else_counts(self, tmp_path, change):
        tree = json.loads(notebook("1"))
        if change == "order":
            tree["cells"].reverse()
        else:
            tree["cells"][1][change] = {"source": "print(y)", "outputs": [], "execution_count": 3}.get(change, {"a": 1})
        assert compare(tmp_path, "a.ipynb", notebook("1"), json.dumps(tree).encode()).status is Status.DIFFERENT

    def test_what_cells_show(self, tmp_path):
        """HTML with a made-up id, a progress bar, and a widget."""

        def shown(number: str, value: str = "x") -> bytes:
            uuid = f"{number}1e0bb1c-7d6b-4c6e-9a55-0123456789ab"
            data = {
                "text/html": [f'<div id="{uuid}">\n', f"{value}</div>"],
                "text/plain": f"<Figure at 0x7f000000000{number}>",
                "application/vnd.jupyter.widget-view+json": {"model_id": uuid, "version_major": 2},
            }
            bar = {
                "output_type": "stream",
                "name": "stderr",
                "text": f" 50%\r100%| 2/2 [00:0{number}<00:00, 1.{number}it/s]\n",
            }
            cell = {"cell_type": "code", "metadata": {}, "source": "f()", "outputs": [bar, {"data": data}]}
            return json.dumps({"cells": [cell], "metadata": {"widgets": {uuid: {}}}, "nbformat": 4}).encode()

        found = compare(tmp_path, "a.ipynb", shown("1"), shown("2"))
        assert found.status is Status.IDENTICAL, found.note
        assert "the names of made-up ids" in found.note
        assert compare(tmp_path, "a.ipynb", shown("1"), shown("1", "y")).status is Status.DIFFERENT


class TestParquet:
    """Frames of pandas."""

    @staticmethod
    def write(frame, **options: object) -> bytes:
        pytest.importorskip("pyarrow")
        stream = io.BytesIO()
        frame.to_parquet(stream, **options)
        return stream.getvalue()

    def test_the_index_counts(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        values = {"x": [1.0, 2.0, 3.0]}
        plain = self.write(pandas.DataFrame(values))
        for index in (range(5, 8), range(0, 6, 2), pandas.RangeIndex(3, name="id"), [0, 1, 3], list("abc")):
            other = self.write(pandas.DataFrame(values, index=index))
            assert compare(tmp_path, "a.parquet", plain, other).status is Status.DIFFERENT, index
        moved = self.write(pandas.DataFrame(values).assign(k=[1, 2, 3]).set_index("k"))
        column = self.write(pandas.DataFrame(values).assign(k=[1, 2, 3]))
        assert compare(tmp_path, "a.parquet", moved, column).status is Status.DIFFERENT
        named = self.write(pandas.DataFrame(values).rename_axis(columns="what"))
        assert compare(tmp_path, "a.parquet", plain, named).status is Status.DIFFERENT

    def test_no_index_is_as_good_as_the_usual_one(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"x": [1.0, 2.0, 3.0]})
        assert (
            compare(tmp_path, "a.parquet", self.write(frame), self.write(frame, index=False)).status is Status.IDENTICAL
        )

    @pytest.mark.parametrize("values", [["x", "y", "x"], [1, 2, 1], [0.5, 1.5, 0.5]], ids=repr)
    def test_categories_and_their_order_count(self, tmp_path, values):
        pandas = pytest.importorskip("pandas")
        kinds = sorted(set(values))
        columns = [
            pandas.Categorical(values, categories=kinds),
            pandas.Categorical(values, categories=kinds, ordered=True),
            pandas.Categorical(values, categories=[*kinds, kinds[0] * 9]),
            values,
        ]
        if isinstance(values[0], str):  # of others Parquet keeps no order
            columns.append(pandas.Categorical(values, categories=kinds[::-1]))
        contents = [self.write(pandas.DataFrame({"c": column})) for column in columns]
        for number, other in enumerate(contents[1:], 1):
            assert compare(tmp_path, "a.parquet", contents[0], other).status is Status.DIFFERENT, number
        again = self.write(pandas.DataFrame({"c": columns[0]}), row_group_size=2, compression="gzip")
        assert compare(tmp_path, "a.parquet", contents[0], again).status is Status.IDENTICAL

    def test_texts_in_row_groups_of_other_sizes_are_the_same(self, tmp_path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame({"t": list("abcabcabd")})
        pair = self.write(frame, row_group_size=2), self.write(frame, row_group_size=4)
        assert compare(tmp_path, "a.parquet", *pair).status is Status.IDENTICAL


def animation(durations: list[int], name: str, **options: object) -> bytes:
    image_module = pytest.importorskip("PIL.Image")
    frames = [image_module.new("RGB", (8, 8), (40 * number, 0, 0)) for number in range(len(durations))]
    stream = io.BytesIO()
    form = {"gif": "GIF", "png": "PNG", "webp": "WEBP"}[name]
    options = (
        {"duration": durations, "lossless": True, "loop": 0, **options}
        if form == "WEBP"
        else {"duration": durations, "loop": 0, **options}
    )
    frames[0].save(stream, form, save_all=True, append_images=frames[1:], **options)
    return stream.getvalue()


class TestImages:
    """What is seen, and for how long."""

    @pytest.mark.parametrize("form", ["gif", "png", "webp"])
    def test_how_long_a_frame_is_shown_counts(self, tmp_path, form):
        one, other = animation([100, 200, 100], form), animation([100, 300, 100], form)
        found = compare(tmp_path, f"a.{form}", one, other)
        assert found.status is Status.DIFFERENT
        if form == "gif":
            assert "frame 2: duration 200 and 300" in found.note

    def test_how_often_it_is_shown_counts(self, tmp_path):
        pair = animation([100, 100], "gif"), animation([100, 100], "gif", loop=3)
        assert compare(tmp_path, "a.gif", *pair).status is Status.DIFFERENT

    def test_how_it_is_turned_counts(self, tmp_path):
        image_module = pytest.importorskip("PIL.Image")
        sides = []
        for orientation in (1, 6):
            image = image_module.new("RGB", (8, 8), (1, 2, 3))
            exif = image_module.Exif()
            exif[0x0112] = orientation
            stream = io.BytesIO()
            image.save(stream, "JPEG", exif=exif)
            sides.append(stream.getvalue())
        found = compare(tmp_path, "a.jpg", *sides)
        assert (found.status, found.note) == (Status.DIFFERENT, "orientation 1 and 6")


def h5py():
    return pytest.importorskip("h5py")


def hdf5_with(make) -> bytes:
    stream = io.BytesIO()
    with h5py().File(stream, "w") as file:
        file.create_group("a").create_dataset("x", data=[1.0])
        file.create_group("b").create_dataset("x", data=[2.0])
        make(file)
    return stream.getvalue()


LONG = "/a/" + "x" * 80
LINKS = {
    "group": (lambda file: file.__setitem__("l", file["a"]), lambda file: file.__setitem__("l", file["b"])),
    "a long path": tuple(
        lambda file, end=end: file.__setitem__("l", h5py().SoftLink(LONG + end)) for end in ("1", "2")
    ),
    "a long file": tuple(
        lambda file, end=end: file.__setitem__("l", h5py().ExternalLink(LONG + end, "/x")) for end in ("1", "2")
    ),
    "a reference": tuple(
        lambda file, end=end: file.create_dataset("l", data=[file[end].ref], dtype=h5py().ref_dtype) for end in "ab"
    ),
    "a reference as attribute": tuple(lambda file, end=end: file.attrs.__setitem__("l", file[end].ref) for end in "ab"),
    "a named type": tuple(lambda file, end=end: file.__setitem__("l", np.dtype(end)) for end in ("f4", "f8")),
}
"""Pairs of HDF5 files in which something leads elsewhere."""


class TestLinks:
    """Links are compared by where they lead."""

    @pytest.mark.parametrize("name", LINKS)
    def test_in_hdf5(self, tmp_path, name):
        one, other = map(hdf5_with, LINKS[name])
        assert compare(tmp_path, "a.h5", one, other).status is Status.DIFFERENT
        assert compare(tmp_path, "a.h5", one, one + bytes(8)).status is Status.IDENTICAL

    def test_in_a_zip_archive(self, tmp_path):
        def linked(target: str, mode: int = stat.S_IFLNK) -> bytes:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as archive:
                entry = zipfile.ZipInfo("l")
                entry.external_attr = (mode | 0o777) << 16
                archive.writestr(entry, target)
            return stream.getvalue()

        assert compare(tmp_path, "a.zip", linked("a"), linked("b")).status is Status.DIFFERENT
        assert compare(tmp_path, "a.zip", linked("a"), linked("a", stat.S_IFREG)).status is Status.DIFFERENT
        assert compare(tmp_path, "a.zip", linked("a"), linked("a") + b"\0").status is not Status.CLOSE

    def test_in_a_tar_archive(self, tmp_path):
        import tarfile

        def linked(target: str, kind: bytes) -> bytes:
            entry = tarfile.TarInfo("l")
            entry.type, entry.linkname = kind, target
            return tarred({"l": entry})

        pairs = [("a", tarfile.SYMTYPE), ("b", tarfile.SYMTYPE), ("a", tarfile.LNKTYPE)]
        for pair in pairs[1:]:
            assert compare(tmp_path, "a.tar", linked(*pairs[0]), linked(*pair)).status is Status.DIFFERENT

    @pytest.mark.parametrize(
        ("targets", "status"),
        [
            (("x", "y"), Status.DIFFERENT),
            (("/data/x", "/data/y"), Status.DIFFERENT),
            (("x", "x"), Status.UNKNOWN),
            (("/data/x", "/data/x"), Status.UNKNOWN),
            (("{}/one/x", "{}/other/x"), Status.UNKNOWN),  # each in its own run
        ],
    )
    def test_as_an_artifact(self, tmp_path, targets, status):
        paths = []
        for side, target in zip(("one", "other"), targets, strict=True):
            (tmp_path / side).mkdir()
            os.symlink(target.format(tmp_path), tmp_path / side / "l")
            paths.append(tmp_path / side / "l")
        assert compare_artifact("l", *paths, Tolerances()).status is status


def test_a_second_array_in_one_file_counts(tmp_path):
    one = npy(np.arange(3.0))
    for other in (one + npy(np.arange(4.0)), one + b"x"):
        assert compare(tmp_path, "a.npy", one, other).status is Status.DIFFERENT
    assert compare(tmp_path, "a.npy", one + npy(np.ones(2)), one + npy(np.zeros(2))).status is Status.DIFFERENT


def test_constants_of_torchscript_are_in_the_order_of_a_set(tmp_path):
    code = "class L(Module):\n  w : Tensor\n{}  def forward(self):\n    return 1\n"
    lines = "  a : Final[int] = 4\n", "  b : Final[int] = 5\n"
    texts = [code.format("".join(order)) for order in (lines, lines[::-1], (lines[0], "  b : Final[int] = 6\n"))]
    contents = [zipped({"s/code/__torch__/l.py": text.encode()}) for text in texts]
    found = compare(tmp_path, "s.pt", contents[0], contents[1])
    assert (found.status, "without the order of constants" in found.note) == (Status.IDENTICAL, True)
    assert compare(tmp_path, "s.pt", contents[0], contents[2]).status is Status.DIFFERENT
