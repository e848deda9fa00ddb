"""Launch prepared code as a new run, and see to it that this run is closed whatever happens."""

from __future__ import annotations

import getpass
import json
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
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
from mlflow_repro.store.sessions import close_session
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.text.redact import redact_named, redact_value
from mlflow_repro.values.captured import TAG_LIMIT
from mlflow_repro.values.progress import RUNNING, Moment
from mlflow_repro.values.run import SESSION_TAG, RunPair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.judging.trees import Target
    from mlflow_repro.reproduce.pipeline import Order
    from mlflow_repro.reproduce.prepare import Preparation
    from mlflow_repro.store.store import TrackingStore
    from mlflow_repro.values.plan import LaunchPlan, Surroundings
    from mlflow_repro.values.progress import Arrival, Divergence
    from mlflow_repro.values.run import Run

_SIGNAL_EXIT = 128  # a shell's exit code for "ended by signal N" is this plus N
_KEPT_TAGS = ("mlflow.project.entryPoint", "mlflow.project.env", "mlflow.source.type", "mlflow.source.git.branch")


@dataclass(frozen=True, kw_only=True)
class Relaunch:
    """One launch of what is prepared."""

    order: Order
    target: Target
    prepared: Preparation
    store: TrackingStore
    launcher: Launcher
    surroundings: Surroundings

    def run(self) -> tuple[tuple[RunPair, ...], Divergence | None]:
        """Create the reproduction's run, launch it, wait, and pair its runs with those of the reference.

        The first pair is that of the run that was asked for. Whatever fails, the run is closed.

        With ``fail_fast`` a run that diverges is ended, and where it did is returned, too. Raises LaunchError when the
        run failed, CannotJudgeError when it is not one that can be judged, UnreachableError when the store does not
        answer.
        """
        plan = self.plan
        backend_config = read_backend_config(plan.backend_config)
        experiment_id = self.store.ensure_experiment(plan.experiment_name)
        tags = self._tags()
        self.launcher.announce(self.store.uri)
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
            self._close(run_id, "", f"the reproduction was ended: {reason}")
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
    def plan(self) -> LaunchPlan:
        """How it is launched."""
        return self.prepared.plan

    @property
    def session(self) -> str:
        """What its runs are known by."""
        return self.launcher.session

    @property
    def reference(self) -> Run:
        """The run whose launch is done again."""
        return self.target.root

    @property
    def held(self) -> Held:
        """What was held back of what the processes wanted to write."""
        return read_held(self.prepared.work_directory)

    def _make_job(self, run_id: str, experiment_id: str, backend_config: Mapping[str, object]) -> Job:
        plan = self.plan
        entry_point = plan.entry_point
        if plan.command:
            entry_point = write_command_project(self.prepared.project_directory, plan.command)
        return Job(
            directory=str(self.prepared.project_directory),
            entry_point=entry_point,
            parameters=self.prepared.parameters,
            run_id=run_id,
            experiment_id=experiment_id,
            tracking_uri=self.store.uri,
            is_command=bool(plan.command),
            backend=plan.backend,
            backend_config=backend_config,
            env_manager=plan.env_manager,
            storage_directory=str(self.prepared.work_directory / "storage"),
            variables=self._variables(),
            environment=self.surroundings.environment,
            import_path=self._import_path(),
            reference=tuple(run.run_id for run in self.target.tree.runs),
            began=min(run.start_time for run in self.target.tree.runs) / 1000,
            ledger=str(self.prepared.work_directory / LEDGER_FILE),
            allow_registry=self.order.options.allow_registry,
            served_artifact_root=self.surroundings.served_artifact_root,
        )

    def _launch(self, job: Job) -> tuple[Outcome, Divergence | None]:
        """Launch, and follow the run while it goes on when somebody wants to know. Raises LaunchError when it is over.

        Before anything is launched it may be over, too.
        """
        options, is_over, reference = self.order.options, self.order.is_over, self.reference
        if is_over.is_set():
            raise LaunchError("interrupted before the launch")
        moment = Moment(phase=RUNNING, expected=max(reference.end_time - reference.start_time, 0) / 1000)

        def tell_arrivals(arrivals: tuple[Arrival, ...]) -> None:
            if options.tell is not None:
                options.tell(replace(moment, arrivals=arrivals))

        tell_arrivals(())
        is_watched = bool(job.run_id and (options.tell or options.fail_fast))
        watch = Watch(
            self.target.asked,
            self.store,
            self.order.judging.rules,
            find_run=lambda: self._find_judged(job.run_id),
            tell=tell_arrivals,
        )
        with watch if is_watched else nullcontext():
            outcome = self.launcher.run(
                job,
                timeout=options.timeout,
                is_enough=lambda: is_over.is_set() or (options.fail_fast and watch.has_diverged),
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
        wanted = f"tags.`{SESSION_TAG}` = '{self.session}' and tags.`repro.launch.run_index` = '{index}'"
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
        prepared = self.prepared
        restored = {} if prepared.random_state is None else {RESTORE_VARIABLE: str(prepared.random_state)}
        isolated = isolate_home(prepared.work_directory) if self.order.options.isolated_home else {}
        return {**self.plan.variables, **prepared.variables, **restored, **isolated}

    def _import_path(self) -> tuple[str, ...]:
        """The checkout's folders for what is installed from its repository, there and here."""
        plan = self.plan
        here = find_import_roots(plan.source, self.prepared.checkout) if plan.env_manager == "local" else ()
        return tuple(dict.fromkeys((*self.surroundings.import_path, *here)))

    def _tags(self) -> dict[str, str]:
        """The tags that the reproduction starts with: the true source instead of a temporary path."""
        plan, reference = self.plan, self.reference
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
                SESSION_TAG: self.session,
            }
        )
        params = json.dumps({name: redact_named(name, value) for name, value in plan.parameters.items()})
        if is_project and len(params) <= TAG_LIMIT:
            tags["repro.launch.params"] = params
        return {**tags, **self.order.parts.tags}

    def _fail(self, outcome: Outcome) -> NoReturn:
        """Close the failed run and say why it failed. Raises LaunchError."""
        if outcome.is_timeout:
            limit = f"{self.order.options.timeout:g} s"
            message = f"the relaunched run {outcome.run_id} took longer than {limit} and was ended"
            self._close(outcome.run_id, "KILLED", f"timeout after {limit}")
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
        """Give a run that did not end well its status and the reason. A store that is gone is not a second error.

        Without a ``status`` it is KILLED, unless its code had finished it.
        """
        if not run_id:
            return
        with suppress(ReproError):
            if status or self.store.read_run(run_id).status != "FINISHED":
                self.store.finish_run(run_id, status or "KILLED")
            self.store.set_tags(run_id, {"repro.error": reason[:500]})
            close_session(self.store, self.session, reason)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
