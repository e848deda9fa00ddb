"""Cross-validate that tree: `mlflow run . -e evaluate -P folds=4`, or `python evaluate.py --folds 4`."""

import argparse

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold, cross_val_score
from sklearn.tree import DecisionTreeRegressor

SEED = 42


def main() -> None:
    """Log the mean and the spread of r2 over the folds, and r2 of each fold as a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max_depth", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    args = parser.parse_args()

    features, target = load_diabetes(return_X_y=True)
    tree = DecisionTreeRegressor(max_depth=args.max_depth, random_state=SEED)
    folds = KFold(n_splits=args.folds, shuffle=True, random_state=SEED)

    with mlflow.start_run():
        scores = cross_val_score(tree, features, target, cv=folds, scoring="r2")
        mlflow.log_param("scoring", "r2")
        for step, score in enumerate(scores):
            mlflow.log_metric("fold_r2", float(score), step=step)
        mlflow.log_metrics({"cv_r2_mean": float(scores.mean()), "cv_r2_std": float(scores.std())})


if __name__ == "__main__":
    main()
