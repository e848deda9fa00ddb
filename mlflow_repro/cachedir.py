"""Where this tool keeps what can be made anew."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """``MLFLOW_REPRO_CACHE``, else ``mlflow-repro`` below ``XDG_CACHE_HOME`` or ``~/.cache``."""
    own = os.environ.get("MLFLOW_REPRO_CACHE")
    if own:
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mlflow-repro"
