"""What the program runs on: a digest of the installed distributions, Python, the platform, MLflow."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from typing import TYPE_CHECKING

from mlflow_repro.values.run import Fact

if TYPE_CHECKING:
    from collections.abc import Iterable

_OURSELVES = "mlflow_repro-"


def probe_packages() -> Iterable[Fact]:
    """The fact ``env.digest``. Lists what is installed."""
    return [Fact(name="env.digest", value=digest_distributions(list_distributions()))]


def probe_interpreter() -> Iterable[Fact]:
    """The facts ``env.python``, ``env.platform`` and ``env.mlflow``."""
    return [
        Fact(name="env.python", value=platform.python_version()),
        Fact(name="env.platform", value=_platform()),
        Fact(
            name="env.mlflow",
            value=str(getattr(sys.modules.get("mlflow"), "__version__", "") or _mlflow_version()),
        ),
    ]


def list_distributions() -> list[str]:
    """``name-version`` of each distribution on `sys.path`, sorted, without this package.

    Read from the names of the metadata folders: a millisecond, where parsing each one's metadata takes a hundred.
    """
    found: set[str] = set()
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        found.update(name.rsplit(".", 1)[0] for name in names if name.endswith((".dist-info", ".egg-info")))
    return sorted(name for name in found if not name.startswith(_OURSELVES))


def digest_distributions(distributions: Iterable[str]) -> str:
    """The first 16 hex digits of the sha256 over the lines of `list_distributions`."""
    return hashlib.sha256("\n".join(distributions).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _platform() -> str:
    system = os.uname()
    return f"{system.sysname}-{system.release}-{system.machine}"


def _mlflow_version() -> str:
    from importlib import metadata

    return metadata.version("mlflow")
