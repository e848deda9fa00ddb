"""Judge two runs that are there: read the rules, fetch what has to be compared, compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.plan import check_run_id
from mlflow_repro.rules import RuleSettings, make_rules

if TYPE_CHECKING:
    from mlflow_repro.model import Comparison, RunRecord
    from mlflow_repro.rules import Rules


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(RuleSettings):
    """How a comparison is judged: the rules, and ``config``, the file of rules that these stand on top of.

    An empty ``config`` means ``[tool.mlflow-repro]`` of the working directory's ``pyproject.toml``, if it has that.
    """

    config: str = ""

    def read_rules(self) -> Rules:
        """The rules of the file with these on top. Raises UsageError when they contradict each other."""
        from mlflow_repro.config import read_rules

        return make_rules(self, read_rules(self.config))


def judge_runs(reference: RunRecord, reproduction: RunRecord, rules: Rules) -> Comparison:
    """Compare two runs by ``rules``."""
    from mlflow_repro.compare import compare_records

    return compare_records(reference, reproduction, rules)


def compare_runs(reference_id: str, reproduction_id: str, *, tracking_uri: str = "", **options: Any) -> Comparison:
    """Compare two runs of one tracking store. ``options`` are the fields of `JudgeOptions`.

    Raises `ReproError` when one of the runs cannot be read, or when the rules contradict each other.
    """
    from mlflow_repro.tracking import open_store, short_retries

    rules = JudgeOptions(**options).read_rules()
    with short_retries():
        store = open_store(tracking_uri)
        reference = store.read_run(check_run_id(reference_id))
        reproduction = store.read_run(check_run_id(reproduction_id))
    return judge_runs(reference, reproduction, rules)
