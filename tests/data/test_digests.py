"""Content digests: what they are, what they are not sensitive to, and what is never opened, followed or waited for."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
import threading
import time
from pathlib import Path

import pytest
import strategies  # noqa: F401 - the settings of hypothesis
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_repro.data import digests
from mlflow_repro.data.digests import Deadline, Limits, digest_directory, digest_file, recall_digest, stamp_of

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

names = (
    st.binary(min_size=1, max_size=6)
    .filter(lambda name: not {b"/", b"\0"} & {bytes([c]) for c in name})
    .filter(lambda name: name not in (b".", b".."))
)
targets = (
    st.binary(min_size=1, max_size=6).filter(lambda target: b"\0" not in target).map(lambda target: ("link", target))
)
trees = st.recursive(
    st.dictionaries(names, st.binary(max_size=4) | targets, max_size=4),
    lambda inner: st.dictionaries(names, st.binary(max_size=4) | targets | inner, max_size=4),
    max_leaves=8,
)


def make_tree(directory: bytes, tree: dict, *, is_reversed: bool = False) -> None:
    os.mkdir(directory)
    for name, what in sorted(tree.items(), reverse=is_reversed):
        path = os.path.join(directory, name)
        if isinstance(what, dict):
            make_tree(path, what, is_reversed=is_reversed)
        elif isinstance(what, tuple):
            os.symlink(what[1], path)
        else:
            Path(os.fsdecode(path)).write_bytes(what)


def merkle(tree: dict) -> bytes:
    """The definition in the module's text, written a second time."""
    whole = b"mlflow-repro merkle-sha256-1\n"
    for name, what in sorted(tree.items()):
        if isinstance(what, dict):
            kind, value = b"d", merkle(what)
        elif isinstance(what, tuple):
            kind, value = b"l", hashlib.sha256(what[1]).digest()
        else:
            kind, value = b"f", hashlib.sha256(what).digest()
        whole += kind + struct.pack(">Q", len(name)) + name + value
    return hashlib.sha256(whole).digest()


def digest_tree(tree: dict, **options) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        make_tree(os.fsencode(folder) + b"/t", tree, **options)
        return digest_directory(f"{folder}/t", deadline=Deadline(60)).sha256


def digest_path(path: Path, **options) -> digests.DirectoryDigest:
    return digest_directory(str(path), deadline=Deadline(60), **options)


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch):
    monkeypatch.setattr(digests, "_cache", {})


@pytest.fixture
def remember_at_once(monkeypatch):
    """Remember the digests of files that were written just now, too."""
    monkeypatch.setattr(digests, "_RACY_NS", -(10**18))


@pytest.fixture
def opened_paths(monkeypatch):
    """The paths that are opened from now on."""
    paths = []
    real = os.open

    def spy(path, *arguments, **options):
        paths.append(os.fsdecode(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", spy)
    return paths


@pytest.mark.parametrize(
    ("content", "sha256"),
    [
        pytest.param(b"abc", ABC, id="abc"),
        pytest.param(b"", EMPTY, id="empty"),
        pytest.param(b"x" * 100_000, hashlib.sha256(b"x" * 100_000).hexdigest(), id="chunks"),
    ],
)
def test_digest_of_a_file_is_its_sha256(tmp_path, monkeypatch, content, sha256):
    monkeypatch.setattr(digests, "_CHUNK", 4096 + 1)
    path = tmp_path / "file"
    path.write_bytes(content)
    found = digest_file(str(path), deadline=Deadline(60))
    assert (found.sha256, found.reason, found.size) == (sha256, "", len(content))
    assert found.mtime_ns == path.stat().st_mtime_ns


def test_digest_of_a_directory_is_pinned(tmp_path):
    """The definition may not change under its name: records that were made years ago are compared with new ones."""
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": b"abc", b"d": {}, b"e": {b"f": b""}, b"l": ("link", b"a")})
    found = digest_path(tmp_path / "t")
    assert found.sha256 == "b4b9700cf7aeb326036403d8b3dd9c1e56bb8ae2ea060c154de3caf319ec2836"
    assert found.listing_sha256 == "62194f033bdffceba0482c4244f47c953896cdf290cf7eaecea3775223047e5a"
    assert (found.files, found.size, found.reason, found.not_hashed) == (2, 3, "", ())


@given(trees)
def test_digest_of_a_directory_follows_its_definition(tree):
    assert digest_tree(tree) == merkle(tree).hex()


@given(trees)
def test_order_of_creation_does_not_matter(tree):
    assert digest_tree(tree) == digest_tree(tree, is_reversed=True)


@given(trees, trees)
def test_directories_with_equal_digests_are_equal(one, other):
    assert (digest_tree(one) == digest_tree(other)) == (one == other)


@settings(max_examples=20)
@given(trees, names, st.data())
def test_any_change_of_name_content_or_kind_changes_the_digest(tree, name, data):
    before = digest_tree({**tree, name: b"content"})
    other = data.draw(names.filter(lambda candidate: candidate != name and candidate not in tree))
    rest = {key: what for key, what in tree.items() if key != name}
    assert digest_tree({**rest, other: b"content"}) != before
    for what in (b"", b"contenu", {}, {b"content": b""}, ("link", b"content")):
        assert digest_tree({**rest, name: what}) != before
    assert digest_tree(rest) != before


def test_times_and_permissions_do_not_matter(tmp_path):
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": b"abc", b"d": {b"b": b""}})
    before = digest_path(tmp_path / "t")
    for path in (tmp_path / "t/a", tmp_path / "t/d", tmp_path / "t"):
        os.utime(path, (1, 1))
    (tmp_path / "t/a").chmod(0o755)
    (tmp_path / "t").rename(tmp_path / "moved")
    assert digest_path(tmp_path / "moved") == before


def test_listing_tells_sizes_and_not_contents(tmp_path):
    for name, content in (("one", b"abc"), ("same", b"xyz"), ("longer", b"abcd")):
        make_tree(os.fsencode(tmp_path / name), {b"a": content})
    one, same, longer = (digest_path(tmp_path / name, limits=Limits(size=0)) for name in ("one", "same", "longer"))
    assert one.sha256 is None
    assert one.listing_sha256 == same.listing_sha256 != longer.listing_sha256


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_never_opened(tmp_path, opened_paths):
    """A FIFO makes whoever opens it wait; a device does what it does."""
    os.mkfifo(tmp_path / "fifo")
    for path in (
        str(tmp_path / "fifo"),
        "/dev/zero",
        "/dev/null",
        "/proc/self/environ",
        "/sys/kernel/notes",
        str(tmp_path),
    ):
        assert digest_file(path, deadline=Deadline(60)).reason in (digests.SPECIAL, digests.VIRTUAL, digests.GONE)
    assert (
        digest_path(tmp_path).sha256
        == hashlib.sha256(
            b"mlflow-repro merkle-sha256-1\n" + b"o" + struct.pack(">Q", 4) + b"fifo" + bytes(32)
        ).hexdigest()
    )
    assert opened_paths == []
    assert digest_path(Path("/proc/self")).reason == digests.VIRTUAL
    assert digest_path(tmp_path / "fifo").sha256 is None


@pytest.mark.timeout(20)
def test_file_that_turns_into_a_fifo_is_not_waited_for(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    real = os.open

    def swap(name, *arguments):
        path.unlink()
        os.mkfifo(path)
        return real(name, *arguments)

    monkeypatch.setattr(os, "open", swap)
    assert digest_file(str(path), deadline=Deadline(60)).reason == digests.CHANGED


def test_links_are_recorded_and_not_followed(tmp_path):
    """Not even one that leads to its own parent, to itself, to nothing, or to all files of the machine."""
    links = {b"up": b"..", b"self": b"self", b"broken": b"nowhere", b"root": b"/"}
    tree = {name: ("link", target) for name, target in links.items()}
    make_tree(os.fsencode(tmp_path) + b"/t", tree)
    assert digest_path(tmp_path / "t").sha256 == merkle(tree).hex()
    assert digest_file(str(tmp_path / "t/self"), deadline=Deadline(60)).sha256 is None
    assert digest_file(str(tmp_path / "t/broken"), deadline=Deadline(60)).reason == digests.GONE


def test_link_that_is_named_itself_is_followed(tmp_path):
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": b"abc"})
    (tmp_path / "link").symlink_to("t")
    (tmp_path / "file").symlink_to("t/a")
    assert digest_path(tmp_path / "link") == digest_path(tmp_path / "t")
    assert digest_file(str(tmp_path / "file"), deadline=Deadline(60)).sha256 == ABC


@pytest.mark.parametrize("change", ["grows", "is cut short", "is written over"])
def test_file_that_changes_while_it_is_read_has_no_digest(tmp_path, monkeypatch, change):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    os.utime(path, (1, 1))
    monkeypatch.setattr(digests, "_CHUNK", 4096)
    real = os.readv

    def change_and_read(descriptor, buffers):
        with path.open("r+b") as file:
            if change == "grows":
                file.seek(0, os.SEEK_END)
            file.write(b"y" * 100)
            if change == "is cut short":
                file.truncate(100)
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", change_and_read)
    found = digest_file(str(path), deadline=Deadline(60))
    assert (found.sha256, found.reason, found.size) == (None, digests.CHANGED, 10_000)
    assert digest_path(tmp_path).reason == f"1 of its files have no digest: {digests.CHANGED}"


def test_what_is_gone_is_said_to_be(tmp_path, monkeypatch):
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": b"abc", b"b": b"abcd"})
    assert digest_file(str(tmp_path / "none"), deadline=Deadline(60)) == digests.FileDigest(reason=digests.GONE)
    assert digest_path(tmp_path / "none") == digests.DirectoryDigest(reason=digests.GONE)
    real = digests._digest_entry

    def unlink_first(path, *arguments):
        (tmp_path / "t/b").unlink(missing_ok=True)
        return real(path, *arguments)

    monkeypatch.setattr(digests, "_digest_entry", unlink_first)
    found = digest_path(tmp_path / "t")
    assert (found.sha256, found.files, found.size) == (None, 2, 7)
    assert found.not_hashed == (digests.NotHashed(path="b", size=4, reason=digests.GONE),)


def test_directory_that_gets_a_file_meanwhile_has_no_digest(tmp_path, monkeypatch):
    make_tree(os.fsencode(tmp_path) + b"/t", {b"d": {b"a": b"abc"}})
    os.utime(tmp_path / "t/d", (1, 1))
    real = digests._digest_entry

    def add_first(path, *arguments):
        (tmp_path / "t/d/new").touch()
        return real(path, *arguments)

    monkeypatch.setattr(digests, "_digest_entry", add_first)
    found = digest_path(tmp_path / "t")
    assert (found.sha256, found.listing_sha256, found.reason) == (None, None, digests.CHANGED)


@pytest.mark.parametrize("name", ["a\0b", "a\udfffb", "x" * 300, "x/" * 3000], ids=["NUL", "surrogate", "long", "path"])
def test_names_that_no_file_can_have(name):
    assert digest_file(name, deadline=Deadline(60)).sha256 is None
    assert digest_directory(name, deadline=Deadline(60)).sha256 is None


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    """Raised here by hand: tests run as root, too."""
    (tmp_path / "file").write_bytes(b"abc")

    def refuse(*_):
        raise PermissionError(13, "secret details")

    monkeypatch.setattr(os, "open", refuse)
    found = digest_file(str(tmp_path / "file"), deadline=Deadline(60))
    assert (found.sha256, found.reason, found.size) == (None, "it cannot be read: Permission denied", 3)


@pytest.mark.usefixtures("remember_at_once")
def test_file_is_read_once(tmp_path, opened_paths):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    first = digest_file(str(path), deadline=Deadline(60))
    stamp = stamp_of(path.stat())
    assert opened_paths == [str(path)]
    assert digest_file(str(path), deadline=Deadline(60)) == first
    assert digest_file(str(path), deadline=Deadline(-1)) == first
    assert digest_path(tmp_path, limits=Limits(size=0)).sha256 == merkle({b"file": b"abc"}).hex()
    path.unlink()
    assert opened_paths == [str(path)]
    assert recall_digest(stamp) == first.sha256 == ABC


@pytest.mark.usefixtures("remember_at_once")
def test_file_that_changed_is_read_again(tmp_path):
    """Also when its size and its modification time were put back."""
    path = tmp_path / "file"
    path.write_bytes(b"abd")
    os.utime(path, (1, 1))
    assert digest_file(str(path), deadline=Deadline(60)).sha256 != ABC
    time.sleep(0.05)
    path.write_bytes(b"abc")
    os.utime(path, (1, 1))
    assert digest_file(str(path), deadline=Deadline(60)).sha256 == ABC


def test_young_file_is_not_remembered(tmp_path):
    """It can change within the same tick of the clock and look the same."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest_file(str(path), deadline=Deadline(60))
    assert digests.is_young(stamp_of(path.stat()))
    assert recall_digest(stamp_of(path.stat())) is None


@pytest.mark.usefixtures("remember_at_once")
def test_full_cache_takes_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_CACHE_LIMIT", 2)
    for number in range(4):
        (tmp_path / str(number)).write_text(str(number), encoding="utf-8")
    assert digest_path(tmp_path).sha256
    assert len(digests._cache) == 2


def test_no_time_no_reading(tmp_path, opened_paths):
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": b"abc"})
    found = digest_file(str(tmp_path / "t/a"), deadline=Deadline(-1))
    assert (found.sha256, found.reason, found.size) == (None, digests.NO_TIME, 3)
    assert digest_path(tmp_path / "t").sha256
    opened_paths.clear()
    assert digest_directory(str(tmp_path / "t"), deadline=Deadline(0)).reason == digests.NO_TIME
    assert opened_paths == []


def test_deadline_stops_a_file_in_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "_CHUNK", 1000)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10_000)
    deadline = Deadline(60)
    counts = []
    real = os.readv

    def cut_and_read(*arguments):
        counts.append(1)
        if len(counts) == 3:
            deadline.cut()
        return real(*arguments)

    monkeypatch.setattr(os, "readv", cut_and_read)
    assert digest_file(str(path), deadline=deadline).reason == digests.NO_TIME
    assert len(counts) == 3


def test_deadline_can_be_cut_from_another_thread():
    deadline = Deadline.at(time.monotonic() + 60)
    begun = time.monotonic()
    threading.Timer(0.05, deadline.cut).start()
    deadline.wait(30)
    assert time.monotonic() - begun < 10
    assert deadline.passed
    deadline.cut(100)
    assert deadline.passed


def test_share_of_the_time_is_kept_until_it_is_cut(tmp_path, monkeypatch):
    """In the middle of a training, hashing must not take what the training needs."""
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x")
    waits = []
    monkeypatch.setattr(digests, "_STINT", 0)
    monkeypatch.setattr(threading.Event, "wait", lambda _, seconds: waits.append(seconds))
    digest_directory(str(tmp_path), deadline=Deadline(60))
    assert waits == []
    digest_directory(str(tmp_path), deadline=Deadline(60, share=0.01))
    assert len(waits) >= 10
    assert min(waits) > 0


def test_limit_of_bytes_leaves_the_biggest_and_names_them(tmp_path):
    sizes = {"small": 10, "sub/middle": 100, "sub/big": 1000, "huge": 5000}
    (tmp_path / "sub").mkdir()
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"x" * size)
    found = digest_path(tmp_path, limits=Limits(size=200))
    assert [(item.path, item.size) for item in found.not_hashed] == [("sub/big", 1000), ("huge", 5000)]
    assert (found.sha256, found.files, found.size) == (None, 4, 6110)
    assert (found.not_hashed_files, found.not_hashed_size) == (2, 6000)
    assert found.reason == "2 of its files have no digest: the limit of bytes was reached"


def test_not_more_than_twenty_are_named(tmp_path):
    for number in range(30):
        (tmp_path / str(number)).write_bytes(b"x")
    found = digest_path(tmp_path, limits=Limits(size=0))
    assert (len(found.not_hashed), found.not_hashed_files) == (20, 30)


def test_limit_of_entries(tmp_path):
    for number in range(5):
        (tmp_path / str(number)).write_bytes(b"x")
    assert digest_path(tmp_path, limits=Limits(entries=5)).sha256
    found = digest_path(tmp_path, limits=Limits(entries=4))
    assert (found.sha256, found.listing_sha256, found.files) == (None, None, 4)
    assert found.reason == "it has more than 4 entries"


def test_deep_directory_needs_no_recursion(tmp_path):
    paths = [f"{tmp_path}/t" + "/d" * depth for depth in range(1100)]
    for path in paths:
        os.mkdir(path)
    try:
        whole = merkle({})
        for _ in paths[1:]:
            whole = hashlib.sha256(digests._HEADER + b"d" + struct.pack(">Q", 1) + b"d" + whole).digest()
        assert digest_path(tmp_path / "t").sha256 == whole.hex()
    finally:
        for path in reversed(paths):  # pytest's own removal is recursive
            os.rmdir(path)


def test_directory_that_is_mounted_in_itself_ends(tmp_path, monkeypatch):
    """Seen here by two directories that say that they are the same one: mounting takes rights."""
    make_tree(os.fsencode(tmp_path) + b"/t", {b"a": {b"b": {}}})
    monkeypatch.setattr(digests._Folder, "identity", property(lambda self: (1, len(self.path) % 2)))
    assert digest_path(tmp_path / "t").reason == "a directory in it leads back to one that it lies in"


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no shared memory")  # noqa: S108
def test_shared_memory_holds_data():
    folder = tempfile.mkdtemp(dir="/dev/shm")
    try:
        Path(folder, "file").write_bytes(b"abc")
        assert digest_file(f"{folder}/file", deadline=Deadline(60)).sha256 == ABC
        assert digest_directory(folder, deadline=Deadline(60)).sha256
    finally:
        shutil.rmtree(folder)


def test_hashing_lets_other_threads_run(tmp_path):
    """The interpreter's lock is free while a chunk is read and hashed: another thread is never kept out for long."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    is_done = threading.Event()

    def hash_it():
        digest_file(str(path), deadline=Deadline(60))
        is_done.set()

    threading.Thread(target=hash_it).start()
    turns = 0
    while not is_done.is_set():
        turns += 1
        time.sleep(0.0005)
    assert turns > 5
