"""What a launch and a reproduction take into account, as the user chose it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.errors import UsageError
from mlflow_repro.judging.options import JudgeOptions, SpreadOptions, StoreOptions, check_spread
from mlflow_repro.plan.environment import EnvironmentWish
from mlflow_repro.plan.launch import PlanOptions
from mlflow_repro.values.options import group, option
from mlflow_repro.values.progress import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_LARGEST_SEED = (1 << 63) - 1


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """What each launch of a run needs, be it one or many. Empty text means "as the reference had it"."""

    store: StoreOptions = group(StoreOptions)
    uri: str = option("", metavar="URI#SUBDIR", help="Git URI of its project. Default: as the run recorded it.")
    experiment_name: str = option("Default", metavar="NAME", help="Where the new runs live; created when missing.")
    env: str = option(
        "",
        metavar="KIND",
        help="recorded: rebuilt with uv from the run's record; current: this one; project: by MLflow's own managers."
        " Default: recorded where something differs that the run imported, else current.",
    )
    allow_substitutions: bool = option(
        default=False,
        help="Of a recorded environment, take the nearest version of what cannot be had, or leave it out, and say so.",
    )
    env_manager: str = option(
        "", metavar="NAME", help="virtualenv, uv or conda, for --env project. Default: what the reference used."
    )
    recurse_submodules: bool = option(default=False, help="Fetch the repository's submodules too (https and ssh only).")
    include_deleted: bool = option(default=False, help="Accept a reference run that was deleted.")
    allow_failed: bool = option(default=False, help="Accept a reference run that FAILED or was KILLED.")
    accept_cache: bool = option(
        default=False,
        help="Take a result for computed though the run read what the reference, or a later run, may have left there.",
    )
    work_dir: str = option(
        "", metavar="DIRECTORY", help="Where the checkout is made, and removed. Default: the system's."
    )

    @property
    def environment_wish(self) -> EnvironmentWish:
        """The part that the choice of the environment depends on."""
        return EnvironmentWish(env=self.env, env_manager=self.env_manager, allow_substitutions=self.allow_substitutions)

    def plan_options(self, tracking_uri: str, **more: Any) -> PlanOptions:
        """The part that the plan depends on, with the store's absolute URI and what a launch has ``more``."""
        names = ("uri", "experiment_name", "env", "env_manager", "include_deleted", "allow_failed")
        shared = {name: getattr(self, name) for name in names}
        return PlanOptions(**shared, **more, tracking_uri=tracking_uri)


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Everything that a reproduction can be asked for. Empty text means "as the reference had it".

    The reference is ``run_id``, or the run that ``model`` came from. With ``commit`` the changes that the reference had
    beside its own commit stay away.
    """

    run_id: str = option("", metavar="ID", help="The reference run.")
    model: str = option(
        "",
        metavar="URI",
        help="Or the model it made: models:/NAME/VERSION, models:/NAME@ALIAS, runs:/ID/PATH.",
    )
    commit: str = option("", metavar="SHA", help="Run this commit in place of the recorded one: is the result kept?")
    launch: LaunchOptions = group(LaunchOptions)
    backend: str = option("", metavar="NAME", help="Where to run. Default: what the reference used.")
    backend_config: str = option("", metavar="JSON", help="JSON, or a .json file, for that backend.")
    params: Mapping[str, str] | None = option(
        None, spelling="param", metavar="NAME=VALUE", help="Set or replace a launch parameter."
    )
    ignore_diff: bool = option(default=False, help="Run the commit without the uncommitted changes that the run had.")
    timeout: float | None = option(None, metavar="SECONDS", help="End the relaunched run after this long.")
    resume: str = option("", metavar="ID", help="Launch nothing: judge this reproduction, which has run already.")
    restore_rng: bool = option(default=True, help="Put the recorded random state back before the code runs.")
    seed: int | None = option(
        None, metavar="N", help="Seed everything with N (0 to 2**63-1) instead: does it replicate?"
    )
    repeats: int = option(1, metavar="N", help="Relaunch the run N times, and judge final metrics by their spread.")
    jobs: int = option(1, metavar="N", help="How many of the repeats run at once.")
    fail_fast: bool = option(
        default=False, help="End the relaunched run as soon as a judged metric has left its tolerance at some step."
    )
    judging: JudgeOptions = group(JudgeOptions)
    spread: SpreadOptions = group(SpreadOptions)
    children: bool = option(default=True, help="Judge the runs below, and the others of the launch, as well.")
    explain: bool = option(default=True, help="Where the runs differ, name the likely causes.")
    annotate: bool = option(
        default=True,
        help="Write the answer to the page of the reproduction in MLflow: description, report, metrics, tags.",
    )
    annotate_reference: bool = option(
        default=False,
        help="Write the verdict and the id of the reproduction to the reference, too, which is not changed otherwise.",
    )
    allow_registry: bool = option(
        default=False,
        help="Let the relaunched run register models and set aliases; else it is only said what it would have done.",
    )
    isolated_home: bool = option(
        default=False,
        help="Give the relaunched run an empty HOME and TMPDIR, so that no cache has its result.",
    )
    dry_run: bool = option(default=False, help="Print the plan and the commands to do it by hand; launch nothing.")
    show: Callable[[str], None] | None = option(
        None, in_python_only=True, help="Called with each line that the child prints."
    )
    tell: Callable[[Moment], None] | None = option(
        None, in_python_only=True, help="Called with what is being done, as it begins."
    )

    @property
    def tracking_uri(self) -> str:
        """The store that the reference is in."""
        return self.launch.store.tracking_uri

    @property
    def is_repeated(self) -> bool:
        """True when there are several runs on a side."""
        return self.repeats > 1 or bool(self.spread.against)

    def check(self) -> None:
        """Find bad input before anything is read or started. Raises UsageError."""
        check_spread(self.judging, self.spread, are_repeats=self.is_repeated)
        if self.fail_fast and (self.resume or self.is_repeated):
            raise UsageError("fail_fast is for one relaunch", "it goes with neither resume, nor repeats, nor against")
        if self.repeats < 1 or (self.repeats > 1 and self.resume):
            hint = "it is 1 or more, and 1 with resume; mlflow-repro compare judges several"
            raise UsageError(f"repeats is {self.repeats}", hint)
        if not 1 <= self.jobs <= self.repeats:
            raise UsageError(f"jobs is {self.jobs}", "it is how many of the repeats run at once: 1 to repeats")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"timeout is {self.timeout!r}", "it must be a number of seconds above 0")
        if self.seed is not None and not 0 <= self.seed <= _LARGEST_SEED:
            raise UsageError(f"seed is {self.seed!r}", f"it must be an integer from 0 to {_LARGEST_SEED}")

    def say(self, phase: str, repeat: int = 0) -> None:
        """Tell whoever wants to know what is being done now."""
        if self.tell is not None:
            self.tell(Moment(phase=phase, repeat=repeat, repeats=self.repeats if repeat else 0))

    def plan_options(self, tracking_uri: str) -> PlanOptions:
        """The part that the plan depends on, with the store's absolute URI."""
        return self.launch.plan_options(
            tracking_uri,
            commit=self.commit,
            backend=self.backend,
            backend_config=self.backend_config,
            params=self.params,
        )
