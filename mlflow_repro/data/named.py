"""The data that the program names in its own lines: files whose paths are written in its modules or cells."""

from __future__ import annotations

import glob
import os
import re
import stat
from itertools import islice
from typing import TYPE_CHECKING

from mlflow_repro.code.places import find_existing
from mlflow_repro.data.opened import leave_out_no_data
from mlflow_repro.system.beginning import first_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_repro.code.places import Places

_LITERAL = re.compile(r"""(?P<quote>['"])(?P<text>(?:(?!(?P=quote))[^\n\\]){1,300})(?P=quote)""")
_TEXTS = 400  # literals that may be paths
_FOLDERS = 20  # in which the others are looked for as well
_MATCHES = 50  # files of one pattern
_FILES = 200


def find_named_files(places: Places, sources: Iterable[str]) -> list[str]:
    """The absolute paths of existing files that ``sources``, the program's lines, name: whole, or a folder and a name.

    What was written since the process began is its result and no data of it; modules and databases are none either.
    """
    texts = list(islice(dict.fromkeys(text for source in sources for text in _list_texts(source)), _TEXTS))
    found: dict[str, None] = {}
    folders = []
    for text in texts:
        path = _find(text, places)
        if path and os.path.isdir(path):
            folders.append(path)
        found.update(dict.fromkeys([path] if path else _match(text, places)))
    for folder in folders[:_FOLDERS]:
        inner = (f"{folder}/{text}" for text in texts if not text.startswith(("/", "~")))
        found.update((path, None) for path in inner if os.path.lexists(path))
    return [path for path in leave_out_no_data(found) if _is_old_file(path)][:_FILES]


def _list_texts(source: str) -> Iterator[str]:
    """The literals of a program that may be paths, or parts of such."""
    for match in _LITERAL.finditer(source):
        text = match["text"]
        if re.search(r"[./]", text) and not re.search(r"[{}%<>|\s]{2}|://", text):
            yield text


def _find(text: str, places: Places) -> str:
    return find_existing("", os.path.expanduser(text), places)


def _match(text: str, places: Places) -> Iterable[str]:
    """The files that a pattern (``/data/*.csv``) matches."""
    pattern = places.resolve(os.path.expanduser(text))
    folder, _, name = pattern.rpartition("/")
    if not re.search(r"[*?]", name) or re.search(r"[*?]|^$", folder) or not _find(folder, places):
        return []
    return [os.path.join(folder, one) for one in islice(glob.iglob(name, root_dir=folder), _MATCHES)]


def _is_old_file(path: str) -> bool:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_mtime < first_time() and not path.endswith(".py")
