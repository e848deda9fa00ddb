"""Decide in which environment a run is relaunched. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.versions import is_same_release
from mlflow_repro.values.environment import OURSELVES, list_differences
from mlflow_repro.values.plan import EnvironmentPlan

if TYPE_CHECKING:
    from mlflow_repro.values.environment import Installed, RecordedEnvironment
    from mlflow_repro.values.plan import LaunchPlan
    from mlflow_repro.values.run import Run

_SHOWN = 4  # differences that are named; the others are counted
_PROJECT_DEFAULT = "virtualenv"  # what MLflow itself takes for a project


@dataclass(frozen=True, kw_only=True)
class EnvironmentWish:
    """What the user asked for; ``env`` and ``env_manager`` are empty for "as it has to be"."""

    env: str = ""
    env_manager: str = ""
    allow_substitutions: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The environment of a relaunch, what MLflow builds it with, and what is to be said of it."""

    environment: EnvironmentPlan
    env_manager: str = "local"
    notes: tuple[str, ...] = ()


def plan_surroundings(plan: LaunchPlan, reference: Run, wish: EnvironmentWish) -> Choice | None:
    """The environment, where that follows without the record; None when the record has to be read.

    Raises UsageError when what was asked for cannot be.
    """
    if wish.env == "recorded" and plan.backend != "local":
        raise UsageError(
            f"the recorded environment is rebuilt on this machine, and the backend is {plan.backend!r}",
            "leave --env out, or pass --backend local",
        )
    was_managed = reference.tags.get("mlflow.project.env", "") not in ("", "local")
    manager, reason = plan.env_manager, ""
    if wish.env == "project":
        manager = _PROJECT_DEFAULT if manager == "local" and not wish.env_manager else manager
        reason = "as asked"
    elif plan.backend != "local":
        reason = f"the backend {plan.backend} decides"
    elif wish.env_manager not in ("", "local"):
        reason = "as asked"
    elif not wish.env and not wish.env_manager and was_managed:
        reason = "as the reference"
    return Choice(environment=EnvironmentPlan(kind="project", reason=reason), env_manager=manager) if reason else None


def choose_environment(
    plan: LaunchPlan,
    wish: EnvironmentWish,
    recorded: RecordedEnvironment | None,
    current: Installed,
    *,
    why_none: str = "",
) -> Choice:
    """The recorded environment or the current one.

    ``recorded`` is None when nothing differs that could be known without the record (``why_none`` empty), or when the
    reference has no such record (``why_none`` says why). Raises CannotJudgeError when what is asked for is not there.
    """
    asked = wish.env or ("current" if wish.env_manager == "local" else "")
    if recorded is None:
        return _choose_without_record(plan, asked, why_none)
    differences = list_differences(recorded.installed, current, recorded.needed, "here")
    shown = list_some(differences, _SHOWN)
    if asked == "recorded" or (not asked and differences):
        environment = EnvironmentPlan(
            kind="recorded",
            reason=shown or "as asked",
            python=recorded.installed.python.version,
            locks={lock.file: lock.index for lock in recorded.locks},
        )
        return Choice(environment=environment)
    if not differences:
        return Choice(environment=EnvironmentPlan(reason="it has what the run imported"))
    note = f"the current environment differs from the recorded one: {shown}"
    return Choice(environment=EnvironmentPlan(reason="as asked"), notes=(note,))


def _choose_without_record(plan: LaunchPlan, asked: str, why_none: str) -> Choice:
    if not why_none:
        return Choice(environment=EnvironmentPlan(reason="nothing that is installed differs"))
    if asked == "recorded":
        raise CannotJudgeError(
            f"run {plan.reference_run_id} has no environment to rebuild: {why_none}", "pass --env current"
        )
    note = f"the reference's environment is not known ({why_none}): it is relaunched in the current one"
    reason = "as asked" if asked else "the recorded one is not known"
    return Choice(environment=EnvironmentPlan(reason=reason), notes=(note,))


def list_missing(recorded: RecordedEnvironment, commit: str, wish: EnvironmentWish) -> tuple[list[str], list[str]]:
    """Of the packages that no lock can hold: those that the checkout of ``commit`` has, and a note for the others.

    Raises CannotJudgeError when the run imported one that cannot be had, unless substitutions are allowed.
    """
    at_hand, notes = [], []
    for name, why in sorted(recorded.left_out.items()):
        if name == OURSELVES:
            continue
        if recorded.checkouts.get(name, ("", ""))[0] == commit:
            at_hand.append(name)
            notes.append(f"{name} was imported from the run's own repository and is again")
        elif name not in recorded.needed:
            notes.append(f"{name} is left out ({why}); the run had not imported it")
        elif wish.allow_substitutions:
            notes.append(f"{name} is left out, although the run imported it ({why})")
        else:
            raise CannotJudgeError(
                f"package {name} of the recorded environment cannot be had: {why}",
                "--allow-substitutions leaves it out, --env current takes the environment that is here",
            )
    return at_hand, notes


def differs_in_schema(one: str, other: str) -> bool:
    """True when two versions of MLflow may have different database schemas: they change with a minor version only."""
    return bool(one and other) and not is_same_release(one, other, 2)
