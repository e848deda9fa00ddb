"""A project backend as third parties ship one: it copies the project to another place and runs it there.

Its configuration: ``told`` names a file for the arguments that it was given, ``mode`` is what goes wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from mlflow.entities import RunStatus
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.projects.utils import (
    fetch_and_validate_project,
    get_entry_point_command,
    get_or_create_run,
    get_run_env_vars,
    load_project,
)


def build_backend() -> FlowBackend:
    """What the entry point names."""
    return FlowBackend()


class FlowBackend(AbstractBackend):
    """Runs a project as a job of its own."""

    def run(  # noqa: PLR0913, PLR0917 - MLflow's interface
        self, project_uri, entry_point, params, version, backend_config, tracking_uri, experiment_id
    ):
        told = {
            "entry_point": entry_point,
            "params": dict(params),
            "version": version,
            "config": {name: backend_config[name] for name in ("told", "mode", "queue") if name in backend_config},
            "tracking_uri": tracking_uri,
            "experiment_id": experiment_id,
        }
        Path(backend_config["told"]).write_text(json.dumps(told), encoding="utf-8")
        mode = backend_config.get("mode")
        if mode == "raises":
            raise RuntimeError("the queue is closed")
        if mode == "no run":
            return None
        work_dir = fetch_and_validate_project(project_uri, version, entry_point, params)
        project = load_project(work_dir)
        run = get_or_create_run(None, project_uri, experiment_id, work_dir, version, entry_point, params)
        top = subprocess.run(
            ["git", "rev-parse", "--show-toplevel"], cwd=work_dir, capture_output=True, text=True, check=True
        ).stdout.strip()
        there = f"{backend_config['told']}.copy"
        shutil.copytree(top, there, symlinks=True)
        command = get_entry_point_command(project, entry_point, params, backend_config.get("STORAGE_DIR"))
        environment = {**os.environ, **get_run_env_vars(run.info.run_id, experiment_id)}
        # Of another machine: nothing of this one's cache.
        environment["MLFLOW_TRACKING_URI"] = tracking_uri
        place = os.path.join(there, os.path.relpath(work_dir, top))
        process = subprocess.Popen(["/bin/sh", "-c", " && ".join(command)], cwd=place, env=environment)
        return Job(run.info.run_id, process, mode)


class Job(SubmittedRun):
    """A submitted run."""

    def __init__(self, run_id, process, mode):
        super().__init__()
        self._run_id = run_id
        self._process = process
        self._mode = mode

    @property
    def run_id(self):
        return self._run_id

    def wait(self):
        return self._process.wait() == 0 and self._mode != "fails"

    def get_status(self):
        return RunStatus.RUNNING if self._process.poll() is None else RunStatus.FINISHED

    def cancel(self):
        self._process.terminate()
