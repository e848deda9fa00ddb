"""What a search by launches takes into account, as the user chose it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import UsageError
from mlflow_repro.isolate.variations import VARIATIONS
from mlflow_repro.judging.options import JudgeOptions
from mlflow_repro.reproduce.options import LaunchOptions, ReproduceOptions
from mlflow_repro.values.options import group, option
from mlflow_repro.values.run import check_run_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.values.proofs import Trial


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """What any search can be asked for: how often and how long it may launch, and what each launch needs.

    What it varies itself (code, parameters, random state, seed) is no option of it.
    """

    max_launches: int | None = option(
        None, metavar="N", help="Launch no more often. Default: as often as the method needs."
    )
    timeout: float | None = option(None, metavar="SECONDS", help="End after this long; what is known is said.")
    parent: str = option(
        "",
        spelling="resume",
        metavar="ID",
        help="Go on below this parent run, after an interruption.",
    )
    launch: LaunchOptions = group(LaunchOptions)
    judging: JudgeOptions = group(JudgeOptions)
    show: Callable[[str], None] | None = option(
        None, in_python_only=True, help="Called with each line that a launch prints."
    )
    tell_parent: Callable[[str], None] | None = option(
        None, in_python_only=True, help="Called with the parent run's id before the first launch."
    )
    tell_trial: Callable[[int, int, Trial], None] | None = option(
        None,
        in_python_only=True,
        help="Called with the number of each launch, how many there may be, and its Trial, when it begins (without an"
        " answer) and when it ends.",
    )

    @property
    def tracking_uri(self) -> str:
        """The store that the reference is in."""
        return self.launch.store.tracking_uri

    def check(self, run_id: str) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        check_run_id(run_id)
        if self.max_launches is not None and self.max_launches < 1:
            raise UsageError(f"max_launches is {self.max_launches}", "it must be 1 or more")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout is {self.timeout!r}", "it must be a number of seconds above 0")
        if self.parent:
            check_run_id(self.parent)

    def launch_options(self, run_id: str, timeout: float | None) -> ReproduceOptions:
        """The options of one launch, which is judged by itself and leaves no answer on the runs' pages."""
        return ReproduceOptions(
            run_id=run_id,
            launch=self.launch,
            judging=self.judging,
            timeout=timeout,
            show=self.show,
            children=False,
            explain=False,
            annotate=False,
        )


@dataclass(frozen=True, kw_only=True)
class IsolateOptions:
    """What `isolate_run` can be asked for."""

    other: str = option(
        "",
        metavar="[URI#]ID",
        help="The run that came out otherwise, TRACKING_URI#RUN_ID for one of another store. Default: this machine as"
        " it is now.",
    )
    data: tuple[str, ...] = option(
        (),
        metavar="PATH",
        help="A file or folder where data is that has another content now; it is found by its recorded digest.",
    )
    trials: TrialOptions = group(TrialOptions)


@dataclass(frozen=True, kw_only=True)
class StressOptions:
    """What `stress_run` can be asked for."""

    vary: tuple[str, ...] = option((), metavar="NAME", help="Vary only this ('hash seed', ...).")
    trials: TrialOptions = group(TrialOptions)

    def check(self, run_id: str) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        self.trials.check(run_id)
        unknown = [name for name in self.vary if name not in VARIATIONS]
        if unknown:
            raise UsageError(f"nothing is called {unknown[0]!r}", f"there are {', '.join(VARIATIONS)}")
