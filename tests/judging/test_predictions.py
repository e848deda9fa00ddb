"""Predictions: real models, loaded by processes of their own, and what becomes of those that cannot be."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mlflow_repro.compare.predictions import compare_predictions, unknown_prediction
from mlflow_repro.errors import UsageError
from mlflow_repro.judging.options import JudgeOptions, PredictionWish
from mlflow_repro.judging.prediction_worker import PredictionError, read_data, to_arrays
from mlflow_repro.judging.predictions import _pair_models, _predict, compare_run_predictions
from mlflow_repro.judging.sides import Side
from mlflow_repro.store.artifacts import ArtifactFile, ArtifactFolder
from mlflow_repro.store.store import TrackingStore
from mlflow_repro.values.comparison import Comparison, Status, Verdict
from mlflow_repro.values.rules import EXACT, Rules, Tolerances
from mlflow_repro.values.run import Run

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = """\
import mlflow, numpy as np
from sklearn.linear_model import LinearRegression

x = np.arange(12.0).reshape(6, 2)
for name, shift, example in (("first", 1, x[:3]), ("shifted", 2, x[:3]), ("bare", 1, None)):
    model = LinearRegression().fit(x, x[:, 0] + shift)
    with mlflow.start_run(run_name=name):
        mlflow.log_metric("rows", len(x))
        # Named, so that MLflow starts no process to find them out.
        requirements = ["scikit-learn"]
        mlflow.sklearn.log_model(model, artifact_path="model", input_example=example, pip_requirements=requirements)
"""
DEFAULT = Tolerances()


class TestOutputs:
    """What two models gave for the same inputs."""

    @staticmethod
    def compare(one: dict, other: dict, tolerances: Tolerances = DEFAULT):
        return compare_predictions("m", one, other, tolerances)

    def test_same(self):
        outputs = {"": np.array([1.0, 2.0])}
        found = self.compare(outputs, {"": np.array([1.0, 2.0])})
        assert (found.status, found.reference, found.note) == (Status.IDENTICAL, "[2] float64", "")
        assert found.is_judged

    def test_how_many_differ_and_by_how_much(self):
        found = self.compare({"": np.array([1.0, 2.0, 4.0])}, {"": np.array([1.0, 2.5, np.nextafter(4.0, 5)])})
        assert found.status is Status.DIFFERENT
        assert found.note.startswith(
            "2 of 3 elements differ (shape [3], float64), the first at [1]: 2.0 and 2.5; by at"
        )
        assert "relative 0.2, " in found.note
        assert "ULP" in found.note

    def test_tolerance(self):
        one, other = {"": np.array([1.0])}, {"": np.array([1.0 + 1e-12])}
        assert self.compare(one, other).status is Status.CLOSE
        assert self.compare(one, other, EXACT).status is Status.DIFFERENT

    @pytest.mark.parametrize(
        ("one", "other", "note"),
        [
            ({"": np.zeros((2, 3))}, {"": np.zeros(6)}, "shape [2, 3] and [6]"),
            ({"": np.zeros(2)}, {"": np.zeros(2, np.float32)}, "dtype float64 and float32"),
            ({"a": np.zeros(2), "b": np.zeros(2)}, {"a": np.zeros(2)}, "b: only in the reference"),
            ({"": np.array(["x", "y"])}, {"": np.array(["x", "yellow"])}, "'y' and 'yellow'"),
        ],
    )
    def test_other_outputs(self, one: dict, other: dict, note: str):
        found = self.compare(one, other)
        assert found.status is Status.DIFFERENT
        assert note in found.note

    def test_what_cannot_be_said_makes_no_run_equal(self):
        row = unknown_prediction("m", "it has none")
        comparison = Comparison(reference_run_id="a", reproduction_run_id="b", findings=(row,), rules=Rules())
        assert comparison.verdict is Verdict.INCONCLUSIVE
        assert Comparison.from_dict(json.loads(json.dumps(comparison.to_dict()))) == comparison


class TestInputs:
    """Forms of inputs and outputs."""

    @pytest.mark.parametrize(
        ("name", "text", "values"),
        [
            ("a.csv", "x,y\n1,2\n3,4\n", [[1, 2], [3, 4]]),
            ("a.json", '[{"x": 1, "y": 2}]', [[1, 2]]),
            ("a.json", "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
            ("a.json", '{"dataframe_split": {"columns": ["x"], "data": [[5]]}}', [[5]]),
            ("a.JSON", '{"inputs": [1.5]}', [1.5]),
        ],
    )
    def test_files(self, tmp_path: Path, name: str, text: str, values: list):
        (tmp_path / name).write_text(text)
        assert np.asarray(read_data(str(tmp_path / name))).tolist() == values

    def test_npy(self, tmp_path: Path):
        np.save(tmp_path / "a.npy", np.arange(3))
        assert read_data(str(tmp_path / "a.npy")).tolist() == [0, 1, 2]

    @pytest.mark.parametrize("name", ["a.csv", "a.json", "a.npy", "a.txt"])
    def test_files_that_cannot_be_read(self, tmp_path: Path, name: str):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(PredictionError, match=name):
            read_data(str(tmp_path / name))

    def test_pickle_is_never_read(self, tmp_path: Path):
        np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
        with pytest.raises(PredictionError, match="allow_pickle=False"):
            read_data(str(tmp_path / "a.npy"))

    @pytest.mark.parametrize(
        ("predicted", "arrays"),
        [
            ([1.5, 2.5], {"": [1.5, 2.5]}),
            (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), {"a": [1, 2], "b": ["x", "y"]}),
            (pd.Series([True, False]), {"": [True, False]}),
            ({"a": {"b": [1]}, "c": "text"}, {"a.b": [1], "c": "text"}),
            ([{"k": [1, 2]}, "t"], {"": ['{"k": [1, 2]}', "t"]}),
            (pd.Series([1, None, 2.5], dtype=object).iloc[[0, 2]], {"": [1.0, 2.5]}),
            (pd.DataFrame([[1, 2]], columns=["same", "same"]).iloc[:, :1], {"same": [1]}),
        ],
    )
    def test_outputs_as_arrays(self, predicted, arrays: dict):
        found = to_arrays(predicted)
        assert {name: array.tolist() for name, array in found.items()} == arrays
        assert not any(array.dtype.hasobject for array in found.values())

    def test_outputs_that_are_no_arrays(self):
        with pytest.raises(PredictionError, match="neither numbers nor text"):
            to_arrays([object()])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prediction_data": "x.csv"}, "compare_predictions is not"),
        ({"prediction_data": "x.csv", "compare_predictions": True}, "there is no file"),
        ({"prediction_data": __file__, "compare_predictions": True}, "its name must end in"),
        ({"prediction_timeout": 0.0}, "prediction_timeout is 0.0"),
    ],
)
def test_bad_input(options: dict, words: str):
    with pytest.raises(UsageError, match=words):
        JudgeOptions(**options).read()


def test_of_repeats_they_are_not_compared():
    with pytest.raises(UsageError, match="of repeats are not compared"):
        JudgeOptions(compare_predictions=True).check_repeats()


def test_models_are_paired_by_the_names_of_their_artifacts():
    """A model in a model (a pipeline's part) is no model of its own."""
    paths = ["plot.png", "a/MLmodel", "a/data/x.pkl", "a/components/b/MLmodel", "deep/c/MLmodel"]
    files = {path: ArtifactFile(path=path) for path in paths}
    side = SimpleNamespace(folders=[ArtifactFolder(files=files)])
    pairs = _pair_models(side, side)
    assert {name: sorted(pair.files[0]) for name, pair in pairs.items()} == {
        "a": ["MLmodel", "components/b/MLmodel", "data/x.pkl"],
        "deep/c": ["MLmodel"],
    }


class TestWorkers:
    """Models that go wrong, by MLflow's own form for a model that is code (``loader_module``)."""

    @staticmethod
    def make(folder: Path, code: str) -> Path:
        model = folder / "model"
        (model / "code").mkdir(parents=True)
        (model / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: theirs\n    code: code\n")
        (model / "code/theirs.py").write_text(code)
        return model

    def test_crash_hang_and_error(self, tmp_path: Path):
        """Each is a reason, and the worker is gone."""
        good = (
            "class M:\n    def predict(self, data):\n        return data * 2\ndef _load_pyfunc(path):\n    return M()\n"
        )
        codes = {
            "good": good,
            "crash": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "exit": "import os\nos._exit(0)\n",
            "error": good.replace("return data * 2", "raise ValueError('no such column')"),
        }
        np.save(tmp_path / "x.npy", np.arange(3.0))
        folders = [self.make(tmp_path / name, code) for name, code in codes.items()]
        answers = dict(zip(codes, _predict(folders, str(tmp_path / "x.npy"), 100.0), strict=True))
        assert answers["good"][""].tolist() == [0.0, 2.0, 4.0]
        assert answers["crash"] == "the process that loaded it died by signal 11"
        assert "cannot be read" in answers["exit"]
        assert answers["error"] == "it does not predict: ValueError: no such column"

    def test_model_that_hangs(self, tmp_path: Path):
        folder = self.make(tmp_path / "hangs", f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write('x')\n")
        (answer,) = _predict([folder], str(tmp_path / "x.npy"), 0.01)
        assert answer == "it took longer than 0.01 s"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_models_of_scikit_learn(bench):
    """Logged with their input example; another model; given data; one that was logged without an example."""
    pytest.importorskip("sklearn")
    bench.repository.commit({"train.py": TRAIN})
    answer = bench.run_python("train.py", cwd=bench.repository.clone)
    assert answer.returncode == 0, answer.stderr
    ids = {run.info.run_name: run.info.run_id for run in map(bench.get, bench.run_ids())}

    def compare(one: str, other: str, **options) -> tuple[Status, str]:
        uri = f"sqlite:///{bench.store}"
        sides = (Side(run=Run(run_id=run_id), store=TrackingStore(uri)) for run_id in (one, other))
        (row,) = compare_run_predictions(*sides, Tolerances(), PredictionWish(**options))
        assert (row.kind, row.name) == ("prediction", "model")
        return row.status, row.note

    assert compare(ids["first"], ids["bare"]) == (Status.IDENTICAL, "")  # by the example of the one that has one
    status, note = compare(ids["first"], ids["shifted"])
    assert status is Status.DIFFERENT
    assert note.startswith("3 of 3 elements differ (shape [3], float64), the first at [0]: ")
    status, note = compare(ids["bare"], ids["bare"])
    assert status is Status.UNKNOWN
    assert "the reference: it has no input example" in note

    data = bench.root / "data.csv"
    data.write_text("0,1\n1.0,2.0\n")
    with bench.surroundings():
        command = ("python", "-m", "mlflow_repro.cli", "compare", ids["bare"], ids["shifted"], "--no-artifacts")
        answer = bench.run(*command, "--compare-predictions", "--prediction-data", str(data))
    assert answer.returncode == 1, answer.stderr
    assert "Prediction of model: " in answer.stdout
    assert "the first at [0]: 2.0" in answer.stdout
    assert answer.stderr.startswith("note: --compare-predictions loads the models of both runs")
    assert os.listdir(bench.elsewhere()) == []
