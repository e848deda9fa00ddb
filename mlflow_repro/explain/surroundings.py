"""Suspects around the program: packages, Python, environment variables, locale."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow_repro.explain.evidence import Suspect, count, shorten
from mlflow_repro.explain.files import is_temporary
from mlflow_repro.explain.fixes import give_environment_command, give_variable_lines
from mlflow_repro.text.redact import redact_named
from mlflow_repro.text.versions import is_same_release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow_repro.explain.evidence import Evidence
    from mlflow_repro.values.comparison import Finding

# What results most often depend on, and how much a change of version may change them.
_TELLING = {
    "numpy": 0.6, "scipy": 0.5, "scikit-learn": 0.7, "pandas": 0.4, "torch": 0.7, "tensorflow": 0.7,
    "tensorflow-cpu": 0.7, "keras": 0.7, "jax": 0.7, "jaxlib": 0.7, "xgboost": 0.7, "lightgbm": 0.7, "catboost": 0.7,
    "transformers": 0.6, "tokenizers": 0.5, "datasets": 0.4, "statsmodels": 0.6, "polars": 0.4, "pyarrow": 0.2,
    "numba": 0.4, "torchvision": 0.5,
}  # fmt: skip
# Of a training they serve the tracking, the web or the build, and compute nothing of it.
_PLUMBING = re.compile(
    r"mlflow.*|opentelemetry-.*|sqlalchemy|alembic|fastapi|starlette|uvicorn|gunicorn|flask.*|werkzeug|requests|urllib3|certifi"
    r"|charset-normalizer|idna|click|rich|pygments|packaging|setuptools|pip|wheel|uv|docker|databricks-sdk|gitpython"
    r"|gitdb|smmap|protobuf|grpcio|pydantic.*|typing-.*|annotated-.*|anyio|sniffio|h11|httpx|httpcore|cryptography"
    r"|cffi|pycparser|google-auth|importlib-metadata|zipp|jinja2|markupsafe|mako|sqlparse|cachetools|psutil|tabulate"
    r"|pytest.*|hypothesis|ruff|mypy.*|coverage|tqdm|charset-normalizer|pysocks|six|python-dateutil|tzdata|filelock|fsspec"
)
_SHOWN = 8
_THREADS = re.compile(
    r"(?:OMP|GOMP|KMP|MKL|OPENBLAS|GOTO|BLIS|NUMEXPR|VECLIB|RAYON|POLARS|TF|NUMBA)_\w*(?:THREADS|DYNAMIC|AFFINITY)\w*"
    r"|LOKY_MAX_CPU_COUNT|OMP_SCHEDULE"
)
_DETERMINISM = re.compile(
    r"TF_DETERMINISTIC_\w+|TF_CUDNN_\w+|CUBLAS_\w+|CUBLASLT_\w+|CUDNN_\w+|NVIDIA_TF32_OVERRIDE|TF_ENABLE_ONEDNN_OPTS"
    r"|ONEDNN_\w+|DNNL_\w+|XLA_FLAGS|TORCH_ALLOW_TF32_\w+|MKL_CBWR"
)
_CPU = re.compile(r"NPY_\w*CPU\w*|OPENBLAS_CORETYPE|MKL_ENABLE_INSTRUCTIONS|ATEN_CPU_CAPABILITY|GLIBC_TUNABLES")
_WEIGHTS = {"threads": 0.6, "determinism": 0.6, "cpu": 0.6, "locale": 0.25, "time": 0.3, "variable": 0.4}
_WEIGHTS_UNREAD = {**_WEIGHTS, "locale": 0.03, "time": 0.03, "variable": 0.2}
_SEARCH_PATH = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONNOUSERSITE")
_LOCALE = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|PYTHONUTF8|PYTHONIOENCODING|PYTHONCOERCECLOCALE")


def classify_variable(name: str) -> str:
    """The kind of cause that a change of this environment variable is."""
    rules = ((_THREADS, "threads"), (_DETERMINISM, "determinism"), (_CPU, "cpu"), (_LOCALE, "locale"))
    for pattern, kind in rules:
        if pattern.fullmatch(name):
            return kind
    return {"PYTHONHASHSEED": "hash_seed", "TZ": "time"}.get(name, "variable")


def weigh_package(name: str, imported: frozenset[str] | None) -> float:
    """How likely another version of a package changes results, from 0 to 1."""
    if _PLUMBING.fullmatch(name):
        return 0.01
    weight = _TELLING.get(name, 0.35)
    if imported is None:
        return weight / 2
    return weight if name in imported else 0.0


def suspect_packages(evidence: Evidence) -> Iterator[Suspect]:
    """Packages with other versions: each that can count, and one line for those that hardly can.

    What the program does not use, itself or through what it uses, is no suspect.
    """
    rows = evidence.changed("environment", "distributions.")
    rows.pop("mlflow-repro", None)
    weights = {name: weigh_package(name, evidence.imported) for name in rows}
    telling = sorted((name for name in rows if weights[name] > 0.02), key=lambda name: -weights[name])  # noqa: PLR2004
    for name in telling:
        yield _package(name, rows[name], weights[name], evidence)
    known = evidence.imported
    rest = [name for name in rows if name not in telling and (known is None or name in known)]
    if rest:
        shown = ", ".join(sorted(rest)[:_SHOWN])
        yield Suspect(
            kind="package",
            what=f"{count(len(rest), 'package')} that the training does not compute with",
            weight=0.02,
            evidence=(f"other versions of {shown}{' and more' if len(rest) > _SHOWN else ''}",),
            fix=give_environment_command(evidence.reference.run_id),
        )
    if not any(record.exists for record in evidence.records) and evidence.changed("environment").get("digest"):
        what = "other packages are installed"
        yield Suspect(kind="package", what=what, weight=0.3, evidence=("the digests of what is installed differ",))


def suspect_python(evidence: Evidence) -> Iterator[Suspect]:
    """Another Python: a minor version more than a patch level."""
    row = evidence.changed("environment").get("python")
    if row is None:
        return
    one, other = str(row.reference), str(row.reproduction)
    is_minor = not is_same_release(one, other, 2)
    yield Suspect(
        kind="python",
        what=f"Python {one} -> {other}",
        weight=0.35 if is_minor else 0.04,
        evidence=(f"the reference ran on Python {one}, the reproduction on {other}",),
        fix=give_environment_command(evidence.reference.run_id),
    )


def suspect_variables(evidence: Evidence) -> Iterator[Suspect]:
    """Environment variables that differ, but for PYTHONHASHSEED, which has a rule of its own."""
    for name, row in evidence.changed("launch", "variables.").items():
        kind = classify_variable(name)
        if kind == "hash_seed" or name == "MLFLOW_REPRO_SEED" or _is_of_the_tool(name, row, evidence):
            continue
        one, other = (
            "not set" if side is None else shorten(redact_named(name, str(side)))
            for side in (row.reference, row.reproduction)
        )
        weight, places = _weigh_variable(name, kind, evidence)
        yield Suspect(
            kind=kind,
            what=f"{name}: {one} -> {other}",
            weight=weight,
            evidence=(
                f"the environment variable {name} is {one} in the reference, {other} in the reproduction",
                *places,
            ),
            fix=give_variable_lines({name: None if row.reference is None else str(row.reference)}),
        )


def _is_of_the_tool(name: str, row: Finding, evidence: Evidence) -> bool:
    """True for a variable by which a relaunch finds the program's modules, and for folders that are gone by now."""
    sides = (row.reference, row.reproduction)
    is_temporary_path = all(isinstance(side, str) and is_temporary(side) for side in sides)
    return is_temporary_path or (evidence.is_relaunch and name in _SEARCH_PATH)


def _is_set_again(name: str, kind: str, evidence: Evidence) -> bool:
    """True when the programs of both runs set a variable to the same value themselves, and not too late."""
    one, other = (record.launch.set_later or {} for record in evidence.records)
    is_late = name.startswith("PYTHON") or (kind == "threads" and _differ_in_threads(evidence))
    return name in one and name in other and one[name] == other[name] and not is_late


def _differ_in_threads(evidence: Evidence) -> bool:
    """True when a library of both runs had another number of threads."""
    one, other = (
        {library.library: library.threads for library in record.machine.libraries or ()} for record in evidence.records
    )
    return any(one[library] != other[library] for library in one.keys() & other.keys())


def _weigh_variable(name: str, kind: str, evidence: Evidence) -> tuple[float, tuple[str, ...]]:
    """How likely the variable changes results, and the lines of the program that speak for it."""
    if _is_set_again(name, kind, evidence):
        return 0.02, ("both programs set it to the same value themselves",)
    places = evidence.places("variable", f"reads {name}")
    if name == "PYTHONOPTIMIZE":
        places = (*places, *evidence.places("optimize"))
    if places:
        return 0.95, places
    places = evidence.places({"time": "timezone"}.get(kind, kind)) if kind in ("locale", "time") else ()
    if places:
        return 0.6, places
    clocks = evidence.places("time") if kind == "time" else ()
    if clocks:  # which are another time anyway
        return 0.2, clocks
    # What the program itself does not ask for, a library may; a locale hardly.
    return _WEIGHTS_UNREAD[kind] if evidence.has_sources else _WEIGHTS[kind], ()


def _package(name: str, row: Finding, weight: float, evidence: Evidence) -> Suspect:
    one, other = (shorten(side) for side in (row.reference, row.reproduction))
    imported = evidence.imported
    known = "the run imported it" if imported and name in imported else "whether the run imported it is not known"
    is_major = not is_same_release(one, other, 1)
    fix = f"pip install {name}=={one}" if row.reference is not None else f"pip uninstall {name}"
    return Suspect(
        kind="package",
        what=f"{name} {one} -> {other}",
        weight=min(weight * (1.2 if is_major else 1.0), 0.9),
        evidence=(f"{name} is {one} in the reference, {other} in the reproduction; {known}",),
        fix=f"{fix}, or {give_environment_command(evidence.reference.run_id)}",
    )
