"""How a run will be brought back, decided from its record alone (groups URI, PAR, TRK and LCH)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import strategies
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UsageError
from mlflow_repro.isolate.changes import Changes, recast_reference
from mlflow_repro.plan.launch import PlanOptions, check_options, check_reference, fit_to_project, plan_launch
from mlflow_repro.text.command_line import parse_python_argv, split_arguments
from mlflow_repro.values.plan import LaunchPlan, Parameter, Project, Source
from mlflow_repro.values.run import Run, check_run_id, recorded_launch_parameters

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URI = "https://host/repo.git"
PROJECT_TAGS = {
    "mlflow.project.entryPoint": "main",
    "mlflow.project.backend": "local",
    "mlflow.source.type": "PROJECT",
    "mlflow.source.name": f"{URI}#python/sklearn",
    "mlflow.source.git.repoURL": URI,
    "mlflow.source.git.commit": COMMIT,
}
SCRIPT_TAGS = {
    "repro.capture": "complete",
    "repro.git.uri": f"{URI}#ml",
    "repro.git.commit": COMMIT,
    "repro.git.dirty": "false",
    "repro.launch.cwd": "ml",
    "repro.launch.script": "ml/train.py",
}


def project_run(params: dict[str, str] | None = None, **tags: str) -> Run:
    """A run that ``mlflow run`` made; ``repro_x_y`` in ``tags`` is the tag ``repro.x.y``."""
    return Run(run_id="a", status="FINISHED", params=params or {}, tags=with_tags(PROJECT_TAGS, tags))


def script_run(argv: list[str], **tags: str) -> Run:
    """A run of ``python ...`` that the plugin recorded."""
    return Run(
        run_id="a",
        status="FINISHED",
        tags=with_tags({**SCRIPT_TAGS, "repro.launch.argv": json.dumps(["/usr/bin/python3", *argv])}, tags),
    )


def with_tags(tags: dict[str, str], changes: dict[str, str]) -> dict[str, str]:
    """``tags`` with ``changes``, whose names have underscores for dots; an empty value removes the tag."""
    changed = {**tags, **{name.replace("_", "."): value for name, value in changes.items()}}
    return {name: value for name, value in changed.items() if value}


def plan(reference: Run, **options: object) -> LaunchPlan:
    return plan_launch(reference, PlanOptions(**options))


def project(*parameters: Parameter, entry_point: str = "main") -> Project:
    return Project(has_file=True, entry_points={entry_point: parameters})


class TestSource:
    """Where the code is."""

    def test_of_a_project_run_is_what_mlflow_recorded(self):
        assert plan(project_run()).source == Source(uri=URI, commit=COMMIT, subdirectory="python/sklearn")

    def test_own_tag_comes_first(self):
        """mlflow.source.name of a file URI is no URI; ours is checked and clean."""
        made = plan(project_run(repro_git_uri="file:///srv/r#sub", **{"mlflow.source.name": "/cwd/file:/srv/r"}))
        assert made.source == Source(uri="file:///srv/r", commit=COMMIT, subdirectory="sub")

    def test_given_uri_replaces_the_recorded_one(self):
        made = plan(project_run(), uri="/srv/mirror#other/dir.1")
        assert made.source == Source(uri="/srv/mirror", commit=COMMIT, subdirectory="other/dir.1")

    def test_given_uri_without_subdirectory_keeps_the_recorded_one(self):
        assert plan(project_run(), uri="/srv/mirror").source.subdirectory == "python/sklearn"

    def test_given_uri_with_an_empty_subdirectory_means_the_top(self):
        assert plan(project_run(), uri="/srv/mirror#").source.subdirectory == ""

    def test_relative_path_is_recorded_as_an_absolute_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        """The reproduction's tags name where its code came from, to readers in other folders."""
        monkeypatch.chdir(tmp_path)
        assert plan(project_run(), uri="repo#ml").source.project_uri == f"{tmp_path}/repo#ml"

    def test_own_commit_comes_first(self):
        assert plan(project_run(repro_git_commit="f" * 40)).source.commit == "f" * 40

    @pytest.mark.parametrize(
        ("tags", "words"),
        [
            pytest.param({"mlflow.source.git.commit": ""}, "no git commit", id="none"),
            pytest.param(
                {"mlflow.source.git.commit": "", "repro.git.error": "no-commits"}, "no-commits", id="with-its-reason"
            ),
        ],
    )
    def test_run_without_a_commit_cannot_be_judged(self, tags: dict[str, str], words: str):
        with pytest.raises(CannotJudgeError, match=words):
            plan(project_run(**tags))

    def test_run_without_a_uri_asks_for_one(self):
        record = Run(run_id="a", tags={"mlflow.source.git.commit": COMMIT, "mlflow.source.name": "train.py"})
        with pytest.raises(CannotJudgeError, match="--uri") as caught:
            plan(record)
        assert caught.value.hint == "give it with --uri"
        assert plan(record, uri=URI).source.uri == URI

    @pytest.mark.parametrize("uri", ["ext::sh -c x", "https://h/r#/etc"], ids=["URI-01", "URI-10"])
    @pytest.mark.parametrize("where", ["option", "record"])
    def test_dangerous_uri_is_refused_wherever_it_comes_from(self, uri: str, where: str):
        """The store is written by others: what it says is checked like what was typed."""
        check = {
            "option": lambda: check_options(PlanOptions(uri=uri)),
            "record": lambda: plan(project_run(repro_git_uri=uri)),
        }
        with pytest.raises(RefusedError):
            check[where]()

    def test_option_in_place_of_the_recorded_commit_is_refused(self):
        """URI-03."""
        with pytest.raises(RefusedError):
            plan(project_run(repro_git_commit="--upload-pack=touch pwned"))

    @pytest.mark.parametrize("commit", ["-f", "main", "a..b", "HEAD~1", COMMIT + "\n"], ids=repr)
    def test_recorded_commit_that_is_none(self, commit: str):
        """URI-04."""
        with pytest.raises(UsageError, match="not a commit"):
            plan(project_run(repro_git_commit=commit))

    def test_recorded_ones_are_taken_and_logged_ones_are_not(self):
        """PAR-03: autologging's parameters never reach the command line."""
        made = plan(project_run({"alpha": "'a b'", "max_iter": "100"}, repro_launch_params='{"alpha": "a b"}'))
        assert made.parameters == {"alpha": "a b"}
        assert not made.only_declared
        assert fit_to_project(made, project(Parameter(name="alpha"))) == {"alpha": "a b"}

    def test_without_the_plugin_only_declared_ones_are_taken(self):
        """PAR-01, PAR-03: and their quotes come off."""
        made = plan(project_run({"alpha": "'a b'", "max_iter": "100"}))
        fitted = fit_to_project(made, project(Parameter(name="alpha")))
        assert fitted == {"alpha": "a b"}
        assert any("made without mlflow-repro" in caveat for caveat in made.caveats)

    @pytest.mark.parametrize("value", ["None", "True", "1.0", "1e-3", "", "-5", "--help", "a\nb", "{x}"], ids=repr)
    def test_value_stays_text(self, value: str):
        """PAR-04, PAR-12: no guess at a type, no special value."""
        record = project_run(repro_launch_params=json.dumps({"p": value}))
        assert plan(record).parameters == {"p": value}

    def test_given_ones_replace_and_add(self):
        made = plan(project_run(repro_launch_params='{"a": "1", "b": "2"}'), params={"b": "3", "c": ""})
        assert made.parameters == {"a": "1", "b": "3", "c": ""}

    def test_given_one_survives_the_choice_of_declared_ones(self):
        """A parameter that the user asks for by -P and the project does not declare is passed on, as by MLflow."""
        made = plan(project_run({"alpha": "1", "logged": "3"}), params={"extra": "2"})
        fitted = fit_to_project(made, project(Parameter(name="alpha")), given={"extra"})
        assert fitted == {"alpha": "1", "extra": "2"}

    def test_given_one_is_passed_to_a_script_without_a_project_file(self):
        made = plan(project_run({"logged": "3"}, **{"mlflow.project.entryPoint": "train.py"}), params={"a": "1"})
        assert fit_to_project(made, Project(), given={"a"}) == {"a": "1"}

    def test_value_that_was_cut_cannot_be_judged(self):
        """PAR-05: 6,000 characters are where MLflow cuts."""
        made = plan(project_run({"alpha": "x" * 6000}))
        with pytest.raises(CannotJudgeError, match="may have cut it") as caught:
            fit_to_project(made, project(Parameter(name="alpha")))
        assert "-P alpha=" in caught.value.hint
        assert fit_to_project(made, project(Parameter(name="other", default=""))) == {}

    def test_given_value_may_be_as_long_as_where_mlflow_cuts(self):
        """PAR-05: what the hint of the test above says works."""
        made = plan(project_run({"alpha": "x" * 6000}), params={"alpha": "y" * 7000})
        fitted = fit_to_project(made, project(Parameter(name="alpha")), given={"alpha"})
        assert fitted == {"alpha": "y" * 7000}

    def test_long_value_that_is_whole_is_passed(self):
        """PAR-05: the plugin recorded it, or it is shorter than where MLflow cuts."""
        record = project_run({"alpha": "x" * 5999})
        assert fit_to_project(plan(record), project(Parameter(name="alpha"))) == {"alpha": "x" * 5999}

    @pytest.mark.parametrize("value", ["a\0b", "x" * 131072, "ü" * 65536], ids=["PAR-06-nul", "PAR-08", "PAR-08-bytes"])
    def test_value_that_no_program_can_be_given(self, value: str):
        with pytest.raises(UsageError, match="parameter 'p'"):
            check_options(PlanOptions(params={"p": value}))
        with pytest.raises(UsageError, match="parameter 'p'"):
            plan(project_run(repro_launch_params=json.dumps({"p": value})))

    def test_longest_value_that_a_program_can_be_given(self):
        assert len(plan(project_run(), params={"p": "x" * 131071}).parameters["p"]) == 131071

    @pytest.mark.parametrize("name", ["a;b", "$(x)", "", "a\n", "a=b", "a`b`", "ä\0"], ids=repr)
    def test_name_that_mlflow_would_refuse_after_creating_the_run(self, name: str):
        """PAR-07."""
        with pytest.raises(UsageError, match="not a parameter name"):
            check_options(PlanOptions(params={name: "1"}))

    @pytest.mark.parametrize("name", ["a", "a b", "a-b_c.d/e", "0"])
    def test_name_that_mlflow_takes(self, name: str):
        assert plan(project_run(), params={name: "1"}).parameters == {name: "1"}

    def test_redacted_value_is_never_passed(self):
        """PAR-09."""
        record = project_run(repro_launch_params='{"api_key": "[redacted]"}')
        with pytest.raises(CannotJudgeError) as caught:
            plan(record)
        assert "-P api_key=" in caught.value.hint
        assert plan(record, params={"api_key": "x"}).parameters == {"api_key": "x"}

    def test_redacted_argument_is_never_passed(self):
        with pytest.raises(CannotJudgeError, match="secret"):
            plan(script_run(["train.py", "--api-key", "[redacted]"]))


class TestCommand:
    """A run that was started as a script."""

    @pytest.mark.parametrize(
        ("argv", "cwd", "command"),
        [
            (["train.py", "3", "a b", ""], "ml", ("python", "train.py", "3", "a b", "")),
            (["/home/me/r/ml/train.py"], "ml", ("python", "train.py")),
            (["ml/train.py"], ".", ("python", "ml/train.py")),
            (["../train.py"], "ml/deep", ("python", "../train.py")),
            (["-W", "ignore", "train.py", "-m"], "ml", ("python", "-W", "ignore", "train.py", "-m")),
            (["-m", "pkg.train", "--x"], "ml", ("python", "-m", "pkg.train", "--x")),
        ],
    )
    def test_exact_command_line_from_its_working_directory(self, argv: list[str], cwd: str, command: tuple[str, ...]):
        made = plan(script_run(argv, repro_launch_cwd=cwd))
        assert made.command == command
        assert made.working_directory == ("" if cwd == "." else cwd)

    def test_started_outside_of_the_repository_is_a_caveat(self):
        made = plan(script_run(["/r/ml/train.py"], repro_launch_cwd=""))
        assert (made.command, made.working_directory) == (("python", "ml/train.py"), "")
        assert "outside the repository" in made.caveats[-1]

    @pytest.mark.parametrize(
        ("tags", "words"),
        [
            pytest.param({"repro_launch_error": "it was started in a notebook"}, "a notebook", id="not-relaunchable"),
            pytest.param({"repro_launch_script": ""}, "which script", id="script-not-in-the-repository"),
            pytest.param({"repro_launch_argv": "omitted: 9000 characters"}, "command line", id="too-long-for-a-tag"),
            pytest.param({"repro_launch_argv": "{}"}, "command line", id="damaged"),
            pytest.param({"repro_launch_argv": "[1, 2]"}, "command line", id="damaged-list"),
        ],
    )
    def test_what_cannot_be_started_again(self, tags: dict[str, str], words: str):
        with pytest.raises(CannotJudgeError, match=words):
            plan(script_run(["train.py"], **tags))

    def test_script_without_the_plugin_is_started_without_arguments(self):
        """Its arguments are recorded nowhere; that is said."""
        tags = {"mlflow.source.name": "ml/train.py", "mlflow.source.git.commit": COMMIT, "mlflow.source.type": "LOCAL"}
        made = plan(Run(run_id="a", tags=tags, params={"logged": "1"}), uri=URI)
        assert (made.entry_point, made.parameters) == ("ml/train.py", {})
        assert "arguments of ml/train.py are not recorded" in made.caveats[-1]

    @pytest.mark.parametrize("name", ["/abs/train.py", "../train.py", "-c", ""], ids=repr)
    def test_script_that_is_not_in_the_repository_falls_back_to_main(self, name: str):
        """LCH-15: a path that leaves the checkout is never an entry point."""
        tags = {"mlflow.source.name": name, "mlflow.source.git.commit": COMMIT}
        made = plan(Run(run_id="a", tags=tags, params={"alpha": "1", "logged": "2"}), uri=URI)
        fitted = fit_to_project(made, project(Parameter(name="alpha")))
        assert (made.entry_point, fitted) == ("main", {"alpha": "1"})
        assert "does not say how it was started" in made.caveats[-1]


class TestFit:
    """The plan against the project as it is at that commit, before a run is created."""

    def test_entry_point_that_no_longer_exists(self):
        """LCH-15."""
        made = plan(project_run(**{"mlflow.project.entryPoint": "train"}))
        with pytest.raises(UsageError, match="no entry point 'train'") as caught:
            fit_to_project(made, Project(has_file=True, entry_points={"main": (), "other": ()}))
        assert caught.value.hint == "it has: main, other"

    def test_no_project_file_and_no_script(self):
        """LCH-13."""
        with pytest.raises(CannotJudgeError, match="no MLproject file"):
            fit_to_project(plan(project_run()), Project())

    def test_missing_parameter(self):
        made = plan(project_run(repro_launch_params="{}"))
        declared = project(Parameter(name="must"), Parameter(name="may", default="1"), Parameter(name="also"))
        with pytest.raises(UsageError, match="needs a value for must, also") as caught:
            fit_to_project(made, declared)
        assert caught.value.hint == "give it with -P must=VALUE"

    def test_empty_value_and_empty_default_are_values(self):
        made = plan(project_run(repro_launch_params='{"must": ""}'))
        declared = project(Parameter(name="must"), Parameter(name="may", default=""))
        assert fit_to_project(made, declared) == {"must": ""}

    def test_command_needs_no_project_file(self):
        made = plan(script_run(["train.py"]))
        assert fit_to_project(made, Project()) == made.parameters

    def test_entry_point_that_is_a_script_needs_no_project_file(self):
        made = plan(project_run(repro_launch_params='{"a": "1"}', **{"mlflow.project.entryPoint": "train.py"}))
        assert fit_to_project(made, Project()) == {"a": "1"}

    @given(strategies.launch_plans)
    def test_only_the_documented_errors(self, made: LaunchPlan):
        """And a plan that fits still fits."""
        declared = project(Parameter(name="alpha", default="1"))
        try:
            fitted = fit_to_project(made, declared)
        except ReproError:
            return
        assert fit_to_project(replace(made, parameters=fitted), declared) == fitted


class TestSettings:
    """Entry point, backend and environment as the reference had them, unless told otherwise."""

    @pytest.mark.parametrize(
        ("tags", "options", "expected"),
        [
            ({}, {}, ("main", "local", "local")),
            ({"mlflow.project.entryPoint": "train"}, {}, ("train", "local", "local")),
            ({"mlflow.project.env": "virtualenv"}, {}, ("main", "local", "virtualenv")),
            ({"mlflow.project.env": "virtualenv"}, {"env_manager": "local"}, ("main", "local", "local")),
            ({"mlflow.project.env": "docker"}, {}, ("main", "local", "local")),
            ({"mlflow.project.backend": "kubernetes"}, {}, ("main", "kubernetes", "local")),
            ({"mlflow.project.backend": "kubernetes"}, {"backend": "local"}, ("main", "local", "local")),
        ],
    )
    def test_entry_point_backend_and_environment(
        self, tags: dict[str, str], options: dict[str, str], expected: tuple[str, str, str]
    ):
        made = plan(project_run(**tags), **options)
        assert (made.entry_point, made.backend, made.env_manager) == expected

    def test_experiment_and_store_are_the_users(self):
        made = plan(project_run(), experiment_name="mine", tracking_uri="sqlite:////x.db", backend_config='{"a": 1}')
        assert (made.experiment_name, made.tracking_uri, made.backend_config) == ("mine", "sqlite:////x.db", '{"a": 1}')

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"env_manager": "docker"}, "unknown environment manager 'docker'"),
            ({"experiment_name": ""}, "experiment name is empty"),
            ({"experiment_name": "  "}, "experiment name is empty"),
        ],
        ids=str,
    )
    def test_bad_options(self, options: dict[str, str], words: str):
        with pytest.raises(UsageError, match=words):
            check_options(PlanOptions(**options))


class TestReference:
    """Which runs can be a reference (TRK-02)."""

    @pytest.mark.parametrize("run_id", ["d1b4b10969174863a2bad1342f6746ce", "a", "run-1_x"])
    def test_run_id(self, run_id: str):
        assert check_run_id(run_id) == run_id

    @pytest.mark.parametrize(
        "run_id", ["", "../../etc", "a b", "a/b", "x" * 300, "-x", "a\n", "a\0"], ids=lambda v: repr(v)[:20]
    )
    def test_what_is_no_run_id(self, run_id: str):
        """TRK-01: exit 2, one short line."""
        with pytest.raises(UsageError, match="not a run id") as caught:
            check_run_id(run_id)
        assert len(str(caught.value)) < 250

    @pytest.mark.parametrize(
        ("change", "option", "words"),
        [
            ({"lifecycle_stage": "deleted"}, "include_deleted", "is deleted"),
            ({"status": "FAILED"}, "allow_failed", "ended FAILED"),
            ({"status": "KILLED"}, "allow_failed", "ended KILLED"),
        ],
        ids=str,
    )
    def test_unfit_run_needs_an_option(self, change: dict[str, str], option: str, words: str):
        record = replace(Run(run_id="a", status="FINISHED"), **change)
        with pytest.raises(CannotJudgeError, match=words) as caught:
            check_reference(record, PlanOptions())
        assert f"--{option.replace('_', '-')}" in caught.value.hint
        assert check_reference(record, PlanOptions(**{option: True})) is None

    @pytest.mark.parametrize("status", ["RUNNING", "SCHEDULED"])
    def test_run_that_has_not_ended_is_never_a_reference(self, status: str):
        with pytest.raises(CannotJudgeError, match="has not ended"):
            check_reference(Run(run_id="a", status=status), PlanOptions(allow_failed=True, include_deleted=True))


KNOWN_TAGS = [
    *PROJECT_TAGS,
    *SCRIPT_TAGS,
    "repro.launch.argv",
    "repro.launch.params",
    "repro.launch.error",
    "mlflow.project.env",
]


@given(
    st.dictionaries(
        st.sampled_from(KNOWN_TAGS),
        st.text(max_size=10)
        | st.sampled_from([COMMIT, URI, "main", "[]", "{}", '["python", "x.py"]', "[1]", "train.py", "a.sh"]),
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.sampled_from(["", URI, "/srv/r#a"]),
)  # fmt: skip
def test_any_record_gives_a_plan_or_a_clear_error(tags: dict[str, str], params: dict[str, str], uri: str):
    """The tags are data that anybody may have written: never an exception of another kind."""
    record = Run(run_id="a", status="FINISHED", params=params, tags=tags)
    try:
        made = plan(record, uri=uri)
    except ReproError:
        return
    assert made.source.commit
    assert LaunchPlan.from_dict(json.loads(json.dumps(made.to_dict()))) == made


HOSTILE = (
    "[" * 90_000,
    '{"a": ' * 90_000,
    "null",
    "3",
    "[[]]",
    '[{"a": 1}]',
    '["x", 3]',
    "",
    "omitted: 9000 characters",
)


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_tags_that_somebody_else_wrote(value: str):
    """A command line that is none is refused in one line; launch parameters that are none were not recorded."""
    run = script_run([])
    tags = {**run.tags, "repro.launch.argv": value or "[", "repro.launch.params": value}
    hostile = replace(run, tags=tags)
    with pytest.raises(CannotJudgeError, match="is not recorded whole") as caught:
        plan(hostile)
    assert len(caught.value.message) < 200
    assert recorded_launch_parameters(hostile) is None
    assert recast_reference(hostile, Changes(params={"a": "1"}, files={"/x": "/y"})) == hostile


@pytest.mark.parametrize("tag", ["cwd", "script", "argv"])
def test_no_file_is_called_so(tag: str):
    value = json.dumps(["/usr/bin/python3", "train.py", "a\0b"]) if tag == "argv" else "a\0b"
    run = script_run(["train.py"])
    with pytest.raises(CannotJudgeError, match="its tags are damaged"):
        plan(replace(run, tags={**run.tags, f"repro.launch.{tag}": value}))


def test_long_command_lines_take_no_time():
    """A hundred thousand words, whatever they are: once the square of that."""
    for words in (["-a"], ["--a=1"], ["x"], ["-a", "x"]):
        many = words * 50_000
        assert sum(map(len, split_arguments(many).values())) == len(many)
        assert parse_python_argv(["python", *many])
