"""What holds for all runs of a process: a little of it at once, the rest when there is time.

Loaded when the first run starts, on the thread that starts it; what takes longer is loaded in the background.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

from mlflow_repro.code.program import find_program, probe_head
from mlflow_repro.environment.digest import probe_interpreter
from mlflow_repro.launch.capture import probe_launch
from mlflow_repro.values.captured import SECTIONS, Section, missing, to_tag_value
from mlflow_repro.values.run import SESSION_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mlflow_repro.guest.options import AutologOptions
    from mlflow_repro.values.run import Fact

_CAPTURE_SECONDS = 20.0  # for the facts that take longer, in the background
_SILENT = {"timeout", "no-git"}


class ProcessFacts:
    """What is known of this process; in a notebook, of the moment at which runs begin.

    ``tags`` are the facts as tags: at first those that take no time, all of them after `find_out`. ``sections`` are
    what is in the record only, ``files`` and ``digests`` those of their files by their paths below ``repro/``, after
    `look_around`.
    """

    def __init__(self, options: AutologOptions) -> None:
        """Takes a moment: starts no process, lists no packages. Raises nothing."""
        self.options = options
        self.since = time.monotonic()
        self.program = find_program()
        probes = {"code": lambda: probe_head(self.program), "launch": probe_launch, "environment": probe_interpreter}
        self.facts, self.failures = collect_facts(probes, options)
        self.tags = self._to_tags()
        self.first_tags = self.tags
        """The tags that a run of this process may begin with; what is not among ``tags`` in the end was a mistake."""
        self.sections: dict[str, Section] = {}
        self.files: dict[str, bytes] = {}
        self.digests: dict[str, str] = {}
        self._is_whole = False

    def find_out(self) -> None:
        """Ask git, and list the packages; for the first run that needs it. Raises nothing."""
        if self._is_whole:
            return
        from mlflow_repro.guest.probes import PROBES

        probes = {name: lambda probe=probe: probe(self.program) for name, probe in PROBES.items()}
        facts, failures = collect_facts(probes, self.options)
        self.facts, self.failures = _join(self.facts, facts), [*self.failures, *failures]
        self.tags = self._to_tags()
        self._is_whole = True

    def look_around(self) -> None:
        """Collect the sections, which takes longest; for the first run that needs them. Raises nothing."""
        if self.sections:
            return
        from mlflow_repro.guest.probes import SLOW_PROBES, collect_sections

        wanted = {name: probe for name, probe in SLOW_PROBES.items() if self.options.keeps(name)}
        if self.tags.get("repro.git.error") == "timeout":  # what hung once would hang again, at the end of the program
            wanted.pop("code.tree", None)
        probes = {name: lambda deadline, probe=probe: probe(self.program, deadline) for name, probe in wanted.items()}
        sections = collect_sections(probes, seconds=_CAPTURE_SECONDS)
        off = Section(facts={"section": missing("switched off by autolog")})
        for section in sections.values():
            self.files.update(section.files)
        self.digests = {path: hashlib.sha256(content).hexdigest() for path, content in self.files.items()}
        self.sections = {**sections, **{name: off for name in SECTIONS if not self.options.keeps(name)}}

    def _to_tags(self) -> dict[str, str]:
        tags = facts_to_tags(self.facts, self.failures)
        session = os.environ.get("MLFLOW_REPRO_SESSION")
        return {**tags, SESSION_TAG: session} if session else tags


def _join(at_once: list[Fact], later: list[Fact]) -> list[Fact]:
    """All facts. What git says counts, not what its files look like; only where it says nothing they are believed."""
    errors = {fact.value for fact in later if fact.name == "git.error"}
    if errors & _SILENT and any(fact.name == "git.commit" for fact in at_once):
        return [*at_once, *(fact for fact in later if fact.name != "git.commit")]
    return [*(fact for fact in at_once if not fact.name.startswith("git.")), *later]


def collect_facts(
    probes: Mapping[str, Callable[[], Iterable[Fact]]], options: AutologOptions
) -> tuple[list[Fact], list[str]]:
    """The facts that are wanted, and a line for each probe that failed. Never raises an Exception."""
    facts: list[Fact] = []
    failures: list[str] = []
    for name, probe in probes.items():
        try:
            facts.extend(fact for fact in probe() if options.keeps(fact.name))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a guest: not even SystemExit may reach the training
            failures.append(f"{name}: {type(error).__name__}: {error}")
    return facts, failures


def facts_to_tags(facts: Iterable[Fact], failures: Iterable[str] = ()) -> dict[str, str]:
    """The facts that have a value as tags, and ``repro.capture``, which names the probes that failed."""
    tags = {fact.tag: to_tag_value(fact.value) for fact in facts if fact.value is not None}
    partial = ",".join(dict.fromkeys(failure.partition(":")[0] for failure in failures))
    tags["repro.capture"] = f"partial:{partial}" if partial else "started"
    return tags
