"""The model: what is read, and one step of the descent."""

import numpy as np


def load(path):
    """Features and target of a table whose last column is the target."""
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1]


def descend(weights, features, target, rate, decay):
    """The weights after one step."""
    gradient = 2 * features.T @ (features @ weights - target) / len(target)
    return weights - rate * (gradient + decay * weights)
