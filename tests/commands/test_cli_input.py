"""What the command line makes of its input, with nothing launched (groups CLI, PAR, TRK of the table of faults)."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import pytest
from conftest import heed_interrupts

from mlflow_repro import __version__
from mlflow_repro.cli import cli, main
from mlflow_repro.errors import UsageError
from mlflow_repro.launch.launcher import read_backend_config

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Repository

    from mlflow_repro.reproduce.options import ReproduceOptions

RUN_ID = "d1b4b10969174863a2bad1342f6746ce"  # no store has it
CANARY = "hunter2hunter2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def plain(self) -> dict:
        """The one JSON object that is all of standard output."""
        return json.loads(self.out, parse_constant=pytest.fail)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process."""

    def run_command(*arguments: str) -> Answer:
        code = main([*arguments])
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return run_command


@pytest.fixture
def reproduce(run):
    return lambda *arguments: run("reproduce", *arguments)


def assert_one_line(answer: Answer, code: int, words: str) -> None:
    """One clear line on standard error, nothing on standard output, no traceback."""
    assert answer.code == code, answer.err
    assert answer.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", answer.err), answer.err
    assert re.search(words, answer.err), answer.err


@dataclass(frozen=True)
class Store:
    """A SQLite store and the runs in it by what is special about them."""

    path: Path
    runs: dict[str, str]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path}"

    def options(self, name: str) -> list[str]:
        """The options that name a run of this store; a dry run, so that nothing can be launched."""
        return ["--tracking_uri", self.uri, "--run_id", self.runs[name], "--dry-run"]

    def rows(self) -> list[str]:
        """What a launch would add to."""
        with sqlite3.connect(self.path) as connection:
            query = "select experiment_id, name from experiments union all select run_uuid, status from runs"
            return sorted(map(repr, connection.execute(query)))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Store:
    """Runs of every kind that matters, made with MLflow's own client."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("cli") / "mlflow.db"
    shutil.copy(empty_store, path)
    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    whole = {
        "mlflow.source.git.commit": COMMIT,
        "mlflow.source.git.repoURL": str(path.parent / "gone.git"),
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": "main",
    }
    runs: dict[str, str] = {}

    def make(name: str, *, status: str = "FINISHED", without: str = "", loss: float = 0.5, **tags: str) -> None:
        kept = {key: value for key, value in {**whole, **tags}.items() if key != without}
        run_id = client.create_run("0", tags=kept).info.run_id
        client.log_metric(run_id, "loss", loss)
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        runs[name] = run_id

    for status in ("FINISHED", "FAILED", "KILLED", "RUNNING"):
        make(status.lower(), status=status)
    make("deleted", without="mlflow.source.git.commit")
    client.delete_run(runs["deleted"])
    make("no-commit", without="mlflow.source.git.commit")
    make("no-uri", without="mlflow.source.git.repoURL")
    make("redacted", **{"repro.launch.params": '{"api_key": "[redacted]"}'})
    for name, loss in (("same", 0.5), ("other", 0.25)):
        make(name, loss=loss, **{"repro.reference_run_id": runs["finished"]})
    make("Größe", **{"repro.reference_run_id": runs["finished"]})
    client.log_metric(runs["Größe"], "Größe", 1.0)
    return Store(path=path, runs=runs)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


BAD_INPUT = [
    pytest.param(["reproduce"], "give either --run_id or --model", id="CLI-03-no-run-id"),
    pytest.param(
        ["reproduce", "--run_id", RUN_ID, "--model", "models:/m/1"], "either --run_id or --model", id="run-and-model"
    ),
    pytest.param(["reproduce", "--run_id"], "requires an argument", id="CLI-03-no-value"),
    pytest.param(["reproduce", "--run_id", RUN_ID, "--run-id", RUN_ID], "more than once", id="CLI-03-repeated"),
    pytest.param(["reproduce", "--nonsense"], "No such option", id="CLI-03-unknown-option"),
    pytest.param(["reproduce", "--run_id", RUN_ID, "extra"], "unexpected extra argument", id="CLI-03-extra"),
    pytest.param(["nonsense"], "No such command 'nonsense'", id="CLI-03-unknown-command"),
    pytest.param(["--nonsense"], "No such option", id="CLI-03-unknown-option-of-all"),
    pytest.param(["completion", "tcsh"], "'tcsh' is not one of", id="CLI-03-unknown-shell"),
    pytest.param(["reproduce", "--run_id", ""], "give either --run_id", id="TRK-01-empty"),
    pytest.param(["reproduce", "--run_id", "../../etc"], "not a run id", id="TRK-01-path"),
    pytest.param(["reproduce", "--run_id", "x" * 300], "not a run id", id="TRK-01-300-characters"),
    pytest.param(["reproduce", "--run_id", "a\x1b[31m\nb"], r"a\\x1b\[31m\\nb", id="TRK-01-control-characters"),
] + [
    pytest.param(["reproduce", "--run_id", RUN_ID, *options], words, id=f"{row}-{' '.join(options)[:30]!r}")
    for row, options, words in (
        ("CMP-16", ["--rel_tol=-1"], "rel_tol is -1.0"),
        ("CMP-16", ["--rel_tol", "-1"], "rel_tol is -1.0"),
        ("CMP-16", ["--rel_tol=nan"], "rel_tol is nan"),
        ("CMP-16", ["--rel_tol=inf"], "rel_tol is inf"),
        ("CMP-16", ["--rel_tol=abc"], "'abc' is not a valid float"),
        ("CMP-16", ["--rel_tol="], "not a valid float"),
        ("CMP-16", ["--abs-tol=-1e-9"], "abs_tol is -1e-09"),
        ("PAR-11", ["-P", "a=1", "-P", "a=2"], "'a' is given twice"),
        ("PAR-11", ["-P", "a"], "'a' is not of the form NAME=VALUE"),
        ("PAR-11", ["-P", "=1"], "'=1' is not of the form NAME=VALUE"),
        ("PAR-07", ["-P", "a;b=1"], "not a parameter name: 'a;b'"),
        ("PAR-06", ["-P", "a=x\0y"], "NUL character"),
        ("PAR-08", ["-P", "a=" + "x" * 200_000], "longer than"),
        ("URI-20", ["--uri", "https://h/x.zip"], "archive"),
        ("CLI", ["--format", "yaml"], "'yaml' is not one of"),
        ("CLI", ["--env-manager", "docker"], "unknown environment manager 'docker'"),
        ("CLI", ["--experiment_name", ""], "experiment name is empty"),
        ("CLI", ["--experiment-name", " "], "experiment name is empty"),
        ("CLI", ["--timeout", "0"], "timeout is 0.0"),
        ("CLI", ["--timeout", "-5"], "timeout is -5.0"),
        ("CLI", ["--timeout", "nan"], "timeout is nan"),
        ("CLI", ["--timeout", "soon"], "'soon' is not a valid float"),
        ("CLI", ["--resume", "a/b"], "not a run id: 'a/b'"),
        ("TRK", ["--tracking_uri", "sqlite:///:memory:"], "in memory"),
        ("TRK", ["--tracking_uri", "http://[::1"], "not a tracking URI"),
    )
]


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(run, arguments: list[str], words: str):
    assert_one_line(run(*arguments), 2, words)


@pytest.mark.parametrize(("arguments", "words"), [row for row in BAD_INPUT if "--format" not in row.values[0]])
def test_bad_input_with_json_is_one_object_on_stdout(run, arguments: list[str], words: str):
    """CLI-07: also on error; the line for people stays on standard error."""
    answer = run(*arguments[:1], "--format=json", *arguments[1:])
    assert answer.plain["error"]["message"]
    assert (answer.code, answer.plain["exit_code"], answer.plain["comparison"]) == (2, 2, None)
    assert re.fullmatch(r"error: [^\n]+\n", answer.err)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--uri", "ext::sh -c 'touch pwned'"], "can run commands", id="URI-01"),
        pytest.param(["--uri", "--upload-pack=touch pwned"], "begins with '-'", id="URI-02"),
        pytest.param(["--uri", "https://h/r#../x"], "leaves the repository", id="URI-10"),
        pytest.param(["--uri", f"ftp://u:{CANARY}@h/r"], "ftp:// are not accepted", id="URI-12"),
    ],
)
def test_dangerous_uri_is_exit_code_6(reproduce, options: list[str], words: str):
    answer = reproduce("--run_id", RUN_ID, *options)
    assert_one_line(answer, 6, words)
    assert CANARY not in answer.err


@pytest.mark.parametrize(
    "arguments", [[], ["reproduce", "--help"], ["-h"], ["--version"], ["completion", "-h"]], ids=str
)
def test_no_arguments_help_and_version(run, arguments: list[str]):
    """CLI-01: without arguments the usage goes to standard error, with exit code 2."""
    answer = run(*arguments)
    assert answer.code == (0 if arguments else 2)
    text, nothing = (answer.out, answer.err) if arguments else (answer.err, answer.out)
    assert nothing == ""
    assert (__version__ if arguments == ["--version"] else "Usage: mlflow-repro") in text


def test_help_teaches_by_an_example_and_lists_the_exit_codes(run):
    text = run("reproduce", "--help").out
    assert "--uri https://host/repo.git#python/sklearn" in text
    assert all(re.search(rf"^ *{code} +\S", text, re.MULTILINE) for code in (0, 1, 2, 3, 4, 5, 6, 70))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_line_that_turns_it_on(run, shell: str):
    answer = run("completion", shell)
    assert (answer.code, answer.err) == (0, "")
    assert f"_MLFLOW_REPRO_COMPLETE={shell}_source" in answer.out


def options_of_reproduce() -> list[click.Option]:
    return [parameter for parameter in cli.commands["reproduce"].params if isinstance(parameter, click.Option)]


@pytest.mark.parametrize("option", options_of_reproduce(), ids=lambda option: option.name)
def test_option_is_accepted_with_dashes_and_with_underscores(option: click.Option):
    """CLI-02: MLflow's own command line has dashes, the first version of this one had underscores."""
    long = [name for name in option.opts if name.startswith("--")]
    assert {name.replace("_", "-") for name in long} <= set(option.opts)
    assert {"--" + name[2:].replace("-", "_") for name in long} <= set(option.opts)


class TestStore:
    """Runs that cannot be a reference, and stores that cannot be read."""

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            pytest.param("deleted", "is deleted .*--include-deleted", id="TRK-02-deleted"),
            pytest.param("running", "has not ended", id="TRK-02-running"),
            pytest.param("failed", "ended FAILED.*--allow-failed", id="TRK-02-failed"),
            pytest.param("killed", "ended KILLED.*--allow-failed", id="TRK-02-killed"),
            pytest.param("no-commit", "has no git commit", id="no-commit"),
            pytest.param("no-uri", "which git repository.*give it with --uri", id="no-uri"),
            pytest.param("redacted", "-P api_key=VALUE", id="PAR-09-redacted"),
        ],
    )
    def test_run_that_cannot_be_a_reference(self, reproduce, store: Store, name: str, words: str):
        before = store.rows()
        assert_one_line(reproduce(*store.options(name)), 3, words)
        assert store.rows() == before

    def test_unknown_run_id(self, reproduce, store: Store):
        """TRK-01: exit 3, with the store that was asked."""
        answer = reproduce("--tracking_uri", store.uri, "--run_id", RUN_ID)
        assert_one_line(answer, 3, f"'?{RUN_ID}'? not found.*{store.path}")

    @pytest.mark.parametrize(
        ("name", "option", "words"),
        [("deleted", "--include-deleted", "has no git commit"), ("failed", "--allow_failed", "gone.git")],
    )
    def test_unfit_run_is_accepted_when_asked_for(self, reproduce, store: Store, name: str, option: str, words: str):
        """TRK-02: then the next obstacle is met."""
        answer = reproduce(*store.options(name), option)
        assert re.search(words, answer.err)
        assert "ended FAILED" not in answer.err
        assert "is deleted" not in answer.err

    def test_repository_that_is_gone(self, reproduce, store: Store):
        assert_one_line(reproduce(*store.options("finished")), 5, "cannot fetch .*gone.git: no git repository is there")

    def test_missing_database_is_not_made(self, reproduce, tmp_path: Path):
        """Exit 5: a new, empty store would only hide the mistake."""
        answer = reproduce("--tracking_uri", f"sqlite:///{tmp_path}/none.db", "--run_id", RUN_ID)
        assert_one_line(answer, 5, "none.db does not exist")
        assert list(tmp_path.iterdir()) == []

    def test_missing_default_store_is_not_made(self, reproduce, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
        assert_one_line(reproduce("--run_id", RUN_ID), 5, f"{tmp_path}/mlflow.db does not exist")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "content", [b"this is no database, and long enough to be none", None], ids=["text", "folder"]
    )
    def test_file_that_is_no_database(self, reproduce, tmp_path: Path, content: bytes | None):
        path = tmp_path / "x.db"
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
        assert_one_line(reproduce("--tracking_uri", f"sqlite:///{path}", "--run_id", RUN_ID), 5, "x.db")

    def test_relative_database_is_named_absolutely(self, reproduce, store: Store, monkeypatch: pytest.MonkeyPatch):
        """TRK-03: a child with another working directory would make a new one."""
        monkeypatch.chdir(store.path.parent)
        answer = reproduce("--tracking_uri", "sqlite:///mlflow.db", "--run_id", RUN_ID)
        assert_one_line(answer, 3, f"the store is sqlite:///{store.path}")

    def test_option_wins_over_the_environment(self, reproduce, store: Store, monkeypatch: pytest.MonkeyPatch):
        """CLI-04."""
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////nonexistent/x.db")
        assert_one_line(reproduce("--tracking-uri", store.uri, "--run-id", RUN_ID), 3, str(store.path))
        assert_one_line(reproduce("--run-id", RUN_ID), 5, "/nonexistent/x.db")

    @pytest.mark.parametrize("uri", ["http://127.0.0.1:{port}", "http://user:{secret}@127.0.0.1:{port}/"])
    def test_dead_server_is_known_in_seconds(self, reproduce, closed_port: int, uri: str):
        """TRK-05, TRK-06: exit 5 without MLflow's four minutes of retries, and without the password."""
        start = time.monotonic()
        answer = reproduce("--tracking_uri", uri.format(port=closed_port, secret=CANARY), "--run_id", RUN_ID)
        assert_one_line(answer, 5, f"127.0.0.1:{closed_port}/? does not answer")
        assert CANARY not in answer.err
        assert time.monotonic() - start < 10

    def test_file_store_that_mlflow_refuses(self, reproduce, tmp_path: Path):
        """TRK-04: exit 5 with the way out; where MLflow still takes it, the run is simply not in there."""
        (tmp_path / "mlruns").mkdir()
        answer = reproduce("--tracking_uri", (tmp_path / "mlruns").as_uri(), "--run_id", RUN_ID)
        import mlflow.environment_variables

        if hasattr(mlflow.environment_variables, "MLFLOW_ALLOW_FILE_STORE"):
            assert_one_line(answer, 5, "MLFLOW_ALLOW_FILE_STORE=true")
        else:
            assert_one_line(answer, 3, RUN_ID)

    @pytest.mark.parametrize(("uri", "code"), [("ftp://host/x", 2), ("nonsense://x", 2), ("http://", 5)])
    def test_kind_of_store_that_does_not_exist(self, reproduce, uri: str, code: int):
        assert_one_line(reproduce("--tracking_uri", uri, "--run_id", RUN_ID), code, re.escape(uri))

    def test_no_place_for_the_checkout(self, reproduce, store: Store, tmp_path: Path):
        """LCH-20."""
        answer = reproduce(*store.options("finished"), "--work-dir", str(tmp_path / "none"))
        assert_one_line(answer, 3, "no work directory can be made.*--work-dir")


class TestResume:
    """A reproduction that has run already is judged; nothing is launched."""

    @pytest.mark.parametrize(("name", "code", "word"), [("same", 0, "True"), ("other", 1, "False")])
    def test_exit_code_is_the_verdict(self, reproduce, store: Store, name: str, code: int, word: str):
        answer = reproduce(*store.options("finished"), "--resume", store.runs[name])
        assert (answer.code, answer.err) == (code, "")
        assert answer.out.endswith(f"\nRuns equal: {word}\n")

    @pytest.mark.parametrize("flag", [["--json"], ["--format", "json"], ["--format=json"]], ids=str)
    def test_json_is_one_object_and_nothing_else(self, reproduce, store: Store, flag: list[str]):
        """CLI-07."""
        answer = reproduce(*store.options("finished"), "--resume", store.runs["other"], *flag)
        assert (answer.code, answer.err) == (1, "")
        assert (answer.plain["exit_code"], answer.plain["comparison"]["verdict"]) == (1, "DIFFERENT")

    def test_tolerance_is_used(self, reproduce, store: Store):
        answer = reproduce(*store.options("finished"), "--resume", store.runs["other"], "--abs_tol", "0.25")
        assert answer.code == 0
        assert "loss: within tolerance" in answer.out

    def test_run_that_is_no_reproduction_of_it(self, reproduce, store: Store):
        answer = reproduce(*store.options("finished"), "--resume", store.runs["failed"])
        assert_one_line(answer, 2, "is not a reproduction of")

    @pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"Gr\\xf6\\xdfe"), ("latin-1", b"Gr\xf6\xdfe")])
    def test_terminal_that_cannot_show_a_name(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, encoding: str, shown: bytes
    ):
        """CLI-06: in an ASCII locale such a character is an escape, not a crash."""
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", out)
        code = main(["reproduce", *store.options("finished"), "--resume", store.runs["Größe"]])
        out.flush()
        assert code == 1
        assert shown + b": only in the reproduction" in out.buffer.getvalue()


class TestDryRun:
    """The plan, and nothing else happens."""

    @pytest.fixture
    def hub(self, repository: Repository) -> Path:
        return repository.hub

    @pytest.fixture
    def planned(self, reproduce, store: Store, repository: Repository):
        """The dry run of a run that could be reproduced, with more options."""
        from mlflow import MlflowClient

        text = "entry_points: {main: {command: 'python t.py {alpha}', parameters: {alpha: string}}}"
        commit = repository.commit({"ml/MLproject": text, "ml/t.py": ""})
        tags = {
            "mlflow.source.git.commit": commit,
            "mlflow.source.git.repoURL": str(repository.hub),
            "mlflow.source.name": f"{repository.hub}#ml",
            "mlflow.source.type": "PROJECT",
            "mlflow.project.entryPoint": "main",
        }
        client = MlflowClient(tracking_uri=store.uri)
        run_id = client.create_run("0", tags=tags).info.run_id
        client.log_param(run_id, "alpha", "'a b'")
        client.set_terminated(run_id)
        return lambda *more: reproduce("--tracking_uri", store.uri, "--run_id", run_id, "--dry-run", *more)

    def test_prints_the_plan_and_leaves_the_store_as_it_is(self, planned, store: Store):
        before = store.rows()
        answer = planned("--experiment_name", "new one")
        assert (answer.code, answer.err) == (0, "")
        assert "-P 'alpha=a b'" in answer.out
        assert "--experiment-name 'new one'" in answer.out
        assert store.rows() == before

    def test_as_json(self, planned):
        answer = planned("--json", "-P", "alpha=c")
        assert (answer.code, answer.err) == (0, "")
        assert answer.plain["plan"]["parameters"] == {"alpha": "c"}
        assert answer.plain["comparison"] is None

    @pytest.mark.parametrize(
        ("uri", "code", "words"),
        [
            ("{hub}#none", 2, "has no folder 'none'"),
            ("{hub}#", 3, "has no MLproject file"),
            ("{hub}#ml/t.py", 2, "has no folder 'ml/t.py'"),
            ("{hub}.none", 5, "no git repository is there"),
        ],
    )
    def test_place_that_does_not_fit(self, planned, hub: Path, uri: str, code: int, words: str):
        assert_one_line(planned("--uri", uri.format(hub=hub)), code, words)

    def test_work_directory_is_removed(self, planned, tmp_path: Path):
        work = tmp_path / "work"
        work.mkdir()
        assert planned("--work-dir", str(work)).code == 0
        assert planned("--work-dir", str(work), "--uri", f"{tmp_path}/none").code == 5
        assert list(work.iterdir()) == []


class TestTracebacks:
    """For people who mend the program, when they ask for one."""

    def test_is_shown_with_debug_only(self, reproduce):
        options = ["--run_id", RUN_ID, "--tracking_uri", "sqlite:////nonexistent/x.db"]
        assert "Traceback" not in reproduce(*options).err
        answer = reproduce(*options, "--debug")
        assert (answer.code, answer.out) == (5, "")
        assert "Traceback" in answer.err
        assert answer.err.startswith("error: ")

    @pytest.mark.parametrize("flags", [[], ["--debug"]], ids=["plain", "debug"])
    def test_bug_of_ours_is_exit_code_70(self, reproduce, monkeypatch: pytest.MonkeyPatch, flags: list[str]):
        """CLI-09: one line and what to do, without secrets."""

        def fail(_options: ReproduceOptions) -> None:
            raise RuntimeError(f"cannot open https://u:{CANARY}@host/x\nsecond line")

        monkeypatch.setattr("mlflow_repro.reproduce.pipeline.reproduce_with", fail)
        answer = reproduce("--run_id", RUN_ID, *flags)
        assert (answer.code, answer.out) == (70, "")
        assert answer.err.startswith(
            "error: a bug in mlflow-repro: RuntimeError: cannot open https://[redacted]@host/x\n"
        )
        assert ("Traceback" in answer.err) is bool(flags)
        assert CANARY not in answer.err

    def test_bug_of_ours_with_json_is_still_one_object(self, reproduce, monkeypatch: pytest.MonkeyPatch):
        """CLI-07."""
        monkeypatch.setattr("mlflow_repro.reproduce.pipeline.reproduce_with", lambda _options: 1 / 0)
        answer = reproduce("--run_id", RUN_ID, "--json")
        assert (answer.code, answer.plain["exit_code"]) == (70, 70)
        assert "ZeroDivisionError" in answer.plain["error"]["message"]


class TestProcess:
    """What only a process of its own shows."""

    def test_reader_that_is_gone_is_a_quiet_end(self):
        """CLI-05: ``mlflow-repro ... | head``."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow_repro.cli", "reproduce", "--help"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(30) == 141
        assert error == b""

    @pytest.mark.parametrize("module", ["mlflow_repro.reproduce", "mlflow_repro.cli", "mlflow_repro"])
    @pytest.mark.parametrize("name", ["random.py", "mlflow.py", "tempfile.py", "json.py"])
    def test_files_of_the_working_directory_are_not_imported(self, tmp_path: Path, module: str, name: str):
        """CLI-10: ``python -m`` puts it first on the path; a user's random.py is not the standard library's."""
        (tmp_path / name).write_text("raise SystemExit('imported')", encoding="utf-8")
        arguments = ["--run_id", "/"] if module.endswith("reproduce") else ["reproduce", "--run_id", "/"]
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: not a run id: '/'")


def test_the_package_is_the_command(tmp_path: Path):
    """``python -m mlflow_repro COMMAND``, for where the script is not on the PATH."""
    shown = [
        subprocess.run(
            [*program, "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for program in ([sys.executable, "-m", "mlflow_repro"], [sys.executable, "-m", "mlflow_repro.cli"])
    ]
    assert shown == [f"mlflow-repro, version {__version__}\n"] * 2
    usage = subprocess.run(
        [sys.executable, "-m", "mlflow_repro", "compare"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert usage.returncode == 2
    assert "python -m mlflow_repro compare" in usage.stderr


@pytest.mark.parametrize("text", ["{", "[1]", "3", "/nonexistent.json", "not json"])
def test_backend_configuration_that_is_none(text: str):
    with pytest.raises(UsageError, match="backend configuration"):
        read_backend_config(text)


def test_backend_configuration(tmp_path: Path):
    """As JSON, as a file, or none."""
    (tmp_path / "x.json").write_text('{"a": 1}', encoding="utf-8")
    assert read_backend_config("") == {}
    assert read_backend_config('{"a": 1}') == read_backend_config(str(tmp_path / "x.json")) == {"a": 1}


FAKE_MLFLOWS = {
    "CLI-08 interrupted": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 130, "interrupted\n"),
    "CLI-11 too old": (
        "__version__ = '1.30.1'",
        2,
        "error: mlflow 1.30.1 is too old (install 2.9.2 or a newer one: pip install -U mlflow)\n",
    ),
}


@pytest.mark.parametrize(("source", "code", "said"), FAKE_MLFLOWS.values(), ids=FAKE_MLFLOWS)
def test_import_of_mlflow_that_does_not_go_well_is_one_line(tmp_path: Path, source: str, code: int, said: str):
    """Ctrl-C most often arrives while mlflow is being imported, which takes seconds."""
    (tmp_path / "mlflow.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (["-m", "mlflow_repro.reproduce"], ["-m", "mlflow_repro.cli", "reproduce"]):
        answer = subprocess.run(
            [sys.executable, *command, "--run_id", RUN_ID, "--dry-run"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=heed_interrupts,
        )
        # click ends the line in which the terminal shows ^C
        assert (answer.returncode, answer.stdout, answer.stderr.removeprefix("\n")) == (code, "", said)
