"""What the documents promise: each kind of run in the table has a test, and that test exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "runs.md"
_NODE = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")


def list_tests(path: Path) -> set[str]:
    """The ids of a file's tests, those of classes too, without their parameters."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{owner}{one.name}" for one in members if isinstance(one, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_each_kind_of_run_has_a_test_that_exists():
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.endswith("| shown by |")]
    assert len(rows) > 30
    for row in rows:
        named = _NODE.findall(row.rpartition(" | ")[2])
        assert named, row
        for file, test in named:
            assert test in list_tests(ROOT / file), f"{file}::{test}"
