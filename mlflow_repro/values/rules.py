"""The rules of a comparison: how far two numbers may lie apart, and which metrics judge.

A rule names metrics by a shell pattern (``val_*``), as `fnmatch` reads it, upper and lower case apart. Of the rules
that match a metric the first decides; what a rule does not name is zero, so ``acc=abs:0.01`` allows no relative error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import UsageError
from mlflow_repro.values.options import option
from mlflow_repro.values.plain import Stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

DEFAULT_REL_TOL = 1e-9
MACHINE_METRICS = (
    "system/*",
    "*_time",
    "*_time_s",
    "*_time_ms",
    "*_time_sec",
    "*_time_seconds",
    "*_seconds",
    "*_per_second",
    "*_per_sec",
    "*runtime",
    "*duration*",
    "*elapsed*",
)
"""Metrics that measure time or the machine: shown, not judged. They differ between any two runs."""
MACHINE_REASON = "measures time or the machine, not judged"

_FORM = "write PATTERN=rel:1e-3, PATTERN=abs:0.01, PATTERN=ulp:4, several with commas, or PATTERN=exact"
_PARTS = {"rel": "rel_tol", "abs": "abs_tol", "ulp": "ulp"}


@dataclass(frozen=True, kw_only=True)
class Tolerances(Stored):
    """How far two numbers may lie apart and still be equal.

    ``rel_tol`` and ``abs_tol`` are those of `math.isclose`; ``ulp`` counts the float64 numbers from one to the other,
    in an array the numbers of its own precision. Each that holds is enough. ``exact`` means the same bits and nothing
    else.

    They are for floating-point numbers. ``integers`` says that ``rel_tol`` and ``abs_tol`` hold for integers as well,
    which `Rules.tolerances_of` sets where a rule of the user's names the file; it is no part of the stored form.
    """

    rel_tol: float = DEFAULT_REL_TOL
    abs_tol: float = 0.0
    ulp: int = 0
    exact: bool = False
    integers: bool = field(default=False, compare=False, repr=False)
    STORED = ("rel_tol", "abs_tol", "ulp", "exact")

    def __post_init__(self) -> None:
        for name, value in (("rel_tol", self.rel_tol), ("abs_tol", self.abs_tol), ("ulp", self.ulp)):
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value!r}", "it must be a finite number that is not negative")
        if self.exact and (self.rel_tol or self.abs_tol or self.ulp):
            raise UsageError(f"exact and {self} contradict each other", "give one of them")

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        parts = [f"{short}:{getattr(self, name)!r}" for short, name in _PARTS.items() if getattr(self, name)]
        return ",".join(parts) or "rel:0.0"


EXACT = Tolerances(rel_tol=0.0, exact=True)


@dataclass(frozen=True, kw_only=True)
class ToleranceRule(Stored):
    """The tolerance of the metrics whose name, and the artifacts whose path matches ``pattern``."""

    pattern: str
    tolerances: Tolerances

    def __str__(self) -> str:
        return f"{self.pattern}={self.tolerances}"

    def to_dict(self) -> dict[str, Any]:
        """Give the stored form: one object, not one in the other."""
        return {"pattern": self.pattern, **self.tolerances.to_dict()}

    @classmethod
    def unfold(cls, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """As two objects again."""
        tolerances = {name: part for name, part in plain.items() if name != "pattern"}
        return {**{name: part for name, part in plain.items() if name == "pattern"}, "tolerances": tolerances}


@dataclass(frozen=True, kw_only=True)
class Rules(Stored):
    """Everything that a comparison is judged by.

    ``default`` holds where none of ``tolerances`` matches. ``only``, when not empty, names the metrics that judge;
    ``ignore`` names metrics and artifacts that do not; ``judge`` the metrics that do although `MACHINE_METRICS` leaves
    them out. ``origin`` says where the rules were read, empty for the command line alone.
    """

    default: Tolerances = Tolerances()
    tolerances: tuple[ToleranceRule, ...] = ()
    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    origin: str = ""

    def __post_init__(self) -> None:
        for one, other in (("only", "ignore"), ("judge", "ignore")):
            both = [pattern for pattern in getattr(self, one) if pattern in getattr(self, other)]
            if both:
                raise UsageError(f"{one} and {other} both name {both[0]!r}", "remove one of them")
        if any(not pattern for pattern in (*self.only, *self.ignore, *self.judge)):
            raise UsageError("a pattern is empty", "'*' matches every metric")

    def tolerances_of(self, name: str) -> Tolerances:
        """The tolerance of the metric or artifact called ``name``: the first rule that matches, else the default.

        That of a rule holds for integers, too, for the user has named what it is for.
        """
        found = self._deciding(name)
        return replace(found.tolerances, integers=True) if found else self.default

    def why_ignored(self, name: str) -> str:
        """Why the metric called ``name`` does not judge; empty when it does."""
        pattern = first_match(name, self.ignore)
        if pattern:
            return f"left out by the rule ignore {pattern}"
        if self.only and not first_match(name, self.only):
            return f"left out by the rule only {', '.join(self.only)}"
        return MACHINE_REASON if measures_machine(name) and not first_match(name, self.judge) else ""

    def why_artifact_ignored(self, path: str) -> str:
        """Why the artifact at ``path`` does not judge; empty when it does. Only ``ignore`` names artifacts."""
        pattern = first_match(path, self.ignore)
        return f"left out by the rule ignore {pattern}" if pattern else ""

    def unused(self, names: Collection[str], artifacts: Collection[str] = ()) -> list[tuple[str, str]]:
        """Each rule that decides nothing about the metrics ``names`` and the ``artifacts``, and why."""
        judged = [name for name in names if not self.why_ignored(name)]
        judged += [path for path in artifacts if not self.why_artifact_ignored(path)]
        deciding = {self._deciding(name) for name in judged}
        unused = [
            (f"tolerance {rule}", _why_unused(rule.pattern, [*names, *artifacts], judged))
            for rule in self.tolerances
            if rule not in deciding
        ]
        for kind in ("only", "ignore", "judge"):
            matched, what = ([*names, *artifacts], "metric or artifact") if kind == "ignore" else (names, "metric")
            unused += [
                (f"{kind} {pattern}", f"matches no {what} of either run")
                for pattern in getattr(self, kind)
                if not any(fnmatchcase(name, pattern) for name in matched)
            ]
        return unused

    def _deciding(self, name: str) -> ToleranceRule | None:
        return next((rule for rule in self.tolerances if fnmatchcase(name, rule.pattern)), None)


def _why_unused(pattern: str, names: Collection[str], judged: Collection[str]) -> str:
    if not any(fnmatchcase(name, pattern) for name in names):
        return "matches no metric or artifact of either run"
    if not any(fnmatchcase(name, pattern) for name in judged):
        return "matches only what is not judged"
    return "an earlier rule decides each that it matches"


def first_match(name: str, patterns: Iterable[str]) -> str:
    """The first of ``patterns`` that ``name`` matches; empty when none does."""
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), "")


def measures_machine(name: str) -> bool:
    """True when the metric's name, in lower case, matches one of `MACHINE_METRICS`."""
    return bool(first_match(name.lower(), MACHINE_METRICS))


def parse_rule(text: str) -> ToleranceRule:
    """Read ``PATTERN=TOLERANCES``, split at the last equals sign. Raises UsageError."""
    pattern, equals, tolerances = text.rpartition("=")
    if not (equals and pattern):
        raise UsageError(f"tolerance {text!r} names no metric", _FORM)
    return ToleranceRule(pattern=pattern, tolerances=parse_tolerances(tolerances))


def parse_tolerances(text: str) -> Tolerances:
    """Read ``exact``, or ``rel:X``, ``abs:X`` and ``ulp:N`` with commas between them. Raises UsageError."""
    if text.strip() == "exact":
        return EXACT
    values: dict[str, Any] = {"rel_tol": 0.0}
    seen = set()
    for part in text.split(","):
        kind, colon, number = (piece.strip() for piece in part.partition(":"))
        if not colon or kind not in _PARTS:
            raise UsageError(f"not a tolerance: {part!r}", _FORM)
        if kind in seen:
            raise UsageError(f"tolerance {text!r} gives {kind} twice", _FORM)
        seen.add(kind)
        try:
            values[_PARTS[kind]] = int(number) if kind == "ulp" else float(number)
        except ValueError:
            raise UsageError(f"not a number: {number!r} in the tolerance {text!r}", _FORM) from None
    return Tolerances(**values)


@dataclass(frozen=True, kw_only=True)
class RuleSettings:
    """What a user writes about rules, on the command line, in a file or in Python; None and empty say nothing.

    ``tolerance`` holds rules for some metrics (``val_*=rel:1e-3``); of ``only``, ``ignore`` and ``judge`` see `Rules`.
    """

    rel_tol: float | None = option(
        None, shown_default="1e-9", metavar="X", help="Relative tolerance, as of math.isclose."
    )
    abs_tol: float | None = option(None, shown_default="0", metavar="X", help="Absolute tolerance, as of math.isclose.")
    exact: bool = option(default=False, help="Only the same bits are equal.")
    tolerance: tuple[str, ...] = option(
        (),
        metavar="PATTERN=T",
        help="Of the metrics and artifacts that match: T is rel:X, abs:X, ulp:N, several with commas, or exact. The"
        " first that matches decides.",
    )
    only: tuple[str, ...] = option((), metavar="PATTERN", help="Judge no metrics but those that match.")
    ignore: tuple[str, ...] = option(
        (), metavar="PATTERN", help="Show metrics and artifacts that match, and do not judge them."
    )
    judge: tuple[str, ...] = option(
        (), metavar="PATTERN", help="Judge metrics that match although they measure time or the machine."
    )


def make_rules(settings: RuleSettings, base: Rules = Rules(), *, origin: str = "") -> Rules:
    """The rules that ``settings`` name, on top of ``base`` (those of a file): what is given here comes first.

    Raises UsageError when two of the settings contradict each other.
    """
    rules = tuple(parse_rule(text) for text in settings.tolerance)
    for rule in rules:
        other = next((one for one in rules if one.pattern == rule.pattern and one != rule), None)
        if other is not None:
            raise UsageError(f"tolerances {rule} and {other} contradict each other", "remove one of them")
    only, ignore, judge = tuple(settings.only), tuple(settings.ignore), tuple(settings.judge)
    named = {rule.pattern for rule in rules}
    return Rules(
        default=_make_default(settings, base.default),
        tolerances=(*dict.fromkeys(rules), *(rule for rule in base.tolerances if rule.pattern not in named)),
        only=only or tuple(pattern for pattern in base.only if pattern not in ignore),
        ignore=(*ignore, *(pattern for pattern in base.ignore if pattern not in (*ignore, *only, *judge))),
        judge=(*judge, *(pattern for pattern in base.judge if pattern not in (*judge, *ignore))),
        origin=origin or base.origin,
    )


def _make_default(settings: RuleSettings, base: Tolerances) -> Tolerances:
    given = {name: getattr(settings, name) for name in ("rel_tol", "abs_tol")}
    given = {name: value for name, value in given.items() if value is not None}
    if settings.exact and given:
        raise UsageError(f"exact contradicts {next(iter(given))}", "give one of them")
    if settings.exact:
        return EXACT
    if not given:
        return base
    return replace(Tolerances() if base.exact else base, **given)
