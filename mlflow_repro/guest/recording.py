"""Which runs of this process are being recorded, and what is seen of them on the thread that starts and ends them.

Loaded when the first run starts, so it loads little; what is written, and all that takes longer, is `writer`'s.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.guest.facts import ProcessFacts
from mlflow_repro.guest.options import AutologOptions
from mlflow_repro.launch.capture import list_cells
from mlflow_repro.seeding.state import take_states
from mlflow_repro.system.spool import process_path
from mlflow_repro.text.redact import redact_named
from mlflow_repro.values.captured import to_tag_value
from mlflow_repro.values.run import unquote_param

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_repro.data.digests import Deadline
    from mlflow_repro.guest.background import Background
    from mlflow_repro.guest.writer import RunWriter
    from mlflow_repro.seeding.control import RandomControl
    from mlflow_repro.seeding.log import SeedLog
    from mlflow_repro.seeding.trace import RngTrace

# The most that waiting for us may delay the end of the program: a local store does not hang, it is only slow on a busy
# machine; a server may, and then the user's patience is short.
_LOCAL_EXIT_SECONDS = 30.0
_REMOTE_EXIT_SECONDS = 5.0
_AHEAD_SHARE = 0.2  # of the time of one core, for hashing large data while the training goes on
_AHEAD_SECONDS = 86_400.0
_AHEAD_PAUSE = 5.0  # seconds until it is looked again which files have been opened
_FRESH_SECONDS = 2.0  # how long facts hold in an interactive session, where the user edits and commits between runs
_INDEX_TAG = "repro.launch.run_index"
_PROCESS_TAG = "repro.launch.process"
_LATER_TAGS = "repro.env."  # each tag that a run begins with costs its start; no relaunch needs these without a record
_CALLERS = 8  # frames between MLflow's function that starts a run and ours that gives its tags


@dataclass(eq=False, kw_only=True)
class StartedRun:
    """A run of this process, and what was seen when it started.

    ``present`` are the tags that it has, ``own`` the names of those that are of our making. ``is_new`` is true for a
    run that began with our tags, ``is_recorded`` for one that has a record from before.
    """

    run_id: str
    uri: str
    artifact_uri: str
    facts: ProcessFacts
    tags: dict[str, str]
    """The facts of this run alone, as tags."""
    present: dict[str, str]
    own: set[str]
    is_new: bool
    is_recorded: bool
    random_state: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    start_digests: dict[str, str] = field(default_factory=dict)
    has_start: bool = False
    is_over: bool = False

    def wanted_tags(self) -> dict[str, str]:
        """The tags that the run should have, as far as the facts are known by now."""
        return {**self.facts.tags, **_standard_tags(self.facts.tags), **self.tags}

    def list_mistaken(self) -> list[str]:
        """The tags that it began with and that have turned out wrong, without a right value."""
        first = self.facts.first_tags
        wanted = self.wanted_tags()
        return sorted(name for name in {**first, **_standard_tags(first)} if name in self.own and name not in wanted)


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """What was seen when a run ended. ``cells`` is how many of a notebook's had been run, None where there is none."""

    tags: dict[str, str]
    states: dict[str, Any]
    cells: int | None
    trace: dict[str, Any] | None


class Recording:
    """The facts of this process, and which of its runs are being recorded."""

    def __init__(
        self,
        seeds: SeedLog,
        random: RandomControl,
        background: Background,
        warn: Callable[[BaseException | str], None],
    ) -> None:
        self._seeds = seeds
        self._random = random
        self._background = background
        self._warn = warn
        self._options = AutologOptions()
        self._lock = threading.RLock()
        self._facts: ProcessFacts | None = None
        self._given = threading.local()  # the tags that this thread's next run begins with
        self._running: dict[str, StartedRun] = {}
        self._last_work: dict[str, Callable[[], None]] = {}
        self._writer: RunWriter | None = None
        self._trace: RngTrace | None = None
        self._run_count = 0
        self._ahead: Deadline | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._enter_child)

    def configure(self, options: AutologOptions) -> None:
        """Record of later runs what ``options`` ask for; what is known of this process is collected anew."""
        with self._lock:
            self._options, self._facts = options, None
        if options.rng_trace and self._trace is None:
            from mlflow_repro.seeding.trace import RngTrace

            self._trace = RngTrace()
        elif not options.rng_trace:
            self._trace = None

    def context_tags(self) -> dict[str, str]:
        """The facts of this process that are known by now; to a run that is just being made, its own as well."""
        if self._options.disable:
            return {}
        tags = {**self._present_facts(fresh=True).tags, _PROCESS_TAG: process_path()}
        if _is_run_made():
            standard = _standard_tags(tags)
            standard.pop("mlflow.source.git.commit", None)  # MLflow looks for that one itself
            first = {name: value for name, value in tags.items() if not name.startswith(_LATER_TAGS)}
            tags = {**first, **standard, _INDEX_TAG: str(self._run_count)}
            self._given.tags = tags
        return tags

    def run_started(self, run: Any) -> None:
        """A run is now active in this process, new or resumed. ``run`` is MLflow's ActiveRun."""
        run_id = run.info.run_id
        if run_id in self._running or self._options.disable:
            return
        index = self._run_count
        self._run_count += 1
        started = self._describe_start(run, index)
        self._running[run_id] = started
        # The last thing before the user's code goes on: it puts back the random state of this moment.
        random_state = {} if started.is_recorded else self._random.run_started(index)
        started.random_state = random_state if self._options.log_rng else {}
        started.states = random_state["states"]["run"] if random_state else take_states()
        is_remote = "://" in started.uri and not started.uri.startswith(("sqlite:", "file:"))
        self._background.exit_seconds = _REMOTE_EXIT_SECONDS if is_remote else _LOCAL_EXIT_SECONDS
        self._background.submit(lambda: self._load_writer().write_start(started))
        if not started.is_recorded and self._options.keeps("data"):
            self._hash_ahead(dict(run.data.params))

    def run_ending(self, run_id: str, status: str) -> None:
        """``run_id`` is about to be given its final ``status``; what is to be written of it waits for `run_ended`."""
        run = self._running.pop(run_id, None)
        if run is None:
            return
        run.is_over = True
        if not self._running and self._ahead is not None:
            self._ahead.cut()
            self._ahead = None
        states = take_states()
        cells = list_cells()
        end = EndedRun(
            tags={"repro.status": status or "FINISHED", **_overruled_tags(), **self._refusal_tags()},
            states=states,
            cells=None if cells is None else len(cells),
            trace=self._trace.take(run_id) if self._trace else None,
        )
        self._last_work[run_id] = lambda: self._load_writer().write_end(run, end)

    def metrics_logged(self, run_id: str, steps: Iterable[int]) -> None:
        """Metrics of ``run_id`` are about to be written at ``steps``."""
        if self._trace is not None and run_id in self._running:
            self._trace.note(run_id, steps)

    def run_ended(self, run_id: str) -> None:
        """MLflow has written the final status of ``run_id``, or failed to: now the store is free for us."""
        work = self._last_work.pop(run_id, None)
        if work is None:
            return
        self._background.submit(work)
        if self._background.is_left_abruptly:
            self._background.join(self._background.exit_seconds)

    def store_failed(self) -> None:
        """MLflow's own last request failed: what of ours is still waiting for that store is not worth a delay."""
        self._background.exit_seconds = 0.0

    def _present_facts(self, *, fresh: bool = False) -> ProcessFacts:
        with self._lock:
            facts = self._facts
            is_old = fresh and facts is not None and time.monotonic() - facts.since > _FRESH_SECONDS
            if facts is None or (is_old and _is_interactive()):
                facts = self._facts = ProcessFacts(self._options)
                if facts.failures:
                    self._warn("; ".join(facts.failures))
            return facts

    def _describe_start(self, run: Any, index: int) -> StartedRun:
        present = dict(run.data.tags)
        given = self._given.__dict__.pop("tags", {})
        # A run that this thread has just made has the tags that were given to it; an older one has other ones.
        is_new = bool(given) and all(present.get(name) == given[name] for name in (_PROCESS_TAG, _INDEX_TAG))
        tags = {_PROCESS_TAG: process_path(), _INDEX_TAG: str(index), **_overruled_tags()}
        if "mlflow.project.entryPoint" in present:
            tags["repro.launch.params"] = _launch_params(run.data.params)
        return StartedRun(
            run_id=run.info.run_id,
            uri=_tracking_uri(),
            artifact_uri=str(run.info.artifact_uri or ""),
            facts=self._present_facts(fresh=not is_new),
            tags=tags,
            present=present,
            own={name for name, value in given.items() if present.get(name) == value} if is_new else set(),
            is_new=is_new,
            is_recorded=not is_new and "repro.capture" in present,
        )

    def _refusal_tags(self) -> dict[str, str]:
        refusals = list(dict.fromkeys(self._random.refused.values()))
        return {"repro.launch.not_restored": to_tag_value(json.dumps(refusals))} if refusals else {}

    def _load_writer(self) -> RunWriter:
        """What writes the runs, loaded by the thread that writes."""
        if self._writer is None:
            with self._background.hold_forks():  # a child would wait for ever for a module that is half loaded
                from mlflow_repro.guest.writer import RunWriter
            self._writer = RunWriter(self._seeds, self._random, self._background.hold_forks, self._warn)
        return self._writer

    def _hash_ahead(self, params: dict[str, str]) -> None:
        """Hash what the launch parameters name, and what is opened if that is tracked, while the run goes on."""
        is_tracked = _is_tracked()
        if self._ahead is not None or not (is_tracked or params):
            return
        from mlflow_repro.data.capture import digest_ahead, names_data
        from mlflow_repro.data.digests import Deadline

        if is_tracked or names_data(params):
            self._ahead = Deadline(_AHEAD_SECONDS, share=_AHEAD_SHARE)
            pause = _AHEAD_PAUSE if is_tracked else None
            look = functools.partial(digest_ahead, lambda: params, self._ahead, pause=pause)
            threading.Thread(target=look, name="mlflow-repro-data", daemon=True).start()

    def _enter_child(self) -> None:
        """After a fork: the runs in our table are the parent's to end, and its lock may be held by nobody."""
        self._running, self._last_work = {}, {}
        self._given = threading.local()
        self._run_count = 0
        self._ahead = None
        self._lock = threading.RLock()
        if self._trace is not None:
            self._trace = type(self._trace)()  # its lock may be held as well


def _is_run_made() -> bool:
    """True when MLflow asks for the tags of a run that `mlflow.start_run` is about to make, not for a data set's."""
    frame = sys._getframe(1)  # noqa: SLF001 - what `inspect` reads as well, at a hundred times the price
    for _ in range(_CALLERS):
        above = frame.f_back
        if above is None:
            return False
        frame = above
        if frame.f_code.co_name == "start_run" and frame.f_globals.get("__name__") == "mlflow.tracking.fluent":
            return True
    return False


def _standard_tags(tags: dict[str, str]) -> dict[str, str]:
    """MLflow's own tags for what ``tags`` say of git; it has them itself where a project was run."""
    standard = {
        "mlflow.source.git.commit": tags.get("repro.git.commit", ""),
        "mlflow.source.git.branch": tags.get("repro.git.branch", ""),
        "mlflow.source.git.repoURL": tags.get("repro.git.uri", "").partition("#")[0],
    }
    return {name: value for name, value in standard.items() if value}


def _overruled_tags() -> dict[str, str]:
    """The calls that a relaunch overruled."""
    redirection = sys.modules.get("mlflow_repro.guest.redirection")
    calls = redirection.overruled_calls() if redirection is not None else []
    return {"repro.launch.overruled": to_tag_value(json.dumps(calls))} if calls else {}


def _is_tracked() -> bool:
    opened = sys.modules.get("mlflow_repro.data.opened")
    return opened is not None and opened.opened_files() is not None


def _launch_params(params: dict[str, str]) -> str:
    """The params that a project's run has before its code has logged any, unquoted, as a JSON object."""
    plain = {name: redact_named(name, unquote_param(value)) for name, value in params.items()}
    return to_tag_value(json.dumps(plain))


def _tracking_uri() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())


def _is_interactive() -> bool:
    return "ipykernel" in sys.modules or hasattr(sys, "ps1")
