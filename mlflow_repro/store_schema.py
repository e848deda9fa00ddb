"""Read the schema of a SQLite store before MLflow does, which would migrate an older one on a mere read."""

from __future__ import annotations

import re
import sqlite3
from functools import cache
from importlib import util
from pathlib import Path

from mlflow_repro.errors import UnreachableError

_REVISION = re.compile(r"""^(revision|down_revision)\s*(?::[^=]*)?=\s*["'](\w+)["']""", re.MULTILINE)


def check_schema(path: str) -> None:
    """Raise UnreachableError when the SQLite store at ``path`` has another schema than this MLflow's.

    The file is only read. A file that MLflow has not made, and an MLflow that keeps its migrations elsewhere, are left
    for MLflow to judge.
    """
    known = read_revisions()
    found = _read_revision(path)
    if not known or not found:
        return
    head = (set(known) - set(known.values())).pop()
    if found == head:
        return
    uri = f"sqlite:///{path}"
    if found in known:
        raise UnreachableError(
            f"the tracking store {path} is of an older MLflow, and reading it would migrate it for good",
            f"copy the file and run `mlflow db upgrade {uri}`; or start an `mlflow server` of that MLflow and pass its"
            " URL as --tracking_uri",
        )
    raise UnreachableError(
        f"the tracking store {path} is of a newer MLflow than the one that is installed (revision {found})",
        "install that one beside mlflow-repro",
    )


@cache
def read_revisions() -> dict[str, str]:
    """The revision before each revision that this MLflow knows, empty before the first. Nothing of MLflow is run."""
    spec = util.find_spec("mlflow")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    known: dict[str, str] = {}
    for place in places:
        for file in place.glob("store/db_migrations/versions/*.py"):
            names = dict(_REVISION.findall(file.read_text(encoding="utf-8")))
            if "revision" in names:
                known[names["revision"]] = names.get("down_revision", "")
    heads = set(known) - set(known.values())
    return known if len(heads) == 1 else {}


def _read_revision(path: str) -> str:
    """The revision that the file says it has; empty when it says none."""
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            rows = connection.execute("select version_num from alembic_version").fetchall()
        finally:
            connection.close()
    except sqlite3.Error:
        return ""
    return str(rows[0][0]) if len(rows) == 1 else ""
