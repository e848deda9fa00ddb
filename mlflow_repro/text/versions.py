"""Versions of packages and programs, as `packaging` reads them."""

from __future__ import annotations

import re


def read_release(text: str) -> tuple[int, int, int] | None:
    """Major, minor and patch level: ``(3, 1, 0)`` of ``3.1rc2``; None of what is no version.

    What follows the numbers may have a form of its own, as that of a server somebody has built.
    """
    from packaging.version import Version  # not for `--help`

    numbers = re.match(r"\s*v?(\d+(?:\.\d+)*)", text)
    for known in (text, numbers[1] if numbers else ""):
        try:
            version = Version(known)
        except ValueError:  # no version, or a number that Python does not read
            continue
        return version.major, version.minor, version.micro
    return None


def is_same_release(one: str, other: str, parts: int) -> bool:
    """Whether two versions have the same numbers, as far as ``parts`` of them: 1 is the major version, 2 the minor.

    What is no version is the same as the same text only.
    """
    left, right = read_release(one), read_release(other)
    if left is None or right is None:
        return one == other
    return left[:parts] == right[:parts]
