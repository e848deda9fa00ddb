"""All commands by all options: each one that is taken is honoured, each other one is refused; Python has the same."""

from __future__ import annotations

import inspect
import io
import json
import os
import re
import shutil
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from records import make_record

import mlflow_repro
from mlflow_repro.cli import cli, main
from mlflow_repro.compare import compare_records
from mlflow_repro.isolate.options import IsolateOptions, StressOptions
from mlflow_repro.judging.options import CompareOptions, ExplainOptions, Judging, PairOptions, StoreOptions
from mlflow_repro.overlay.notes import Held
from mlflow_repro.plan.environment import Choice
from mlflow_repro.plan.launch import plan_launch
from mlflow_repro.reproduce.options import ReproduceOptions
from mlflow_repro.reproduce.prepare import Preparation
from mlflow_repro.reproduce.repeats import run_repeats
from mlflow_repro.store.opening import open_store
from mlflow_repro.values.options import list_options
from mlflow_repro.values.plan import EnvironmentPlan, Surroundings
from mlflow_repro.values.progress import BUILDING, COMPARING, FETCHING
from mlflow_repro.values.report import Report
from mlflow_repro.values.run import RunPair

KINDS = {
    "reproduce": ReproduceOptions,
    "compare": CompareOptions,
    "explain": ExplainOptions,
    "isolate": IsolateOptions,
    "stress": StressOptions,
    "show": StoreOptions,
    "check": StoreOptions,
    "tolerances": StoreOptions,
}
SHOWN = {
    "reproduce": {"format_", "output", "quiet", "verbose", "debug"},
    "compare": {"format_", "output", "show_all", "debug"},
    "explain": {"format_", "debug"},
    "isolate": {"format_", "verbose", "debug"},
    "stress": {"format_", "verbose", "debug"},
    "show": {"format_", "files", "debug"},
    "check": {"format_", "debug"},
    "tolerances": {"first", "output", "overwrite", "config", "debug"},
}
"""The options that a command has for itself: what is printed, and what `tolerances` reads and writes."""
FUNCTIONS = {
    mlflow_repro.reproduce_run: ReproduceOptions,
    mlflow_repro.compare_runs: PairOptions,
    mlflow_repro.explain_runs: ExplainOptions,
    mlflow_repro.isolate_run: IsolateOptions,
    mlflow_repro.stress_run: StressOptions,
}
IDS = {name: letter * 32 for name, letter in zip(("one", "other", "third"), "abc", strict=True)}
PLACES = {"reproduce": ["--run_id", IDS["one"]], "compare": [IDS["one"], IDS["other"]]}
PLACES |= {
    "explain": PLACES["compare"],
    "isolate": [IDS["one"], "--other", IDS["other"]],
    "tolerances": ["--from", *IDS.values(), "--overwrite"],
}


def options_of(name: str) -> list[click.Option]:
    return [one for one in cli.commands[name].params if isinstance(one, click.Option)]


def names_of(kind: type, *, in_python: bool = True) -> set[str]:
    return {one.name for one, about in list_options(kind) if in_python or not about.in_python_only}


@pytest.mark.parametrize("name", KINDS)
def test_a_command_has_the_fields_of_its_options_and_their_defaults(name: str):
    """Beside them it has what it prints, and `--no-artifacts`, which is None in Python."""
    flags = {about.none.replace("-", "_") for _, about in list_options(KINDS[name]) if about.none}
    assert {one.name for one in options_of(name)} == names_of(KINDS[name], in_python=False) | SHOWN[name] | flags
    context = click.Context(cli.commands[name])
    found = {one.name: one.get_default(context) for one in options_of(name) if not one.multiple}
    fields = {one.name: one for one, _ in list_options(KINDS[name])}
    assert {key: value for key, value in found.items() if key in fields} == {
        key: fields[key].default for key in found if key in fields
    }
    helps = {one.name: one.help for one in options_of(name)}
    for one, about in list_options(KINDS[name]):
        assert about.in_python_only or helps[one.name].startswith(about.help)


@pytest.mark.parametrize("name", KINDS)
def test_names_are_of_one_option_each(name: str):
    """A name that two groups have would be given to both."""
    names = [one.name for one, _ in list_options(KINDS[name])]
    assert len(names) == len(set(names))


def every_spelling() -> set[str]:
    return {text for name in KINDS for one in options_of(name) for text in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("name", sorted({*KINDS, "completion"}))
def test_every_option_of_another_command_is_refused(name: str, capsys):
    """By the command line with exit code 2 and the option's name; nothing is read before."""
    own = {text for one in cli.commands[name].params for text in (*one.opts, *one.secondary_opts)}
    strangers = sorted(every_spelling() - own)
    assert strangers
    for text in strangers:
        assert main([name, *PLACES.get(name, [IDS["one"]]), text, "1"]) == 2, text
        assert f"No such option '{text}'" in capsys.readouterr().err


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_every_option_of_another_function_is_a_type_error(function):
    """And its own are its signature, with their help in its docstring."""
    signature = inspect.signature(function)
    own = names_of(FUNCTIONS[function])
    positional = {name for name, one in signature.parameters.items() if one.kind is not one.KEYWORD_ONLY}
    assert set(signature.parameters) == own | positional
    told = {one.name for one, about in list_options(FUNCTIONS[function]) if about.help in function.__doc__}
    assert told >= own - positional
    every = {name for kind in FUNCTIONS.values() for name in names_of(kind)} | {"resume", "parent", "rel_tolerance"}
    required = [IDS["one"] for one in signature.parameters.values() if one.default is one.empty]
    for name in every - own - positional:
        with pytest.raises(TypeError, match=rf"{function.__name__}\(\) has no option '{name}'"):
            function(*required, **{name: "1"})
    with pytest.raises(TypeError, match="it must be a list or a tuple"):
        function(*required, only="loss")


TEXTS = ("json", "--json", "--format=json", "--debug", "-v", "--verbose")


@pytest.mark.parametrize("name", KINDS)
def test_what_another_option_is_given_says_nothing_of_the_output(name: str, capsys):
    """An experiment may be called ``json``; the obstacle, an id that is none, is one line."""
    place = (
        ["--run_id", "../x"] if name == "reproduce" else ["--from", "../x"] if name == "tolerances" else ["../x"] * 2
    )
    place = place[:1] if name in ("isolate", "stress", "show", "check") else place
    for one in options_of(name):
        for text in TEXTS if isinstance(one.type, click.types.StringParamType) and not one.is_flag else ():
            assert main([name, *place, one.opts[0], text]) == 2, (one.name, text)
            captured = capsys.readouterr()
            assert captured.out == "", (one.name, text)
            assert "Traceback" not in captured.err


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"tolerances"}))
@pytest.mark.parametrize("asked", [("--json",), ("--format", "json"), ("--format=json",)], ids="-".join)
@pytest.mark.parametrize("wrong", [("--nope",), ("--tracking_uri",)], ids="-".join)
def test_an_obstacle_is_told_as_was_asked_whatever_is_wrong(name: str, asked: tuple, wrong: tuple, capsys):
    """Also where the option before it is refused, or the one behind it lacks its value."""
    assert main([name, *PLACES.get(name, [IDS["one"]]), *asked, *wrong]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("flags", [(), ("--debug",), ("--verbose",), ("-v",)], ids="".join)
def test_a_traceback_is_shown_to_whoever_asks(name: str, flags: tuple, capsys):
    if not {*flags} <= {text for one in options_of(name) for text in one.opts}:
        pytest.skip("it has no such flag")
    arguments = (
        ["--run_id", "../x"] if name == "reproduce" else ["--from", "../x"] if name == "tolerances" else ["../x"]
    )
    assert main([name, *arguments, *(["y"] if name in ("compare", "explain") else []), *flags]) == 2
    assert ("Traceback" in capsys.readouterr().err) is bool(flags)


FILE = "rules.toml"
CHANGED: dict[str, tuple[str, ...]] = {
    "tracking_uri": ("--tracking_uri", "sqlite:///empty.db"),
    "rel_tol": ("--rel_tol", "0.5"),
    "abs_tol": ("--abs_tol", "0.5"),
    "exact": ("--exact",),
    "tolerance": ("--tolerance", "loss=rel:0.5"),
    "only": ("--only", "loss"),
    "ignore": ("--ignore", "loss"),
    "judge": ("--judge", "fit_time"),
    "config": ("--config", FILE),
    "histories": ("--histories", "sampled"),
    "artifacts": ("--artifacts", "*.txt"),
    "no_artifacts": ("--no-artifacts",),
    "artifact_limit": ("--artifact-limit", "1"),
    "compare_predictions": ("--compare-predictions",),
    "prediction_data": ("--prediction-data", "inputs.csv"),
    "prediction_timeout": ("--prediction-timeout", "7"),
    "against": ("--against", IDS["third"]),
    "margin": ("--margin", "5"),
    "as_good_as": ("--as_good_as", "loss=higher"),
    "children": ("--no-children",),
    "run_id": ("--run_id", IDS["third"]),
    "model": ("--model", f"runs:/{IDS['third']}/model"),
    "commit": ("--commit", "2" * 40),
    "uri": ("--uri", "https://host/elsewhere.git"),
    "experiment_name": ("--experiment_name", "elsewhere"),
    "env": ("--env", "recorded"),
    "allow_substitutions": ("--allow-substitutions",),
    "env_manager": ("--env-manager", "virtualenv"),
    "recurse_submodules": ("--recurse-submodules",),
    "include_deleted": ("--include-deleted",),
    "allow_failed": ("--allow-failed",),
    "work_dir": ("--work-dir", "work"),
    "backend": ("--backend", "elsewhere"),
    "backend_config": ("--backend-config", "{}"),
    "params": ("-P", "x=1"),
    "ignore_diff": ("--ignore-diff",),
    "timeout": ("--timeout", "77"),
    "restore_rng": ("--no-restore-rng",),
    "seed": ("--seed", "5"),
    "repeats": ("--repeats", "3"),
    "jobs": ("--jobs", "2"),
    "fail_fast": ("--fail-fast",),
    "explain": ("--no-explain",),
    "annotate": ("--no-annotate",),
    "annotate_reference": ("--annotate-reference",),
    "allow_registry": ("--allow-registry",),
    "isolated_home": ("--isolated-home",),
    "accept_cache": ("--accept-cache",),
    "dry_run": ("--dry-run",),
    "max_launches": ("--max-launches", "1"),
    "parent": ("--resume", IDS["third"]),
    "resume": ("--resume", IDS["third"]),
    "other": ("--other", IDS["third"]),
    "data": ("--data", "work"),
    "vary": ("--vary", "seed"),
}
"""A value other than the default for each option of any command."""
BESIDE = {
    "margin": ("--against", IDS["third"]),
    "as_good_as": ("--against", IDS["third"]),
    "jobs": ("--repeats", "3"),
    "prediction_data": ("--compare-predictions",),
    "prediction_timeout": ("--compare-predictions",),
}
"""What must be given, too, for an option to mean something."""
SHOWN_OF_LAUNCH = ("timeout", "fail_fast", "allow_registry", "isolated_home")
INSTEAD = {"model": "--run_id", "run_id": "--run_id", "other": "--other"}
TIMELESS = re.compile(r"0x[0-9a-f]+|/[^ ',]*mlflow-repro-\w+|'?seconds'?: [\d.]+")


@dataclass
class World:
    """A store with runs, and what reaches the functions that do the work; none of them launches anything."""

    root: Path
    seen: list[Any] = field(default_factory=list)

    def ask(self, *arguments: str) -> str:
        """What a command says and does, as text."""
        self.seen.clear()
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main([*arguments])
        assert code != 70, err.getvalue()
        return self.strip("\n".join([str(code), out.getvalue(), err.getvalue(), *map(repr, self.seen)]))

    def strip(self, text: str) -> str:
        """Without what differs between any two calls: ids that were made up, addresses, times."""
        text = re.sub(r"[0-9a-f]{32}", lambda found: found[0] if found[0] in IDS.values() else "ID", text)
        return TIMELESS.sub("", text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, empty_store) -> Path:
    """Where the commands are called: a store with three runs, one without, and the files that options name."""
    import sqlite3

    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("options")
    for name in ("runs.db", "empty.db"):
        shutil.copy(empty_store, root / name)
    client = MlflowClient(tracking_uri=f"sqlite:///{root}/runs.db")
    experiment = client.create_experiment("e", artifact_location=str(root / "artifacts"))
    tags = {"repro.capture": "full", "repro.launch.cwd": ".", "repro.git.commit": "1" * 40}
    tags |= {
        "repro.git.uri": "https://h/r.git",
        "repro.launch.argv": '["python", "t.py"]',
        "repro.launch.script": "t.py",
    }
    for value, run_id in enumerate(IDS.values(), 1):
        made = client.create_run(experiment, tags=tags).info.run_id
        client.log_metric(made, "loss", float(value))
        client.log_metric(made, "fit_time", float(value))
        client.log_text(made, "x", "a.txt")
        client.set_terminated(made)
        with sqlite3.connect(root / "runs.db") as connection:
            for table in ("metrics", "latest_metrics", "tags", "params"):
                connection.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?", (run_id, made))  # noqa: S608
            connection.execute("UPDATE runs SET run_uuid = ? WHERE run_uuid = ?", (run_id, made))
    (root / "work").mkdir()
    (root / FILE).write_text("rel_tol = 0.25\n")
    (root / "inputs.csv").write_text("x\n1\n")
    return root


@pytest.fixture
def world(folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The functions that a command ends in note what they are given, and give what a run of theirs would."""
    made = World(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/runs.db")
    monkeypatch.setenv("MLFLOW_REPRO_ARTIFACT_ROOT", str(folder))  # the runs have other ids than MLflow gave them
    for name in ("judging.histories.compare_run_histories", "judging.artifacts.compare_run_artifacts"):
        watch(made, monkeypatch, name, lambda *a, **k: (a[2:], k.get("sampler") and None), lambda *_, **__: [])
    watch(made, monkeypatch, "judging.predictions.compare_run_predictions", lambda *a: a[3], lambda *_: [])
    watch(made, monkeypatch, "compare.compare_records", lambda *a, **_: a[2])
    watch(made, monkeypatch, "compare.repeats.compare_repeats", lambda *a: a[2:])
    watch(made, monkeypatch, "judging.trees.judge_children", lambda *_: "children")
    watch(made, monkeypatch, "reproduce.answer.annotate", lambda *_, **k: k, lambda *_, **__: ())
    watch(made, monkeypatch, "reproduce.answer.annotate_repeats", lambda *_, **k: k, lambda *_, **__: ())
    watch(made, monkeypatch, "reproduce.answer.with_causes", lambda o, *_: o.explain, lambda _, report, *__: report)
    monkeypatch.setattr("mlflow_repro.judging.causes.find_causes", lambda *_, **__: ())
    monkeypatch.setattr("mlflow_repro.store.store.TrackingStore.read_own_record", lambda *_: make_record())
    stub_launches(made, monkeypatch)
    return made


def watch(world: World, monkeypatch, name: str, note, act=None) -> None:
    """Note what ``note`` makes of the arguments of a function of the package; ``act`` is called in its place."""
    module, _, attribute = f"mlflow_repro.{name}".rpartition(".")
    real = act or getattr(__import__(module, fromlist=[attribute]), attribute)

    def call(*arguments: Any, **named: Any) -> Any:
        world.seen.append((name, note(*arguments, **named)))
        return real(*arguments, **named)

    monkeypatch.setattr(f"mlflow_repro.{name}", call)


def stub_launches(world: World, monkeypatch) -> None:
    """A launch that takes no process: its run is one that is there."""

    def pair(store: Any) -> RunPair:
        return RunPair(reference=store.read_run(IDS["one"]), reproduction=store.read_run(IDS["other"]))

    class Launcher:
        def __init__(self, place: Any, *, session: str, show: Any) -> None:  # noqa: ARG002 - as of the real one
            world.seen.append(("work directory", os.path.dirname(place.path), show))
            self.session = ""

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    def relaunch(**named: Any) -> Any:
        order = named["order"]
        shown = {name: getattr(order.options, name) for name in SHOWN_OF_LAUNCH}
        asked = named["target"].asked.run_id
        world.seen.append(("relaunch", shown, order.judging.rules, named["prepared"].random_state, asked))
        held = Held(reads=("a file of the reference",))
        return SimpleNamespace(**named, run=lambda: ((pair(named["store"]),), None), held=held)

    def prepare(plan: Any, _recorded: Any, _place: Any, _notebook: Any, options: Any, **named: Any) -> Preparation:
        world.seen.append(("code", plan, options.params, options.launch.recurse_submodules, named))
        here = Path()
        return Preparation(plan=plan, work_directory=here, checkout=here, project_directory=here, parameters={})

    def trial(options: ReproduceOptions, parts: Any, judging: Judging) -> Report:
        world.seen.append(("launch", options, sorted(parts.tags), judging))
        store = open_store(options.tracking_uri)
        runs = pair(store)
        comparison = compare_records(runs.reference, runs.reference)
        return Report(plan=None, reference=runs.reference, reproduction=runs.reproduction, comparison=comparison)

    for name in ("reproduce.pipeline.plan_launch", "reproduce.prepare.plan_launch"):
        watch(world, monkeypatch, name, plan_launch)
    choice = Choice(environment=EnvironmentPlan())
    watch(world, monkeypatch, "reproduce.prepare.list_variables", lambda *a: a[2], lambda *_: {})
    watch(world, monkeypatch, "reproduce.prepare.plan_environment", lambda *a: a[2], lambda *_: (choice, None))
    watch(
        world, monkeypatch, "reproduce.environment.prepare_environment", lambda *_, **k: k,
        lambda *_, **__: (Surroundings(), []),
    )  # fmt: skip
    watch(world, monkeypatch, "reproduce.repeats.run_repeats", lambda *a: a[:2], run_repeats)
    watch(world, monkeypatch, "isolate.isolate.DataFinder", lambda *a: a)
    watch(world, monkeypatch, "isolate.isolate.start_parent", lambda *a: a[3])
    monkeypatch.setattr("mlflow_repro.reproduce.prepare.prepare_code", prepare)
    monkeypatch.setattr("mlflow_repro.reproduce.prepare.read_tree", lambda *_: None)
    monkeypatch.setattr("mlflow_repro.reproduce.prepare.read_notebook", lambda *_: None)
    monkeypatch.setattr("mlflow_repro.reproduce.prepare.fetch_random_states", lambda *_, **__: None)
    monkeypatch.setattr("mlflow_repro.reproduce.relaunch.Relaunch", relaunch)
    monkeypatch.setattr("mlflow_repro.launch.launcher.Launcher", Launcher)
    monkeypatch.setattr("mlflow_repro.isolate.launches.reproduce_with", trial)


def list_cases() -> list[tuple[str, str]]:
    cases = []
    for name, kind in KINDS.items():
        own = [one.name for one in options_of(name) if one.name not in SHOWN[name]]
        assert {*own} >= names_of(kind, in_python=False)
        cases += [(name, option) for option in own]
    return cases


_baselines: dict[tuple[str, ...], str] = {}


@pytest.mark.parametrize(("name", "option"), list_cases(), ids=str)
def test_each_option_changes_what_is_done(world: World, name: str, option: str):
    """It reaches a function that uses it, or the answer is another one; the same call twice makes no difference."""
    state = {"include_deleted": "deleted", "allow_failed": "FAILED"}.get(option, "")
    with damaged(world, state):
        place = list(PLACES.get(name, [IDS["one"]]))
        base = [name, *place, *BESIDE.get(option, ())]
        if option in INSTEAD and INSTEAD[option] in place:
            del place[place.index(INSTEAD[option]) : place.index(INSTEAD[option]) + 2]
        changed = [name, *place, *BESIDE.get(option, ()), *CHANGED[option]]
        key = (*base, state)
        if key not in _baselines:
            _baselines[key] = world.ask(*base)
            assert world.ask(*base) == _baselines[key]
        assert world.ask(*changed) != _baselines[key]


def test_what_only_python_has_is_called(world: World):
    """With each line, moment and launch as it comes."""
    lines, moments, parents, trials = [], [], [], []
    mlflow_repro.reproduce_run(IDS["one"], show=lines.append, tell=moments.append)
    assert [row[2] for row in world.seen if row[0] == "work directory"] == [lines.append]
    assert [moment.phase for moment in moments] == [FETCHING, BUILDING, COMPARING]
    hooks = {"show": lines.append, "tell_parent": parents.append, "tell_trial": lambda *told: trials.append(told)}
    for launch in (mlflow_repro.stress_run, mlflow_repro.isolate_run):
        world.seen.clear()
        trials.clear()
        result = launch(IDS["one"], **({"other": IDS["other"]} if launch is mlflow_repro.isolate_run else {}), **hooks)
        assert parents.pop() == result.parent_run_id
        assert trials[0][:2] == (1, result.limit if launch is mlflow_repro.isolate_run else trials[0][1])
        launched = [row[1] for row in world.seen if row[0] == "launch"]
        assert len(launched) >= 2
        assert {options.show for options in launched} == {lines.append}


def test_runs_of_which_nothing_can_be_judged_are_not_said_to_be_the_same(world: World):
    """Before anything is launched."""
    text = world.ask("isolate", *PLACES["isolate"], "--only", "nothing")
    assert text.startswith("3\n")
    assert "whether the two runs differ cannot be said: INCONCLUSIVE" in text
    assert not [row for row in world.seen if row[0] == "launch"]


class damaged:  # noqa: N801 - used as a context manager
    """The reference as it is not to be: deleted, or FAILED."""

    def __init__(self, world: World, state: str) -> None:
        from mlflow import MlflowClient

        self.client, self.state = MlflowClient(tracking_uri=f"sqlite:///{world.root}/runs.db"), state

    def __enter__(self) -> None:
        if self.state == "deleted":
            self.client.delete_run(IDS["one"])
        elif self.state:
            self.client.set_terminated(IDS["one"], self.state)

    def __exit__(self, *_: object) -> None:
        if self.state == "deleted":
            self.client.restore_run(IDS["one"])
        elif self.state:
            self.client.set_terminated(IDS["one"], "FINISHED")
