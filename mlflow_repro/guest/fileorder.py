"""List folders in another order than the file system gives, to see whether a program depends on it.

The order of a folder's entries is no property of its content: it differs between file systems, and between two copies.
Only what lists by `os.listdir` or `os.scandir` is reached, which `os.walk`, `glob` and `pathlib` do; not libraries that
list in C.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MARK = "_mlflow_repro_reversed"


class _Entries:
    """The entries of `os.scandir` backwards: an iterator and a context manager, as that is."""

    def __init__(self, scan: Any) -> None:
        self._scan = scan
        self._entries = iter(sorted(scan, key=lambda entry: os.fspath(entry.name), reverse=True))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> _Entries:  # noqa: PYI034 - typing.Self is younger than Python 3.10
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the scan, as `os.scandir` has it."""
        self._scan.close()


def reverse_file_order() -> None:
    """From here on `os.listdir` and `os.scandir` give the names of this process's folders backwards."""
    listdir, scandir = os.listdir, os.scandir
    if hasattr(listdir, _MARK):
        return

    @functools.wraps(listdir)
    def list_backwards(*arguments: Any, **options: Any) -> Any:
        return sorted(listdir(*arguments, **options), reverse=True)

    @functools.wraps(scandir)
    def scan_backwards(*arguments: Any, **options: Any) -> Any:
        return _Entries(scandir(*arguments, **options))

    setattr(list_backwards, _MARK, True)
    namespace: Any = os
    namespace.listdir, namespace.scandir = list_backwards, scan_backwards
