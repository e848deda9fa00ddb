"""The backends of MLflow projects: which are there, and what each needs before a run is created."""

from __future__ import annotations

import importlib.util
import shutil
from importlib import metadata
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOCAL = "local"
_GROUP = "mlflow.project_backend"
_HERE = "or relaunch it on this machine: --backend local"
_KUBERNETES_SETTINGS = ("kube-job-template-path", "repository-uri")


def check_backend(
    backend: str, config: Mapping[str, object], *, env_manager: str, environment: str, tracking_uri: str
) -> None:
    """Raise CannotJudgeError when something is missing that MLflow would find out after it has created a run.

    ``environment`` is the kind that the project declares, see `mlflow_repro.values.plan.Project`.
    """
    if backend == "kubernetes":
        _check_kubernetes(config, environment)
    elif backend == "databricks":
        _check_databricks(config, tracking_uri)
    elif backend != LOCAL and backend not in _list_plugins():
        known = ", ".join(sorted({LOCAL, "databricks", "kubernetes", *_list_plugins()}))
        raise CannotJudgeError(
            f"the backend {backend!r} is not installed", f"install what brings it ({known} are here), {_HERE}"
        )
    needed = {"docker_env": "docker"}.get(environment) or {"conda": "conda", "uv": "uv"}.get(env_manager)
    if needed and backend in (LOCAL, "kubernetes") and shutil.which(needed) is None:
        what = "a docker project" if needed == "docker" else f"environment manager {env_manager!r}"
        raise CannotJudgeError(
            f"{what} needs {needed}, which is not installed", "install it, or pass another --env-manager"
        )


def _check_kubernetes(config: Mapping[str, object], environment: str) -> None:
    if importlib.util.find_spec("kubernetes") is None:
        raise CannotJudgeError(
            "the backend 'kubernetes' needs the Python package kubernetes, which is not installed",
            f"pip install kubernetes, {_HERE}",
        )
    if environment != "docker_env":
        raise CannotJudgeError("the backend 'kubernetes' runs docker projects only", f"declare docker_env, {_HERE}")
    missing = [name for name in _KUBERNETES_SETTINGS if name not in config]
    if missing:
        raise CannotJudgeError(
            f"the backend 'kubernetes' needs {' and '.join(missing)}", "give them with --backend-config"
        )


def _check_databricks(config: Mapping[str, object], tracking_uri: str) -> None:
    if not config:
        raise CannotJudgeError(
            "the backend 'databricks' needs the specification of a cluster", "give it with --backend-config"
        )
    if not tracking_uri.startswith(("databricks", "http")):
        raise CannotJudgeError(
            "the backend 'databricks' cannot reach this tracking store", f"it has to be a server, {_HERE}"
        )


def _list_plugins() -> set[str]:
    return {point.name for point in metadata.entry_points(group=_GROUP)}
