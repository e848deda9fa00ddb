"""The data of a run: what is recorded of it, what is left alone, and which files a program really opened."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.code import places
from mlflow_repro.code.places import Places
from mlflow_repro.data import capture as data
from mlflow_repro.data import digests
from mlflow_repro.data.capture import digest_ahead, record_data
from mlflow_repro.data.digests import Deadline, Limits, stamp_of
from mlflow_repro.data.opened import OpenedFile, OpenedFiles
from mlflow_repro.text.redact import REDACTED

TOKEN = "ghp_" + "a1B2" * 8


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(digests, "_cache", {})


@pytest.fixture
def remember_at_once(monkeypatch):
    """Remember the digests of files that were written just now, too."""
    monkeypatch.setattr(digests, "_RACY_NS", -(10**18))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A repository with a working directory in it, beside a home."""
    (tmp_path / "repo/.git").mkdir(parents=True)
    (tmp_path / "repo/work").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "repo/work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Places(cwd=f"{tmp_path}/repo/work", top=f"{tmp_path}/repo", home=f"{tmp_path}/home")


@pytest.fixture
def opened_paths(monkeypatch):
    """The paths that are opened for hashing from now on."""
    paths = []
    real = os.open

    def spy(path, *arguments, **options):
        paths.append(os.fsdecode(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", spy)
    return paths


def record(places, *, inputs=(), params=None, files=None, deadline=None, **options):
    opened_now = None if files is None else OpenedFiles(files=tuple(files))
    section = record_data(inputs, params or {}, opened_now, deadline or Deadline(60), places=places, **options)
    json.dumps(section.facts, allow_nan=False, ensure_ascii=False).encode()
    return section.facts


def opened_file(path, **flags) -> OpenedFile:
    return OpenedFile(path=str(path), stamp=stamp_of(os.stat(path)), **flags)


# Parameters


def test_parameters_that_are_files_or_directories_get_a_digest(here, tmp_path):
    Path("train.csv").write_bytes(b"abc")
    Path("../images").mkdir()
    Path("../images/one.png").write_bytes(b"x")
    (tmp_path / "home/h.npy").write_bytes(b"h")
    (tmp_path / "far.npy").write_bytes(b"far")
    Path("with space.csv").write_bytes(b"s")
    facts = record(
        here,
        params={
            "train": "train.csv",
            "images": "../images",
            "home": f"{tmp_path}/home/h.npy",
            "far": f"{tmp_path}/far.npy",
            "quoted": "'with space.csv'",
            "alpha": "0.5",
            "none": "missing.csv",
            "tilde": "~/h.npy",
        },
    )
    images = digests.digest_directory("../images", deadline=Deadline(60))
    assert facts["params"] == [
        {"param": "train", "path": "work/train.csv", "place": "repository", "kind": "file", "size": 3}
        | {"sha256": sha256(b"abc")},
        {"param": "images", "path": "images", "place": "repository", "kind": "directory", "files": 1, "size": 1}
        | {"merkle_sha256": images.sha256, "listing_sha256": images.listing_sha256},
        {"param": "home", "path": "~/h.npy", "place": "home", "kind": "file", "size": 1, "sha256": sha256(b"h")},
        {"param": "far", "path": f"{tmp_path}/far.npy", "place": "absolute", "kind": "file", "size": 3}
        | {"sha256": sha256(b"far")},
        {"param": "quoted", "path": "work/with space.csv", "place": "repository", "kind": "file", "size": 1}
        | {"sha256": sha256(b"s")},
    ]
    assert facts["not_hashed"] == {"files": 0, "size": 0}
    assert facts["opened"] == {"absent": "not tracked: MLFLOW_REPRO_TRACK_FILES was not set to 1"}


def test_digest_of_all_data_does_not_depend_on_where_they_lie(here):
    for name, content in (("a", b"abc"), ("b", b"abc"), ("c", b"xyz")):
        Path(name).write_bytes(content)
    first, second, third = (record(here, params={"x": name})["digest"] for name in "abc")
    assert first == second == sha256(f"{sha256(b'abc')}\n".encode())
    assert first != third
    lines = sorted((sha256(b"abc"), sha256(b"xyz")))
    assert record(here, params={"x": "c", "y": "b", "z": "a"})["digest"] == sha256(
        "".join(f"{x}\n" for x in lines).encode()
    )
    assert record(here)["digest"] == {"absent": "no data were found"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("api_key", "{file}", id="name-of-a-secret"),
        pytest.param("password", "{file}", id="password"),
        pytest.param("x", f"/data/{TOKEN}", id="token"),
        pytest.param("x", "file://{file}", id="file-url"),
        pytest.param("x", "s3://bucket/key", id="s3"),
        pytest.param("x", "dbfs:/data", id="dbfs"),
        pytest.param("x", "host:/export/data", id="nfs"),
        pytest.param("x", "//server/share", id="share"),
        pytest.param("x", r"\\server\share", id="windows-share"),
        pytest.param("x", "/net/host/data", id="automounter"),
        pytest.param("x", "{file}\n", id="newline"),
        pytest.param("x", "{file}\0", id="NUL"),
        pytest.param("x", "./" * 3000 + "file", id="huge"),
        pytest.param("x", "", id="empty"),
    ],
)
def test_parameters_that_are_not_even_looked_at(here, monkeypatch, name, value):
    Path("file").write_bytes(b"abc")
    looked = []
    monkeypatch.setattr(places.os, "stat", lambda path, **_: looked.append(path))
    facts = record(here, params={name: value.format(file=Path("file").absolute())})
    assert facts["params"] == []
    assert looked == []


@pytest.mark.parametrize("value", [".", "..", "/", "./sub/..", "{home}"])
def test_directory_around_the_program_is_no_data(here, opened_paths, value):
    """A parameter ``.`` would have everything hashed: the code, the store, the environment."""
    Path("sub").mkdir()
    (row,) = record(here, params={"x": value.format(home=here.home)})["params"]
    assert row["merkle_sha256"] == {"absent": data.AROUND}
    assert opened_paths == []


@pytest.mark.timeout(20)
def test_special_files_are_named_and_never_opened(here, opened_paths):
    os.mkfifo("fifo")
    facts = record(here, params={"a": "fifo", "b": "/dev/zero", "c": "/proc/self/environ", "d": "/proc/self"})
    reasons = [row["sha256"]["absent"] for row in facts["params"]]
    assert reasons == [digests.SPECIAL, digests.VIRTUAL, digests.VIRTUAL, digests.VIRTUAL]
    assert opened_paths == []
    assert facts["digest"] == {"absent": "not everything has a digest"}


@pytest.mark.parametrize(
    "name", [".env", ".env.local", ".netrc", "server.pem", "id_rsa", ".aws/credentials", "Secrets.toml", "link"]
)
def test_files_of_credentials_are_named_and_never_read(here, opened_paths, name):
    """The digest of a short password is as good as the password."""
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    if name == "link":
        Path(".env").write_bytes(b"PIN=1234")
        path.symlink_to(".env")
    else:
        path.write_bytes(b"PIN=1234")
    facts = record(here, params={"x": name}, files=[opened_file(path.absolute())])
    digest_ahead(lambda: {"x": name}, Deadline(60), places=here)
    for row in (*facts["params"], *facts["opened"]["files"]):
        assert row == {"path": f"work/{name}", "place": "repository", "sha256": {"absent": data.WITHHELD}} | (
            {"param": "x"} if "param" in row else {}
        )
    assert opened_paths == []


def test_budget_of_bytes_goes_to_the_smallest(here, opened_paths):
    for name, size in (("big", 1000), ("small", 10), ("middle", 100)):
        Path(name).write_bytes(b"x" * size)
    Path("folder").mkdir()
    Path("folder/file").write_bytes(b"x" * 50)
    Path("folder/large").write_bytes(b"x" * 3000)
    params = {name: name for name in ("big", "folder", "small", "middle")}
    facts = record(here, params=params, budget=Limits(size=300))
    rows = {row["param"]: row for row in facts["params"]}
    assert rows["big"]["size"] == 1000
    assert rows["big"]["sha256"] == {"absent": data.OVER_BUDGET}
    assert [name for name in ("small", "middle") if rows[name]["sha256"] == sha256(b"x" * rows[name]["size"])] == [
        "small",
        "middle",
    ]
    assert rows["folder"]["not_hashed"] == [{"path": "large", "size": 3000, "reason": "the limit of bytes was reached"}]
    assert facts["not_hashed"] == {"files": 2, "size": 4000}
    assert [os.path.basename(path) for path in opened_paths] == ["small", "middle", "file"]


def test_no_time_names_everything_with_its_size(here, opened_paths):
    Path("file").write_bytes(b"abc")
    Path("folder").mkdir()
    Path("folder/file").write_bytes(b"x")
    params = {"file": "file", "folder": "folder"}
    facts = record(here, params=params, files=[opened_file(Path("file").absolute())], deadline=Deadline(-1))
    assert facts["params"][0]["size"] == 3
    assert facts["params"][0]["sha256"] == {"absent": digests.NO_TIME}
    assert facts["params"][1]["merkle_sha256"] == {"absent": digests.NO_TIME}
    assert facts["opened"]["files"][0]["sha256"] == {"absent": digests.NO_TIME}
    assert opened_paths == []


# Dataset inputs


def test_inputs_are_recorded_as_mlflow_has_them_with_a_digest_of_local_sources(here):
    Path("d.csv").write_bytes(b"abc")
    entry = {"name": "d", "digest": "d7ccd92a", "source_type": "local", "source": '{"uri": "d.csv"}'}
    facts = record(here, inputs=[entry | {"context": "training"}])
    assert facts["inputs"] == [
        {"name": "d", "digest": "d7ccd92a", "source_type": "local", "context": "training", "source": {"uri": "d.csv"}}
        | {"file": {"path": "work/d.csv", "place": "repository", "kind": "file", "size": 3, "sha256": sha256(b"abc")}}
    ]
    assert "10,000 rows" in facts["inputs_note"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param({"tags": {"repro.launch.argv": "[...]"}}, {}, id="tags-of-the-run"),
        pytest.param(
            {"url": "https://me:pw@host/x.csv?X-Amz-Signature=abc#d"},
            {"url": f"https://host/x.csv?{REDACTED}"},
            id="signed-url",
        ),
        pytest.param({"uri": "s3://AKIAABCDEFGHIJKLMNOP:x@bucket/k"}, {"uri": "s3://bucket/k"}, id="s3"),
        pytest.param({"path": "hub/x", "token": "short"}, {"path": "hub/x", "token": REDACTED}, id="named"),
        pytest.param({"a": [{"password": 1234}, 1.5, None]}, {"a": [{"password": REDACTED}, 1.5, None]}, id="nested"),
        pytest.param({"a": float("nan"), "b": -float("inf")}, {"a": "NaN", "b": "-Infinity"}, id="not-in-JSON"),
        pytest.param("not JSON, password=hunter2", f"not JSON, password={REDACTED}", id="text"),
        pytest.param(f"/data/{TOKEN}", f"/data/{REDACTED}", id="token"),
        pytest.param("", "", id="empty"),
    ],
)
def test_credentials_in_sources_are_taken_out(here, source, expected):
    text = source if isinstance(source, str) else json.dumps(source)
    facts = record(here, inputs=[{"name": "d", "digest": "1", "source_type": "http", "source": text, "context": ""}])
    assert facts["inputs"][0]["source"] == expected


def test_source_of_an_input_is_cut(here):
    facts = record(here, inputs=[{"name": "d", "source": json.dumps({"uri": "x" * 65_000})}])
    assert len(facts["inputs"][0]["source"]["uri"]) == 2000


local_inputs = st.fixed_dictionaries(
    {"name": strategies.texts, "source_type": st.just("local"), "source": strategies.texts}
)
json_sources = st.recursive(
    st.none() | st.floats() | strategies.texts, lambda inner: st.dictionaries(strategies.names, inner, max_size=3)
)


@given(
    st.lists(local_inputs, max_size=3),
    st.lists(json_sources, max_size=3),
    st.dictionaries(strategies.names, strategies.texts, max_size=3),
)
def test_whatever_is_given_makes_strict_json(inputs, sources, params):
    """NaN and lone surrogates, which JSON does not have, would cost the whole record."""
    inputs = [*inputs, *({"name": "d", "source": json.dumps({"x": source})} for source in sources)]
    inputs.append({"name": "\ud800", "source": '{"x": "\\ud800"}'})
    facts = record(Places(), inputs=inputs, params={**params, "\ud800": "\ud800"})
    assert len(facts["inputs"]) == len(inputs)


def test_nothing_is_raised(here):
    section = record_data([None], {}, None, Deadline(60), places=here)
    assert section.facts["section"]["absent"].startswith("AttributeError")
    digest_ahead(lambda: 1 / 0, Deadline(60), places=here)


def test_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    (tmp_path / "file").write_bytes(b"abc")
    found = places.find_places()
    assert (found.cwd, found.top) == ("", "")
    facts = record(None, params={"relative": "file", "absolute": f"{tmp_path}/file"})
    assert [row["param"] for row in facts["params"]] == ["absolute"]


def test_places_are_found(here, monkeypatch):
    monkeypatch.setattr(places, "program_directory", os.getcwd)
    assert places.find_places() == here


# Opened files


def test_opened_files_are_recorded_in_their_order(here):
    for name in ("b", "a", "c"):
        Path(name).write_bytes(name.encode())
    files = [opened_file(Path(name).absolute()) for name in ("b", "a")]
    files.append(opened_file(Path("c").absolute(), written=True, produced=True))
    found = record(here, params={"x": "a"}, files=files)["opened"]
    assert [(row["path"], row["sha256"]) for row in found["files"]] == [
        (f"work/{name}", sha256(name.encode())) for name in ("b", "a", "c")
    ]
    assert [row.get("produced", False) for row in found["files"]] == [False, False, True]
    assert (found["count"], found["scratch_files"], found["more_openings"]) == (3, 0, 0)
    assert record(here, files=files)["digest"] == record(here, files=files[:2])["digest"]


def test_what_became_of_a_file_since_it_was_opened_is_said(here):
    """Its digest now would not be that of what the program read."""
    for name in ("changed", "replaced", "deleted", "scratch"):
        Path(name).write_bytes(b"abc")
    files = [opened_file(Path(name).absolute(), produced=name == "scratch") for name in ("changed", "replaced")]
    files += [opened_file(Path(name).absolute(), produced=name == "scratch") for name in ("deleted", "scratch")]
    Path("changed").write_bytes(b"abcd")
    Path("new").write_bytes(b"abc")
    os.utime("new", ns=(0, files[1].stamp[3]))
    Path("new").rename("replaced")
    Path("deleted").unlink()
    Path("scratch").unlink()
    found = record(here, files=files)["opened"]
    assert [(row["path"], row["size"], row["sha256"]) for row in found["files"]] == [
        ("work/changed", 3, {"absent": data.ALTERED}),
        ("work/replaced", 3, {"absent": data.ALTERED}),
        ("work/deleted", 3, {"absent": data.DELETED}),
    ]
    assert found["scratch_files"] == 1


@pytest.mark.usefixtures("remember_at_once")
def test_digest_that_was_taken_ahead_outlives_the_file(here, monkeypatch):
    Path("file").write_bytes(b"abc")
    Path("param").write_bytes(b"p")
    file = opened_file(Path("file").absolute())
    monkeypatch.setattr(data, "opened_files", lambda: OpenedFiles(files=(file,)))
    digest_ahead(lambda: {"x": "param"}, Deadline(60), places=here)
    Path("file").unlink()
    facts = record(here, params={"x": "param"}, files=[file], deadline=Deadline(-1))
    assert facts["params"][0]["sha256"] == sha256(b"p")
    (row,) = facts["opened"]["files"]
    assert (row["sha256"], row["since"]) == (sha256(b"abc"), data.DELETED)


@pytest.mark.usefixtures("remember_at_once")
def test_looking_ahead_goes_on_until_it_is_cut(here, opened_paths):
    """A parameter that is logged later, and a file that is written later, are found as well."""
    params: dict[str, str] = {}
    deadline = Deadline(60)
    rounds = []

    def find_params():
        rounds.append(1)
        Path(f"file{len(rounds)}").write_bytes(b"abc")
        params[str(len(rounds))] = f"file{len(rounds)}"
        if len(rounds) == 3:
            deadline.cut(0.2)
        return params

    digest_ahead(find_params, deadline, places=here, pause=0.01)
    assert deadline.passed
    assert [os.path.basename(path) for path in opened_paths][:3] == ["file1", "file2", "file3"]


def test_many_opened_files_go_to_a_file_of_their_own(here):
    for number in range(data._INLINE + 1):
        Path(str(number)).write_bytes(b"x")
    files = tuple(opened_file(Path(str(number)).absolute()) for number in range(data._INLINE + 1))
    section = record_data([], {}, OpenedFiles(files=files, more_openings=7), Deadline(60), places=here)
    found = section.facts["opened"]
    assert (found["count"], len(found["files"]), found["more_openings"]) == (201, 200, 7)
    (content,) = section.files.values()
    assert found["all"] == f"repro/{next(iter(section.files))}"
    assert json.loads(content)[:200] == found["files"]
    assert len(json.loads(content)) == 201


# Tracking: each in a process of its own, for an audit hook stays for good

PRELUDE = """\
import io, json, os, pathlib, signal, sys, threading, time
from mlflow_repro.data import opened
def names():
    return [os.path.relpath(file.path, START) for file in opened.opened_files().files]
START = os.getcwd()
"""


def run(script: str, cwd: Path, *, track: str = "1", files: dict[str, bytes] | None = None):
    for name, content in (files or {}).items():
        path = cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (cwd / "script.py").write_text(PRELUDE + textwrap.dedent(script), encoding="utf-8")
    variables = {**os.environ, "MLFLOW_REPRO_TRACK_FILES": track}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=cwd, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout.splitlines()[-1])


def test_files_that_a_program_really_opened(tmp_path):
    """However Python opens them, in the order of their first opening, and nothing else."""
    names = [f"{name}.csv" for name in ("plain", "bytes", "pathlib", "fileio", "lowlevel", "table", "text", "thread")]
    names += ["update.bin", "raw.bin", "map.bin", "sub/inner.csv", "sub/plain.csv", "sub/own.csv"]
    files = dict.fromkeys(names, b"a,b\n1,2\n")
    files |= {"corpus.py": b"x = 1\n", "helper.py": b"y = 2\n", "old.txt": b"old", "mlruns/0/meta.yaml": b"m"}
    found = run(
        """
        assert opened.track_opened_files()
        import numpy as np
        import pandas as pd
        np.save("array.npy", np.arange(3))
        open("plain.csv").read()
        open(b"bytes.csv", "rb").read()
        pathlib.Path("pathlib.csv").read_text()
        io.FileIO(pathlib.Path("fileio.csv")).read()
        os.close(os.open("lowlevel.csv", os.O_RDONLY))
        pd.read_csv("table.csv")
        np.loadtxt("text.csv", skiprows=1, delimiter=",")
        np.fromfile(np.array(["raw.bin"])[0], dtype="u1")
        np.memmap("map.bin", dtype="u1", mode="r")
        open("update.bin", "r+b").read(1)
        np.load("array.npy")
        # Again, by another name
        open("./plain.csv"), open(os.path.abspath("plain.csv")), open("sub/../plain.csv")
        # Not for reading
        for mode in ("w", "a", "x", "w+", "a+"):
            open(f"written-{mode}.txt", mode).close()
        open("old.txt", "a").close()
        os.close(os.open("created", os.O_WRONLY | os.O_CREAT))
        # Not a file, not there, not data, a descriptor
        os.close(os.open("sub", os.O_RDONLY))
        for missing in ("missing.csv", "sub", "plain.csv/x"):
            try:
                open(missing)
            except OSError:
                pass
        open("/proc/self/status").read(), open("/dev/null").read(), open(os.__file__).read()
        open(os.dup(0)).close()
        open("mlruns/0/meta.yaml").read()
        open("store.db", "w").close(), open("store.db").close()
        import helper
        open("helper.py").read()
        open("corpus.py").read()
        thread = threading.Thread(target=lambda: open("thread.csv").read())
        thread.start(); thread.join()
        os.chdir("sub")
        open("inner.csv").read(), open("plain.csv").read(), open("../plain.csv").read()
        with opened.own_openings():
            open("own.csv").read()
        found = opened.opened_files().files
        print(json.dumps({os.path.relpath(file.path, START): [file.written, file.produced] for file in found}))
        """,
        tmp_path,
        files=files,
    )
    assert list(found) == [
        *("plain.csv", "bytes.csv", "pathlib.csv", "fileio.csv", "lowlevel.csv", "table.csv", "text.csv", "raw.bin"),
        *("map.bin", "update.bin", "array.npy", "corpus.py", "thread.csv", "sub/inner.csv", "sub/plain.csv"),
    ]
    assert {name: flags for name, flags in found.items() if flags != [False, False]} == {
        "update.bin": [True, False],
        "array.npy": [True, True],
    }


def test_without_the_variable_nothing_is_hooked(tmp_path):
    script = """
        hooks = []
        sys.addaudithook = hooks.append
        answer = opened.track_opened_files()
        with opened.own_openings():
            pass
        print(json.dumps([answer, opened.opened_files(), len(hooks)]))
    """
    for value in ("", "0", "false"):
        assert run(script, tmp_path, track=value) == [False, None, 0]


@pytest.mark.parametrize("error", ["RuntimeError", "ValueError"])
def test_another_hook_may_refuse_ours(tmp_path, error):
    """Python tells that one aloud, the other not."""
    script = f"""
        def refuse(event, args):
            if event == "sys.addaudithook":
                raise {error}
        sys.addaudithook(refuse)
        print(json.dumps([opened.track_opened_files(), opened.opened_files()]))
    """
    assert run(script, tmp_path) == [False, None]


def test_tracking_can_be_switched_off_and_on(tmp_path):
    script = """
        hooks = []
        add = sys.addaudithook
        sys.addaudithook = lambda hook: (hooks.append(hook), add(hook))
        opened.track_opened_files()
        open("a").close()
        opened.stop_tracking()
        open("b").close()
        opened.track_opened_files()
        open("c").close()
        print(json.dumps([names(), len(hooks)]))
    """
    assert run(script, tmp_path, files={"a": b"", "b": b"", "c": b""}) == [["a", "c"], 1]


def test_forked_child_has_a_list_of_its_own(tmp_path):
    script = """
        opened.track_opened_files()
        open("a").close()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            open("b").close()
            os.write(writing, json.dumps(names()).encode())
            os._exit(0)
        os.waitpid(child, 0)
        open("c").close()
        print(json.dumps([names(), json.loads(os.read(reading, 1000))]))
    """
    assert run(script, tmp_path, files={"a": b"", "b": b"", "c": b""}) == [["a", "c"], ["b"]]


def test_list_is_bounded_and_counts_the_rest(tmp_path):
    script = """
        opened.PATH_LIMIT = 3
        opened.track_opened_files()
        for name in "abcdaae":
            open(name).close()
        print(json.dumps([names(), opened.opened_files().more_openings]))
    """
    assert run(script, tmp_path, files=dict.fromkeys("abcde", b"")) == [["a", "b", "c"], 2]


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed on Linux only")
def test_what_a_library_holds_open_is_found(tmp_path):
    """HDF5 and others open files in C, which no audit hook sees."""
    script = """
        import ctypes
        opened.track_opened_files()
        libc = ctypes.CDLL(None)
        libc.open(b"held.h5", os.O_RDONLY)
        libc.open(b"update.h5", os.O_RDWR)
        libc.close(libc.open(b"closed.h5", os.O_RDONLY))
        libc.open(b"unlinked.h5", os.O_RDONLY)
        libc.open(b"hashed.h5", os.O_RDONLY | os.O_NONBLOCK)  # as we do
        os.unlink("unlinked.h5")
        file = open("seen.csv")
        print(json.dumps([[os.path.basename(file.path), file.held] for file in opened.opened_files().files]))
    """
    files = dict.fromkeys(("held.h5", "update.h5", "closed.h5", "unlinked.h5", "hashed.h5", "seen.csv"), b"")
    assert run(script, tmp_path, files=files) == [["seen.csv", False], ["held.h5", True], ["unlinked.h5", True]]


def test_exception_of_a_signal_handler_is_not_swallowed(tmp_path):
    """Many a program interrupts itself by an alarm; a TimeoutError is an OSError, like those of a missing file."""
    script = """
        opened.track_opened_files()
        def interrupt(*_):
            raise TimeoutError("alarm")
        signal.signal(signal.SIGALRM, interrupt)
        def open_until(end):
            while time.monotonic() < end:
                for name in ("missing", "folder"):
                    try:
                        open(name)
                    except (FileNotFoundError, IsADirectoryError):
                        pass
        seen = 0
        for _ in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                open_until(time.monotonic() + 5)
                break
            except TimeoutError:
                seen += 1
        print(seen)
    """
    assert run(script, tmp_path, files={"folder/file": b""}) == 100


def test_hook_is_not_noticed_by_odd_programs(tmp_path):
    """Paths whose methods fail, made-up events, a working directory that is gone, the very end."""
    script = """
        opened.track_opened_files()
        class Odd(str):
            def fail(self, *_):
                raise ZeroDivisionError
            __eq__ = __hash__ = __getitem__ = __len__ = __str__ = startswith = endswith = fail
        open(Odd("odd")).close()
        class Path:
            def __fspath__(self):
                calls.append(1)
                return "like"
        calls = []
        io.FileIO(Path()).close()
        assert len(calls) == 1
        for arguments in ((), (1,), ("a\\0b", "r", 0), ("\\ud800", "r", 0), ("x", "r", None), (None, None, None)):
            sys.audit("open", *arguments)
        class Last:
            def __del__(self, open=open, path=os.path.abspath("last")):
                open(path, "rb").close()
        opened.keep = Last()
        os.mkdir("gone")
        os.chdir("gone")
        os.rmdir("../gone")
        try:
            open("odd")
        except FileNotFoundError:
            print(json.dumps(names()))
    """
    assert run(script, tmp_path, files={"odd": b"", "like": b"", "last": b""}) == ["odd"]


def test_opening_needs_no_more_of_the_stack_than_before(tmp_path):
    """Except that from Python 3.12 on it takes room for one call, where otherwise it takes none."""
    script = """
        def call(depth):
            if depth:
                call(depth - 1)
        def open_with_room_for(calls, path):
            try:
                call(calls)
            except RecursionError:
                try:
                    open(path, "rb").close()
                except RecursionError:
                    return False
                return True
            return open_with_room_for(calls, path)
        before = [open_with_room_for(calls, "a") for calls in range(12)]
        opened.track_opened_files()
        after = [open_with_room_for(calls, f"f{calls}") for calls in range(12)]
        print(json.dumps([before, after]))
    """
    before, after = run(script, tmp_path, files=dict.fromkeys(("a", *(f"f{calls}" for calls in range(12))), b""))
    assert before[1:] == after[1:]
    assert True in before


def test_threads_lose_nothing(tmp_path):
    script = """
        opened.track_opened_files()
        sys.setswitchinterval(1e-5)
        def read(start):
            for number in range(start, 400, 2):
                open(f"f{number}").close()
        threads = [threading.Thread(target=read, args=(start % 2,)) for start in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(json.dumps(len(names())))
    """
    assert run(script, tmp_path, files={f"f{number}": b"" for number in range(400)}) == 400


def test_our_own_hashing_is_not_an_opening_of_the_program(tmp_path):
    script = """
        from mlflow_repro.data.capture import record_data, digest_ahead
        from mlflow_repro.data.digests import Deadline
        opened.track_opened_files()
        open("read.csv").close()
        digest_ahead(lambda: {"x": "folder", "y": "file"}, Deadline(60))
        facts = record_data([], {"x": "folder", "y": "file"}, opened.opened_files(), Deadline(60)).facts
        print(json.dumps([names(), [row["path"] for row in facts["opened"]["files"]], len(facts["params"])]))
    """
    found = run(script, tmp_path, files={"read.csv": b"", "file": b"", "folder/a": b"", ".git/HEAD": b""})
    assert found == [["read.csv"], ["read.csv"], 2]
