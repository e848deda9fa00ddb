"""A little repository with canaries in it, and a look at which of them a tool has stored.

Each check searches the files that came into being (or changed) while the tool recorded, archives, compressed objects,
databases and git bundles opened, for something that can have got there only by being recorded.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import platform
import re
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import run_git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

PROGRAM = Path(__file__).resolve().parent / "peer_project" / "train.py"
NOTE = "canary-argument-wren"
SEED_HALF = 271_828_182
_SEED = str(2 * SEED_HALF + 1)
_CHANGED_PROGRAM = b"canary-changed-program-finch"
_CHANGED_FILE = b"canary-changed-file-robin"
_UNTRACKED_PROGRAM = b"canary-untracked-program-heron"
_UNTRACKED_FILE = b"canary-untracked-file-stork"
_UNPUSHED_FILE = b"canary-unpushed-file-crane"
_UNPUSHED_MESSAGE = b"canary-unpushed-message-swift"
_DEPTH = 3  # an archive in an archive in an archive
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{200,}={0,2}")
_WORDS = 8  # of a generator's state: 256 bits
_BUNDLE = b"# v"


def make_repository(folder: Path) -> None:
    """Make ``folder/repo``, a clone of ``folder/remote.git`` with an unpushed commit, changes and untracked files."""
    remote, repo = folder / "remote.git", folder / "repo"
    run_git("init", "--quiet", "--bare", str(remote), cwd=folder)
    run_git("init", "--quiet", str(repo), cwd=folder)
    run_git("remote", "add", "origin", str(remote), cwd=repo)
    run_git("config", "user.name", "bench", cwd=repo)
    run_git("config", "user.email", "bench@example.invalid", cwd=repo)
    program = PROGRAM.read_text(encoding="utf-8")
    (repo / "train.py").write_text(program, encoding="utf-8")
    (repo / "notes.txt").write_text("the data is from 2024\n", encoding="utf-8")
    (repo / ".gitignore").write_text("__pycache__/\nmlruns/\nwandb/\n", encoding="utf-8")
    run_git("add", ".", cwd=repo)
    run_git("commit", "--quiet", "-m", "train", cwd=repo)
    run_git("push", "--quiet", "--set-upstream", "origin", "HEAD", cwd=repo)
    (repo / "model.txt").write_bytes(_UNPUSHED_FILE + b"\n")
    run_git("add", ".", cwd=repo)
    run_git("commit", "--quiet", "-m", f"model\n\n{_UNPUSHED_MESSAGE.decode()}", cwd=repo)
    (repo / "train.py").write_text(f"{program}\n# {_CHANGED_PROGRAM.decode()}\n", encoding="utf-8")
    (repo / "notes.txt").write_bytes(_CHANGED_FILE + b"\n")
    (repo / "helper.py").write_bytes(b"# " + _UNTRACKED_PROGRAM + b"\n")
    (repo / "extra.txt").write_bytes(_UNTRACKED_FILE + b"\n")


def list_files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size in bytes and time of change of every file below ``folder``."""
    found: dict[Path, tuple[int, int]] = {}
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = Path(where, name).lstat()
                found[Path(where, name)] = (status.st_size, status.st_mtime_ns)
    return found


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a tool has stored, as one text, and what is known of the run that it recorded."""

    text: bytes
    commit: str
    packages: Mapping[str, str]
    states: Mapping[str, Sequence[int]]


def read_stored(folder: Path, before: Mapping[Path, tuple[int, int]]) -> bytes:
    """The content of all files below ``folder`` that are not as they were ``before``, opened as far as they can be."""
    parts: list[bytes] = []
    for path, status in list_files(folder).items():
        if before.get(path) != status and path.suffix != ".pyc" and not path.is_symlink():
            with suppress(OSError):
                content = path.read_bytes()
                parts += [content, *_open(content, folder / "remote.git", _DEPTH)]
    return b"\n".join(parts)


def _open(content: bytes, remote: Path, depth: int) -> Iterator[bytes]:
    """What ``content`` holds, if it is an archive, compressed, base64, a database or a git bundle."""
    for reader in _READERS:
        with suppress(OSError, ValueError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile, sqlite3.Error):
            for part in reader(content):
                yield part
                if depth:
                    yield from _open(part, remote, depth - 1)
    if content.startswith(_BUNDLE) and b"git bundle" in content[:20]:
        yield _read_bundle(content, remote)


def _read_zlib(content: bytes) -> list[bytes]:
    return [zlib.decompress(content)]


def _read_gzip(content: bytes) -> list[bytes]:
    return [gzip.decompress(content)]


def _read_zip(content: bytes) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [archive.read(name) for name in archive.namelist()]


def _read_tar(content: bytes) -> list[bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
        files = [archive.extractfile(member) for member in archive.getmembers() if member.isfile()]
        return [file.read() for file in files if file is not None]


def _read_base64(content: bytes) -> list[bytes]:
    return [base64.b64decode(found) for found in _BASE64.findall(content) if len(found) % 4 == 0]


def _read_database(content: bytes) -> list[bytes]:
    if not content.startswith(b"SQLite format 3\0"):
        return []
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        file.write(content)
        file.flush()
        database = sqlite3.connect(file.name)
        try:
            return ["\n".join(database.iterdump()).encode("utf-8", "replace")]
        finally:
            database.close()


_READERS: tuple[Callable[[bytes], list[bytes]], ...] = (
    _read_zlib,
    _read_gzip,
    _read_zip,
    _read_tar,
    _read_base64,
    _read_database,
)


def _read_bundle(content: bytes, remote: Path) -> bytes:
    """The log, with changes, of what a bundle adds to the remote."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, clone = Path(folder, "commits.bundle"), Path(folder, "clone.git")
        bundle.write_bytes(content)
        with suppress(subprocess.SubprocessError):
            run_git("clone", "--quiet", "--bare", str(remote), str(clone), cwd=Path(folder))
            run_git("fetch", "--quiet", str(bundle), "*:refs/bundle/*", cwd=clone)
            return run_git("log", "-p", "--glob=refs/bundle", cwd=clone).encode("utf-8", "replace")
    return b""


def _grade(*found: bool) -> str:
    return "yes" if all(found) else "part" if any(found) else "no"


def _holds_package(stored: Stored, name: str) -> bool:
    """Whether a package's name stands right before its version, with only punctuation and markup between."""
    version = re.escape(stored.packages[name].encode())
    return re.search(rb"\b%s[^A-Za-z0-9]{1,12}%s\b" % (re.escape(name.encode()), version), stored.text) is not None


def _holds_state(stored: Stored, generator: str) -> bool:
    """Whether the words of a generator's state are there: in binary (base64 opened), or as numbers in a list."""
    words = stored.states[generator][:_WORDS]
    numbers = rb"[^0-9]{1,8}".join(str(word).encode() for word in words)
    binary = (struct.pack(f"{order}{len(words)}I", *words) for order in "<>")
    return any(form in stored.text for form in binary) or re.search(numbers, stored.text) is not None


def read_cpu_model() -> str:
    """What the operating system calls this machine's CPU."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor()


def read_memory() -> int:
    """This machine's memory in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _holds_memory(stored: Stored) -> bool:
    """Whether the size of the memory is there, in bytes or kibibytes, or in whole or decimal gibibytes by name."""
    size = read_memory()
    gib = size / (1 << 30)
    exact = rb"\b(%d|%d)\b" % (size, size >> 10)
    named = rb"(?i)mem[a-z_\"': ({]{1,20}(%d|%s)\b" % (round(gib), re.escape(f"{gib:.1f}".encode()))
    return any(re.search(pattern, stored.text) is not None for pattern in (exact, named))


CHECKS: dict[str, Callable[[Stored], str]] = {
    "commit": lambda stored: _grade(stored.commit.encode() in stored.text),
    "changes": lambda stored: _grade(_CHANGED_PROGRAM in stored.text, _CHANGED_FILE in stored.text),
    "untracked": lambda stored: _grade(_UNTRACKED_PROGRAM in stored.text, _UNTRACKED_FILE in stored.text),
    "unpushed": lambda stored: _grade(_UNPUSHED_FILE in stored.text, _UNPUSHED_MESSAGE in stored.text),
    "argv": lambda stored: _grade(NOTE.encode() in stored.text),
    "lock": lambda stored: _grade(*(_holds_package(stored, name) for name in stored.packages)),
    "seed": lambda stored: _grade(_SEED.encode() in stored.text),
    "random": lambda stored: _grade(*(_holds_state(stored, generator) for generator in stored.states)),
    "machine": lambda stored: _grade(read_cpu_model().encode() in stored.text, _holds_memory(stored)),
}
"""What a run is made of: *yes* when all of it is stored, *part* when some is, *no*."""


def check_stored(
    folder: Path, before: Mapping[Path, tuple[int, int]], report: Path, packages: Mapping[str, str]
) -> dict[str, str]:
    """Grade what the tool stored below ``folder`` of the run that wrote ``report``."""
    told = json.loads(report.read_text(encoding="utf-8"))
    states = {"python": told["python_state"], "numpy": told["numpy_state"]}
    stored = Stored(
        text=read_stored(folder, before),
        commit=run_git("rev-parse", "HEAD", cwd=folder / "repo"),
        packages=packages,
        states=states,
    )
    return {name: check(stored) for name, check in CHECKS.items()}
