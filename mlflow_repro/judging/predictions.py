"""Compare what the models of two runs predict. Each is loaded by a process of its own, which the user has asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.predictions import compare_predictions, unknown_prediction
from mlflow_repro.errors import ReproError
from mlflow_repro.judging.artifacts import pair_files
from mlflow_repro.store.artifacts import fetch_file
from mlflow_repro.system.processes import ProcessTree
from mlflow_repro.text.redact import redact_text
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow_repro.judging.options import PredictionWish
    from mlflow_repro.judging.sides import Side
    from mlflow_repro.store.artifacts import ArtifactFile
    from mlflow_repro.values.rules import Tolerances

_MODEL_FILE = "MLmodel"
_EXAMPLE_KEY = "saved_input_example_info"
_ERROR = "error: "
_LONGEST = 400  # characters of what a model says before it fails
_SIDES = ("reference", "reproduction")


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """The files of one model of both runs, by their paths below its folder."""

    files: tuple[dict[str, ArtifactFile], dict[str, ArtifactFile]] = field(default_factory=lambda: ({}, {}))


def compare_run_predictions(
    reference: Side, reproduction: Side, tolerances: Tolerances, wish: PredictionWish
) -> list[Finding]:
    """One finding for each model that either run has.

    What cannot be loaded, asked or fetched is a finding, too: it cannot be said.
    """
    try:
        pairs = _pair_models(reference, reproduction)
    except (ReproError, OSError) as error:
        return [unknown_prediction("all models", str(error))]
    if not pairs:
        return [unknown_prediction("all models", "neither run logged one")]
    return [_compare_pair(name, pair, tolerances, wish) for name, pair in pairs.items()]


def _pair_models(reference: Side, reproduction: Side) -> dict[str, _Pair]:
    """The models by the name that their artifacts have: each folder that holds a file ``MLmodel``."""
    files = pair_files(reference.folders, reproduction.folders)
    names = [path.rpartition("/")[0] for path in files if PurePosixPath(path).name == _MODEL_FILE]
    outer = [name for name in names if not any(f"{name}/".startswith(f"{other}/") for other in names if other != name)]
    pairs = {name: _Pair() for name in outer}
    for path, pair in files.items():
        name = next((name for name in outer if path.startswith(f"{name}/" if name else "")), None)
        if name is None:
            continue
        for side, file in enumerate(pair):
            if file is not None:
                pairs[name].files[side][path.removeprefix(name).removeprefix("/")] = file
    return pairs


def _compare_pair(name: str, pair: _Pair, tolerances: Tolerances, wish: PredictionWish) -> Finding:
    shown = name or "model"
    for side, status in ((0, Status.EXTRA), (1, Status.MISSING)):
        if _MODEL_FILE not in pair.files[side]:
            note = f"only in the {_SIDES[1 - side]}"
            return Finding(kind="prediction", name=shown, reference=None, reproduction=None, status=status, note=note)
    size = sum(file.size or 0 for files in pair.files for file in files.values())
    if size > wish.limit:
        return unknown_prediction(shown, f"the models have {size} bytes, more than may be read")
    with tempfile.TemporaryDirectory(prefix="mlflow-repro-", dir=wish.work_directory or None) as directory:
        try:
            folders = [
                _fetch_model(files, Path(directory, side)) for side, files in zip(_SIDES, pair.files, strict=True)
            ]
        except (ReproError, OSError) as error:
            return unknown_prediction(shown, f"it cannot be fetched: {error}")
        answers = _predict(folders, os.path.abspath(wish.data) if wish.data else _choose_example(folders), wish.timeout)
        reasons = [
            f"the {side}: {answer}" for side, answer in zip(_SIDES, answers, strict=True) if isinstance(answer, str)
        ]
        if reasons:
            return unknown_prediction(shown, redact_text("; ".join(reasons)))
        return compare_predictions(shown, answers[0], answers[1], tolerances)


def _fetch_model(files: Mapping[str, ArtifactFile], directory: Path) -> Path:
    """The model as a folder of our own: what it does to its files while it is loaded harms no artifact."""
    for path, file in files.items():
        parts = PurePosixPath(path).parts
        target = directory.joinpath("model", *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        found = fetch_file(file, directory / "fetched")
        if not (found.is_symlink() or ".." in parts):
            shutil.copyfile(found, target)
    return directory / "model"


def _choose_example(folders: list[Path]) -> str:
    """The folder whose input example both models are given: the reference's, where it has one."""
    for folder in folders:
        with suppress(OSError):
            if _EXAMPLE_KEY in (folder / _MODEL_FILE).read_text(encoding="utf-8", errors="replace"):
                return str(folder)
    return str(folders[0])


def _predict(folders: list[Path], data: str, timeout: float) -> list[Any]:
    """What each model predicts, arrays by their names, or why it does not. The models are asked at the same time."""
    deadline = time.monotonic() + timeout
    processes: list[subprocess.Popen[bytes]] = []
    trees = []
    try:
        for folder in folders:
            processes.append(_start(folder, data))
            trees.append(ProcessTree(processes[-1].pid))
        return [_wait(process, folder, deadline, timeout) for process, folder in zip(processes, folders, strict=True)]
    finally:
        for process, tree in zip(processes, trees, strict=True):
            tree.end()
            process.wait()


def _start(folder: Path, data: str) -> subprocess.Popen[bytes]:
    job = json.dumps({"model": str(folder), "data": data, "output": str(folder.parent / "output.npz")})
    # It is nobody's training, and what it writes where it stands goes with the folder.
    environment = {**os.environ, "MLFLOW_REPRO_DISABLE": "1", "PYTHONFAULTHANDLER": "1"}
    with (folder.parent / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mlflow_repro.judging.prediction_worker", job],
            cwd=folder.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(process: subprocess.Popen[bytes], folder: Path, deadline: float, timeout: float) -> Any:
    try:
        code = process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        return f"it took longer than {timeout:g} s"
    if code == 0:
        return _read_output(folder.parent / "output.npz")
    lines = (folder.parent / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    said = next((line.removeprefix(_ERROR) for line in reversed(lines) if line.startswith(_ERROR)), "")
    if said:
        return said[:_LONGEST]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"the process that loaded it died by {how}"


def _read_output(path: Path) -> Mapping[str, Any] | str:
    """The arrays that a worker wrote; nothing in them is unpickled."""
    import numpy as np

    try:
        names = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        with np.load(path, allow_pickle=False) as stored:
            return {str(name): stored[f"a{number}"] for number, name in enumerate(names)}
    except (OSError, ValueError, KeyError) as error:
        return f"what it predicted cannot be read: {error}"
