"""What a reproduction takes into account, as the user chose it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from mlflow_repro.judging.options import JudgeOptions
from mlflow_repro.plan.environment import EnvironmentWish
from mlflow_repro.plan.launch import PlanOptions
from mlflow_repro.values.progress import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_repro.judging.artifacts import Selection


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(JudgeOptions):
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    The reference is ``run_id``, or the run that ``model`` came from (``models:/NAME/VERSION``, ``models:/NAME@ALIAS``,
    ``runs:/ID/PATH``). ``commit`` is another commit than the recorded one, to see whether a change keeps the result;
    the changes that the reference had beside its own commit stay away then.
    ``ignore_diff`` runs the commit without the uncommitted changes that the reference had.
    ``timeout`` is in seconds, None for no limit. ``resume`` is the id of a reproduction that has already run: it
    is judged, and nothing is launched. ``restore_rng`` puts the recorded random state back, so that a run that set no
    seed comes back too. ``seed`` (0 to 2**63-1) asks the other question, whether the result replicates: everything is
    seeded with it instead, but where the code does that itself. ``repeats`` is how often the run is relaunched,
    ``jobs`` of them at a time.
    ``env`` is ``recorded``, ``current`` or ``project``; with ``allow_substitutions`` what cannot be had exactly of a
    recorded environment is replaced or left out. ``annotate`` writes the answer to the page of the reproduction in
    MLflow, ``annotate_reference`` to that of the reference as well, see `mlflow_repro.reproduce.answer`. With
    ``allow_registry`` the relaunched run may write to the model registry, as its script says. With
    ``accept_cache`` a result counts that may have been there before; ``isolated_home`` gives the relaunched run an
    empty HOME and TMPDIR. ``fail_fast`` ends it as
    soon as a judged metric has left its tolerance at some step. With ``explain`` the report says why the runs differ,
    where they do. ``show`` gets each line that the child prints, ``tell`` what is being done.
    """

    run_id: str = ""
    model: str = ""
    uri: str = ""
    commit: str = ""
    experiment_name: str = "Default"
    tracking_uri: str = ""
    env: str = ""
    allow_substitutions: bool = False
    env_manager: str = ""
    backend: str = ""
    backend_config: str = ""
    params: Mapping[str, str] | None = None
    recurse_submodules: bool = False
    ignore_diff: bool = False
    include_deleted: bool = False
    allow_failed: bool = False
    timeout: float | None = None
    work_dir: str = ""
    resume: str = ""
    dry_run: bool = False
    restore_rng: bool = True
    seed: int | None = None
    repeats: int = 1
    annotate: bool = True
    annotate_reference: bool = False
    allow_registry: bool = False
    accept_cache: bool = False
    isolated_home: bool = False
    jobs: int = 1
    fail_fast: bool = False
    explain: bool = True
    show: Callable[[str], None] | None = None
    tell: Callable[[Moment], None] | None = None

    @property
    def selection(self) -> Selection | None:
        """As in `JudgeOptions`, with the work directory."""
        chosen = super().selection
        return chosen and replace(chosen, work_directory=self.work_dir)

    @property
    def environment_wish(self) -> EnvironmentWish:
        """The part that the choice of the environment depends on."""
        return EnvironmentWish(env=self.env, env_manager=self.env_manager, allow_substitutions=self.allow_substitutions)

    def say(self, phase: str, repeat: int = 0) -> None:
        """Tell whoever wants to know what is being done now."""
        if self.tell is not None:
            self.tell(Moment(phase=phase, repeat=repeat, repeats=self.repeats if repeat else 0))

    def plan_options(self, tracking_uri: str) -> PlanOptions:
        """The part that the plan depends on, with the store's absolute URI."""
        shared = {field.name: getattr(self, field.name) for field in fields(PlanOptions)}
        return PlanOptions(**{**shared, "tracking_uri": tracking_uri})
