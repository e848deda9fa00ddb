"""Train a Keras network on the digits data: `mlflow run . -P epochs=3`, or `python train.py --epochs 3`."""

import argparse
import os

# Before the import, which reads it: what TensorFlow's C++ side prints (the CPU's features, an attribute that
# op determinism adds) says nothing of this training; what goes wrong is raised.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import mlflow
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class LogEpochs(keras.callbacks.Callback):
    """Logs each epoch's loss and accuracy as one step of a history."""

    def on_epoch_end(self, epoch: int, logs: "dict[str, float] | None" = None) -> None:
        """Log what Keras measured in this epoch."""
        mlflow.log_metrics({name: float(value) for name, value in (logs or {}).items()}, step=epoch)


def main() -> None:
    """Train on three quarters of the digits, log every epoch and how well the rest is recognised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    with mlflow.start_run():
        # In the run and not before it: starting a run may draw its name from Python's random numbers, and
        # Keras draws its layers' seeds from there too.
        keras.utils.set_random_seed(args.seed)
        # Without it an op may add up its threads' parts in the order in which they finish.
        tf.config.experimental.enable_op_determinism()

        images, labels = load_digits(return_X_y=True)
        x_train, x_test, y_train, y_test = train_test_split(images / 16.0, labels, random_state=args.seed)
        model = keras.Sequential(
            [
                keras.Input(shape=(64,)),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dropout(args.dropout),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        mlflow.log_params({"optimizer": "adam", "weights": model.count_params()})
        model.fit(x_train, y_train, epochs=args.epochs, batch_size=32, verbose=0, callbacks=[LogEpochs()])
        loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
        mlflow.log_metrics({"test_loss": float(loss), "test_acc": float(accuracy)})
        print(f"test_acc={accuracy:.4f} test_loss={loss:.4f}")


if __name__ == "__main__":
    main()
