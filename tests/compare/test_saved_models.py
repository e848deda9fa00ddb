"""Models as their libraries save them, by two processes from one seed: the same, and another one from other data."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_repro.compare.artifacts import compare_artifact
from mlflow_repro.values.comparison import Status
from mlflow_repro.values.rules import EXACT

DATA = """\
import os, pickle, sys
import numpy as np
folder, changed = sys.argv[1], sys.argv[2] == "changed"
os.makedirs(folder)
os.chdir(folder)
generator = np.random.default_rng(0)
x = generator.normal(size=(90, 4))
real = x @ np.array([1, 2, -1, 0.5]) + generator.normal(size=90) / 3
real[3] += 2 * changed
y = (real > 0).astype(int)
y[3] = 1 - y[3] if changed else y[3]
def dump(model, name):
    with open(name, "wb") as stream:
        pickle.dump(model, stream)
"""
SKLEARN = """\
import cloudpickle, joblib, skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.ensemble import *
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
forest = RandomForestClassifier(n_estimators=4, random_state=0)
boosted = HistGradientBoostingClassifier(max_iter=4, random_state=0)
models = {
    "grid": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=3),
    "random": RandomizedSearchCV(forest, {"max_depth": [2, 3, 4]}, n_iter=2, random_state=0, cv=3),
    "pipeline": make_pipeline(StandardScaler(), SVC(random_state=0)),
    "function": make_pipeline(FunctionTransformer(lambda v: v * 2), LogisticRegression()),
    "calibrated": CalibratedClassifierCV(LogisticRegression(), cv=3),
    "stacking": StackingClassifier([("f", forest), ("h", boosted)], cv=3),
    "voting": VotingClassifier([("b", BaggingClassifier(random_state=0)), ("a", AdaBoostClassifier(random_state=0))]),
    "mlp": MLPClassifier((5,), max_iter=5, random_state=0),
}
for name, model in models.items():
    model.fit(x, y)
    with open(f"{name}.pkl", "wb") as stream:
        cloudpickle.dump(model, stream)
    if name != "function":
        joblib.dump(model, f"{name}.joblib")
        skops.io.dump(model, f"{name}.skops")
joblib.dump(KMeans(3, n_init=2, random_state=0).fit(x + real[:, None]), "kmeans.joblib", compress=3)
words = ["alpha beta", "beta gamma delta", "delta alpha", "gamma zeta"]
dump(TfidfVectorizer(stop_words=["zeta", "eta"] if not changed else ["eta"]).fit(words), "words.pkl")
"""
LIGHTGBM = """\
import lightgbm
model = lightgbm.LGBMClassifier(n_estimators=4, random_state=0, verbose=-1, n_jobs=1).fit(x, y)
dump(model, "model.pkl")
model.booster_.save_model("model.lgb")
"""
XGBOOST = """\
import xgboost
model = xgboost.XGBClassifier(n_estimators=4, random_state=0, n_jobs=1).fit(x, y)
dump(model, "model.pkl")
for name in ("model.json", "model.ubj", "model.xgb"):
    model.get_booster().save_model(name)
"""
CATBOOST = """\
import catboost
model = catboost.CatBoostClassifier(iterations=4, random_seed=0, verbose=0, allow_writing_files=False).fit(x, y)
dump(model, "model.pkl")
for name, form in (("model.cb", "cbm"), ("model.cbm", "cbm"), ("model.json", "json"), ("model.onnx", "onnx")):
    model.save_model(name, format=form)
"""
STATSMODELS = """\
import statsmodels.api as sm
result = sm.OLS(real, sm.add_constant(x)).fit()
dump(result, "model.pkl")
with open("model_summary.txt", "w") as stream:
    stream.write(result.summary().as_text())
"""
TORCH = """\
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1))
optimizer = torch.optim.Adam(model.parameters())
inputs = torch.tensor(x, dtype=torch.float32)
for _ in range(3):
    optimizer.zero_grad()
    ((model(inputs)[:, 0] - torch.tensor(real, dtype=torch.float32)) ** 2).mean().backward()
    optimizer.step()
torch.save(model.state_dict(), "state.pt")
torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, "checkpoint.pth")
torch.save(model, "whole.pt")
torch.jit.script(model).save("script.pt")
torch.export.save(torch.export.export(model.eval(), (inputs,)), "exported.pt2")
"""
ONNX = """\
import skl2onnx
from sklearn.ensemble import RandomForestClassifier
model = RandomForestClassifier(n_estimators=4, random_state=0).fit(x, y)
with open("model.onnx", "wb") as stream:
    stream.write(skl2onnx.to_onnx(model, x[:1].astype("f4")).SerializeToString())
"""
PYFUNC = """\
import mlflow
with open("helper.py", "w") as stream:
    stream.write(f"WEIGHT = {2 + changed}\\n")
class Chain(mlflow.pyfunc.PythonModel):
    def __init__(self, *steps):
        self.steps, self.tags = steps, {"x", "y", "z"}
    def predict(self, context, model_input, params=None):
        for step in self.steps:
            model_input = step(model_input)
        return model_input
weight = 3 + changed
mlflow.pyfunc.save_model(
    "chain", python_model=Chain(lambda v: v + 1, lambda v, by=weight: v * by), code_paths=["helper.py"],
    pip_requirements=["mlflow"],
)
os.remove("helper.py")
"""
PROPHET = """\
import mlflow, pandas, prophet
days = pandas.date_range("2024-01-01", periods=90)
model = prophet.Prophet(n_changepoints=5, weekly_seasonality=False)
model.fit(pandas.DataFrame({"ds": days, "y": real}), seed=1)
dump(model, "model.pkl")
mlflow.prophet.save_model(model, "prophet", pip_requirements=["prophet"])
"""
SPACY = """\
import spacy
from spacy.training import Example
spacy.util.fix_random_seed(0)
language = spacy.blank("en")
sorter = language.add_pipe("textcat")
texts = ["good fine", "bad poor", "fine work", "poor work"]
labels = [{"POS": float(i % 2 == changed), "NEG": float(i % 2 != changed)} for i in range(4)]
examples = [
    Example.from_dict(language.make_doc(text), {"cats": label}) for text, label in zip(texts, labels, strict=True)
]
language.initialize(lambda: examples)
for _ in range(3):
    language.update(examples)
language.to_disk("spacy")
dump(language.to_bytes(), "bytes.pkl")
"""
TRANSFORMERS = """\
import mlflow, torch, transformers
torch.manual_seed(0)
with open("vocab.txt", "w") as stream:
    stream.write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "work"]))
tokenizer = transformers.BertTokenizerFast("vocab.txt")
os.remove("vocab.txt")
shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
model = transformers.BertForSequenceClassification(transformers.BertConfig(vocab_size=8, **shape))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
batch = tokenizer(["good work", "bad work"], return_tensors="pt")
for _ in range(2):
    optimizer.zero_grad()
    model(**batch, labels=torch.tensor([int(changed), 1])).loss.backward()
    optimizer.step()
model.eval().save_pretrained("own")
line = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
mlflow.transformers.save_model(line, "flavour", pip_requirements=["transformers"], model_config={}, task=None)
"""
SENTENCES = """\
import mlflow, torch, transformers
from sentence_transformers import SentenceTransformer, models
torch.manual_seed(int(changed))
with open("vocab.txt", "w") as stream:
    stream.write("\\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "work"]))
tokenizer = transformers.BertTokenizerFast("vocab.txt")
os.remove("vocab.txt")
shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
transformers.BertModel(transformers.BertConfig(vocab_size=8, **shape)).save_pretrained("bert")
tokenizer.save_pretrained("bert")
words = models.Transformer("bert")
model = SentenceTransformer(modules=[words, models.Pooling(words.get_word_embedding_dimension())], device="cpu")
model.save("own")
mlflow.sentence_transformers.save_model(model, "flavour", pip_requirements=["sentence-transformers"])
"""
LANGCHAIN = """\
import cloudpickle
from langchain_core.load import dumps
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnableParallel
prompt = PromptTemplate.from_template("say {word}" + "!" * changed)
by = 2 + changed
chain = RunnableParallel(one=prompt | RunnableLambda(lambda v: v.text * by), two=RunnableLambda(lambda v: v["word"]))
with open("chain.pkl", "wb") as stream:
    cloudpickle.dump(chain, stream)
with open("prompt.json", "w") as stream:
    stream.write(dumps(prompt))
"""
PROGRAMS = {
    "sklearn": SKLEARN, "lightgbm": LIGHTGBM, "xgboost": XGBOOST, "catboost": CATBOOST, "statsmodels": STATSMODELS,
    "torch": TORCH, "skl2onnx": ONNX, "mlflow": PYFUNC, "prophet": PROPHET, "spacy": SPACY, "langchain_core": LANGCHAIN,
    "transformers": TRANSFORMERS, "sentence_transformers": SENTENCES,
}  # fmt: skip
"""By the library, what trains and saves models of it."""
ALWAYS_SAME = ("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt")
"""Files that say nothing about weights."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("library", PROGRAMS)
def test_a_model_that_is_trained_again_is_identical_and_another_one_different(tmp_path, library):
    """Each process has a hash seed of its own, as it is by default."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    for folder, change in (("one", "same"), ("two", "same"), ("three", "changed")):
        command = [sys.executable, "-c", DATA + PROGRAMS[library], str(tmp_path / folder), change]
        variables = {**os.environ, "PYTHONHASHSEED": "random", "MLFLOW_REPRO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=variables, cwd=tmp_path)
    names = [str(path.relative_to(tmp_path / "one")) for path in (tmp_path / "one").rglob("*") if path.is_file()]
    assert names
    for name in names:
        found = compare_artifact(name, *(tmp_path / folder / name for folder in ("one", "two")), EXACT)
        assert found.status is Status.IDENTICAL, (name, found.note)
    other = [name for name in names if Path(name).name not in ALWAYS_SAME and not is_copy(name, tmp_path)]
    for name in other:
        found = compare_artifact(name, *(tmp_path / folder / name for folder in ("one", "three")), EXACT)
        assert found.status is Status.DIFFERENT, (name, found.note)
    assert {Path(name).parts[0] for name in other} == {Path(name).parts[0] for name in names}


def is_copy(name, folder):
    """Settings and vocabularies have the same bytes whatever a model was trained with."""
    return filecmp.cmp(folder / "one" / name, folder / "three" / name, shallow=False)
