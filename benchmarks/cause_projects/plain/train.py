"""A random walk over words, in plain Python."""

import argparse
import random

import mlflow

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--pull", type=float, default=0.3)
parser.add_argument("--seed", type=int, default=5)
arguments = parser.parse_args()
WORDS = ("apple", "pear", "plum", "quince", "medlar", "cherry", "fig", "olive")
random.seed(arguments.seed)
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    place, start = 0.0, float(len(WORDS))
    for step in range(arguments.steps):
        place += random.uniform(-1, 1) - arguments.pull * (place - start / 8)  # noqa: S311
        if step % 4 == 0:
            mlflow.log_metric("place", place, step=step)
