"""Git URIs: what is accepted, what is refused, and what is taken out (group URI of the table of faults)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.errors import RefusedError, ReproError, UsageError
from mlflow_repro.text.giturl import (
    GitUri,
    check_commit,
    local_path,
    normalise_subdirectory,
    parse_git_uri,
    strip_credentials,
)

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "s3cr3t-canary"

# Pieces that git and URL readers treat specially, so that random URIs reach the corners.
pieces = st.sampled_from(
    ("https://", "ssh://", "file://", "git+", "ext::", ":", "/", "#", "@", "[", "]", "..", "-", "'", " ", "%00", "~")
)
uri_texts = st.text() | st.lists(pieces | st.text(max_size=3), max_size=8).map("".join)


@given(uri_texts)
def test_any_text_is_a_uri_or_a_clear_error(text: str):
    """URI-19: nothing but UsageError and RefusedError, in the reading and in what is asked of the result."""
    try:
        uri = parse_git_uri(text)
    except (UsageError, RefusedError):
        return
    assert uri.repository
    assert uri.is_local is (local_path(uri.repository) is not None)
    assert strip_credentials(uri.repository)


@given(uri_texts)
def test_a_clean_uri_stays_as_it_is(text: str):
    """Taking the credentials out twice is taking them out once."""
    try:
        repository = parse_git_uri(text).repository
    except ReproError:
        return
    clean = strip_credentials(repository)
    assert strip_credentials(clean) == clean


@pytest.mark.parametrize(
    ("text", "repository", "subdirectory"),
    [
        ("https://host/repo.git", "https://host/repo.git", None),
        ("https://host/repo.git#", "https://host/repo.git", ""),
        ("https://host/repo.git#python/sklearn", "https://host/repo.git", "python/sklearn"),
        ("git+https://host/repo.git#a", "https://host/repo.git", "a"),
        ("ssh://git@host:22/repo.git#a", "ssh://git@host:22/repo.git", "a"),
        ("git@host:group/repo.git#a", "git@host:group/repo.git", "a"),
        ("host:repo", "host:repo", None),
        ("git://host/repo", "git://host/repo", None),
        ("file:///srv/repo.git#a", "file:///srv/repo.git", "a"),
        ("/srv/repo#a", "/srv/repo", "a"),
        ("../repo", "../repo", None),
        (".", ".", None),
        pytest.param("https://h/r#v1.0/a.b", "https://h/r", "v1.0/a.b", id="URI-10-dots-in-names"),
        pytest.param("https://h/r#a//b/./c/", "https://h/r", "a/b/c", id="URI-10-normalised"),
        pytest.param("https://h/r#a#b", "https://h/r", "a#b", id="URI-19-two-hashes"),
        pytest.param("'https://h/r#a b'", "https://h/r", "a b", id="URI-19-quotes-and-space"),
        pytest.param("/srv/Zürich 東京/r", "/srv/Zürich 東京/r", None, id="URI-19-unicode"),
        pytest.param("HTTPS://h/r", "HTTPS://h/r", None, id="scheme-in-capitals"),
        pytest.param("https://[::1]:8080/r", "https://[::1]:8080/r", None, id="ipv6"),
    ],
)
def test_accepted_forms(text: str, repository: str, subdirectory: str | None):
    assert parse_git_uri(text) == GitUri(repository=repository, subdirectory=subdirectory)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ext::sh -c 'touch pwned'", id="URI-01-ext"),
        pytest.param("ext://host/x", id="URI-01-ext-scheme"),
        pytest.param("fd::17", id="URI-01-fd"),
        pytest.param("git+ext::sh -c x", id="URI-01-ext-behind-a-prefix"),
        pytest.param("git+git+ext::sh -c x", id="URI-01-ext-behind-two-prefixes"),
        pytest.param("' ext::sh'", id="URI-01-ext-in-quotes"),
        pytest.param("EXT::sh", id="URI-01-ext-in-capitals"),
        pytest.param("https::https://h/r", id="URI-01-helper"),
        pytest.param("ftp://h/r", id="URI-01-ftp"),
        pytest.param("javascript://h/r", id="URI-01-javascript"),
        pytest.param("--upload-pack=touch pwned", id="URI-02-option"),
        pytest.param("-u", id="URI-02-short-option"),
        pytest.param("git+--upload-pack=x", id="URI-02-option-behind-a-prefix"),
        pytest.param("ssh://-oProxyCommand=touch${IFS}pwned/r", id="URI-02-option-as-host"),
        pytest.param("ssh://git@-oProxyCommand=x/r", id="URI-02-option-as-host-of-a-user"),
        pytest.param("git@-oProxyCommand:r", id="URI-02-option-as-scp-host"),
        pytest.param("https://h/r#../x", id="URI-10-climbs"),
        pytest.param("https://h/r#a/../../x", id="URI-10-climbs-later"),
        pytest.param("https://h/r#a\\..\\..\\x", id="URI-10-climbs-by-backslash"),
        pytest.param("https://h/r#/etc", id="URI-10-absolute"),
        pytest.param("https://h/r#C:/x", id="URI-10-drive"),
        pytest.param("https://h/r#~/x", id="URI-10-home"),
        pytest.param("https://h/r#.git/hooks", id="URI-10-git"),
        pytest.param("https://h/r#.GIT", id="URI-10-git-in-capitals"),
    ],
)
def test_refused_before_git_is_started(text: str):
    """Exit 6: it could run a command, or leave the checkout."""
    with pytest.raises(RefusedError) as caught:
        parse_git_uri(text)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("  ''  ", id="nothing-in-quotes"),
        pytest.param("#python", id="only-a-subdirectory"),
        pytest.param("https://", id="no-host"),
        pytest.param("file:///", id="no-path"),
        pytest.param("https://[::1/r", id="half-an-ipv6-host"),
        pytest.param("https://h/r\nx", id="URI-19-newline"),
        pytest.param("https://h/r\x1b[31m", id="URI-19-escape"),
        pytest.param("/srv/a\0b", id="URI-19-nul"),
        pytest.param("file:///tmp/a%00b", id="URI-19-nul-in-percent"),
        pytest.param("https://h/" + "x" * 5000, id="URI-19-5000-characters"),
        pytest.param("https://h/archive.zip", id="URI-20-zip"),
        pytest.param("/data/Project.ZIP#a", id="URI-20-local-zip"),
    ],
)
def test_no_git_uri(text: str):
    """Exit 2."""
    with pytest.raises(UsageError) as caught:
        parse_git_uri(text)
    assert len(str(caught.value)) < 300
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        f"ftp://user:{CANARY}@host/r",
        f"ext::https://user:{CANARY}@host/r",
        f"-https://user:{CANARY}@host/r",
        f"https://user:{CANARY}@host/r\n",
        f"https://user:{CANARY}@host/r#../x?private_token={CANARY}",
        f"ftp://host/r?private_token={CANARY}",
    ],
)
def test_messages_about_a_uri_hold_no_credentials(text: str):
    """URI-12."""
    with pytest.raises(ReproError) as caught:
        parse_git_uri(text + ("\x01" if text.endswith("\n") else ""))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("repository", "clean"),
    [
        (f"https://user:{CANARY}@host/r.git", "https://host/r.git"),
        (f"https://{CANARY}@host:8443/r.git", "https://host:8443/r.git"),
        (f"https://host/r.git?private_token={CANARY}", "https://host/r.git"),
        (f"https://user:p@{CANARY}@host/r.git", "https://host/r.git"),
        (f"ssh://git:{CANARY}@host/r.git", "ssh://git@host/r.git"),
        ("ssh://git@host:22/r.git", "ssh://git@host:22/r.git"),
        ("git@host:group/r.git", "git@host:group/r.git"),
        ("https://[::1]:80/r.git", "https://[::1]:80/r.git"),
        ("file:///srv/a b", "file:///srv/a b"),
        ("/srv/repo", "/srv/repo"),
    ],
)
def test_credentials_are_stripped(repository: str, clean: str):
    """CAP-17: user information and query; the user of ssh is part of the address."""
    assert strip_credentials(repository) == clean


@pytest.mark.parametrize(
    ("repository", "path"),
    [
        ("https://h/r", None),
        ("git@h:r", None),
        ("file://otherhost/r", None),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file://localhost/srv/r", "/srv/r"),
        ("FILE:///srv/r", "/srv/r"),
        ("/srv/r", "/srv/r"),
    ],
)
def test_local_path(repository: str, path: str | None):
    assert local_path(repository) == path


def test_relative_path_is_taken_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("sub/../repo") == str(tmp_path / "repo")
    assert parse_git_uri("repo#x").absolute == str(tmp_path / "repo")
    assert local_path("~/repo") == str(tmp_path / "repo")


@pytest.mark.parametrize("repository", ["https://h/r", "git@h:r", "file:///srv/r", "/srv/r"])
def test_address_that_means_the_same_everywhere_stays(repository: str):
    assert parse_git_uri(repository).absolute == repository


def test_existing_folder_with_a_colon_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """``host:path`` is ssh, unless there is such a folder: git decides in the same way."""
    monkeypatch.chdir(tmp_path)
    assert local_path("a:b") is None
    os.mkdir("a:b")
    assert local_path("a:b") == str(tmp_path / "a:b")


@pytest.mark.parametrize("commit", ["abcdef0", "ABCDEF0123", "0" * 40, "f" * 64])
def test_commit_is_hexadecimal(commit: str):
    assert check_commit(commit) == commit.lower()


@pytest.mark.parametrize(
    "commit",
    ["", "abcdef", "-f", "--help", "a:b", "+main", "a..b", "@{-1}", " abcdef0", "abcdef0\n", "HEAD~1", "main",
     "g" * 40, "0" * 65],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_no_commit(commit: str):
    """URI-04: exit 2, in one line, before git is started."""
    with pytest.raises(UsageError) as caught:
        check_commit(commit)
    assert "\n" not in str(caught.value)


def test_option_smuggled_in_as_a_commit_is_refused():
    """URI-03: older versions of GitPython ran it."""
    with pytest.raises(RefusedError):
        check_commit("--upload-pack=touch pwned;git-upload-pack")


@given(st.text())
def test_any_text_is_a_commit_or_a_clear_error(text: str):
    try:
        commit = check_commit(text)
    except (UsageError, RefusedError):
        return
    assert set(commit) <= set("0123456789abcdef")


@given(st.text())
def test_subdirectory_stays_below_the_repository(text: str):
    try:
        clean = normalise_subdirectory(text)
    except RefusedError:
        return
    assert not clean.startswith("/")
    assert ".." not in clean.split("/")
    assert clean == normalise_subdirectory(clean)
