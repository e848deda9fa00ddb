"""Work off the caller's thread: in order, hurried when somebody waits, no thread without work."""

from __future__ import annotations

import threading

import pytest

from mlflow_repro.guest import background


@pytest.fixture
def errors():
    return []


@pytest.fixture
def worker(errors):
    return background.Background(on_error=errors.append)


def fail():
    raise OSError("the store is gone")


def test_work_is_done_in_order_and_an_error_stops_nothing(worker, errors):
    done = []
    for number in range(50):
        worker.submit(lambda number=number: done.append(number))
        if number == 25:
            worker.submit(fail)
    assert worker.join(60)
    assert done == list(range(50))
    assert [str(error) for error in errors] == ["the store is gone"]


def test_a_witness_that_fails_stops_nothing():
    def refuse(error):
        raise error

    worker, done = background.Background(on_error=refuse), []
    worker.submit(fail)
    worker.submit(lambda: done.append(1))
    assert worker.join(60)
    assert done == [1]


def test_who_waits_hurries_it(worker, monkeypatch):
    """Only then: what was submitted later has its moment again."""
    monkeypatch.setattr(background, "_GRACE_SECONDS", 3600.0)
    done = []
    worker.submit(lambda: done.append(1))
    assert not done
    assert worker.join(60)
    assert done == [1]
    worker.submit(lambda: done.append(2))
    assert done == [1]
    assert worker.join(60)
    assert done == [1, 2]


class SteppedTime:
    """A clock that stands still but for waiting, and events whose waits it notes."""

    def __init__(self, events):
        self.now, self.events, self.first = 0.0, events, lambda: None
        self.Thread, self.RLock, self.local = threading.Thread, threading.RLock, threading.local

    def monotonic(self):
        return self.now

    def Event(self):  # noqa: N802 - it is that of `threading`
        return self

    def wait(self, seconds):
        self.events.append("wait")
        due = self.now + seconds
        first, self.first = self.first, lambda: None
        first()
        self.now = due

    def set(self):
        pass

    def clear(self):
        pass


@pytest.mark.parametrize(("pause", "expected"), [(0.1, ["wait", "wait", 1, 2]), (0.4, ["wait", "wait", 1, "wait", 2])])
def test_work_waits_until_nothing_more_is_submitted(monkeypatch, pause, expected):
    """The start of a run that follows the end of another one has the interpreter for itself; but not for ever."""
    events, is_done = [], threading.Event()
    clock = SteppedTime(events)
    for name in ("time", "threading"):
        monkeypatch.setattr(background, name, clock)
    monkeypatch.setattr(background, "_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(background, "_LATEST_SECONDS", 0.75)
    worker = background.Background(on_error=events.append)

    def submit_another():
        clock.now += pause
        worker.submit(lambda: (events.append(2), is_done.set()))

    clock.first = submit_another
    worker.submit(lambda: events.append(1))
    assert is_done.wait(60)
    assert events == expected


def test_work_that_submits_work_is_waited_for(worker):
    done = []
    worker.submit(lambda: worker.submit(lambda: done.append("inner")))
    assert worker.join(60)
    assert done == ["inner"]


def test_there_is_no_thread_without_work(worker):
    assert worker.join(0)
    threads = []
    worker.submit(lambda: threads.append(threading.current_thread()))
    assert worker.join(60)
    threads[0].join(60)
    assert not threads[0].is_alive()


def test_it_is_done_at_once_where_no_thread_can_be_started(worker, monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = []
    worker.submit(lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]


def test_a_wait_has_an_end(worker):
    gate = threading.Event()
    worker.submit(gate.wait)
    assert not worker.join(0.01)
    gate.set()
    assert worker.join(60)
