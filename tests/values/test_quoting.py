"""The quotes that MLflow puts around launch parameters, and how they come off again (PAR-01)."""

from __future__ import annotations

import json
import shlex

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.values.run import (
    Run,
    is_project_run,
    launch_parameters,
    recorded_launch_parameters,
    unquote_param,
)

PROJECT = {"mlflow.project.entryPoint": "main"}
quoted_pieces = st.lists(st.sampled_from(("'", '"', "\\", " ", "#", "$", "\n", "a", "''")), max_size=6).map("".join)


@given(st.text() | quoted_pieces)
def test_unquoting_undoes_the_quoting_of_any_text(value: str):
    assert unquote_param(shlex.quote(value)) == value


@given(st.text() | quoted_pieces)
def test_unquoting_never_fails_and_changes_only_what_was_quoted(stored: str):
    plain = unquote_param(stored)
    assert plain == stored or shlex.quote(plain) == stored


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        pytest.param("''", "", id="empty"),
        pytest.param("'a b'", "a b", id="space"),
        pytest.param("'it'\"'\"'s'", "it's", id="single-quote"),
        pytest.param("'$(touch x) `y` $HOME'", "$(touch x) `y` $HOME", id="shell-expansion"),
        pytest.param("'one\ntwo'", "one\ntwo", id="newline"),
        pytest.param("'Zürich'", "Zürich", id="unicode"),
        pytest.param("0.5", "0.5", id="plain"),
        pytest.param("'a", "'a", id="half-a-quote"),
        pytest.param('"a b"', '"a b"', id="not-shlex-quotes"),
        pytest.param("a b", "a b", id="two-words"),
        pytest.param("'plain'", "'plain'", id="quotes-that-shlex-would-not-add"),
        pytest.param("'a' 'b'", "'a' 'b'", id="two-quoted-words"),
    ],
)
def test_stored_forms(stored: str, plain: str):
    assert unquote_param(stored) == plain


@pytest.mark.parametrize(
    ("tags", "params", "expected"),
    [
        pytest.param(
            {**PROJECT, "repro.launch.params": '{"a": "x y"}'},
            {"a": "'x y'", "logged": "1"},
            {"a": "x y"},
            id="recorded-by-the-plugin",
        ),
        pytest.param(
            PROJECT, {"a": "'x y'", "logged": "1"}, {"a": "x y", "logged": "1"}, id="project-without-the-plugin"
        ),
        pytest.param({"mlflow.source.type": "PROJECT"}, {"a": "1"}, {"a": "1"}, id="project-by-its-source-type"),
        pytest.param({}, {"a": "1"}, {}, id="no-project"),
        pytest.param(
            {**PROJECT, "repro.launch.params": "omitted: 9000 characters"},
            {"a": "'x y'"},
            {"a": "x y"},
            id="too-long-for-a-tag",
        ),
        pytest.param({**PROJECT, "repro.launch.params": "[1]"}, {"a": "1"}, {"a": "1"}, id="not-an-object"),
        pytest.param({**PROJECT, "repro.launch.params": "{}"}, {"logged": "1"}, {}, id="launched-with-none"),
    ],
)
def test_launch_parameters(tags: dict[str, str], params: dict[str, str], expected: dict[str, str]):
    """Those that the plugin recorded; without it all params of a project's run, and none of any other run."""
    assert launch_parameters(Run(run_id="a", params=params, tags=tags)) == expected


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_recorded_values_come_back_exactly(params: dict[str, str]):
    record = Run(run_id="a", tags={"repro.launch.params": json.dumps(params)})
    assert recorded_launch_parameters(record) == params


@given(st.text())
def test_damaged_record_of_parameters_is_none(text: str):
    """The tag is data that anybody may have written: never an exception."""
    recorded = recorded_launch_parameters(Run(run_id="a", tags={"repro.launch.params": text}))
    assert recorded is None or isinstance(recorded, dict)


@pytest.mark.parametrize(
    ("tags", "expected"), [(PROJECT, True), ({"mlflow.source.type": "LOCAL"}, False), ({}, False)], ids=str
)
def test_project_run_is_known_by_its_tags(tags: dict[str, str], *, expected: bool):
    assert is_project_run(Run(run_id="a", tags=tags)) is expected
