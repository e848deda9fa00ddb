"""`mlflow_repro.autolog`: the plugin's work by an explicit line of the program.

For where the plugin's entry point is not installed, and to choose what is recorded. A run that is active already is
recorded, too. Where ``MLFLOW_REPRO_DISABLE`` is set, nothing is; a seed and the deterministic modes are set all the
same. MLflow's ``exclusive`` is missing on purpose: it keeps autologging out of runs that the user made, and to describe
those is all that this does.

The function is not in a module of its own name: importing that would put the module in the function's place.
"""

from __future__ import annotations

import logging

from mlflow_repro.guest.options import AutologOptions
from mlflow_repro.plugin import is_disabled
from mlflow_repro.seeding.determinism import make_deterministic
from mlflow_repro.seeding.everything import seed_everything


def autolog(  # noqa: PLR0913 - the switches of MLflow's own autologging, keyword by keyword
    *,
    seed: int | None = None,
    deterministic: bool = False,
    log_code: bool = True,
    log_environment: bool = True,
    log_data: bool = True,
    log_rng: bool = True,
    rng_trace: bool = False,
    disable: bool = False,
    silent: bool = False,
) -> None:
    """Record from here on what makes the runs of this process, as the installed plugin does by itself.

    Call it before the libraries are imported that draw random numbers. Again, it replaces the choices.

    ``seed``: seed everything (`mlflow_repro.seed_everything`), from 0 to 2**32-1; None leaves each program its own
    randomness, which is recorded. ``deterministic``: set the deterministic modes and record what that achieved
    (`mlflow_repro.make_deterministic`).

    ``log_code``: commit, branch, uncommitted changes; without them a run cannot be reproduced. ``log_environment``:
    packages, Python, machine. ``log_data``: the data that was read. ``log_rng``: seeds and the random state, without
    which runs that set no seed do not come back. How the program was started is always recorded. ``rng_trace``: at each
    step of a metric a digest of each generator's state, so that ``mlflow-repro explain`` can say from which step on the
    draws of two runs differ.

    ``disable``: record no run that starts later; ``seed`` and ``deterministic`` are not looked at. ``silent``: none of
    our warnings. Raises ValueError when ``seed`` is no such integer; then nothing is changed.
    """
    options = AutologOptions(
        disable=disable,
        log_code=log_code,
        log_environment=log_environment,
        log_data=log_data,
        log_rng=log_rng,
        rng_trace=rng_trace,
    )
    if seed is not None and not disable:
        seed_everything(seed)
    logging.getLogger("mlflow_repro").setLevel(logging.ERROR if silent else logging.NOTSET)
    if deterministic and not disable:
        make_deterministic()
    if not is_disabled():
        _record(options)


def _record(options: AutologOptions) -> None:
    """Record runs from here on, the active one too."""
    import mlflow

    from mlflow_repro.guest.hooks import install_recorder

    recorder = install_recorder()
    recorder.configure(options)
    active = mlflow.active_run()
    if active is not None:
        recorder.record_run(active)
