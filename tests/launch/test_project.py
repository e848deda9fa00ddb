"""MLproject files: read, checked, and written for a run that was started without one (group LCH, PAR-10)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
import strategies  # noqa: F401 - its settings for hypothesis
import yaml
from conftest import git
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.launch.project import read_project, resolve_path_parameters, write_command_project
from mlflow_repro.values.plan import LaunchPlan, Parameter, Project, Source

if TYPE_CHECKING:
    from pathlib import Path

FULL = """\
name: full
python_env: python_env.yaml
entry_points:
  main:
    parameters:
      alpha: float
      text: {type: string, default: "a b"}
      zero: {type: float, default: 0}
      empty: {default: ""}
      none: {type: string, default: null}
      data: {type: path, default: data.csv}
    command: "python train.py {alpha} {text} {zero} {empty} {none} {data} {{braces}}"
  bare:
    command: "python other.py"
  7:
    command: "python seven.py"
"""


def write_project(directory: Path, text: str, name: str = "MLproject") -> Path:
    (directory / name).write_text(text, encoding="utf-8")
    return directory


class TestRead:
    """What an MLproject file says."""

    def test_entry_points_and_parameters(self, tmp_path: Path):
        project = read_project(write_project(tmp_path, FULL), "main")
        assert (project.has_file, project.name, project.environment) == (True, "full", "python_env")
        assert list(project.entry_points) == ["main", "bare", "7"]
        assert project.entry_points["bare"] == ()
        assert project.entry_points["main"] == (
            Parameter(name="alpha", type="float"),
            Parameter(name="text", default="a b"),
            Parameter(name="zero", type="float", default="0"),
            Parameter(name="empty", default=""),
            Parameter(name="none"),
            Parameter(name="data", type="path", default="data.csv"),
        )

    def test_folder_without_a_file(self, tmp_path: Path):
        assert read_project(tmp_path, "main") == Project()

    @pytest.mark.parametrize("name", ["MLproject", "mlproject", "MLPROJECT"])
    def test_file_name_in_any_case(self, tmp_path: Path, name: str):
        assert read_project(write_project(tmp_path, FULL, name), "main").name == "full"

    @pytest.mark.parametrize(
        ("text", "files", "environment"),
        [
            ("name: x", [], ""),
            ("name: x", ["conda.yaml"], "conda_env"),
            ("name: x", ["conda.yaml", "python_env.yaml"], "python_env"),
            ("conda_env: c.yaml", ["python_env.yaml"], "conda_env"),
            ("docker_env: {image: x}", ["python_env.yaml"], "docker_env"),
        ],
    )
    def test_kind_of_environment(self, tmp_path: Path, text: str, files: list[str], environment: str):
        """The one that is declared, else the file of the usual name, as MLflow finds it."""
        for file in files:
            (tmp_path / file).touch()
        assert read_project(write_project(tmp_path, text), "main").environment == environment

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            pytest.param("", "it is empty", id="LCH-13-empty"),
            pytest.param("- a\n- b\n", "it is not a mapping", id="LCH-13-list"),
            pytest.param("just text", "it is not a mapping", id="LCH-13-text"),
            pytest.param("a: [", "while parsing", id="LCH-13-no-yaml"),
            pytest.param("a: \x01", "special characters", id="LCH-13-control-character"),
            pytest.param("a: 2024-13-45", "month must be", id="LCH-13-no-date"),
            pytest.param("entry_points: [main]", "entry_points is not a mapping", id="LCH-13-entry-points"),
            pytest.param("entry_points: {main: null}", "'main' has no command", id="LCH-13-no-body"),
            pytest.param("entry_points: {main: {}}", "'main' has no command", id="LCH-13-no-command"),
            pytest.param(
                "entry_points: {main: {command: 3}}", "'main' has no command", id="LCH-13-command-is-a-number"
            ),
            pytest.param(
                "entry_points: {main: {command: x, parameters: [a]}}", "parameters of entry point 'main'",
                id="LCH-13-list-of-parameters",
            ),
            pytest.param("entry_points: {main: {command: 'a {'}}", "stray brace", id="LCH-13-open-brace"),
            pytest.param("entry_points: {main: {command: 'a }'}}", "stray brace", id="LCH-13-closing-brace"),
            pytest.param("entry_points: {main: {command: 'a {}'}}", "stray brace", id="LCH-13-empty-braces"),
            pytest.param(
                "entry_points: {main: {command: 'a {b}', parameters: {c: string}}}", "uses 'b'", id="LCH-13-undeclared"
            ),
            pytest.param(
                "entry_points: {main: {command: 'a {b[x]}', parameters: {b: string}}}", "stray brace", id="LCH-13-index"
            ),
            pytest.param("a: !!python/object/apply:os.system ['touch pwned']", "python", id="LCH-14-object"),
        ],
    )  # fmt: skip
    def test_file_that_is_not_valid(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, words: str):
        """Exit 3, in one line; nothing in it is run."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CannotJudgeError, match="MLproject file is not valid") as caught:
            read_project(write_project(tmp_path, text), "main")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "pwned").exists()

    def test_file_that_is_not_text(self, tmp_path: Path):
        (tmp_path / "MLproject").write_bytes(b"name: caf\xe9\n")
        with pytest.raises(CannotJudgeError, match="not valid"):
            read_project(tmp_path, "main")

    def test_folder_in_place_of_the_file(self, tmp_path: Path):
        (tmp_path / "MLproject").mkdir()
        with pytest.raises(CannotJudgeError, match="not valid"):
            read_project(tmp_path, "main")

    def test_command_of_another_entry_point_is_not_checked(self, tmp_path: Path):
        """A stray brace there does not keep this one from running."""
        text = "entry_points: {main: {command: x}, broken: {command: 'a {'}}"
        assert list(read_project(write_project(tmp_path, text), "main").entry_points) == ["main", "broken"]


def plan_with(parameters: dict[str, str]) -> LaunchPlan:
    return LaunchPlan(reference_run_id="a", source=Source(uri="u", commit="c"), parameters=parameters)


class TestPathParameters:
    """MLflow resolves them against the folder of whoever launches, which here is not the reference's."""

    PROJECT = Project(
        has_file=True,
        entry_points={"main": (Parameter(name="data", type="path"), Parameter(name="text"))},
    )

    def test_file_of_the_project_is_made_absolute(self, tmp_path: Path):
        (tmp_path / "data.csv").touch()
        resolved = resolve_path_parameters(plan_with({"data": "data.csv", "text": "data.csv"}), self.PROJECT, tmp_path)
        assert resolved == {"data": f"{tmp_path}/data.csv", "text": "data.csv"}

    def test_default_is_resolved_too(self, tmp_path: Path):
        (tmp_path / "data.csv").touch()
        project = Project(entry_points={"main": (Parameter(name="data", type="path", default="data.csv"),)})
        assert resolve_path_parameters(plan_with({}), project, tmp_path) == {"data": f"{tmp_path}/data.csv"}

    @pytest.mark.parametrize("value", ["s3://bucket/data.csv", "https://host/data.csv", ""])
    def test_uri_and_nothing_stay(self, tmp_path: Path, value: str):
        assert resolve_path_parameters(plan_with({"data": value}), self.PROJECT, tmp_path) == {"data": value}

    @pytest.mark.parametrize("value", ["missing.csv", "/home/of/another/machine.csv", "x" * 5000], ids=lambda v: v[:20])
    def test_path_that_is_not_there(self, tmp_path: Path, value: str):
        """PAR-10: exit 3, before a run is created."""
        with pytest.raises(CannotJudgeError, match="which is not there") as caught:
            resolve_path_parameters(plan_with({"data": value}), self.PROJECT, tmp_path)
        assert "-P data=PATH" in caught.value.hint


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit: a script, and a project file in a folder of its own."""
    place = tmp_path / "checkout"
    place.mkdir()
    git("init", "--quiet", cwd=place)
    for folder in ("plain", "with", "a [b]*"):
        (place / folder).mkdir()
        (place / folder / "train.py").touch()
    write_project(place / "with", FULL)
    git("add", "--all", cwd=place)
    git("commit", "--quiet", "--message=x", cwd=place)
    return place


class TestWrite:
    """A project file of ours for a recorded command line."""

    @pytest.mark.parametrize("folder", ["", "plain", "with", "a [b]*"])
    def test_tree_stays_clean(self, checkout: Path, folder: str):
        """The run in it records a clean tree, as the reference did."""
        entry_point = write_command_project(checkout / folder, ("python", "train.py"))
        project = read_project(checkout / folder, entry_point)
        assert entry_point in project.entry_points
        assert git("status", "--porcelain", cwd=checkout) == ""

    def test_declared_environment_is_kept(self, checkout: Path):
        write_command_project(checkout / "with", ("python", "train.py"))
        plain = yaml.safe_load((checkout / "with" / "MLproject").read_text(encoding="utf-8"))
        assert plain["python_env"] == "python_env.yaml"

    def test_own_entry_points_are_kept(self, checkout: Path):
        """A workflow that was started as a script starts its steps by them; none is taken for ours."""
        own = {"reproduce": {"command": "python step.py"}}
        write_project(checkout / "with", yaml.safe_dump({"entry_points": own}))
        entry_point = write_command_project(checkout / "with", ("python", "train.py"))
        plain = yaml.safe_load((checkout / "with" / "MLproject").read_text(encoding="utf-8"))
        assert plain["entry_points"] == {**own, entry_point: {"command": "python train.py"}}
        assert entry_point != "reproduce"

    def test_commit_is_left_alone(self, checkout: Path):
        before = git("rev-parse", "HEAD", cwd=checkout)
        write_command_project(checkout / "with", ("python", "train.py"))
        assert git("rev-parse", "HEAD", cwd=checkout) == before
        assert git("show", "HEAD:with/MLproject", cwd=checkout) == FULL.strip()

    @pytest.mark.parametrize(
        "words",
        [
            ["train.py", "a b", ""],
            ["train.py", "{alpha}", "{{x}}", "{", "}"],
            ["train.py", "$HOME", "`x`", "it's", '"', "\\"],
            ["train.py", "one\ntwo", "\t", "Zürich 東京 🚀", "#", "- x: y", "'"],
            ["-u", "-W", "ignore", "train.py", "--help", "-x"],
        ],
        ids=str,
    )
    def test_command_comes_back_word_for_word(self, checkout: Path, words: list[str]):
        entry_point = write_command_project(checkout / "plain", ("python", *words))
        assert words_that_run(checkout / "plain" / "MLproject", entry_point) == ["python", *words]


def words_that_run(path: Path, entry_point: str) -> list[str]:
    """What the shell would start: MLflow passes the command through ``str.format`` and gives it to bash."""
    plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    return shlex.split(plain["entry_points"][entry_point]["command"].format())


# What an argument vector can hold: no NUL; and no lone surrogates, which the tags do not keep either.
words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)


@given(st.lists(words, min_size=1, max_size=4))
def test_any_command_survives_yaml_format_and_shell(tmp_path_factory: pytest.TempPathFactory, command: list[str]):
    place = tmp_path_factory.getbasetemp() / "command-project"
    if not place.exists():
        place.mkdir()
        git("init", "--quiet", cwd=place)
    (place / "MLproject").unlink(missing_ok=True)
    entry_point = write_command_project(place, tuple(command))
    assert words_that_run(place / "MLproject", entry_point) == command
