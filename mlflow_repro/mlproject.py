"""The values of an MLproject file: its entry points and their parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter that an entry point of an MLproject file declares."""

    name: str
    type: str = "string"
    default: str | None = None


@dataclass(frozen=True, kw_only=True)
class Project:
    """An MLproject file, or the lack of one (``has_file`` false): its entry points and its kind of environment."""

    has_file: bool = False
    name: str = ""
    environment: str = ""
    """``python_env``, ``conda_env``, ``docker_env`` or empty."""
    entry_points: Mapping[str, tuple[Parameter, ...]] = field(default_factory=dict)
