"""mlflow-repro: bring any MLflow run back, and say whether it is the same.

>>> import mlflow_repro
>>> report = mlflow_repro.reproduce_run("d1b4b10969174863a2bad1342f6746ce")    # doctest: +SKIP
>>> report.verdict    # doctest: +SKIP
<Verdict.IDENTICAL: 'IDENTICAL'>

Importing this package imports nothing else: not mlflow, not numpy, not git. The plugin part of it runs inside
other people's training processes, and `--help` has to answer at once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mlflow_repro.guest.autolog import autolog
    from mlflow_repro.isolate.isolate import isolate_run
    from mlflow_repro.isolate.stress import stress_run
    from mlflow_repro.judging.causes import explain_runs
    from mlflow_repro.judging.judge import compare_runs
    from mlflow_repro.reproduce.pipeline import check_run, reproduce_run
    from mlflow_repro.seeding.checkpoint import RngStateError, load_rng_state, save_rng_state
    from mlflow_repro.seeding.determinism import make_deterministic
    from mlflow_repro.seeding.everything import derive_seed, seed_everything
    from mlflow_repro.values.comparison import Comparison, Verdict
    from mlflow_repro.values.report import Cause, Readiness, Report
    from mlflow_repro.values.run import Run, RunRecord

__version__ = "0.1.0"
__all__ = [
    "Cause",
    "Comparison",
    "Readiness",
    "Report",
    "RngStateError",
    "Run",
    "RunRecord",
    "Verdict",
    "__version__",
    "autolog",
    "check_run",
    "compare_runs",
    "derive_seed",
    "explain_runs",
    "isolate_run",
    "load_rng_state",
    "make_deterministic",
    "reproduce_run",
    "save_rng_state",
    "seed_everything",
    "stress_run",
]

_HOMES = {
    "Cause": "mlflow_repro.values.report",
    "Comparison": "mlflow_repro.values.report",
    "Readiness": "mlflow_repro.values.report",
    "Report": "mlflow_repro.values.report",
    "RngStateError": "mlflow_repro.seeding.checkpoint",
    "Run": "mlflow_repro.values.run",
    "RunRecord": "mlflow_repro.values.run",
    "Verdict": "mlflow_repro.values.report",
    "autolog": "mlflow_repro.guest.autolog",
    "check_run": "mlflow_repro.reproduce.pipeline",
    "compare_runs": "mlflow_repro.judging.judge",
    "derive_seed": "mlflow_repro.seeding.everything",
    "explain_runs": "mlflow_repro.judging.causes",
    "isolate_run": "mlflow_repro.isolate.isolate",
    "load_rng_state": "mlflow_repro.seeding.checkpoint",
    "make_deterministic": "mlflow_repro.seeding.determinism",
    "reproduce_run": "mlflow_repro.reproduce.pipeline",
    "save_rng_state": "mlflow_repro.seeding.checkpoint",
    "seed_everything": "mlflow_repro.seeding.everything",
    "stress_run": "mlflow_repro.isolate.stress",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
