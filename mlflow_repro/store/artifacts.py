"""List and fetch the files of a run: its artifacts, and the models that it logged (MLflow 3 keeps them elsewhere).

Files of a store that is a folder of this machine are read where they are. Nothing is followed that leads elsewhere.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mlflow_repro.errors import CannotJudgeError, RefusedError, ReproError, UnreachableError
from mlflow_repro.store.places import check_place, find_local, make_place
from mlflow_repro.system.folders import hold_folder
from mlflow_repro.text.redact import redact_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mlflow import MlflowClient
    from mlflow.entities import Run as StoredRun

    from mlflow_repro.store.places import NamedPlace

OWN_FOLDER = "repro"
"""What the plugin writes about a run: facts, which `mlflow_repro.guest.probes` records; not what the run made."""
_MODEL_TAG = "mlflow.log-model.history"
"""A run has it that logged a model among its artifacts; one whose capture is complete has the plugin's record there."""
_DEFAULT_ROOT = "mlruns"
_MOST_FILES = 50_000
_LARGEST_RECORDED = 500_000_000  # bytes; no file of ours comes near
_WEB_PAGE = (b"<!doctype html", b"<html")
_WEB_SUFFIXES = (".html", ".htm", ".xhtml")


@dataclass(frozen=True, kw_only=True)
class ArtifactFile:
    """One file: its path in its folder, its size in bytes (None when the store does not say), and where it is.

    ``local`` is a path of this machine, None for a file that ``download`` has to bring into a folder.
    """

    path: str
    size: int | None = None
    local: Path | None = None
    download: Callable[[str, str], str] | None = None


@dataclass(frozen=True, kw_only=True)
class ArtifactFolder:
    """The artifacts of a run (``name`` is empty) or the files of one model that it logged.

    ``step`` is the one that the model was logged at; ``metrics`` are names, data sets and values of its metrics.
    """

    name: str = ""
    files: Mapping[str, ArtifactFile] = field(default_factory=dict)
    step: int = 0
    metrics: frozenset[tuple[str, str, str]] = frozenset()


def list_folders(client: MlflowClient, uri: str, run: StoredRun) -> list[ArtifactFolder]:
    """What a run left behind: its artifacts first, then its logged models in the order in which they were made.

    ``uri`` is the tracking store's. Raises UnreachableError when a store does not answer or is not on this machine,
    CannotJudgeError when there are more files than anybody compares.
    """
    run_id = run.info.run_id
    with _explained():
        is_sure = run.data.tags.get("repro.capture") == "complete" or _MODEL_TAG in run.data.tags
        place = make_place(client, uri, run_id, run.info.artifact_uri, run.info.experiment_id)
        files = _list_files(client, place, is_run=True, excluded=OWN_FOLDER, is_sure=is_sure)
        folders = [ArtifactFolder(files=files)]
        models = [
            (output.step, client.get_logged_model(output.model_id))
            for output in getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        ]
        models.sort(key=lambda pair: (pair[0], pair[1].creation_timestamp))
        folders += [
            ArtifactFolder(
                name=str(model.name),
                files=_list_files(
                    client, make_place(client, uri, model.model_id, model.artifact_location, model.experiment_id)
                ),
                step=step or 0,
                metrics=frozenset(
                    (row.key, row.dataset_name or "", repr(row.value))
                    for row in model.metrics or ()
                    if row.run_id in (None, "", run_id)
                ),
            )
            for step, model in models
        ]
    if sum(len(folder.files) for folder in folders) > _MOST_FILES:
        raise CannotJudgeError(f"run {run_id} has more than {_MOST_FILES} artifacts")
    return folders


def _list_files(
    client: MlflowClient, place: NamedPlace, *, is_run: bool = False, excluded: str = "", is_sure: bool = False
) -> dict[str, ArtifactFile]:
    """The files of a run or a model by their path; a top folder may be ``excluded``.

    ``is_sure`` says that there are some.
    """
    local = find_folder(place)
    if local is not None:
        found = _walk_local(local, is_sure=is_sure)
    else:
        found = _walk_remote(*_open_folder(client, place, is_run=is_run))
    files = {}
    for file in found:
        if file.path.partition("/")[0] != excluded:
            files[file.path] = file
        if len(files) > _MOST_FILES:
            break
    return files


def find_folder(place: NamedPlace) -> Path | None:
    """`check_place`; a folder that is not there harms nobody, and is named where the artifacts are looked for."""
    try:
        return check_place(place)
    except RefusedError:
        path = find_local(place.uri)
        if path is None or os.path.lexists(path):
            raise
        return path


def read_local(folder: Path, path: str) -> bytes | None:
    """The content of a file in a folder without links, None where it is not there.

    Raises CannotJudgeError for a link on the way to it: it may lead anywhere.
    """
    file = folder / path
    if not os.path.lexists(file):
        return None
    if os.path.realpath(file) != str(file):
        raise CannotJudgeError(f"{path} in {folder} is a link, which may lead anywhere", "it was replaced")
    return _read_recorded(file, path) if file.is_file() else None


def _read_recorded(file: Path, path: str) -> bytes:
    """A file that the plugin wrote, by its size. Raises CannotJudgeError."""
    if file.stat().st_size > _LARGEST_RECORDED:
        raise CannotJudgeError(f"{path} has {file.stat().st_size:,} bytes, too many to be ours", "it was replaced")
    return file.read_bytes()


def open_reader(client: MlflowClient, place: NamedPlace) -> Callable[[str], bytes | None]:
    """What reads one artifact of a run by its path, None where it is not there; a folder of them is listed once."""
    local = find_folder(place)
    if local is not None:
        return partial(read_local, local)
    list_path, download = _open_folder(client, place, is_run=True)
    list_once = cache(lambda folder: {file.path for file in list_path(folder)})

    def read(path: str) -> bytes | None:
        if path not in list_once(path.rpartition("/")[0]):
            return None
        with hold_folder() as folder:
            return _read_recorded(Path(download(path, folder.path)), path)

    return read


def _open_folder(
    client: MlflowClient, place: NamedPlace, *, is_run: bool
) -> tuple[Callable[[str], Any], Callable[[str, str], str]]:
    """What lists a folder of ``place``, and what downloads a file of it into a folder of this machine."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if is_run and not hasattr(client, "list_logged_model_artifacts"):  # MLflow 2
        run_id = place.owner
        return (lambda path: client.list_artifacts(run_id, path)), partial(client.download_artifacts, run_id)
    # Not the client: from MLflow 3 on it adds the models of a run, which it looks for in another tracking store.
    # MLflow 3.0 takes no tracking store here, and uses its default one.
    named = {"tracking_uri": place.store} if "tracking_uri" in signature(get_artifact_repository).parameters else {}
    repository = get_artifact_repository(place.uri, **named)
    return repository.list_artifacts, repository.download_artifacts


def _walk_local(root: Path, *, is_sure: bool) -> Iterator[ArtifactFile]:
    """The files below ``root``; a link is a file here, which whoever reads it will refuse."""
    if not root.is_dir():
        if is_sure or not _base_of(root).is_dir():
            raise UnreachableError(f"the folder {root} is not on this machine", "compare where the artifacts are")
        return
    stack = [str(root)]
    while stack:
        folder = stack.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                    continue
                path = PurePosixPath(os.path.relpath(entry.path, root)).as_posix()
                size = entry.stat(follow_symlinks=False).st_size
                yield ArtifactFile(path=path, size=size, local=Path(entry.path))


def _base_of(root: Path) -> Path:
    """The folder of this machine that there is before the first artifact: MLflow makes all that is below it with that.

    The folder of a run lies in that of its experiment, that of a model one deeper.
    """
    experiment = root.parents[2] if root.parents[1].name == "models" else root.parents[1]
    return experiment.parents[1] if experiment.parent.name == _DEFAULT_ROOT else experiment.parent


def _walk_remote(list_path: Callable[[str], Any], download: Callable[[str, str], str]) -> Iterator[ArtifactFile]:
    stack = [""]
    seen = set()
    while stack:
        folder = stack.pop()
        for entry in list_path(folder):
            if entry.path in seen:  # a server that lists a folder inside itself
                continue
            seen.add(entry.path)
            if entry.is_dir:
                stack.append(entry.path)
            else:
                yield ArtifactFile(path=entry.path, size=entry.file_size, download=download)


def fetch_file(file: ArtifactFile, directory: Path) -> Path:
    """The file on this machine: where it is, or a copy in ``directory``, which is made and emptied.

    Raises UnreachableError, CannotJudgeError for a name that leads out of the folder and for a copy that is not of the
    size that was announced or, where none was, is a page for people in place of the file.
    """
    if file.local is not None:
        if file.local.is_symlink():
            raise CannotJudgeError("it is a link, which may lead anywhere")
        return file.local
    if file.download is None:
        raise CannotJudgeError("nobody knows where it is")
    parts = PurePosixPath(file.path).parts
    if ".." in parts or "\\" in file.path or "\0" in file.path or file.path.startswith("/"):
        raise CannotJudgeError("its name leads out of the folder")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with _explained():
        path = Path(file.download(file.path, str(directory)))
    if path.is_symlink() or not path.is_file() or not path.resolve().is_relative_to(directory.resolve()):
        raise CannotJudgeError("what was fetched is not a file")
    if file.size is not None and path.stat().st_size != file.size:
        raise CannotJudgeError(f"{path.stat().st_size} bytes arrived, of {file.size}")
    if file.size is None and _is_web_page(path) and not file.path.lower().endswith(_WEB_SUFFIXES):
        raise CannotJudgeError("a web page arrived in its place")
    return path


def _is_web_page(path: Path) -> bool:
    """True for what a proxy answers with who wants people to sign in first."""
    with path.open("rb") as stream:
        return stream.read(256).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_WEB_PAGE)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn whatever MLflow and the libraries of an artifact store raise into UnreachableError."""
    try:
        yield
    except ReproError:
        raise
    except Exception as error:
        text = redact_text(str(error)).strip().partition("\n")[0][:300]
        raise UnreachableError(f"the artifact store failed: {text or type(error).__name__}") from error
