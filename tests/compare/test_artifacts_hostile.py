"""Artifacts that mean harm, or are broken: nothing runs, nothing is written, and there is always an answer."""

from __future__ import annotations

import gzip
import importlib
import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import strategies  # noqa: F401 - hypothesis' profile
from hypothesis import given
from hypothesis import strategies as st
from test_artifacts import SAME_CONTENT, TOLERANCES, compare, hdf5, joblib_bytes, npy, tarred, zipped

from mlflow_repro.compare.artifacts import COMPARATORS, compare_artifact, documents, text
from mlflow_repro.compare.artifacts.blobs import MIB, Limits
from mlflow_repro.values.comparison import Comparison, Status, Verdict
from mlflow_repro.values.rules import Rules

FORBIDDEN = (
    "pickle.find_class",
    "os.system",
    "os.exec",
    "subprocess.Popen",
    "socket.connect",
    "os.symlink",
    "os.mkdir",
)
EXTENSIONS = sorted(
    {pattern.removeprefix("*") for row in COMPARATORS for pattern in row.patterns} | {"", ".pt", ".log"}
)
_events: list[str] = []
_watching: list[bool] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    if event.startswith(FORBIDDEN):
        _events.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _events.append(f"open {arguments[0]} for writing")


sys.addaudithook(_note)


@pytest.fixture
def canary(tmp_path):
    """A file that must not come to be; nothing forbidden may happen, as Python itself reports it."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def judge(directory: Path, name: str, one: bytes, other: bytes, limits: Limits | None = None):
    """The finding, while Python tells what is opened, started or looked up."""
    paths = []
    for side, content in (("one", one), ("other", other)):
        path = directory / side / Path(name).name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        paths.append(path)
    before = sorted(directory.rglob("*"))
    # A reader that is imported here for the first time would be compiled, and that written.
    writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _events.clear()
    _watching.append(True)
    try:
        found = compare_artifact(name, *paths, TOLERANCES, limits)
    finally:
        _watching.clear()
        sys.dont_write_bytecode = writes_bytecode
    assert _events == []
    assert sorted(directory.rglob("*")) == before
    return found


class Bomb:
    """Loaded, it makes the canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


class TestNothingRuns:
    """ART-05: what would run when it is loaded is read as what it is: text."""

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "unknown", "m.pickle"])
    def test_pickle(self, tmp_path, canary, protocol, name):
        bomb = pickle.dumps(Bomb(canary), protocol)
        found = judge(tmp_path, name, bomb, pickle.dumps(Bomb(canary.with_name("other")), protocol))
        assert found.status is Status.DIFFERENT
        if name != "unknown":
            assert "touch " in found.note
        found = judge(tmp_path, name, bomb, pickle.dumps([1], protocol))
        assert found.status is Status.DIFFERENT
        pickle.loads(bomb)  # noqa: S301 - it is a bomb indeed
        assert canary.exists()
        canary.unlink()

    def test_old_opcodes(self, tmp_path, canary):
        inst = f"(S'touch {canary}'\nios\nsystem\n.".encode()
        obj = f"(cos\nsystem\nS'touch {canary}'\no.".encode()
        found = judge(tmp_path, "m.pkl", inst, obj)
        assert (found.status, "same content" in found.note) == (Status.IDENTICAL, True), found.note

    def test_in_joblib_numpy_and_torch_files(self, tmp_path, canary):
        bomb = Bomb(canary)
        array = np.array([bomb], dtype=object)
        for name, one, other in (
            ("m.joblib", joblib_bytes(array), joblib_bytes(np.array([1], dtype=object))),
            ("m.joblib", joblib_bytes(array, compress=3), joblib_bytes([1], compress=3)),
            ("m.npy", npy(array, allow_pickle=True), npy(np.array([2], dtype=object), allow_pickle=True)),
            ("m.pt", zipped({"m/data.pkl": pickle.dumps(bomb)}), zipped({"m/data.pkl": pickle.dumps(1)})),
            ("m.pkl.gz", gzip.compress(pickle.dumps(bomb)), gzip.compress(pickle.dumps(2))),
        ):
            found = judge(tmp_path, name, one, other)
            assert found.status is Status.DIFFERENT
        assert not canary.exists()

    def test_yaml(self, tmp_path, canary):
        text = f"a: !!python/object/apply:os.system ['touch {canary}']\n".encode()
        for name in ("a.yaml", "MLmodel", "conda.yaml"):
            found = judge(tmp_path, name, text, b"a: 1\n")
            assert not found.is_equal
            assert "cannot be read as YAML" in found.note

    def test_postscript_is_no_image(self, tmp_path, canary):
        """Pillow would hand it to Ghostscript."""
        text = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch {canary}) (w) file\n".encode()
        found = judge(tmp_path, "a.png", text, text + b" ")
        assert found.status is Status.DIFFERENT
        assert "cannot be read as an image" in found.note

    def test_call_whose_result_is_thrown_away(self, tmp_path):
        """What it would do is a part of the pickle all the same."""
        harmless = b"]cbuiltins\nlen\n(]tR0."
        harmful = b"]cbuiltins\nexec\n(]tR0."
        found = judge(tmp_path, "m.pkl", harmless, harmful)
        assert found.status is Status.DIFFERENT
        assert "builtins.len and a builtins.exec" in found.note


class TestBombs:
    """BUN-03, BUN-04: small files that say they are large, and large ones. What is too large, nobody can judge."""

    def test_zip(self, tmp_path):
        bomb = zipped({"a": bytes(100 * MIB)})
        assert len(bomb) < MIB
        found = judge(tmp_path, "a.zip", bomb, bomb + b" ")
        assert found.status is Status.UNKNOWN
        assert "more than 200 times its size" in found.note

    @pytest.mark.parametrize("name", ["a.gz", "a.tar.gz", "a.pkl"])
    def test_gzip(self, tmp_path, name):
        one = gzip.compress(bytes(100 * MIB), 1)
        other = one[:4] + b"date" + one[8:]
        found = judge(tmp_path, name, one, other)
        assert found.status is Status.UNKNOWN
        assert "unpacks to more than" in found.note

    def test_archives_inside_each_other(self, tmp_path):
        sides = []
        for content in (b"1", b"2"):
            nested = content
            for depth in range(8):
                nested = zipped({f"{depth}.zip": nested})
            sides.append(nested)
        found = judge(tmp_path, "a.zip", *sides)
        assert found.status is Status.UNKNOWN
        assert "more than 4 archives lie inside each other" in found.note

    def test_nested_bombs_share_one_budget(self, tmp_path):
        limits = Limits(expanded=3 * MIB)
        sides = [zipped({f"{n}.zip": zipped({"a": os.urandom(MIB // 2)}) for n in range(9)}) for _ in range(2)]
        found = judge(tmp_path, "a.zip", *sides, limits)
        assert found.status is Status.UNKNOWN
        assert "more than the limit" in found.note

    @pytest.mark.parametrize("name", ["a.zip", "a.tar"])
    def test_too_many_members(self, tmp_path, name):
        make = zipped if name == "a.zip" else tarred
        members = {str(number): b"" for number in range(30)}
        found = judge(tmp_path, name, make(members), make({**members, "x": b"1"}), Limits(members=20))
        assert found.status is Status.UNKNOWN
        assert "more than 20" in found.note

    def test_member_that_lies_about_its_size(self, tmp_path):
        honest = zipped({"a": b"x" * 5000})
        central = honest.rindex(b"PK\1\2")
        lying = honest[: central + 24] + struct.pack("<I", 10) + honest[central + 28 :]
        found = judge(tmp_path, "a.zip", lying, honest)
        assert found.status is Status.DIFFERENT
        assert "compared as bytes" in found.note

    def test_two_members_of_one_name(self, tmp_path):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a", "1")
            with pytest.warns(UserWarning, match="Duplicate"):
                archive.writestr("a", "2")
        found = judge(tmp_path, "a.zip", stream.getvalue(), zipped({"a": b"2"}))
        assert "two members of the name 'a'" in found.note

    def test_sparse_member_of_a_tar(self, tmp_path):
        entry = tarfile.TarInfo("big")
        entry.size = 2**40
        stream = io.BytesIO()
        stream.write(entry.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        found = judge(tmp_path, "a.tar", stream.getvalue(), tarred({"a": b""}))
        assert found.status is Status.DIFFERENT

    def test_aliases_of_yaml(self, tmp_path):
        levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
        levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
        merges = ["b0: &b0 {k: v}"]
        merges += [f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}" for n in range(1, 12)]
        for lines in (levels, merges):
            text = "\n".join(lines).encode()
            found = judge(tmp_path, "a.yaml", text, text + b"\nend: 1\n")
            assert found.status is Status.UNKNOWN
            assert "aliases stand for too many values" in found.note
        found = judge(tmp_path, "a.yaml", b"a: &a [*a]\n", b"b: &a [*a]\n")
        assert found.status is Status.DIFFERENT
        assert "part of itself" in found.note

    @pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.jsonl", "MLmodel", "a.csv", "a.txt", "a.ipynb"])
    def test_depth(self, tmp_path, name):
        one, other = b"[" * 20_000 + b"]" * 20_000, b"[" * 20_001 + b"]" * 20_001
        found = judge(tmp_path, name, one, other)
        assert found.status is (Status.DIFFERENT if name in ("a.csv", "a.txt") else Status.UNKNOWN)

    def test_depth_of_a_pickle(self, tmp_path):
        one, other = (b"(" * depth + b"t" * depth + b"." for depth in (20_000, 20_001))
        assert judge(tmp_path, "a.pkl", one, other).status is Status.UNKNOWN
        one, other = (b"\x80\4" + b"]" + b"\x94h\0\x86" * 60 + end + b"." for end in (b"", b"\x85"))
        assert judge(tmp_path, "a.pkl", one, other).status is Status.DIFFERENT

    def test_a_set_in_a_set_many_times(self, tmp_path):
        """Shared parts: each level twice the one before, if anyone wrote it out."""
        nested: object = frozenset([1])
        other: object = frozenset([2])
        for _ in range(40):
            nested, other = frozenset([(nested, nested)]), frozenset([(other, other)])
        assert judge(tmp_path, "a.pkl", pickle.dumps(nested), pickle.dumps(other)).status is Status.DIFFERENT

    def test_array_that_says_it_is_huge(self, tmp_path):
        content = npy(np.zeros(3))
        lying = content.replace(b"(3,), }", b"(10**9,), }").replace(b"(3,)", b"(999999999999,)")[: len(content)]
        found = judge(tmp_path, "a.npy", lying, content)
        assert found.status is Status.DIFFERENT
        assert "compared as bytes" in found.note

    def test_data_set_of_hdf5_that_is_not_there(self, tmp_path):
        """Chunks that nobody wrote take no room in the file."""
        h5py = pytest.importorskip("h5py")
        sides = []
        for name in ("a", "b"):
            stream = io.BytesIO()
            with h5py.File(stream, "w") as file:
                file.create_dataset("x", (10**12,), "f8", chunks=(1000,))
                file.attrs["name"] = name
            sides.append(stream.getvalue())
        found = judge(tmp_path, "a.h5", *sides)
        assert found.status is Status.UNKNOWN
        assert "more than the limit" in found.note

    def test_image_that_says_it_is_huge(self, tmp_path):
        pytest.importorskip("PIL")

        def chunk(kind: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

        sides = [
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 12000, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", b"")
            for width in (12000, 50000)
        ]
        found = judge(tmp_path, "a.png", sides[0], sides[0] + b" ")
        assert "DecompressionBombWarning" in found.note
        assert "DecompressionBombError" in judge(tmp_path, "a.png", sides[1], sides[1] + b" ").note

    def test_header_of_safetensors_that_is_too_long(self, tmp_path):
        for content in (b"\xff" * 8 + b"{}", b"\2" + bytes(7) + b"{}", b"\xff\xff\xff\3" + bytes(4) + b"{}"):
            found = judge(tmp_path, "a.safetensors", content, content + b"\0")
            assert found.status in (Status.DIFFERENT, Status.IDENTICAL)
        entry = b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,99999999999]}}'
        content = len(entry).to_bytes(8, "little") + entry
        assert "lies outside the file" in judge(tmp_path, "a.safetensors", content, content + b"\0").note

    @pytest.mark.parametrize(
        ("name", "one", "other"),
        [
            ("a.csv", b",".join([b"1"] * 150_000), b",".join([b"2"] * 150_000)),
            ("a.json", b"[" * 400 + b",".join([b"1"] * 150_000) + b"]" * 400,
             b"[" * 400 + b",".join([b"2"] * 150_000) + b"]" * 400),
            ("a.jsonl", b"1\n" * 150_000, b"2\n" * 150_000),
            ("a.pkl", pickle.dumps([1] * 150_000), pickle.dumps([2] * 150_000)),
        ],
        ids=["csv", "json", "jsonl", "pickle"],
    )  # fmt: skip
    def test_what_differs_a_million_times_is_described_a_few_times(self, tmp_path, monkeypatch, name, one, other):
        """A CSV of a million columns took minutes: each cell was described, and three are shown."""
        calls = []
        for room in ("tables", "scalars", "pickles"):
            module = importlib.import_module(f"mlflow_repro.compare.artifacts.{room}")
            original = module.quote
            monkeypatch.setattr(module, "quote", lambda *words, real=original: (calls.append(1), real(*words))[1])
        found = judge(tmp_path, name, one, other)
        assert found.status is Status.DIFFERENT
        assert found.note.startswith("at least 100000 ")
        assert len(calls) < 20

    @pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.ipynb", "a.csv", "a.yaml"])
    def test_too_many_values(self, tmp_path, monkeypatch, name):
        """JSON is counted before it is parsed: an empty list takes two bytes in it, and sixty in memory."""
        separator = {"a.csv": b",", "a.yaml": b", "}.get(name, b",[],")
        one, other = (b"[" + separator.join([b"1"] * 50) + end + b"]" for end in (b"", b" "))
        if name == "a.csv":
            one, other = one.strip(b"[]"), other.strip(b"[]") + b",1"
        elif "json" in name or "ipynb" in name:
            monkeypatch.setattr(documents, "_JSON", None)
        found = judge(tmp_path, name, one, other, Limits(nodes=20))
        assert found.status is Status.UNKNOWN or name == "a.yaml", found.note
        assert name == "a.yaml" or "not compared: too large" in found.note

    def test_made_up_ids_without_end(self, tmp_path, monkeypatch):
        """Each of them is looked for at each character."""
        sides = [b"".join(b'<i id="T_%05x">' % (number * step) for number in range(99)) for step in (1, 2)]
        monkeypatch.setattr(text, "_MOST_COMPARED", 10_000)
        found = judge(tmp_path, "a.html", *sides)
        assert (found.status, "99 made-up ids" in found.note) == (Status.UNKNOWN, True)

    def test_text_that_is_too_large(self, tmp_path):
        for name in ("a.txt", "a.log", "a.csv", "a.json", "a.html", "a.pdf", "a.svg", "a.jsonl"):
            found = judge(tmp_path, name, b"1" * 2_000, b"1" * 2_001, Limits(parsed=1_000))
            assert found.status is Status.UNKNOWN
            assert "more than the 1000 bytes that are parsed" in found.note
        assert judge(tmp_path, "a.json", b"1" * 2_000, b"1" * 2_000, Limits(parsed=1_000)).status is Status.IDENTICAL

    def test_columns_of_parquet_without_end(self, tmp_path):
        pa = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        sides = []
        for value in (1, 2):
            stream = io.BytesIO()
            parquet.write_table(pa.table({str(number): [value] for number in range(30)}), stream)
            sides.append(stream.getvalue())
        found = judge(tmp_path, "a.parquet", *sides, Limits(members=20))
        assert (found.status, "it has 30 columns" in found.note) == (Status.UNKNOWN, True)

    def test_what_is_too_large_leaves_the_verdict_open(self, tmp_path):
        """Also inside of an archive, unless something else differs."""
        members = {"a.json": b"[1,2,3,4]", "b.txt": b"same"}
        sides = [zipped(members), zipped({**members, "a.json": b"[1, 2,3,4]"})]
        whole = judge(tmp_path, "a.zip", *sides, Limits(nodes=3))
        assert whole.status is Status.UNKNOWN
        assert "1 of 2 members cannot be compared: a.json: the bytes differ; not compared: too large" in whole.note
        there = judge(
            tmp_path, "a.zip", sides[0], zipped({"a.json": b"[1, 2,3,4]", "b.txt": b"other"}), Limits(nodes=3)
        )
        assert there.status is Status.DIFFERENT
        for findings, verdict in (((whole,), Verdict.INCONCLUSIVE), ((whole, there), Verdict.DIFFERENT)):
            made = Comparison(reference_run_id="a", reproduction_run_id="b", findings=findings, rules=Rules())
            assert made.verdict is verdict


class TestNothingIsFollowed:
    """ART-01, ART-02, BUN-01, BUN-02: names are labels, links are text."""

    @pytest.mark.parametrize("name", ["../x", "/etc/x", "C:\\x", "a/../../x", "\x1b[31m", "x\ny"])
    @pytest.mark.parametrize("archive", ["a.zip", "a.tar"])
    def test_member_that_would_leave_the_folder(self, tmp_path, archive, name):
        make = zipped if archive == "a.zip" else tarred
        found = judge(tmp_path, archive, make({name: b"1"}), make({name: b"2"}))
        assert found.status is Status.DIFFERENT
        assert found.note.isprintable()

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"9"]
    )
    def test_entries_of_a_tar_that_are_no_files(self, tmp_path, kind):
        sides = []
        for target in ("/etc/passwd", "/etc/group"):
            entry = tarfile.TarInfo("link")
            entry.type = kind
            entry.linkname = target
            sides.append(tarred({"link": entry, "a": b"1"}))
        found = judge(tmp_path, "a.tar", *sides)
        assert "root:" not in found.note
        assert found.status is Status.DIFFERENT
        found = judge(tmp_path, "a.tar", sides[0], tarred({"link": b"x", "a": b"1"}))
        assert found.status is Status.DIFFERENT

    def test_artifact_that_is_no_file(self, tmp_path):
        """A link, a folder, a pipe that nobody writes to: named, and it does not wait."""
        for name, make in (
            ("link", lambda path: path.symlink_to("/etc/passwd")),
            ("folder", lambda path: path.mkdir()),
            ("pipe", os.mkfifo),
            ("nothing", lambda _path: None),
        ):
            make(tmp_path / name)
            (tmp_path / "file").write_text("x")
            found = compare_artifact("a.txt", tmp_path / "file", tmp_path / name, TOLERANCES)
            assert found.status is Status.UNKNOWN
            assert found.note.startswith("not compared: ")

    def test_links_of_hdf5_to_other_files(self, tmp_path):
        h5py = pytest.importorskip("h5py")
        secret = tmp_path / "secret.h5"
        secret.write_bytes(hdf5(np.ones(3)))
        raw = tmp_path / "raw"
        raw.write_bytes(bytes(24))

        def linked(target: str, path: str) -> bytes:
            stream = io.BytesIO()
            with h5py.File(stream, "w") as file:
                file["x"] = h5py.ExternalLink(target, path)
            return stream.getvalue()

        found = judge(tmp_path, "a.h5", linked(str(secret), "/layers"), linked(str(secret), "/other"))
        assert found.status is Status.DIFFERENT
        assert "a link to '/layers' in the file" in found.note
        sides = []
        for length in (3, 2):
            file_path = tmp_path / f"{length}.h5"
            with h5py.File(file_path, "w") as file:
                file.create_dataset("x", (2,), "f8", external=[(str(raw), 0, 8 * length)])
            sides.append(file_path.read_bytes())
        found = judge(tmp_path, "a.h5", *sides)
        assert "its data in another file" in found.note


@pytest.mark.parametrize("name", SAME_CONTENT)
def test_truncated_files(tmp_path, name):
    """ART-03: cut anywhere, it is a difference that is described, and never an error."""
    one, other = SAME_CONTENT[name]()
    for size in {0, 1, 7, len(one) // 3, len(one) // 2, len(one) - 1}:
        for pair in ((one[:size], other), (other, one[:size])):
            found = judge(tmp_path, name, *pair)
            assert found.note
            assert not found.is_equal or size == len(one) - 1 or not any(one[size:])  # a tar ends in zeros
        assert judge(tmp_path, name, one[:size], one[:size]).status is Status.IDENTICAL


@given(st.sampled_from(sorted(SAME_CONTENT)), st.integers(min_value=0), st.binary(max_size=4), st.booleans())
def test_damaged_files_always_have_an_answer(tmp_path_factory, name, position, damage, both):
    directory = tmp_path_factory.mktemp("damaged")
    one, other = SAME_CONTENT[name]()
    position %= len(one)
    damaged = one[:position] + damage + one[position + len(damage) :]
    found = compare(directory, name, damaged, damaged[:-1] if both else other)
    assert found.status in (Status.IDENTICAL, Status.CLOSE, Status.DIFFERENT, Status.IGNORED)
    assert found.status is not Status.IGNORED or name == "requirements.txt"


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_any_bytes_have_an_answer_under_every_extension(tmp_path_factory, one, other):
    """A file is equal to itself whatever it is called, and two files always have an answer."""
    directory = tmp_path_factory.mktemp("any")
    for extension in EXTENSIONS:
        name = f"x{extension}" if extension.startswith(".") else extension or "x"
        assert compare(directory, name, one, one).status is Status.IDENTICAL
        found = compare(directory, name, one, other)
        assert one == other or found.note
