"""What a run left behind beside its record: values that the store is asked for when two runs are compared."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, kw_only=True)
class ModelMetric:
    """A metric that a run logged for one of its models, as MLflow 3 keeps them: the value of the greatest step.

    ``model`` is the model's name, with ``#2`` and so on where a run logged several of one name; ids differ between any
    two runs. ``dataset`` and ``digest`` are empty where the metric belongs to no data set.
    """

    model: str
    name: str
    value: float
    step: int = 0
    dataset: str = ""
    digest: str = ""

    @property
    def label(self) -> str:
        """What the two sides are matched by."""
        on = f" on {self.dataset}" if self.dataset else ""
        return f"{self.model}: {self.name}{on}"


def list_model_ids(run: Any) -> list[str]:
    """The models that a run (MLflow's `Run`) logged, in the order of their steps, and those that it was given."""
    ids: dict[str, None] = {}
    for side, kind in (("outputs", "model_outputs"), ("inputs", "model_inputs")):
        found = getattr(getattr(run, side, None), kind, None) or []
        ids.update({entry.model_id: None for entry in sorted(found, key=lambda entry: getattr(entry, "step", 0) or 0)})
    return list(ids)


def list_model_metrics(run_id: str, models: Iterable[Any]) -> list[ModelMetric]:
    """What the run logged for ``models`` (MLflow's `LoggedModel`): of each metric and data set the last value."""
    metrics: dict[str, ModelMetric] = {}
    seen: Counter[str] = Counter()
    for model in models:
        seen[model.name] += 1
        name = model.name if seen[model.name] == 1 else f"{model.name}#{seen[model.name]}"
        points = [point for point in model.metrics or () if point.run_id in (None, "", run_id)]
        for point in sorted(points, key=lambda point: (point.step, point.timestamp)):
            metric = ModelMetric(
                model=name,
                name=point.key,
                value=float(point.value),
                step=point.step,
                dataset=point.dataset_name or "",
                digest=point.dataset_digest or "",
            )
            metrics[metric.label] = metric
    return list(metrics.values())
