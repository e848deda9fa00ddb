"""Paths as git has them: bytes with slashes, relative to the top; here as text that gives those bytes back."""

from __future__ import annotations

import os


def decode_path(path: bytes) -> str:
    """The path as text, whatever the locale says."""
    return path.decode("utf-8", "surrogateescape")


def encode_path(path: str) -> bytes:
    """What `decode_path` was given."""
    return path.encode("utf-8", "surrogateescape")


def file_path(top: str, path: str) -> bytes:
    """Where the file ``path`` of the tree below ``top`` is on the disk."""
    return os.path.join(os.fsencode(top), encode_path(path))
