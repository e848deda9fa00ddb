"""The cache of bare clones: what was fetched once needs no remote, whatever happens to the cache meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from conftest import git, put_before_git
from git_http import serve_git

from mlflow_repro.code import checkout as checkout_module
from mlflow_repro.code import clones
from mlflow_repro.code.checkout import checkout
from mlflow_repro.errors import UnreachableError
from mlflow_repro.values.plan import Source

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "s3cr3t-canary"
CHECKOUT = """\
import sys
from pathlib import Path
from mlflow_repro.code.checkout import checkout
from mlflow_repro.values.plan import Source
notes = checkout(Source(uri=sys.argv[1], commit=sys.argv[2]), Path(sys.argv[3]))
print(notes, (Path(sys.argv[3]) / "file").read_text())
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of the clones, empty."""
    monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clones"


@pytest.fixture
def commits(repository) -> list[str]:
    """Two commits of the hub, the older one first."""
    return [repository.commit({"file": name, "big": os.urandom(3000).hex()}) for name in ("old", "new")]


def bring(uri: str, commit: str, place: Path, **options) -> list[str]:
    notes = checkout(Source(uri=uri, commit=commit), place, **options)
    assert git("rev-parse", "HEAD", cwd=place) == commit
    assert git("status", "--porcelain", cwd=place) == ""
    return notes


def clones_in(cache: Path) -> list[Path]:
    return [path for path in cache.iterdir() if path.is_dir()]


def start(uri: str, commit: str, place: Path, **variables: str) -> subprocess.Popen[str]:
    """A process that makes a checkout."""
    command = [sys.executable, "-c", CHECKOUT, uri, commit, str(place)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, **variables}, text=True, **pipes)


@pytest.mark.parametrize("kind", ["http", "bare path", "bare file uri"])
def test_what_was_fetched_once_needs_no_remote(repository, commits, tmp_path, cache, kind):
    """Neither the same commit again nor another one of the history: the remote is gone."""
    with serve_git(tmp_path) as url:
        uri = {"http": f"{url}/hub.git", "bare path": str(repository.hub)}.get(kind, repository.hub.as_uri())
        assert bring(uri, commits[1], tmp_path / "one") == []
    shutil.rmtree(repository.hub)
    assert bring(uri, commits[1], tmp_path / "two") == []
    assert bring(uri, commits[0], tmp_path / "three") == []
    assert (tmp_path / "three/file").read_text() == "old"
    (clone,) = clones_in(cache)
    assert clone.name.startswith("hub-")
    with pytest.raises(UnreachableError):
        bring(uri, "d" * 40, tmp_path / "four")
    assert bring(uri, commits[1], tmp_path / "five") == []


def test_checkout_borrows_the_objects_and_git_removes_none_of_them(repository, commits, tmp_path, cache):
    """Not even when somebody asks git to clean the clone up, after the branch was removed from the remote."""
    bring(str(repository.hub), commits[1], tmp_path / "one")
    own = [path for path in (tmp_path / "one/.git/objects").rglob("*") if path.is_file()]
    assert [path.name for path in own] == ["alternates"]
    (clone,) = clones_in(cache)
    git("update-ref", "-d", "refs/heads/main", cwd=clone)
    for command in (["gc", "--prune=now"], ["prune", "--expire=now"], ["repack", "-a", "-d"]):
        subprocess.run(["git", *command], cwd=clone, capture_output=True, check=False)
    assert git("show", f"{commits[0]}:file", cwd=tmp_path / "one") == "old"
    git("fsck", cwd=tmp_path / "one")


def test_new_commits_are_fetched_into_the_same_clone(repository, commits, tmp_path, cache):
    """Also after a branch became a folder of branches, and for a commit that no branch leads to any more."""
    uri = str(repository.hub)
    git("push", "--quiet", "origin", "HEAD:refs/heads/topic", cwd=repository.clone)
    bring(uri, commits[1], tmp_path / "one")
    lost = repository.commit({"file": "lost"})
    git("reset", "--quiet", "--hard", "HEAD~1", cwd=repository.clone)
    git("push", "--quiet", "--force", "origin", "HEAD:main", ":topic", cwd=repository.clone)
    git("push", "--quiet", "origin", "HEAD:refs/heads/topic/deeper", cwd=repository.clone)
    assert bring(uri, lost, tmp_path / "two") == []
    assert bring(uri, commits[0], tmp_path / "three") == []
    shutil.rmtree(repository.hub)
    assert bring(uri, lost, tmp_path / "four") == []
    assert len(clones_in(cache)) == 1


def test_repository_with_a_working_tree_here_is_at_hand_and_not_copied(repository, commits, tmp_path, cache):
    bring(str(repository.clone), commits[0], tmp_path / "one")
    bring(str(repository.clone / ".git"), commits[0], tmp_path / "two")
    assert not cache.exists()


def test_clone_holds_no_credentials_no_remote_and_no_hooks(repository, commits, tmp_path, cache, monkeypatch):
    """Nor is it open to other users; and a user who forbids git to find bare repositories is not in its way."""
    template = tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    (template / "hooks/reference-transaction").write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    (template / "hooks/reference-transaction").chmod(0o755)
    settings = f"[init]\n\ttemplateDir = {template}\n[safe]\n\tbareRepository = explicit\n"
    (tmp_path / "gitconfig").write_text(settings)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    with serve_git(tmp_path) as url:
        for number, secret in enumerate((f"user:{CANARY}@", f"{CANARY}@")):
            uri = url.replace("://", f"://{secret}") + "/hub.git"
            bring(uri, commits[1], tmp_path / str(number))
    (clone,) = clones_in(cache)
    assert all(CANARY not in path.name for path in cache.rglob("*"))
    texts = [path.read_bytes() for path in cache.rglob("*") if path.is_file()]
    assert not any(CANARY.encode() in text for text in texts)
    assert "remote" not in (clone / "config").read_text()
    assert not (clone / "hooks").exists()
    assert not (tmp_path / "pwned").exists()
    assert cache.stat().st_mode & 0o077 == 0


def test_two_at_once_fetch_once(repository, commits, tmp_path, cache):
    """Real processes; each gets its commit, and the history comes once."""
    path = put_before_git(tmp_path / "bin", f'case "$*" in *" fetch "*) echo >>{tmp_path}/fetches; sleep 0.3;; esac')
    processes = [start(str(repository.hub), commits[n % 2], tmp_path / str(n), PATH=path) for n in range(4)]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [out.strip() for out, _ in answers] == ["[] old", "[] new"] * 2, answers
    assert (tmp_path / "fetches").read_text() == "\n"
    assert len(clones_in(cache)) == 1


MOMENTS = {
    "before its marker": 'case "$*" in *" init "*--bare*) $real "$@"; kill -9 $PPID; exit;; esac',
    "before the fetch": 'case "$*" in *" fetch "*) kill -9 $PPID; exit;; esac',
    "in the fetch": 'case "$*" in *" fetch "*) $real "$@" & sleep 0.02; kill -9 $PPID $!; exit;; esac',
    "and its git goes on": 'case "$*" in *" fetch "*) kill -9 $PPID; sleep 0.5;; esac',
    "after the fetch": 'case "$*" in *" fetch "*) $real "$@"; kill -9 $PPID; exit;; esac',
    "before the checkout": 'case "$*" in *" checkout "*) kill -9 $PPID; exit;; esac',
}


@pytest.mark.parametrize("script", MOMENTS.values(), ids=MOMENTS.keys())
def test_killed_at_any_moment_the_next_one_works(repository, commits, tmp_path, cache, script):
    killed = start(str(repository.hub), commits[1], tmp_path / "one", PATH=put_before_git(tmp_path / "bin", script))
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    begin = time.monotonic()
    assert bring(str(repository.hub), commits[1], tmp_path / "two") == []
    assert time.monotonic() - begin < 20
    (clone,) = clones_in(cache)
    git("fsck", cwd=clone)


DAMAGES = {
    "a pack with another byte": lambda clone: flip_middle(next(clone.glob("objects/pack/*.pack"))),
    "a pack that is cut": lambda clone: cut(next(clone.glob("objects/pack/*.pack"))),
    "no objects": lambda clone: shutil.rmtree(clone / "objects"),
    "no HEAD": lambda clone: (clone / "HEAD").unlink(),
    "names that are nonsense": lambda clone: [(clone / "packed-refs").write_text("x"), shutil.rmtree(clone / "refs")],
}


def flip_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 4, len(content) * 3 // 4):
        content[at] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_clone_is_made_anew_and_that_is_said(repository, commits, tmp_path, cache, damage):
    uri = str(repository.hub)
    bring(uri, commits[1], tmp_path / "one")
    (clone,) = clones_in(cache)
    damage(clone)
    (note,) = bring(uri, commits[1], tmp_path / "two")
    assert note.startswith("the cached clone of the repository was not used (")
    assert note.endswith("; the next reproduction makes it anew")
    assert "\n" not in note
    assert bring(uri, commits[1], tmp_path / "three") == []
    git("fsck", cwd=clone)


def test_lock_that_a_killed_git_has_left_blocks_nobody(repository, commits, tmp_path, cache):
    uri = str(repository.hub)
    bring(uri, commits[1], tmp_path / "one")
    (clone,) = clones_in(cache)
    newer = repository.commit({"file": "newer"})
    (clone / "refs/heads").mkdir(exist_ok=True)
    (clone / "refs/heads/main.lock").touch()
    (note,) = bring(uri, newer, tmp_path / "two")
    assert "makes it anew" in note
    assert bring(uri, newer, tmp_path / "three") == []


def test_clone_in_use_is_not_removed(repository, commits, tmp_path, cache):
    """Neither when it is damaged nor when the cache is too large; a process that ends gives it free."""
    held: list[int] = []
    uri = str(repository.hub)
    bring(uri, commits[1], tmp_path / "one", hold=held.append)
    (clone,) = clones_in(cache)
    assert clones.limit_cache(0) == []
    (clone / "HEAD").unlink()
    newer = repository.commit({"file": "newer"})
    (note,) = bring(uri, newer, tmp_path / "two")
    assert "makes it anew" not in note
    assert git("show", "HEAD:file", cwd=tmp_path / "one") == "new"
    os.close(held.pop())
    assert clones.limit_cache(0) == [clone.name]
    assert clones_in(cache) == []


def test_what_was_not_used_for_the_longest_time_goes_first(repository, commits, tmp_path, cache):
    sizes = {}
    for number in range(3):
        shutil.copytree(repository.hub, tmp_path / f"hub{number}")
        bring(str(tmp_path / f"hub{number}"), commits[1], tmp_path / f"place{number}")
        (use,) = cache.glob(f"hub{number}-*.use")
        os.utime(use, (number, number))
        sizes[number] = sum(file.stat().st_size for file in use.with_suffix("").rglob("*") if file.is_file())
    bring(str(tmp_path / "hub0"), commits[0], tmp_path / "again")
    removed = clones.limit_cache(sizes[0] + sizes[2] + 10)
    assert [name.partition("-")[0] for name in removed] == ["hub1"]


def test_halves_of_packs_are_removed_when_they_are_old(repository, commits, tmp_path, cache):
    bring(str(repository.hub), commits[1], tmp_path / "one")
    (clone,) = clones_in(cache)
    old, young = (clone / "objects/pack" / name for name in ("tmp_pack_old", "tmp_pack_young"))
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    bring(str(repository.hub), repository.commit({"file": "newer"}), tmp_path / "two")
    assert (old.exists(), young.exists()) == (False, True)


def test_history_that_takes_too_long_is_not_kept(repository, commits, tmp_path, cache, monkeypatch):
    """The commit is fetched without it, and the next time nobody waits for it."""
    monkeypatch.setattr(clones, "HISTORY_SECONDS", 0.5)
    monkeypatch.setattr(checkout_module, "HISTORY_SECONDS", 0.5)
    script = f'case "$*" in *" --prune "*) echo >>{tmp_path}/fetches; exec sleep 60;; esac'
    monkeypatch.setenv("PATH", put_before_git(tmp_path / "bin", script))
    (note,) = bring(str(repository.hub), commits[0], tmp_path / "one")
    assert "its history takes longer than 0.5 s to fetch" in note
    assert bring(str(repository.hub), commits[1], tmp_path / "two") == []
    assert clones_in(cache) == []
    assert (tmp_path / "fetches").read_text() == "\n"


def test_cache_that_cannot_be_used_is_done_without(repository, commits, tmp_path, cache, monkeypatch):
    cache.parent.write_text("a file")
    (note,) = bring(str(repository.hub), commits[0], tmp_path / "one")
    assert note.startswith("nothing is cached: ")
    cache.parent.unlink()
    cache.mkdir(parents=True)
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    (note,) = bring(str(repository.hub), commits[0], tmp_path / "two")
    assert "belongs to another user" in note


def test_of_a_shallow_remote_the_commit_alone_is_kept(repository, commits, tmp_path, cache):
    git("clone", "--quiet", "--bare", "--depth=1", repository.hub.as_uri(), "shallow.git", cwd=tmp_path)
    bring(str(tmp_path / "shallow.git"), commits[1], tmp_path / "one")
    (clone,) = clones_in(cache)
    assert git("for-each-ref", "--format=%(objectname)", cwd=clone) == commits[1]


def test_reproduction_of_a_repository_that_was_fetched_before_needs_no_network(bench):
    """Through the command line: the server is gone, and another commit of its history comes back."""
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', {})\n"
    runs = []
    with serve_git(bench.root) as url:
        git("remote", "set-url", "origin", f"{url}/hub.git", cwd=bench.repository.clone)
        for number in (1, 2):
            bench.repository.commit({"train.py": script.format(number)}, push=False)
            git("push", "--quiet", str(bench.repository.hub), "HEAD:main", cwd=bench.repository.clone)
            git("update-ref", "refs/remotes/origin/main", "HEAD", cwd=bench.repository.clone)
            runs.append(bench.train("train.py"))
        answer = bench.reproduce(runs[1])
        assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    shutil.rmtree(bench.repository.clone)
    answer = bench.reproduce(runs[0])
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert "Note" not in answer.stdout
