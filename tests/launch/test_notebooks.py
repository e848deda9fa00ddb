"""Notebooks: what is recorded of one, and how it is executed again, by real kernels."""

from __future__ import annotations

import json
import math
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mlflow_repro.errors import CannotJudgeError
from mlflow_repro.launch.capture import find_notebook, is_notebook
from mlflow_repro.launch.notebook import (
    RecordedNotebook,
    _read_parameters,
    check_installed,
    fit_notebook,
    read_recorded_notebook,
    write_kernel,
)
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.sections import NotebookFacts

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Workbench

CELLS = [
    "import random\nimport mlflow",
    "n = 2",
    """\
with mlflow.start_run():
    for step in range(n):
        mlflow.log_metric('draw', random.random(), step=step)
    mlflow.log_param('n', n)""",
    "after = 1",
]


def notebook(cells: list[str], *, parameters: int | None = None) -> str:
    """A notebook's file; the cell of that number is tagged as the one with the parameters."""
    rows = [
        {
            "cell_type": "code",
            "execution_count": None,
            "metadata": {"tags": ["parameters"] if number == parameters else []},
            "outputs": [],
            "source": cell.splitlines(keepends=True),
        }
        for number, cell in enumerate(cells)
    ]
    rows.insert(1, {"cell_type": "markdown", "metadata": {}, "source": "# text"})
    return json.dumps({"cells": rows, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


def execute(bench: Workbench, path: str, *parameters: str) -> str:
    """Execute a notebook as a user does by papermill; the id of the run that it made."""
    words = ["-m", "papermill", path, os.devnull, "-k", "python3", "-l", "python", "--no-progress-bar", *parameters]
    return bench.train(*words)


def plan(**changes) -> LaunchPlan:
    source = Source(uri="https://host.invalid/r.git", commit="c" * 40)
    return LaunchPlan(reference_run_id="a", source=source, **changes)


class TestPlan:
    """What papermill is told to execute."""

    @staticmethod
    def fit(
        tmp_path: Path, recorded: RecordedNotebook, file: str | None = None, **changes
    ) -> tuple[tuple[str, ...], list[str]]:
        checkout, work = tmp_path / "checkout", tmp_path / "work"
        for folder in (checkout / "nb", work):
            folder.mkdir(parents=True, exist_ok=True)
        if file is not None:
            (checkout / "nb/a.ipynb").write_text(file)
        launch = {"command": ("python", "-m", "papermill"), "working_directory": "nb", **changes}
        return fit_notebook(plan(**launch), recorded, checkout, work)

    def test_file_that_begins_with_the_cells(self, tmp_path: Path):
        command, notes = self.fit(
            tmp_path, RecordedNotebook(cells=tuple(CELLS[:3]), path="nb/a.ipynb"), notebook(CELLS)
        )
        assert command[:5] == ("python", "-m", "papermill", "a.ipynb", os.devnull)
        assert notes == []
        assert "--parameters_yaml" not in command

    @pytest.mark.parametrize("tagged", [None, 1])
    def test_parameters_of_papermill_are_given_again(self, tmp_path: Path, tagged: int | None):
        place = 0 if tagged is None else tagged + 1
        cells = [*CELLS[:place], '# Parameters\nm = 1e-07\nn = 2\nname = "it\'s {x}"\n', *CELLS[place:]]
        recorded = RecordedNotebook(cells=tuple(cells), path="nb/a.ipynb")
        words, notes = self.fit(tmp_path, recorded, notebook(CELLS, parameters=tagged), parameters={"n": "9"})
        import yaml

        given = yaml.safe_load(words[words.index("--parameters_yaml") + 1])
        assert given == {"m": 1e-07, "name": "it's {x}"}
        assert words[-3:] == ("--parameters", "n", "9")
        assert notes == []

    @pytest.mark.parametrize(
        ("cells", "path", "words"),
        [
            ([*CELLS[1:3], CELLS[0]], "nb/a.ipynb", "has other cells, or has them in another order"),
            ([CELLS[0], "n = 3", CELLS[2]], "nb/a.ipynb", "has other cells"),
            ([*CELLS, "one more"], "nb/a.ipynb", "has other cells"),
            (CELLS, "nb/other.ipynb", "is not in the commit"),
            (CELLS, "", "its file is not known"),
            (CELLS, "../../outside.ipynb", "is not in the commit"),
        ],
    )
    def test_cells_are_executed_where_the_file_does_not_hold_them(
        self, tmp_path: Path, cells: list[str], path: str, words: str
    ):
        command, (note,) = self.fit(tmp_path, RecordedNotebook(cells=tuple(cells), path=path), notebook(CELLS))
        assert words in note
        made = json.loads((tmp_path / "work/cells.ipynb").read_text())
        assert [cell["source"] for cell in made["cells"]] == cells
        assert command[3] == "../../work/cells.ipynb"

    def test_cell_of_the_parameters_is_marked_among_the_cells(self, tmp_path: Path):
        self.fit(tmp_path, RecordedNotebook(cells=("# Parameters\nn = 1\n", *CELLS)))
        made = json.loads((tmp_path / "work/cells.ipynb").read_text())
        assert [cell["metadata"] for cell in made["cells"]][:2] == [{"tags": ["injected-parameters"]}, {}]

    @pytest.mark.parametrize(
        ("recorded", "words"),
        [
            (RecordedNotebook(), "its file is not known, and it recorded no cells"),
            (RecordedNotebook(cells=("x",), is_whole=False), "too long to be recorded whole"),
            (RecordedNotebook(cells=("x = '[redacted]'",), path="nb/a.ipynb"), "a cell had a secret"),
            (RecordedNotebook(path="nb/b.ipynb"), "its file nb/b.ipynb is not there, and it recorded no cells"),
        ],
    )
    def test_nothing_to_execute(self, tmp_path: Path, recorded: RecordedNotebook, words: str):
        with pytest.raises(CannotJudgeError, match="commit it before it is run") as caught:
            self.fit(tmp_path, recorded, notebook(CELLS))
        assert words in caught.value.message

    def test_parameter_that_was_a_secret_is_asked_for(self, tmp_path: Path):
        recorded = RecordedNotebook(cells=("# Parameters\nkey = '[redacted]'\nn = 1\n", *CELLS))
        with pytest.raises(CannotJudgeError, match=r"'key' was a secret and is not recorded .*-P key=VALUE"):
            self.fit(tmp_path, recorded)
        assert self.fit(tmp_path, recorded, parameters={"key": "k"})[0][-3:] == ("--parameters", "key", "k")

    def test_name_is_no_option(self, tmp_path: Path):
        (tmp_path / "checkout/nb").mkdir(parents=True)
        (tmp_path / "checkout/nb/-x.ipynb").write_text(notebook(CELLS))
        recorded = RecordedNotebook(cells=tuple(CELLS), path="nb/-x.ipynb")
        assert self.fit(tmp_path, recorded)[0][3] == "./-x.ipynb"

    def test_file_with_a_secret_is_known_by_its_redacted_cells(self, tmp_path: Path):
        secret = "token = 'ghp_" + "a" * 36 + "'"
        recorded = RecordedNotebook(cells=("token = '[redacted]'",), path="nb/a.ipynb")
        assert self.fit(tmp_path, recorded, notebook([secret, "more"]))[0][3] == "a.ipynb"

    @pytest.mark.parametrize("text", ["", "no json", "[]", '{"cells": 3}', '{"cells": [{}]}', '{"cells": [3]}'])
    def test_file_that_is_no_notebook(self, tmp_path: Path, text: str):
        _, (note, *_) = self.fit(tmp_path, RecordedNotebook(cells=("x",), path="nb/a.ipynb"), text)
        assert "is no notebook" in note

    @pytest.mark.parametrize(
        ("cell", "parameters"),
        [
            ("# Parameters\na = 1\nb = 'x'\nc = None\nd = [1.5, True]\ne = {'k': -2}\n",
             {"a": 1, "b": "x", "c": None, "d": [1.5, True], "e": {"k": -2}}),
            ("# Parameters\na = float('-inf')\nb = [float('inf')]\n", {"a": -math.inf, "b": [math.inf]}),
            ("# Parameters\n", {}),
            ("# Parameters\na = open('x')\n", {}),
            ("# Parameters\na = \n", {}),
            ("# Parameters\na.b = 1\n", {}),
            ("a = 1\n", {}),
        ],
    )  # fmt: skip
    def test_parameters_are_read_and_never_run(self, cell: str, parameters: dict):
        assert _read_parameters(["x = 1", cell]) == parameters


class TestRecord:
    """What a kernel knows of its notebook."""

    @staticmethod
    def put_shell(monkeypatch: pytest.MonkeyPatch, **shell) -> None:
        monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
        found = SimpleNamespace(get_ipython=lambda: SimpleNamespace(user_ns={}, **shell))
        monkeypatch.setitem(sys.modules, "IPython", found)

    def test_script_that_has_imported_ipykernel_is_none(self, monkeypatch: pytest.MonkeyPatch):
        self.put_shell(monkeypatch)
        assert not is_notebook()

    def test_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        (tmp_path / "nb").mkdir()
        file = tmp_path / "nb/a.ipynb"
        file.write_text("{}")
        monkeypatch.chdir(tmp_path / "nb")
        assert find_notebook({"JPY_SESSION_NAME": "work/nb/a.ipynb"}, []) == str(file)
        assert find_notebook({}, ["python", "papermill", "nb/a.ipynb", "out.ipynb"], str(tmp_path)) == str(file)
        assert find_notebook({"JPY_SESSION_NAME": "gone.ipynb"}, ["jupyter-lab"]) == ""
        assert find_notebook({}, []) == ""

    @pytest.mark.parametrize("content", [None, b"", b"no json", b'{"a": 1}', b"[1]"])
    def test_cells_that_cannot_be_read(self, content: bytes | None):
        facts = NotebookFacts(path="a.ipynb", place="repository", cells=3, cells_kept=3, file="repro/launch/cells.json")
        assert read_recorded_notebook(facts, content) == RecordedNotebook(is_whole=False, path="a.ipynb")
        assert not read_recorded_notebook(None, content).path


@pytest.mark.parametrize("lacking", ["papermill", "ipykernel"])
def test_environment_that_cannot_execute_notebooks(lacking: str):
    """One line, which names the extra."""
    with pytest.raises(CannotJudgeError, match=f"{lacking} is not installed in here .*mlflow-repro.notebook."):
        check_installed({"papermill", "ipykernel", "mlflow"} - {lacking}, "here")
    check_installed(None, "here")
    check_installed({"papermill", "ipykernel"}, "here")


def test_kernel_is_that_of_the_environment(tmp_path: Path):
    kernelspec = pytest.importorskip("jupyter_client.kernelspec")
    variables = write_kernel(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", variables["JUPYTER_PATH"])
        spec = kernelspec.KernelSpecManager().get_kernel_spec("python3")
    assert spec.resource_dir == str(tmp_path / "jupyter/kernels/python3")
    assert spec.argv[0] == "python"


@pytest.mark.timeout(300)
@pytest.mark.real_processes
def test_unseeded_notebook_comes_back(bench: Workbench):
    """From its file, which was never committed, with its parameters; as its cells, where it has been edited since."""
    pytest.importorskip("papermill")
    bench.repository.commit({"nb/README": "notebooks\n"})
    (bench.repository.clone / "nb/train.ipynb").write_text(notebook(CELLS, parameters=1))
    run_id = execute(bench, "nb/train.ipynb", "-p", "n", "5")
    reference = bench.get(run_id)
    assert reference.data.tags["repro.launch.kind"] == "notebook"
    assert reference.data.params == {"n": "5"}
    answer = bench.reproduce(run_id)
    assert answer.returncode == 0, answer.stderr + answer.stdout
    assert "IDENTICAL" in answer.stdout
    assert "Note: " not in answer.stdout
    assert "1 history with 5 points" in answer.stdout

    commit = bench.repository.commit({"nb/train.ipynb": notebook(["raise SystemExit(1)"])})
    for tag in ("repro.git.commit", "mlflow.source.git.commit"):
        bench.client().set_tag(run_id, tag, commit)
    plain = json.loads(bench.reproduce(run_id, "--dry-run", "--json", "-P", "n=7", "--ignore-diff").stdout)
    assert "has other cells" in " ".join(plain["plan"]["caveats"])
    assert plain["plan"]["command"][-3:] == ["--parameters", "n", "7"]


@pytest.mark.timeout(300)
def test_cells_come_back_without_a_file(bench: Workbench, monkeypatch: pytest.MonkeyPatch):
    """A notebook of which nobody knows where it is: its kernel was driven by a program."""
    pytest.importorskip("papermill")
    drive = (
        "import nbformat, nbclient, sys\n"
        "cells = [nbformat.v4.new_code_cell(text) for text in sys.stdin.read().split('---')]\n"
        "nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name='python3').execute()\n"
    )
    bench.repository.commit({"drive.py": drive, "cells.txt": "---".join(CELLS[:3])})
    before = set(bench.run_ids())
    answer = bench.run("bash", "-c", "python drive.py < cells.txt", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    run_id = bench.new_run(before)
    answer = bench.reproduce(run_id)
    assert answer.returncode == 0, answer.stderr + answer.stdout
    assert "Note: the notebook is executed as the cells that were run, in their order: its file is not" in answer.stdout
    monkeypatch.setattr("mlflow_repro.launch.notebook.NEEDED", ("nowhere-to-be-found",))
    answer = bench.reproduce(run_id)
    assert answer.returncode == 3
    assert "pip install 'mlflow-repro[notebook]'" in answer.stderr
