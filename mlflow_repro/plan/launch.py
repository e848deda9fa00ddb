"""Decide how a run is brought back. Pure functions: nothing here reads a file, a store or a clock."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.text.command_line import parse_python_argv
from mlflow_repro.text.giturl import check_commit, parse_git_uri
from mlflow_repro.text.redact import REDACTED
from mlflow_repro.values.plan import ENVIRONMENTS, LaunchPlan, Source
from mlflow_repro.values.run import ENTRY_POINT_TAG, is_project_run, launch_parameters, recorded_launch_parameters

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mlflow_repro.values.plan import Project
    from mlflow_repro.values.run import Run

ENV_MANAGERS = ("local", "virtualenv", "uv", "conda")
NOTEBOOK_RUNNER = "papermill"
"""The module that executes notebooks; the entry point of a plan that does."""


_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_PARAM_NAME = re.compile(r"[\w.\-/ ]+")
_PARAM_CUT = 6000  # characters; where MLflow cuts a parameter that it logs
_ARGUMENT_LIMIT = 128 * 1024 - 1  # bytes of one argument, Linux's MAX_ARG_STRLEN
_SCRIPT_SUFFIXES = (".py", ".sh", ".R")


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """What the user asked for beside the run itself. Empty means "as the reference had it"."""

    uri: str = ""
    commit: str = ""
    experiment_name: str = "Default"
    tracking_uri: str = ""
    env: str = ""
    env_manager: str = ""
    backend: str = ""
    backend_config: str = ""
    params: Mapping[str, str] | None = None
    include_deleted: bool = False
    allow_failed: bool = False


def check_options(options: PlanOptions) -> None:
    """Find bad input before anything is read or started. Raises UsageError or RefusedError."""
    if options.uri:
        parse_git_uri(options.uri)
    if options.commit and not _COMMIT.fullmatch(options.commit):
        raise UsageError(f"not a commit: {options.commit[:80]!r}", "give its whole id: git rev-parse HEAD")
    if options.env_manager and options.env_manager not in ENV_MANAGERS:
        raise UsageError(
            f"unknown environment manager {options.env_manager!r}", f"use one of {', '.join(ENV_MANAGERS)}"
        )
    _check_environment(options)
    if not options.experiment_name.strip():
        raise UsageError("the experiment name is empty", "leave --experiment_name out for 'Default'")
    _check_parameters(options.params or {})


def _check_environment(options: PlanOptions) -> None:
    if options.env and options.env not in ENVIRONMENTS:
        raise UsageError(f"unknown environment {options.env!r}", f"use one of {', '.join(ENVIRONMENTS)}")
    if options.env in ("recorded", "current") and options.env_manager not in ("", "local"):
        raise UsageError(
            f"--env {options.env} and --env-manager {options.env_manager} contradict each other",
            "an environment manager builds the project's environment: --env project",
        )


def check_reference(reference: Run, options: PlanOptions) -> None:
    """Refuse a run that cannot be a reference. Raises CannotJudgeError."""
    name = f"run {reference.run_id}"
    if reference.lifecycle_stage == "deleted" and not options.include_deleted:
        raise CannotJudgeError(f"{name} is deleted", "restore it, or pass --include-deleted")
    if reference.status in ("RUNNING", "SCHEDULED"):
        raise CannotJudgeError(f"{name} has not ended (status {reference.status})", "wait until it has, or end it")
    if reference.status in ("FAILED", "KILLED") and not options.allow_failed:
        raise CannotJudgeError(
            f"{name} ended {reference.status}, so it has no complete result to compare with",
            "choose a finished run, or pass --allow-failed",
        )


def plan_launch(reference: Run, options: PlanOptions) -> LaunchPlan:
    """The plan that follows from the record alone; `fit_to_project` completes it once the code is there.

    Raises CannotJudgeError when the record does not say enough, UsageError or RefusedError on bad options.
    """
    source = _plan_source(reference, options)
    start = _plan_entry_point(reference) if is_project_run(reference) else _plan_script(reference)
    plan = LaunchPlan(
        reference_run_id=reference.run_id,
        source=source,
        entry_point=start.entry_point,
        parameters={**start.parameters, **(options.params or {})},
        only_declared=start.only_declared,
        command=start.command,
        working_directory=source.subdirectory if start.working_directory is None else start.working_directory,
        experiment_name=options.experiment_name,
        tracking_uri=options.tracking_uri,
        backend=options.backend or reference.tags.get("mlflow.project.backend", "local"),
        backend_config=options.backend_config,
        env_manager=options.env_manager or _recorded_env_manager(reference),
        caveats=(*_note_other_commit(reference, options), *start.notes),
    )
    _refuse_redacted(plan)
    _refuse_no_text(plan)
    _check_parameters(plan.parameters)
    return plan


@dataclass(frozen=True, kw_only=True)
class _Start:
    """How the program is started: the part of a plan that a run's own facts decide, and what is to be said of it.

    ``working_directory`` is None for the project's folder.
    """

    entry_point: str = "main"
    parameters: Mapping[str, str] = field(default_factory=dict)
    only_declared: bool = False
    command: tuple[str, ...] = ()
    working_directory: str | None = None
    notes: tuple[str, ...] = ()


def fit_to_project(plan: LaunchPlan, project: Project, *, given: Collection[str] = ()) -> Mapping[str, str]:
    """The parameters of the plan that the project takes as it is at that commit, checked before a run is created.

    ``given`` names the parameters that the user set: they are passed on whether declared or not.

    Raises UsageError when the entry point or a parameter's value is missing, CannotJudgeError when there is
    neither an MLproject file nor a script to start.
    """
    if plan.command:
        return plan.parameters
    declared = project.entry_points.get(plan.entry_point)
    if declared is None:
        if plan.entry_point.endswith(_SCRIPT_SUFFIXES):
            return _chosen_parameters(plan, given)
        where = plan.source.project_uri
        if not project.has_file:
            raise CannotJudgeError(
                f"{where} has no MLproject file, and the run recorded no script to start",
                "give the project's folder: --uri URI#subdirectory",
            )
        known = ", ".join(sorted(project.entry_points)) or "none"
        raise UsageError(f"the MLproject file of {where} has no entry point {plan.entry_point!r}", f"it has: {known}")
    parameters = _chosen_parameters(plan, {*given, *(parameter.name for parameter in declared)})
    if plan.only_declared:
        _check_not_cut({name: value for name, value in parameters.items() if name not in given})
    missing = [
        parameter.name for parameter in declared if parameter.default is None and parameter.name not in parameters
    ]
    if missing:
        raise UsageError(
            f"entry point {plan.entry_point!r} needs a value for {', '.join(missing)}, and the run recorded none",
            f"give it with -P {missing[0]}=VALUE",
        )
    return parameters


def _chosen_parameters(plan: LaunchPlan, names: Collection[str]) -> Mapping[str, str]:
    """All parameters of the plan, or those of ``names`` where they are mixed with what user code logged."""
    if not plan.only_declared:
        return plan.parameters
    return {name: value for name, value in plan.parameters.items() if name in names}


def _plan_source(reference: Run, options: PlanOptions) -> Source:
    commit = options.commit or recorded_commit(reference)
    if not commit:
        raise CannotJudgeError(
            f"run {reference.run_id} has no git commit: {_why_no_commit(reference)}",
            "without it the code that ran is not known",
        )
    recorded = recorded_uri(reference)
    if not (options.uri or recorded):
        raise CannotJudgeError(
            f"run {reference.run_id} does not say which git repository it came from", "give it with --uri"
        )
    wanted = parse_git_uri(options.uri or recorded)
    subdirectory = wanted.subdirectory
    if subdirectory is None:
        subdirectory = (parse_git_uri(recorded).subdirectory if recorded else None) or ""
    return Source(uri=wanted.absolute, commit=check_commit(commit), subdirectory=subdirectory)


def _why_no_commit(reference: Run) -> str:
    if not (reference.is_captured or "mlflow.source.name" in reference.tags):
        return "it was made by MlflowClient.create_run or over REST, of which MLflow tells no plugin"
    return reference.fact("git.error").value or "it was not made from a git repository with a commit"


def recorded_commit(reference: Run) -> str:
    """The commit that the run names: ours, else MLflow's own tag; empty for none."""
    return reference.fact("git.commit").value or reference.tags.get("mlflow.source.git.commit", "")


def _note_other_commit(reference: Run, options: PlanOptions) -> tuple[str, ...]:
    recorded = recorded_commit(reference)
    if options.commit in ("", recorded):
        return ()
    note = f"the code is that of commit {options.commit[:12]}, not of {recorded[:12] or 'the reference'}"
    return (f"{note}: this asks whether the change keeps the result",)


def recorded_uri(reference: Run) -> str:
    """The git URI with subdirectory that the run names: ours, else MLflow's own tags."""
    ours = reference.fact("git.uri").value
    if ours:
        return ours
    url = reference.tags.get("mlflow.source.git.repoURL", "")
    name = reference.tags.get("mlflow.source.name", "")
    if url:
        _, hash_sign, subdirectory = name.partition("#")
        return f"{url}#{subdirectory}" if hash_sign and is_project_run(reference) else url
    # Without a project the source name is a script's path; with one it is the URI that was typed.
    return name if is_project_run(reference) and ("://" in name or name.endswith(".git")) else ""


def _recorded_env_manager(reference: Run) -> str:
    """MLflow tags every manager but ``local``; a docker project is started with ``local``."""
    tag = reference.tags.get("mlflow.project.env", "")
    return tag if tag in ENV_MANAGERS else "local"


def _plan_entry_point(reference: Run) -> _Start:
    recorded = recorded_launch_parameters(reference)
    note = (
        "the run was made without mlflow-repro: the values of the parameters that its entry point declares"
        " are taken from what was logged"
    )
    return _Start(
        entry_point=reference.tags.get(ENTRY_POINT_TAG, "main"),
        parameters=launch_parameters(reference),
        only_declared=recorded is None,
        notes=(note,) if recorded is None else (),
    )


def _plan_script(reference: Run) -> _Start:
    if reference.fact("launch.kind").value == "notebook":  # papermill; `launch.notebook` completes its command
        directory, notes = _working_directory(reference, "the kernel")
        command = ("python", "-m", NOTEBOOK_RUNNER)
        return _Start(entry_point=NOTEBOOK_RUNNER, command=command, working_directory=directory, notes=notes)
    if reference.fact("launch.argv").value:
        if reference.fact("launch.error").value:
            raise CannotJudgeError(
                f"run {reference.run_id} cannot be started again: {reference.fact('launch.error').value}",
                "start the training from a script in a git repository",
            )
        return _plan_command(reference, _read_argv(reference))
    name = reference.tags.get("mlflow.source.name", "")
    if name.endswith(_SCRIPT_SUFFIXES) and not posixpath.isabs(name) and ".." not in name.split("/"):
        note = f"the arguments of {name} are not recorded (made without mlflow-repro); it is started without any"
        return _Start(entry_point=name, notes=(note,))
    note = (
        "the run does not say how it was started; the project's entry point main is used, with the logged values of"
        " the parameters that it declares"
    )
    return _Start(parameters=reference.params, only_declared=True, notes=(note,))


def _working_directory(reference: Run, what: str) -> tuple[str, tuple[str, ...]]:
    """The recorded working directory, relative to the repository, and what is to be said of it."""
    directory = reference.fact("launch.cwd").value
    if directory is None:
        return "", (f"{what} was started from outside the repository; it is started at its top",)
    return ("" if directory == "." else directory), ()


def _read_argv(reference: Run) -> tuple[str, ...]:
    argv = reference.words("launch.argv")
    if argv is None:
        stored = reference.fact("launch.argv").value or ""
        raise CannotJudgeError(
            f"the command line of run {reference.run_id} is not recorded whole: {stored[:40]!r}",
            "it was too long for a tag; pass long arguments by a file",
        )
    return argv


def _plan_command(reference: Run, argv: Sequence[str]) -> _Start:
    """The recorded command line, with the script's path as seen from the recorded working directory."""
    command = parse_python_argv(argv)
    working_directory, notes = _working_directory(reference, "the reference")
    program = reference.fact("launch.program").value
    if command.kind == "module":
        start: tuple[str, ...] = ("python", *command.flags, "-m", command.target)
    elif program:
        start = (program,)
    else:
        script = reference.fact("launch.script").value
        if not script:
            raise CannotJudgeError(
                f"run {reference.run_id} does not say which script of the repository was started",
                "start the training from a script that is committed",
            )
        start = ("python", *command.flags, posixpath.relpath(script, working_directory or "."))
    return _Start(
        entry_point=start[-1],
        command=(*start, *command.arguments),
        working_directory=working_directory,
        notes=notes,
    )


def _refuse_redacted(plan: LaunchPlan) -> None:
    for name, value in plan.parameters.items():
        if REDACTED in value:
            raise CannotJudgeError(
                f"parameter {name!r} was a secret and is not recorded", f"set it with -P {name}=VALUE"
            )
    for argument in plan.command:
        if REDACTED in argument:
            raise CannotJudgeError(
                "the recorded command line had a secret, which is not recorded",
                "pass secrets to the script by an environment variable",
            )


def _refuse_no_text(plan: LaunchPlan) -> None:
    """Refuse what no file and no argument can be called: somebody else wrote these tags."""
    for text in (plan.working_directory, plan.entry_point, *plan.command):
        if "\0" in text:
            raise CannotJudgeError(
                f"run {plan.reference_run_id} says that it was started with {text[:40]!r}", "its tags are damaged"
            )


def _check_parameters(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        if not _PARAM_NAME.fullmatch(name):
            raise UsageError(f"not a parameter name: {name!r}", "use letters, digits, '_', '-', '.', '/' and spaces")
        if "\0" in value:
            raise UsageError(f"the value of parameter {name!r} holds a NUL character", "no program can be given one")
        if len(value.encode("utf-8", "surrogateescape")) > _ARGUMENT_LIMIT:
            raise UsageError(
                f"the value of parameter {name!r} is longer than {_ARGUMENT_LIMIT} bytes",
                "no program can be given an argument of that length; use a file",
            )


def _check_not_cut(parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        if len(value) >= _PARAM_CUT:
            raise CannotJudgeError(
                f"the logged value of parameter {name!r} is {len(value)} characters long: MLflow may have cut it",
                f"give the whole value with -P {name}=VALUE",
            )
