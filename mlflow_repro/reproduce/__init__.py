"""Bring a run back: the main job, and ``python -m mlflow_repro.reproduce``.

Importing this package loads none of it: under ``python -m`` the search path is mended first, in `__main__`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlflow_repro.reproduce.options import ReproduceOptions
    from mlflow_repro.reproduce.pipeline import check_run, read_record, reproduce_run, reproduce_with

__all__ = ["ReproduceOptions", "check_run", "read_record", "reproduce_run", "reproduce_with"]


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = "options" if name == "ReproduceOptions" else "pipeline"
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
