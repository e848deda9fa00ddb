"""Registered models and their versions as plain values, and as the entities that MLflow has for them."""

from __future__ import annotations

import functools
import inspect
from typing import Any

_STAGE_OF_NONE = "None"


def copy_model(model: Any) -> dict[str, Any]:
    """A registered model as a plain value, without its versions."""
    return {
        "name": model.name,
        "created": model.creation_timestamp,
        "updated": model.last_updated_timestamp,
        "description": model.description,
        "tags": dict(model.tags or {}),
        "aliases": {alias: str(version) for alias, version in dict(model.aliases or {}).items()},
        "versions": {},
        "deployment_job_id": getattr(model, "deployment_job_id", None),
    }


def copy_version(version: Any) -> dict[str, Any]:
    """A version of a registered model as a plain value."""
    return {
        "created": version.creation_timestamp,
        "description": version.description,
        "user": version.user_id,
        "stage": version.current_stage or _STAGE_OF_NONE,
        "source": version.source,
        "run_id": version.run_id,
        "status": version.status,
        "run_link": version.run_link,
        "tags": dict(version.tags or {}),
        "model_id": getattr(version, "model_id", None),
        "is_number": isinstance(version.version, int),
    }


def sort_versions(state: dict[str, Any]) -> list[str]:
    """The numbers of a model's versions, the newest first."""
    return sorted(state["versions"], key=int, reverse=True)


def make_version(state: dict[str, Any], number: str) -> Any:
    """MLflow's entity for a version."""
    from mlflow.entities.model_registry import ModelVersion, ModelVersionTag

    row = state["versions"][number]
    is_number = any(version.get("is_number") for version in state["versions"].values())
    return _make(
        ModelVersion,
        name=state["name"],
        version=int(number) if is_number else number,
        creation_timestamp=row["created"],
        last_updated_timestamp=state.get("updated"),
        description=row.get("description"),
        user_id=row.get("user"),
        current_stage=row["stage"],
        source=row["source"],
        run_id=row.get("run_id"),
        status=row["status"],
        tags=_all(ModelVersionTag, row.get("tags") or {}),
        run_link=row.get("run_link"),
        aliases=[alias for alias, to in state["aliases"].items() if to == number],
        model_id=row.get("model_id"),
    )


def make_model(state: dict[str, Any]) -> Any:
    """MLflow's entity for a registered model."""
    from mlflow.entities.model_registry import RegisteredModel, RegisteredModelAlias, RegisteredModelTag

    latest: dict[str, str] = {}
    for number in sort_versions(state):
        latest.setdefault(state["versions"][number]["stage"], number)
    return _make(
        RegisteredModel,
        name=state["name"],
        creation_timestamp=state["created"],
        last_updated_timestamp=state.get("updated"),
        description=state.get("description"),
        latest_versions=[make_version(state, number) for number in latest.values()],
        tags=_all(RegisteredModelTag, state["tags"]),
        aliases=_all(RegisteredModelAlias, state["aliases"]),
        deployment_job_id=state.get("deployment_job_id"),
    )


def _all(entity: Any, pairs: dict[str, str]) -> list[Any]:
    return [entity(name, value) for name, value in pairs.items()]


@functools.cache
def _fields(entity: Any) -> frozenset[str]:
    return frozenset(inspect.signature(entity).parameters)


def _make(entity: Any, **values: Any) -> Any:
    """An entity, without what another version of MLflow does not know."""
    return entity(**{name: value for name, value in values.items() if name in _fields(entity)})
