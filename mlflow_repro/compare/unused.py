"""Name the rules that decided nothing: a pattern with a slip of the pen must not pass for a rule that held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_repro.model import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from mlflow_repro.rules import Rules


def find_unused_rules(names: Collection[str], rules: Rules, artifacts: Collection[str] = ()) -> list[Finding]:
    """One finding for each rule that decides nothing about the metrics ``names`` and the ``artifacts``."""
    return [
        Finding(kind="rule", name=rule, reference=None, reproduction=None, status=Status.IGNORED, note=reason)
        for rule, reason in rules.unused(names, artifacts)
    ]
