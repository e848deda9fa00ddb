"""What the model sees of an article."""

import numpy as np


def build_features(table: np.ndarray, settings: dict) -> tuple[np.ndarray, np.ndarray]:
    """The columns of the table, their products, and a constant; the last column is the target."""
    columns, target = table[:, :-1] / settings["scale"], table[:, -1] / settings["scale"]
    products = columns[:, :1] * columns[:, 1:]
    return np.hstack([columns, products, np.ones((len(columns), 1))]), target
