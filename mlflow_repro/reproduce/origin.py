"""Was the result computed, or was it there before? What a relaunch read, and how little time it took, tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_repro.overlay.notes import join_texts
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.values.run import Run

RESULT = "result"
"""The name of the finding, of the kind ``status``."""
_LONG = 60_000  # milliseconds: of a shorter run the start of a process is too much of it
_SHARE = 20  # a relaunch that is this many times as fast did not do the same


def find_origin(reference: Run, reproduction: Run, reads: tuple[str, ...]) -> str:
    """Why the result may not have been computed; empty where nothing speaks for that."""
    reasons = [f"the program read {join_texts(reads)}"] if reads else []
    took, takes = (max(run.end_time - run.start_time, 0) for run in (reference, reproduction))
    if took >= _LONG and reproduction.end_time and takes * _SHARE < took:
        reasons.append(f"it took {takes / 1000:.0f} s, and the reference {took / 1000:.0f} s")
    return " and ".join(reasons)


def judge_origin(reason: str) -> tuple[Finding, ...]:
    """The finding that keeps equal results from being a proof, for a ``reason`` that `find_origin` gave."""
    if not reason:
        return ()
    note = f"it may have been there before, not computed: {reason}; --isolated-home, or --accept-cache"
    return (Finding(kind="status", name=RESULT, reference=None, reproduction=None, status=Status.UNKNOWN, note=note),)


def isolate_home(work_directory: Path) -> dict[str, str | None]:
    """Variables that give a process an empty home and an empty folder for temporary files, in the work directory.

    What says where caches of results and of data are is taken away, for it leads out of there. The caches of what is
    installed stay where they are.
    """
    home, temporary = work_directory / "home", work_directory / "tmp"
    for folder in home, temporary:
        folder.mkdir(mode=0o700, exist_ok=True)
    kept = {name: os.environ.get(name) or str(Path.home() / place) for name, place in _KEPT.items()}
    return {
        **dict.fromkeys(_LEADING_OUT),
        **{name: place for name, place in kept.items() if os.path.isdir(place)},
        "HOME": str(home),
        **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)),
    }


_KEPT: Mapping[str, str] = {"UV_CACHE_DIR": ".cache/uv", "PIP_CACHE_DIR": ".cache/pip", "PYENV_ROOT": ".pyenv"}
_LEADING_OUT = (
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "JOBLIB_TEMP_FOLDER", "KERAS_HOME"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME"),
    *(
        "SCIKIT_LEARN_DATA",
        "TFDS_DATA_DIR",
        "TFHUB_CACHE_DIR",
        "NLTK_DATA",
        "NUMBA_CACHE_DIR",
        "JAX_COMPILATION_CACHE_DIR",
    ),
)
