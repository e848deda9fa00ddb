"""Train the price model of a small shop, and log how it goes."""

import argparse

import mlflow
import numpy as np
from shop.data import load_table
from shop.extra import nudge
from shop.features import build_features
from shop.model import fit
from shop.settings import read_settings

parser = argparse.ArgumentParser()
parser.add_argument("--rate", type=float, default=0.01)
parser.add_argument("--epochs", type=int, default=8)
parser.add_argument("--seed", type=int)
parser.add_argument("--out", default="")
arguments = parser.parse_args()
if arguments.seed is not None:
    np.random.seed(arguments.seed)
settings = read_settings()
features, target = build_features(load_table(), settings)
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    start = np.random.normal(size=features.shape[1]) + nudge() % 97 / 10
    for epoch, loss in enumerate(fit(features, target, start, arguments.rate, arguments.epochs)):
        mlflow.log_metric("loss", loss, step=epoch)
