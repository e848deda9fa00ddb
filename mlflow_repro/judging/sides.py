"""The runs of a comparison, each with the store that it is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mlflow_repro.errors import CannotJudgeError, UsageError
from mlflow_repro.values.run import check_run_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow_repro.code.worktree.values import TakenTree
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.record import Record
    from mlflow_repro.values.run import Run


@dataclass(frozen=True, kw_only=True)
class Side:
    """A run, and the store that it is in."""

    run: Run
    store: TrackingStore


def split_name(text: str, tracking_uri: str) -> tuple[str, str]:
    """The store and the run that ``[TRACKING_URI#]RUN_ID`` names. Raises UsageError."""
    uri, hash_sign, run_id = text.rpartition("#")
    if hash_sign and not uri:
        raise UsageError(f"{text!r} names no tracking store", "write TRACKING_URI#RUN_ID, or the run id alone")
    return uri or tracking_uri, check_run_id(run_id)


def read_pair(reference: str, reproduction: str, tracking_uri: str) -> tuple[Side, Side]:
    """Two runs, each named by its id or as ``TRACKING_URI#RUN_ID``, with their stores. Raises `ReproError`."""
    one, other = read_sides([split_name(text, tracking_uri) for text in (reference, reproduction)])
    return one, other


def read_sides(names: Iterable[tuple[str, str]]) -> list[Side]:
    """Each run with its store; a store that several are in is opened once."""
    from mlflow_repro.store.opening import open_store

    stores: dict[str, TrackingStore] = {}
    sides = []
    for uri, run_id in names:
        if uri not in stores:
            stores[uri] = open_store(uri)
        sides.append(Side(run=stores[uri].read_run(run_id), store=stores[uri]))
    return sides


def read_tree(store: TrackingStore, run_id: str, record: Record) -> TakenTree | None:
    """What the run recorded of its working tree, None when it recorded nothing.

    Raises CannotJudgeError when that is damaged, and the errors of `read_code`.
    """
    from mlflow_repro.code.recorded import read_code
    from mlflow_repro.store.recorded import read_recorded

    if record.has_damaged_tree:
        raise CannotJudgeError(record.damage_note, "--commit COMMIT runs a commit alone")
    return None if record.code.tree is None else read_code(record.code, partial(read_recorded, store, run_id))
