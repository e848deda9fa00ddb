"""``python -m mlflow_repro.reproduce``: the command ``reproduce`` alone."""

from __future__ import annotations

import sys

from mlflow_repro.system.searchpath import leave_working_directory_out

if __name__ == "__main__":
    leave_working_directory_out()  # before anything else is imported
    from mlflow_repro.cli import main

    sys.exit(main(["reproduce", *sys.argv[1:]], program="python -m mlflow_repro.reproduce"))
