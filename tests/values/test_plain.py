"""The stored form by the types of fields: what is read is what was stored, and damage is one clear error."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_model import ROUND_TRIPS

from mlflow_repro.values.plain import DamagedError, Stored, from_plain, to_plain
from mlflow_repro.values.report import Cause, Report
from mlflow_repro.values.run import Run


class Colour(str, Enum):
    """Text that is one of two."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A value without a form of its own."""

    name: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Outer(Stored):
    """A value with a field of each kind."""

    number: float
    flag: bool = False
    either: float | str | None = None
    colour: Colour = Colour.RED
    inner: Inner | None = None
    several: tuple[Inner, ...] = ()
    names: frozenset[str] = frozenset()
    table: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    anything: Any = None
    hidden: int = 7
    STORED = ("number", "flag", "either", "colour", "inner", "several", "names", "table", "anything", "double")

    @property
    def double(self) -> float:
        return self.number * 2


FULL = Outer(
    number=-math.inf,
    flag=True,
    either="NaN",
    colour=Colour.BLUE,
    inner=Inner(name="a"),
    several=(Inner(name="b", size=2),),
    names=frozenset(("y", "x")),
    table={"t": (1, 2)},
    anything=[{"free": None}],
)
STORED = {
    "number": "-Infinity",
    "flag": True,
    "either": "NaN",
    "colour": "blue",
    "inner": {"name": "a", "size": 0},
    "several": [{"name": "b", "size": 2}],
    "names": ["x", "y"],
    "table": {"t": [1, 2]},
    "anything": [{"free": None}],
    "double": "-Infinity",
}


def test_each_kind_of_field_is_stored_and_read():
    assert list(FULL.to_dict().items()) == list(STORED.items())
    assert Outer.from_dict(json.loads(json.dumps(STORED, allow_nan=False))) == FULL
    assert from_plain(tuple[Outer, ...], to_plain((FULL, FULL))) == (FULL, FULL)


def test_what_has_a_default_may_be_missing():
    assert Outer.from_dict({"number": 1}) == Outer(number=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": "1.5"}, "number is a text, not a number"),
        ({"number": True}, "number is a truth value, not a number"),
        ({"number": 10**400}, "number cannot be: int too large"),
        ({"number": None}, "number is null, not a number"),
        ({"flag": 1}, "flag is a whole number, not a truth value"),
        ({"either": []}, "either is a list, not a text"),
        ({"colour": "green"}, "colour cannot be: 'green' is not a valid Colour"),
        ({"colour": {}}, "colour "),
        ({"inner": "a"}, "inner is a text, not a table"),
        ({"inner": {}}, "inner.name is not there"),
        ({"inner": {"name": "a", "more": 1}}, "inner.more is not known"),
        ({"several": {}}, "several is a table, not a list"),
        ({"several": [{"name": "a"}, {"name": 5}]}, "several.1.name is a whole number, not a text"),
        ({"names": "xy"}, "names is a text, not a list"),
        ({"table": []}, "table is a list, not a table"),
        ({"table": {"t": [1.5]}}, "table.t.0 is a number, not a whole number"),
        ({"hidden": 8}, "hidden is not known"),
        ({"other": 8}, "other is not known"),
    ],
)
def test_damage_is_said_with_its_place(change: dict[str, Any], message: str):
    with pytest.raises(DamagedError, match=message):
        Outer.from_dict({**STORED, **change})


@pytest.mark.parametrize("plain", [None, [], "text", 5])
def test_what_is_no_object_is_no_value(plain: object):
    for kind in (Outer, *ROUND_TRIPS):
        with pytest.raises(DamagedError, match=r"^it is .*, not a table"):
            kind.from_dict(plain)


def list_places(plain: Any, place: tuple = ()) -> list[tuple]:
    """The keys that lead to each part of a stored form."""
    parts = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [here for key, part in parts for here in ((*place, key), *list_places(part, (*place, key)))]


def replace_at(plain: Any, place: tuple, value: object) -> Any:
    """A copy with another value at one place."""
    changed = copy.deepcopy(plain)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return changed


@pytest.mark.parametrize("kind", ROUND_TRIPS, ids=lambda kind: kind.__name__)
def test_damage_is_refused_or_kept_and_never_mended(kind: type[Stored]):
    """Whatever stands at whichever place: it is read as it is, or it is an error of one kind."""

    @given(ROUND_TRIPS[kind], st.data())
    def damage(value: Stored, data: st.DataObject) -> None:
        plain = json.loads(json.dumps(value.to_dict()))
        derived = {"verdict", "runs_equal", "judged"}  # these are made anew
        places = [place for place in list_places(plain) if place[-1] not in derived]
        place = data.draw(st.sampled_from(places)) if places else None
        if place is None:
            return
        wrong = data.draw(st.sampled_from((None, True, "text", 5, 0.5, [], {}, [None], {"x": None})))
        changed = replace_at(plain, place, wrong)
        try:
            again = kind.from_dict(changed).to_dict()
        except ValueError:
            return
        for key in list_places(changed):
            part = get_at(changed, key)
            if key[-1] not in derived and not isinstance(part, (dict, list)):  # an object may get its defaults
                assert get_at(again, key) == part

    damage()


def get_at(plain: Any, place: tuple) -> Any:
    for key in place:
        plain = plain[key]
    return plain


def test_the_error_of_a_report_leads_to_the_place():
    plain = Report(plan=None, reference=Run(run_id="a"), causes=(Cause(kind="seed", what="x", confidence=1),)).to_dict()
    del plain["causes"][0]["what"]
    with pytest.raises(DamagedError, match=r"causes\.0\.what is not there"):
        Report.from_dict(plain)
