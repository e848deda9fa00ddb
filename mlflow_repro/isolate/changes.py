"""What one launch has other than the reference: the values of another run, or of here, in the place of its own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mlflow_repro.text.command_line import ArgumentChange, change_arguments, parse_python_argv
from mlflow_repro.values.run import TAG_PREFIX, recorded_launch_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.values.run import Run
    from mlflow_repro.values.sections import Code

GENERATORS = ("python", "numpy", "torch", "entropy")
"""Whose random state can be changed for itself; ``entropy`` is what numpy's unseeded generators and TensorFlow ask."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What is changed; the empty value changes nothing. None as a value takes a thing away.

    ``generators`` get the random state of ``random_state`` (a stored ``repro/random_state.json``; a fresh one where it
    is empty). ``code`` is the section ``code`` of another run's record, ``code_run`` the run that has its files, in the
    store ``code_store`` (empty: that of the reference). ``files`` are paths, each with the one to read instead.
    ``without_patch`` runs the commit alone. ``packages`` and ``python`` are versions. ``tags`` are set on the new run.
    """

    params: Mapping[str, str | None] = field(default_factory=dict)
    arguments: tuple[ArgumentChange, ...] = ()
    variables: Mapping[str, str | None] = field(default_factory=dict)
    generators: tuple[str, ...] = ()
    random_state: Mapping[str, Any] = field(default_factory=dict)
    code: Code | None = None
    code_run: str = ""
    code_store: str = ""
    without_patch: bool = False
    packages: Mapping[str, str | None] = field(default_factory=dict)
    python: str = ""
    files: Mapping[str, str | None] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_environment(self) -> bool:
        """True when the environment has to be built, as it is neither the recorded one nor the one that is here."""
        return bool(self.packages or self.python)


NO_CHANGES = Changes()


def merge_changes(several: Iterable[Changes]) -> Changes:
    """All of ``several`` at once."""
    merged = NO_CHANGES
    for one in several:
        merged = Changes(
            params={**merged.params, **one.params},
            arguments=(*merged.arguments, *one.arguments),
            variables={**merged.variables, **one.variables},
            generators=(*merged.generators, *one.generators),
            random_state=one.random_state or merged.random_state,
            code=one.code or merged.code,
            code_run=one.code_run or merged.code_run,
            code_store=one.code_store or merged.code_store,
            without_patch=one.without_patch or merged.without_patch,
            packages={**merged.packages, **one.packages},
            python=one.python or merged.python,
            files={**merged.files, **one.files},
            tags={**merged.tags, **one.tags},
        )
    return merged


def recast_reference(reference: Run, changes: Changes) -> Run:
    """The reference as the plan shall see it: with the changed command line, launch parameters and commit."""
    tags = dict(reference.tags)
    files = {os.path.expanduser(path): instead for path, instead in changes.files.items() if instead}
    words = reference.words("launch.argv")
    if (changes.arguments or files) and words:
        arguments = parse_python_argv(words).arguments
        start = words[: len(words) - len(arguments)]
        changed = [_replace_file(word, files) for word in change_arguments(arguments, changes.arguments)]
        tags[f"{TAG_PREFIX}launch.argv"] = json.dumps([*start, *changed])
    stored = recorded_launch_parameters(reference)
    if (changes.params or files) and stored is not None:
        params = {**stored, **changes.params}
        kept = {name: _replace_file(value, files) for name, value in params.items() if value is not None}
        tags[f"{TAG_PREFIX}launch.params"] = json.dumps(kept)
    code = {"git.commit": changes.code.commit, "git.uri": changes.code.uri} if changes.code else {}
    tags.update({TAG_PREFIX + name: value for name, value in code.items() if value is not None})
    return replace(reference, tags=tags)


def names_file(reference: Run, path: str) -> bool:
    """True when the command line or a launch parameter of the run is this path, so that another can stand there."""
    return recast_reference(reference, Changes(files={path: f"{path}.instead"})) != reference


def _replace_file(word: str, files: Mapping[str, str]) -> str:
    """A word of a command line with another path in it, where it is one of ``files``, or ends so: ``--data=PATH``."""
    option, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
    instead = files.get(os.path.normpath(os.path.expanduser(value))) if value else None
    return f"{option}{equals}{instead}" if instead else word


def recast_random_state(stored: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    """A stored random state with that of some generators changed to another's, or taken out of it."""
    other = changes.random_state
    changed = dict(stored)
    for generator in ("python", "numpy", "torch"):
        if generator not in changes.generators:
            continue
        states = {moment: dict(taken) for moment, taken in changed.get("states", {}).items()}
        for moment, taken in states.items():
            taken.pop(generator, None)
            theirs = other.get("states", {}).get(moment, {})
            taken.update({generator: theirs[generator]} if generator in theirs else {})
        changed["states"] = states
    if "entropy" in changes.generators:
        changed = {name: value for name, value in changed.items() if name != "root"}
        changed.update({name: other[name] for name in ("root", "schema") if name in other} if "root" in other else {})
    if "torch" in changes.generators:
        theirs = other.get("assigned", {})
        kept = {name: value for name, value in changed.get("assigned", {}).items() if name != "torch"}
        changed["assigned"] = {**kept, **({"torch": theirs["torch"]} if "torch" in theirs else {})}
    return changed
