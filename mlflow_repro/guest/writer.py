"""Write what is known of a run: a little at its start, all of it at its end. In the background, and loaded there.

Of a run that this process has made there is nothing to be written at its start but one archive, for it began with its
tags; at its end there are a batch of tags, a look at what MLflow has logged of it, and the record. The files that hold
for all runs of a process are in the archive of the first one only; the records of the others name that run.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.modules import read_own_sources, record_modules
from mlflow_repro.data.capture import record_data
from mlflow_repro.data.digests import Deadline
from mlflow_repro.data.opened import opened_files, own_openings
from mlflow_repro.environment.used import find_imports
from mlflow_repro.guest.probes import build_record, collect_sections, describe_files, tags_to_facts
from mlflow_repro.launch.capture import list_cells, record_session
from mlflow_repro.seeding.control import encode_random_state
from mlflow_repro.seeding.observe import current_seeds, digest_states
from mlflow_repro.store.writing import (
    RANDOM_STATE_FILE,
    RECORD_FILE,
    RNG_TRACE_FILE,
    START_ARCHIVE,
    delete_tags,
    pack_files,
    read_data,
    write_files,
    write_tags,
)
from mlflow_repro.system.folders import sweep_folders
from mlflow_repro.system.spool import read_reports, sweep_launches
from mlflow_repro.values.captured import Section, dump_record, missing

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mlflow_repro.guest.recording import EndedRun, StartedRun
    from mlflow_repro.seeding.control import RandomControl
    from mlflow_repro.seeding.log import SeedLog

_DATA_SECONDS = 2.0  # for hashing the data at the end; what was not hashed by then is named
_IMPORTED_SECONDS = 1.0
_EMPTY = Section(facts={})
_FOLDER = "repro/"


class RunWriter:
    """Writes the runs of one process, one after another."""

    def __init__(
        self,
        seeds: SeedLog,
        random: RandomControl,
        hold_forks: Callable[[], AbstractContextManager[None]],
        warn: Callable[[BaseException | str], None],
    ) -> None:
        self._seeds = seeds
        self._random = random
        self._hold_forks = hold_forks
        self._warn = warn
        self._has_swept = False
        self._reported = 0  # how far the reports of workers have been read
        self._imports: tuple[tuple[int, int], dict[str, Any]] = ((0, 0), {})
        self._kept: dict[tuple[str, str, str], str] = {}
        """The run that a file of these bytes was stored with, by the tracking store, the path and the digest."""

    def write_start(self, run: StartedRun) -> None:
        """Write what is known at the start; a run that was recorded before keeps its record.

        A run that is over by now gets its record in its final form only.
        """
        self._sweep()
        if run.is_recorded:
            return
        facts = run.facts
        facts.find_out()
        if facts.failures:
            self._warn("; ".join(facts.failures))
        seeds = self._seed_tags(run, run.states)
        if not (run.is_new or run.is_over):
            self._update_tags(run, {**run.wanted_tags(), **seeds})
        facts.look_around()
        run.start_digests = digest_states(run.states)
        if run.random_state:
            run.random_state = encode_random_state(run.random_state)
        self._write_archive(run, seeds)
        run.has_start = True

    def _sweep(self) -> None:
        """Once, remove what processes of ours have left in the folder for temporary files when they were killed."""
        if not self._has_swept:
            self._has_swept = True
            sweep_launches()
            sweep_folders()

    def _write_archive(self, run: StartedRun, seeds: dict[str, str]) -> None:
        facts = run.facts
        own = [path for path, digest in facts.digests.items() if (run.uri, path, digest) not in self._kept]
        files = {path: facts.files[path] for path in own}
        if run.random_state:
            files[RANDOM_STATE_FILE.removeprefix(_FOLDER)] = dump_record(run.random_state)
        if not run.is_over:
            files[RECORD_FILE.removeprefix(_FOLDER)] = self._dump_record(run, seeds, is_complete=False)
        if files:
            with self._hold_forks():
                write_files(run.uri, run.run_id, {START_ARCHIVE: pack_files(files)}, artifact_uri=run.artifact_uri)
        self._kept.update({(run.uri, path, facts.digests[path]): run.run_id for path in own})

    def write_end(self, run: StartedRun, end: EndedRun) -> None:
        """Write what is known at the end, and the record, now complete."""
        seeds = self._seed_tags(run, end.states)
        workers, self._reported = read_reports(self._reported)
        if workers:
            seeds["repro.launch.workers"] = str(len(workers))
        capture = run.facts.tags["repro.capture"]
        final = {**end.tags, "repro.capture": capture if capture.startswith("partial") else "complete", **seeds}
        self._finish_tags(run, final)
        if not run.has_start:
            return
        sections = self._collect_late(run, end)
        files = {f"{_FOLDER}{path}": content for late in sections.values() for path, content in late.files.items()}
        if end.trace is not None:
            files[RNG_TRACE_FILE] = json.dumps(end.trace).encode()
        if run.random_state and workers:
            files[RANDOM_STATE_FILE] = dump_record({**run.random_state, "workers": workers})
        files[RECORD_FILE] = self._dump_record(
            run, {**end.tags, **seeds}, is_complete=True, late=sections, end_digests=digest_states(end.states)
        )
        with self._hold_forks():
            write_files(run.uri, run.run_id, files, artifact_uri=run.artifact_uri)

    def _finish_tags(self, run: StartedRun, final: dict[str, str]) -> None:
        """One batch with the tags that the run does not have yet; and what it began with by mistake is taken away."""
        wanted = {} if run.is_recorded else run.wanted_tags()
        run.own |= final.keys()
        self._update_tags(run, {**wanted, **final})
        mistaken = [] if run.is_recorded else run.list_mistaken()
        if mistaken:
            with self._hold_forks():
                delete_tags(run.uri, run.run_id, mistaken)

    def _update_tags(self, run: StartedRun, wanted: dict[str, str]) -> None:
        """Write those of the tags ``wanted`` that the run does not have; what a user has set stays."""
        changed = {
            name: value
            for name, value in wanted.items()
            if run.present.get(name) != value and (name not in run.present or name in run.own)
        }
        if changed:
            with self._hold_forks():
                write_tags(run.uri, run.run_id, changed)
            run.present.update(changed)
            run.own |= changed.keys()

    def _collect_late(self, run: StartedRun, end: EndedRun) -> dict[str, Section]:
        """The sections of this run alone: its data, its modules, the cells of its notebook."""
        probes: dict[str, Callable[[float], Section]] = {}
        if run.facts.options.keeps("data"):
            probes["data.used"] = functools.partial(self._record_data, run)
        if end.cells is not None:
            probes["launch.session"] = lambda _: record_session(count=end.cells)
        if run.facts.options.keeps("code"):
            probes["code.modules"] = record_modules
        return collect_sections(probes, seconds=_DATA_SECONDS)

    def _record_data(self, run: StartedRun, deadline: float) -> Section:
        """The section ``data``: MLflow's data sets, params that name files, and the files that were opened."""
        with self._hold_forks():
            inputs, params = read_data(run.uri, run.run_id)
        with own_openings():
            return record_data(inputs, params, opened_files(), Deadline.at(deadline), sources=_own_sources())

    def _dump_record(
        self,
        run: StartedRun,
        tags: dict[str, str],
        *,
        is_complete: bool,
        late: dict[str, Section] | None = None,
        end_digests: dict[str, str] | None = None,
    ) -> bytes:
        facts = run.facts
        known = self._locate_files(run)
        sections = {
            name: replace(section, facts=describe_files(section.facts, known))
            for name, section in facts.sections.items()
        }
        if facts.options.log_rng:
            states = {"start": run.start_digests, "end": end_digests or missing("the run has not ended")}
            sections = {"seeds.control": Section(facts={**self._random.describe(), "digests": states}), **sections}
        packages = sections.get("environment.packages", _EMPTY)
        if is_complete and "imported" in packages.facts:  # now everything has been imported
            sections["environment.packages"] = replace(packages, facts={**packages.facts, **self._find_imports()})
        sections.update(late or {})
        return dump_record(
            build_record(
                [*facts.facts, *tags_to_facts({**run.tags, **tags})],
                sections,
                run_id=run.run_id,
                is_complete=is_complete,
            )
        )

    def _locate_files(self, run: StartedRun) -> dict[str, dict[str, Any]]:
        """Digest and size of each file of the sections by its path, and the run that it is with, if that is another."""
        known: dict[str, dict[str, Any]] = {}
        for path, digest in run.facts.digests.items():
            keeper = self._kept.get((run.uri, path, digest), run.run_id)
            other = {"run_id": keeper} if keeper != run.run_id else {}
            known[f"{_FOLDER}{path}"] = {"sha256": digest, "size": len(run.facts.files[path]), **other}
        return known

    def _seed_tags(self, run: StartedRun, states: dict[str, Any]) -> dict[str, str]:
        """The seeds that the generators had when these states were taken. Takes milliseconds."""
        seeds = current_seeds(self._seeds, states) if run.facts.options.log_rng else {}
        return {f"repro.seed.{generator}": seed for generator, seed in seeds.items()}

    def _find_imports(self) -> dict[str, Any]:
        """What is imported by now; looked for again when there are more modules or cells than last time."""
        counts = len(sys.modules), len(list_cells() or ())
        if self._imports[0] != counts:
            self._imports = (counts, find_imports(time.monotonic() + _IMPORTED_SECONDS, _own_sources()))
        return self._imports[1]


def _own_sources() -> list[str]:
    """The lines of the program: its modules, and what was run of a notebook."""
    return [*read_own_sources(), *(list_cells() or ())]
