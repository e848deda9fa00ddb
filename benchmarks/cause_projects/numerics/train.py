"""A long sum whose last digits depend on the order of its terms, and a map that makes them grow."""

import mlflow
import numpy as np

generator = np.random.default_rng(7)
one, other = generator.random(2_000_000), generator.random(2_000_000)
with mlflow.start_run():
    value = float(np.dot(one, other) / np.sqrt(np.dot(one, one) * np.dot(other, other)))
    value = value - float(np.cbrt(np.exp(-one[:100_000].astype(np.float32))).astype(np.float64).mean()) / 10
    for step in range(60):
        mlflow.log_metric("value", value, step=step)
        value = 3.9 * value * (1 - value)
