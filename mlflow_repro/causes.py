"""Why two runs differ, as far as it is known: one value for each cause, with what speaks for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


KINDS = (
    "code", "parameter", "seed", "random_state", "data", "package", "python", "threads", "blas", "cpu", "gpu",
    "determinism", "hash_seed", "variable", "locale", "time", "not_restored", "nondeterminism",
)  # fmt: skip
"""What a cause can be; `docs/explain.md` says what is looked at for each."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One cause of a difference. Causes are given in their order: the most likely first.

    ``kind`` is one of `KINDS`; ``what`` is the cause in one line
    (``numpy 1.26.4 -> 2.1.0``); ``confidence`` goes from 0 to 1 and is 1 for what was proven by launching the run
    without it; ``evidence`` are the facts that speak for it; ``fix`` is the one command or line that settles it.
    """

    kind: str
    what: str
    confidence: float
    evidence: tuple[str, ...] = ()
    fix: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"confidence is {self.confidence!r}, not a number from 0 to 1")

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        return {**asdict(self), "evidence": list(self.evidence)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Cause:
        """Read what `to_dict` gave."""
        return cls(**{**plain, "evidence": tuple(plain["evidence"])})
