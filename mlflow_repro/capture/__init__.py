"""Observe what made a run: a table of probes, one function for each group of facts.

A probe reads the world and returns facts. It may fail: then its facts are absent, the run is marked
``repro.capture = partial:<probe>``, and nothing else happens.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlflow_repro.capture.code import probe_code, program_directory
from mlflow_repro.capture.environment import probe_environment
from mlflow_repro.capture.launch import probe_launch
from mlflow_repro.capture.machine import record_machine
from mlflow_repro.capture.packages import record_environment
from mlflow_repro.capture.session import record_session
from mlflow_repro.capture.tree import record_code
from mlflow_repro.model import TAG_PREFIX, Fact
from mlflow_repro.section import Section
from mlflow_repro.variables import record_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

TAG_LIMIT = 5000  # characters; MLflow cuts at 8,000, some stores earlier

OMITTED = "omitted: "
"""What stands, with the length, in place of a value that no tag can hold. It is never valid JSON."""

PROBES: tuple[tuple[str, Callable[[], Iterable[Fact]]], ...] = (
    ("code", probe_code),
    ("launch", probe_launch),
    ("environment", probe_environment),
)


def collect_facts() -> tuple[list[Fact], list[str]]:
    """The facts of this process, and a line for each probe that failed. Never raises an Exception."""
    facts: list[Fact] = []
    failures: list[str] = []
    for name, probe in PROBES:
        try:
            facts.extend(probe())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a guest: not even SystemExit may reach the training
            failures.append(f"{name}: {type(error).__name__}: {error}")
    return facts, failures


SLOW_PROBES: dict[str, Callable[[float], Section]] = {
    "launch.session": lambda _deadline: record_session(),
    "launch.variables": lambda _deadline: Section(facts={"variables": record_variables(os.environ)}),
    "code.tree": lambda deadline: record_code(program_directory(), deadline),
    "environment.packages": record_environment,
    "machine.hardware": record_machine,
}
"""What is recorded in the background, by the section that it belongs to: functions of a deadline (`time.monotonic`)."""


def facts_to_tags(facts: Iterable[Fact], failures: Iterable[str] = ()) -> dict[str, str]:
    """The facts that have a value as tags, and ``repro.capture``, which names the probes that failed."""
    tags = {fact.tag: to_tag_value(fact.value) for fact in facts if fact.value is not None}
    partial = ",".join(failure.partition(":")[0] for failure in failures)
    tags["repro.capture"] = f"partial:{partial}" if partial else "started"
    return tags


def tags_to_facts(tags: Mapping[str, str]) -> list[Fact]:
    """The facts that tags hold."""
    return [Fact(name=tag[len(TAG_PREFIX) :], value=value) for tag, value in tags.items() if tag.startswith(TAG_PREFIX)]


def to_tag_value(value: str) -> str:
    """``value`` as every store takes it: no lone surrogates, no control characters, not too long."""
    value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    value = "".join(
        character if character >= " " and character != "\x7f" else f"\\x{ord(character):02x}" for character in value
    )
    return value if len(value) <= TAG_LIMIT else f"{OMITTED}{len(value)} characters"
