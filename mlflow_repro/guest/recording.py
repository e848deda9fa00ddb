"""What is recorded of the runs of one process. Loaded when the first run starts; `hooks` has what waits for it."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.modules import read_own_sources, record_modules
from mlflow_repro.data.capture import digest_ahead, names_data, record_data
from mlflow_repro.data.digests import Deadline
from mlflow_repro.data.opened import opened_files, own_openings
from mlflow_repro.environment.used import find_imports
from mlflow_repro.guest.options import AutologOptions
from mlflow_repro.guest.probes import (
    SECTIONS,
    SLOW_PROBES,
    build_record,
    collect_facts,
    collect_sections,
    dump_record,
    facts_to_tags,
    tags_to_facts,
)
from mlflow_repro.guest.redirection import overruled_calls
from mlflow_repro.launch.capture import list_cells, record_session
from mlflow_repro.seeding.control import RandomControl, encode_random_state
from mlflow_repro.seeding.observe import current_seeds, digest_states
from mlflow_repro.seeding.state import take_states
from mlflow_repro.store import RANDOM_STATE_FILE, RECORD_FILE, RNG_TRACE_FILE, read_data, write_files, write_tags
from mlflow_repro.system.spool import process_path, read_reports
from mlflow_repro.text.redact import redact_named
from mlflow_repro.values.record import Section, missing, to_tag_value
from mlflow_repro.values.run import unquote_param

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mlflow_repro.guest.background import Background
    from mlflow_repro.seeding.log import SeedLog
    from mlflow_repro.seeding.trace import RngTrace
    from mlflow_repro.values.run import Fact

# The most that waiting for us may delay the end of the program: a local store does not hang, it is only slow on a busy
# machine; a server may, and then the user's patience is short.
_LOCAL_EXIT_SECONDS = 30.0
_REMOTE_EXIT_SECONDS = 5.0
_DATA_SECONDS = 2.0  # for hashing the data at the end; what was not hashed by then is named
_AHEAD_SHARE = 0.2  # of the time of one core, for hashing large data while the training goes on
_AHEAD_SECONDS = 86_400.0
_AHEAD_PAUSE = 5.0  # seconds until it is looked again which files have been opened
_IMPORTED_SECONDS = 1.0
_EMPTY = Section(facts={})
_CAPTURE_SECONDS = 20.0  # for the facts that take longer, in the background
_FRESH_SECONDS = 2.0  # how long facts hold in an interactive session, where the user edits and commits between runs


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
        self._facts: list[Fact] = []
        self._tags: dict[str, str] = {}
        self._tags_time = 0.0
        self._sections: dict[str, Section] = {}
        self._start_digests: dict[str, dict[str, str]] = {}
        self._written: dict[str, dict[str, str]] = {}
        self._last_work: dict[str, Callable[[], None]] = {}
        self._tagged: set[str] = set()
        self._random_states: dict[str, dict[str, Any]] = {}
        self._reported = 0  # how far the reports of workers have been read
        self._trace: RngTrace | None = None
        self._run_count = 0
        self._ahead: Deadline | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._enter_child)

    def configure(self, options: AutologOptions) -> None:
        """Record of later runs what ``options`` ask for; what is known of this process is collected anew."""
        with self._lock:
            self._options, self._tags, self._sections = options, {}, {}
        if options.rng_trace and self._trace is None:
            from mlflow_repro.seeding.trace import RngTrace

            self._trace = RngTrace()
        elif not options.rng_trace:
            self._trace = None

    def context_tags(self) -> dict[str, str]:
        """The facts of this process; collected at the first call, then the same dictionary's copy."""
        if self._options.disable:
            return {}
        with self._lock:
            if not self._tags or (_is_interactive() and time.monotonic() - self._tags_time > _FRESH_SECONDS):
                self._tags = self._collect()
                self._tags_time = time.monotonic()
                self._sections = {}
            return {**self._tags, "repro.launch.process": process_path()}

    def run_started(self, run: Any) -> None:
        """A run is now active in this process, new or resumed. ``run`` is MLflow's ActiveRun."""
        run_id = run.info.run_id
        if run_id in self._written or self._options.disable:
            return
        present = run.data.tags
        index = self._run_count
        self._run_count += 1
        tags = {name: value for name, value in self._tags_at_start(run, index).items() if name not in present}
        self._written[run_id] = tags
        # The last thing before the user's code goes on: it puts back the random state of this moment.
        random_state = self._random.run_started(index) if tags else {}
        uri = _tracking_uri()
        is_remote = "://" in uri and not uri.startswith(("sqlite:", "file:"))
        self._background.exit_seconds = _REMOTE_EXIT_SECONDS if is_remote else _LOCAL_EXIT_SECONDS
        work = functools.partial(self._write_start, uri, run_id, tags, random_state, take_states())
        self._background.submit(work)
        if tags and self._options.keeps("data"):
            self._hash_ahead(dict(run.data.params))

    def run_ending(self, run_id: str, status: str) -> None:
        """``run_id`` is about to be given its final ``status``; what is to be written of it waits for `run_ended`."""
        written = self._written.pop(run_id, None)
        if written is None:
            return
        if not self._written and self._ahead is not None:
            self._ahead.cut()
            self._ahead = None
        states = take_states()
        tags = {"repro.status": status or "FINISHED", **_overruled_tags(), **self._refusal_tags()}
        if not self._tags.get("repro.capture", "").startswith("partial"):
            tags["repro.capture"] = "complete"
        changed = {name: value for name, value in tags.items() if written.get(name) != value}
        written = {**written, **tags}
        cells = list_cells()
        count = None if cells is None else len(cells)
        work = functools.partial(self._write_end, _tracking_uri(), run_id, changed, written, states, count)
        self._last_work[run_id] = work

    def metrics_logged(self, run_id: str, steps: Iterable[int]) -> None:
        """Metrics of ``run_id`` are about to be written at ``steps``."""
        if self._trace is not None and run_id in self._written:
            self._trace.note(run_id, steps)

    def run_ended(self, run_id: str) -> None:
        """MLflow has written the final status of ``run_id``, or failed to: now the store is free for us."""
        work = self._last_work.pop(run_id, None)
        if work is None:
            return
        self._background.submit(work)
        if self._background.is_left_abruptly:
            self._background.join(self._background.exit_seconds)

    def _hash_ahead(self, params: dict[str, str]) -> None:
        """Hash what the launch parameters name, and what is opened if that is tracked, while the run goes on."""
        is_tracked = opened_files() is not None
        if self._ahead is not None or not (is_tracked or names_data(params)):
            return
        self._ahead = Deadline(_AHEAD_SECONDS, share=_AHEAD_SHARE)
        look = functools.partial(digest_ahead, lambda: params, self._ahead, pause=_AHEAD_PAUSE if is_tracked else None)
        threading.Thread(target=look, name="mlflow-repro-data", daemon=True).start()

    def _write_start(
        self, uri: str, run_id: str, tags: dict[str, str], random_state: dict[str, Any], states: dict[str, object]
    ) -> None:
        """Write what is known at the start, the cheapest first; a run that was recorded before keeps its record.

        A run that is over by now gets its tags and its record in their final form only.
        """
        if not tags:
            return
        tags = {**tags, **self._seed_tags(states)}
        is_over = run_id not in self._written
        with self._background.hold_forks():
            if not is_over:
                write_tags(uri, run_id, tags)
                self._tagged.add(run_id)
            if random_state and self._options.log_rng:
                self._random_states[run_id] = encode_random_state(random_state)
                write_files(uri, run_id, {RANDOM_STATE_FILE: dump_record(self._random_states[run_id])})
        if not self._sections:
            wanted = {name: probe for name, probe in SLOW_PROBES.items() if self._options.keeps(name)}
            if tags.get("repro.git.error") == "timeout":  # what hung once would hang again, at the end of the program
                wanted.pop("code.tree", None)
            self._sections = collect_sections(wanted, seconds=_CAPTURE_SECONDS)
            off = Section(facts={"section": missing("switched off by autolog")})
            self._sections.update({name: off for name in SECTIONS if not self._options.keeps(name)})
        files = {f"repro/{path}": part for section in self._sections.values() for path, part in section.files.items()}
        self._start_digests[run_id] = digest_states(states)
        if not is_over:
            files[RECORD_FILE] = self._dump_record(run_id, tags, is_complete=False)
        with self._background.hold_forks():
            write_files(uri, run_id, files)

    def _write_end(  # noqa: PLR0913, PLR0917 - what was known at the moment when the run ended
        self,
        uri: str,
        run_id: str,
        changed: dict[str, str],
        tags: dict[str, str],
        states: dict[str, object],
        cells: int | None,
    ) -> None:
        """Write what is known at the end, and the record once more, now complete.

        ``cells`` is how many cells of a notebook had been run, None where there is no notebook.
        """
        seeds = self._seed_tags(states)
        workers, self._reported = read_reports(self._reported)
        if workers:
            seeds["repro.launch.workers"] = str(len(workers))
        with self._background.hold_forks():
            write_tags(uri, run_id, {**(changed if run_id in self._tagged else tags), **seeds})
        self._tagged.discard(run_id)
        if run_id not in self._start_digests:
            return
        tags = {**tags, **seeds}
        if self._options.keeps("data"):
            probe = {"data.used": functools.partial(self._record_data, uri, run_id)}
            self._sections.update(collect_sections(probe, seconds=_DATA_SECONDS))
        if cells is not None:
            session = {"launch.session": lambda _: record_session(count=cells)}
            self._sections.update(collect_sections(session, seconds=_IMPORTED_SECONDS))
        packages = self._sections.get("environment.packages", _EMPTY)
        if "imported" in packages.facts:  # now everything has been imported
            imports = find_imports(time.monotonic() + _IMPORTED_SECONDS, _own_sources())
            self._sections["environment.packages"] = replace(packages, facts={**packages.facts, **imports})
        if self._options.keeps("code"):
            self._sections.update(collect_sections({"code.modules": record_modules}, seconds=_IMPORTED_SECONDS))
        record = self._dump_record(run_id, tags, is_complete=True, end_digests=digest_states(states))
        late = ("data.used", "launch.session") if cells is not None else ("data.used",)
        parts = [self._sections.get(name, _EMPTY).files for name in late]
        files = {f"repro/{path}": content for part in parts for path, content in part.items()}
        trace = self._trace.take(run_id) if self._trace else None
        if trace is not None:
            files[RNG_TRACE_FILE] = json.dumps(trace).encode()
        random_state = self._random_states.pop(run_id, None)
        if random_state and workers:
            files[RANDOM_STATE_FILE] = dump_record({**random_state, "workers": workers})
        with self._background.hold_forks():
            write_files(uri, run_id, {**files, RECORD_FILE: record})
        del self._start_digests[run_id]

    def _record_data(self, uri: str, run_id: str, deadline: float) -> Section:
        """The section ``data``: MLflow's data sets, params that name files, and the files that were opened."""
        with self._background.hold_forks():
            inputs, params = read_data(uri, run_id)
        with own_openings():
            return record_data(inputs, params, opened_files(), Deadline.at(deadline), sources=_own_sources())

    def _dump_record(
        self, run_id: str, tags: dict[str, str], *, is_complete: bool, end_digests: dict[str, str] | None = None
    ) -> bytes:
        facts = [*self._facts, *tags_to_facts({"repro.launch.process": process_path(), **tags})]
        digests = {"start": self._start_digests[run_id], "end": end_digests or missing("the run has not ended")}
        seeds = Section(facts={**self._random.describe(), "digests": digests})
        sections = {**({"seeds.control": seeds} if self._options.log_rng else {}), **self._sections}
        return dump_record(build_record(facts, sections, run_id=run_id, is_complete=is_complete))

    def store_failed(self) -> None:
        """MLflow's own last request failed: what of ours is still waiting for that store is not worth a delay."""
        self._background.exit_seconds = 0.0

    def _collect(self) -> dict[str, str]:
        facts, failures = collect_facts()
        self._facts = [fact for fact in facts if self._options.keeps(fact.name)]
        tags = facts_to_tags(self._facts, failures)
        if failures:
            self._warn("; ".join(failures))
        session = os.environ.get("MLFLOW_REPRO_SESSION")
        if session:
            tags["repro.session"] = session
        return tags

    def _tags_at_start(self, run: Any, index: int) -> dict[str, str]:
        facts = self.context_tags()
        present = run.data.tags
        tags = {**facts, **_overruled_tags(), "repro.launch.run_index": str(index)}
        if "mlflow.project.entryPoint" in present:
            tags["repro.launch.params"] = _launch_params(run.data.params)
        uri = facts.get("repro.git.uri", "").partition("#")[0]
        standard = {
            "mlflow.source.git.commit": facts.get("repro.git.commit", ""),
            "mlflow.source.git.branch": facts.get("repro.git.branch", ""),
            "mlflow.source.git.repoURL": uri,
        }
        tags.update({name: value for name, value in standard.items() if value})
        return tags

    def _seed_tags(self, states: dict[str, Any]) -> dict[str, str]:
        """The seeds that the generators had when these states were taken. Takes milliseconds."""
        seeds = current_seeds(self._seeds, states) if self._options.log_rng else {}
        return {f"repro.seed.{generator}": seed for generator, seed in seeds.items()}

    def _refusal_tags(self) -> dict[str, str]:
        refusals = list(dict.fromkeys(self._random.refused.values()))
        return {"repro.launch.not_restored": to_tag_value(json.dumps(refusals))} if refusals else {}

    def _enter_child(self) -> None:
        """After a fork: the runs in our table are the parent's to end, and its lock may be held by nobody."""
        self._written, self._last_work, self._random_states = {}, {}, {}
        self._run_count = 0
        self._ahead = None
        self._lock = threading.RLock()
        if self._trace is not None:
            self._trace = type(self._trace)()  # its lock may be held as well


def _own_sources() -> list[str]:
    """The lines of the program: its modules, and what was run of a notebook."""
    return [*read_own_sources(), *(list_cells() or ())]


def _overruled_tags() -> dict[str, str]:
    calls = overruled_calls()
    return {"repro.launch.overruled": to_tag_value(json.dumps(calls))} if calls else {}


def _launch_params(params: dict[str, str]) -> str:
    """The params that a project's run has before its code has logged any, unquoted, as a JSON object."""
    plain = {name: redact_named(name, unquote_param(value)) for name, value in params.items()}
    return to_tag_value(json.dumps(plain))


def _tracking_uri() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())


def _is_interactive() -> bool:
    return "ipykernel" in sys.modules or hasattr(sys, "ps1")
