"""Find out, by as few launches as possible, which of several factors change a result. A pure search over answers.

After reprotest's ``--auto-build``: everything as recorded (the control), the same once more, all factors changed, then
one at a time in the ranked order. A factor that changes the result is blamed and taken out again; one that does not
stays in, so that the last launches are also the check that the harmless ones are harmless together. That is n + 3
launches for n factors at most. Two things make it fewer: when only one is left that can be it, it is not tried; and
after the first blame all that are left are tried at once when there are four or more.

A blamed factor that was tried together with harmless ones may need one of them (an interaction): then it is tried
alone, and if that changes nothing, its partner is looked for by halving. This comes last, from what is left of the
budget.

What cannot be taken away, a data file whose old content is gone, is pinned: it is changed in every launch. Then a
control that differs from the reference is the launch that shows it, and the other factors are held against the control.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mlflow_repro.values.proofs import EQUAL, FAILED, Blame, Conclusion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIXED_LAUNCHES = 3
"""Control, repeat and all factors at once."""
_REST_AT_ONCE = 4  # factors that are left, from which on trying them at once pays


class BudgetSpentError(Exception):
    """No more launches are allowed."""


@dataclass
class _Search:
    ask: Callable[[frozenset[str]], str]
    factors: Sequence[str]
    answers: dict[frozenset[str], str] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)
    blames: list[Blame] = field(default_factory=list)

    def differs(self, changed: frozenset[str]) -> bool:
        """Launch with ``changed``, unless the answer is known."""
        if changed not in self.answers:
            self.answers[changed] = self.ask(changed)
        return self.answers[changed] != EQUAL

    def find(self, suspects: list[str]) -> None:
        """Blame of ``suspects``, which change the result together with what is kept, all that do."""
        while suspects:
            first, rest = suspects[0], suspects[1:]
            if not rest:
                self.blame(first)
                return
            changed = frozenset({*self.kept, first})
            if not self.differs(changed):
                self.kept.add(first)
                suspects = rest
                continue
            self.blame(first)
            if len(rest) < _REST_AT_ONCE:
                self.try_each(rest)
                return
            if not self.differs(frozenset({*self.kept, *rest})):
                self.kept.update(rest)
                return
            self.halve(rest)
            return

    def try_each(self, open_factors: list[str]) -> None:
        """Try factors of which it is not known whether any of them counts."""
        for factor in open_factors:
            if self.differs(frozenset({*self.kept, factor})):
                self.blame(factor)
            else:
                self.kept.add(factor)

    def halve(self, suspects: list[str]) -> None:
        """As `find`, by halves: for many factors of which few count."""
        if len(suspects) == 1:
            self.blame(suspects[0])
            return
        middle = len(suspects) // 2
        one, other = suspects[:middle], suspects[middle:]
        if not self.differs(frozenset({*self.kept, *one})):
            self.kept.update(one)
            self.halve(other)
            return
        self.halve(one)
        if not self.differs(frozenset({*self.kept, *other})):
            self.kept.update(other)
        else:
            self.halve(other)

    def blame(self, factor: str) -> None:
        """Note that ``factor`` changes the result, together with what is kept at this moment."""
        changed = frozenset({*self.kept, factor})
        fails = self.answers.get(changed) == FAILED
        self.blames.append(Blame(factors=(factor,), is_alone=not self.kept, changed=changed, fails=fails))

    def settle(self, blame: Blame) -> Blame:
        """Find out whether a factor that was tried with others counts alone, or which of them it needs."""
        (factor,) = blame.factors
        alone = frozenset({factor})
        if blame.is_alone or self.differs(alone):
            fails = self.answers.get(alone) == FAILED or blame.fails
            return Blame(factors=(factor,), is_alone=True, changed=alone, fails=fails)
        partners = sorted(blame.changed - alone, key=list(self.factors).index)
        known: list[str] = []  # needed as well, besides the half that is looked at
        try:
            while len(partners) > 1:
                middle = len(partners) // 2
                one, other = partners[:middle], partners[middle:]
                if self.differs(frozenset({factor, *known, *one})):
                    partners = one
                elif self.differs(frozenset({factor, *known, *other})):
                    partners = other
                else:  # it needs something of both halves: keep one whole
                    known += other
                    partners = one
        except BudgetSpentError:
            return replace(blame, needs=(*partners, *known))
        together = (factor, *partners, *known)
        return Blame(factors=together, is_alone=True, changed=frozenset(together), fails=blame.fails)


def search(factors: Sequence[str], ask: Callable[[frozenset[str], int], str], pinned: Sequence[str] = ()) -> Conclusion:
    """Find the factors that change the result. ``factors`` are ranked, the likeliest first.

    ``ask(changed, attempt)`` launches with these factors changed and says ``equal``, ``different`` or ``failed``:
    attempt 0 against the reference, attempt 1 against the control. It raises `BudgetSpentError` when it must not launch
    any more. ``pinned`` are factors that every launch has changed. The same answers give the same conclusion, so that a
    search can be taken up again.
    """
    nothing: frozenset[str] = frozenset()
    every = frozenset(factors)
    try:
        control = ask(nothing, 0)
        if ask(nothing, 1) != EQUAL:
            return Conclusion(state="nondeterministic", untested=(*pinned, *factors))
    except BudgetSpentError:
        return Conclusion(state="out of budget", untested=(*pinned, *factors))
    if control == EQUAL:
        found = _find(_Search(lambda changed: ask(changed, 0), factors, {nothing: EQUAL}), every)
        return replace(found, harmless=(*found.harmless, *pinned))
    if not pinned:
        return Conclusion(state="not restored", untested=tuple(factors))
    shown = Blame(factors=tuple(pinned), is_alone=True, changed=nothing, was_there=True)
    found = _find(_Search(lambda changed: ask(changed, 1), factors, {nothing: EQUAL}), every)
    if not found.blames:  # then what is suspected is not among what a blame needs
        found = replace(found, untested=(*found.untested, *found.suspected), suspected=())
    return replace(found, state="found", blames=(shown, *found.blames))


def _find(work: _Search, every: frozenset[str]) -> Conclusion:
    """What matters of the factors, by launches beyond the control and its repeat."""
    factors = tuple(work.factors)
    try:
        if not factors or not work.differs(every):
            return Conclusion(state="none matters", harmless=factors)
    except BudgetSpentError:
        return Conclusion(state="out of budget", untested=factors)
    is_spent = False
    try:
        work.find(list(factors))
    except BudgetSpentError:
        is_spent = True
    return _conclude(work, is_spent=is_spent)


def _conclude(work: _Search, *, is_spent: bool) -> Conclusion:
    blames = []
    for blame in work.blames:
        try:
            blames.append(work.settle(blame))
        except BudgetSpentError:
            blames.append(blame)
    blamed = {name for blame in blames for name in blame.factors}
    needed = tuple(dict.fromkeys(name for blame in blames for name in blame.needs if name not in blamed))
    open_factors = tuple(name for name in work.factors if name not in blamed and name not in work.kept)
    harmless = tuple(name for name in work.factors if name in work.kept and name not in {*blamed, *needed})
    if not blames:
        return Conclusion(state="out of budget", harmless=harmless, suspected=open_factors)
    untested = open_factors if is_spent else ()
    return Conclusion(state="found", blames=tuple(blames), harmless=harmless, untested=untested, suspected=needed)
