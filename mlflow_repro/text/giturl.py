"""Git URIs with an MLflow ``#subdirectory``: read, check and clean them. Pure text, no git.

What may be fetched is an allow-list (https, http, ssh, git, file, the ``host:path`` form and local paths); git's
own list of transports is longer, and some of them run commands (``ext::``).
"""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from mlflow_repro.errors import RefusedError, UsageError
from mlflow_repro.text.redact import redact_value

SCHEMES = ("https", "http", "ssh", "git", "file")
_MAX_URI = 4096
_SCP = re.compile(r"^(?:(?P<user>[\w.\-]+)@)?(?P<host>[\w.\-]+|\[[0-9a-fA-F:]+\]):(?P<path>(?!//).+)$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TRANSPORT = re.compile(r"^[A-Za-z0-9+.\-]+::")
_OPTION_AS_HOST = re.compile(r"^(?:[A-Za-z0-9+.\-]+://)?(?:[^/@]*@)?-")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")


@dataclass(frozen=True, kw_only=True)
class GitUri:
    """``repository`` is what git is given; ``subdirectory`` is None when the URI had no ``#`` part."""

    repository: str
    subdirectory: str | None = None

    @property
    def is_local(self) -> bool:
        """True for a path or a ``file://`` URI."""
        return local_path(self.repository) is not None

    @property
    def absolute(self) -> str:
        """``repository`` as it is, but for a relative path, which would mean something else elsewhere."""
        path = local_path(self.repository)
        return self.repository if path is None or "://" in self.repository else path


def parse_git_uri(text: str) -> GitUri:
    """Read ``URI`` or ``URI#subdirectory``.

    Raises UsageError for text that is no git URI, RefusedError for a form that could run commands or leave the
    checkout.
    """
    shown = redact_value(text)
    text = text.strip().strip("'\"").strip()
    if not text:
        raise UsageError("the git URI is empty", "give --uri https://host/repo.git#subdirectory")
    if len(text) > _MAX_URI or _CONTROL.search(text):
        raise UsageError(f"not a git URI: {shown[:80]!r}", "it is too long or holds control characters")
    repository, hash_sign, subdirectory = text.partition("#")
    repository = repository.removeprefix("git+")
    if repository.startswith("-"):
        raise RefusedError(f"the git URI {shown!r} begins with '-'", "git would take it for an option")
    if _TRANSPORT.match(repository):
        raise RefusedError(f"the transport of {shown!r} can run commands", f"use one of {', '.join(SCHEMES)}")
    scheme, separator, _ = repository.partition("://")
    if separator and scheme.lower() not in SCHEMES:
        raise RefusedError(f"git URIs with {scheme}:// are not accepted", f"use one of {', '.join(SCHEMES)}")
    if _OPTION_AS_HOST.match(repository):
        raise RefusedError(f"the host of {shown!r} begins with '-'", "ssh would take it for an option")
    if not repository or (separator and not _is_address(repository)):
        raise UsageError(f"the git URI {shown!r} names no repository", "the form is URI#subdirectory")
    if repository.lower().endswith(".zip"):
        raise UsageError(f"{shown!r} is an archive, which has no commits", "give the git repository")
    return GitUri(repository=repository, subdirectory=normalise_subdirectory(subdirectory) if hash_sign else None)


def _is_address(url: str) -> bool:
    """Whether ``scheme://...`` can be taken apart, and names something that a program can be given."""
    try:
        parts = urlsplit(url)
    except ValueError:  # half an IPv6 address
        return False
    return bool((parts.netloc + parts.path).strip("/")) and "\0" not in unquote(parts.path)


def normalise_subdirectory(text: str) -> str:
    """``a//b/./c/`` as ``a/b/c``. Raises RefusedError when it is absolute or climbs out of the repository."""
    shown = redact_value(text)
    if text.startswith(("/", "\\", "~")) or re.match(r"^[A-Za-z]:", text):
        raise RefusedError(f"the subdirectory {shown!r} is absolute", "give it relative to the repository")
    parts = [part for part in text.replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        raise RefusedError(f"the subdirectory {shown!r} leaves the repository", "it may not hold '..'")
    if parts and parts[0].lower() == ".git":
        raise RefusedError(f"the subdirectory {shown!r} is git's own", "name a folder of the project")
    return "/".join(parts)


def local_path(repository: str) -> str | None:
    """The file system path that ``repository`` means, or None when it means another host."""
    if repository.lower().startswith("file://"):
        parts = urlsplit(repository)
        return unquote(parts.path) if parts.netloc in ("", "localhost") else None
    if "://" in repository:
        return None
    looks_remote = _SCP.match(repository) and not os.path.exists(repository)
    return None if looks_remote else os.path.abspath(os.path.expanduser(repository))


def strip_credentials(repository: str) -> str:
    """The URI without what lets somebody in: user info, query and fragment (an ssh user name stays)."""
    if "://" not in repository:
        return repository
    parts = urlsplit(repository)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username if parts.scheme in ("ssh", "git+ssh") else None
    return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, "", ""))


def check_commit(commit: str) -> str:
    """``commit`` when it is a (possibly abbreviated) object name. Raises UsageError or RefusedError otherwise."""
    if re.match(r"--[\w\-]+=", commit):
        raise RefusedError(f"not a commit but an option: {commit[:80]!r}", "git would take it for one")
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"not a commit: {commit[:80]!r}", "a commit is 7 to 64 hexadecimal digits")
    return commit.lower()
