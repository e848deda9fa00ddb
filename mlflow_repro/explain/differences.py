"""What two runs have otherwise and a launch could change: each difference listed once, with its weight and its fix.

`explain` weighs them further, by the lines of the program and the shape of the difference; `isolate` adds the changes
that put them in place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow_repro.explain.fixes import give_argument, give_environment_command, give_variable_lines
from mlflow_repro.text.command_line import ArgumentChange, diff_arguments, parse_python_argv, value_of
from mlflow_repro.text.listing import shorten
from mlflow_repro.text.redact import redact_named
from mlflow_repro.text.versions import is_same_release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow_repro.values.record import Record

PARAMS, ARGUMENTS, VARIABLES = "launch.params", "launch.argv", "launch.variables"
PACKAGES, PYTHON = "environment.distributions", "environment.python"

WEIGHTS: Mapping[str, float] = {
    "parameter": 0.95,
    "data": 0.95,
    "code": 0.8,
    "state": 0.8,  # of a generator that nobody seeded
    "entropy": 0.75,
    "idle state": 0.1,  # of one that drew before the run at most
    "threads": 0.6,
    "determinism": 0.6,
    "cpu": 0.6,
    "blas": 0.5,
    "variable": 0.4,
    "time": 0.3,
    "hash_seed": 0.3,
    "locale": 0.25,
    "python": 0.35,
    "python patch": 0.04,
    "other packages": 0.02,
}
"""How likely a difference changes results, from 0 to 1, where nothing else is known of it."""
# Packages that results most often depend on, and how much a change of version may change them.
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
_THREADS = re.compile(
    r"(?:OMP|GOMP|KMP|MKL|OPENBLAS|GOTO|BLIS|NUMEXPR|VECLIB|RAYON|POLARS|TF|NUMBA)_\w*(?:THREADS|DYNAMIC|AFFINITY)\w*"
    r"|LOKY_MAX_CPU_COUNT|OMP_SCHEDULE"
)
_DETERMINISM = re.compile(
    r"TF_DETERMINISTIC_\w+|TF_CUDNN_\w+|CUBLAS_\w+|CUBLASLT_\w+|CUDNN_\w+|NVIDIA_TF32_OVERRIDE|TF_ENABLE_ONEDNN_OPTS"
    r"|ONEDNN_\w+|DNNL_\w+|XLA_FLAGS|TORCH_ALLOW_TF32_\w+|MKL_CBWR"
)
_CPU = re.compile(r"NPY_\w*CPU\w*|OPENBLAS_CORETYPE|MKL_ENABLE_INSTRUCTIONS|ATEN_CPU_CAPABILITY|GLIBC_TUNABLES")
_LOCALE = re.compile(r"LANG|LANGUAGE|LC_[A-Z]+|PYTHONUTF8|PYTHONIOENCODING|PYTHONCOERCECLOCALE")
_SEED_NAME = re.compile(r"(?:^|[_\-.\s])(?:seed|random[_\-]?state)s?$", re.IGNORECASE)
_MOST = 0.9  # of a package


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing that two runs have otherwise: where records tell it (``place``), a kind of cause, a name, both values.

    A value is None where that side has none. ``words`` are those of an argument of the command line. ``fix`` gives back
    what was before.
    """

    place: str
    kind: str
    name: str
    before: str | None
    after: str | None
    weight: float
    fix: str = ""
    words: ArgumentChange | None = None

    @property
    def shown(self) -> tuple[str, str]:
        """Both values for people: short, and without secrets."""
        nothing = "not set" if self.place == VARIABLES else "nothing"
        one, other = (
            nothing if side is None else shorten(redact_named(self.name, side)) for side in (self.before, self.after)
        )
        return one, other

    @property
    def values(self) -> tuple[str | None, str | None]:
        """Both values as they are."""
        return self.before, self.after


def list_differences(one: Record, other: Record, run_id: str) -> tuple[Difference, ...]:
    """What the records of two runs tell to differ; ``run_id`` is the reference, whose environment a fix names."""
    versions = one.environment.python, other.environment.python
    return (
        *_list_parameters(one, other),
        *_list_variables(one, other),
        *_list_packages(one, other, run_id),
        *list_python(*versions, run_id),
    )


def _list_parameters(one: Record, other: Record) -> Iterator[Difference]:
    """Launch parameters; where neither run was launched by them, arguments of the command line."""
    here, there = one.launch.params, other.launch.params
    if here is not None and there is not None:
        for name in dict.fromkeys([*here, *there]):
            if here.get(name) != there.get(name):
                yield make_parameter(PARAMS, name, here.get(name), there.get(name))
    elif here is None and there is None and one.launch.argv and other.launch.argv:
        lines = (parse_python_argv(argv).arguments for argv in (one.launch.argv, other.launch.argv))
        for change in diff_arguments(*lines):
            yield make_parameter(ARGUMENTS, change.name, value_of(change.one), value_of(change.other), change)


def make_parameter(
    place: str, name: str, before: str | None, after: str | None, words: ArgumentChange | None = None
) -> Difference:
    """The difference that a parameter with two values is; ``words`` are those of an argument."""
    return Difference(
        place=place,
        kind="seed" if is_seed_name(name) else "parameter",
        name=name,
        before=before,
        after=after,
        weight=WEIGHTS["parameter"],
        fix=give_argument(name, None if before is None else redact_named(name, before)),
        words=words,
    )


def is_seed_name(name: str) -> bool:
    """True for a parameter that is called a seed."""
    return bool(_SEED_NAME.search(name.lstrip("-")))


def _list_variables(one: Record, other: Record) -> Iterator[Difference]:
    here, there = one.launch.variables, other.launch.variables
    if here is None or there is None:
        return
    for name in sorted(name for name in {*here, *there} if here.get(name) != there.get(name)):
        kind = classify_variable(name)
        yield Difference(
            place=VARIABLES,
            kind=kind,
            name=name,
            before=here.get(name),
            after=there.get(name),
            weight=WEIGHTS[kind],
            fix=give_variable_lines({name: here.get(name)}),
        )


def classify_variable(name: str) -> str:
    """The kind of cause that a change of this environment variable is."""
    rules = ((_THREADS, "threads"), (_DETERMINISM, "determinism"), (_CPU, "cpu"), (_LOCALE, "locale"))
    for pattern, kind in rules:
        if pattern.fullmatch(name):
            return kind
    return {"PYTHONHASHSEED": "hash_seed", "TZ": "time"}.get(name, "variable")


def _list_packages(one: Record, other: Record, run_id: str) -> Iterator[Difference]:
    here, there = one.environment.versions, other.environment.versions
    if not here or not there:
        return
    used = find_used(one, other)
    for name in sorted(name for name in {*here, *there} if here.get(name) != there.get(name)):
        before, after = here.get(name), there.get(name)
        step = f"pip uninstall {name}" if before is None else f"pip install {name}=={before}"
        yield Difference(
            place=PACKAGES,
            kind="package",
            name=name,
            before=before,
            after=after,
            weight=_weigh_package(name, used, is_major=not is_same_release(before or "", after or "", 1)),
            fix=f"{step}, or {give_environment_command(run_id)}",
        )


def find_used(*records: Record) -> frozenset[str] | None:
    """The distributions that the program of either run uses; None when that is not known.

    Where only those are known that were loaded, for the program or for MLflow, it is these.
    """
    environments = [record.environment for record in records]
    lists = [one.imported if one.used is None else one.used for one in environments]
    known = [names for names in lists if names is not None]
    return frozenset(name for names in known for name in names) if known else None


def _weigh_package(name: str, used: frozenset[str] | None, *, is_major: bool) -> float:
    """How likely another version of a package changes results, from 0 to 1."""
    if _PLUMBING.fullmatch(name):
        return 0.01
    weight = min(_TELLING.get(name, 0.35) * (1.2 if is_major else 1.0), _MOST)
    if used is None:
        return weight / 2
    return weight if name in used else 0.0


def list_python(before: str | None, after: str | None, run_id: str) -> Iterator[Difference]:
    """Another Python: a minor version counts more than a patch level."""
    if before and after and before != after:
        yield Difference(
            place=PYTHON,
            kind="python",
            name="Python",
            before=before,
            after=after,
            weight=WEIGHTS["python patch" if is_same_release(before, after, 2) else "python"],
            fix=give_environment_command(run_id),
        )
