"""Models of two runs that belong together, where a run logged several of one name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import strategies  # noqa: F401 - hypothesis' profile
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.compare.metrics import compare_model_metrics
from mlflow_repro.compare.models import ModelTraits, pair_models
from mlflow_repro.judging.artifacts import pair_files
from mlflow_repro.store.artifacts import ArtifactFile, ArtifactFolder
from mlflow_repro.store.store import list_model_metrics
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.rules import Rules

traits = st.builds(
    ModelTraits,
    step=st.integers(0, 2),
    metrics=st.frozensets(st.tuples(st.just("acc"), st.just(""), st.sampled_from(("0.5", "0.25"))), max_size=1),
    files=st.frozensets(st.tuples(st.just("w"), st.integers(1, 2)), max_size=1),
)


def make_model(created: int, metrics: dict[str, float], name: str = "net") -> SimpleNamespace:
    points = [
        SimpleNamespace(run_id="r", key=key, value=value, step=0, timestamp=0, dataset_name=None, dataset_digest=None)
        for key, value in metrics.items()
    ]
    return SimpleNamespace(name=name, creation_timestamp=created, metrics=points)


@given(st.lists(traits, max_size=6), st.randoms(use_true_random=False))
def test_each_model_finds_its_equal_whatever_the_order(one: list[ModelTraits], random):
    other = random.sample(one, len(one))
    pairs = pair_models(one, other)
    assert sorted(here for here, _ in pairs) == sorted(there for _, there in pairs) == list(range(len(one)))
    assert all(one[here] == other[there] for here, there in pairs)


@given(st.lists(traits, max_size=5), st.lists(traits, max_size=5))
def test_every_model_is_in_one_pair_and_none_is_left_over_on_both_sides(one, other):
    pairs = pair_models(one, other)
    assert sorted(here for here, _ in pairs if here is not None) == list(range(len(one)))
    assert sorted(there for _, there in pairs if there is not None) == list(range(len(other)))
    assert len(pairs) == max(len(one), len(other))


STAGES = [
    (make_model(1, {"loss": 0.9}), 0),
    (make_model(2, {"loss": 0.5}), 0),
    (make_model(3, {"loss": 0.1, "acc": 0.9}), 0),
]


@given(st.permutations(STAGES), st.permutations(STAGES))
def test_the_order_of_a_store_makes_no_difference(one, other):
    """Autologging makes several models of one name at one step; a store gives them in an order of its own."""
    rows = compare_model_metrics(*(list_model_metrics("r", side) for side in (one, other)), Rules())
    assert {row.name: (row.reference, row.status) for row in rows} == {
        "net: loss": (0.9, Status.IDENTICAL),
        "net#2: loss": (0.5, Status.IDENTICAL),
        "net#3: loss": (0.1, Status.IDENTICAL),
        "net#3: acc": (0.9, Status.IDENTICAL),
    }


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_a_model_that_differs_is_paired_with_the_one_of_its_step_and_place(changed):
    other = [
        (make_model(model.creation_timestamp, {point.key: point.value for point in model.metrics}), step)
        for model, step in STAGES
    ]
    other[changed][0].metrics[0].value += 0.01
    rows = compare_model_metrics(*(list_model_metrics("r", side) for side in (STAGES, other[::-1])), Rules())
    assert [row.status for row in rows if row.status is not Status.IDENTICAL] == [Status.DIFFERENT]
    names = ["net: loss", "net#2: loss", "net#3: loss"]
    assert [row.name for row in rows if row.status is Status.DIFFERENT] == [names[changed]]


def test_a_model_too_many_is_the_one_that_no_other_is_like():
    one = [STAGES[0], STAGES[2]]
    rows = compare_model_metrics(*(list_model_metrics("r", side) for side in (one, STAGES)), Rules())
    assert [(row.name, row.status.value, row.reproduction) for row in rows if not row.is_equal] == [
        ("net#3: loss", "extra", 0.5)
    ]


@given(st.permutations(range(3)))
def test_files_of_models_of_one_name_are_paired_by_what_the_models_are(order):
    def folder(number: int) -> ArtifactFolder:
        metrics = frozenset({("acc", "", f"0.{number}")}) if number else frozenset()
        return ArtifactFolder(name="net", files={"w.bin": ArtifactFile(path="w.bin", size=number)}, metrics=metrics)

    run = ArtifactFolder(files={"net/x": ArtifactFile(path="net/x", size=9)})
    pairs = pair_files([run, *map(folder, range(3))], [run, *map(folder, order)])
    assert sorted(pairs) == ["net/x", "net[2]/w.bin", "net[3]/w.bin", "net[4]/w.bin"]
    assert all(one.size == other.size for one, other in pairs.values())
