"""What a run's surroundings can be varied in without its result having a right to change."""

from __future__ import annotations

import locale
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow_repro.isolate.changes import Changes
from mlflow_repro.text.variables import FILE_ORDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mlflow_repro.values.record import Record

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_TF_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# Beyond its baseline numpy can be told to do without a feature; it passes over those that it has not. From 2.4 on the
# names are those of the levels of x86-64.
_X86_FEATURES = (
    "AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL", "AVX512_SPR", "AVX2", "FMA3",
    "X86_V3", "X86_V4",
)  # fmt: skip
_LOCALES = ("tr_TR.UTF-8", "de_DE.UTF-8", "C")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Folders that are made for a stress: an empty home, and another work directory."""

    home: str
    work_directory: str


@dataclass(frozen=True, kw_only=True)
class Variation:
    """One thing that is varied; ``settings`` are options of the launch, ``skipped`` says why it cannot be."""

    name: str
    what: str
    changes: Changes = field(default_factory=Changes)
    settings: Mapping[str, Any] = field(default_factory=dict)
    skipped: str = ""


def vary(record: Record, place: Place) -> list[Variation]:
    """The variations for a run with this record of its own."""
    return [make(record, place) for make in VARIATIONS.values()]


def _vary_threads(record: Record, place: Place) -> Variation:  # noqa: ARG001
    libraries = record.machine.libraries or ()
    used = max((library.threads for library in libraries if library.threads is not None), default=2)
    count = "2" if used == 1 else "1"
    names = (*_THREADS, *(_TF_THREADS if _has(record, "tensorflow") else ()))
    variables = dict.fromkeys(names, count)
    return Variation(name="threads", what=f"{used} -> {count} threads", changes=Changes(variables=variables))


def _vary_hash_seed(record: Record, place: Place) -> Variation:  # noqa: ARG001
    now = _variables(record).get("PYTHONHASHSEED")
    other = "12345" if now != "12345" else "54321"
    what = f"PYTHONHASHSEED={other} (it was {now or 'not set'})"
    return Variation(name="hash seed", what=what, changes=Changes(variables={"PYTHONHASHSEED": other}))


def _vary_locale(record: Record, place: Place) -> Variation:  # noqa: ARG001
    now = _variables(record).get("LC_ALL") or _variables(record).get("LANG")
    name = next((name for name in _LOCALES if name != now and _is_installed(name)), "")
    changes = Changes(variables={"LC_ALL": name, "LANG": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    return Variation(
        name="locale", what=f"LC_ALL={name}", changes=changes, skipped="" if name else "no other is installed"
    )


def _vary_time_zone(record: Record, place: Place) -> Variation:  # noqa: ARG001
    other = "Pacific/Kiritimati" if _variables(record).get("TZ") != "Pacific/Kiritimati" else "UTC"
    return Variation(name="time zone", what=f"TZ={other}", changes=Changes(variables={"TZ": other}))


def _vary_directory(record: Record, place: Place) -> Variation:  # noqa: ARG001
    return Variation(
        name="directory",
        what="a checkout in a folder with a blank in its name",
        settings={"work_dir": place.work_directory},
    )


def _vary_home(record: Record, place: Place) -> Variation:  # noqa: ARG001
    variables = {"HOME": place.home, "XDG_CONFIG_HOME": None, "XDG_CACHE_HOME": None, "XDG_DATA_HOME": None}
    return Variation(name="home", what="an empty home directory", changes=Changes(variables=variables))


def _vary_file_order(record: Record, place: Place) -> Variation:  # noqa: ARG001
    return Variation(
        name="file order",
        what="folders are listed backwards by os.listdir, os.scandir, os.walk, glob and pathlib",
        changes=Changes(variables={FILE_ORDER_VARIABLE: "reversed"}),
    )


def _vary_processor(record: Record, place: Place) -> Variation:  # noqa: ARG001
    """Fewer features of the processor than it has, for the libraries that can be told so."""
    libraries = {library.library for library in record.machine.libraries or ()}
    name = "processor"
    if record.machine.cpu.architecture != "x86_64" or not (libraries or _has(record, "numpy")):
        return Variation(name=name, what="fewer features", skipped="no library that it uses can be told so")
    variables: dict[str, str | None] = {"NPY_DISABLE_CPU_FEATURES": " ".join(_X86_FEATURES)}
    if "openblas" in libraries:
        variables["OPENBLAS_CORETYPE"] = "Nehalem"
    if "mkl" in libraries:
        variables["MKL_CBWR"] = "COMPATIBLE"
    if _has(record, "tensorflow"):
        variables["TF_ENABLE_ONEDNN_OPTS"] = "0"
    return Variation(name=name, what=f"{', '.join(sorted(variables))} set", changes=Changes(variables=variables))


def _vary_seed(record: Record, place: Place) -> Variation:  # noqa: ARG001
    return Variation(name="seed", what="everything that sets no seed itself is seeded with 1", settings={"seed": 1})


VARIATIONS: dict[str, Callable[[Record, Place], Variation]] = {
    "threads": _vary_threads,
    "hash seed": _vary_hash_seed,
    "locale": _vary_locale,
    "time zone": _vary_time_zone,
    "directory": _vary_directory,
    "home": _vary_home,
    "file order": _vary_file_order,
    "processor": _vary_processor,
    "seed": _vary_seed,
}


def _variables(record: Record) -> Mapping[str, str]:
    return record.launch.variables or {}


def _has(record: Record, name: str) -> bool:
    return any(one.split("-")[0] == name for one in record.environment.imported or ())


def _is_installed(name: str) -> bool:
    """True when the system has the locale; the process's own is put back."""
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        locale.setlocale(locale.LC_COLLATE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_COLLATE, before)
    return True
