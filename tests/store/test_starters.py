"""Which program started the one that made a run."""

from __future__ import annotations

from typing import Any

from mlflow_repro.store.trees import find_starter
from mlflow_repro.values.run import Run


class Store:
    """A store that has no run, and counts how often it is asked."""

    asked = 0

    def search_runs(self, _: str) -> list[Run]:
        self.asked += 1
        return []


def test_a_process_below_thousands_of_others_is_not_searched_for_in_each():
    store: Any = Store()
    assert find_starter(store, Run(run_id="a", tags={"repro.launch.process": "/" * 5_000})) == []
    assert find_starter(store, Run(run_id="a", tags={"repro.launch.process": "a/" * 2_000 + "b"})) == []
    assert store.asked <= 16
