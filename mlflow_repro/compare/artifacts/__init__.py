"""Compare two files of two runs by what is in them. They are only read: nothing in them is run, loaded or followed."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mlflow_repro.compare.artifacts.archives import (
    compare_compressed,
    compare_keras,
    compare_skops,
    compare_tar,
    compare_zip,
)
from mlflow_repro.compare.artifacts.arrays import compare_npy, compare_safetensors
from mlflow_repro.compare.artifacts.blobs import (
    IDENTICAL,
    Blob,
    Budget,
    Context,
    Limits,
    MissingReaderError,
    Outcome,
    TooLargeError,
    UnreadableError,
    compare_bytes,
    explain,
    quote,
    reading,
    too_large,
)
from mlflow_repro.compare.artifacts.documents import (
    ENVIRONMENT_FILES,
    compare_environment_file,
    compare_json,
    compare_json_lines,
    compare_mlmodel,
    compare_notebook,
    compare_yaml,
)
from mlflow_repro.compare.artifacts.hdf5 import compare_hdf5
from mlflow_repro.compare.artifacts.images import compare_image
from mlflow_repro.compare.artifacts.models import MAGIC, compare_catboost, compare_onnx
from mlflow_repro.compare.artifacts.pickles import compare_pickle
from mlflow_repro.compare.artifacts.tables import compare_csv, compare_parquet, compare_tsv
from mlflow_repro.compare.artifacts.tensorflow import compare_checkpoint_index
from mlflow_repro.compare.artifacts.text import (
    LOG_FILES,
    compare_html,
    compare_log,
    compare_pdf,
    compare_summary,
    compare_svg,
    compare_text,
    why_volatile,
)
from mlflow_repro.values.comparison import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mlflow_repro.values.rules import Tolerances


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """A format: the names that its files have (in lower case) or, for any name, how they begin; and its function."""

    name: str
    compare: Callable[[Blob, Blob, Context], Outcome]
    patterns: tuple[str, ...] = ()
    magic: bytes = b""


COMPARATORS = (
    Comparator(name="MLmodel", compare=compare_mlmodel, patterns=("mlmodel",)),
    Comparator(name="environment", compare=compare_environment_file, patterns=ENVIRONMENT_FILES),
    Comparator(name="JSON", compare=compare_json, patterns=("*.json", "*.geojson")),
    Comparator(name="notebook", compare=compare_notebook, patterns=("*.ipynb",)),
    Comparator(name="JSON lines", compare=compare_json_lines, patterns=("*.jsonl", "*.ndjson")),
    Comparator(name="YAML", compare=compare_yaml, patterns=("*.yaml", "*.yml")),
    Comparator(name="CSV", compare=compare_csv, patterns=("*.csv",)),
    Comparator(name="TSV", compare=compare_tsv, patterns=("*.tsv",)),
    Comparator(name="Parquet", compare=compare_parquet, patterns=("*.parquet", "*.pq"), magic=b"PAR1"),
    Comparator(name="npy", compare=compare_npy, patterns=("*.npy",), magic=b"\x93NUMPY"),
    Comparator(name="safetensors", compare=compare_safetensors, patterns=("*.safetensors",)),
    Comparator(name="HDF5", compare=compare_hdf5, patterns=("*.h5", "*.hdf5", "*.hdf"), magic=b"\x89HDF\r\n\x1a\n"),
    Comparator(name="TensorFlow checkpoint", compare=compare_checkpoint_index, patterns=("*.index",)),
    Comparator(name="Keras", compare=compare_keras, patterns=("*.keras",)),
    Comparator(name="CatBoost", compare=compare_catboost, patterns=("*.cbm", "*.cb"), magic=MAGIC),
    Comparator(name="ONNX", compare=compare_onnx, patterns=("*.onnx",)),
    Comparator(name="skops", compare=compare_skops, patterns=("*.skops",)),
    Comparator(
        name="image",
        compare=compare_image,
        patterns=("*.png", "*.jpg", "*.jpeg", "*.gif", "*.bmp", "*.tif", "*.tiff", "*.webp"),
    ),
    Comparator(name="SVG", compare=compare_svg, patterns=("*.svg",)),
    Comparator(name="PDF", compare=compare_pdf, patterns=("*.pdf",), magic=b"%PDF-"),
    Comparator(
        name="tar",
        compare=compare_tar,
        patterns=("*.tar", "*.tar.gz", "*.tgz", "*.tar.bz2", "*.tbz2", "*.tar.xz", "*.txz"),
    ),
    Comparator(name="zip", compare=compare_zip, patterns=("*.zip", "*.npz"), magic=b"PK\x03\x04"),
    Comparator(name="compressed", compare=compare_compressed, patterns=("*.gz", "*.bz2", "*.xz", "*.svgz")),
    Comparator(
        name="pickle",
        compare=compare_pickle,
        patterns=("*.pkl", "*.pickle", "*.joblib", "*.cloudpickle"),
        magic=b"\x80",
    ),
    Comparator(name="HTML", compare=compare_html, patterns=("*.html", "*.htm")),
    Comparator(name="statsmodels summary", compare=compare_summary, patterns=("model_summary.txt",)),
    Comparator(name="log", compare=compare_log, patterns=LOG_FILES),
    Comparator(name="text", compare=compare_text),
)
"""The formats, the first that fits is taken; a file that fits none is compared as text, and what is none as bytes."""


def compare_artifact(
    name: str, reference: Path, reproduction: Path, tolerances: Tolerances, limits: Limits | None = None
) -> Finding:
    """Compare the file ``name`` of both runs: by its digest, by its format, and in the end by its bytes.

    ``name`` is the artifact's path in the run; it alone decides what the files are read as, together with how they
    begin. Whatever is in them, the answer is a finding: one that could not be read deeper says why.
    """
    limits = limits or Limits()
    context = Context(tolerances=tolerances, limits=limits, compare=compare_blobs, budget=Budget(limits.expanded))
    values: list[str | None] = [None, None]
    try:
        blobs = [Blob.from_path(name, path) for path in (reference, reproduction)]
        digests = [blob.digest() for blob in blobs]
        values = [f"{blob.size} bytes, sha256 {digest}" for blob, digest in zip(blobs, digests, strict=True)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a library's remark about a file is nothing that the user can act on
            outcome = IDENTICAL if digests[0] == digests[1] else _compare_content(blobs[0], blobs[1], context)
    except (OSError, UnreadableError) as error:
        reason = str(error) if isinstance(error, UnreadableError) else explain(error)
        outcome = Outcome(status=Status.UNKNOWN, note=f"not compared: {reason}")
        if _have_other_targets((reference, reproduction)):
            targets = [quote(os.readlink(path)) for path in (reference, reproduction)]
            outcome = Outcome(status=Status.DIFFERENT, note=f"links to {targets[0]} and {targets[1]}")
    return Finding(
        kind="artifact",
        name=name,
        reference=values[0],
        reproduction=values[1],
        status=outcome.status,
        note=outcome.note,
    )


def _have_other_targets(paths: Sequence[Path]) -> bool:
    """True for two links that lead elsewhere, absolutely and from the folders that they are in.

    Of links with one target nothing can be said: what is there now may not be what was there.
    """
    if not all(os.path.islink(path) for path in paths):
        return False
    targets = [os.readlink(path) for path in paths]
    folders = [os.path.dirname(path) for path in paths]
    places = [os.path.relpath(os.path.join(*pair), pair[0]) for pair in zip(folders, targets, strict=True)]
    return targets[0] != targets[1] and places[0] != places[1]


def compare_blobs(one: Blob, other: Blob, context: Context) -> Outcome:
    """The same for two blobs, wherever they come from."""
    is_same = one.size == other.size and one.digest() == other.digest()
    return IDENTICAL if is_same else _compare_content(one, other, context)


def _compare_content(one: Blob, other: Blob, context: Context) -> Outcome:
    """What is to be said of two blobs whose bytes are not the same."""
    why = why_volatile(one.name)
    if why:
        return Outcome(status=Status.IGNORED, note=f"not judged: {why}")
    if not (one.size and other.size):
        return compare_bytes(one, other, "it is empty on one side")
    comparator = _choose(one, other)
    try:
        with reading(comparator.name):
            return comparator.compare(one, other, context)
    except MissingReaderError as error:
        # Files of the same content can differ in their bytes, too: where nobody reads them, nobody can say.
        return Outcome(status=Status.UNKNOWN, note=f"the bytes differ, and {error}")
    except TooLargeError as error:
        return too_large(error)
    except UnreadableError as error:
        return compare_bytes(one, other, str(error))


def _choose(one: Blob, other: Blob) -> Comparator:
    base = one.name.replace("\\", "/").rpartition("/")[2].lower()
    for comparator in COMPARATORS:
        if any(fnmatchcase(base, pattern) for pattern in comparator.patterns):
            return comparator
    heads = one.head(), other.head()
    for comparator in COMPARATORS:
        if comparator.magic and all(head.startswith(comparator.magic) for head in heads):
            return comparator
    return COMPARATORS[-1]
