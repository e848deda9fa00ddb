"""What came from a store is text in every form, and begins no line of any."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from hostile import PLANTS, find_harm
from test_documents import hostile_report

from mlflow_repro.commands.output import disarm
from mlflow_repro.commands.progress import clean_line, describe_moment
from mlflow_repro.report import RENDERERS
from mlflow_repro.report.isolation_text import render_explanation, render_isolation, render_profile, render_progress
from mlflow_repro.report.record_text import render_readiness, render_record
from mlflow_repro.report.text import render_plan, shell_commands
from mlflow_repro.text.command_line import quote_words
from mlflow_repro.text.variables import choose_variables, is_recorded
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.plan import EnvironmentPlan, Source
from mlflow_repro.values.progress import RUNNING, Arrival, Moment
from mlflow_repro.values.proofs import Blame, Conclusion, Isolation, Profile, Stress, Trial
from mlflow_repro.values.report import Check, Grade, Readiness

plants = pytest.mark.parametrize("text", PLANTS.values(), ids=PLANTS)


@plants
def test_reports(text: str):
    """In each form, as a whole and of a dry run."""
    made = hostile_report(text)
    source = Source(uri=text, commit=text, subdirectory=text)
    environment = EnvironmentPlan(kind="recorded", reason=text, python=text, packages=1, locks={text: text})
    plan = replace(
        made.plan, source=source, environment=environment, tracking_uri=text, working_directory=text,
        restores=(text, f"{text}.patch"), variables={"TZ": text}, backend=text, backend_config=text, entry_point=text,
    )  # fmt: skip
    made = replace(made, plan=plan)
    for report in (made, replace(made, plan=replace(plan, command=())), replace(made, comparison=None)):
        for name, render in RENDERERS.items():
            rendered = disarm(render(report, True))  # noqa: FBT003 - a renderer's form
            assert find_harm(rendered, is_markdown=name == "markdown") == [], name
    assert find_harm(disarm(render_explanation(made))) == []
    for form in ("text", "markdown"):  # nothing is left for the door to do
        assert all(line.isprintable() for line in RENDERERS[form](made, True).split("\n"))  # noqa: FBT003


@plants
def test_what_launches_have_proven(text: str):
    trial = Trial(changed=(text,), answer="different", difference=text, run_id=text)
    blame = Blame(factors=(text,), is_alone=False, changed=frozenset((text,)))
    for state in ("found", "open", "none matters"):
        conclusion = Conclusion(state=state, blames=(blame,), suspected=(text,), impossible=(text,), untested=(text,))
        isolation = Isolation(
            reference_run_id=text, other_run_id=text, parent_run_id=text, factors={text: text}, trials=(trial,),
            conclusion=conclusion, limit=9, causes=hostile_report(text).causes,
        )  # fmt: skip
        assert find_harm(disarm(render_isolation(isolation))) == []
    row = Stress(name=text, what=text, answer="different", note=text)
    profile = Profile(run_id=text, parent_run_id=text, control="different", repeat="equal", rows=(row,))
    assert find_harm(disarm(render_profile(profile))) == []
    assert find_harm(disarm(render_progress(1, 9, trial))) == []


@plants
def test_records(text: str):
    record = {"run_id": text, "schema": text, text: {text: text, "list": [text, {text: text}], "no": {"absent": text}}}
    assert find_harm(disarm(render_record({**record, "code": text}))) == []
    check = Check(name="code", grade=Grade.WARNING, text=text, advice=text)
    assert find_harm(disarm(render_readiness(Readiness(run_id=text, checks=(check,))))) == []


@plants
def test_progress_and_the_childs_lines(text: str):
    arrival = Arrival(name=text, value=1.0, step=0, reference=2.0)
    moment = Moment(phase=RUNNING, arrivals=(arrival,))
    assert find_harm(disarm(describe_moment(moment, 1.0))) == []
    assert find_harm(disarm(f"  | {clean_line(text)}")) == []


def test_a_remark_about_a_metric_does_not_begin_with_its_name():
    report = hostile_report("Runs equal")
    lines = [line for line in RENDERERS["text"](report, False).split("\n") if line.startswith("Runs equal")]  # noqa: FBT003
    assert len(lines) == 1


@plants
def test_the_commands_by_hand_give_every_word_back(text: str, tmp_path):
    """One line for each, printable, and bash runs nothing but what is meant."""
    word = text.replace("\0", "").replace("\ud800", "")
    made = hostile_report(word).plan
    assert made is not None
    made = replace(made, source=Source(uri=word, commit=word), working_directory=word, variables={"TZ": word})
    lines = [*shell_commands(made), quote_words(("printf", "%s|", word))]
    assert all(line.isprintable() for line in lines)
    assert "\n  ".join(lines[:-1]) in render_plan(made)
    script = "git() { :; }; cd() { :; }; python() { :; }; export() { :; }\n" + "\n".join(lines)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == f"{word}|".encode(errors="surrogateescape")
    assert list(tmp_path.iterdir()) == []


@plants
def test_no_variable_has_a_name_that_a_shell_would_run(text: str):
    assert not is_recorded(f"OMP_{text}")
    assert choose_variables({f"OMP_{text}": "1"}, {}) == {}


def test_the_door_escapes_what_anything_above_it_let_through():
    raw = "\n".join(PLANTS.values())
    assert find_harm(raw) != []
    assert all(line.isprintable() for line in disarm(raw).split("\n"))
    assert Status.DIFFERENT.value in disarm("different\tx")
