"""The documentation says what the program does: its console blocks are run, its reference is compared with --help."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml
from conftest import Workbench, make_repository, make_workbench

from mlflow_repro.cli import cli
from mlflow_repro.judging.config import read_rules

FLAGS = re.MULTILINE | re.DOTALL
ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages_of(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(part)]


def test_each_page_is_in_the_contents():
    assert sorted(pages_of(SITE["nav"])) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_blocks_are_what_they_say(path: Path, tmp_path: Path):
    """Python compiles, or gives what it shows; YAML and TOML can be read; a shell takes the rest."""
    for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), flags=re.MULTILINE | re.DOTALL):
        if text.startswith(">>>"):
            test = doctest.DocTestParser().get_doctest(text, {}, path.name, str(path), 0)
            assert doctest.DocTestRunner().run(test).failed == 0
        elif language == "python":
            compile(text, str(path), "exec")
        elif language == "yaml":
            yaml.safe_load(text)
        elif language == "sh" and "[options]" not in text:
            subprocess.run(["bash", "-n", "-c", text], check=True)
        elif language == "toml":
            (tmp_path / "rules.toml").write_text(text)
            read_rules(str(tmp_path / "rules.toml"))
        else:
            assert language in ("sh", "console"), f"a block of {language!r}"


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_each_option_that_is_named_exists(name: str):
    """``mlflow-repro NAME --option`` in any page is one that the command has."""
    command = cli.commands[name]
    known = {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    if isinstance(command, click.Group):
        return
    for path in (*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "action.yml"):
        text = path.read_text().replace("\\\n", " ")
        for line in re.findall(rf"mlflow-repro {name} ([^\n`|]*)", text):
            assert set(re.findall(r"(?<!\S)--[\w-]+", line)) <= known, f"{path.name}: {line}"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_tutorial_is_true(tmp_path: Path, empty_store: Path):
    """Every console block in one shell, as a reader types it; numbers and ids may be others."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    blocks = re.findall(r"^```console\n(.*?)^```$", (DOCS / "tutorial.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).splitlines()
    typed = [re.sub(r"^[$>] ?", "", line) for line in lines if re.match(r"[$>]( |$)", line)]
    expected = [line for line in lines if not re.match(r"[$>]( |$)", line)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-u"],
        input="\n".join(typed) + "\n",
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [normalise(line) for line in done.stdout.splitlines()] == [normalise(line) for line in expected], done.stderr


SCRIPT = """\
import mlflow, numpy
with mlflow.start_run() as run:
    for step in range(5):
        mlflow.log_metric("loss", numpy.random.random(), step=step)
print(run.info.run_id)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory, empty_store, preloaded) -> tuple[Workbench, dict[str, str]]:
    """A repository with the run that made the champion, its reproduction, and the words that stand for them."""
    from mlflow import MlflowClient

    root = tmp_path_factory.mktemp("blocks")
    bench = make_workbench(root, empty_store, make_repository(root), preloaded)
    bench.repository.commit({"train.py": SCRIPT})
    reference = bench.train("train.py")
    client = MlflowClient(tracking_uri=f"sqlite:///{bench.store}")
    client.create_registered_model("wine")
    version = client.create_model_version("wine", f"runs:/{reference}/model", run_id=reference)
    client.set_registered_model_alias("wine", "champion", version.version)
    assert bench.reproduce(reference).returncode == 0
    return bench, {
        "REFERENCE": reference,
        "REPRODUCTION...": bench.reproduction_of(reference).info.run_id,
        "REPRODUCTION": bench.reproduction_of(reference).info.run_id,
        "ID": reference,
    }


def blocks_for_a_shell() -> list[tuple[str, str]]:
    """What mlflow-repro is called with in a page, without what the page calls optional."""
    pages = [path for path in sorted(DOCS.rglob("*.md")) if path.name != "tutorial.md"]
    blocks = [
        (path.name, text) for path in pages for text in re.findall(r"^```sh\n(.*?)^```$", path.read_text(), FLAGS)
    ]
    return [(name, re.sub(r" \[[^\]]*\]", "", text)) for name, text in blocks]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("page", "text"), blocks_for_a_shell())
def test_blocks_for_a_shell_do_what_they_are_there_for(trained, page: str, text: str):
    """With ids in place of the words that stand for them."""
    bench, words = trained
    for word, run_id in words.items():
        text = re.sub(rf"(?<!\w){re.escape(word)}(?![\w=])", run_id, text)
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = bench.run("bash", "-eu", "-c", text, cwd=bench.repository.clone, PATH=path)
    assert done.returncode in ((0, 1) if "check" in text else (0,)), done.stderr
    for name in re.findall(r"--output (\S+)", text):
        assert (bench.repository.clone / name).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_helper_for_test_suites_passes(trained, tmp_path: Path):
    """The test that docs/ci.md shows."""
    bench, _ = trained
    (text,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "ci.md").read_text(), FLAGS)
    (tmp_path / "test_champion.py").write_text(text)
    done = bench.run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_champion.py"))
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trace_is_turned_on_as_the_page_says(trained):
    """By the two lines of docs/explain.md, put in front of a script."""
    bench, _ = trained
    (text,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "explain.md").read_text(), FLAGS)
    bench.repository.commit({"traced.py": text + SCRIPT})
    run_id = bench.train("traced.py")
    assert [file.path for file in bench.client().list_artifacts(run_id, "repro") if "trace" in file.path]


def normalise(line: str) -> str:
    """Columns are as wide as their numbers, and those differ from one run to the next."""
    return re.sub(r"[ -]+", " ", re.sub(r"-?\d+\.\d+(?:e-?\d+)?", "NUMBER", line))


SECURITY = (DOCS / "security.md").read_text()


def test_each_sentence_about_security_has_its_test():
    """Each row of the page's tables names tests, and they are there."""
    rows = [
        line
        for line in SECURITY.splitlines()
        if line.startswith("|") and not re.match(r"\|[-|]+$|\| wh(o|at) \|", line)
    ]
    assert len(rows) > 25
    assert [row for row in rows if not re.search(r"`[\w/]+\.py::test_\w+` \|$", row)] == []


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py::test_\w+)`", SECURITY))))
def test_tests_of_security_exist(name: str):
    file, _, function = name.partition("::")
    assert re.search(rf"^ *def {function}\(", (ROOT / "tests" / file).read_text(), flags=re.MULTILINE), name
