"""MLflow's own progress bars, which it shows for every file that it fetches where tqdm is installed."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep them off the terminal, unless the user has set MLflow's variable."""
    is_ours = _VARIABLE not in os.environ
    if is_ours:
        os.environ[_VARIABLE] = "false"
    try:
        yield
    finally:
        if is_ours:
            os.environ.pop(_VARIABLE, None)
