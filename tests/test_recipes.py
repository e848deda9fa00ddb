"""The scripts of docs/recipes.md, each trained and brought back as the page says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "recipes.md"
NEEDS = {
    "LightGBM": "lightgbm",
    "Keras": "tensorflow",
    "PyTorch": "torch",
    "Optuna": "optuna",
    "notebook": "papermill",
}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.real_processes]


def read_recipes() -> dict[str, dict[str, str]]:
    """The code blocks of each section, by their language."""
    recipes = {}
    for part in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        recipes[title] = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    return recipes


def make_notebook(script: str) -> str:
    """The cells that a script has behind its ``# %%`` lines, as a notebook."""
    import nbformat

    cells = [nbformat.v4.new_code_cell(text.strip()) for text in script.split("# %%\n")[1:]]
    return nbformat.writes(nbformat.v4.new_notebook(cells=cells))


@pytest.mark.parametrize("title", read_recipes())
def test_recipe_comes_back(bench, title: str):
    missing = [name for word, name in NEEDS.items() if word in title and importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{missing[0]} is not installed")
    blocks = read_recipes()[title]
    files = {"train.py": blocks["python"], **({"MLproject": blocks["yaml"]} if "yaml" in blocks else {})}
    if "notebook" in title:
        files = {"train.ipynb": make_notebook(blocks["python"])}
    bench.repository.commit(files)
    if "notebook" in title:
        command = (
            "-m",
            "papermill",
            "train.ipynb",
            str(bench.root / "executed.ipynb"),
            "-k",
            "python3",
            "-l",
            "python",
        )
        trained = bench.run_python(*command, cwd=bench.repository.clone)
        assert trained.returncode == 0, trained.stderr
    elif "yaml" in blocks:
        bench.mlflow_run(str(bench.repository.clone), "-P", "depth=3")
    else:
        trained = bench.run_python("train.py", cwd=bench.repository.clone)
        assert trained.returncode == 0, trained.stderr
    (reference,) = (run for run in map(bench.get, bench.run_ids()) if "mlflow.parentRunId" not in run.data.tags)
    answer = bench.reproduce(reference.info.run_id)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.endswith("Runs equal: True\n")
