"""Bring real runs back, through the command line."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import sysconfig
import venv
from pathlib import Path

import pytest
from conftest import TINY_TRAIN, git, leave_folder, tree_state

import mlflow_repro

TABLE = """\
+----------+----------+----------+
| Metric   |     Run1 |     Run2 |
|----------+----------+----------|
| length   | 9        | 9        |
| loss     | 0.666667 | 0.666667 |
+----------+----------+----------+
Verdict: IDENTICAL, from 2 metrics (rel:1e-09)
Runs equal: True
"""

HOSTILE = {
    "space": "a b",
    "single quote": "it's",
    "double quote": 'say "hi"',
    "dollar": "$HOME $(touch pwned) `touch pwned`",
    "unicode": "Zürich 東京 🚀",
    "empty": "",
    "leading dash": "-x",
    "option": "--help",
    "braces": "{alpha} {{x}} {",
    "newline": "one\ntwo",
    "tab and backslash": "a\tb\\n",
    "glob, semicolon, tilde, hash": "*;~#&|<>",
    "quoted already": "'a b'",
    "json": '{"a": [1, "b c"]}',
}


@pytest.mark.real_processes
def test_run_of_a_remote_project_in_a_subdirectory_comes_back(tiny, git_server):
    """The main job: ``mlflow run`` of a git URI with a subdirectory, a parameter with a space and a quote."""
    uri = f"{git_server}/hub.git#ml/tiny"
    run_id = tiny.mlflow_run(uri, "-P", "text=it's a b", "-P", "alpha=0.5")
    reference = tiny.get(run_id)
    assert reference.data.tags["repro.git.uri"] == uri
    answer = tiny.reproduce_outside(run_id, "--uri", uri, "--quiet")
    assert answer.stdout.splitlines()[-1] == "Runs equal: True", answer.stderr
    assert answer.returncode == 0
    assert answer.stderr == ""
    reproduction = tiny.reproduction_of(run_id)
    assert json.loads(reproduction.data.tags["argv"]) == json.loads(reference.data.tags["argv"])
    assert reproduction.data.tags["mlflow.source.name"] == uri
    assert reproduction.info.status == "FINISHED"


def test_stdout_is_the_table_and_the_verdict_and_nothing_else(tiny):
    """CLI-12."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=nine char")
    answer = tiny.reproduce(run_id, "--quiet")
    assert answer.stdout == TABLE
    assert answer.stderr == ""


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_launch_parameters_keep_their_exact_values(value):
    """The quoting that MLflow adds is undone exactly (the launches themselves: the next test)."""
    import shlex

    from mlflow_repro.values.run import unquote_param

    assert unquote_param(shlex.quote(value)) == value


@pytest.mark.real_processes
def test_hostile_parameters_reach_the_child_unchanged(tiny):
    """All of them at once, as parameters of one entry point: what `sys.argv` held is the same."""
    names = [f"p{number}" for number in range(len(HOSTILE))]
    command = "python show.py " + " ".join(f"--{name}={{{name}}}" for name in names)
    declared = "".join(f"      {name}: string\n" for name in names)
    project = f'entry_points:\n  main:\n    parameters:\n{declared}    command: "{command}"\n'
    show = (
        "import json, sys, mlflow\n"
        "with mlflow.start_run():\n"
        "    mlflow.set_tag('argv', json.dumps(sys.argv[1:]))\n"
        "    mlflow.log_metric('arguments', len(sys.argv))\n"
    )
    tiny.repository.commit({"hostile/MLproject": project, "hostile/show.py": show})
    options = [word for name, value in zip(names, HOSTILE.values(), strict=True) for word in ("-P", f"{name}={value}")]
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "hostile"), *options)
    expected = [f"--{name}={value}" for name, value in zip(names, HOSTILE.values(), strict=True)]
    assert json.loads(tiny.get(run_id).data.tags["argv"]) == expected
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    reproduction = tiny.reproduction_of(run_id)
    assert json.loads(reproduction.data.tags["argv"]) == expected
    assert reproduction.data.params["p1"] == "it's"
    assert not list(tiny.root.rglob("pwned"))


def test_parameters_that_user_code_logged_are_compared_and_not_passed(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id, "--format", "json")
    report = json.loads(answer.stdout)
    assert report["plan"]["parameters"] == {"alpha": "0.5", "text": "plain"}
    params = {row["name"]: row for row in report["comparison"]["findings"] if row["kind"] == "param"}
    assert params["logged_by_code"]["status"] == "identical"
    assert not params["logged_by_code"]["judged"]


def test_another_entry_point_is_used_again(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-e", "other")
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    reproduction = tiny.reproduction_of(run_id)
    assert reproduction.data.tags["mlflow.project.entryPoint"] == "other"
    assert json.loads(reproduction.data.tags["argv"]) == ["--alpha=7"]


@pytest.mark.real_processes
def test_plain_script_comes_back_with_its_arguments(tiny):
    """``python train.py ...`` in a subdirectory: same argument vector, from a clean checkout, cleanly recorded."""
    run_id = tiny.train("-W", "ignore", "train.py", "--text", "a {b} $c", cwd=tiny.repository.clone / "ml/tiny")
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    tags = tiny.reproduction_of(run_id).data.tags
    assert json.loads(tags["argv"]) == ["--text", "a {b} $c"]
    assert tags["repro.git.dirty"] == "false"
    assert tags["repro.launch.cwd"] == "ml/tiny"
    assert json.loads(tags["repro.launch.argv"])[1:3] == ["-W", "ignore"]
    assert tags["mlflow.source.name"] == "train.py"


def test_project_file_that_we_write_is_no_change_of_the_code(tiny):
    """A script beside an MLproject, itself changed: the reproduction has the same tree, and the code is not blamed."""
    project = tiny.repository.clone / "ml/tiny/MLproject"
    project.write_text(project.read_text().replace("0.5", "0.75"))
    script = TINY_TRAIN.replace("1 / (1", "__import__('time').time_ns() % 1e9 / (1")
    (tiny.repository.clone / "ml/tiny/train.py").write_text(script)
    run_id = tiny.train("train.py", cwd=tiny.repository.clone / "ml/tiny")
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: False\n"), answer.stderr
    assert "the code is another one" not in answer.stdout
    trees = []
    for each in (run_id, tiny.reproduction_of(run_id).info.run_id):
        path = tiny.client().download_artifacts(each, "repro/record.json", str(tiny.elsewhere()))
        code = json.loads(Path(path).read_text())["code"]
        trees.append((code["tree"], code["is_clean"]))
    assert trees[0] == trees[1]
    assert trees[0][1] is False


def test_script_started_by_its_absolute_path_from_elsewhere(tiny):
    run_id = tiny.train(str(tiny.repository.clone / "ml/tiny/train.py"), "--alpha=3", cwd=tiny.root)
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert "started from outside the repository" in answer.stdout


@pytest.mark.real_processes
def test_module_comes_back(tiny):
    run_id = tiny.train("-m", "ml.tiny.train", "--alpha=2")
    answer = tiny.reproduce(run_id)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr


def test_a_reproduction_is_itself_reproducible(tiny):
    first = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=a b")
    assert tiny.reproduce(first).returncode == 0
    second = tiny.reproduction_of(first).info.run_id
    answer = tiny.reproduce(second)
    assert answer.returncode == 0, answer.stderr
    third = tiny.reproduction_of(second)
    assert third.data.params["text"] == "a b"
    assert third.data.tags["repro.git.uri"] == tiny.get(first).data.tags["repro.git.uri"]


def test_a_run_made_without_the_plugin_comes_back_as_far_as_its_tags_allow(tiny):
    """Only the parameters that the entry point declares are passed, unquoted."""
    tiny.environment["MLFLOW_REPRO_DISABLE"] = "1"
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=a b")
    tiny.environment.clear()
    assert not [name for name in tiny.get(run_id).data.tags if name.startswith("repro.")]
    answer = tiny.reproduce(run_id, "--uri", f"{tiny.repository.hub}#ml/tiny")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert "made without mlflow-repro" in answer.stdout
    assert json.loads(tiny.reproduction_of(run_id).data.tags["argv"]) == ["--alpha=0.5", "--text=a b"]


def test_the_second_run_of_a_process_is_compared_with_its_counterpart(tiny):
    script = (
        "import mlflow\n"
        "for number in range(3):\n"
        "    with mlflow.start_run():\n"
        "        mlflow.log_metric('number', number)\n"
    )
    tiny.repository.commit({"several.py": script})
    answer = tiny.run_python("several.py", cwd=tiny.repository.clone)
    assert answer.returncode == 0, answer.stderr
    second = next(run_id for run_id in tiny.run_ids() if tiny.get(run_id).data.metrics["number"] == 1)
    answer = tiny.reproduce(second)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert tiny.reproduction_of(second).data.metrics["number"] == 1


def test_a_run_that_does_not_repeat_says_false_and_by_how_much(tiny):
    """The difference comes from the clock, which nobody can put back."""
    script = TINY_TRAIN.replace("1 / (1 + arguments.alpha)", "__import__('time').time() - 1.7e9")
    tiny.repository.commit({"ml/tiny/train.py": script})
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id)
    assert answer.stdout.splitlines()[-1] == "Runs equal: False"
    assert "loss: " in answer.stdout
    assert "(relative " in answer.stdout
    assert answer.returncode == 1
    assert tiny.reproduce(run_id, "--rel_tol", "0.1").returncode == 0


@pytest.mark.parametrize("form", ["path", "file", "bare-path", "bare-file", "recorded"])
def test_the_users_repository_is_left_as_it_was(tiny, form):
    """HEAD, branch, index, files, remotes, no shallow mark: nothing changes, though the tree is dirty."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    tiny.repository.commit({"later.txt": "a later commit"}, push=False)
    (tiny.repository.clone / "ml/tiny/train.py").write_text("raise SystemExit('edited, not committed')\n")
    git("add", "ml/tiny/train.py", cwd=tiny.repository.clone)
    (tiny.repository.clone / "untracked.txt").write_text("mine\n")
    uris = {
        "path": f"{tiny.repository.clone}#ml/tiny",
        "file": f"{tiny.repository.clone.as_uri()}#ml/tiny",
        "bare-path": f"{tiny.repository.hub}#ml/tiny",
        "bare-file": f"{tiny.repository.hub.as_uri()}#ml/tiny",
    }
    before = tree_state(tiny.repository.clone), tree_state(tiny.repository.hub)
    answer = tiny.reproduce(run_id, *(("--uri", uris[form]) if form in uris else ()))
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stderr
    assert (tree_state(tiny.repository.clone), tree_state(tiny.repository.hub)) == before


def test_concurrent_reproductions_do_not_disturb_each_other(tiny):
    """LCH-19."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=nine char")
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: tiny.reproduce_outside(run_id), range(3)))
    assert [answer.stdout for answer in answers] == [TABLE] * 3, [answer.stderr for answer in answers]


def test_work_directory_is_removed(tiny, tmp_path):
    """And those that killed processes have left, there and in the system's folder."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    work = tmp_path / "work"
    work.mkdir()
    left = [leave_folder(place) for place in (str(work), "")]
    assert all(map(os.path.isdir, left))
    assert tiny.reproduce(run_id, "--work-dir", str(work)).returncode == 0
    assert list(work.iterdir()) == []
    assert not any(map(os.path.exists, left))


def test_dry_run_launches_nothing_and_its_commands_work(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=it's a 'b'")
    runs = tiny.run_ids()
    answer = tiny.reproduce(run_id, "--dry-run")
    assert answer.returncode == 0, answer.stderr
    assert tiny.run_ids() == runs
    commands = answer.stdout.partition("The same by hand:\n")[2]
    typed = tiny.run("bash", "-ec", commands)
    assert typed.returncode == 0, typed.stderr
    by_hand = tiny.new_run(set(runs))
    assert tiny.get(by_hand).data.tags["argv"] == tiny.get(run_id).data.tags["argv"]


STEERING = """\
import os, sys
WHERE = "sqlite:///own.db"
os.environ["MLFLOW_TRACKING_URI"] = WHERE
import mlflow
from mlflow import set_experiment
mlflow.set_tracking_uri(WHERE)
experiment = set_experiment("mine")
assert mlflow.get_experiment(experiment.experiment_id).experiment_id == experiment.experiment_id
for name in sys.argv[1:]:
    with mlflow.start_run(experiment_id=experiment.experiment_id, run_name=name):
        mlflow.log_metric("m", len(name))
"""


def test_script_that_chooses_store_and_experiment_comes_back(bench):
    """LCH-09 to LCH-11: what it says about them is overruled, and that is said; both of its runs stay there."""
    bench.repository.commit({"train.py": STEERING})
    own = bench.repository.clone / "own.db"
    shutil.copy(bench.store, own)
    bench.tracking_uri = f"sqlite:///{own}"
    answer = bench.run_python("train.py", "one", "three", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    second, first = bench.run_ids()
    answer = bench.reproduce(first, "--experiment_name", "again")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert (
        "Note: the script's own set_tracking_uri('sqlite:///own.db'), set_experiment('mine') was overruled"
        in answer.stdout
    )
    again = bench.client().get_experiment_by_name("again").experiment_id
    made = bench.client().search_runs([again])
    assert len(made) == 2
    answer = bench.reproduce(second)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_installed_program_is_started_by_its_name(bench):
    """A console script: it lies in the environment, and what it imports is the repository's."""
    training = "import sys, mlflow\ndef main():\n    with mlflow.start_run(): mlflow.log_metric('m', len(sys.argv))\n"
    bench.repository.commit({"ours.py": training})
    environment, name = bench.root / "environment", "train-ours"
    venv.create(environment, with_pip=False)
    program = environment / "bin" / name
    program.write_text(f"#!{environment}/bin/python\nfrom ours import main\nmain()\n")
    program.chmod(0o755)
    installed = [sysconfig.get_paths()["purelib"], os.path.dirname(os.path.dirname(mlflow_repro.__file__))]
    path = os.pathsep.join([str(bench.repository.clone), *installed])
    before = set(bench.run_ids())
    answer = bench.run(str(program), "a b", "-x", cwd=bench.repository.clone, PYTHONPATH=path)
    assert answer.returncode == 0, answer.stderr
    run_id = bench.new_run(before)
    bench.repository.commit({"ours.py": training.replace("len(sys.argv)", "99")})
    expect = f"the program '{name}', by which the run was started, is not installed here"
    assert expect in bench.reproduce(run_id, "--env", "current").stderr
    tools = os.pathsep.join([os.environ["PATH"], str(program.parent)])
    answer = bench.reproduce_outside(run_id, "--env", "current", PATH=tools, PYTHONPATH=path)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert json.loads(bench.reproduction_of(run_id).data.tags["repro.launch.argv"])[1:] == [str(program), "a b", "-x"]


def test_package_that_is_installed_from_the_working_tree_is_imported_from_the_checkout(bench):
    """``pip install -e .``: what the user has changed there since must not be what the relaunch runs."""
    script = "import mlflow, ours\nwith mlflow.start_run(): mlflow.log_metric('m', ours.VALUE)\n"
    bench.repository.commit({"src/ours/__init__.py": "VALUE = 1\n", "scripts/train.py": script})
    site, source = bench.root / "site", bench.repository.clone / "src"
    (site / "ours-0.1.dist-info").mkdir(parents=True)
    (site / "ours-0.1.dist-info/METADATA").write_text("Name: ours\nVersion: 0.1\n")
    direct = {"url": bench.repository.clone.as_uri(), "dir_info": {"editable": True}}
    (site / "ours-0.1.dist-info/direct_url.json").write_text(json.dumps(direct))
    path = f"{site}{os.pathsep}{source}"
    run_id = bench.train("scripts/train.py", PYTHONPATH=path)
    bench.repository.commit({"src/ours/__init__.py": "VALUE = 2\n"})
    answer = bench.reproduce_outside(run_id, PYTHONPATH=path)
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr


def test_registered_model_is_brought_back_from_the_run_that_made_it(tiny):
    """By version and by alias; what was registered from a file, or never, is one clear line."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    client = tiny.client()
    client.create_registered_model("champion")
    client.create_model_version("champion", f"runs:/{run_id}/model", run_id=run_id)
    client.create_model_version("champion", str(tiny.root))
    client.set_registered_model_alias("champion", "best", "1")
    shutil.rmtree(tiny.repository.clone)
    answer = tiny.reproduce_model("models:/champion@best")
    assert answer.stdout.endswith("Runs equal: True\n"), answer.stdout + answer.stderr
    assert tiny.reproduction_of(run_id)
    answer = tiny.reproduce_model("models:/champion/1", "--dry-run")
    assert f"Reference run: {run_id}" in answer.stdout
    refusals = {
        "models:/champion/2": (3, "was registered without the run that made it"),
        "models:/champion/9": (3, "not found"),
        "models:/nobody@best": (3, "not found"),
        "champion": (2, "not a model: 'champion'"),
    }
    for uri, (code, words) in refusals.items():
        answer = tiny.reproduce_model(uri, "--dry-run")
        assert (answer.returncode, answer.stdout) == (code, "")
        assert words in answer.stderr


def test_a_parameter_can_be_replaced(tiny):
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    answer = tiny.reproduce(run_id, "-P", "alpha=3")
    assert answer.returncode == 1, answer.stderr
    assert "Parameter alpha: '0.5' in the reference, '3' in the reproduction" in answer.stdout


def test_python_api_gives_the_same_report(tiny):
    """`reproduce_run` and `compare_runs` are the command line's own parts."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"))
    uri = f"sqlite:///{tiny.store}"
    report = mlflow_repro.reproduce_run(run_id, tracking_uri=uri)
    assert report.comparison is not None
    assert report.comparison.verdict is mlflow_repro.Verdict.IDENTICAL
    assert report.reproduction is not None
    again = mlflow_repro.compare_runs(run_id, report.reproduction.run_id, tracking_uri=uri)
    assert again == report.comparison
    with pytest.raises(TypeError, match="no option 'precision'"):
        mlflow_repro.reproduce_run(run_id, precision=1)


def test_tracking_server_over_http(tiny, tracking_server):
    tiny.tracking_uri = tracking_server
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=nine char")
    assert tiny.get(run_id).data.tags["repro.capture"] == "complete"
    answer = tiny.reproduce(run_id, "--quiet")
    assert answer.stdout == TABLE, answer.stderr
