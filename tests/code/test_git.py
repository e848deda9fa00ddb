"""The door to git, held against real repositories (group URI of the table of faults)."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from conftest import Repository, git
from git_http import serve_git

from mlflow_repro.code import checkout as checkout_module
from mlflow_repro.code.checkout import check_subdirectory, checkout, explain_fetch_error, restore_working_tree
from mlflow_repro.code.git import GitError, describe_worktree, run_git
from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UnreachableError, UsageError
from mlflow_repro.values.plan import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CANARY = "hunter2hunter2"
MISSING = "0123456789abcdef0123456789abcdef01234567"
DOTTED = "python/v1.0/a.b"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `repo`, made once: copying it is quicker than a dozen calls of git."""
    root = tmp_path_factory.mktemp("template")
    made = Repository(hub=root / "hub.git", clone=root / "clone")
    git("-c", "init.defaultBranch=main", "init", "--quiet", "--bare", str(made.hub), cwd=root)
    git("clone", "--quiet", str(made.hub), str(made.clone), cwd=root)
    git("checkout", "--quiet", "-b", "main", cwd=made.clone)
    made.commit({"README": "old", f"{DOTTED}/MLproject": "name: x\n"})
    made.commit({"README": "new"})
    return root


@pytest.fixture
def repo(template: Path, tmp_path: Path) -> Repository:
    """Two commits: the first with ``old`` in a file, the second with ``new``, both with a dotted folder."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "clone" / ".git" / "config"
    config.write_text(config.read_text(encoding="utf-8").replace(str(template), str(tmp_path)), encoding="utf-8")
    git("update-index", "--refresh", cwd=tmp_path / "clone")  # the copies have times of their own
    return Repository(hub=tmp_path / "hub.git", clone=tmp_path / "clone")


@pytest.fixture
def user_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The git configuration of the user, empty."""
    path = tmp_path / "user.gitconfig"
    path.touch()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(path))
    return path


def first_commit(repository: Repository) -> str:
    return git("rev-parse", "main~1", cwd=repository.clone)


def commit_on_no_branch(repository: Repository) -> str:
    """A commit that the hub and the clone still have, and that no branch or tag leads to."""
    commit = repository.commit({"README": "lost"})
    git("reset", "--quiet", "--hard", "HEAD~1", cwd=repository.clone)
    git("push", "--quiet", "--force", "origin", "HEAD:main", cwd=repository.clone)
    return commit


def state_of(*folders: Path) -> dict[str, str]:
    """Kind and content of everything below the folders: files of git's own, the index and HEAD included."""
    state = {}
    for path in sorted(path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink():
            state[str(path)] = f"-> {path.readlink()}"
        elif path.is_file():
            state[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            state[str(path)] = "folder"
    return state


def fetch(uri: str, commit: str, place: Path, *, subdirectory: str = "", submodules: bool = False) -> list[str]:
    """Check ``commit`` out into the new folder ``place``, and what belongs to it."""
    source = Source(uri=uri, commit=commit, subdirectory=subdirectory)
    checkout(source, place)
    check_subdirectory(place, source)
    return restore_working_tree(source, place, None, recurse_submodules=submodules)


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """A port of loopback that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server, server.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with listening() as (_, port):
        return port


FORMS: dict[str, Callable[[Repository], str]] = {
    "path": lambda repo: str(repo.clone),
    "path-with-a-slash": lambda repo: f"{repo.clone}/",
    "file-uri": lambda repo: repo.clone.as_uri(),
    "bare-path": lambda repo: str(repo.hub),
    "bare-file-uri": lambda repo: repo.hub.as_uri(),
    "git-folder": lambda repo: str(repo.clone / ".git"),
}


class TestCheckout:
    """A recorded commit in a place of our own."""

    @pytest.mark.parametrize("form", FORMS)
    def test_leaves_the_users_repository_as_it_is(self, repo: Repository, tmp_path: Path, form: str):
        """URI-07, URI-08, URI-09: HEAD, index, refs, configuration, remotes, files, no .git/shallow; dirty or not."""
        (repo.clone / "README").write_text("edited", encoding="utf-8")
        (repo.clone / "untracked").write_text("x", encoding="utf-8")
        before = state_of(repo.clone, repo.hub)
        commit = first_commit(repo)
        caveats = fetch(FORMS[form](repo), commit, tmp_path / "place", subdirectory=DOTTED)
        assert state_of(repo.clone, repo.hub) == before
        assert not (repo.clone / ".git" / "shallow").exists()
        assert git("rev-parse", "HEAD", cwd=tmp_path / "place") == commit
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "old"
        assert git("status", "--porcelain", cwd=tmp_path / "place") == ""
        assert caveats == []

    def test_over_http(self, repo: Repository, tmp_path: Path):
        with serve_git(tmp_path) as url:
            fetch(f"{url}/hub.git", first_commit(repo), tmp_path / "place")
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "old"

    @pytest.mark.parametrize("form", ["path", "bare-path"])
    def test_commit_on_no_branch(self, repo: Repository, tmp_path: Path, form: str):
        """URI-06: it is still there, so it can be had."""
        commit = commit_on_no_branch(repo)
        fetch(FORMS[form](repo), commit, tmp_path / "place")
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "lost"

    def test_server_that_gives_out_only_the_tips_of_branches(self, repo: Repository, tmp_path: Path, user_config: Path):
        """The old protocol refuses a commit that is not a tip: then the whole history is fetched."""
        user_config.write_text("[protocol]\n\tversion = 0\n", encoding="utf-8")
        fetch(str(repo.hub), first_commit(repo), tmp_path / "place")
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "old"

    @pytest.mark.parametrize("commit", [MISSING, MISSING[:9]], ids=["full", "short"])
    @pytest.mark.parametrize("form", ["path", "bare-file-uri"])
    def test_commit_that_is_not_there(self, repo: Repository, tmp_path: Path, form: str, commit: str):
        """URI-06: exit 3, with the commit and the place."""
        uri = FORMS[form](repo)
        with pytest.raises(CannotJudgeError) as caught:
            fetch(uri, commit, tmp_path / "place")
        assert commit[:9] in caught.value.message
        assert uri in caught.value.message

    def test_repository_without_commits(self, repository: Repository, tmp_path: Path):
        with pytest.raises(CannotJudgeError, match=MISSING[:12]):
            fetch(str(repository.hub), MISSING, tmp_path / "place")

    def test_short_commit(self, repo: Repository, tmp_path: Path):
        """URI-05."""
        commit = first_commit(repo)
        fetch(str(repo.hub), commit[:7], tmp_path / "place")
        assert git("rev-parse", "HEAD", cwd=tmp_path / "place") == commit

    def test_ambiguous_short_commit(self, repo: Repository, tmp_path: Path):
        """URI-05: exit 2."""
        one, other = colliding_commits(repo.clone)
        git("push", "--quiet", "origin", f"{one}:refs/heads/one", f"{other}:refs/heads/other", cwd=repo.clone)
        with pytest.raises(UsageError, match="ambiguous"):
            fetch(str(repo.hub), one[:7], tmp_path / "place")
        fetch(str(repo.hub), one, tmp_path / "whole")
        assert git("rev-parse", "HEAD", cwd=tmp_path / "whole") == one

    def test_tag_with_the_name_of_a_commit_is_not_that_commit(self, repo: Repository, tmp_path: Path):
        """URI-21: what is checked out is what was recorded, or nothing."""
        commit = first_commit(repo)
        git("push", "--quiet", "origin", f"HEAD:refs/tags/{MISSING[:9]}", cwd=repo.clone)
        with pytest.raises(CannotJudgeError):
            fetch(str(repo.hub), MISSING[:9], tmp_path / "place")
        git("push", "--quiet", "origin", f"HEAD:refs/tags/{commit[:9]}", cwd=repo.clone)
        fetch(str(repo.hub), commit[:9], tmp_path / "other")
        assert git("rev-parse", "HEAD", cwd=tmp_path / "other") == commit

    @pytest.mark.parametrize("name", ["a b", "Zürich 東京", "it's", "$HOME", "-x", "a%20b", "a:b"])
    def test_path_with_any_name(self, repo: Repository, tmp_path: Path, name: str):
        place = tmp_path / name
        repo.hub.rename(place)
        commit = first_commit(repo)
        for number, uri in enumerate((str(place), place.as_uri())):
            fetch(uri, commit, tmp_path / str(number))
            assert git("rev-parse", "HEAD", cwd=tmp_path / str(number)) == commit

    def test_shallow_repository(self, repo: Repository, tmp_path: Path):
        git("clone", "--quiet", "--depth=1", repo.hub.as_uri(), "shallow", cwd=tmp_path)
        commit = git("rev-parse", "HEAD", cwd=repo.clone)
        fetch(str(tmp_path / "shallow"), commit, tmp_path / "place")
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "new"

    def test_worktree_of_a_repository(self, repo: Repository, tmp_path: Path):
        git("worktree", "add", "--quiet", "--detach", str(tmp_path / "tree"), cwd=repo.clone)
        before = state_of(repo.clone, tmp_path / "tree")
        fetch(str(tmp_path / "tree"), first_commit(repo), tmp_path / "place")
        assert state_of(repo.clone, tmp_path / "tree") == before
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "old"

    def test_surrounding_git_command_does_not_redirect_it(
        self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """A hook or an alias leaves GIT_DIR and the like in the environment."""
        for name, value in (("GIT_DIR", ".git"), ("GIT_WORK_TREE", "."), ("GIT_INDEX_FILE", ".git/index")):
            monkeypatch.setenv(name, str(repo.clone / value))
        before = state_of(repo.clone)
        fetch(str(repo.hub), run_git(["rev-parse", "main~1"], cwd=repo.clone), tmp_path / "place")
        assert state_of(repo.clone) == before
        assert (tmp_path / "place" / "README").read_text(encoding="utf-8") == "old"


def colliding_commits(repository: Path) -> tuple[str, str]:
    """Two commits whose names begin with the same seven digits, made in the repository's object store."""
    tree = git("rev-parse", "HEAD^{tree}", cwd=repository)
    seen: dict[str, bytes] = {}
    for number in itertools.count():
        body = f"tree {tree}\nauthor a <a@b> 0 +0000\ncommitter a <a@b> 0 +0000\n\n{number}\n".encode()
        name = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()  # noqa: S324 - git's own hash
        twin = seen.setdefault(name[:7], body)
        if twin is not body:
            break
    names = []
    for number, content in enumerate((twin, body)):
        file = repository / f"commit{number}"
        file.write_bytes(content)
        names.append(git("hash-object", "-t", "commit", "-w", "--no-filters", str(file), cwd=repository))
    return names[0], names[1]


class TestSubdirectory:
    """The project's folder in the checkout."""

    def test_with_dots(self, repo: Repository, tmp_path: Path):
        """URI-10."""
        fetch(str(repo.hub), first_commit(repo), tmp_path / "place", subdirectory=DOTTED)
        source = Source(uri=str(repo.hub), commit=MISSING, subdirectory=DOTTED)
        assert check_subdirectory(tmp_path / "place", source) == tmp_path / "place" / DOTTED

    @pytest.mark.parametrize("subdirectory", ["missing", "README", f"{DOTTED}/MLproject"])
    def test_that_is_none(self, repo: Repository, tmp_path: Path, subdirectory: str):
        """URI-10: exit 2."""
        with pytest.raises(UsageError, match="has no folder") as caught:
            fetch(str(repo.hub), first_commit(repo), tmp_path / "place", subdirectory=subdirectory)
        assert "#subdirectory" in caught.value.hint

    @pytest.mark.parametrize("target", ["/etc", "../..", "a/../../.."])
    def test_that_is_a_link_out_of_the_repository(self, repo: Repository, tmp_path: Path, target: str):
        """URI-11: exit 6."""
        (repo.clone / "a").mkdir()
        (repo.clone / "link").symlink_to(target)
        commit = repo.commit({"a/file": "x"})
        with pytest.raises(RefusedError, match="leaves the repository"):
            fetch(str(repo.hub), commit, tmp_path / "place", subdirectory="link")

    def test_that_is_a_link_within_the_repository(self, repo: Repository, tmp_path: Path):
        (repo.clone / "link").symlink_to("python")
        commit = repo.commit({"x": "x"})
        fetch(str(repo.hub), commit, tmp_path / "place", subdirectory="link/v1.0")
        assert (tmp_path / "place" / "link" / "v1.0").is_dir()


class TestUnreachable:
    """Exit 5, in seconds, with what to do and without a secret."""

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            ("{root}/nothing", "no git repository is there"),
            ("file://{root}/nothing.git", "no git repository is there"),
            ("{root}", "no git repository is there"),
            ("http://127.0.0.1:{port}/r.git", "the host does not answer"),
            ("git://127.0.0.1:{port}/r.git", "the host does not answer"),
        ],
    )
    def test_place(self, tmp_path: Path, closed_port: int, uri: str, words: str):
        uri = uri.format(root=tmp_path, port=closed_port)
        start = time.monotonic()
        with pytest.raises(UnreachableError) as caught:
            fetch(uri, MISSING, tmp_path / "place")
        assert caught.value.message == f"cannot fetch {uri}: {words}"
        assert caught.value.hint == "check --uri"
        assert time.monotonic() - start < 10

    def test_repository_that_needs_credentials(self, tmp_path: Path):
        """URI-13: no prompt, and what to set up."""
        with answering_401() as port, pytest.raises(UnreachableError, match="needs credentials") as caught:
            fetch(f"http://127.0.0.1:{port}/r.git", MISSING, tmp_path / "place")
        assert "credential helper" in caught.value.hint

    def test_server_that_never_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """URI-14: git's helper processes end with it."""
        monkeypatch.setattr(checkout_module, "FETCH_TIMEOUT", 1.0)
        start = time.monotonic()
        with listening() as (_, port), pytest.raises(UnreachableError, match="did not answer within 1 s"):
            fetch(f"http://127.0.0.1:{port}/r.git", MISSING, tmp_path / "place")
        assert time.monotonic() - start < 10

    @pytest.mark.parametrize(
        "uri",
        [
            f"http://user:{CANARY}@127.0.0.1:{{port}}/r.git",
            f"http://{CANARY}@127.0.0.1:{{port}}/r.git",
            f"http://127.0.0.1:{{port}}/r.git?private_token={CANARY}",
            f"file://user:{CANARY}@localhost/nothing",
        ],
    )
    def test_message_holds_no_credentials(self, tmp_path: Path, closed_port: int, uri: str):
        """URI-12: neither the message nor git's own words."""
        with pytest.raises(ReproError) as caught:
            fetch(uri.format(port=closed_port), MISSING, tmp_path / "place")
        cause = caught.value.__cause__
        assert CANARY not in f"{caught.value} {caught.value.hint} {cause} {getattr(cause, 'stderr', '')}"

    @pytest.mark.usefixtures("repo")
    def test_message_about_a_missing_commit_holds_no_credentials(self, tmp_path: Path):
        with serve_git(tmp_path) as url, pytest.raises(CannotJudgeError) as caught:
            fetch(url.replace("://", f"://user:{CANARY}@") + "/hub.git", MISSING, tmp_path / "place")
        assert CANARY not in str(caught.value)

    def test_number_in_an_address_is_no_status_code(self):
        """A port such as 40123 or a path such as /404 says nothing about what the server answered."""
        words = "fatal: unable to access 'http://127.0.0.1:{}/': Failed to connect to 127.0.0.1 port {}"
        for number in (40123, 14010, 4040):
            error = GitError("git fetch failed", stderr=words.format(number, number) + ": Connection refused")
            assert "the host does not answer" in str(explain_fetch_error(error, "http://h"))
        error = GitError("failed", stderr="fatal: unable to access 'http://h/404/': Connection refused")
        assert "the host does not answer" in str(explain_fetch_error(error, "http://h"))


@contextmanager
def answering_401() -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class TestUsersConfiguration:
    """What the user set up for git is theirs: it neither runs nor shows in what we do."""

    def test_hooks_are_not_run(self, repo: Repository, tmp_path: Path, user_config: Path):
        """URI-17: neither those of core.hooksPath nor those that the template of new repositories brings."""
        commit = first_commit(repo)
        for folder in ("hooks", "template/hooks"):
            for name in ("post-checkout", "reference-transaction", "post-index-change"):
                hook = tmp_path / folder / name
                hook.parent.mkdir(parents=True, exist_ok=True)
                hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n", encoding="utf-8")
                hook.chmod(0o755)
        for lines in (f"[core]\n\thooksPath = {tmp_path}/hooks\n", f"[init]\n\ttemplateDir = {tmp_path}/template\n"):
            user_config.write_text(lines, encoding="utf-8")
            fetch(str(repo.hub), commit, tmp_path / f"place{len(lines)}")
            describe_worktree(repo.clone)
        assert not (tmp_path / "ran").exists()

    def test_rewritten_address_is_not_recorded(self, repo: Repository, tmp_path: Path, user_config: Path):
        """CAP-18: url.*.insteadOf may hold a token; it is used for fetching and shown nowhere."""
        secret = tmp_path / CANARY
        repo.hub.rename(secret)
        user_config.write_text(f'[url "{secret}"]\n\tinsteadOf = https://host.invalid/r.git\n', encoding="utf-8")
        git("remote", "set-url", "origin", "https://host.invalid/r.git", cwd=repo.clone)
        assert describe_worktree(repo.clone).uri == "https://host.invalid/r.git"
        fetch("https://host.invalid/r.git", first_commit(repo), tmp_path / "place")
        assert git("config", "remote.origin.url", cwd=tmp_path / "place") == "https://host.invalid/r.git"
        assert CANARY not in (tmp_path / "place/.git/config").read_text(encoding="utf-8")
        with pytest.raises(CannotJudgeError) as caught:
            fetch("https://host.invalid/r.git", MISSING, tmp_path / "other")
        assert CANARY not in str(caught.value)

    def test_credentials_of_the_uri_are_not_left_in_the_checkout(self, repo: Repository, tmp_path: Path):
        """They serve the fetch; what runs in the checkout does not get them."""
        with serve_git(tmp_path) as url:
            uri = url.replace("://", f"://user:{CANARY}@") + "/hub.git"
            fetch(uri, first_commit(repo), tmp_path / "place")
        git_folder = tmp_path / "place" / ".git"
        assert git("config", "remote.origin.url", cwd=tmp_path / "place") == f"{url}/hub.git"
        texts = [path.read_bytes() for path in git_folder.rglob("*") if path.is_file()]
        assert not any(CANARY.encode() in text for text in texts)

    def test_taste_does_not_change_what_is_read(self, repo: Repository, user_config: Path):
        """CAP-20 and more: colours, prefixes, short status, hidden untracked files, a monitor that cannot run."""
        (repo.clone / "untracked").touch()
        expected = describe_worktree(repo.clone)
        user_config.write_text(
            "[color]\n\tui = always\n\tstatus = always\n[diff]\n\tnoprefix = true\n\texternal = false\n"
            "[status]\n\tshort = true\n\tbranch = false\n\tshowUntrackedFiles = no\n\tshowStash = true\n"
            "[core]\n\tfsmonitor = /nonexistent\n\tquotePath = true\n\tpager = false\n",
            encoding="utf-8",
        )
        assert expected.is_dirty
        assert describe_worktree(repo.clone) == expected


class TestPointers:
    """URI-18: files whose content is elsewhere."""

    LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 9\n"
    ANNEX = f"/annex/objects/SHA256E-s1048576--{'0' * 64}\n"

    def test_files_that_came_without_their_content_are_said(self, repo: Repository, tmp_path: Path):
        """Without git-lfs git has nothing else to give; nor have DVC and git-annex been asked."""
        (repo.clone / "link.bin").symlink_to(".git/annex/objects/aa/bb/SHA256E-s5--00/SHA256E-s5--00")
        commit = repo.commit(
            {
                ".gitattributes": "*.bin filter=lfs\n",
                "model.bin": self.LFS,
                "other.bin": "content",
                **{f"stray{number}.dat": self.LFS for number in range(3)},
                "unlocked.dat": self.ANNEX,
                "data.csv.dvc": "outs:\n- path: data.csv\n",
                "there.csv.dvc": "outs:\n- path: there.csv\n",
                "there.csv": "1,2\n",
                "dvc.lock": "schema: '2.0'\n",
            }
        )
        caveats = fetch(str(repo.hub), commit, tmp_path / "place")
        own_way = "nothing here fetches them; commit them, or read them from outside of the repository"
        named = "model.bin, stray0.dat, stray1.dat, and 1 more"
        assert caveats == [
            f"4 files are Git-LFS pointers without their content ({named}): install git-lfs",
            f"1 files are DVC pointers without their content (data.csv.dvc): {own_way}",
            f"2 files are git-annex pointers without their content (link.bin, unlocked.dat): {own_way}",
        ]

    def test_a_repository_without_any_is_left_in_peace(self, repo: Repository, tmp_path: Path):
        commit = repo.commit({"a.txt": "x" * 130, "empty.txt": "", ".dvc/config": ""})
        assert fetch(str(repo.hub), commit, tmp_path / "place") == []


class TestSubmodules:
    """Off by default: their addresses are data of the repository (URI-15)."""

    @pytest.fixture
    def with_submodule(self, repo: Repository, tmp_path: Path) -> Callable[[str], str]:
        """A function that commits a submodule with the given URL and returns the commit."""
        inner = tmp_path / "inner"
        git("init", "--quiet", str(inner), cwd=tmp_path)
        (inner / "file").write_text("inner", encoding="utf-8")
        git("add", "--all", cwd=inner)
        git("commit", "--quiet", "--message=inner", cwd=inner)

        def commit(url: str) -> str:
            git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "sub", cwd=repo.clone)
            git("config", "--file", ".gitmodules", "submodule.sub.url", url, cwd=repo.clone)
            return repo.commit({"more": "x"})

        return commit

    def test_are_not_fetched_and_that_is_said(self, repo: Repository, tmp_path: Path, with_submodule):
        commit = with_submodule(str(tmp_path / "inner"))
        (caveat,) = fetch(str(repo.hub), commit, tmp_path / "place")
        assert "--recurse-submodules" in caveat
        assert list((tmp_path / "place" / "sub").iterdir()) == []

    def test_are_fetched_when_asked_for(self, repo: Repository, tmp_path: Path, with_submodule):
        """From a repository on this machine, submodules on this machine are allowed."""
        commit = with_submodule(str(tmp_path / "inner"))
        assert fetch(str(repo.hub), commit, tmp_path / "place", submodules=True) == []
        assert (tmp_path / "place" / "sub" / "file").read_text(encoding="utf-8") == "inner"

    @pytest.mark.parametrize("url", ["ext::sh -c 'touch {root}/pwned'", "file://{root}/inner", "{root}/inner"])
    def test_of_a_remote_repository_may_not_point_here(self, tmp_path: Path, with_submodule, url: str):
        """Exit 6: neither a command nor a file of this machine."""
        commit = with_submodule(url.format(root=tmp_path))
        with serve_git(tmp_path) as server, pytest.raises(RefusedError, match="submodule"):
            fetch(f"{server}/hub.git", commit, tmp_path / "place", submodules=True)
        assert not (tmp_path / "pwned").exists()

    def test_of_a_local_repository_may_not_run_a_command(self, repo: Repository, tmp_path: Path, with_submodule):
        commit = with_submodule(f"ext::sh -c 'touch {tmp_path}/pwned'")
        with pytest.raises(RefusedError, match="submodule"):
            fetch(str(repo.hub), commit, tmp_path / "place", submodules=True)
        assert not (tmp_path / "pwned").exists()

    def test_hook_smuggled_into_gits_own_folder_is_not_run(self, repo: Repository, tmp_path: Path, with_submodule):
        """URI-16: a path that ends in a carriage return, and a link where it would lie without (CVE-2025-48384)."""
        hook = tmp_path / "inner" / "post-checkout"
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n", encoding="utf-8")
        hook.chmod(0o755)
        git("add", "--all", cwd=tmp_path / "inner")
        git("commit", "--quiet", "--message=hook", cwd=tmp_path / "inner")
        with_submodule(str(tmp_path / "inner"))
        git("mv", "sub", "sub\r", cwd=repo.clone)
        git("config", "--file", ".gitmodules", "submodule.sub.path", "sub\r", cwd=repo.clone)
        (repo.clone / "sub").symlink_to(".git/modules/sub/hooks")
        commit = repo.commit({"more": "y"})
        with suppress(ReproError):
            fetch(str(repo.hub), commit, tmp_path / "place", submodules=True)
        fetch(str(repo.hub), commit, tmp_path / "other")
        assert not (tmp_path / "pwned").exists()


class TestDescribe:
    """What a working tree says of itself."""

    def test_clean_clone(self, repo: Repository):
        tree = describe_worktree(repo.clone)
        assert tree.top == str(repo.clone)
        assert tree.commit == git("rev-parse", "HEAD", cwd=repo.clone)
        assert tree.branch == "main"
        assert tree.remotes == {"origin": str(repo.hub)}
        assert tree.uri == str(repo.hub)
        assert not tree.is_dirty

    def test_from_a_subdirectory(self, repo: Repository):
        assert describe_worktree(repo.clone / DOTTED) == describe_worktree(repo.clone)

    @pytest.mark.parametrize("change", ["staged", "unstaged", "untracked", "deleted", "mode", "renamed"])
    def test_uncommitted_change_is_dirty(self, repo: Repository, change: str):
        readme = repo.clone / "README"
        actions: dict[str, Callable[[], object]] = {
            "staged": lambda: (readme.write_text("x"), git("add", "README", cwd=repo.clone)),
            "unstaged": lambda: readme.write_text("x"),
            "untracked": (repo.clone / "more").touch,
            "deleted": readme.unlink,
            "mode": lambda: readme.chmod(0o755),
            "renamed": lambda: git("mv", "README", "README.md", cwd=repo.clone),
        }
        actions[change]()
        assert describe_worktree(repo.clone).is_dirty

    def test_ignored_file_is_not_dirty(self, repo: Repository):
        repo.commit({".gitignore": "mlruns/\n"})
        (repo.clone / "mlruns").mkdir()
        (repo.clone / "mlruns" / "x").touch()
        assert not describe_worktree(repo.clone).is_dirty

    def test_stash_is_not_dirty(self, repo: Repository):
        (repo.clone / "README").write_text("x", encoding="utf-8")
        git("stash", cwd=repo.clone)
        assert not describe_worktree(repo.clone).is_dirty

    def test_detached_head_has_no_branch(self, repo: Repository):
        """CAP-16."""
        git("checkout", "--quiet", "--detach", "HEAD~1", cwd=repo.clone)
        tree = describe_worktree(repo.clone)
        assert (tree.commit, tree.branch) == (git("rev-parse", "main~1", cwd=repo.clone), "")

    def test_repository_without_commits_has_none(self, repository: Repository):
        """CAP-16."""
        tree = describe_worktree(repository.clone)
        assert (tree.commit, tree.branch) == ("", "main")

    def test_worktree(self, repo: Repository, tmp_path: Path):
        """CAP-16."""
        git("worktree", "add", "--quiet", "-b", "side/branch", str(tmp_path / "tree"), cwd=repo.clone)
        tree = describe_worktree(tmp_path / "tree")
        assert (tree.top, tree.branch, tree.uri) == (str(tmp_path / "tree"), "side/branch", str(repo.hub))

    @pytest.mark.parametrize("name", ["a b", "Zürich 東京", "it's", '"', "-x", "new\nline"], ids=repr)
    def test_folder_with_any_name(self, repo: Repository, tmp_path: Path, name: str):
        repo.clone.rename(tmp_path / name)
        assert describe_worktree(tmp_path / name).top == str(tmp_path / name)

    def test_folder_whose_name_is_not_utf8(self, repo: Repository, tmp_path: Path):
        """CAP-06."""
        place = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
        repo.clone.rename(place)
        assert describe_worktree(place).top == place

    @pytest.mark.parametrize(
        ("remotes", "upstream", "uri"),
        [
            pytest.param({"origin": "https://h/o", "up": "https://h/u"}, "up", "https://h/u", id="of-the-branch"),
            pytest.param({"a": "https://h/a", "origin": "https://h/o"}, "", "https://h/o", id="origin"),
            pytest.param({"b": "https://h/b", "a": "https://h/a"}, "", "https://h/a", id="any-other"),
            pytest.param({"origin": "git@h:r.git"}, "", "git@h:r.git", id="scp"),
            pytest.param({"origin": "../other.git"}, "", "{root}/other.git", id="relative-path"),
            pytest.param({"origin": f"https://u:{CANARY}@h/r"}, "", "https://h/r", id="CAP-17-user-information"),
            pytest.param({"origin": f"https://h/r?token={CANARY}#x"}, "", "https://h/r", id="CAP-17-query"),
            pytest.param({}, "", "file://{root}/clone", id="none"),
        ],
    )
    def test_where_others_get_it(self, repo: Repository, remotes: dict[str, str], upstream: str, uri: str):
        """CAP-19: the branch's remote, else origin, else the first by name, else this folder; no credentials."""
        git("remote", "remove", "origin", cwd=repo.clone)
        for name, url in remotes.items():
            git("remote", "add", name, url, cwd=repo.clone)
        if upstream:
            git("config", "branch.main.remote", upstream, cwd=repo.clone)
        assert describe_worktree(repo.clone).uri == uri.format(root=repo.clone.parent)

    def test_leaves_the_repository_as_it_is(self, repo: Repository):
        """Not even the index is refreshed, though the time of a file has changed."""
        os.utime(repo.clone / "README", (1, 1))
        before = state_of(repo.clone)
        assert not describe_worktree(repo.clone).is_dirty
        assert state_of(repo.clone) == before

    def test_surrounding_git_command_does_not_redirect_it(
        self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("GIT_DIR", str(tmp_path / "hub.git"))
        assert describe_worktree(repo.clone).top == str(repo.clone)

    @pytest.mark.parametrize(
        ("place", "variable", "kind"),
        [
            pytest.param("..", "X=", "no-repository", id="no-repository"),
            pytest.param("nothing", "X=", "no-directory", id="no-directory"),
            pytest.param(".", "PATH=/nonexistent", "no-git", id="CAP-14-no-git"),
            pytest.param(".", "GIT_TEST_ASSUME_DIFFERENT_OWNER=1", "dubious-ownership", id="CAP-13-other-owner"),
        ],
    )
    def test_what_cannot_be_described(
        self, repo: Repository, monkeypatch: pytest.MonkeyPatch, place: str, variable: str, kind: str
    ):
        name, _, value = variable.partition("=")
        monkeypatch.setenv(name, value)
        with pytest.raises(GitError) as caught:
            describe_worktree(repo.clone / place)
        assert caught.value.kind == kind
        assert "\n" not in str(caught.value)

    def test_git_that_never_answers_is_given_up(
        self, repo: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """CAP-28: with its children, which hold the pipe that we read."""
        script = tmp_path / "bin" / "git"
        script.parent.mkdir()
        script.write_text("#!/bin/sh\nsleep 60\nexit 0\n", encoding="utf-8")
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
        start = time.monotonic()
        with pytest.raises(GitError) as caught:
            describe_worktree(repo.clone, timeout=0.2)
        assert caught.value.kind == "timeout"
        assert time.monotonic() - start < 5
