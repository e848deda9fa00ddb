"""What the plugin records, in which runs, and that it stays a guest."""

from __future__ import annotations

import json
import os
import platform
import shutil
from types import SimpleNamespace

import pytest
from conftest import git

from mlflow_repro.guest import background
from mlflow_repro.plugin import is_disabled

ALL_KINDS = """\
import random
import numpy as np
random.seed(11)
np.random.seed(12)
import mlflow
from sklearn.linear_model import LinearRegression

def name(run):
    return run.info.run_id

ids = {}
with mlflow.start_run() as parent:
    ids["new"] = name(parent)
    with mlflow.start_run(nested=True) as nested:
        ids["nested"] = name(nested)
mlflow.sklearn.autolog(log_models=False, log_datasets=False)
LinearRegression().fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])
ids["autologged"] = name(mlflow.last_active_run())
with mlflow.start_run(run_id=ids["new"]):
    pass
import json, pathlib
pathlib.Path("ids.json").write_text(json.dumps(ids))
"""


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.real_processes), "http"])
def store(request, bench):
    """The same workbench with a SQLite store, and with a tracking server."""
    if request.param == "http":
        bench.tracking_uri = request.getfixturevalue("tracking_server")
    return bench


def test_new_nested_and_autologged_runs_carry_their_facts(store):
    commit = store.repository.commit({"deep/train.py": ALL_KINDS})
    directory = store.repository.clone / "deep"
    answer = store.run_python("train.py", "--flag", "x", cwd=directory)
    assert answer.returncode == 0, answer.stderr
    assert "mlflow-repro" not in answer.stderr
    ids = json.loads((directory / "ids.json").read_text())
    for kind, run_id in ids.items():
        tags = store.get(run_id).data.tags
        assert tags["repro.git.commit"] == commit, kind
        assert tags["repro.git.uri"] == f"{store.repository.hub}#deep"
        assert tags["repro.git.branch"] == "main"
        assert tags["repro.git.dirty"] == "false"
        assert json.loads(tags["repro.launch.argv"])[1:] == ["train.py", "--flag", "x"]
        assert tags["repro.launch.script"] == "deep/train.py"
        assert tags["repro.launch.cwd"] == "deep"
        assert tags["repro.launch.kind"] == "script"
        assert tags["repro.env.python"] == platform.python_version()
        assert tags["repro.env.mlflow"]
        assert len(tags["repro.env.digest"]) == 16
        assert tags["repro.seed.python"] == "11"
        assert tags["repro.seed.numpy"] == "12"
        assert tags["repro.capture"] == "complete"
        assert tags["mlflow.source.git.branch"] == "main"
        assert tags["mlflow.source.git.repoURL"]
    indexes = [store.get(ids[kind]).data.tags["repro.launch.run_index"] for kind in ("new", "nested", "autologged")]
    assert indexes == ["0", "1", "2"]


def test_child_of_mlflow_run_carries_the_facts_and_the_launch_parameters(tiny):
    """A context provider's tags never reach this run: it was made by the parent process."""
    run_id = tiny.mlflow_run(str(tiny.repository.clone / "ml/tiny"), "-P", "text=a 'b' c")
    tags = tiny.get(run_id).data.tags
    assert json.loads(tags["repro.launch.params"]) == {"alpha": "0.5", "text": "a 'b' c"}
    assert json.loads(tags["repro.launch.argv"])[1:] == ["train.py", "--alpha=0.5", "--text=a 'b' c"]
    assert tags["repro.git.uri"] == f"{tiny.repository.hub}#ml/tiny"
    assert tags["repro.capture"] == "complete"
    assert tags["repro.status"] == "FINISHED"


SEEDS = """\
import random, sys
import numpy as np
BEFORE_IMPORT
import mlflow
AFTER_IMPORT
with mlflow.start_run():
    INSIDE
    mlflow.log_metric("draw", random.random() + np.random.rand())
"""


@pytest.mark.real_processes
@pytest.mark.parametrize("place", ["BEFORE_IMPORT", "AFTER_IMPORT", "INSIDE"])
def test_seeds_are_seen_wherever_they_are_set(bench, place):
    script = SEEDS.replace(place, "random.seed(5); np.random.seed(6)")
    for other in ("BEFORE_IMPORT", "AFTER_IMPORT", "INSIDE"):
        script = script.replace(other, "pass")
    bench.repository.commit({"train.py": script})
    tags = bench.get(bench.train("train.py")).data.tags
    assert (tags.get("repro.seed.python"), tags.get("repro.seed.numpy")) == ("5", "6")


def test_no_seed_is_invented(bench):
    script = SEEDS
    for other in ("BEFORE_IMPORT", "AFTER_IMPORT", "INSIDE"):
        script = script.replace(other, "pass")
    bench.repository.commit({"train.py": script})
    tags = bench.get(bench.train("train.py")).data.tags
    assert not [name for name in tags if name.startswith("repro.seed")]


@pytest.mark.real_processes
def test_the_users_random_numbers_are_the_same_with_and_without_the_plugin(bench):
    """Nothing of ours draws: neither before a run, nor at its start, nor at its end."""
    script = (
        "import random\nimport numpy as np\n"
        "random.seed(9); np.random.seed(9)\n"
        "import mlflow\n"
        "for name in ('first', 'second'):\n"
        "    print(random.random(), np.random.rand())\n"
        "    mlflow.start_run(run_name=name)\n"
        "    print(random.random(), np.random.rand())\n"
        "    mlflow.end_run()\n"
        "    print(random.random(), np.random.rand())\n"
        "    random.seed(3); np.random.seed(4)\n"
    )
    bench.repository.commit({"train.py": script})
    with_plugin = bench.run_python("train.py", cwd=bench.repository.clone)
    without = bench.run_python("train.py", cwd=bench.repository.clone, MLFLOW_REPRO_DISABLE="1")
    assert with_plugin.returncode == without.returncode == 0, with_plugin.stderr
    assert with_plugin.stdout == without.stdout != ""


@pytest.mark.real_processes
def test_disable_variable_turns_it_off_completely(bench):
    """CAP-36."""
    script = (
        "import sys, mlflow\n"
        "with mlflow.start_run(): pass\n"
        "print(sorted(name for name in sys.modules if name.startswith('mlflow_repro')))\n"
    )
    bench.repository.commit({"train.py": script})
    before = set(bench.run_ids())
    answer = bench.run_python("train.py", cwd=bench.repository.clone, MLFLOW_REPRO_DISABLE="true")
    assert answer.stdout.splitlines()[-1] == "['mlflow_repro', 'mlflow_repro.plugin']"
    tags = bench.get(bench.new_run(before)).data.tags
    assert not [name for name in tags if name.startswith("repro.")]


@pytest.mark.parametrize(
    ("word", "is_off"), [("1", True), ("TRUE", True), (" yes ", True), ("on", True), ("", False), ("0", False)]
)
def test_words_that_turn_it_off(monkeypatch, word, is_off):
    monkeypatch.setenv("MLFLOW_REPRO_DISABLE", word)
    assert is_disabled() is is_off


@pytest.mark.real_processes
def test_import_of_mlflow_loads_only_the_hooks(bench):
    """CAP-29: what only a run needs is loaded with the first one; compiling the rules of redaction takes 40 ms."""
    answer = bench.run_python(
        "-c", "import sys, mlflow; print(*(name for name in sys.modules if 'mlflow_repro' in name))"
    )
    loaded = set(answer.stdout.split())
    assert "mlflow_repro.guest.hooks" in loaded
    later = ("text.redact", "guest.recording", "guest.probes", "store", "text.variables")
    assert not loaded & {f"mlflow_repro.{name}" for name in later}


def test_dirty_tree_and_detached_head_are_recorded(bench):
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    commit = bench.repository.commit({"train.py": script})
    git("checkout", "--quiet", "--detach", cwd=bench.repository.clone)
    (bench.repository.clone / "notes.txt").write_text("not committed\n")
    tags = bench.get(bench.train("train.py")).data.tags
    assert tags["repro.git.dirty"] == "true"
    assert tags["repro.git.commit"] == commit
    assert "repro.git.branch" not in tags


def test_credentials_of_the_remote_are_stripped(bench):
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    url = "https://user:s3cr3t-t0k3n@git.example.invalid/team/repo.git?private_token=s3cr3t-t0k3n"
    git("remote", "set-url", "origin", url, cwd=bench.repository.clone)
    run = bench.get(bench.train("train.py"))
    assert run.data.tags["repro.git.uri"] == "https://git.example.invalid/team/repo.git"
    ours = {name: value for name, value in run.data.tags.items() if name.startswith("repro.")}
    assert "s3cr3t" not in str(ours)


def test_secrets_on_the_command_line_are_not_recorded(bench):
    script = "import mlflow\nwith mlflow.start_run(): mlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    run_id = bench.train("train.py", "--api-key", "s3cr3t-one", "--password=s3cr3t-two", "--depth", "3")
    argv = json.loads(bench.get(run_id).data.tags["repro.launch.argv"])
    assert argv[2:] == ["--api-key", "[redacted]", "--password=[redacted]", "--depth", "3"]
    answer = bench.reproduce(run_id)
    assert answer.returncode == 3
    assert "the recorded command line had a secret" in answer.stderr


FAULTS = {
    "no git": {"PATH": "", "is real": True},  # GitPython looks for it when it is imported
    "no repository": {"directory": "outside"},
    "working directory gone": {
        "script": "import os, shutil\nmlflow.search_experiments()\nshutil.rmtree(os.getcwd())\n"
    },
    "arguments that are not UTF-8": {"argument": os.fsdecode(b"caf\xe9"), "is real": True},
    "git that hangs": {
        "is real": True,
        "fake git": "#!/bin/sh\nsleep 60\n",
        "script": "from mlflow_repro.guest import facts\nfacts._CAPTURE_SECONDS = 3.0\n",
    },
    "git that answers nonsense": {"fake git": "#!/bin/sh\nhead -c 100000 /dev/urandom\n"},
    "a probe that exits": {"script": "import mlflow_repro.guest.probes as c; c.probe_code.__globals__['os'] = 1\n"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_whatever_fails_in_the_plugin_the_run_goes_on(bench, tmp_path, fault):
    """The exit code, standard output and the run's own data are as without it; at most one line of warning."""
    script = (
        "import sys\nimport mlflow\nfrom mlflow_repro.guest import probes\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        f"{fault.get('script', '')}"
        "with mlflow.start_run() as run: mlflow.log_metric('m', 1)\n"
        "with mlflow.start_run(): mlflow.log_metric('m', 1)\n"
        "print(run.info.run_id)\n"
    )
    bench.repository.commit({"train.py": script})
    directory = tmp_path / "somewhere"
    shutil.copytree(bench.repository.clone, directory)
    if fault.get("directory") == "outside":
        shutil.rmtree(directory / ".git")
    variables = {}
    python = shutil.which("python", path=None if fault.get("is real") else bench.preloaded.folder())
    if "PATH" in fault:
        variables["PATH"] = fault["PATH"]
        variables["GIT_PYTHON_REFRESH"] = "quiet"
    if "fake git" in fault:
        tools = tmp_path / "tools"
        tools.mkdir()
        (tools / "git").write_text(fault["fake git"])
        (tools / "git").chmod(0o755)
        variables["PATH"] = f"{tools}{os.pathsep}{os.environ['PATH']}"
        variables["GIT_PYTHON_GIT_EXECUTABLE"] = shutil.which("git")
    arguments = [fault["argument"]] if "argument" in fault else []
    answer = bench.run(python, "train.py", f"sqlite:///{bench.store}", *arguments, cwd=directory, **variables)
    assert answer.returncode == 0, answer.stderr
    lines = [line for line in answer.stderr.splitlines() if "mlflow-repro" in line]
    assert len(lines) <= 1, answer.stderr
    assert "Traceback" not in answer.stderr
    run = bench.get(answer.stdout.strip())
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"m": 1.0}


def test_threads_and_forks_record_their_own_runs(bench):
    script = (
        "import os, threading, mlflow\n"
        "mlflow.set_experiment('threads')\n"
        "def work():\n"
        "    with mlflow.start_run(): mlflow.log_metric('m', 1)\n"
        "threads = [threading.Thread(target=work) for _ in range(3)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    work()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    bench.repository.commit({"train.py": script})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    runs = [bench.get(run_id) for run_id in bench.run_ids()]
    assert [run.data.tags["repro.capture"] for run in runs] == ["complete"] * 4


def test_a_fork_waits_while_we_talk_to_the_store(bench):
    """A child that inherits a half-done SQLite transaction of ours could never write: "database is locked"."""
    script = (
        "import os, sqlite3, sys, threading, time, mlflow\n"
        "from mlflow_repro.guest import writer\n"
        "in_transaction, write_tags = threading.Event(), writer.write_tags\n"
        "def slowly(uri, run_id, tags):\n"
        "    connection = sqlite3.connect(sys.argv[1], check_same_thread=False)\n"
        "    connection.execute('begin immediate')\n"
        "    in_transaction.set()\n"
        "    time.sleep(0.5)\n"
        "    connection.rollback()\n"
        "    connection.close()\n"
        "    write_tags(uri, run_id, tags)\n"
        "writer.write_tags = slowly\n"
        "with mlflow.start_run(): pass\n"
        "in_transaction.wait()\n"
        "writer.write_tags = write_tags\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    with mlflow.start_run(): pass\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    bench.repository.commit({"train.py": script})
    answer = bench.run_python("train.py", str(bench.store), cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    runs = [bench.get(run_id) for run_id in bench.run_ids()]
    assert [run.data.tags["repro.capture"] for run in runs] == ["complete"] * 2


def test_a_store_that_hangs_delays_one_fork_and_not_each():
    guard, waits = background.ForkGuard(), []
    guard._lock = SimpleNamespace(acquire=lambda *, timeout: bool(waits.append(timeout)))
    for _ in range(3):
        guard._before()
        guard._after()
    assert waits == [background._FORK_SECONDS, 0.0, 0.0]


@pytest.mark.real_processes
def test_a_run_that_is_left_open_is_completed_at_exit(bench):
    """MLflow ends it by an exit handler, when threads can no longer be started on newer Pythons."""
    script = "import random, mlflow\nmlflow.start_run()\nrandom.seed(77)\nmlflow.log_metric('m', 1)\n"
    bench.repository.commit({"train.py": script})
    tags = bench.get(bench.train("train.py")).data.tags
    assert tags["repro.capture"] == "complete"
    assert tags["repro.seed.python"] == "77"


def test_what_was_written_at_the_start_survives_a_kill(bench):
    script = (
        "import os, signal, time, mlflow\nmlflow.start_run()\ntime.sleep(2)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    bench.repository.commit({"train.py": script})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert answer.returncode == -9
    tags = bench.get(bench.run_ids()[0]).data.tags
    assert tags["repro.git.commit"]
    assert tags["repro.launch.run_index"] == "0"
    assert tags["repro.capture"] == "started"
