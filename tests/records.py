"""Records as runs make them of themselves, from the facts that a test is about."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from mlflow_repro.values.captured import SECTIONS
from mlflow_repro.values.record import NO_RECORD, Record, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_record(**facts: Any) -> Record:
    """The record whose stored form has these sections; those that are not given are empty.

    Raises AssertionError for facts that no run records.
    """
    record = read_record(make_plain(**facts))
    assert record.damage == {}
    return record


def make_plain(**facts: Any) -> dict[str, Any]:
    """The stored form of `make_record`, damaged or not."""
    head = {"schema": 2, "run_id": "a", "complete": True}
    return copy.deepcopy({**head, **{name: {} for name in SECTIONS}, **facts})


def record_of(sections: Mapping[str, Any]) -> Record:
    """`make_record` of a table of sections; of an empty one, that of a run that made none."""
    return make_record(**sections) if sections else NO_RECORD
