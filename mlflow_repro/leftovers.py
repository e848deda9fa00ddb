"""What running a program leaves in its working directory: part of nobody's code, whether git ignores it or not."""

from __future__ import annotations

import re

# MLflow's default store is a database and a folder in the working directory, and few people's .gitignore names them.
# A compiled module holds the time of its source, so that a tree with one is never the same again.
_LEFTOVER = re.compile(
    r"(?:^|/)(?:(?:mlruns|mlartifacts|__pycache__|\.ipynb_checkpoints)(?:/|$)|mlflow\.db(?:-journal|-wal|-shm)?$)"
    r"|\.pyc$"
)


def is_leftover(path: str) -> bool:
    """True for a file or folder of an MLflow store or of a cache; ``path`` has slashes, a folder may end in one."""
    return bool(_LEFTOVER.search(path))
