"""Say why two runs differ: rules look at what was recorded, and the shape of the difference weighs what they find.

Each rule is a function of the evidence that gives suspects, with a weight: how likely such a difference changes results
at all. The likelihood of the shape under each kind of cause (`shape`) multiplies it, as in Bayes' rule; what is left
to 1 belongs to causes that nothing recorded shows. So a confidence is a judgement, never a proof: that is 1, and
`mlflow-repro isolate` gives it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.explain.code import suspect_code, suspect_data_files_of_tree, suspect_parameters, suspect_start
from mlflow_repro.explain.data import suspect_data
from mlflow_repro.explain.itself import suspect_gaps, suspect_itself
from mlflow_repro.explain.randomness import (
    suspect_generators,
    suspect_hash_seed,
    suspect_seeds,
    suspect_switched_off,
    suspect_traces,
)
from mlflow_repro.explain.shape import find_shape
from mlflow_repro.explain.surroundings import (
    suspect_cpu,
    suspect_determinism,
    suspect_gpus,
    suspect_libraries,
    suspect_packages,
    suspect_python,
    suspect_variables,
)
from mlflow_repro.values.comparison import Verdict
from mlflow_repro.values.report import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_repro.explain.evidence import Evidence, Suspect

RULES: tuple[Callable[[Evidence], Iterable[Suspect]], ...] = (
    suspect_code,
    suspect_data_files_of_tree,
    suspect_parameters,
    suspect_start,
    suspect_seeds,
    suspect_generators,
    suspect_switched_off,
    suspect_traces,
    suspect_hash_seed,
    suspect_data,
    suspect_packages,
    suspect_python,
    suspect_variables,
    suspect_libraries,
    suspect_cpu,
    suspect_gpus,
    suspect_determinism,
    suspect_gaps,
    suspect_itself,
)
_FIRST = 4.0  # how much more what is known weighs than the likeliest of the rest
_UNSEEN = 0.01  # of a cause that nothing recorded shows
_LEAST = 0.005  # confidence below which a cause is not worth a line
_MOST = 0.99  # 1 is for what is proven
_LONGEST = 10  # causes


def explain(evidence: Evidence) -> tuple[Cause, ...]:
    """The causes of a difference, the most likely first; none where the runs do not differ."""
    if evidence.comparison.verdict is not Verdict.DIFFERENT:
        return ()
    shape = find_shape(evidence.comparison)
    suspects = [suspect for rule in RULES for suspect in rule(evidence)]
    weighed = [(suspect.weight * shape.likelihood(suspect.kind), suspect) for suspect in suspects]
    most = max(weight for weight, _ in weighed)
    weighed = [(most * _FIRST if suspect.is_first else weight, suspect) for weight, suspect in weighed]
    whole = sum(weight for weight, _ in weighed) + _UNSEEN
    weighed.sort(key=lambda pair: -pair[0])
    causes = [_to_cause(suspect, weight / whole) for weight, suspect in weighed]
    causes[0] = replace(causes[0], evidence=(*causes[0].evidence, shape.describe()))
    kept = [cause for number, cause in enumerate(causes) if cause.confidence >= _LEAST or number == 0]
    return tuple(kept[:_LONGEST])


def _to_cause(suspect: Suspect, confidence: float) -> Cause:
    return Cause(
        kind=suspect.kind,
        what=suspect.what,
        confidence=round(min(confidence, _MOST), 3),
        evidence=suspect.evidence,
        fix=suspect.fix,
    )
