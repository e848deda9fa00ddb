"""While it runs: the child's output, the line that says how far it is, stopping at the first difference, colours."""

from __future__ import annotations

import io
import json
import shutil
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from conftest import Workbench
from test_failures import reference

from mlflow_repro.commands.output import wants_colour
from mlflow_repro.commands.progress import LineDisplay, LiveDisplay, clean_line, describe_moment
from mlflow_repro.compare import compare_records
from mlflow_repro.compare.live import compare_stopped, describe_saving, find_divergence
from mlflow_repro.report.colour import colour_lines
from mlflow_repro.report.text import list_comparison, render_comparison
from mlflow_repro.reproduce.watch import Watch
from mlflow_repro.store import open_store
from mlflow_repro.store.histories import ClientHistories, RestHistories, SqlHistories
from mlflow_repro.values.comparison import Comparison, Verdict
from mlflow_repro.values.progress import FETCHING, RUNNING, Arrival, Divergence, Moment
from mlflow_repro.values.rules import Rules, Tolerances
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    from preloaded import Preloaded

TRAIN = """\
import mlflow
print("begin")
with mlflow.start_run():
    for step in range(20):
        mlflow.log_metric("loss", 1 / (1 + step), step=step)
        mlflow.log_metric("step_seconds", step * 0.1, step=step)
"""
# It waits for ever: only its being ended lets a test go on.
DIVERGING = """\
import mlflow, time
with mlflow.start_run():
    for step in range(20):
        mlflow.log_metric("loss", 1 / (1 + step) + (0.25 if step >= 7 else 0), step=step)
        mlflow.log_metric("step_seconds", 9.0, step=step)
    time.sleep(3600)
"""


def points(*rows: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([step for step, _ in rows], np.int64), np.array([value for _, value in rows], np.float64)


class TestDivergence:
    """What has arrived so far beside the reference's points of the same steps."""

    @staticmethod
    def find(one, other, *, open_step: int = 99, **tolerances: float) -> Divergence | None:
        return find_divergence("x", points(*one), points(*other), Tolerances(**tolerances), open_step=open_step)

    def test_first_step_that_differs(self):
        found = self.find([(0, 1.0), (1, 2.0), (2, 3.0)], [(0, 1.0), (1, 2.5), (2, 9.0)])
        assert found == Divergence(name="x", step=1, reference=2.0, reproduction=2.5, points=1)

    def test_within_tolerance(self):
        assert self.find([(0, 1.0)], [(0, 1.01)], abs_tol=0.1) is None

    def test_points_of_one_side_only_are_left_to_the_end(self):
        assert self.find([(0, 1.0), (2, 5.0), (4, 1.0)], [(0, 1.0), (1, 7.0), (4, 1.0)]) is None

    def test_open_step_counts_only_where_the_reference_has_one_point(self):
        assert self.find([(0, 1.0)], [(0, 2.0)], open_step=0) is not None
        assert self.find([(0, 1.0), (0, 2.0)], [(0, 2.0)], open_step=0) is None

    def test_nothing_yet(self):
        assert self.find([(0, 1.0)], []) is None
        assert self.find([], [(0, 1.0)], open_step=0) is None

    def test_nan(self):
        assert self.find([(0, float("nan"))], [(0, float("nan"))]) is None
        assert self.find([(0, float("nan"))], [(0, 1.0)]) is not None

    @pytest.mark.parametrize("sign", [1, -1])
    def test_infinity_as_a_sql_store_keeps_it(self, sign: int):
        """The whole histories are the same, so the run is not stopped for it."""
        infinite, stored = [(0, sign * float("inf"))], [(0, sign * sys.float_info.max)]
        assert self.find(infinite, stored) is None
        assert self.find(stored, infinite, rel_tol=0.0) is None
        assert self.find(infinite, [(0, -stored[0][1])]) is not None


def stopped(**changes: float) -> Comparison:
    found = Divergence(name="loss", step=7, reference=0.125, reproduction=0.375, points=7, elapsed=2.0)
    one = Run(run_id="a", metrics={"loss": 0.05, "acc": 0.9}, params={"p": "1"})
    other = Run(run_id="b", metrics={"loss": 0.375}, params={"p": "2"})
    return compare_stopped(one, other, found, Rules(**changes))


def test_stopped_run_is_judged_by_its_divergence_alone():
    comparison = stopped()
    assert comparison.verdict is Verdict.DIFFERENT
    assert [row.name for row in comparison.findings if row.is_judged] == ["loss"]
    assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison
    text = render_comparison(comparison)
    assert "History loss: differs from step 7 on: 0.125 and 0.375, differs by 0.25" in text
    assert text.endswith("Runs equal: False")


def test_saving():
    found = Divergence(name="loss", step=7, reference=0.0, reproduction=1.0, elapsed=15.0)
    assert describe_saving(found, 60.0).endswith("after 15.0 s; the reference took 60.0 s, so 45.0 s (75%) are saved")
    assert describe_saving(found, 10.0).endswith("the reference took 10.0 s")
    assert describe_saving(found, 0.0).endswith("after 15.0 s")


@pytest.mark.parametrize("kind", ["sql", "server", "client"])
def test_new_points_are_read_by_ranges_of_steps(kind, tracking_server, tmp_path, empty_store):
    """Of every reader: the last points, and what lies between two steps."""
    from mlflow import MlflowClient

    uri = tracking_server if kind == "server" else f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
    client = MlflowClient(tracking_uri=uri)
    run_id = client.create_run("0").info.run_id
    for step, value in ((0, 1.0), (3, float("nan")), (3, 2.0), (9, -1.0)):
        client.log_metric(run_id, "x", value, timestamp=1000 + step, step=step)
    client.log_metric(run_id, "y", 5.0)
    store = open_store(uri)
    reader = {
        "sql": lambda: SqlHistories(store.sql_engine),
        "server": lambda: RestHistories(store.get_json, server_version="3.17.2"),
        "client": lambda: ClientHistories(store.read_points, store.read_last_points),
    }[kind]()
    with reader:
        assert reader.read_latest(run_id) == {"x": (9, -1.0), "y": (0, 5.0)}
        steps, values = reader.read_range(run_id, "x", 1, 8)
        assert (steps.tolist(), sorted(map(str, values))) == ([3, 3], ["2.0", "nan"])
        assert reader.read_range(run_id, "x", 10, 20)[0].tolist() == []
        assert reader.read_range(run_id, "nothing", 0, 20)[0].tolist() == []


def test_range_that_a_server_samples_is_read_in_parts():
    """Whole steps from the beginning on, never a sample."""
    every = list(range(10_000))

    def get(endpoint: str, asked: dict) -> dict:
        rows = [step for step in every if asked["start_step"] <= step <= asked["end_step"]]
        limit = asked["max_results"]
        sampled = rows if len(rows) < limit else [rows[i * len(rows) // limit] for i in range(limit)]
        return {"metrics": [{"step": step, "value": float(step)} for step in sampled]}

    with RestHistories(get, server_version="3.17.2") as reader:
        steps, _ = reader.read_range("a", "x", 100, 9_999)
    assert 500 < len(steps) < 2_500
    assert steps.tolist() == list(range(100, 100 + len(steps)))


@pytest.mark.parametrize("kind", ["sql", pytest.param("server", marks=pytest.mark.slow)])
def test_diverging_run_is_ended(bench: Workbench, kind: str, request: pytest.FixtureRequest):
    """The tree is gone, the run is KILLED and says why, the first step that differs is named, and what was saved."""
    if kind == "server":
        bench.tracking_uri = request.getfixturevalue("tracking_server")
    before = set(bench.run_ids())
    run_id = reference(bench, TRAIN, broken=DIVERGING)
    answer = bench.reproduce(run_id, "--fail-fast")
    assert answer.returncode == 1, answer.stderr
    assert "History loss: differs from step 7 on: 0.125 and 0.375" in answer.stdout
    assert "Note: stopped by fail-fast after " in answer.stdout
    assert answer.stdout.endswith("Runs equal: False\n")
    reproduction = bench.get(bench.new_run({*before, run_id}))
    assert reproduction.info.status == "KILLED"
    assert reproduction.data.tags["repro.error"] == "stopped by fail-fast: loss differed at step 7"


def test_metrics_that_do_not_judge_stop_nothing(bench: Workbench):
    """Neither what measures time nor what the user's rules leave out."""
    run_id = reference(bench, TRAIN, broken=DIVERGING.replace("    time.sleep(3600)\n", ""))
    answer = bench.reproduce(run_id, "--fail-fast", "--ignore", "loss", "--json")
    plain = json.loads(answer.stdout)
    assert not [note for note in plain["plan"]["caveats"] if "fail-fast" in note]
    assert bench.reproduction_of(run_id).info.status == "FINISHED"


class TestWatch:
    """A run that is followed while it logs, in a real store."""

    @pytest.fixture
    def watch(self, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch):
        """The ids of a finished reference and of a run that goes on, and a watch of it that has not begun."""
        from mlflow import MlflowClient

        monkeypatch.setattr("mlflow_repro.reproduce.watch._PAUSE_SECONDS", 0.01)
        monkeypatch.setattr("mlflow_repro.reproduce.watch._PAUSE_SHARE", 0)
        uri = f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"
        self.client = MlflowClient(tracking_uri=uri)
        self.reference, self.run = (self.client.create_run("0").info.run_id for _ in range(2))
        for step in range(4):
            self.log(self.reference, step, step / 2)
        for value in (1.0, 2.0):  # two points of one step
            self.log(self.reference, 4, value)
        store = open_store(uri)
        self.told: list[tuple[Arrival, ...]] = []
        self.news = threading.Condition()
        return Watch(store.read_run(self.reference), store, Rules(), find_run=lambda: self.run, tell=self.take)

    def log(self, run_id: str, step: int, value: float) -> None:
        self.client.log_metric(run_id, "x", value, timestamp=int(1000 + value), step=step)

    def take(self, arrivals: tuple[Arrival, ...]) -> None:
        with self.news:
            self.told.append(arrivals)
            self.news.notify_all()

    def wait_for(self, step: int) -> Arrival:
        with self.news:
            assert self.news.wait_for(lambda: self.told and self.told[-1][0].step == step, 60)
            return self.told[-1][0]

    def test_metrics_beside_the_references(self, watch: Watch):
        with watch:
            for step in (0, 2):
                self.log(self.run, step, step / 2)
                assert self.wait_for(step) == Arrival(name="x", step=step, value=step / 2, reference=step / 2)
            self.log(self.run, 9, 7.0)
            assert self.wait_for(9) == Arrival(name="x", step=9, value=7.0)
        assert not watch.has_diverged

    def test_step_of_several_points_counts_when_the_next_has_begun(self, watch: Watch):
        with watch:
            self.log(self.run, 4, 2.0)  # the second of the reference's two
            self.wait_for(4)
            assert not watch.has_diverged
            self.log(self.run, 4, 1.0)
            self.log(self.run, 5, 0.0)
            self.wait_for(5)
            assert not watch.has_diverged
        assert watch.run_id == self.run

    def test_where_it_diverges(self, watch: Watch):
        with watch:
            self.log(self.run, 1, 0.5)
            self.wait_for(1)
            self.log(self.run, 3, 9.0)
            self.wait_for(3)
        found = watch.divergence
        assert (found.name, found.step, found.reference, found.reproduction) == ("x", 3, 1.5, 9.0)
        assert found.points == 1


def test_store_that_cannot_be_watched_costs_nothing(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    """The run is judged in the end, as ever."""
    looked = threading.Event()

    def fail(*_: object) -> None:
        looked.set()
        raise OSError("gone")

    monkeypatch.setattr("mlflow_repro.reproduce.watch.open_histories", fail)
    monkeypatch.setattr("mlflow_repro.reproduce.watch._PAUSE_SECONDS", 0.01)
    bench.repository.commit({"train.py": TRAIN})
    answer = bench.reproduce(bench.train("train.py"), "--fail-fast")
    assert answer.returncode == 0, answer.stderr
    assert looked.is_set()


class TestOutput:
    """What is shown while it goes on."""

    def test_output_of_the_child_is_shown_unless_quiet(self, bench: Workbench):
        bench.repository.commit({"train.py": TRAIN})
        run_id = bench.train("train.py")
        answer = bench.reproduce(run_id, "--json")
        assert [line for line in answer.stderr.splitlines() if not line.startswith("progress: ")] == ["  | begin"]
        assert json.loads(answer.stdout)["exit_code"] == 0
        assert bench.reproduce(run_id, "--quiet").stderr == ""

    def test_quiet_and_verbose(self, bench: Workbench):
        answer = bench.reproduce("a" * 32, "--quiet", "--verbose")
        assert answer.returncode == 2
        assert "contradict" in answer.stderr

    def test_lines_of_a_log(self):
        """How far it is, again and again, until it is over."""
        lines: list[str] = []
        arrived = threading.Event()

        def write(text: str) -> None:
            lines.append(text)
            if "loss" in text:
                arrived.set()

        with LineDisplay(write, pauses=(0.001,)) as display:
            display.line("hello")
            display.line("2026/01/01 INFO mlflow.projects.utils: === Created directory")
            display.tell(Moment(phase=FETCHING))
            display.tell(Moment(phase=RUNNING, arrivals=(Arrival(name="loss", step=3, value=0.5, reference=0.25),)))
            assert arrived.wait(20)
        assert lines[0] == "  | hello"
        assert lines[-1] == "progress: running for 0 s: loss 0.5 (reference 0.25) at step 3"
        assert not any("Created directory" in line for line in lines)

    @pytest.mark.parametrize(
        ("moment", "elapsed", "text"),
        [
            (Moment(phase=FETCHING, expected=9.0), 3.7, "fetching the code for 3 s"),
            (Moment(phase=RUNNING, expected=7265.0), 61.0, "running for 1 min 01 s, the reference took 2 h 01 min"),
            (Moment(phase=RUNNING, repeat=2, repeats=5), 0.0, "repeat 2 of 5, running for 0 s"),
            (
                Moment(phase=RUNNING, arrivals=tuple(Arrival(name=f"m\n{i}", step=i, value=i) for i in range(5))),
                1.0,
                "running for 1 s: m\\n4 4 at step 4; m\\n3 3 at step 3; m\\n2 2 at step 2; 2 more",
            ),
        ],
    )
    def test_line_that_says_how_far_it_is(self, moment: Moment, elapsed: float, text: str):
        assert describe_moment(moment, elapsed) == text

    @pytest.mark.parametrize(
        ("raw", "shown"),
        [
            ("plain", "plain"),
            ("\x1b[31mred\x1b[0m", "red"),
            ("10%\r50%\r100%\r", "100%"),
            ("\x1b]0;title\x07text", "text"),
            ("\x1b[2J\x1b[Habove", "above"),
            ("a\tb", "a   b"),
            ("\x07bell\x00", "\\x07bell\\x00"),
        ],
    )
    def test_nothing_that_the_child_prints_moves_the_cursor(self, raw: str, shown: str):
        assert clean_line(raw) == shown

    def test_line_at_the_bottom_of_a_terminal(self, monkeypatch: pytest.MonkeyPatch):
        """By rich; markup in names and in what the child prints is text."""
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        with LiveDisplay() as display:
            display.tell(Moment(phase=RUNNING, arrivals=(Arrival(name="[red]x[/]", step=1, value=2.0),)))
            display.line("[bold]text[/bold] \x1b[2Jmore")
            display._progress.refresh()
        assert "  | [bold]text[/bold] more" in stream.getvalue()
        assert "running for 0 s: [red]x[/] 2 at step 1" in stream.getvalue()


class TestColour:
    """What differs stands out on a terminal, and nowhere else."""

    def test_colours_change_no_character(self):
        one = Run(run_id="a", metrics={"a": 1.0, "b": 1.0, "History c: ": 2.0})
        other = Run(run_id="b", metrics={"a": 1.0, "b": 2.0, "d_time": 2.0}, status="FAILED")
        comparison = compare_records(one, other)
        text = render_comparison(comparison)
        coloured = colour_lines(list_comparison(comparison))
        assert "\x1b[31m| b " in coloured
        assert "\x1b[2mMetric d_time: " in coloured
        assert "\n| a " in coloured
        assert "\x1b[31mRuns equal: False\x1b[0m" in coloured
        assert "".join(part.partition("m")[2] if i else part for i, part in enumerate(coloured.split("\x1b["))) == text

    def test_runs_without_a_metric(self):
        comparison = compare_records(Run(run_id="a"), Run(run_id="b"))
        assert "\x1b[33mRuns equal: Unknown" in colour_lines(list_comparison(comparison))

    @pytest.mark.parametrize(
        ("variables", "is_terminal", "wanted"),
        [
            ({"TERM": "xterm"}, True, True),
            ({"TERM": "xterm"}, False, False),
            ({"TERM": "dumb"}, True, False),
            ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
            ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
            ({"FORCE_COLOR": "1"}, False, True),
            ({"FORCE_COLOR": "0"}, False, False),
            ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ],
    )
    def test_when(self, variables, is_terminal, wanted, monkeypatch: pytest.MonkeyPatch):
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        stream = io.StringIO()
        stream.isatty = lambda: is_terminal
        assert wants_colour(stream) is wanted

    def test_on_a_real_terminal(self, tmp_path: Path, empty_store: Path, preloaded: Preloaded):
        """``compare`` with its standard output on a pseudo-terminal, and in a pipe."""
        from mlflow import MlflowClient

        store = tmp_path / "mlflow.db"
        shutil.copy(empty_store, store)
        client = MlflowClient(tracking_uri=f"sqlite:///{store}")
        ids = []
        for value in (1.0, 2.0):
            ids.append(client.create_run("0").info.run_id)
            client.log_metric(ids[-1], "x", value)
            client.set_terminated(ids[-1])
        bench = Workbench(root=tmp_path, store=store, repository=None, preloaded=preloaded, is_quick=False)
        command = [sys.executable, "-m", "mlflow_repro.cli", "compare", *ids]
        plain = bench.run(*command)
        assert plain.returncode == 1, plain.stderr
        assert "\x1b" not in plain.stdout
        forced = bench.run(*command, FORCE_COLOR="1")
        assert "\x1b[31mRuns equal: False\x1b[0m" in forced.stdout
