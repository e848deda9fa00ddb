"""Versions: what is older, and how far two are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.text.versions import is_same_release, read_release


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("2.1.0", (2, 1, 0)),
        ("2.1", (2, 1, 0)),
        ("2.1.0+cu118", (2, 1, 0)),
        ("3.13.0b2", (3, 13, 0)),
        ("3.13.0rc1", (3, 13, 0)),
        ("3.17.0.dev0", (3, 17, 0)),
        ("1!2.3", (2, 3, 0)),
        ("2.9.2-acme build 7", (2, 9, 2)),
        (" v0.5.11 ", (0, 5, 11)),
        ("", None),
        ("-", None),
        ("unknown", None),
        ("9" * 5_000, None),
    ],
)
def test_numbers_of_a_version(text: str, release: tuple[int, ...] | None):
    assert read_release(text) == release


@pytest.mark.parametrize(
    ("one", "other", "parts", "is_same"),
    [
        ("2.1", "2.1.0", 3, True),
        ("2.1+cu118", "2.1.0", 2, True),
        ("2.1.0", "2.10.0", 2, False),
        ("2.1.0", "2.1.9", 2, True),
        ("1.9.0", "2.0.0", 1, False),
        ("unknown", "unknown", 2, True),
        ("unknown", "2.1.0", 2, False),
    ],
)
def test_how_far_two_are_the_same(one: str, other: str, parts: int, *, is_same: bool):
    assert is_same_release(one, other, parts) is is_same
    assert is_same_release(other, one, parts) is is_same


@given(st.text() | st.from_regex(r"v?[0-9.]{0,9}[-+a-z0-9.]{0,6}"))
def test_any_text_is_a_version_or_none(text: str):
    """A server says what it likes."""
    release = read_release(text)
    assert release is None or all(number >= 0 for number in release)
    assert is_same_release(text, text, 2)
