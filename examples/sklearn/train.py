"""Train a tree on the diabetes data: `mlflow run . -P max_depth=2`, or `python train.py --max_depth 2`."""

import argparse
import math
import random

import mlflow
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeRegressor

SEED = 42


def main() -> None:
    """Train on three quarters of the data, log how well the rest is predicted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max_depth", type=int, default=3)
    parser.add_argument("--max_leaf_nodes", type=int, default=20)
    parser.add_argument("--note", default="plain", help="free text; it changes nothing")
    args = parser.parse_args()
    print(f"max_depth={args.max_depth} max_leaf_nodes={args.max_leaf_nodes} note={args.note!r}")

    random.seed(SEED)
    np.random.seed(SEED)
    features, target = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features, target, random_state=SEED)
    tree = DecisionTreeRegressor(max_depth=args.max_depth, max_leaf_nodes=args.max_leaf_nodes, random_state=SEED)

    with mlflow.start_run():
        tree.fit(x_train, y_train)
        predicted = tree.predict(x_test)
        # Only what is decided here. `mlflow run` has logged the arguments already, shell-quoted where they
        # need it, and a parameter cannot be logged twice with different texts.
        mlflow.log_params({"criterion": tree.criterion, "train_rows": len(x_train), "leaves": tree.get_n_leaves()})
        mlflow.log_metrics(
            {
                "mae": float(mean_absolute_error(y_test, predicted)),
                "r2": float(r2_score(y_test, predicted)),
                "rmse": math.sqrt(mean_squared_error(y_test, predicted)),
            }
        )


if __name__ == "__main__":
    main()
