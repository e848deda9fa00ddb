"""What data files hold now, and where a content that a run recorded by its digest can be found."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_repro.data.digests import Deadline, digest_directory, digest_file
from mlflow_repro.errors import UsageError
from mlflow_repro.values.sections import DataContent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SECONDS = 300.0  # that the digests of one search may take


class DataFinder:
    """Looks at data files, and searches ``places`` (files and folders that the user named) for others.

    Raises UsageError for a place that is not there.
    """

    def __init__(self, places: Sequence[str]) -> None:
        """Note the places; nothing is read yet."""
        for place in places:
            if not os.path.exists(place):
                raise UsageError(f"there is no file or folder {place!r}", "check --data")
        self._places = [os.path.abspath(place) for place in places]
        self._deadline = Deadline(_SECONDS)

    @property
    def has_places(self) -> bool:
        """True when there is somewhere to search."""
        return bool(self._places)

    def look(self, path: str, expected: Sequence[DataContent]) -> DataContent | None:
        """What is at ``path`` now; None when it is not there, or there was no time to read it.

        It is read only where it is as large as one that is ``expected``; else its digest is empty.
        """
        path = os.path.expanduser(path)
        if os.path.isdir(path):
            whole = digest_directory(path, deadline=self._deadline)
            return DataContent(digest=whole.sha256, size=whole.size, is_folder=True) if whole.sha256 else None
        try:
            size = os.stat(path).st_size
        except (OSError, ValueError):
            return None
        if all(content.size not in (None, size) for content in expected):
            return DataContent(digest="", size=size)
        file = digest_file(path, deadline=self._deadline)
        return DataContent(digest=file.sha256, size=file.size) if file.sha256 else None

    def find(self, path: str, wanted: DataContent) -> str:
        """A file or folder below the places with this content; empty when there is none."""
        own = os.path.realpath(os.path.expanduser(path))
        for candidate in self._candidates(wanted):
            if os.path.realpath(candidate) != own and self._digest(candidate, wanted) == wanted.digest:
                return candidate
        return ""

    def _candidates(self, wanted: DataContent) -> Iterator[str]:
        for place in self._places:
            if os.path.isfile(place):
                yield from () if wanted.is_folder else (place,)
                continue
            yield from (place,) if wanted.is_folder else ()
            for folder, folders, files in os.walk(place):
                yield from (os.path.join(folder, name) for name in sorted(folders if wanted.is_folder else files))

    def _digest(self, candidate: str, wanted: DataContent) -> str | None:
        if wanted.is_folder:
            return digest_directory(candidate, deadline=self._deadline).sha256
        try:
            is_candidate = wanted.size is None or os.stat(candidate).st_size == wanted.size
        except OSError:
            return None
        return digest_file(candidate, deadline=self._deadline).sha256 if is_candidate else None
