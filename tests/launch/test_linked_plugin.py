"""The folder by which an environment that does not list this package has its plugin all the same."""

from __future__ import annotations

import subprocess
import sys

from mlflow_repro.launch.launcher import link_plugin

LOOK = """\
import sys
sys.path[:0] = [sys.argv[1]]
from importlib.metadata import entry_points
(found,) = [one for one in entry_points(group="mlflow.run_context_provider") if one.name == "repro"]
print(found.load().__name__, sys.modules["mlflow_repro"].__file__)
"""


def test_plugin_is_found_and_loaded_in_the_folder(tmp_path):
    folder = str(link_plugin(tmp_path / "plugin"))
    command = [sys.executable, "-I", "-S", "-c", LOOK, folder]  # without what is installed in this environment
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert told == f"ReproContextProvider {folder}/mlflow_repro/__init__.py\n"
