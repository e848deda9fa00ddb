"""Read the histories of metrics as columns, in the order of their steps, by the quickest way that a store offers.

`mlflow.MlflowClient.get_metric_history` makes an object of each point, and over HTTP asks for one page after the other,
each of which the server finds by sorting all points anew. Here a SQL store is read by one SELECT of three columns, a
tracking server by ranges of steps that several requests fetch at once.

A history is an iterator of pairs of numpy arrays of one length: steps (int64, never falling) and values (float64). The
points of one step come in the order of their time, then of their value; no store keeps more of the order of logging.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from concurrent.futures import Future

    import numpy as np
    from sqlalchemy import Engine

    Points = tuple[np.ndarray, np.ndarray]
    Rows = list[dict[str, Any]]

_SQL_BLOCK = 50_000  # rows
_LIMIT = 2_500  # rows that one get-history-bulk-interval gives of a run; with more it samples
_PAGE = 25_000  # rows that one get-history gives
_WORKERS = 4
_AHEAD = 3  # ranges of one history that are being fetched while one is compared
_FIRST_STEP, _LAST_STEP = -(2**63), 2**63 - 1
_SAMPLES_BY_ROW = (3, 17)  # older servers read a whole history to sample a range of it; the first that was measured


class HistoryReader(AbstractContextManager["HistoryReader"]):
    """The histories in one store; a context in which what reading needs is held."""

    def __exit__(self, *_: object) -> None:
        """Nothing is held, unless a reader says otherwise."""

    def read_single_steps(self, run_id: str) -> dict[str, int]:  # noqa: ARG002 - for readers that can
        """The metrics of a run that are known to have one point only, and its step."""
        return {}

    @abstractmethod
    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric."""


class SqlHistories(HistoryReader):
    """Histories in a SQL store, read through the ``engine`` that MLflow's own store has."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read_single_steps(self, run_id: str) -> dict[str, int]:
        """As of `HistoryReader`, all of them."""
        from sqlalchemy import func, select

        columns = _metrics_table().c
        query = (
            select(columns.key, func.min(columns.step))
            .where(columns.run_uuid == run_id)
            .group_by(columns.key)
            .having(func.count() == 1)
        )
        with self._engine.connect() as connection:
            return {str(name): int(step) for name, step in connection.execute(query)}

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric."""
        import numpy as np
        from sqlalchemy import select

        columns = _metrics_table().c
        query = (
            select(columns.step, columns.value, columns.is_nan)
            .where(columns.run_uuid == run_id, columns.key == name)
            .order_by(columns.step, columns.timestamp, columns.value, columns.is_nan)
        )
        with self._engine.connect().execution_options(stream_results=True) as connection:
            answer = connection.execute(query)
            while rows := answer.fetchmany(_SQL_BLOCK):
                steps, numbers, nans = zip(*rows, strict=True)
                values = np.array(numbers, np.float64)
                values[np.array(nans, np.bool_)] = np.nan
                yield np.array(steps, np.int64), values


class RestHistories(HistoryReader):
    """Histories on a tracking server. ``get`` fetches an endpoint with parameters and gives the JSON of its answer."""

    def __init__(self, get: Callable[[str, Mapping[str, Any]], dict[str, Any]], *, server_version: str) -> None:
        self._get = get
        self._by_ranges = _parse_version(server_version) >= _SAMPLES_BY_ROW
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._last_steps: dict[str, dict[str, int]] = {}

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric; its first request is under way when this returns."""
        if not self._by_ranges:
            return _stream_result(self._pool.submit(self._read_pages, run_id, name))
        if run_id not in self._last_steps:
            self._last_steps[run_id] = self._read_last_steps(run_id)
        return self._stream_ranges(run_id, name, self._submit(run_id, name, _FIRST_STEP, _LIMIT - 2))

    def _read_last_steps(self, run_id: str) -> dict[str, int]:
        answer = self._get("/api/2.0/mlflow/runs/get", {"run_id": run_id})
        metrics = answer["run"].get("data", {}).get("metrics", [])
        return {row["key"]: int(row.get("step", 0)) for row in metrics}

    def _submit(self, run_id: str, name: str, low: int, high: int) -> tuple[int, int, Future[Rows]]:
        return low, high, self._pool.submit(self._read_range, run_id, name, low, high)

    def _read_range(self, run_id: str, name: str, low: int, high: int) -> Rows:
        asked = {"run_ids": [run_id], "metric_key": name, "start_step": low, "end_step": high, "max_results": _LIMIT}
        rows: Rows = self._get("/api/2.0/mlflow/metrics/get-history-bulk-interval", asked).get("metrics", [])
        return rows

    def _stream_ranges(self, run_id: str, name: str, first: tuple[int, int, Future[Rows]]) -> Iterator[Points]:
        """Ranges of steps in their order; one that has too many rows is split at the middle of what was sampled.

        The width of the next ranges follows what the last one held.
        """
        last = self._last_steps[run_id].get(name, _LAST_STEP)
        waiting, width, next_low = deque([first]), _LIMIT - 1, first[1] + 1
        while waiting:
            low, high, future = waiting.popleft()
            rows = future.result()
            if len(rows) >= _LIMIT:
                width = max(width // 2, 1)
                if low == high:  # more points at one step than a range can hold
                    yield from _after(self._read_pages(run_id, name), low)
                    return
                middle = min(max(int(rows[len(rows) // 2]["step"]), low + 1), high)
                waiting.extendleft(
                    (self._submit(run_id, name, middle, high), self._submit(run_id, name, low, middle - 1))
                )
                continue
            if len(rows) < _LIMIT // 4 and high - low < width:
                width = min(width * 4, _LAST_STEP)
            while len(waiting) < _AHEAD and next_low <= last:
                high = min(next_low + width - 1, last)
                waiting.append(self._submit(run_id, name, next_low, high))
                next_low = high + 1
            yield _to_columns(rows)

    def _read_pages(self, run_id: str, name: str) -> Points:
        """The whole history, page by page: of servers that are older, or where many points share a step."""
        import numpy as np

        pages, token = [], ""
        while True:
            asked = {"run_id": run_id, "metric_key": name, "max_results": _PAGE}
            answer = self._get(
                "/api/2.0/mlflow/metrics/get-history", {**asked, **({"page_token": token} if token else {})}
            )
            rows = answer.get("metrics", [])
            pages.append((*_to_columns(rows), np.array([int(row.get("timestamp", 0)) for row in rows], np.int64)))
            token = answer.get("next_page_token", "")
            if not token:
                return _sort(*(np.concatenate(columns) for columns in zip(*pages, strict=True)))


class ClientHistories(HistoryReader):
    """Histories in any other store: ``read`` gives the steps, values and times of a metric, as the client does."""

    def __init__(self, read: Callable[[str, str], list[tuple[int, float, int]]]) -> None:
        self._read = read

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric."""
        import numpy as np

        rows = self._read(run_id, name)
        if rows:
            steps, values, times = zip(*rows, strict=True)
            yield _sort(np.array(steps, np.int64), np.array(values, np.float64), np.array(times, np.int64))


def _metrics_table() -> Any:
    """MLflow's table of points; named here because ``key`` has to be quoted in some databases."""
    from sqlalchemy import column, table

    return table("metrics", *map(column, ("run_uuid", "key", "step", "timestamp", "value", "is_nan")))


def _parse_version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text.strip())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _to_columns(rows: Rows) -> Points:
    import numpy as np

    count = len(rows)
    steps = np.fromiter((int(row.get("step", 0)) for row in rows), np.int64, count)
    return steps, np.fromiter((float(row.get("value", 0.0)) for row in rows), np.float64, count)


def _sort(steps: np.ndarray, values: np.ndarray, times: np.ndarray) -> Points:
    import numpy as np

    order = np.lexsort((values, times, steps))
    return steps[order], values[order]


def _after(points: Points, low: int) -> Iterator[Points]:
    """The points from the step ``low`` on."""
    import numpy as np

    start = int(np.searchsorted(points[0], low))
    yield points[0][start:], points[1][start:]


def _stream_result(future: Future[Points]) -> Iterator[Points]:
    yield future.result()
