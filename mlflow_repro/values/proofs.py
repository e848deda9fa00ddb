"""What launches have shown about a run: which factors change its result, and what it depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from mlflow_repro.errors import ExitCode
from mlflow_repro.values.plain import Stored, to_plain
from mlflow_repro.values.report import SCHEMA_VERSION

if TYPE_CHECKING:
    from mlflow_repro.values.report import Cause

EQUAL, DIFFERENT, FAILED = "equal", "different", "failed"
ANSWERS = (EQUAL, DIFFERENT, FAILED)
STATES = ("no difference", "not restored", "nondeterministic", "none matters", "found", "out of budget")
_EXIT_CODES = {"no difference": ExitCode.EQUAL, "none matters": ExitCode.EQUAL, "out of budget": ExitCode.NOT_JUDGED}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One launch: what was changed (nothing: the control), how it came out, and where it begins to differ.

    ``seconds`` is how long it took; 0 for one of an earlier, interrupted search.
    """

    changed: tuple[str, ...]
    answer: str
    run_id: str = ""
    attempt: int = 0
    difference: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Blame:
    """Factors that change the result together; most often one. ``is_alone``: whether it was seen to do so by itself.

    ``changed`` names what was changed in the launch that shows it; ``fails`` is true when that launch failed.
    ``needs``: it was seen to change nothing by itself, and one or more of these must be changed with it; which is out
    of the budget. ``was_there``: they could not be taken away, so that every launch has them changed, and the control
    shows it; of several one or more count.
    """

    factors: tuple[str, ...]
    is_alone: bool
    changed: frozenset[str]
    fails: bool = False
    needs: tuple[str, ...] = ()
    was_there: bool = False


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What the launches of a search have shown.

    ``state`` is one of `STATES`: ``not restored`` (the control differs from the reference, twice in the same way),
    ``nondeterministic`` (the same launch twice gives two results), ``none matters``, ``found``, ``out of budget``.
    ``untested`` are the factors of which nothing is known, ``suspected`` those of which one or more must change the
    result, alone or with a blamed one, and none is proven.
    """

    state: str
    blames: tuple[Blame, ...] = ()
    harmless: tuple[str, ...] = ()
    untested: tuple[str, ...] = ()
    suspected: tuple[str, ...] = ()
    impossible: tuple[str, ...] = ()
    """Factors that could not be put in place here, so that nothing is known of them."""


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """The answer of `mlflow_repro.isolate_run`.

    ``factors`` says what each factor changes, by its name, in the order in which they were ranked. ``other_run_id`` is
    empty when the run was held against this machine. ``causes`` are proven (confidence 1) where the state is ``found``.
    """

    reference_run_id: str
    other_run_id: str
    parent_run_id: str
    factors: dict[str, str]
    trials: tuple[Trial, ...]
    conclusion: Conclusion
    causes: tuple[Cause, ...] = ()
    limit: int = 0

    @property
    def exit_code(self) -> ExitCode:
        """EQUAL (0) when no factor matters, DIFFERENT (1) when something does, NOT_JUDGED (3) out of the budget."""
        return _EXIT_CODES.get(self.conclusion.state, ExitCode.DIFFERENT)

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form."""
        conclusion = self.conclusion
        plain = {
            "schema": SCHEMA_VERSION,
            "reference_run_id": self.reference_run_id,
            "other_run_id": self.other_run_id,
            "parent_run_id": self.parent_run_id,
            "factors": self.factors,
            "launches": self.trials,
            "max_launches": self.limit,
            "state": conclusion.state,
            "blamed": [blame.factors for blame in conclusion.blames],
            "unproven": [name for blame in conclusion.blames if blame.was_there for name in blame.factors],
            "harmless": conclusion.harmless,
            "untested": conclusion.untested,
            "suspected": conclusion.suspected,
            "impossible": conclusion.impossible,
            "causes": self.causes,
            "exit_code": self.exit_code,
        }
        return {name: to_plain(part) for name, part in plain.items()}


@dataclass(frozen=True, kw_only=True)
class Stress:
    """One thing that was varied: ``answer`` is one of `ANSWERS`, or ``skipped`` with the reason in ``note``."""

    name: str
    what: str
    answer: str
    run_id: str = ""
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Profile(Stored):
    """The answer of `mlflow_repro.stress_run`: what the result of a run depends on.

    ``control`` and ``repeat`` are launches as recorded; where they differ from each other, nothing else can be said.
    """

    run_id: str
    parent_run_id: str
    control: str
    repeat: str
    rows: tuple[Stress, ...]
    schema: ClassVar[int] = SCHEMA_VERSION
    STORED = ("schema", "run_id", "parent_run_id", "control", "repeat", "rows", "depends_on", "exit_code")

    @property
    def depends_on(self) -> tuple[str, ...]:
        """What changes the result or makes the run fail, seeds among it."""
        return tuple(row.name for row in self.rows if row.answer in (DIFFERENT, FAILED))

    @property
    def exit_code(self) -> ExitCode:
        """EQUAL (0) when the result depends on nothing but the seed, DIFFERENT (1) else."""
        is_stable = self.repeat == EQUAL and not set(self.depends_on) - {"seed"}
        return ExitCode.EQUAL if is_stable else ExitCode.DIFFERENT
