"""Decide in which environment a run is relaunched. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.text.listing import list_some
from mlflow_repro.text.versions import is_same_release
from mlflow_repro.values.environment import OURSELVES, list_differences
from mlflow_repro.values.plan import EnvironmentPlan

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def plan_surroundings(plan: LaunchPlan, reference: Run, wish: EnvironmentWish) -> LaunchPlan | None:
    """The plan with its environment, where that follows without the record; None when the record has to be read.

    Raises UsageError when what was asked for cannot be.
    """
    if wish.env == "recorded" and plan.backend != "local":
        raise UsageError(
            f"the recorded environment is rebuilt on this machine, and the backend is {plan.backend!r}",
            "leave --env out, or pass --backend local",
        )
    was_managed = reference.tags.get("mlflow.project.env", "") not in ("", "local")
    if wish.env == "project":
        manager = _PROJECT_DEFAULT if plan.env_manager == "local" and not wish.env_manager else plan.env_manager
        return _as_project(replace(plan, env_manager=manager), "as asked")
    if plan.backend != "local":
        return _as_project(plan, f"the backend {plan.backend} decides")
    if wish.env_manager not in ("", "local"):
        return _as_project(plan, "as asked")
    if not wish.env and not wish.env_manager and was_managed:
        return _as_project(plan, "as the reference")
    return None


def choose_environment(
    plan: LaunchPlan,
    wish: EnvironmentWish,
    recorded: RecordedEnvironment | None,
    current: Installed,
    *,
    why_none: str = "",
) -> LaunchPlan:
    """The plan with the recorded environment or the current one.

    ``recorded`` is None when nothing differs that could be known without the record (``why_none`` empty), or when the
    reference has no such record (``why_none`` says why). Raises CannotJudgeError when what is asked for is not there.
    """
    plan = replace(plan, env_manager="local")
    asked = wish.env or ("current" if wish.env_manager == "local" else "")
    if recorded is None:
        return _without_record(plan, asked, why_none)
    differences = list_differences(recorded.installed, current, recorded.needed, "here")
    if asked == "recorded" or (not asked and differences):
        reason = _shorten(differences) if differences else "as asked"
        environment = EnvironmentPlan(
            kind="recorded",
            reason=reason,
            python=recorded.installed.python.version,
            locks={lock.file: lock.index for lock in recorded.locks},
        )
        return replace(plan, environment=environment)
    if not differences:
        return replace(plan, environment=EnvironmentPlan(reason="it has what the run imported"))
    caveat = f"the current environment differs from the recorded one: {_shorten(differences)}"
    return replace(plan, environment=EnvironmentPlan(reason="as asked"), caveats=(*plan.caveats, caveat))


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


def _as_project(plan: LaunchPlan, reason: str) -> LaunchPlan:
    return replace(plan, environment=EnvironmentPlan(kind="project", reason=reason))


def _without_record(plan: LaunchPlan, asked: str, why_none: str) -> LaunchPlan:
    if not why_none:
        return replace(plan, environment=EnvironmentPlan(reason="nothing that is installed differs"))
    if asked == "recorded":
        raise CannotJudgeError(
            f"run {plan.reference_run_id} has no environment to rebuild: {why_none}", "pass --env current"
        )
    caveat = f"the reference's environment is not known ({why_none}): it is relaunched in the current one"
    environment = EnvironmentPlan(reason="as asked" if asked else "the recorded one is not known")
    return replace(plan, environment=environment, caveats=(*plan.caveats, caveat))


def _shorten(differences: Iterable[str]) -> str:
    return list_some(list(differences), _SHOWN)
