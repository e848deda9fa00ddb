"""Read the histories of metrics as columns, in the order of their steps, by the quickest way that a store offers.

`mlflow.MlflowClient.get_metric_history` makes an object of each point, and over HTTP asks for one page after the other,
each of which the server finds by sorting all points anew. Here a SQL store is read by one SELECT of three columns, a
tracking server by ranges of steps that several requests fetch at once.

A history is an iterator of pairs of numpy arrays of one length: steps (int64, never falling) and values (float64). The
points of one step come in the order of their time, then of their value; no store keeps more of the order of logging.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from mlflow_repro.text.versions import read_release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    import numpy as np
    from sqlalchemy import Engine

    Points = tuple[np.ndarray, np.ndarray]
    TimedPoints = tuple[np.ndarray, np.ndarray, np.ndarray]
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

    @abstractmethod
    def read_timed(self, run_id: str, name: str) -> TimedPoints:
        """The whole history of one metric, with the times of its points in milliseconds."""

    @abstractmethod
    def read_latest(self, run_id: str) -> dict[str, tuple[int, float]]:
        """The greatest step of each metric of a run, and the value there."""

    def read_sample(self, run_id: str, name: str, high: int, count: int) -> Points:  # noqa: ARG002 - for readers that can
        """About ``count`` points spread over the steps up to ``high``, the first step among them; none if that is hard.

        Two histories with the same steps up to ``high`` give points of the same steps.
        """
        import numpy as np

        return np.empty(0, np.int64), np.empty(0, np.float64)

    def read_range(self, run_id: str, name: str, low: int, high: int) -> Points:
        """The points of the steps from ``low`` to ``high``; of very many the first, up to the end of a step."""
        import numpy as np

        blocks = list(self.stream(run_id, name)) or [(np.empty(0, np.int64), np.empty(0, np.float64))]
        steps, values = (np.concatenate(column) for column in zip(*blocks, strict=True))
        kept = slice(*np.searchsorted(steps, (low, high + 1)))
        return steps[kept], values[kept]


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

    def read_latest(self, run_id: str) -> dict[str, tuple[int, float]]:
        """As of `HistoryReader`; one row a metric."""
        from sqlalchemy import select

        columns = _metrics_table("latest_metrics").c
        query = select(columns.key, columns.step, columns.value, columns.is_nan).where(columns.run_uuid == run_id)
        with self._engine.connect() as connection:
            return {
                str(name): (int(step), math.nan if is_nan else float(value))
                for name, step, value, is_nan in connection.execute(query)
            }

    def read_range(self, run_id: str, name: str, low: int, high: int) -> Points:
        """As of `HistoryReader`; so few points at once that no writer has to wait for long."""
        from sqlalchemy import select

        columns = _metrics_table().c
        query = (
            select(columns.step, columns.value, columns.is_nan)
            .where(columns.run_uuid == run_id, columns.key == name, columns.step.between(low, high))
            .order_by(columns.step, columns.timestamp, columns.value, columns.is_nan)
            .limit(_SQL_BLOCK)
        )
        with self._engine.connect() as connection:
            return _first_steps(*_from_rows(connection.execute(query).fetchall()))

    def read_sample(self, run_id: str, name: str, high: int, count: int) -> Points:
        """As of `HistoryReader`: of each stretch of steps the first. Newer stores find the steps in an index."""
        from sqlalchemy import func, select

        columns = _metrics_table().c
        metric = (columns.run_uuid == run_id, columns.key == name, columns.step <= high)
        stretch = columns.step - columns.step % max(1, abs(high) // count)
        firsts = select(func.min(columns.step)).where(*metric).group_by(stretch)
        query = (
            select(columns.step, columns.value, columns.is_nan)
            .where(*metric, columns.step.in_(firsts))
            .order_by(columns.step, columns.timestamp, columns.value, columns.is_nan)
            .limit(_SQL_BLOCK)
        )
        with self._engine.connect() as connection:
            return _from_rows(connection.execute(query).fetchall())

    def read_timed(self, run_id: str, name: str) -> TimedPoints:
        """As of `HistoryReader`."""
        import numpy as np
        from sqlalchemy import select

        columns = _metrics_table().c
        query = select(columns.step, columns.value, columns.is_nan, columns.timestamp).where(
            columns.run_uuid == run_id, columns.key == name
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).fetchall()
        steps, values = _from_rows([row[:3] for row in rows])
        return _sort(steps, values, np.array([row[3] for row in rows], np.int64))

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric."""
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
                yield _from_rows(rows)


class RestHistories(HistoryReader):
    """Histories on a tracking server. ``get`` fetches an endpoint with parameters and gives the JSON of its answer."""

    def __init__(self, get: Callable[[str, Mapping[str, Any]], dict[str, Any]], *, server_version: str) -> None:
        self._get = get
        self._by_ranges = (read_release(server_version) or ()) >= _SAMPLES_BY_ROW
        self._pool = ThreadPoolExecutor(_WORKERS)

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric; its first request is under way when this returns."""
        if not self._by_ranges:
            return _stream_result(self._pool.submit(lambda: self.read_timed(run_id, name)[:2]))
        whole = self._pool.submit(self._read_range, run_id, name, _FIRST_STEP, _LAST_STEP)
        return self._stream_whole(run_id, name, whole)

    def read_latest(self, run_id: str) -> dict[str, tuple[int, float]]:
        """As of `HistoryReader`, by one request."""
        answer = self._get("/api/2.0/mlflow/runs/get", {"run_id": run_id})
        metrics = answer["run"].get("data", {}).get("metrics", [])
        return {row["key"]: (int(row.get("step", 0)), float(row.get("value", 0.0))) for row in metrics}

    def read_range(self, run_id: str, name: str, low: int, high: int) -> Points:
        """As of `HistoryReader`; a range of which the server gives a sample is made shorter until it is whole."""
        if not self._by_ranges:
            return super().read_range(run_id, name, low, high)
        while True:
            rows = self._read_range(run_id, name, low, high)
            if len(rows) < _LIMIT or low >= high:
                return _to_columns(rows)
            high = max(low, min(int(rows[len(rows) // 2]["step"]), high - 1))

    def read_sample(self, run_id: str, name: str, high: int, count: int) -> Points:
        """As of `HistoryReader`, by one request: the server samples a range that has more points."""
        if not self._by_ranges:
            return super().read_sample(run_id, name, high, count)
        return _to_columns(self._read_range(run_id, name, _FIRST_STEP, high, most=count))

    def _submit(self, run_id: str, name: str, low: int, high: int) -> tuple[int, int, Future[Rows]]:
        return low, high, self._pool.submit(self._read_range, run_id, name, low, high)

    def _read_range(self, run_id: str, name: str, low: int, high: int, *, most: int = _LIMIT) -> Rows:
        asked = {"run_ids": [run_id], "metric_key": name, "start_step": low, "end_step": high, "max_results": most}
        rows: Rows = self._get("/api/2.0/mlflow/metrics/get-history-bulk-interval", asked).get("metrics", [])
        return rows

    def _stream_whole(self, run_id: str, name: str, whole: Future[Rows]) -> Iterator[Points]:
        """A history that one answer can hold; else range by range: a sample tells where it begins and ends."""
        rows = whole.result()
        if len(rows) < _LIMIT:
            yield _to_columns(rows)
            return
        steps = [int(row.get("step", 0)) for row in rows]
        yield from self._stream_ranges(run_id, name, min(steps), max(steps))

    def _stream_ranges(self, run_id: str, name: str, first: int, last: int) -> Iterator[Points]:
        """Ranges of steps in their order; one that has too many rows is split at the middle of what was sampled.

        The width of the next ranges follows what the last one held. ``first`` and ``last`` are sampled steps; what
        lies outside of them is asked for as well.
        """
        width, high = _LIMIT - 1, min(first + _LIMIT - 2, _LAST_STEP)
        waiting, next_low = deque([self._submit(run_id, name, _FIRST_STEP, high)]), high + 1
        is_at_end = False
        while waiting:
            low, high, future = waiting.popleft()
            rows = future.result()
            if len(rows) >= _LIMIT:
                width = max(width // 2, 1)
                if low == high:  # more points at one step than a range can hold
                    yield from _after(self.read_timed(run_id, name), low)
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
            if next_low > last and not is_at_end and next_low <= _LAST_STEP:
                is_at_end = True
                waiting.append(self._submit(run_id, name, next_low, _LAST_STEP))
            yield _to_columns(rows)

    def read_timed(self, run_id: str, name: str) -> TimedPoints:
        """As of `HistoryReader`, page by page: of servers that are older, or where points share a step."""
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
    """Histories in any other store: ``read`` gives the steps, values and times of a metric, as the client does.

    ``read_latest`` gives the last step and value of each metric of a run.
    """

    def __init__(
        self,
        read: Callable[[str, str], list[tuple[int, float, int]]],
        read_latest: Callable[[str], dict[str, tuple[int, float]]],
    ) -> None:
        self._read = read
        self._read_latest = read_latest

    def read_latest(self, run_id: str) -> dict[str, tuple[int, float]]:
        """As of `HistoryReader`."""
        return self._read_latest(run_id)

    def read_timed(self, run_id: str, name: str) -> TimedPoints:
        """As of `HistoryReader`."""
        import numpy as np

        rows = self._read(run_id, name)
        steps, values, times = zip(*rows, strict=True) if rows else ((), (), ())
        return _sort(np.array(steps, np.int64), np.array(values, np.float64), np.array(times, np.int64))

    def stream(self, run_id: str, name: str) -> Iterator[Points]:
        """The history of one metric."""
        points = self.read_timed(run_id, name)
        if len(points[0]):
            yield points[:2]


def _metrics_table(name: str = "metrics") -> Any:
    """MLflow's table of points, or of last points; named here because ``key`` has to be quoted in some databases."""
    from sqlalchemy import column, table

    return table(name, *map(column, ("run_uuid", "key", "step", "timestamp", "value", "is_nan")))


def _from_rows(rows: Sequence[Any]) -> Points:
    """Steps and values of rows of a database, which have another column for NaN."""
    import numpy as np

    steps, numbers, nans = zip(*rows, strict=True) if rows else ((), (), ())
    values = np.array(numbers, np.float64)
    values[np.array(nans, np.bool_)] = np.nan
    return np.array(steps, np.int64), values


def _first_steps(steps: np.ndarray, values: np.ndarray) -> Points:
    """Points without the last step when there may be more of it: a block that is full was cut off somewhere."""
    import numpy as np

    is_cut = len(steps) >= _SQL_BLOCK and steps[0] != steps[-1]
    end = int(np.searchsorted(steps, steps[-1])) if is_cut else len(steps)
    return steps[:end], values[:end]


def _to_columns(rows: Rows) -> Points:
    import numpy as np

    count = len(rows)
    steps = np.fromiter((int(row.get("step", 0)) for row in rows), np.int64, count)
    return steps, np.fromiter((float(row.get("value", 0.0)) for row in rows), np.float64, count)


def _sort(steps: np.ndarray, values: np.ndarray, times: np.ndarray) -> TimedPoints:
    import numpy as np

    order = np.lexsort((values, times, steps))
    return steps[order], values[order], times[order]


def _after(points: TimedPoints, low: int) -> Iterator[Points]:
    """The points from the step ``low`` on."""
    import numpy as np

    start = int(np.searchsorted(points[0], low))
    yield points[0][start:], points[1][start:]


def _stream_result(future: Future[Points]) -> Iterator[Points]:
    yield future.result()
