"""The model: what is read, and one step of the descent."""

import numpy as np


def load(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and target of a table whose last column is the target."""
    table = np.loadtxt(path, delimiter=",")
    return table[:, :-1], table[:, -1]


def descend(weights: np.ndarray, features: np.ndarray, target: np.ndarray, rate: float, decay: float) -> np.ndarray:
    """The weights after one step."""
    gradient = 2 * features.T @ (features @ weights - target) / len(target)
    return weights - rate * (gradient + decay * weights)
