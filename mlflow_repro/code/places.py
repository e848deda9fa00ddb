"""Where the paths of a program lie: how one is found, how it is named in a record, and which are not to be touched."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlflow_repro.code.head import find_top
from mlflow_repro.code.program import program_directory
from mlflow_repro.text.redact import redact_value, to_text
from mlflow_repro.text.secret_names import is_secret_name

_VALUE_LIMIT = 4096  # characters; no path is longer
# A scheme, or a host of scp and NFS; Windows shares; the automounter's hosts: looking at one may wait for a network.
_REMOTE = re.compile(r"[^/]*:/|//|\\\\|/net/")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Absolute paths that others are resolved and named by; empty when there is none."""

    cwd: str = ""
    top: str = ""
    """The repository's top."""
    home: str = ""

    def resolve(self, path: str) -> str:
        """The absolute path of what the program calls ``path``; empty when there is no working directory."""
        if path.startswith("/"):
            return path
        return os.path.join(self.cwd, path) if self.cwd else ""

    def name(self, path: str) -> dict[str, str]:
        """``path`` (text fit to be stored) and ``place``: repository, home, or absolute."""
        given = os.path.normpath(path)
        named = self._name_below(given, self.top, self.home)
        if named is None:
            real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
            named = self._name_below(real, *(folder and os.path.realpath(folder) for folder in (self.top, self.home)))
        return named or {"path": to_text(given), "place": "absolute"}

    def _name_below(self, path: str, top: str, home: str) -> dict[str, str] | None:
        if top and is_below(path, top):
            return {"path": to_text(os.path.relpath(path, top)), "place": "repository"}
        if home and is_below(path, home):
            return {"path": to_text(os.path.join("~", os.path.relpath(path, home))), "place": "home"}
        return None

    def lie_in(self, path: str) -> bool:
        """True when one of the places is ``path`` itself or lies in it: then it is no data directory."""
        real = os.path.realpath(path)
        return any(is_below(os.path.realpath(place), real) for place in (self.cwd, self.top, self.home) if place)


def is_below(path: str, folder: str) -> bool:
    """True when ``path`` is ``folder`` or lies in it; both absolute and normal."""
    return f"{path}/".startswith(folder.rstrip("/") + "/")


def find_places() -> Places:
    """The places of this process, at this moment. Raises nothing."""
    home = os.environ.get("HOME", "").rstrip("/")
    home = home if home.startswith("/") else ""
    try:
        return Places(cwd=os.getcwd(), top=find_top(program_directory()), home=home)
    except OSError:  # the working directory was removed
        return Places(home=home)


def find_existing(name: str, value: str, places: Places) -> str:
    """The absolute path that ``value`` is, or empty. Nothing is looked at that may be a secret or on a network."""
    if not 0 < len(value) < _VALUE_LIMIT or _CONTROL.search(value) or _REMOTE.match(value):
        return ""
    if is_secret_name(name) or redact_value(value) != value:
        return ""
    path = places.resolve(value)
    try:
        return path if path and os.stat(path) else ""
    except (OSError, ValueError):
        return ""
