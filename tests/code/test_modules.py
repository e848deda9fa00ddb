"""The program's own modules: found again whenever others are loaded."""

from __future__ import annotations

import importlib
import sys

import pytest

from mlflow_repro.code.modules import own_files


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder on the search path with two modules that nothing has loaded."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine_one", "mine_two"):
        (tmp_path / f"{name}.py").write_text("")
    yield tmp_path
    for name in ("mine_one", "mine_two"):
        sys.modules.pop(name, None)


def test_what_was_loaded_since_the_last_look_is_found(package):
    for count, name in enumerate(("mine_one", "mine_two"), start=1):
        importlib.import_module(name)
        found = [path for path in own_files() if path.startswith(f"{package}/")]
        assert len(found) == count
        assert str(package / f"{name}.py") in found


def test_a_module_in_place_of_another_one_is_found(package):
    """As many modules as before, of the same names."""
    importlib.import_module("mine_one")
    assert str(package / "mine_one.py") in own_files()
    sys.modules["mine_one"] = importlib.import_module("mine_two")
    del sys.modules["mine_two"]
    assert str(package / "mine_two.py") in own_files()
    assert str(package / "mine_one.py") not in own_files()


def test_what_is_given_is_the_callers(package):
    importlib.import_module("mine_one")
    own_files().clear()
    assert str(package / "mine_one.py") in own_files()
