"""The tree of a run, taken as parts and put back, with real repositories (groups CAP and DIF of the fault table)."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import os
import shutil
import stat
import subprocess
import tarfile
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from conftest import Repository, git
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from records import make_record

from mlflow_repro.code.capture import record_code
from mlflow_repro.code.recorded import read_code
from mlflow_repro.code.worktree import TakenTree, TreeLimits, fetch_bundle, restore_tree, take_tree
from mlflow_repro.code.worktree.commits import read_bundle_header
from mlflow_repro.code.worktree.patchtext import PatchFormError, check_patch, read_patch
from mlflow_repro.code.worktree.screen import holds_secret, is_unsafe_path, link_leaves
from mlflow_repro.code.worktree.untracked import Entry, pack_entries, unpack_entries
from mlflow_repro.code.worktree.values import PARTS
from mlflow_repro.errors import CannotJudgeError, RefusedError
from mlflow_repro.text import redact, secret_names
from mlflow_repro.text.filenames import is_secret_file

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "ghp_" + "a1B2" * 9
SECONDS = 60.0  # a deadline that no test should meet

BASE_FILES = {
    "train.py": "".join(f"line {number}\n" for number in range(40)),
    "deleted.txt": "gone\n",
    "old name.txt": "moves\n" * 20,
    "tool.sh": "#!/bin/sh\n",
    "dos.txt": "one\r\ntwo\r\n",
    "pkg/module.py": "x = 1\n",
    "pkg/ünï cödé.txt": "ä\n",
    "data.bin": "\0\1\2" * 50,
    "no newline": "a\n\nb",
    "empty": "",
    ".gitignore": "*.log\nignored/\n",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `repo`, made once."""
    root = tmp_path_factory.mktemp("template")
    made = Repository(hub=root / "hub.git", clone=root / "clone")
    git("-c", "init.defaultBranch=main", "init", "--quiet", "--bare", str(made.hub), cwd=root)
    git("clone", "--quiet", str(made.hub), str(made.clone), cwd=root)
    git("checkout", "--quiet", "-b", "main", cwd=made.clone)
    (made.clone / "link").symlink_to("pkg/module.py")
    made.commit(BASE_FILES)
    git("fetch", "--quiet", cwd=made.clone)
    return root


def copy_template(template: Path, root: Path) -> Repository:
    shutil.copytree(template, root, dirs_exist_ok=True, symlinks=True)
    config = root / "clone" / ".git" / "config"
    config.write_text(config.read_text(encoding="utf-8").replace(str(template), str(root)), encoding="utf-8")
    git("update-index", "--refresh", cwd=root / "clone")
    return Repository(hub=root / "hub.git", clone=root / "clone")


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Repository:
    """One pushed commit with files of many kinds."""
    return copy_template(template, tmp_path)


@pytest.fixture
def user_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The git configuration of the user, empty."""
    path = tmp_path / "user.gitconfig"
    path.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    return path


def take(directory: Path, *, seconds: float = SECONDS, limits: TreeLimits | None = None) -> TakenTree:
    return take_tree(directory, deadline=time.monotonic() + seconds, limits=limits)


def take_all(directory: Path) -> TakenTree:
    """A take that misses nothing."""
    taken = take(directory)
    assert taken.withheld == {}
    assert taken.left_out == ()
    return taken


def rebuild(repository: Repository, taken: TakenTree, place: Path) -> Path:
    """A fresh clone of the hub, turned into the taken tree by the taken parts alone."""
    git("clone", "--quiet", "--no-checkout", str(repository.hub), str(place), cwd=repository.hub)
    return restore(taken, place)


def restore(taken: TakenTree, place: Path) -> Path:
    """Turn a repository that has what the bundle stands on into the taken tree."""
    if taken.bundle:
        fetch_bundle(place, taken.bundle, taken.commit)
    git("checkout", "--quiet", "--detach", taken.commit, cwd=place)
    restore_tree(place, patch=taken.patch, untracked=taken.untracked, expected_tree=taken.tree)
    return place


def tree_by_git(directory: Path) -> str:
    """What ``git add --all; git write-tree`` says, done in a copy: the oracle."""
    copy = directory.parent / f"oracle-{time.monotonic_ns()}"
    shutil.copytree(directory, copy, symlinks=True)
    git("-c", "core.safecrlf=false", "add", "--all", cwd=copy)
    tree = git("write-tree", cwd=copy)
    shutil.rmtree(copy)
    return tree


def content_of(directory: Path) -> dict[str, tuple[object, str | bytes]]:
    """Every file of a working tree: kind, whether it is executable, and content."""
    found: dict[str, tuple[object, str | bytes]] = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if name.split("/")[0] == ".git":
            continue
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_file():
            found[name] = (bool(path.stat().st_mode & stat.S_IXUSR), path.read_bytes())
    return found


def with_unix_lines(directory: Path) -> dict[str, object]:
    """As `content_of`; which line ends a converted file has is a matter of the place where it is checked out."""
    return {
        name: (kind, content.replace(b"\r\n", b"\n") if isinstance(content, bytes) else content)
        for name, (kind, content) in content_of(directory).items()
    }


def state_of(*folders: Path) -> dict[str, tuple[object, ...]]:
    """Everything below the folders, git's own files included: kind, mode, time of change and content."""
    state = {}
    for path in sorted(path for folder in folders for path in [folder, *folder.rglob("*")]):
        found = path.lstat()
        if path.is_symlink():
            content = os.readlink(path)
        else:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        state[str(path)] = (found.st_mode, found.st_mtime_ns, found.st_ino, content)
    return state


def make_dirty(repository: Repository) -> None:
    """An unpushed commit, and a change of every kind."""
    clone = repository.clone
    repository.commit({"pkg/module.py": "x = 2\n", "unpushed.py": "new = True\n"}, push=False)
    (clone / "train.py").write_text(BASE_FILES["train.py"].replace("line 3\n", "line three\n"), encoding="utf-8")
    git("add", "train.py", cwd=clone)  # staged, and then changed again
    with (clone / "train.py").open("a", encoding="utf-8") as file:
        file.write("unstaged\n")
    (clone / "staged.py").write_text("staged\n", encoding="utf-8")
    git("add", "staged.py", cwd=clone)
    (clone / "no newline").write_text("a\n\nb\nc", encoding="utf-8")
    (clone / "data.bin").write_bytes(bytes(range(256)) * 40)
    (clone / "deleted.txt").unlink()
    (clone / "tool.sh").chmod(0o755)
    git("mv", "old name.txt", "nëw name.txt", cwd=clone)
    (clone / "link").unlink()
    (clone / "link").symlink_to("train.py")
    (clone / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\nmixed\n")
    (clone / "pkg" / "ünï cödé.txt").write_text("äöü\n", encoding="utf-8")
    (clone / "pkg" / 'new file \t"quoted".py').write_text("untracked\n", encoding="utf-8")
    (clone / os.fsdecode(b"pkg/latin-\xe9.py")).write_text("bytes that are no UTF-8\n", encoding="utf-8")
    (clone / "run me").write_text("#!/bin/sh\n", encoding="utf-8")
    (clone / "run me").chmod(0o755)
    (clone / "new link").symlink_to("pkg")
    (clone / "new.bin").write_bytes(bytes(range(256)))
    (clone / "empty new").touch()
    (clone / "noise.log").write_text("ignored\n", encoding="utf-8")


class TestRoundTrip:
    """The same tree comes back from the parts alone."""

    def test_everything_at_once(self, repo: Repository, tmp_path: Path):
        """The proof that the issue asks for."""
        make_dirty(repo)
        taken = take_all(repo.clone)
        assert taken.tree == tree_by_git(repo.clone)
        assert not taken.is_pushed
        assert not taken.is_clean
        assert taken.bundle_prerequisites == (git("rev-parse", "origin/main", cwd=repo.clone),)
        place = rebuild(repo, taken, tmp_path / "place")
        expected = content_of(repo.clone)
        del expected["noise.log"]
        assert content_of(place) == expected
        assert git("rev-parse", "HEAD", cwd=place) == git("rev-parse", "HEAD", cwd=repo.clone)
        again = take(place)
        assert again.tree == taken.tree

    def test_from_a_subdirectory_it_is_the_same(self, repo: Repository):
        make_dirty(repo)
        assert take(repo.clone / "pkg") == take(repo.clone)

    def test_clean_and_pushed_needs_nothing(self, repo: Repository):
        taken = take_all(repo.clone)
        assert taken.tree == git("rev-parse", "HEAD^{tree}", cwd=repo.clone)
        assert (taken.patch, taken.untracked, taken.bundle) == (b"", b"", None)
        assert taken.is_pushed
        assert taken.is_clean

    def test_touched_files_are_no_change(self, repo: Repository):
        """In a container every file has another inode; the content counts."""
        for path in repo.clone.rglob("*"):
            if ".git" not in path.parts:
                os.utime(path, (1, 1), follow_symlinks=False)
        taken = take_all(repo.clone)
        assert taken.patch == b""
        assert taken.tree == git("rev-parse", "HEAD^{tree}", cwd=repo.clone)

    def test_change_of_the_same_size_within_a_tick_of_the_clock_is_seen(self, repo: Repository):
        """Git looks again at files that are not older than the index: the copy of the index must have its time."""
        for name, value in (("core.trustctime", "false"), ("core.checkStat", "minimal")):
            git("config", name, value, cwd=repo.clone)  # the time of change cannot be set back
        path = repo.clone / "pkg" / "module.py"
        path.write_text("x = 2\n", encoding="utf-8")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        git("add", "--all", cwd=repo.clone)
        path.write_text("x = 3\n", encoding="utf-8")
        for changed in (path, repo.clone / ".git" / "index"):
            os.utime(changed, (1_000_000_000, 1_000_000_000))
        taken = take_all(repo.clone)
        assert b"+x = 3\n" in taken.patch
        assert taken.tree == tree_by_git(repo.clone)

    @pytest.mark.parametrize("change", ["file-to-folder", "folder-to-file", "file-to-link", "folder-to-link"])
    def test_another_kind_of_file(self, repo: Repository, tmp_path: Path, change: str):
        old, new = change.split("-to-")
        path = repo.clone / ("train.py" if old == "file" else "pkg")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        if new == "folder":
            path.mkdir()
            (path / "inner.py").write_text("x", encoding="utf-8")
        elif new == "file":
            path.write_text("x", encoding="utf-8")
        else:
            path.symlink_to("empty")
        taken = take_all(repo.clone)
        assert taken.tree == tree_by_git(repo.clone)
        assert content_of(rebuild(repo, taken, tmp_path / "place")) == content_of(repo.clone)

    def test_files_that_are_written_meanwhile(self, repo: Repository, tmp_path: Path):
        """A log among the tracked files: the parts fit each other, whichever moment they are of."""
        done = threading.Event()

        def write() -> None:
            for number in itertools.count():
                for name in ("train.py", "data.bin", "untracked.py"):
                    (repo.clone / name).write_bytes(b"%d\n" % number * (number % 50) + b"\0" * (name == "data.bin"))
                if done.is_set():
                    return

        thread = threading.Thread(target=write)
        thread.start()
        try:
            taken = [take(repo.clone) for _ in range(6)]
        finally:
            done.set()
            thread.join()
        for number, parts in enumerate(taken):
            assert parts.withheld == {}
            rebuild(repo, parts, tmp_path / f"place{number}")

    def test_names_with_a_line_break(self, repo: Repository, tmp_path: Path):
        """Git is asked about folders line by line."""
        repo.commit({"a\nb/c\nd/e\nf.py": "x", "a\nb/g.py": "x", "a\nb/c\nd/h.py": "x"})
        git("fetch", "--quiet", cwd=repo.clone)
        (repo.clone / "a\nb/c\nd/e\nf.py").write_text("y", encoding="utf-8")
        (repo.clone / "a\nb/c\nd/new.py").write_text("y", encoding="utf-8")
        taken = take_all(repo.clone)
        assert taken.tree == tree_by_git(repo.clone)
        assert content_of(rebuild(repo, taken, tmp_path / "place")) == content_of(repo.clone)

    def test_file_removed_from_the_index_only_comes_back_untracked(self, repo: Repository, tmp_path: Path):
        git("rm", "--quiet", "--cached", "train.py", cwd=repo.clone)
        taken = take_all(repo.clone)
        assert taken.untracked_paths == ("train.py",)
        place = rebuild(repo, taken, tmp_path / "place")
        assert content_of(place) == content_of(repo.clone)

    def test_intent_to_add(self, repo: Repository, tmp_path: Path):
        (repo.clone / "intended.py").write_text("x", encoding="utf-8")
        git("add", "--intent-to-add", "intended.py", cwd=repo.clone)
        taken = take_all(repo.clone)
        assert taken.untracked == b""
        assert "intended.py" in content_of(rebuild(repo, taken, tmp_path / "place"))

    @pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
    def test_change_that_git_was_told_not_to_see(self, repo: Repository, tmp_path: Path, flag: str):
        """It is what ran."""
        git("update-index", flag, "train.py", cwd=repo.clone)
        assert take_all(repo.clone).is_clean
        (repo.clone / "train.py").write_text("hidden\n", encoding="utf-8")
        assert git("status", "--porcelain", cwd=repo.clone) == ""
        taken = take_all(repo.clone)
        place = rebuild(repo, taken, tmp_path / "place")
        assert (place / "train.py").read_text(encoding="utf-8") == "hidden\n"

    def test_conflict_in_the_middle_of_a_merge(self, repo: Repository, tmp_path: Path):
        repo.commit({"train.py": "theirs\n"}, push=False)
        theirs = git("rev-parse", "HEAD", cwd=repo.clone)
        git("reset", "--quiet", "--hard", "HEAD~1", cwd=repo.clone)
        repo.commit({"train.py": "ours\n"}, push=False)
        subprocess.run(["git", "merge", "--quiet", theirs], cwd=repo.clone, check=False, capture_output=True)
        assert "UU train.py" in git("status", "--porcelain", cwd=repo.clone)
        taken = take_all(repo.clone)
        place = rebuild(repo, taken, tmp_path / "place")
        assert "<<<<<<<" in (place / "train.py").read_text(encoding="utf-8")

    def test_same_parts_each_time(self, repo: Repository):
        """Deterministic: no time, owner or order of the disk gets into them."""
        make_dirty(repo)
        first = take(repo.clone)
        for path in repo.clone.rglob("*"):
            if ".git" not in path.parts:
                os.utime(path, (5, 5), follow_symlinks=False)
        second = take(repo.clone)
        assert (first.tree, first.patch, first.untracked) == (second.tree, second.patch, second.untracked)

    @pytest.mark.parametrize(
        ("attributes", "settings_"),
        [
            ("* text=auto\n", ""),
            ("* text=auto eol=crlf\n", ""),
            ("*.txt text eol=lf\n", ""),
            ("*.txt -diff\n*.py binary\n", ""),
            ("", "[core]\n\tautocrlf = true\n"),
            ("", "[core]\n\tautocrlf = input\n\tsafecrlf = true\n"),
            ("*.txt ident\n", ""),
            ("utf.txt text working-tree-encoding=UTF-16LE\n", ""),
        ],
    )
    def test_line_ends_and_attributes(
        self, repo: Repository, tmp_path: Path, user_config: Path, attributes: str, settings_: str
    ):
        """CAP-21: the tree is the one that git itself would make of it, and comes back."""
        user_config.write_text(settings_.replace("safecrlf = true", ""), encoding="utf-8")
        repo.commit({".gitattributes": attributes, "crlf.txt": "a\r\nb\r\n", "utf.txt": "x\n"})
        shutil.rmtree(repo.clone)
        git("clone", "--quiet", str(repo.hub), str(repo.clone), cwd=tmp_path)
        (repo.clone / "train.py").write_bytes(b"now\r\nwith\r\nCRLF\r\n")
        (repo.clone / "crlf.txt").write_bytes(b"a\r\nb\r\nc\r\n")
        (repo.clone / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")  # CRLF in the commit as well
        (repo.clone / "utf.txt").write_bytes("zwei\n".encode("utf-16-le" if "UTF-16" in attributes else "utf-8"))
        user_config.write_text(settings_, encoding="utf-8")
        taken = take_all(repo.clone)
        assert taken.tree == tree_by_git(repo.clone)
        user_config.write_text("", encoding="utf-8")
        place = rebuild(repo, taken, tmp_path / "place")
        assert with_unix_lines(place) == with_unix_lines(repo.clone)
        assert ("core.autocrlf" in taken.conversions) == bool(settings_)

    def test_filter_of_the_users_is_used(self, repo: Repository, user_config: Path):
        """What git takes for the content is recorded: a notebook whose output is stripped, for one."""
        user_config.write_text('[filter "shout"]\n\tclean = tr a-z A-Z\n', encoding="utf-8")
        repo.commit({".gitattributes": "*.nb filter=shout\n", "a.nb": "QUIET\n"})
        (repo.clone / "a.nb").write_text("quiet\n", encoding="utf-8")
        assert take_all(repo.clone).patch == b""
        (repo.clone / "a.nb").write_text("loud\n", encoding="utf-8")
        assert b"+LOUD\n" in take_all(repo.clone).patch


NAMES = [
    "n/o",
    "n/o/p",
    "train.py",
    "deleted.txt",
    "old name.txt",
    "pkg/module.py",
    "pkg/ünï cödé.txt",
    "link",
    "no newline",
    "pkg",
    "n/e w",
]
CONTENTS = [
    b"",
    b"x",
    b"a\nb\n",
    b"a\r\nb\r\n",
    b"\0bin\xff\n",
    b"\\ No newline at end of file",
    b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n",
]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "delete", "program", "link", "stage", "intend", "unstage", "commit"]),
        st.sampled_from(NAMES),
        st.sampled_from(CONTENTS) | st.binary(max_size=40),
    ),
    max_size=8,
)


def edit(clone: Path, action: str, name: str, content: bytes) -> None:
    path = clone / name
    if action in ("write", "program", "link", "delete"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or path.exists():
            path.unlink()
        for parent in path.parents:
            if parent.is_symlink() or parent.is_file():
                parent.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if action == "link":
            path.symlink_to("train.py")
        elif action != "delete":
            path.write_bytes(content)
            path.chmod(0o755 if action == "program" else 0o644)
    commands = {
        "stage": ("add", "--all", "--", name),
        "intend": ("add", "--intent-to-add", "--", name),
        "unstage": ("rm", "--quiet", "--cached", "-r", "--", name),
        "commit": ("commit", "--quiet", "--message=more"),
    }
    if action in commands:
        subprocess.run(["git", *commands[action]], cwd=clone, check=False, capture_output=True)


class TestAnyEdits:
    """The law: whatever is done to a tree, what is taken is what git would commit, and comes back."""

    @given(edits=EDITS)
    @example(edits=[("link", "train.py", b""), ("link", "pkg", b"")])  # a folder became a link that leads nowhere
    @example(
        edits=[("delete", "train.py", b""), ("link", "train.py", b""), ("link", "pkg", b""), ("stage", "pkg", b"")]
    )
    @settings(
        max_examples=int(os.environ.get("GITTREE_EXAMPLES", "12")),
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.too_slow,
            HealthCheck.differing_executors,  # a test that is tried again has another instance of the class
        ],
    )
    def test_come_back(self, template: Path, tmp_path: Path, edits: list[tuple[str, str, bytes]]):
        root = tmp_path / f"{time.monotonic_ns()}"
        repository = copy_template(template, root)
        for action, name, content in edits:
            edit(repository.clone, action, name, content)
        before = state_of(repository.clone)
        taken = take_all(repository.clone)
        assert state_of(repository.clone) == before
        assert taken.tree == tree_by_git(repository.clone)
        place = rebuild(repository, taken, root / "place")
        assert content_of(place) == content_of(repository.clone)
        shutil.rmtree(root)


class TestUntouched:
    """The user's repository is the same before and after: content, modes, times, inodes, of git's own files too."""

    def check(self, *folders: Path) -> TakenTree:
        before = state_of(*folders)
        taken = take(folders[0])
        assert state_of(*folders) == before
        return taken

    def test_dirty_tree(self, repo: Repository):
        make_dirty(repo)
        assert self.check(repo.clone, repo.hub).patch

    def test_objects_that_are_there_already_get_no_new_time(self, repo: Repository):
        """Git renews the time of an object, or of the pack that holds it, instead of writing it again."""
        repo.commit({"train.py": "other\n", "more.py": "more\n"}, push=False)
        (repo.clone / "more.py").unlink()
        git("gc", "--quiet", cwd=repo.clone)
        repo.commit({"loose.py": "loose\n"}, push=False)
        git("rm", "--quiet", "loose.py", cwd=repo.clone)
        (repo.clone / "train.py").write_text(BASE_FILES["train.py"], encoding="utf-8")  # as in an earlier commit
        (repo.clone / "again.py").write_text("loose\n", encoding="utf-8")
        git("add", "again.py", cwd=repo.clone)
        for path in (repo.clone / ".git" / "objects").rglob("*"):
            os.utime(path, (1_000_000_000, 1_000_000_000))
        taken = self.check(repo.clone)
        assert taken.withheld == {}
        assert taken.tree == tree_by_git(repo.clone)

    @pytest.mark.parametrize(
        "setting",
        ["core.splitIndex=true", "core.untrackedCache=true", "core.fsmonitor=true", "index.version=4", "gc.auto=1"],
    )
    def test_with_features_that_write(self, repo: Repository, setting: str):
        name, _, value = setting.partition("=")
        git("config", name, value, cwd=repo.clone)
        git("config", "splitIndex.sharedIndexExpire", "now", cwd=repo.clone)
        make_dirty(repo)
        git("update-index", "--untracked-cache", cwd=repo.clone)
        shared = list((repo.clone / ".git").glob("sharedindex*"))
        assert bool(shared) == ("split" in setting)
        before = state_of(repo.clone)
        taken = take_all(repo.clone)
        after = state_of(repo.clone)
        for path in shared:  # every command of git's, `git status` too, renews the time of this file
            assert before.pop(str(path))[3] == after.pop(str(path))[3]
        assert after == before
        assert taken.tree == tree_by_git(repo.clone)

    def test_hooks_are_not_run(self, repo: Repository, tmp_path: Path):
        for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "fsmonitor-watchman"):
            hook = repo.clone / ".git" / "hooks" / name
            hook.parent.mkdir(exist_ok=True)
            hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
            hook.chmod(0o755)
        git("config", "core.fsmonitor", ".git/hooks/fsmonitor-watchman", cwd=repo.clone)
        (repo.clone / "train.py").write_text("x", encoding="utf-8")
        take_all(repo.clone)
        assert not (tmp_path / "ran").exists()

    def test_nothing_is_left_in_the_temporary_folder(
        self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        place = tmp_path / "tmp"
        place.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(place))
        make_dirty(repo)
        take_all(repo.clone)
        assert list(place.iterdir()) == []

    def test_no_temporary_folder(self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """A full or read-only disk: what needs no place is there all the same."""
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
        make_dirty(repo)
        taken = take(repo.clone)
        assert "FileNotFoundError" in taken.withheld["tree"]
        assert taken.withheld["patch"] == taken.withheld["tree"]
        assert taken.bundle
        assert taken.untracked
        monkeypatch.undo()
        git("stash", "--quiet", "--include-untracked", cwd=repo.clone)
        assert take_all(repo.clone).is_clean


TASTE = """\
[diff]
    noprefix = true
    mnemonicPrefix = true
    external = false
    renames = copies
    context = 0
    interHunkContext = 9
    algorithm = patience
    submodule = log
    relative = true
    orderFile = /nonexistent
    suppressBlankEmpty = true
    wsErrorHighlight = all
    colorMoved = zebra
    ignoreSubmodules = all
[diff "loud"]
    textconv = tr a-z A-Z <
    command = false
    binary = true
[color]
    ui = always
    diff = always
[core]
    quotePath = false
    pager = false
    abbrev = 4
    safecrlf = true
    compression = 9
[apply]
    whitespace = error
[status]
    showUntrackedFiles = no
[submodule]
    recurse = true
[log]
    showSignature = true
    showRoot = false
"""


class TestTaste:
    """CAP-20: what the user likes to see does not change what is recorded."""

    def test_changes_nothing(
        self, repo: Repository, tmp_path: Path, user_config: Path, monkeypatch: pytest.MonkeyPatch
    ):
        repo.commit({".gitattributes": "*.py diff=python\n*.txt diff=loud\n"})
        make_dirty(repo)
        expected = take_all(repo.clone)
        user_config.write_text(TASTE, encoding="utf-8")
        for name, value in (
            ("GIT_DIFF_OPTS", "--unified=0"),
            ("GIT_EXTERNAL_DIFF", "false"),
            ("GIT_LITERAL_PATHSPECS", "1"),
            ("GIT_DIR", "/nonexistent"),
            ("GIT_INDEX_FILE", "/nonexistent"),
            ("GIT_CONFIG_PARAMETERS", "'diff.noprefix=true'"),
            ("LC_ALL", "de_DE.UTF-8"),
        ):
            monkeypatch.setenv(name, value)
        taken = take_all(repo.clone)
        restored = tmp_path / "place"
        for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_EXTERNAL_DIFF"):
            monkeypatch.delenv(name)
        assert taken.patch.count(b"GIT binary patch") > expected.patch.count(b"GIT binary patch")  # diff.loud.binary
        assert (taken.tree, taken.untracked) == (expected.tree, expected.untracked)
        rebuild(repo, taken, restored)
        user_config.write_text(
            user_config.read_text(encoding="utf-8").replace("binary = true", "binary = false"), encoding="utf-8"
        )
        assert take_all(repo.clone).patch == expected.patch

    def test_patch_has_the_documented_form(self, repo: Repository):
        (repo.clone / "pkg" / "ünï cödé.txt").write_text("ö\n", encoding="utf-8")
        patch = take_all(repo.clone).patch
        assert patch.startswith(b'diff --git "a/pkg/\\303\\274n\\303\\257 c')
        assert b"\nindex " in patch
        (change,) = read_patch(patch)
        assert change.path == "pkg/ünï cödé.txt"
        assert change.lines == ["ä".encode(), "ö".encode()]


class TestSecrets:
    """What is a secret by its name or its form is not recorded; that it was there is."""

    @pytest.mark.parametrize("where", ["staged", "unstaged", "removed", "binary", "utf-8"])
    def test_patch_is_withheld(self, repo: Repository, where: str):
        """CAP-22: with the reason, and a digest that tells whether it is the same another time."""
        if where == "removed":
            repo.commit({"train.py": f"key = '{TOKEN}'\n"})
            git("fetch", "--quiet", cwd=repo.clone)
        content = {"binary": b"\0\1" + TOKEN.encode(), "removed": b"", "utf-8": f"ä {TOKEN} ä".encode()}
        (repo.clone / "train.py").write_bytes(content.get(where, f"key = '{TOKEN}'\n".encode()))
        if where == "staged":
            git("add", "train.py", cwd=repo.clone)
        taken = take(repo.clone)
        assert taken.patch == b""
        assert taken.withheld == {"patch": "the changes of 'train.py' hold a secret"}
        assert len(taken.withheld_digests["patch"]) == 64
        assert taken.withheld_digests == take(repo.clone).withheld_digests
        assert taken.tree == tree_by_git(repo.clone)
        assert taken.is_clean is False

    def test_context_lines_are_no_change(self, repo: Repository):
        """What the commit has, it has."""
        repo.commit({"train.py": f"key = '{TOKEN}'\nx\n"})
        (repo.clone / "train.py").write_text(f"key = '{TOKEN}'\ny\n", encoding="utf-8")
        assert take(repo.clone).patch

    def test_untracked_by_content(self, repo: Repository):
        (repo.clone / "notes.py").write_text(f"x\n{TOKEN}\n", encoding="utf-8")
        (repo.clone / "fine.py").write_text("x\n", encoding="utf-8")
        taken = take(repo.clone)
        assert taken.untracked_paths == ("fine.py",)
        assert taken.left_out == ({"path": "notes.py", "reason": "it holds a secret", "size": len(TOKEN) + 3},)

    @pytest.mark.parametrize(
        "name",
        [
            *(".env", ".env.local", ".envrc", "prod.env", "a/.ENV", "server.pem", "x.key", "id_rsa", "id_ed25519.old"),
            *(".netrc", ".pypirc", ".npmrc", "vault.kdbx", "service-account-1.json", "credentials", "credentials.json"),
            *(
                ".ssh/config",
                ".aws/config",
                "a/.docker/config.json",
                "client_secret_1.json",
                "secrets.toml",
                "kaggle.json",
            ),
        ],
    )
    def test_by_name(self, repo: Repository, name: str):
        path = repo.clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x", encoding="utf-8")
        taken = take(repo.clone)
        assert taken.untracked == b""
        assert taken.left_out == ({"path": name, "reason": "its name announces a secret", "size": 1},)
        assert taken.tree == git("rev-parse", "HEAD^{tree}", cwd=repo.clone)
        git("add", "--force", "--all", cwd=repo.clone)  # staged: the change is left out of the patch, and of the tree
        assert take(repo.clone).tree == git("rev-parse", "HEAD^{tree}", cwd=repo.clone)
        assert [row["path"] for row in take(repo.clone).left_out] == [name]

    def test_tracked_file_with_such_a_name_stays_as_committed(self, repo: Repository, tmp_path: Path):
        repo.commit({".env": "A=1\n"})
        (repo.clone / ".env").write_text("A=hunter2\n", encoding="utf-8")
        (repo.clone / "train.py").write_text("x\n", encoding="utf-8")
        taken = take(repo.clone)
        assert b"hunter2" not in taken.patch
        assert [row["path"] for row in taken.left_out] == [".env"]
        git("fetch", "--quiet", cwd=repo.clone)
        place = rebuild(repo, taken, tmp_path / "place")
        assert (place / ".env").read_text(encoding="utf-8") == "A=1\n"

    @pytest.mark.parametrize("name", ["environment.yml", "tokenizer.json", "keys.py", "secrets.py", "env.py", "monkey"])
    def test_names_that_announce_none(self, name: str):
        assert not is_secret_file(name)
        assert not is_secret_file(f".env/lib/{name}")  # an environment of Python's may be called so

    @pytest.mark.parametrize("where", ["content", "name", "message", "merge"])
    def test_bundle_is_withheld(self, repo: Repository, where: str):
        files = {"content": {"a.py": TOKEN}, "name": {"pkg/.env": "x"}}.get(where, {"a.py": "x"})
        repo.commit(files, message=TOKEN if where == "message" else "change", push=False)
        repo.commit({"a.py": "gone\n", "pkg/.env": "gone\n"} if where == "name" else {"a.py": "gone\n"}, push=False)
        if where == "merge":
            git("checkout", "--quiet", "-b", "side", "HEAD~1", cwd=repo.clone)
            repo.commit({"b.py": "b"}, push=False)
            git("merge", "--quiet", "--no-commit", "main", cwd=repo.clone)
            repo.commit({"a.py": TOKEN}, push=False)
        taken = take(repo.clone)
        assert taken.bundle is None
        assert "secret" in taken.withheld["bundle"]
        assert taken.is_pushed is False

    @given(token=st.from_regex(redact._TOKEN_SHAPES, fullmatch=True), around=st.binary(max_size=20))
    @example(token="secret_access_key:\n" + 40 * "0", around=b"")
    @settings(max_examples=300, deadline=None)
    def test_every_form_that_is_redacted_is_found(self, token: str, around: bytes):
        """The quick look for clues passes over none of them."""
        assert holds_secret(around + b"\n" + token.encode("utf-8", "replace") + b"\n" + around)

    @given(
        name=st.from_regex(secret_names.NAMES, fullmatch=True) | st.just("sig"),
        value=st.text("abcXYZ019", min_size=4, max_size=9),
    )
    @settings(max_examples=200, deadline=None)
    def test_every_credential_in_an_address_is_found(self, name: str, value: str):
        assert holds_secret(f"https://h.invalid/?a=b&{name}={value}".encode())
        assert holds_secret(f"https://user:{value}@h.invalid/".encode())

    @pytest.mark.parametrize("before", [0, 65_000, 65_020, 65_535, 65_536, 200_000])
    @pytest.mark.parametrize("line", [b"\n", b" "])
    def test_wherever_it_stands(self, before: int, line: bytes):
        filler = (b"x = https://host.invalid/path?a=1 " + line) * 7_000
        assert not holds_secret(filler)
        assert holds_secret(filler[:before] + line + TOKEN.encode() + line + filler)

    @pytest.mark.parametrize(
        "text",
        [
            "git+ssh://git@github.com/a/b",
            "risk-assessment-framework-of-the-task-scheduler",
            'f"https://{user}:{password}@{host}/?token={token}"',
            "https://<user>:<password>@host/",
            "postgresql://$USER:$PASSWORD@host/db",
            "https://host/?api_key=$KEY",
        ],
    )
    def test_stand_ins_are_no_secrets(self, text: str):
        assert not holds_secret(text.encode())


class TestLimits:
    """Too much is named and not taken; too slow is a reason and not a wait."""

    def test_patch_over_the_cap(self, repo: Repository):
        (repo.clone / "train.py").write_text("x\n" * 5_000, encoding="utf-8")
        taken = take(repo.clone, limits=TreeLimits(patch_bytes=1_000))
        full = take_all(repo.clone).patch
        assert taken.patch == b""
        assert taken.withheld == {"patch": "the patch is 0.0 MB, more than 0.001 MB"}
        assert taken.withheld_digests["patch"] == hashlib.sha256(full).hexdigest()
        assert taken.tree == tree_by_git(repo.clone)

    def test_changed_file_over_the_limit(self, repo: Repository, tmp_path: Path):
        """Git would have to read, hash and compare it: it stays as committed, and is named."""
        with (repo.clone / "data.bin").open("wb") as file:
            file.truncate(3_000_000_000)
        (repo.clone / "train.py").write_text("x\n", encoding="utf-8")
        begin = time.monotonic()
        taken = take(repo.clone)
        assert time.monotonic() - begin < 5
        assert taken.left_out == (
            {"path": "data.bin", "reason": "the changed files hold more than 200 MB", "size": 3_000_000_000},
        )
        place = rebuild(repo, taken, tmp_path / "place")
        assert (place / "train.py").read_text(encoding="utf-8") == "x\n"

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
    def test_unreadable_file(self, repo: Repository):
        (repo.clone / "train.py").write_text("secret", encoding="utf-8")
        (repo.clone / "train.py").chmod(0)
        assert [row["reason"] for row in take(repo.clone).left_out] == ["it cannot be read"]

    def test_untracked(self, repo: Repository):
        for name, size in {"a.csv": 600, "b.py": 600, "c.txt": 2_000, "d.txt": 600, "e.txt": 10, "f.txt": 1}.items():
            (repo.clone / name).write_bytes(b"x" * size)
        limits = TreeLimits(untracked_files=3, untracked_bytes=1_300, untracked_file_bytes=1_000)
        taken = take(repo.clone, limits=limits)
        assert taken.untracked_paths == ("a.csv", "b.py", "e.txt")  # the code first, then by name
        assert [(row["path"], row["reason"], row["size"]) for row in taken.left_out] == [
            ("c.txt", "more than 0.001 MB", 2_000),
            ("d.txt", "more than 0.0013 MB in all", 600),
            ("f.txt", "there are more than 3 untracked files", 1),
        ]

    def test_twenty_thousand_untracked_files(self, repo: Repository):
        """They are counted, not named, and the program among them is taken."""
        for folder in range(20):
            (repo.clone / f"out{folder}").mkdir()
            for number in range(1_000):
                (repo.clone / f"out{folder}" / f"{number}.csv").touch()
        (repo.clone / "z.py").write_text("x", encoding="utf-8")
        begin = time.monotonic()
        taken = take(repo.clone)
        assert time.monotonic() - begin < 20
        assert "z.py" in taken.untracked_paths
        assert len(taken.untracked_paths) == 1_000
        assert len(taken.left_out) == 101
        assert taken.left_out[-1]["path"] == "*"
        assert taken.left_out[-1]["reason"] == "18,901 more files: there are more than 1,000 untracked files"

    def test_what_is_no_file(self, repo: Repository, tmp_path: Path):
        """Git does not list pipes and sockets; repositories and links that leave are named."""
        os.mkfifo(repo.clone / "pipe")
        git("init", "--quiet", "inner", cwd=repo.clone)
        (repo.clone / "inner" / "file").touch()
        (repo.clone / "absolute").symlink_to("/etc/passwd")
        (repo.clone / "upwards").symlink_to("../hub.git")
        (repo.clone / "into git").symlink_to(".git/config")
        (repo.clone / "dangling").symlink_to("pkg/nothing")
        taken = take(repo.clone)
        assert taken.untracked_paths == ("dangling",)
        assert {row["path"]: row["reason"] for row in taken.left_out} == {
            "inner/": "it is a repository of its own",
            **dict.fromkeys(("absolute", "upwards", "into git"), "it is a link that leaves the repository"),
        }
        git("add", "absolute", "upwards", cwd=repo.clone)
        taken = take(repo.clone)
        assert taken.patch == b""
        assert len(taken.left_out) == 4
        rebuild(repo, taken, tmp_path / "place")

    def test_bundle_over_the_cap(self, repo: Repository):
        repo.commit({"noise.bin": os.urandom(50_000).hex()}, push=False)
        taken = take(repo.clone, limits=TreeLimits(bundle_bytes=10_000))
        assert taken.bundle is None
        assert taken.withheld == {"bundle": "the commits that are on no remote are more than 0.01 MB"}
        taken = take(repo.clone, limits=TreeLimits(scanned_bytes=10_000))
        assert taken.withheld == {
            "bundle": "the commits change more than can be looked through for secrets (more than 0.01 MB)"
        }

    def test_list_over_the_cap(self, repo: Repository):
        taken = take(repo.clone, limits=TreeLimits(listed_bytes=100))
        assert set(taken.withheld) == {"tree", "patch", "submodules", "pointers", "remotes"}
        assert taken.withheld["tree"] == "git ls-files gives more than 0.0001 MB"
        assert taken.is_pushed

    def test_deadline_has_passed(self, repo: Repository):
        taken = take(repo.clone, seconds=-1)
        assert set(taken.withheld) == set(PARTS)
        assert set(taken.withheld.values()) == {"there was no time left for git rev-parse"}
        assert taken.is_clean is None

    @pytest.mark.parametrize(
        "command", ["rev-parse", "diff-files", "ls-files", "update-index", "diff-tree", "bundle", "log"]
    )
    def test_hanging_git(self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str):
        """CAP-28: a helper of git's that holds the pipes open included; what was had before is kept."""
        make_dirty(repo)
        real = shutil.which("git")
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir()
        fake.write_text(
            f'#!/bin/sh\nfor word; do [ "$word" != {command} ] || {{ sleep 60 & sleep 60; }}; done\nexec {real} "$@"\n',
            encoding="utf-8",
        )
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        begin = time.monotonic()
        taken = take(repo.clone, seconds=3)
        assert time.monotonic() - begin < 6
        reasons = " ".join(taken.withheld.values())
        assert f"git {command} did not answer in time" in reasons
        assert bool(taken.git_version) == (command != "rev-parse")

    def test_program_of_the_users_that_hangs(self, repo: Repository, user_config: Path):
        """A filter of .gitattributes is a program that git waits for."""
        user_config.write_text('[filter "slow"]\n\tclean = sleep 60\n', encoding="utf-8")
        repo.commit({".gitattributes": "*.nb filter=slow\n"})
        (repo.clone / "a.nb").write_text("x", encoding="utf-8")
        git("add", "--intent-to-add", "a.nb", cwd=repo.clone)
        begin = time.monotonic()
        taken = take(repo.clone, seconds=3)
        assert time.monotonic() - begin < 6
        assert "tree" in taken.withheld

    def test_git_that_talks_without_end(self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        fake = tmp_path / "bin" / "git"
        fake.parent.mkdir()
        fake.write_text("#!/bin/sh\nyes\n", encoding="utf-8")
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
        taken = take(repo.clone, seconds=20)
        assert set(taken.withheld) == set(PARTS)

    def test_no_git(self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """CAP-14."""
        monkeypatch.setenv("PATH", str(tmp_path))
        assert set(take(repo.clone).withheld.values()) == {"no-git"}


class TestOddRepositories:
    """CAP-16 and more: each has its state or its reason; nothing is raised."""

    def test_no_repository(self, tmp_path: Path):
        assert set(take(tmp_path).withheld.values()) == {"no-repository"}
        assert set(take(tmp_path / "missing").withheld.values()) == {"no-directory"}

    def test_bare_repository(self, repo: Repository):
        assert "work tree" in take(repo.hub).withheld["tree"]

    def test_foreign_owner(self, repo: Repository, monkeypatch: pytest.MonkeyPatch):
        """CAP-13."""
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
        assert set(take(repo.clone).withheld.values()) == {"dubious-ownership"}

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
    def test_no_commits(self, tmp_path: Path, algorithm: str):
        for name in ("made", "place"):
            git("init", "--quiet", f"--object-format={algorithm}", name, cwd=tmp_path)
        made = tmp_path / "made"
        assert take_all(made).is_clean
        (made / "staged.py").write_text("x", encoding="utf-8")
        git("add", "staged.py", cwd=made)
        (made / "new.py").write_text("y", encoding="utf-8")
        taken = take_all(made)
        assert taken.commit == ""
        assert taken.is_pushed is None
        assert taken.tree == tree_by_git(made)
        place = tmp_path / "place"
        restore_tree(place, patch=taken.patch, untracked=taken.untracked, expected_tree=taken.tree)
        assert content_of(place) == content_of(made)

    def test_other_hash(self, tmp_path: Path):
        """SHA-256 repositories, with commits that nobody else has."""
        made = tmp_path / "made"
        git("init", "--quiet", "--object-format=sha256", "made", cwd=tmp_path)
        Repository(hub=made, clone=made).commit({"a.py": "x"}, push=False)
        (made / "a.py").write_text("y", encoding="utf-8")
        (made / "b.py").write_text("y", encoding="utf-8")
        taken = take_all(made)
        git("init", "--quiet", "--object-format=sha256", "place", cwd=tmp_path)
        place = restore(taken, tmp_path / "place")
        assert content_of(place) == content_of(made)

    def test_never_pushed(self, repo: Repository, tmp_path: Path):
        """Without any remote the bundle is the whole history."""
        git("remote", "remove", "origin", cwd=repo.clone)
        taken = take_all(repo.clone)
        assert taken.is_pushed is False
        assert taken.is_clean
        assert taken.bundle_prerequisites == ()
        git("init", "--quiet", "--bare", "empty.git", cwd=tmp_path)
        rebuild(Repository(hub=tmp_path / "empty.git", clone=repo.clone), taken, tmp_path / "place")

    def test_secret_in_the_first_commit(self, repo: Repository, user_config: Path):
        user_config.write_text("[log]\n\tshowRoot = false\n", encoding="utf-8")
        git("checkout", "--quiet", "--orphan", "fresh", cwd=repo.clone)
        repo.commit({"a.py": TOKEN}, push=False)
        assert take(repo.clone).withheld == {"bundle": "one of the commits holds a secret"}

    def test_detached_head_and_worktree(self, repo: Repository, tmp_path: Path):
        repo.commit({"more.py": "x"}, push=False)
        git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"), cwd=repo.clone)
        (tmp_path / "second" / "train.py").write_text("x\n", encoding="utf-8")
        (tmp_path / "second" / "untracked.py").write_text("x\n", encoding="utf-8")
        before = state_of(repo.clone, tmp_path / "second")
        taken = take_all(tmp_path / "second")
        assert state_of(repo.clone, tmp_path / "second") == before
        assert taken.bundle
        place = rebuild(repo, taken, tmp_path / "place")
        assert content_of(place) == content_of(tmp_path / "second")

    def test_borrowed_objects(self, repo: Repository, tmp_path: Path):
        """A clone that has its objects in another repository, in a folder that a list of paths cannot hold as it is."""
        strange = tmp_path / 'a:b "c" \\ d'
        strange.mkdir()
        git("clone", "--quiet", "--shared", str(repo.clone), str(strange / "clone"), cwd=tmp_path)
        (strange / "clone" / "train.py").write_text("x\n", encoding="utf-8")
        (strange / "clone" / "data.bin").write_bytes(b"\0\1\2" * 60)
        assert take_all(strange / "clone").tree == tree_by_git(strange / "clone")

    def test_shallow_clone(self, repo: Repository, tmp_path: Path):
        repo.commit({"a.py": "1"})
        git("clone", "--quiet", "--depth=1", f"file://{repo.hub}", str(tmp_path / "shallow"), cwd=tmp_path)
        shallow = Repository(hub=repo.hub, clone=tmp_path / "shallow")
        shallow.commit({"b.py": "2"}, push=False)
        taken = take_all(shallow.clone)
        place = rebuild(repo, taken, tmp_path / "place")
        assert content_of(place) == content_of(shallow.clone)
        git("remote", "remove", "origin", cwd=shallow.clone)
        assert "shallow" in take(shallow.clone).withheld["bundle"]

    def test_bundle_into_a_shallow_checkout(self, repo: Repository, tmp_path: Path):
        """The base commit alone is enough."""
        repo.commit({"b.py": "2"}, push=False)
        taken = take_all(repo.clone)
        place = tmp_path / "place"
        git("init", "--quiet", str(place), cwd=tmp_path)
        (base,) = taken.bundle_prerequisites
        git("fetch", "--quiet", "--depth=1", f"file://{repo.hub}", base, cwd=place)
        assert taken.bundle
        fetch_bundle(place, taken.bundle, taken.commit)
        git("checkout", "--quiet", "--detach", taken.commit, cwd=place)
        assert content_of(place) == content_of(repo.clone)

    def test_partial_clone_fetches_nothing(self, repo: Repository, tmp_path: Path):
        """Not even where git would: a change of a file whose content is not there."""
        git("config", "uploadpack.allowFilter", "true", cwd=repo.hub)
        clone = tmp_path / "partial"
        git("clone", "--quiet", "--sparse", "--filter=blob:none", f"file://{repo.hub}", str(clone), cwd=tmp_path)
        (clone / "train.py").write_text("newer\n", encoding="utf-8")
        assert b"+newer\n" in take_all(clone).patch
        git("rm", "--quiet", "--cached", "--sparse", "pkg/module.py", cwd=clone)
        before = state_of(clone)
        begin = time.monotonic()
        taken = take(clone)
        assert time.monotonic() - begin < SECONDS / 2
        assert state_of(clone) == before
        assert "patch" in taken.withheld
        assert taken.tree

    def test_sparse_checkout(self, repo: Repository, tmp_path: Path):
        git("sparse-checkout", "set", "--cone", "--sparse-index", "pkg", cwd=repo.clone)
        (repo.clone / "pkg" / "module.py").write_text("sparse\n", encoding="utf-8")
        taken = take_all(repo.clone)
        git("sparse-checkout", "disable", cwd=repo.clone)
        assert taken.tree == tree_by_git(repo.clone)
        rebuild(repo, taken, tmp_path / "place")

    def test_replaced_objects_are_of_one_repository(self, repo: Repository, tmp_path: Path):
        """``git replace`` shows another commit's tree here, and nowhere else."""
        other = repo.commit({"train.py": "other\n"}, push=False)
        git("reset", "--quiet", "--hard", "HEAD~1", cwd=repo.clone)
        git("replace", "HEAD", other, cwd=repo.clone)
        git("reset", "--quiet", "--hard", cwd=repo.clone)
        taken = take(repo.clone)
        assert b"+other\n" in taken.patch
        place = rebuild(repo, taken, tmp_path / "place")
        assert (place / "train.py").read_text(encoding="utf-8") == "other\n"

    @pytest.mark.parametrize("file", ["index", "HEAD", "config", "objects"])
    def test_corrupt_repository(self, repo: Repository, file: str):
        make_dirty(repo)
        path = repo.clone / ".git" / file
        if path.is_dir():
            for found in [found for found in path.rglob("*") if found.is_file()]:
                found.chmod(0o644)
                found.write_bytes(b"garbage")
        else:
            path.write_bytes(b"garbage\0" * 100)
        taken = take(repo.clone)
        assert taken.withheld["tree"]
        assert taken.withheld["patch"]
        assert taken.is_clean is not True

    def test_index_is_missing(self, repo: Repository, tmp_path: Path):
        """To git everything is deleted and untracked then; the tree is the same for all that."""
        (repo.clone / ".git" / "index").unlink()
        taken = take_all(repo.clone)
        assert taken.tree == git("rev-parse", "HEAD^{tree}", cwd=repo.clone)
        rebuild(repo, taken, tmp_path / "place")

    def test_remotes_have_no_credentials(self, repo: Repository):
        """CAP-17, CAP-18."""
        git("remote", "add", "up", "https://user:hunter2@host.invalid/r.git?private_token=hunter3", cwd=repo.clone)
        git("config", "url.https://hunter4@host.invalid/.insteadOf", "https://host.invalid/", cwd=repo.clone)
        remotes = take_all(repo.clone).remotes
        assert remotes == {"origin": str(repo.hub), "up": "https://host.invalid/r.git"}


class TestSubmodules:
    """Each has its own commit and changes."""

    @pytest.fixture
    def nested(self, repo: Repository, tmp_path: Path) -> Repository:
        """A submodule in a submodule, ``sub/deep``."""
        for name in ("deep", "inner"):
            git("init", "--quiet", "-b", "main", name, cwd=tmp_path)
            Repository(hub=repo.hub, clone=tmp_path / name).commit({"file.py": f"{name}\n"}, push=False)
        add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
        git(*add, str(tmp_path / "deep"), "deep", cwd=tmp_path / "inner")
        git("commit", "--quiet", "--message=deep", cwd=tmp_path / "inner")
        git(*add, str(tmp_path / "inner"), "sub", cwd=repo.clone)
        update = ("submodule", "--quiet", "update", "--init", "--recursive")
        git("-c", "protocol.file.allow=always", *update, cwd=repo.clone)
        repo.commit({"more": "x"})
        git("fetch", "--quiet", cwd=repo.clone)
        return repo

    def test_clean(self, nested: Repository, tmp_path: Path):
        taken = take_all(nested.clone)
        (module,) = taken.submodules
        assert (module.path, module.url, module.is_dirty) == ("sub", str(tmp_path / "inner"), False)
        assert module.commit == git("rev-parse", "HEAD", cwd=tmp_path / "inner")
        assert module.taken
        assert module.taken.is_pushed
        assert [inner.path for inner in module.taken.submodules] == ["deep"]
        assert taken.is_clean

    def test_changed_at_every_level(self, nested: Repository, tmp_path: Path):
        sub = nested.clone / "sub"
        (sub / "deep" / "file.py").write_text("changed\n", encoding="utf-8")
        (sub / "new.py").write_text("new\n", encoding="utf-8")
        Repository(hub=sub, clone=sub).commit({"file.py": "committed\n"}, push=False)
        (sub / "later.py").write_text("later\n", encoding="utf-8")
        (nested.clone / "train.py").write_text("top\n", encoding="utf-8")
        before = state_of(nested.clone)
        taken = take_all(nested.clone)
        assert state_of(nested.clone) == before
        (module,) = taken.submodules
        assert module.taken
        assert module.commit == git("rev-parse", "HEAD", cwd=sub)
        assert module.taken.bundle
        assert module.taken.untracked_paths == ("later.py",)
        (deep,) = module.taken.submodules
        assert b"+changed\n" in deep.patch
        assert not taken.is_clean
        assert b"+Subproject commit " + module.commit.encode() in taken.patch
        place = rebuild(nested, taken, tmp_path / "place")
        assert f"160000 {module.commit}" in git("ls-files", "-s", "sub", cwd=place)
        inner = rebuild(Repository(hub=tmp_path / "inner", clone=sub), module.taken, tmp_path / "inner-place")
        assert (inner / "later.py").exists()

    def test_only_the_content_of_a_submodule_changed(self, nested: Repository):
        (nested.clone / "sub" / "file.py").write_text("changed\n", encoding="utf-8")
        taken = take_all(nested.clone)
        assert taken.patch == b""
        assert taken.submodules[0].is_dirty
        assert taken.is_clean is False

    def test_not_checked_out(self, nested: Repository):
        git("submodule", "--quiet", "deinit", "--force", "sub", cwd=nested.clone)
        taken = take_all(nested.clone)
        assert taken.submodules[0].reason == "it is not checked out"
        assert taken.is_clean

    def test_removed(self, nested: Repository, tmp_path: Path):
        git("rm", "--quiet", "--force", "sub", cwd=nested.clone)
        taken = take_all(nested.clone)
        assert taken.submodules == ()
        assert content_of(rebuild(nested, taken, tmp_path / "place")) == content_of(nested.clone)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_broken(self, nested: Repository, kind: str):
        """Not taken for the repository around it."""
        place = nested.clone / "sub" / ".git"
        place.write_text("gitdir: /nonexistent\n", encoding="utf-8")
        if kind == "folder":
            place.unlink()
            place.mkdir()
        taken = take(nested.clone)
        (module,) = taken.submodules
        assert module.taken
        assert module.taken.withheld["tree"]
        assert module.taken.tree == ""

    def test_too_many(self, nested: Repository):
        taken = take(nested.clone, limits=TreeLimits(submodules=0))
        assert "more submodules" in taken.submodules[0].reason


class TestPointers:
    """URI-18: what is in the repository is a pointer, and the content is elsewhere."""

    LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"

    def test_are_recognised(self, repo: Repository):
        pointer = self.LFS.format("0" * 64, 12_345)
        (repo.clone / "annexed.bin").symlink_to(".git/annex/objects/aa/bb/SHA256E-s5--00/SHA256E-s5--00")
        repo.commit(
            {
                ".gitattributes": "*.weights filter=lfs diff=lfs merge=lfs -text\n",
                "sub/.gitattributes": "*.npz filter=lfs\n",
                "a.weights": "smudged",
                "sub/ä.npz": pointer,
                "stray.dat": pointer,
                "unlocked.dat": "/annex/objects/SHA256E-s1048576--" + "0" * 64 + "\n",
                "data.csv.dvc": "outs:\n",
                "dvc.lock": "schema: '2.0'\n",
                ".dvc/config": "",
                "normal.txt": "x" * 130,
            }
        )
        assert take_all(repo.clone).pointers == {
            "lfs": ("a.weights", "stray.dat", "sub/ä.npz"),
            "dvc": ("data.csv.dvc", "dvc.lock"),
            "annex": ("annexed.bin", "unlocked.dat"),
        }

    def test_unlocked_in_an_annex(self, repo: Repository):
        repo.commit({"x.dat": "/annex/objects/SHA256E-s5--" + "0" * 64 + "\n"})
        (repo.clone / ".git" / "annex").mkdir()
        git("update-index", "--assume-unchanged", "x.dat", cwd=repo.clone)
        (repo.clone / "x.dat").write_text("content that git-annex has put there", encoding="utf-8")
        assert take(repo.clone).pointers["annex"] == ("x.dat",)

    def test_nothing_goes_into_the_store_of_lfs(self, repo: Repository, tmp_path: Path, user_config: Path):
        """Its filter copies what it is given into .git/lfs; without it the content itself is recorded."""
        content = os.urandom(3_000)
        pointer = self.LFS.format(hashlib.sha256(content).hexdigest(), len(content))
        repo.commit({".gitattributes": "*.w filter=lfs -text\n", "a.w": pointer, "b.w": pointer})
        user_config.write_text(
            f'[filter "lfs"]\n\tclean = touch {tmp_path}/ran; cat\n\tsmudge = false\n\trequired = true\n',
            encoding="utf-8",
        )
        for name in ("a.w", "b.w"):
            (repo.clone / name).write_bytes(content)  # as git-lfs does it at a checkout
        assert take_all(repo.clone).is_clean
        (repo.clone / "b.w").write_bytes(b"\0changed")
        taken = take_all(repo.clone)
        assert not (tmp_path / "ran").exists()
        user_config.write_text("", encoding="utf-8")
        place = rebuild(repo, taken, tmp_path / "place")
        assert (place / "b.w").read_bytes() == b"\0changed"
        assert (place / "a.w").read_text(encoding="utf-8") == pointer

    def test_large_content_of_lfs_is_named(self, repo: Repository):
        repo.commit({".gitattributes": "*.w filter=lfs -text\n", "a.w": self.LFS.format("0" * 64, 5)})
        (repo.clone / "a.w").write_bytes(b"x" * 2_000)
        taken = take(repo.clone, limits=TreeLimits(patch_bytes=1_000))
        assert taken.left_out == (
            {"path": "a.w", "reason": "its content is kept by Git LFS, and more than 0.001 MB", "size": 2_000},
        )


def a_patch(name: str, *, mode: str = "100644", content: str = "x", old: str = "") -> bytes:
    """A patch that makes the file ``name``; ``old`` is what the header calls it on the left."""
    return (
        f"diff --git a/{old or name} b/{name}\nnew file mode {mode}\nindex {'0' * 40}..{'1' * 40}\n"
        f"--- /dev/null\n+++ b/{name}\n@@ -0,0 +1 @@\n+{content}\n\\ No newline at end of file\n"
    ).encode()


def a_binary_patch(name: str, content: bytes, mode: str) -> bytes:
    compressed = zlib.compress(content)
    line = bytes([64 + len(compressed)]) + base64.b85encode(compressed, pad=True)
    made = Entry(path=name, mode=mode, content=content).object_name("sha1")
    head = a_patch(name, mode=mode).partition(b"--- ")[0].replace(b"1" * 40, made.encode())
    return head + b"GIT binary patch\nliteral %d\n%s\n\nliteral 0\nHcmV?d00001\n\n" % (len(content), line)


class TestRefused:
    """Group DIF, and archives: nothing is written anywhere."""

    @pytest.fixture
    def place(self, repo: Repository, tmp_path: Path) -> Path:
        git("clone", "--quiet", str(repo.hub), str(tmp_path / "outer" / "place"), cwd=tmp_path)
        return tmp_path / "outer" / "place"

    def check_refused(
        self, place: Path, *, patch: bytes = b"", untracked: bytes = b"", match: str | None = None
    ) -> None:
        before = state_of(place.parent)
        with pytest.raises(RefusedError, match=match):
            restore_tree(place, patch=patch, untracked=untracked, expected_tree="0" * 40)
        assert state_of(place.parent) == before

    @pytest.mark.parametrize(
        "name",
        [
            *("../evil", "pkg/../../evil", "a/../b", "..", "./x", "a//b"),  # DIF-01
            *(
                ".git/hooks/post-checkout",
                ".GIT/config",
                "pkg/.git/config",
                ".git",
                "GIT~1/config",
                ".git /x",
            ),  # DIF-02
            *(
                "/etc/evil",
                "//evil",
                ".g\u200cit/config",
                ".git::$INDEX_ALLOCATION/config",
                "a\\..\\..\\x",
                "a\\.git\\x",
            ),
        ],
    )
    def test_patch_to_somewhere_else(self, place: Path, name: str):
        self.check_refused(place, patch=a_patch(name), match="the recorded patch changes")
        git_says = subprocess.run(
            ["git", "apply", "--index"], cwd=place, input=a_patch(name), check=False, capture_output=True
        )
        assert (place.parent / "evil").exists() is False, git_says

    @pytest.mark.parametrize(
        "text",
        [
            "--- a/../evil\n+++ b/../evil\n@@ -0,0 +1 @@\n+x\n",
            "--- /dev/null\n+++ /etc/evil\n@@ -0,0 +1 @@\n+x\n",
            "diff --git a/x b/../y\nsimilarity index 100%\nrename from x\nrename to ../y\n",
            "diff --git a/train.py b/.git/x\nsimilarity index 100%\ncopy from train.py\ncopy to .git/x\n",
            'diff --git "a/\\056git/config" "b/\\056git/config"\nnew file mode 100644\n',
        ],
    )
    def test_in_another_form(self, place: Path, text: str):
        self.check_refused(place, patch=text.encode())

    @pytest.mark.parametrize("target", ["/etc", "..", "../../x", "pkg/../../..", ".git/config", "a/../.git"])
    @pytest.mark.parametrize("is_binary", [False, True])
    def test_link_that_leaves(self, place: Path, target: str, *, is_binary: bool):
        """DIF-05: git takes it."""
        patch = a_patch("evil", mode="120000", content=target)
        if is_binary:
            patch = a_binary_patch("evil", target.encode(), "120000")
        self.check_refused(place, patch=patch, match="link that leaves")

    def test_write_through_a_link(self, place: Path):
        """DIF-04."""
        patch = a_patch("dir", mode="120000", content="pkg") + a_patch("dir/x")
        self.check_refused(place, patch=patch, match="not safe")
        (place / "link").unlink()
        (place / "link").symlink_to("pkg")
        git("commit", "--quiet", "--all", "--message=link", cwd=place)
        self.check_refused(place, patch=a_patch("link/x"), match="not safe")

    def archive(self, *members: tuple[str, bytes, str]) -> bytes:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, kind, link in members:
                member = tarfile.TarInfo(name)
                member.type = kind
                member.linkname = link
                archive.addfile(member)
        return target.getvalue()

    @pytest.mark.parametrize(
        ("name", "kind", "link"),
        [
            *((name, tarfile.REGTYPE, "") for name in ("../evil", "/evil", ".git/x", "a/.GIT/x", "a/../../evil", "")),
            *(
                ("x", kind, "train.py")
                for kind in (tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE)
            ),
            *(("x", tarfile.SYMTYPE, target) for target in ("/etc", "../x", ".git", "a/../../x", "")),
            ("../evil", tarfile.DIRTYPE, ""),
            ("x", tarfile.GNUTYPE_SPARSE, ""),
        ],
    )
    def test_archive(self, place: Path, name: str, kind: bytes, link: str):
        self.check_refused(place, untracked=self.archive((name, kind, link)), match="archive of untracked")

    @pytest.mark.parametrize(
        "members",
        [
            (("x", tarfile.REGTYPE, ""), ("x", tarfile.REGTYPE, "")),
            (("x", tarfile.SYMTYPE, "pkg"), ("x/y", tarfile.REGTYPE, "")),
            (("x/y", tarfile.REGTYPE, ""), ("x", tarfile.SYMTYPE, "pkg")),
            (("train.py", tarfile.REGTYPE, ""),),
            (("link/x", tarfile.REGTYPE, ""),),
            (("train.py/x", tarfile.REGTYPE, ""),),
        ],
    )
    def test_archive_over_something(self, place: Path, members: Any):
        self.check_refused(place, untracked=self.archive(*members), match="archive of untracked")

    @pytest.mark.parametrize("mode", ["w:gz", "w:bz2"])
    def test_compressed_archive(self, place: Path, mode: Any):
        """A small one can unpack to any size."""
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode=mode) as archive:
            archive.addfile(tarfile.TarInfo("x"))
        self.check_refused(place, untracked=target.getvalue(), match="cannot be read")

    def test_sparse_archive(self, place: Path):
        """A header can claim a terabyte of holes."""
        member = tarfile.TarInfo("x")
        member.pax_headers = {"GNU.sparse.size": "1099511627776", "GNU.sparse.map": "0,0", "GNU.sparse.name": "x"}
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.addfile(member)
        self.check_refused(place, untracked=target.getvalue())

    @given(content=st.binary(max_size=3_000))
    @settings(max_examples=100, deadline=None)
    def test_any_bytes_as_an_archive(self, content: bytes):
        for archive in (content, pack_entries([Entry(path="x", mode="100644", content=b"x")])[:1024] + content):
            try:
                entries = unpack_entries(archive)
            except RefusedError:
                continue
            assert all(not is_unsafe_path(entry.path) for entry in entries)


class TestDamaged:
    """What does not lead to the recorded tree is an answer (3), and leaves the checkout as it was."""

    def check_damaged(self, place: Path, taken: TakenTree, match: str, **parts: Any) -> None:
        given = {"patch": taken.patch, "untracked": taken.untracked, "expected_tree": taken.tree, **parts}
        before = content_of(place)
        with pytest.raises(CannotJudgeError, match=match):
            restore_tree(place, **given)
        assert content_of(place) == before
        assert git("status", "--porcelain", cwd=place) == ""

    @pytest.fixture
    def taken(self, repo: Repository) -> TakenTree:
        (repo.clone / "train.py").write_text(BASE_FILES["train.py"].replace("line 9\n", "nine\n"), encoding="utf-8")
        (repo.clone / "data.bin").write_bytes(b"\0\1\2" * 60)
        (repo.clone / "new.py").write_text("x", encoding="utf-8")
        return take_all(repo.clone)

    @pytest.fixture
    def place(self, repo: Repository, tmp_path: Path) -> Path:
        git("clone", "--quiet", str(repo.hub), str(tmp_path / "place"), cwd=tmp_path)
        return tmp_path / "place"

    def test_parts_of_another_record(self, place: Path, taken: TakenTree):
        self.check_damaged(place, taken, "was recorded", untracked=b"")
        self.check_damaged(place, taken, "was recorded", patch=b"")
        self.check_damaged(place, taken, "was recorded", expected_tree="0" * 40)

    def test_patch_does_not_apply(self, repo: Repository, tmp_path: Path, taken: TakenTree):
        """DIF-06: nothing, rather than half; git's words say where."""
        git("stash", "--quiet", "--include-untracked", cwd=repo.clone)
        repo.commit({"train.py": "another file\n"})
        git("clone", "--quiet", str(repo.hub), str(tmp_path / "later"), cwd=tmp_path)
        self.check_damaged(tmp_path / "later", taken, r"does not apply to this commit: patch failed: train.py:\d+")

    @pytest.mark.parametrize("cut", [1, 20, 300, -1, -40])
    def test_cut_patch(self, place: Path, taken: TakenTree, cut: int):
        """DIF-08."""
        self.check_damaged(place, taken, "patch", patch=taken.patch[:cut])

    @pytest.mark.parametrize(
        "text", [b"garbage", b"\n", b"\0\n", b"diff --git a/x b/y\n", b"Binary files a/x and b/x differ\n"]
    )
    def test_garbage(self, place: Path, taken: TakenTree, text: bytes):
        self.check_damaged(place, taken, "cannot be read", patch=text)

    def test_patch_with_colours_or_without_prefix(self, repo: Repository, place: Path, taken: TakenTree):
        """DIF-10: not of our making."""
        for option in ("--color=always", "--no-prefix"):
            text = git("diff", "HEAD", option, cwd=repo.clone).encode() + b"\n"
            self.check_damaged(place, taken, "cannot be read", patch=text)

    def test_checkout_is_not_clean(self, place: Path, taken: TakenTree):
        """Something else has been at it: nothing is written over, and nothing else is written either."""
        (place / "new.py").write_text("in the way", encoding="utf-8")
        before = content_of(place)
        with pytest.raises(RefusedError, match=r"'new.py', where something is already"):
            restore_tree(place, patch=taken.patch, untracked=taken.untracked, expected_tree=taken.tree)
        assert content_of(place) == before
        (place / "new.py").unlink()
        (place / "pkg" / "module.py").write_text("changed", encoding="utf-8")
        for _ in ("unstaged", "staged"):
            with pytest.raises(CannotJudgeError, match=r"not clean|was recorded"):
                restore_tree(place, patch=taken.patch, untracked=taken.untracked, expected_tree=taken.tree)
            git("add", "pkg", cwd=place)

    def test_nothing_to_restore(self, place: Path):
        """DIF-07: an empty part is skipped."""
        restore_tree(place, patch=b"", untracked=b"", expected_tree=git("rev-parse", "HEAD^{tree}", cwd=place))

    def test_no_repository(self, tmp_path: Path):
        with pytest.raises(CannotJudgeError, match="cannot be put back"):
            restore_tree(tmp_path, patch=a_patch("x"), untracked=b"", expected_tree="0" * 40)


class TestBundle:
    """The commits that nobody else has."""

    @pytest.fixture
    def taken(self, repo: Repository) -> TakenTree:
        repo.commit({"a.py": "1"}, push=False)
        repo.commit({"a.py": "2"}, push=False)
        return take_all(repo.clone)

    @pytest.fixture
    def place(self, repo: Repository, tmp_path: Path) -> Path:
        git("clone", "--quiet", str(repo.hub), str(tmp_path / "place"), cwd=tmp_path)
        return tmp_path / "place"

    def test_brings_the_commit_and_changes_nothing_else(self, place: Path, taken: TakenTree):
        head, before = git("rev-parse", "HEAD", cwd=place), content_of(place)
        assert taken.bundle
        fetch_bundle(place, taken.bundle, taken.commit)
        assert git("cat-file", "-t", taken.commit, cwd=place) == "commit"
        assert git("rev-parse", "HEAD", cwd=place) == head
        assert content_of(place) == before
        git("gc", "--quiet", "--prune=now", cwd=place)
        assert git("cat-file", "-t", taken.commit, cwd=place) == "commit"

    def test_is_as_small_as_the_commits(self, taken: TakenTree):
        assert taken.bundle
        assert len(taken.bundle) < 2_000

    def test_base_is_not_there(self, taken: TakenTree, tmp_path: Path):
        git("init", "--quiet", "empty", cwd=tmp_path)
        assert taken.bundle
        with pytest.raises(CannotJudgeError, match="is not in the repository any more"):
            fetch_bundle(tmp_path / "empty", taken.bundle, taken.commit)

    @pytest.mark.parametrize("content", [b"", b"garbage", b"# v2 git bundle\n", b"# v2 git bundle\nnonsense\n\nPACK"])
    def test_garbage(self, place: Path, taken: TakenTree, content: bytes):
        with pytest.raises(CannotJudgeError, match="damaged"):
            fetch_bundle(place, content, taken.commit)

    def test_cut_short(self, place: Path, taken: TakenTree):
        assert taken.bundle
        with pytest.raises(CannotJudgeError, match="damaged"):
            fetch_bundle(place, taken.bundle[:-10], taken.commit)

    @pytest.mark.parametrize("commit", ["0" * 40, "HEAD", "--upload-pack=x", ""])
    def test_another_commit(self, place: Path, taken: TakenTree, commit: str):
        assert taken.bundle
        with pytest.raises(CannotJudgeError, match="does not bring"):
            fetch_bundle(place, taken.bundle, commit)

    def test_header(self, taken: TakenTree):
        assert taken.bundle
        header = read_bundle_header(taken.bundle)
        assert header.tips == (taken.commit,)
        assert header.prerequisites == taken.bundle_prerequisites

    def test_users_who_forbid_files(self, place: Path, taken: TakenTree, user_config: Path):
        user_config.write_text('[protocol "file"]\n\tallow = never\n[fetch]\n\tprune = true\n', encoding="utf-8")
        assert taken.bundle
        fetch_bundle(place, taken.bundle, taken.commit)


class TestPatchText:
    """The reader takes what git writes for us, and nothing else."""

    @pytest.mark.parametrize(
        "name",
        ["plain", "with space", "tab\t", 'quo"te', "back\\slash", "new\nline", "ä", "a b/c b/d", " b/ ", "\udcff"],
    )
    def test_names(self, repo: Repository, name: str):
        path = repo.clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one\n", encoding="utf-8")
        git("add", "--all", cwd=repo.clone)
        assert [change.path for change in read_patch(take_all(repo.clone).patch)] == [name]

    def test_kinds(self, repo: Repository):
        make_dirty(repo)
        found = {change.path: change for change in read_patch(take_all(repo.clone).patch)}
        assert found["data.bin"].is_binary
        assert found["tool.sh"].lines == []
        assert found["deleted.txt"].lines == [b"gone"]
        assert found["link"].lines == [b"pkg/module.py", b"train.py"]

    @given(content=st.binary(max_size=200) | st.text("diff -git+@\n\\ab/", max_size=100).map(str.encode))
    @settings(max_examples=300, deadline=None)
    def test_any_text(self, content: bytes):
        for patch in (content, a_patch("x") + content, a_patch("x")[:-30] + content):
            try:
                changes = list(read_patch(patch))
            except PatchFormError:
                with pytest.raises((CannotJudgeError, RefusedError)):
                    check_patch(patch)
            else:
                assert all(change.path for change in changes)

    @pytest.mark.parametrize(
        ("path", "target", "leaves"),
        [
            ("a", "b", False),
            ("a", "./b//c", False),
            ("d/a", "../b", False),
            ("d/a", "../../b", True),
            ("a", "..", True),
            ("d/a", "..", False),
            ("a", "/b", True),
            ("a", "b/../c", True),  # b may be a link itself
            ("a", "", True),
            ("a", ".", False),
            ("a", ".git", True),
            ("d/a", "../.GIT/x", True),
            (".git/a", "b", True),
        ],
    )
    def test_links(self, path: str, target: str, *, leaves: bool):
        assert link_leaves(path, target) == leaves


class TestRecordCode:
    """The section of the record."""

    def record(self, directory: Path, **options: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
        section = record_code(str(directory), time.monotonic() + SECONDS, **options)
        text = json.dumps(section.facts, ensure_ascii=False)
        text.encode("utf-8")  # no lone surrogates
        assert json.loads(text) == section.facts
        return json.loads(text), dict(section.files)

    def test_clean_and_pushed(self, repo: Repository):
        facts, files = self.record(repo.clone)
        assert files == {}
        assert facts == {
            "is_clean": True,
            "tree": git("rev-parse", "HEAD^{tree}", cwd=repo.clone),
            "patch": {"absent": "no tracked file is changed"},
            "untracked": {"absent": "there is no untracked file to record"},
            "left_out": [],
            "outputs": [],
            "bundle": {"absent": "every commit is on a remote"},
            "is_pushed": True,
            "submodules": [],
            "pointers": {"lfs": [], "dvc": [], "annex": []},
            "remotes": {"origin": str(repo.hub)},
            "conversions": {},
            "git": git("version", cwd=repo.clone).removeprefix("git version "),
        }

    def test_dirty(self, repo: Repository, tmp_path: Path):
        """From the record alone."""
        make_dirty(repo)
        facts, files = self.record(repo.clone)
        assert set(files) == {"code/changes.patch", "code/untracked.tar", "code/commits.bundle"}
        for part in ("patch", "untracked", "bundle"):
            content = files[facts[part]["file"].removeprefix("repro/")]
            assert facts[part]["sha256"] == hashlib.sha256(content).hexdigest()
            assert facts[part]["size"] == len(content)
        assert "pkg/latin-\\udce9.py" in facts["untracked"]["paths"]
        assert facts["bundle"]["prerequisites"] == [git("rev-parse", "origin/main", cwd=repo.clone)]
        assert (facts["is_clean"], facts["is_pushed"]) == (False, False)
        facts["commit"] = git("rev-parse", "HEAD", cwd=repo.clone)  # the record has it from the tags
        taken = read_code(make_record(code=facts).code, lambda part: files[part.file.removeprefix("repro/")])
        rebuild(repo, taken, tmp_path / "place")

    def test_damaged(self, repo: Repository):
        """A section that lacks its parts is found before anything is applied; other content, when it is read."""
        make_dirty(repo)
        facts, _ = self.record(repo.clone)
        with pytest.raises(CannotJudgeError, match="the record of the working tree cannot be read"):
            read_code(make_record(code={"patch": facts["patch"]}).code, lambda _: b"")

    def test_withheld(self, repo: Repository):
        (repo.clone / "train.py").write_text(TOKEN, encoding="utf-8")
        (repo.clone / f"{TOKEN}.txt").write_text("x" * 2_000_000, encoding="utf-8")
        facts, files = self.record(repo.clone)
        assert files == {}
        assert facts["patch"]["absent"] == "the changes of 'train.py' hold a secret"
        assert len(facts["patch"]["sha256"]) == 64
        withheld = read_code(make_record(code=facts).code, lambda part: files[part.file]).withheld
        assert withheld == {"patch": "the changes of 'train.py' hold a secret"}
        assert facts["left_out"] == [
            {"path": "[redacted].txt", "reason": "its name announces a secret", "size": 2_000_000}
        ]

    def test_no_repository(self, tmp_path: Path):
        facts, files = self.record(tmp_path)
        assert files == {}
        assert facts.pop("left_out") == facts.pop("outputs") == []
        assert all(
            value.pop("withheld", None) for part, value in facts.items() if part in ("patch", "untracked", "bundle")
        )
        assert all(value == {"absent": "no-repository"} for value in facts.values())

    def test_submodule(self, repo: Repository, tmp_path: Path):
        git("init", "--quiet", "inner", cwd=tmp_path)
        Repository(hub=repo.hub, clone=tmp_path / "inner").commit({"a.py": "x"}, push=False)
        git(
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            str(tmp_path / "inner"),
            "sub",
            cwd=repo.clone,
        )
        repo.commit({"more": "x"})
        git("fetch", "--quiet", cwd=repo.clone)
        (repo.clone / "sub" / "a.py").write_text("y", encoding="utf-8")
        facts, files = self.record(repo.clone)
        (module,) = facts["submodules"]
        assert (module["path"], module["is_dirty"], facts["is_clean"]) == ("sub", True, False)
        assert module["patch"]["file"] == "repro/code/submodules/0/changes.patch"
        assert set(files) == {"code/submodules/0/changes.patch"}
        code = make_record(code=facts).code
        (read,) = read_code(code, lambda part: files[part.file.removeprefix("repro/")]).submodules
        assert (read.path, read.commit, read.patch) == (
            "sub",
            module["commit"],
            files["code/submodules/0/changes.patch"],
        )

    def test_many_pointers(self, repo: Repository):
        repo.commit({f"{number:05}.dvc": "" for number in range(1_003)})
        facts, _ = self.record(repo.clone)
        assert facts["pointers"]["dvc"][-2:] == ["00999.dvc", "... and 3 more"]
