"""Linear regression by stochastic gradient descent, in numpy."""

import argparse
import json

import mlflow
import numpy as np
from model import descend, load

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch", type=int, default=16)
parser.add_argument("--seed", type=int)
parser.add_argument("--data", default="data.csv")
arguments = parser.parse_args()
if arguments.seed is not None:
    np.random.seed(arguments.seed)
with open("settings.json", encoding="utf-8") as file:
    settings = json.load(file)
features, target = load(arguments.data)
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    weights = np.random.normal(size=features.shape[1])
    for epoch in range(arguments.epochs):
        order = np.random.permutation(len(features))
        for start in range(0, len(order), arguments.batch):
            rows = order[start : start + arguments.batch]
            weights = descend(weights, features[rows], target[rows], arguments.lr, settings["decay"])
        mlflow.log_metric("loss", float(np.mean((features @ weights - target) ** 2)), step=epoch)
