"""Train a forest and seed nothing, so that no two runs agree: `mlflow run .`, or `python train.py`."""

import argparse

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split


def main() -> None:
    """Split, train and log, each with the random state that the process happens to have."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n_estimators", type=int, default=20)
    args = parser.parse_args()

    features, target = load_diabetes(return_X_y=True)
    with mlflow.start_run():
        x_train, x_test, y_train, y_test = train_test_split(features, target)
        forest = RandomForestRegressor(n_estimators=args.n_estimators).fit(x_train, y_train)
        predicted = forest.predict(x_test)
        mlflow.log_param("train_rows", len(x_train))
        # Continuous measures: an accuracy of a few dozen rows can agree by luck.
        mlflow.log_metrics(
            {
                "mae": float(mean_absolute_error(y_test, predicted)),
                "r2": float(r2_score(y_test, predicted)),
            }
        )


if __name__ == "__main__":
    main()
