"""``python -m mlflow_repro COMMAND``: the same as ``mlflow-repro COMMAND``."""

from __future__ import annotations

import sys

from mlflow_repro.system.searchpath import leave_working_directory_out

if __name__ == "__main__":
    leave_working_directory_out()  # before anything else is imported
    from mlflow_repro.cli import main

    sys.exit(main(program="python -m mlflow_repro"))
