"""What a search by launches can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.plan import check_run_id
from mlflow_repro.reproduce import ReproduceOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from mlflow_repro.proofs import Trial

    _Options = TypeVar("_Options", bound="TrialOptions")


@dataclass(frozen=True, kw_only=True)
class TrialOptions(ReproduceOptions):
    """What `isolate_run` and `stress_run` can be asked for, beside what each launch can (`ReproduceOptions`).

    ``max_launches``: how many launches there may be in all; None for as many as the method needs. ``timeout`` is how
    many seconds all of them may take together. ``parent`` is the parent run of an interrupted search that is taken up
    again. ``tell_parent`` gets the parent run's id before the first launch. ``tell_trial`` gets the number of each
    launch, how many there may be, and its `Trial`, when it begins (without an answer) and when it ends.
    """

    max_launches: int | None = None
    parent: str = ""
    tell_parent: Callable[[str], None] | None = None
    tell_trial: Callable[[int, int, Trial], None] | None = None

    def check(self) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        super().check()
        check_run_id(self.run_id)
        if self.max_launches is not None and self.max_launches < 1:
            raise UsageError(f"max_launches is {self.max_launches}", "it must be 1 or more")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout is {self.timeout!r}", "it must be a number of seconds above 0")
        if self.parent:
            check_run_id(self.parent)


def make_options(kind: type[_Options], run_id: str, options: dict[str, Any]) -> _Options:
    """Options by their names. Raises TypeError for one that there is not."""
    unknown = sorted(set(options) - {field.name for field in fields(kind)})
    if unknown:
        raise TypeError(f"there is no option {unknown[0]!r}")
    return kind(run_id=run_id, **options)
