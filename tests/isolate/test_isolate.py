"""Causes that are proven by launches, and what a run depends on: the search, what is changed, and the commands."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from records import make_record, record_of

from mlflow_repro.cli import main
from mlflow_repro.compare.facts import compare_facts
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.explain import RULES as EXPLAIN_RULES
from mlflow_repro.explain.evidence import Evidence
from mlflow_repro.isolate.changes import NO_CHANGES, Changes, merge_changes, recast_random_state, recast_reference
from mlflow_repro.isolate.factors import Conditions, Factor, list_factors
from mlflow_repro.isolate.isolate import _conclude
from mlflow_repro.isolate.launches import CannotChangeError, describe_difference
from mlflow_repro.isolate.search import FIXED_LAUNCHES, BudgetSpentError, search
from mlflow_repro.isolate.variations import VARIATIONS, Place, vary
from mlflow_repro.report.isolation_text import render_isolation, render_profile, render_sentence
from mlflow_repro.report.json_format import render_plain
from mlflow_repro.text.command_line import diff_arguments
from mlflow_repro.values.comparison import OUTCOMES, Comparison, Finding, Status
from mlflow_repro.values.proofs import Blame, Conclusion, Isolation, Profile, Stress, Trial
from mlflow_repro.values.report import Cause
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import Run


class Oracle:
    """Answers launches by a rule over what was changed, within a limit."""

    def __init__(self, matters, limit: int = 1000) -> None:
        self.matters, self.limit = matters, limit
        self.asked: list[frozenset[str]] = []

    def __call__(self, changed: frozenset[str], attempt: int) -> str:
        if len(self.asked) >= self.limit:
            raise BudgetSpentError
        self.asked.append(changed)
        return "different" if not attempt and self.matters(changed) else "equal"


def names(count: int) -> list[str]:
    return [f"f{number}" for number in range(count)]


def blamed(conclusion: Conclusion) -> list[set[str]]:
    return [set(blame.factors) for blame in conclusion.blames]


class TestSearch:
    """Which launches are made, and what follows from them."""

    @pytest.mark.parametrize("count", range(1, 9))
    @pytest.mark.parametrize("causes", [1, 2])
    def test_n_plus_three_launches_find_one_or_two_causes_of_n_factors(self, count: int, causes: int):
        factors = names(count)
        for chosen in combinations(factors, min(causes, count)):
            oracle = Oracle(lambda changed, chosen=chosen: bool(changed & set(chosen)), count + FIXED_LAUNCHES)
            found = search(factors, oracle)
            assert blamed(found) == [{name} for name in chosen]
            assert {*found.harmless, *found.untested} == {*factors} - {*chosen}
            assert not (found.untested and len(chosen) == 1)

    def test_the_first_of_many_takes_five(self):
        oracle = Oracle(lambda changed: "f0" in changed)
        assert search(names(20), oracle).blames[0].is_alone
        assert len(oracle.asked) == 5

    def test_all_three_launches_when_nothing_matters(self):
        oracle = Oracle(lambda _: False)
        assert search(names(9), oracle).state == "none matters"
        assert len(oracle.asked) == 3

    @given(st.integers(2, 8), st.data())
    def test_two_that_only_count_together_are_found_as_a_pair(self, count: int, data: st.DataObject):
        pair = set(data.draw(st.lists(st.sampled_from(names(count)), min_size=2, max_size=2, unique=True)))
        found = search(names(count), Oracle(lambda changed: pair <= changed))
        assert blamed(found) == [pair]

    @given(st.integers(3, 8), st.data())
    def test_a_pair_that_the_budget_does_not_suffice_for_is_said_to_be_one(self, count: int, data: st.DataObject):
        """What was seen to change nothing by itself is not called harmless, nor are those that it may need."""
        pair = set(data.draw(st.lists(st.sampled_from(names(count)), min_size=2, max_size=2, unique=True)))
        whole = Oracle(lambda changed: pair <= changed)
        search(names(count), whole)
        limit = data.draw(st.integers(4, len(whole.asked)))
        oracle = Oracle(whole.matters, limit)
        found = search(names(count), oracle)
        if found.state == "found" and all(one.is_alone or one.needs for one in found.blames):
            assert not pair & {*found.harmless}
        for blame in found.blames:
            alone = frozenset(blame.factors[:1])
            if alone in oracle.asked:
                assert not blame.is_alone or {*blame.factors} == pair
                assert {*blame.factors, *blame.needs} >= pair

    @given(st.integers(1, 9), st.integers(0, 12), st.data())
    def test_what_is_blamed_matters_and_the_budget_holds(self, count: int, limit: int, data: st.DataObject):
        """Whatever the causes and the budget: none is blamed that does not count, none called harmless that does."""
        chosen = data.draw(st.sets(st.sampled_from(names(count))))
        oracle = Oracle(lambda changed: bool(changed & chosen), limit)
        found = search(names(count), oracle)
        assert len(oracle.asked) <= limit
        assert set().union(*blamed(found)) <= chosen
        assert not chosen & {*found.harmless}
        if found.state == "found":
            assert {*found.untested} == {*names(count)} - set().union(*blamed(found)) - {*found.harmless}

    @given(st.integers(1, 8), st.data())
    def test_an_interrupted_search_goes_on_without_asking_again(self, count: int, data: st.DataObject):
        chosen = data.draw(st.sets(st.sampled_from(names(count)), min_size=1))
        whole = Oracle(lambda changed: bool(changed & chosen))
        expected = search(names(count), whole)
        first = Oracle(whole.matters, data.draw(st.integers(0, len(whole.asked))))
        search(names(count), first)
        known = list(first.asked)
        again: list[frozenset[str]] = []

        def ask(changed: frozenset[str], attempt: int) -> str:
            if changed in known:
                known.remove(changed)
            else:
                again.append(changed)
            return "different" if not attempt and whole.matters(changed) else "equal"

        assert search(names(count), ask) == expected
        assert len(again) == len(whole.asked) - len(first.asked)

    def test_a_control_that_differs_from_itself_ends_it(self):
        asked = []

        def ask(changed: frozenset[str], attempt: int) -> str:
            asked.append(changed)
            return "different" if attempt else "equal"

        assert search(names(3), ask).state == "nondeterministic"
        assert asked == [frozenset(), frozenset()]

    def test_a_control_that_differs_the_same_way_twice_is_not_restored(self):
        found = search(names(3), lambda _changed, attempt: "equal" if attempt else "different")
        assert found.state == "not restored"

    def test_a_launch_that_fails_is_told_apart(self):
        found = search(names(2), lambda changed, attempt: "failed" if "f0" in changed and not attempt else "equal")
        assert blamed(found) == [{"f0"}]
        assert found.blames[0].fails


STATE = {
    "root": "aa", "place": [1], "assigned": {"torch": 5, "other": 1},
    "states": {"import": {"python": "p2", "numpy": "n2"}, "run": {"python": "p2", "numpy": "n2"}},
}  # fmt: skip
OTHER_STATE = {
    "root": "bb", "place": [], "assigned": {"torch": 6},
    "states": {"import": {"python": "q2", "numpy": "m2"}, "run": {"python": "q2", "numpy": "m2"}},
}  # fmt: skip


class TestChanges:
    """What one launch has other than the reference."""

    def test_the_random_state_of_one_generator(self):
        changed = recast_random_state(STATE, Changes(generators=("numpy",), random_state=OTHER_STATE))
        assert changed["states"]["run"] == {"python": "p2", "numpy": "m2"}
        assert (changed["root"], changed["assigned"]) == ("aa", STATE["assigned"])

    def test_entropy_and_torch(self):
        changed = recast_random_state(STATE, Changes(generators=("entropy", "torch"), random_state=OTHER_STATE))
        assert changed["root"] == "bb"
        assert changed["assigned"] == {"torch": 6, "other": 1}
        assert changed["states"] == STATE["states"]

    def test_a_fresh_random_state_is_one_that_is_not_put_back(self):
        changed = recast_random_state(STATE, Changes(generators=("python", "entropy")))
        assert changed["states"]["run"] == {"numpy": "n2"}
        assert "root" not in changed

    def test_arguments_of_the_command_line(self):
        tags = {"repro.capture": "complete", "repro.launch.argv": json.dumps(["python", "-u", "t.py", "--a", "1", "x"])}
        changes = Changes(arguments=tuple(diff_arguments(["--a", "1", "x"], ["--a", "2", "x", "--b"])))
        recast = recast_reference(Run(run_id="a", tags=tags), changes)
        assert json.loads(recast.tags["repro.launch.argv"]) == ["python", "-u", "t.py", "--a", "2", "x", "--b"]

    def test_launch_parameters(self):
        tags = {"repro.capture": "complete", "repro.launch.params": json.dumps({"a": "1", "b": "2"})}
        recast = recast_reference(Run(run_id="a", tags=tags), Changes(params={"a": None, "c": "3"}))
        assert json.loads(recast.tags["repro.launch.params"]) == {"b": "2", "c": "3"}

    def test_nothing_changes_nothing(self):
        run = Run(run_id="a", tags={"repro.launch.argv": "[]"})
        assert recast_reference(run, NO_CHANGES) == run
        assert recast_random_state(STATE, NO_CHANGES) == STATE

    def test_merging_keeps_all(self):
        merged = merge_changes([Changes(variables={"A": "1"}), Changes(variables={"B": None}, generators=("numpy",))])
        assert merged == Changes(variables={"A": "1", "B": None}, generators=("numpy",))


def conditions(run_id: str, state: dict | None = None, **sections: object) -> Conditions:
    return Conditions(run_id=run_id, record=record_of(sections), random_state=state or {})


USED = {"digests": {"start": {"numpy": "1", "python": "1"}, "end": {"numpy": "2", "python": "1"}}}


class TestFactors:
    """What two runs differ in, as things that can be changed alone."""

    def factors(self, one: Conditions, other: Conditions) -> dict[str, Changes]:
        return {factor.name: factor.changes for factor in list_factors(one, other)}

    def test_arguments_one_by_one(self):
        one = conditions("a", launch={"argv": ["python", "t.py", "--a", "1", "--b", "2"]})
        other = conditions("b", launch={"argv": ["python", "t.py", "--a", "2", "--c"]})
        assert set(self.factors(one, other)) == {"parameter a", "parameter b", "parameter c"}

    def test_launch_parameters_of_a_project(self):
        one = conditions("a", launch={"params": {"a": "1", "b": "1"}, "argv": ["python", "t.py", "1"]})
        other = conditions("b", launch={"params": {"a": "2", "b": "1"}, "argv": ["python", "t.py", "2"]})
        assert self.factors(one, other) == {"parameter a": Changes(params={"a": "2"})}

    @pytest.mark.parametrize(
        ("section", "here", "there"),
        [
            ("environment", {"python": "3.11.7"}, {"python": "3.12.1"}),
            ("environment", {"python": "3.11.7"}, {"python": "3.11.9"}),
            ("environment", {"distributions": {"numpy": "2.1.0"}}, {"distributions": {"numpy": "1.26.4"}}),
            ("environment", {"distributions": {"attrs": "2.1"}}, {"distributions": {"attrs": "2.2"}}),
            ("launch", {"variables": {"PYTHONHASHSEED": "0"}}, {"variables": {"PYTHONHASHSEED": "1"}}),
            ("launch", {"variables": {"OMP_NUM_THREADS": "4"}}, {"variables": {"OMP_NUM_THREADS": "2"}}),
            ("launch", {"variables": {"LC_ALL": "C"}}, {"variables": {}}),
            ("launch", {"variables": {"TZ": "UTC"}}, {"variables": {}}),
            ("launch", {"variables": {"TF_XLA_FLAGS": "x"}}, {"variables": {}}),
            ("launch", {"argv": ["python", "t.py", "--seed", "1"]}, {"argv": ["python", "t.py", "--seed", "2"]}),
            ("launch", {"params": {"a": "1"}}, {"params": {"a": "2"}}),
        ],
        ids=lambda value: str(value)[:50],
    )
    def test_explain_weighs_a_difference_as_isolate_does(self, section, here, there):
        """It is listed in one place, with one weight and one kind; no lines of a program are known here."""
        one, other = conditions("a", **{section: here}), conditions("b", **{section: there})
        (found,) = list_factors(one, other)
        evidence = Evidence(
            comparison=Comparison(reference_run_id="a", reproduction_run_id="b", findings=(), rules=Rules()),
            reference=Run(run_id="a"),
            reproduction=Run(run_id="b"),
            facts=tuple(compare_facts(one.record, other.record)),
            records=(one.record, other.record),
        )
        suspects = [suspect for rule in EXPLAIN_RULES[:-1] for suspect in rule(evidence) if suspect.weight > 0.02]
        assert [(suspect.kind, suspect.weight) for suspect in suspects] == [(found.kind, found.weight)]

    def test_only_generators_that_drew(self):
        found = self.factors(conditions("a", STATE, seeds=USED), conditions("b", OTHER_STATE, seeds=USED))
        assert found == {"random state of numpy": Changes(generators=("numpy",), random_state=OTHER_STATE)}

    def test_one_that_drew_before_the_run_began(self):
        """Keras draws the seeds of layers from Python's generator when they are made, most often before a run."""
        early = {**STATE, "states": {"import": {"python": "p1", "numpy": "n1"}, "run": {"python": "p2", "numpy": "n2"}}}
        idle = {"digests": {"start": {"python": "1"}, "end": {"python": "1"}}}
        for imported, ranked in ((["keras"], ["python", "numpy"]), (["requests"], ["numpy", "python"])):
            one = conditions("a", early, seeds=idle, environment={"imported": imported})
            found = list_factors(one, conditions("b", OTHER_STATE, seeds=idle))
            assert [factor.changes.generators[0] for factor in found] == ranked
        seeded = {**idle, "python": "1", "numpy": "1"}
        assert not self.factors(conditions("a", early, seeds=seeded), conditions("b", OTHER_STATE, seeds=seeded))

    def test_the_state_that_a_seed_led_to_goes_with_the_seed(self):
        """Else the state that is put back would overrule the other seed."""
        one = conditions("a", STATE, seeds={**USED, "numpy": "1"}, launch={"argv": ["python", "t.py", "--seed", "1"]})
        other = conditions(
            "b", OTHER_STATE, seeds={**USED, "numpy": "2"}, launch={"argv": ["python", "t.py", "--seed=2"]}
        )
        (changes,) = self.factors(one, other).values()
        assert (changes.generators, changes.random_state) == (("numpy",), OTHER_STATE)
        assert changes.arguments[0].name == "--seed"

    def test_a_seed_of_the_code_goes_with_the_code(self):
        one = conditions("a", STATE, seeds={**USED, "numpy": "1"}, code={"commit": "1", "tree": "x"})
        other = conditions("b", OTHER_STATE, seeds={**USED, "numpy": "2"}, code={"commit": "2", "tree": "y"})
        found = self.factors(one, other)
        assert set(found) == {"the code"}
        assert found["the code"].generators == ("numpy",)

    def test_a_seed_that_nothing_gave_is_a_factor_of_its_own(self):
        one = conditions("a", STATE, seeds={**USED, "numpy": "1"})
        assert set(self.factors(one, conditions("b", OTHER_STATE, seeds={**USED, "numpy": "2"}))) == {
            "random state of numpy"
        }

    def test_entropy_where_it_was_asked(self):
        seeds = {"entropy": {"asked": 2, "users": ["draw"]}}
        found = self.factors(conditions("a", STATE, seeds=seeds), conditions("b", OTHER_STATE, seeds=seeds))
        assert set(found) == {"random state of entropy"}

    def test_code_with_its_commit_or_its_changes_alone(self):
        one = conditions("a", code={"commit": "1", "tree": "x"})
        assert set(self.factors(one, conditions("b", code={"commit": "1", "tree": "y"}))) == {"the uncommitted changes"}
        found = self.factors(one, conditions("b", code={"commit": "2", "tree": "y"}))
        assert found["the code"].code_run == "b"

    def test_variables_of_one_kind_go_together(self):
        one = conditions("a", launch={"variables": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TZ": "UTC"}})
        other = conditions("b", launch={"variables": {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "1", "TZ": "UTC"}})
        assert self.factors(one, other) == {
            "number of threads": Changes(variables={"MKL_NUM_THREADS": None, "OMP_NUM_THREADS": "2"}),
            "variable PYTHONHASHSEED": Changes(variables={"PYTHONHASHSEED": "1"}),
        }

    def test_threads_of_blas_where_no_variable_says_them(self):
        sides = [conditions(name, machine={"libraries": [{"threads": count}]}) for name, count in (("a", 4), ("b", 2))]
        (changes,) = self.factors(*sides).values()
        assert changes.variables["OMP_NUM_THREADS"] == "2"

    def test_what_is_about_one_machine_is_put_in_place_for_the_reference_as_well(self):
        """A relaunch leaves it as it is here."""
        one = conditions("a", launch={"variables": {"OPENBLAS_CORETYPE": "Haswell"}})
        other = conditions("b", launch={"variables": {"CUDA_VISIBLE_DEVICES": "1", "TZ": "UTC"}})
        base = merge_changes(factor.base for factor in list_factors(one, other))
        assert base == Changes(variables={"OPENBLAS_CORETYPE": "Haswell", "CUDA_VISIBLE_DEVICES": None})

    def test_the_cores_that_are_here_where_the_reference_had_a_thread_for_each(self):
        here = Conditions(record=make_record(machine={"cores": {"available": 2}}), is_here=True)
        for cores, expected in ((8, "2"), (16, None)):  # of 16 it had used 8: somebody had said so
            machine = {"libraries": [{"threads": 8}], "cores": {"available": cores}}
            factors = list_factors(conditions("a", machine=machine), here)
            assert [factor.changes.variables["OMP_NUM_THREADS"] for factor in factors] == [expected] * bool(expected)
            assert all(factor.base.variables["OMP_NUM_THREADS"] == "8" for factor in factors)

    def test_packages_that_can_count_alone_and_the_rest_together(self):
        one = conditions("a", environment={
            "distributions": {"numpy": "2.0", "requests": "1", "click": "8"}, "imported": ["numpy", "requests"],
        })  # fmt: skip
        other = conditions("b", environment={"distributions": {"numpy": "1.26", "requests": "2"}})
        assert self.factors(one, other) == {
            "package numpy": Changes(packages={"numpy": "1.26"}),
            "other packages": Changes(packages={"requests": "2", "click": None}),
        }

    def test_packages_that_neither_program_uses_are_no_factor(self):
        versions = {"numpy": "2.0", "requests": "1", "tqdm": "4"}, {"numpy": "1.26", "requests": "2", "tqdm": "5"}
        one, other = (
            conditions(name, environment={"distributions": side, "imported": [*side], "used": used})
            for name, side, used in (("a", versions[0], ["numpy"]), ("b", versions[1], ["numpy", "requests"]))
        )
        assert self.factors(one, other) == {
            "package numpy": Changes(packages={"numpy": "1.26"}),
            "other packages": Changes(packages={"requests": "2"}),
        }
        unknown = conditions("b", environment={"distributions": versions[1]})
        assert self.factors(one, unknown)["other packages"] == Changes(packages={"requests": "2", "tqdm": "5"})

    def test_here_nothing_is_put_back(self):
        one = conditions("a", STATE, seeds=USED, code={"tree": "x", "patch": {"file": "p"}}, launch={"variables": {}})
        here = Conditions(record=make_record(launch={"variables": {"TZ": "UTC"}}), is_here=True)
        found = self.factors(one, here)
        assert found["random state of numpy"] == Changes(generators=("numpy",))
        assert found["the uncommitted changes"] == Changes(without_patch=True)
        assert found["variable TZ"] == Changes(variables={"TZ": "UTC"})


class Unavailable:
    """Launches that fail where a package is to be changed, as one does that no index has."""

    def run(self, names: frozenset[str], changes: dict[str, Changes], attempt: int) -> Trial:
        if any(changes[name].packages for name in names):
            raise CannotChangeError(tuple(names), CannotJudgeError("numpy==0 cannot be had"))
        return Trial(changed=tuple(names), answer="different" if names and not attempt else "equal")


def factor(name: str, **changes: object) -> Factor:
    return Factor(name=name, kind="parameter", what=name, changes=Changes(**changes), weight=0.5)


class TestImpossible:
    """What cannot be put in place here."""

    def test_is_left_out_and_named(self):
        factors = [factor("numpy", packages={"numpy": "0"}), factor("rate", params={"rate": "1"})]
        conclusion = _conclude(factors, Unavailable())
        assert (conclusion.state, conclusion.impossible) == ("found", ("numpy",))
        assert blamed(conclusion) == [{"rate"}]
        assert render_sentence(isolation(Conclusion(state="none matters", impossible=("numpy",)))).endswith(
            "Not tried, as it cannot be had here: `numpy 1.26.4 -> 2.1.0`."
        )


def isolation(conclusion: Conclusion, *trials: Trial, other: str = "b") -> Isolation:
    factors = {"numpy": "numpy 1.26.4 -> 2.1.0", "seed": "seed 1 -> 2", "tz": "TZ UTC -> GMT"}
    return Isolation(
        reference_run_id="a", other_run_id=other, parent_run_id="p", factors=factors, trials=trials,
        conclusion=conclusion, limit=6,
    )  # fmt: skip


ISOLATIONS = {
    "found": lambda: replace(
        isolation(
            Conclusion(
                state="found", blames=(Blame(factors=("numpy",), is_alone=True, changed=frozenset({"numpy"})),),
                harmless=("seed", "tz"),
            ),
            Trial(changed=(), answer="equal", run_id="1" * 32, seconds=2.0),
            Trial(changed=("numpy", "seed", "tz"), answer="different", difference="rmse", run_id="2" * 32),
            Trial(changed=("numpy",), answer="different", difference="rmse from step 0 on", run_id="3" * 32),
        ),
        causes=(
            Cause(
                kind="package", what="numpy 1.26.4 -> 2.1.0", confidence=1.0, fix="pip install numpy==1.26.4",
                evidence=("run 3: different, rmse from step 0 on",),
            ),
        ),
    ),
    "nondeterministic": lambda: isolation(
        Conclusion(state="nondeterministic"),
        Trial(changed=(), answer="equal", run_id="1" * 32),
        Trial(changed=(), answer="different", attempt=1, difference="<b>loss</b>\x1b[31m", run_id="2" * 32),
    ),
    "nothing": lambda: isolation(Conclusion(state="no difference")),
}  # fmt: skip
PROFILES = {
    "profile": lambda: Profile(
        run_id="a" * 32, parent_run_id="b" * 32, control="equal", repeat="equal",
        rows=(
            Stress(name="hash seed", what="another PYTHONHASHSEED", answer="equal", run_id="c" * 32),
            Stress(name="threads", what="1 in place of 4", answer="different", note="loss from step 3 on"),
        ),
    )
}  # fmt: skip
GOLDEN = Path(__file__).parents[1] / "golden" / "isolation"


def render_goldens() -> dict[str, str]:
    made = {name: (render_isolation, make) for name, make in ISOLATIONS.items()}
    made |= {name: (render_profile, make) for name, make in PROFILES.items()}
    texts = {f"{name}.txt": render(make()) for name, (render, make) in made.items()}
    return texts | {f"{name}.json": render_plain(make().to_dict()) for name, (_, make) in made.items()}


@pytest.mark.parametrize("name", render_goldens())
def test_what_people_and_programs_read_is_as_reviewed(name: str):
    text, path = render_goldens()[name] + "\n", GOLDEN / name
    assert path.is_file(), f"{path} is missing; it should hold:\n{text}"
    assert text == path.read_text(encoding="utf-8")


def test_each_golden_has_its_test():
    assert {path.name for path in GOLDEN.iterdir()} == set(render_goldens())


class TestSentence:
    """The answer in one sentence."""

    def test_one_cause_alone(self):
        def ask(changed: frozenset[str], attempt: int) -> str:
            return "different" if "numpy" in changed and not attempt else "equal"

        trial = Trial(changed=("numpy",), answer="different", difference="rmse from step 0 on", run_id="r")
        answer = isolation(search(["numpy", "seed", "tz"], ask), trial)
        assert render_sentence(answer) == (
            "`numpy 1.26.4 -> 2.1.0` alone changes rmse from step 0 on; everything else does not matter."
        )
        assert render_isolation(answer).splitlines()[-1] == render_sentence(answer)
        assert answer.exit_code == 1

    def test_a_pair(self):
        def ask(changed: frozenset[str], attempt: int) -> str:
            return "different" if {"seed", "tz"} <= changed and not attempt else "equal"

        text = render_sentence(isolation(search(["numpy", "seed", "tz"], ask)))
        assert text.startswith("`TZ UTC -> GMT` together with `seed 1 -> 2` changes the result")

    def test_a_pair_beyond_the_budget(self):
        texts = []
        for limit in (5, 6):
            oracle = Oracle(lambda changed: {"seed", "tz"} <= changed, limit)
            texts.append(render_sentence(isolation(search(["numpy", "seed", "tz"], oracle))))
        assert texts[0] == (
            "`TZ UTC -> GMT` changes the result; whether it does so alone is out of the budget; everything else does"
            " not matter without it."
        )
        assert texts[1] == (
            "`TZ UTC -> GMT` changes the result, but not alone: it needs one or more of `numpy 1.26.4 -> 2.1.0`,"
            " `seed 1 -> 2`, and which is out of the budget of 6 launches (--max-launches, --resume p)."
        )

    @pytest.mark.parametrize(
        ("state", "code", "words"),
        [
            ("nondeterministic", 1, "differs from itself"),
            ("not restored", 1, "not recorded or cannot be put back"),
            ("none matters", 0, "None of the 3 things"),
            ("no difference", 0, "nothing to isolate"),
            ("out of budget", 3, "--max-launches"),
        ],
    )
    def test_other_ends(self, state: str, code: int, words: str):
        answer = isolation(Conclusion(state=state))
        assert words in render_sentence(answer)
        assert answer.exit_code == code
        assert json.loads(json.dumps(answer.to_dict()))["state"] == state


class TestVariations:
    """What a stress varies."""

    def test_each_has_its_way_or_its_reason(self):
        found = vary(make_record(), Place(home="/h", work_directory="/w"))
        assert [one.name for one in found] == list(VARIATIONS)
        assert all(one.skipped or one.changes != NO_CHANGES or one.settings for one in found)
        processor = next(one for one in found if one.name == "processor")
        assert processor.skipped

    def test_the_other_number_of_threads(self):
        record = make_record(machine={"libraries": [{"threads": 1}], "cpu": {}})
        threads = vary(record, Place(home="/h", work_directory="/w"))[0]
        assert threads.changes.variables["OMP_NUM_THREADS"] == "2"

    def test_folders_are_listed_backwards(self, tmp_path):
        for name in "bac":
            (tmp_path / name).touch()
        code = (
            "import glob, os, pathlib\n"
            "from mlflow_repro.guest.fileorder import reverse_file_order\n"
            "reverse_file_order(); reverse_file_order()\n"
            "with os.scandir('.') as entries:\n"
            "    print([entry.name for entry in entries])\n"
            "print(os.listdir('.'), glob.glob('*'), next(os.walk('.'))[2])\n"
            "print([path.name for path in pathlib.Path('.').iterdir()])"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.replace("\n", " ").count("['c', 'b', 'a']") == 5


WALK = """\
import argparse, os
import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0.5)
parser.add_argument("--note", default="")
arguments = parser.parse_args()
start = float(os.urandom(2)[0]) if arguments.note == "unstable" else 0.0
with mlflow.start_run():
    words = {"apple", "pear", "plum", "quince"}
    order = sum(place * len(word) for place, word in enumerate(words))
    for step in range(3):
        mlflow.log_metric("walk", start + arguments.rate * (step + 1), step=step)
    if arguments.note == "sets":
        mlflow.log_metric("order", order)
"""


@pytest.fixture
def walk(bench):
    """A project in plain Python, started as a script."""
    bench.repository.commit({"walk.py": WALK})
    return bench


def command(bench, *arguments: str, **variables: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with bench.surroundings(**variables), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class TestIsolate:
    """Through the command line, with real launches."""

    def test_budget_of_one_launch(self, walk):
        """The one launch is a run below the parent, and what is known is said."""
        one = walk.train("walk.py")
        other = walk.train("walk.py", "--rate", "0.25")
        code, out, err = command(walk, "isolate", one, "--other", other, "--max-launches", "1")
        assert code == 3
        assert "After 1 of 1 launches" in out.splitlines()[-1]
        assert "launch 1 of at most 1: changed: nothing (the control)" in err
        assert f"--resume {out.splitlines()[-1].split()[-1].rstrip('.')} goes on there" in err.splitlines()[0]
        parent = next(run for run in map(walk.get, walk.run_ids()) if run.data.tags.get("repro.trials.of") == one)
        (child,) = [run for run in map(walk.get, walk.run_ids()) if "mlflow.parentRunId" in run.data.tags]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["repro.trial.answer"] == "equal"
        assert child.info.status == parent.info.status == "FINISHED"

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_proves_one_of_several_and_goes_on_after_an_interruption(self, walk):
        one = walk.train("walk.py", PYTHONHASHSEED="1")
        other = walk.train("walk.py", "--rate", "0.25", "--note", "x", PYTHONHASHSEED="2")
        code, out, _ = command(walk, "isolate", one, "--other", other, "--max-launches", "2", "--format", "json")
        first = json.loads(out)
        assert (code, first["state"], len(first["launches"])) == (3, "out of budget", 2)
        arguments = ("isolate", one, "--other", other, "--resume", first["parent_run_id"])
        code, out, err = command(walk, *arguments)
        assert code == 1
        assert "launch 3 of at most 7" in err
        assert "launch 2 of" not in err
        last = out.splitlines()[-1]
        assert last.startswith("`parameter rate nothing -> 0.25` alone changes walk from step 0 on")
        assert last.endswith("everything else does not matter.")
        assert "proven parameter rate" in out
        note = walk.get(first["parent_run_id"]).data.tags["mlflow.note.content"]
        answer, table = MarkdownIt("commonmark").parse(note)[1], MarkdownIt("commonmark").parse(note)[-1]
        assert "".join(child.content for child in answer.children) == last
        assert table.content.endswith(f"{last}\n")
        assert command(walk, "isolate", one, "--resume", first["parent_run_id"])[0] == 2  # of another search

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_a_run_that_differs_from_itself_is_not_blamed_on_anything(self, walk):
        one = walk.train("walk.py", "--note", "unstable")
        other = walk.train("walk.py", "--note", "unstable", TZ="UTC")
        code, out, _ = command(walk, "isolate", one, "--other", other, "--format", "json")
        found = json.loads(out)
        assert (code, found["state"], len(found["launches"])) == (1, "nondeterministic", 2)
        assert found["causes"][0]["kind"] == "nondeterminism"
        assert any("os.urandom" in fact for cause in found["causes"] for fact in cause["evidence"])

    def test_bad_input_is_one_line(self, walk):
        run = walk.train("walk.py")
        for arguments, expected in (
            (("isolate", run, "--other", run), 2),
            (("isolate", "a" * 32), 3),
            (("isolate", run, "--max-launches", "0"), 2),
            (("isolate", run, "--timeout", "0"), 2),
            (("stress", run, "--vary", "weather"), 2),
        ):
            code, out, err = command(walk, *arguments)
            assert (code, out, len(err.splitlines())) == (expected, "", 1), arguments


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestStress:
    """What the result depends on."""

    def test_the_order_of_sets(self, walk):
        run = walk.train("walk.py", "--note", "sets", PYTHONHASHSEED="1")
        arguments = ("--vary", "hash seed", "--vary", "directory")
        code, out, _ = command(walk, "stress", run, *arguments, "--format", "json")
        profile = json.loads(out)
        answers = {row["name"]: row["answer"] for row in profile["rows"]}
        assert (code, answers) == (1, {"hash seed": "different", "directory": "equal"})
        assert profile["depends_on"] == ["hash seed"]
        note = walk.get(profile["parent_run_id"]).data.tags["mlflow.note.content"]
        assert note.startswith("The result depends on: hash seed")


class TestTrace:
    """``mlflow_repro.autolog(rng_trace=True)``."""

    def test_digests_of_each_step(self, bench):
        source = (
            "import mlflow_repro; mlflow_repro.autolog(rng_trace=True)\n"
            "import random, mlflow, numpy\n"
            "with mlflow.start_run():\n"
            "    for step in range(4):\n"
            "        mlflow.log_metric('x', 1.0, step=step)\n"
            "        mlflow.log_metric('y', 1.0, step=step)\n"
            "        if step == 1: random.random()\n"
            "    mlflow.log_metrics({'z': 1.0}, step=9)\n"
        )
        bench.repository.commit({"train.py": source})
        run = bench.train("train.py")
        with bench.surroundings():
            path = bench.client().download_artifacts(run, "repro/rng_trace.json")
        with open(path, encoding="utf-8") as file:
            trace = json.load(file)
        assert list(trace["steps"]) == ["0", "1", "2", "3", "9"]
        python = [row["python"] for row in trace["steps"].values()]
        assert python[0] == python[1] != python[2] == python[3] == python[4]
        assert len({row["numpy"] for row in trace["steps"].values()}) == 1
        assert trace["steps_left_out"] == 0

    def test_nothing_without_being_asked(self, bench):
        bench.repository.commit(
            {"train.py": "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('x', 1, step=2)\n"}
        )
        run = bench.train("train.py")
        assert "repro/rng_trace.json" not in {file.path for file in bench.client().list_artifacts(run, "repro")}


def test_the_benchmark_plants_what_it_says(monkeypatch: pytest.MonkeyPatch):
    """Thirty causes or more, five pairs, five runs that differ from themselves; each edit fits its project."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    monkeypatch.syspath_prepend(folder)
    from cause_cases import CASES, DOUBLE, NONDETERMINISTIC, SINGLE

    assert (len(SINGLE), len(DOUBLE), len(NONDETERMINISTIC)) == (32, 5, 5)
    for case in CASES:
        with open(os.path.join(folder, "cause_projects", case.project, "train.py"), encoding="utf-8") as file:
            source = file.read()
        edit = case.edits.get("train.py")
        if isinstance(edit, tuple):
            assert edit[0] in source, case.name
            compile(source.replace(*edit), case.name, "exec")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_benchmark_meets_its_targets(bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Two of its cases, in this process, with the quick start where a case does not ask for another one."""
    folder = str(Path(__file__).resolve().parents[2] / "benchmarks")
    monkeypatch.syspath_prepend(folder)
    import causes

    python = os.path.join(bench.preloaded.folder(), "python")
    monkeypatch.setattr(causes, "sys", SimpleNamespace(executable=python))
    monkeypatch.setattr(sys, "argv", ["causes.py", "--quick", "--only", "uncommitted", "--only", "entropy"])
    with bench.surroundings():
        before = dict(os.environ)
        try:
            code = causes.main()
        finally:
            os.environ.clear()
            os.environ.update(before)
    printed = capsys.readouterr().out
    assert code == 0, printed
    assert "isolate: 2 of 2 are right" in printed


@pytest.mark.parametrize("kinds", [*((kind,) for kind in OUTCOMES), *combinations(OUTCOMES, 2)], ids=" ".join)
def test_the_difference_of_a_launch_is_named_whatever_its_kind(kinds: tuple[str, ...]):
    """The first kind of outcome that differs."""
    rows = [
        Finding(kind=kind, name=f"the {kind}", reference=1.0, reproduction=2.0, status=Status.DIFFERENT)
        for kind in reversed(kinds)
    ]
    comparison = Comparison(reference_run_id="a", reproduction_run_id="b", findings=tuple(rows), rules=Rules())
    assert describe_difference(comparison) == f"the {kinds[0]}"
