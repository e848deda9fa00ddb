"""Launch prepared code as a new run, and see to it that this run is closed whatever happens."""

from __future__ import annotations

import getpass
import json
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from mlflow_repro.compare.trees import REPRODUCTION_NAME
from mlflow_repro.environment.imports import find_import_roots
from mlflow_repro.errors import CannotJudgeError, LaunchError, ReproError, UnreachableError
from mlflow_repro.judging.trees import pair_relaunch
from mlflow_repro.launch.backends import LOCAL
from mlflow_repro.launch.launcher import Job, Launcher, Outcome, read_backend_config
from mlflow_repro.launch.project import write_command_project
from mlflow_repro.overlay.notes import LEDGER_FILE, Held, read_held
from mlflow_repro.reproduce.failures import find_hint
from mlflow_repro.reproduce.origin import isolate_home
from mlflow_repro.reproduce.watch import Watch
from mlflow_repro.seeding.restoring import RESTORE_VARIABLE
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.text.redact import redact_named, redact_value
from mlflow_repro.values.captured import TAG_LIMIT
from mlflow_repro.values.plan import Surroundings
from mlflow_repro.values.progress import RUNNING, Moment
from mlflow_repro.values.rules import Rules
from mlflow_repro.values.run import RunPair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mlflow_repro.judging.trees import Target
    from mlflow_repro.reproduce.prepare import PreparedCode
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.progress import Arrival, Divergence
    from mlflow_repro.values.run import Run

_SIGNAL_EXIT = 128  # a shell's exit code for "ended by signal N" is this plus N
_KEPT_TAGS = ("mlflow.project.entryPoint", "mlflow.project.env", "mlflow.source.type", "mlflow.source.git.branch")


@dataclass(frozen=True, kw_only=True)
class Relaunch:
    """One launch of prepared code. ``timeout`` is in seconds, None for no limit."""

    target: Target
    code: PreparedCode
    store: TrackingStore
    launcher: Launcher
    session: str
    timeout: float | None = None
    random_state: Path | None = None
    """The folder with the random states to put back, None for a run that goes its own way."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    rules: Rules = field(default_factory=Rules)
    tell: Callable[[Moment], None] | None = None
    """Gets the metrics as they arrive."""
    fail_fast: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)
    """Set by somebody else when the run is to be ended."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Set on the new run beside those that each reproduction gets."""
    allow_registry: bool = False
    """Whether what runs may write to the model registry."""
    isolated_home: bool = False
    """Whether what runs gets an empty HOME and TMPDIR."""

    def run(self) -> tuple[tuple[RunPair, ...], Divergence | None]:
        """Create the reproduction's run, launch it, wait, and pair its runs with those of the reference.

        The first pair is that of the run that was asked for. Whatever fails, the run is closed.

        With ``fail_fast`` a run that diverges is ended, and where it did is returned, too. Raises LaunchError when the
        run failed, CannotJudgeError when it is not one that can be judged, UnreachableError when the store does not
        answer.
        """
        plan = self.code.plan
        backend_config = read_backend_config(plan.backend_config)
        experiment_id = self.store.ensure_experiment(plan.experiment_name)
        tags = self._tags()
        run_id = ""
        if plan.backend == LOCAL:  # other backends create their run themselves
            name = f"{REPRODUCTION_NAME}{self.target.first_name}"
            run_id = self.store.create_run(experiment_id, name=name, tags=tags, params=plan.parameters)
        try:
            job = self._make_job(run_id, experiment_id, backend_config)
            outcome, divergence = self._launch(job)
        except BaseException as error:
            self.launcher.end()
            reason = error.message if isinstance(error, LaunchError) else type(error).__name__
            self._close(run_id, "KILLED", f"the reproduction was ended: {reason}")
            raise
        if outcome.run_id and not run_id:
            self.store.set_tags(outcome.run_id, tags)
        if outcome.run_id and (held := self.held.tags):
            with suppress(ReproError):  # the report has it all the same
                self.store.set_tags(outcome.run_id, held)
        if outcome.is_stopped and divergence is not None:
            stopped = self._close_stopped(outcome.run_id, divergence)
            return (RunPair(reference=self.target.asked, reproduction=stopped),), divergence
        if outcome.error:
            self._fail(outcome)
        return self._pair_runs(outcome), None

    @property
    def reference(self) -> Run:
        """The run whose launch is done again."""
        return self.target.root

    @property
    def held(self) -> Held:
        """What was held back of what the processes wanted to write."""
        return read_held(self.code.work_directory)

    def _make_job(self, run_id: str, experiment_id: str, backend_config: Mapping[str, object]) -> Job:
        plan = self.code.plan
        entry_point = plan.entry_point
        if plan.command:
            entry_point = write_command_project(self.code.project_directory, plan.command)
        return Job(
            directory=str(self.code.project_directory),
            entry_point=entry_point,
            parameters=self.code.parameters,
            run_id=run_id,
            experiment_id=experiment_id,
            tracking_uri=self.store.uri,
            is_command=bool(plan.command),
            backend=plan.backend,
            backend_config=backend_config,
            env_manager=plan.env_manager,
            storage_directory=str(self.code.work_directory / "storage"),
            variables=self._variables(),
            environment=self.surroundings.environment,
            import_path=self._import_path(),
            reference=tuple(run.run_id for run in self.target.tree.runs),
            began=min(run.start_time for run in self.target.tree.runs) / 1000,
            ledger=str(self.code.work_directory / LEDGER_FILE),
            allow_registry=self.allow_registry,
            served_artifact_root=self.surroundings.served_artifact_root,
        )

    def _launch(self, job: Job) -> tuple[Outcome, Divergence | None]:
        """Launch, and follow the run while it goes on when somebody wants to know. Raises LaunchError when it is over.

        Before anything is launched it may be over, too.
        """
        tell, reference = self.tell, self.reference
        if self.is_over.is_set():
            raise LaunchError("interrupted before the launch")
        moment = Moment(phase=RUNNING, expected=max(reference.end_time - reference.start_time, 0) / 1000)

        def tell_arrivals(arrivals: tuple[Arrival, ...]) -> None:
            if tell is not None:
                tell(replace(moment, arrivals=arrivals))

        tell_arrivals(())
        is_watched = bool(job.run_id and (tell or self.fail_fast))
        watch = Watch(
            self.target.asked,
            self.store,
            self.rules,
            find_run=lambda: self._find_judged(job.run_id),
            tell=tell_arrivals,
        )
        with watch if is_watched else nullcontext():
            outcome = self.launcher.run(
                job,
                timeout=self.timeout,
                is_enough=lambda: self.is_over.is_set() or (self.fail_fast and watch.has_diverged),
            )
        if outcome.is_stopped and not watch.has_diverged:
            raise LaunchError("interrupted", run_id=outcome.run_id)
        return outcome, watch.divergence

    def _find_judged(self, run_id: str) -> str:
        """The counterpart of the run that was asked for; empty when it is not there, or cannot be told yet."""
        asked = self.target.asked
        index = asked.fact("launch.run_index").value or "0"
        if index == "0" and asked.run_id == self.target.tree.root_id:
            return run_id
        if not index.isdecimal():
            return ""
        wanted = f"tags.`repro.session` = '{self.session}' and tags.`repro.launch.run_index` = '{index}'"
        found = self.store.search_runs(wanted)
        return found[0].run_id if len(found) == 1 else ""

    def _close_stopped(self, run_id: str, divergence: Divergence) -> Run:
        reason = f"stopped by fail-fast: {divergence.name} differed at step {divergence.step}"
        self._close(run_id, "KILLED", reason)
        judged = self._find_judged(run_id)
        if judged != run_id:
            self._close(judged, "KILLED", reason)
        return self.store.read_run_patiently(judged)

    def _variables(self) -> dict[str, str | None]:
        """What the child's environment has beside ours."""
        restored = {} if self.random_state is None else {RESTORE_VARIABLE: str(self.random_state)}
        isolated = isolate_home(self.code.work_directory) if self.isolated_home else {}
        return {**self.code.plan.variables, **self.code.variables, **restored, **isolated}

    def _import_path(self) -> tuple[str, ...]:
        """The checkout's folders for what is installed from its repository, there and here."""
        plan = self.code.plan
        here = find_import_roots(plan.source, self.code.checkout) if plan.env_manager == "local" else ()
        return tuple(dict.fromkeys((*self.surroundings.import_path, *here)))

    def _tags(self) -> dict[str, str]:
        """The tags that the reproduction starts with: the true source instead of a temporary path."""
        plan, reference = self.code.plan, self.reference
        source = replace(plan.source, uri=strip_credentials(plan.source.uri))
        is_project = not plan.command
        name = source.project_uri if is_project else redact_value(reference.tags.get("mlflow.source.name", ""))
        tags = {tag: reference.tags[tag] for tag in _KEPT_TAGS if tag in reference.tags}
        tags.update(
            {
                "mlflow.user": _user(),
                "mlflow.source.name": name,
                "mlflow.source.git.commit": source.commit,
                "mlflow.source.git.repoURL": source.uri,
                "repro.git.uri": source.project_uri,
                "repro.git.commit": source.commit,
                "repro.reference_run_id": reference.run_id,
                "repro.session": self.session,
            }
        )
        params = json.dumps({name: redact_named(name, value) for name, value in plan.parameters.items()})
        if is_project and len(params) <= TAG_LIMIT:
            tags["repro.launch.params"] = params
        return {**tags, **self.tags}

    def _fail(self, outcome: Outcome) -> NoReturn:
        """Close the failed run and say why it failed. Raises LaunchError."""
        if outcome.is_timeout:
            message = f"the relaunched run {outcome.run_id} took longer than {self.timeout:g} s and was ended"
            self._close(outcome.run_id, "KILLED", f"timeout after {self.timeout:g} s")
            raise LaunchError(
                message, "allow it more: --timeout SECONDS", run_id=outcome.run_id, log_tail=outcome.log_tail
            )
        code = outcome.exit_code
        if code is None:
            how = outcome.error
        elif code < 0 or code > _SIGNAL_EXIT:
            how = f"it was ended by signal {-code if code < 0 else code - _SIGNAL_EXIT}"
        else:
            how = f"exit code {code}"
        self._close(outcome.run_id, "FAILED", how)
        raise LaunchError(
            f"the relaunched run {outcome.run_id or '(none was created)'} failed: {how}",
            find_hint(f"{outcome.log_tail}\n{outcome.error}", outcome.run_id, self.reference.experiment_name),
            run_id=outcome.run_id,
            log_tail=outcome.log_tail,
        )

    def _pair_runs(self, outcome: Outcome) -> tuple[RunPair, ...]:
        """The finished runs. Raises LaunchError or CannotJudgeError when the one asked for cannot be judged."""
        run_id, asked = outcome.run_id, self.target.asked
        try:
            pairs, reproduction = pair_relaunch(self.target, self.store, self.store.read_run_patiently(run_id))
        except UnreachableError as error:
            raise UnreachableError(
                f"the relaunch is done, as run {run_id}, but cannot be read: {error.message}",
                f"compare it later: mlflow-repro reproduce --run_id {asked.run_id} --resume {run_id}",
            ) from error
        run_id = reproduction.run_id
        # MLflow makes every run whose process exits with 0 FINISHED, whatever the script said.
        if reproduction.fact("status").value in ("FAILED", "KILLED") and asked.status == "FINISHED":
            self._close(run_id, "FAILED", "the script ended its run as failed")
            raise LaunchError(
                f"the relaunched run {run_id} ended itself {reproduction.fact('status').value},"
                " though its process exited with 0",
                "its last lines are above; the failed run is kept",
                run_id=run_id,
                log_tail=outcome.log_tail,
            )
        if asked.metrics and not reproduction.metrics:
            raise CannotJudgeError(
                f"the relaunched run {run_id} logged no metric, where the reference has {len(asked.metrics)}",
                "the script logged into another run or store, or did nothing; --verbose shows its output",
            )
        return pairs

    def _close(self, run_id: str, status: str, reason: str) -> None:
        """Give a run that did not end well its status and the reason. A store that is gone is not a second error."""
        if not run_id:
            return
        with suppress(ReproError):
            self.store.finish_run(run_id, status)
            self.store.set_tags(run_id, {"repro.error": reason[:500]})
            for run in self.store.search_runs(f"tags.`repro.session` = '{self.session}'"):
                if run.status == "RUNNING":  # of the same launch, and nobody's now
                    self.store.finish_run(run.run_id, "KILLED")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
