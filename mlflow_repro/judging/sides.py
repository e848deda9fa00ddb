"""The runs of a comparison, each with the store that it is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.values.run import check_run_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.code.worktree.values import TakenTree
    from mlflow_repro.store.artifacts import ArtifactFolder
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.comparison import ModelMetric
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run
    from mlflow_repro.values.sections import StoredFile


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run, and the store that it is in; what belongs to the run is read when it is first asked for, and once."""

    run: Run
    store: TrackingStore

    @property
    def record(self) -> Record:
        """The run's record of itself. Raises UnreachableError, CannotJudgeError for one that cannot be read at all."""
        return self.store.read_own_record(self.run.run_id)

    @property
    def inputs(self) -> list[dict[str, str]]:
        """The data sets that were logged as the run's inputs. Raises UnreachableError."""
        return self.store.read_inputs(self.run.run_id)

    @property
    def model_metrics(self) -> list[ModelMetric]:
        """The metrics of the models that the run logged or evaluated. Raises UnreachableError."""
        return self.store.read_model_metrics(self.run.run_id)

    @cached_property
    def folders(self) -> list[ArtifactFolder]:
        """What the run left behind: its artifacts and its models. Raises what `list_folders` raises."""
        return self.store.list_folders(self.run.run_id)

    def read_file(self, path: str) -> bytes | None:
        """A file that the plugin recorded, None where there is none. Raises UnreachableError, CannotJudgeError."""
        return self.store.read_file(self.run.run_id, path)

    def read_recorded(self, named: StoredFile) -> bytes:
        """A file that the record names. Raises what `store.recorded.read_recorded` raises."""
        from mlflow_repro.store.recorded import read_recorded

        return read_recorded(self.store, self.run.run_id, named)


def split_name(text: str, tracking_uri: str) -> tuple[str, str]:
    """The store and the run that ``[TRACKING_URI#]RUN_ID`` names. Raises UsageError."""
    uri, hash_sign, run_id = text.rpartition("#")
    if hash_sign and not uri:
        raise UsageError(f"{text!r} names no tracking store", "write TRACKING_URI#RUN_ID, or the run id alone")
    return uri or tracking_uri, check_run_id(run_id)


def read_sides(names: Iterable[tuple[str, str]]) -> list[Side]:
    """Each run with its store; a store that several are in is opened once, and a run that is named twice read once."""
    from mlflow_repro.store.opening import open_store

    stores: dict[str, TrackingStore] = {}
    sides: dict[tuple[str, str], Side] = {}
    named = [(open_store(uri, stores), run_id) for uri, run_id in names]
    for store, run_id in named:
        if (store.uri, run_id) not in sides:
            sides[store.uri, run_id] = Side(run=store.read_run(run_id), store=store)
    return [sides[store.uri, run_id] for store, run_id in named]


def read_tree(side: Side, record: Record) -> TakenTree | None:
    """What ``record``, that of the run or one that was made of it, says of a working tree; None for nothing.

    Raises CannotJudgeError when that is damaged, and the errors of `read_code`.
    """
    from mlflow_repro.code.recorded import read_code

    if record.has_damaged_tree:
        raise CannotJudgeError(record.damage_note, "--commit COMMIT runs a commit alone")
    return None if record.code.tree is None else read_code(record.code, side.read_recorded)
