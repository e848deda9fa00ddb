"""A random forest of scikit-learn."""

import argparse

import mlflow
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.metrics import mean_squared_error
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--max-depth", type=int, default=4)
parser.add_argument("--trees", type=int, default=10)
parser.add_argument("--random-state", type=int)
arguments = parser.parse_args()
features, target = load_diabetes(return_X_y=True)
split = train_test_split(features, target, random_state=arguments.random_state)
with mlflow.start_run():
    mlflow.log_params(vars(arguments))
    model = RandomForestRegressor(arguments.trees, max_depth=arguments.max_depth, random_state=arguments.random_state)
    model.fit(split[0], split[2])
    mlflow.log_metric("mse", mean_squared_error(split[3], model.predict(split[1])))
