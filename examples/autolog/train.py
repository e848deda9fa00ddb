"""An ordinary training script that MLflow logs by itself: `python train.py`, or `mlflow run .`."""

import random

import mlflow
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SEED = 7

random.seed(SEED)
np.random.seed(SEED)
# Without the model: MLflow would import everything once more to write down what it needs, for half a minute.
mlflow.sklearn.autolog(log_models=False)

features, target = load_breast_cancer(return_X_y=True, as_frame=True)
# No random_state: the split comes from numpy's seed, as it does in most scripts of this kind.
x_train, x_test, y_train, y_test = train_test_split(features, target, stratify=target)

model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
model.fit(x_train, y_train)
print(f"test accuracy: {model.score(x_test, y_test):.4f}")
