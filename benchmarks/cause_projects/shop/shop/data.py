"""The table of prices."""

from pathlib import Path

import numpy as np

TABLE = Path(__file__).parent.parent / "data" / "prices.csv"


def load_table() -> np.ndarray:
    """Size, age and price, a row for each article."""
    return np.loadtxt(TABLE, delimiter=",")
