"""Find the models of two runs that belong together: their ids differ, and one name can be given several times."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from mlflow_repro.values.comparison import ModelMetric


@dataclass(frozen=True, kw_only=True)
class ModelTraits:
    """What a logged model is known by beside its name: the step it was logged at, its metrics, its files' sizes."""

    step: int = 0
    metrics: frozenset[tuple[str, str, str]] = frozenset()
    files: frozenset[tuple[str, int | None]] = frozenset()


_LEVELS: tuple[Callable[[ModelTraits], Hashable], ...] = (
    lambda traits: traits,
    lambda traits: (traits.step, traits.metrics),
    lambda traits: (traits.step, traits.files),
    lambda traits: traits.step,
    lambda _: None,
)
"""What two models must share to be paired, the most first."""


def pair_models(
    reference: Sequence[ModelTraits], reproduction: Sequence[ModelTraits]
) -> list[tuple[int | None, int | None]]:
    """The places of models that belong together, of two lists in the order of creation; None has no counterpart.

    Those that share the most are paired first; where several share the same, by their order.
    """
    left = [*range(len(reference))], [*range(len(reproduction))]
    pairs: list[tuple[int | None, int | None]] = []
    for level in _LEVELS:
        waiting = defaultdict(list)
        for place in left[1]:
            waiting[level(reproduction[place])].append(place)
        for place in [*left[0]]:
            found = waiting[level(reference[place])]
            if found:
                pairs.append((place, found[0]))
                left[0].remove(place)
                left[1].remove(found.pop(0))
    paired = sorted(pairs, key=lambda pair: pair[0] or 0)
    return [*paired, *((place, None) for place in left[0]), *((None, place) for place in left[1])]


def label_models(
    reference: Iterable[ModelMetric], reproduction: Iterable[ModelMetric]
) -> tuple[dict[str, ModelMetric], dict[str, ModelMetric]]:
    """The metrics of both sides by labels, the same ones for models that belong together: ``m: acc``, ``m#2: acc``."""
    sides = tuple(_group(side) for side in (reference, reproduction))
    labelled: tuple[dict[str, ModelMetric], dict[str, ModelMetric]] = ({}, {})
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        models = [[*side.get(name, {}).values()] for side in sides]
        pairs = pair_models(*([_read_traits(metrics) for metrics in side] for side in models))
        for number, pair in enumerate(pairs, 1):
            label = name if number == 1 else f"{name}#{number}"
            for side, place in enumerate(pair):
                for metric in models[side][place] if place is not None else ():
                    labelled[side][f"{label}: {metric.label}"] = metric
    return labelled


def _group(metrics: Iterable[ModelMetric]) -> dict[str, dict[int, list[ModelMetric]]]:
    """Metrics by the name of their model and its place among those of the name."""
    models: dict[str, dict[int, list[ModelMetric]]] = defaultdict(lambda: defaultdict(list))
    for metric in metrics:
        models[metric.model][metric.place].append(metric)
    return {name: dict(sorted(places.items())) for name, places in models.items()}


def _read_traits(metrics: Sequence[ModelMetric]) -> ModelTraits:
    values = frozenset((metric.name, metric.dataset, repr(metric.value)) for metric in metrics)
    return ModelTraits(step=metrics[0].logged_at, metrics=values)
