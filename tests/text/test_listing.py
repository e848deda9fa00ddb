"""Lists that are too long for a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.text.listing import list_some


def test_what_fits_is_shown_whole():
    assert list_some([], 3) == ""
    assert list_some(["a", "b"], 2) == "a; b"


def test_the_rest_is_counted():
    assert list_some(["a", "b", "c"], 2) == "a; b; and 1 more"
    assert list_some(("a", "b", "c"), 1, joint=", ") == "a, and 2 more"
    assert list_some(["a", "b"], 2, count=1_002) == "a; b; and 1,000 more"


@given(st.lists(st.sampled_from("abc"), max_size=9), st.integers(1, 9))
def test_nothing_is_lost(texts: list[str], most: int):
    shown, _, rest = list_some(texts, most, joint="|").partition("|and ")
    left = int(rest.removesuffix(" more") or 0)
    assert len([text for text in shown.split("|") if text]) + left == len(texts)
