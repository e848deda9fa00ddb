"""The record of a run as a value: what is damaged is missing, and everything else is as it was stored."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_plain, make_record

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.values.captured import SECTIONS, dump_record, missing
from mlflow_repro.values.record import DEEPEST, parse_record, read_record
from mlflow_repro.values.sections import DataFile, Digests, Library, Missing, SeedFacts, TreePart

TOLD = (Missing(reason="no time"), TreePart(absent="no time"))
WITH_REASON = {
    "code": {"tree", "patch", "untracked", "bundle", "submodules"},
    "environment": {"distributions", "locks"},
}


class TestWhole:
    """A record that a run wrote."""

    def test_facts_have_their_types(self):
        record = make_record(
            code={"tree": "t", "patch": {"file": "repro/code/changes.patch", "sha256": "d"}},
            seeds={"python": "4", "mode": 7, "calls": [{"generator": "numpy", "value": "3", "when": 2}]},
            machine={"libraries": [{"library": "openblas", "threads": {"absent": "each thread has its own"}}]},
            data={"params": [{"path": "a", "param": "p", "size": 3, "sha256": {"absent": "gone"}}]},
        )
        assert record.code.patch == TreePart(file="repro/code/changes.patch", sha256="d")
        assert (record.seeds.last_of("python"), record.seeds.last_of("else"), record.seeds.mode) == ("4", None, 7)
        assert record.seeds.calls == (SeedFacts(generator="numpy", value="3", when=2),)
        assert record.machine.libraries == (Library(library="openblas"),)
        assert record.data.files == (DataFile(path="a", param="p", size=3),)

    @pytest.mark.parametrize("section", SECTIONS)
    def test_every_fact_can_be_missing(self, section: str):
        kind = type(getattr(make_record(), section))
        read = getattr(make_record(**{section: dict.fromkeys(kind.__dataclass_fields__, missing("no time"))}), section)
        found = {name: getattr(read, name) for name in kind.__dataclass_fields__}
        told = {name for name, value in found.items() if value in TOLD}
        assert told == WITH_REASON.get(section, set())
        assert all(value == getattr(kind(), name) for name, value in found.items() if name not in told)

    def test_digests_of_a_run_that_has_not_ended(self):
        record = make_record(seeds={"digests": {"start": {"python": "1"}, "end": missing("the run has not ended")}})
        assert record.seeds.digests == Digests(start={"python": "1"})

    def test_stored_form_is_kept_to_the_byte(self):
        plain = {"complete": True, "later": {"x": [1.5, None]}, **make_plain(code={"commit": "c", "new": ["é"]})}
        assert dump_record(parse_record(dump_record(plain), "it").plain) == dump_record(plain)

    def test_parameter_called_absent(self):
        assert make_record(launch={"params": {"absent": "1", "a": "2"}}).launch.params == {"absent": "1", "a": "2"}


DAMAGED = {
    "another type": ({"code": {"bundle": True}}, {"code.bundle": "code.bundle is a truth value, not a table"}),
    "inside": (
        {"environment": {"distributions": {"numpy": []}}},
        {"environment.distributions": "environment.distributions.numpy is a list, not a text"},
    ),
    "in a row": (
        {"machine": {"libraries": [{"threads": 1}, {"threads": True}]}},
        {"machine.libraries": "machine.libraries.1.threads is a truth value, not a whole number"},
    ),
    "row without its key": (
        {"data": {"named": [{"size": 1}]}},
        {"data.named": "data.named.0.path is not there"},
    ),
    "section": ({"data": []}, {"data": "data is no table of facts"}),
    "NUL": ({"code": {"new": "a\0b"}}, {"code.new": "code.new has a character that no text has"}),
    "surrogate": (
        {"launch": {"script": "\ud800"}},
        {"launch.script": "launch.script has a character that no text has"},
    ),
    "name": ({"launch": {"a\n\0": 1}}, {"launch.a\n\0": "launch.a\\n\\x00 has a character that no text has"}),
    "infinity": ({"machine": {"memory": float("inf")}}, {"machine.memory": "machine.memory is no finite number"}),
    "number": ({"machine": {"memory": 10**400}}, {"machine.memory": "machine.memory is too large a number"}),
    "head": ({"complete": "yes"}, {"complete": "complete is a text, not a truth value"}),
}  # fmt: skip


class TestDamage:
    """A record that somebody else wrote."""

    @pytest.mark.parametrize(("facts", "damage"), DAMAGED.values(), ids=DAMAGED)
    def test_damage_is_named_and_missing(self, facts: dict, damage: dict):
        record = read_record(make_plain(**facts))
        assert record.damage == damage
        (line,) = damage.values()
        assert record.damage_note == f"the record is damaged, and what is damaged counts as missing: {line}"
        assert f"damaged: {line}" in json.dumps(record.plain, ensure_ascii=False).replace("\\\\", "\\")
        dump_record(record.plain).decode()

    def test_other_facts_are_not_touched(self):
        record = read_record(make_plain(code={"commit": "c", "bundle": 1, "tree": "t"}))
        assert (record.code.commit, record.code.tree, record.code.bundle) == ("c", "t", None)
        assert list(record.plain["code"]) == ["commit", "bundle", "tree"]

    @pytest.mark.parametrize("levels", [DEEPEST + 2, 400, 900])
    @pytest.mark.parametrize("name", ["tree", "submodules", "unknown"])
    def test_nested_deep(self, name: str, levels: int):
        text = json.dumps(make_plain(code={name: "here"})).replace('"here"', "[" * levels + "]" * levels)
        record = parse_record(text.encode(), "it")
        assert record.damage == {f"code.{name}": record.damage[f"code.{name}"]}
        assert f"is nested deeper than {DEEPEST} levels" in record.damage_note

    @pytest.mark.parametrize(
        "content",
        [
            b"", b"[]", b"\xff", b"{", b'{"schema": true}', b'{"schema": [2]}', b'{"schema": 99}', b"[" * 100_000,
            b'{"schema": 2, "code": ' + b"[" * 100_000, b'{"schema": 2, "x": ' + b"9" * 10_000 + b"}",
            b'{"schema": 2, "x": [' + b"0," * 200_001 + b"0]}", b" " * 2**26,
        ],
        ids=range(12),
    )  # fmt: skip
    def test_file_that_is_no_record(self, content: bytes):
        with pytest.raises(CannotJudgeError, match=r"^record\.json of run a (is|has) ") as caught:
            parse_record(content, "record.json of run a")
        assert len(str(caught.value)) < 300

    def test_many_damaged_facts_make_one_line(self):
        record = read_record({"schema": 2})
        assert record.damage_note.endswith("code is not there; launch is not there; seeds is not there; and 3 more")

    @given(
        st.dictionaries(
            st.sampled_from([*SECTIONS, "complete", "schema", "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["tree", "calls", "file", "absent", "path", "digests"]), inner)
                ),
                max_leaves=12,
            ),
        )
    )
    def test_read_again_it_has_no_damage(self, plain: dict):
        """Law: the stored form of what was read is a whole record, and the given one is left alone."""
        before = copy.deepcopy(plain)
        record = read_record(plain)
        assert repr(plain) == repr(before)
        again = read_record(record.plain)
        assert again.damage == {}
