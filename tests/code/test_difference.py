"""Two folders of code, file by file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.code.difference import FileDifference, diff_folders, read_sources

if TYPE_CHECKING:
    from pathlib import Path


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_changed_added_and_removed(tmp_path: Path):
    one = fill(tmp_path / "a", {"same.py": b"1", "x/text.py": b"1\n2\n3\n", "gone": b"", "bytes": b"\0a"})
    other = fill(tmp_path / "b", {"same.py": b"1", "x/text.py": b"1\n4\n3\n5\n", "new": b"", "bytes": b"\0b"})
    assert diff_folders(one, other) == [
        FileDifference(path="bytes", how="changed"),
        FileDifference(path="gone", how="removed"),
        FileDifference(path="new", how="added"),
        FileDifference(path="x/text.py", how="changed", lines=2),
    ]


def test_what_running_leaves_behind_is_no_difference(tmp_path: Path):
    one = fill(tmp_path / "a", {"t.py": b"", ".git/HEAD": b"1", "mlruns/0/x": b"1", "p/__pycache__/t.pyc": b"1"})
    other = fill(tmp_path / "b", {"t.py": b"", ".git/HEAD": b"2", "mlflow.db": b"2"})
    assert diff_folders(one, other) == []


def test_links_are_compared_and_not_followed(tmp_path: Path):
    one, other = fill(tmp_path / "a", {"t": b"1"}), fill(tmp_path / "b", {"t": b"1"})
    (one / "link").symlink_to("t")
    (other / "link").symlink_to("/etc/passwd")
    assert diff_folders(one, other) == [FileDifference(path="link", how="changed", lines=1)]


def test_python_sources(tmp_path: Path):
    fill(tmp_path, {"a.py": b"x = 1", "b/c.py": b"\xff", "d.txt": b"no"})
    assert read_sources(tmp_path) == {"a.py": "x = 1", "b/c.py": "\ufffd"}
