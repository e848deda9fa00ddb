"""A small network of Keras with dropout."""

import argparse

import keras
import mlflow
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--units", type=int, default=8)
parser.add_argument("--dropout", type=float, default=0.2)
parser.add_argument("--seed", type=int)
arguments = parser.parse_args()
if arguments.seed is not None:
    keras.utils.set_random_seed(arguments.seed)
generator = np.random.default_rng(3)
features = generator.normal(size=(256, 6)).astype("float32")
target = features.sum(axis=1, keepdims=True)
model = keras.Sequential(
    [
        keras.layers.Dense(arguments.units, activation="tanh"),
        keras.layers.Dropout(arguments.dropout),
        keras.layers.Dense(1),
    ]
)
model.compile(optimizer="adam", loss="mse")
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    history = model.fit(features, target, epochs=4, verbose=0)
    for epoch, loss in enumerate(history.history["loss"]):
        mlflow.log_metric("loss", loss, step=epoch)
