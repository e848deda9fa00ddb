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

from mlflow_repro.cli import cli

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
def test_blocks_are_what_they_say(path: Path):
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
        else:
            assert language in ("sh", "toml", "console"), f"a block of {language!r}"


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


def normalise(line: str) -> str:
    """Columns are as wide as their numbers, and those differ from one run to the next."""
    return re.sub(r"[ -]+", " ", re.sub(r"-?\d+\.\d+(?:e-?\d+)?", "NUMBER", line))
