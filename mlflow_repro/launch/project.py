"""Read an MLproject file, and write one for a run that was not started through one."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mlflow_repro.code.git import GENERATED_KEY, run_git
from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.values.plan import Parameter, Project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.values.plan import LaunchPlan

_ENVIRONMENTS = ("docker_env", "python_env", "conda_env")
GENERATED_ENTRY_POINT = "reproduce"


def read_project(directory: Path, entry_point: str) -> Project:
    """Read the MLproject file of ``directory``, if there is one.

    Raises CannotJudgeError when the file, or the command of the entry point that is wanted, is not valid.
    """
    path = _find_file(directory)
    if path is None:
        return Project(environment=_default_environment(directory))
    plain = _load(path)
    entry_points = plain.get("entry_points") or {}
    if not isinstance(entry_points, dict):
        raise _invalid("entry_points is not a mapping")
    if isinstance(entry_points.get(entry_point), dict):
        _check_command(entry_point, entry_points[entry_point])
    return Project(
        has_file=True,
        name=str(plain.get("name") or ""),
        environment=next((kind for kind in _ENVIRONMENTS if plain.get(kind)), _default_environment(directory)),
        entry_points={str(name): _read_parameters(str(name), body) for name, body in entry_points.items()},
    )


def resolve_path_parameters(plan: LaunchPlan, project: Project, directory: Path) -> dict[str, str]:
    """The launch parameters, those of type ``path`` made absolute where they name a file of the project.

    MLflow resolves them against the directory of whoever launches, which here is not the reference's. Raises
    CannotJudgeError for a path that is not there.
    """
    parameters = dict(plan.parameters)
    for declared in project.entry_points.get(plan.entry_point, ()):
        value = parameters.get(declared.name, declared.default)
        if declared.type != "path" or not value or "://" in value:
            continue
        found = directory / value  # an absolute value stays what it is
        if not os.path.exists(found):  # not Path.exists: it raises when the name is too long to be one
            raise CannotJudgeError(
                f"parameter {declared.name!r} names {value[:200]!r}, which is not there",
                f"put the data back, or give its place with -P {declared.name}=PATH",
            )
        parameters[declared.name] = str(found)
    return parameters


def write_command_project(directory: Path, command: tuple[str, ...]) -> str:
    """Give the checkout an MLproject file with an entry point that is ``command``; returns the entry point's name.

    The file is hidden from git (it is ours, not the user's), so that the run still records a clean tree. What the
    project declares is kept: its environment, and the entry points, which the command may start as steps.
    """
    path = _find_file(directory)
    plain: dict[str, Any] = {"name": "reproduction"}
    own: Mapping[str, Any] = {}
    if path is not None:
        declared = _load(path)
        plain.update({kind: declared[kind] for kind in ("name", "python_env", "conda_env") if kind in declared})
        own = declared.get("entry_points") or {}
        # What is there may be an uncommitted change of the user's: the index keeps it, and what we write over it is
        # passed over by git, and by what records the relaunched run.
        run_git(["update-index", "--add", "--", path.name], cwd=directory)
        run_git(["update-index", "--skip-worktree", "--", path.name], cwd=directory)
        run_git(["config", "--add", GENERATED_KEY, f"{_relative_to_top(directory)}{path.name}"], cwd=directory)
    else:
        path = directory / "MLproject"
        git_directory = Path(run_git(["rev-parse", "--absolute-git-dir"], cwd=directory))
        exclude = git_directory / "info" / "exclude"
        exclude.parent.mkdir(exist_ok=True)
        with exclude.open("a", encoding="utf-8") as file:
            folder = re.sub(r"([*?\[\\])", r"\\\1", _relative_to_top(directory))  # a pattern, not a path
            file.write(f"/{folder}MLproject\n")
    # MLflow passes the command through str.format, so braces are doubled.
    shell = shlex.join(command).replace("{", "{{").replace("}", "}}")
    name = GENERATED_ENTRY_POINT
    while name in own:
        name += "_"
    plain["entry_points"] = {**own, name: {"command": shell}}
    path.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    return name


def _relative_to_top(directory: Path) -> str:
    return run_git(["rev-parse", "--show-prefix"], cwd=directory)


def _find_file(directory: Path) -> Path | None:
    """MLflow takes the first file whose name is ``mlproject`` in whatever case."""
    for name in os.listdir(directory):
        if name.lower() == "mlproject":
            return directory / name
    return None


def _default_environment(directory: Path) -> str:
    if (directory / "python_env.yaml").exists():
        return "python_env"
    return "conda_env" if (directory / "conda.yaml").exists() else ""


def _load(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, OSError) as error:  # ValueError: no date, or not UTF-8
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _invalid(first_line) from error
    if not isinstance(plain, dict):
        raise _invalid("it is empty" if plain is None else "it is not a mapping")
    return plain


def _read_parameters(entry_point: str, body: object) -> tuple[Parameter, ...]:
    if not isinstance(body, dict):
        raise _invalid(f"entry point {entry_point!r} has no command")
    declared = body.get("parameters") or {}
    if not isinstance(declared, dict):
        raise _invalid(f"the parameters of entry point {entry_point!r} are not a mapping")
    return tuple(_read_parameter(str(name), form) for name, form in declared.items())


def _read_parameter(name: str, form: object) -> Parameter:
    if isinstance(form, dict):
        default = form.get("default")
        return Parameter(
            name=name, type=str(form.get("type", "string")), default=None if default is None else str(default)
        )
    return Parameter(name=name, type=str(form))


def _check_command(entry_point: str, body: Mapping[str, Any]) -> None:
    command = body.get("command")
    if not isinstance(command, str):
        raise _invalid(f"entry point {entry_point!r} has no command")
    names = body.get("parameters") or {}
    try:
        command.format(**dict.fromkeys(map(str, names), ""))
    except KeyError as error:
        raise _invalid(f"entry point {entry_point!r} uses {error} in its command and does not declare it") from error
    except (IndexError, TypeError, ValueError, AttributeError) as error:
        raise _invalid(f"the command of entry point {entry_point!r} has a stray brace ({error})") from error


def _invalid(why: str) -> CannotJudgeError:
    return CannotJudgeError(
        f"the MLproject file is not valid: {why}", "MLflow could not run it either; mend it in the repository"
    )
