"""The rules that a team keeps in git: ``[tool.mlflow-repro]`` of a ``pyproject.toml``, or a TOML file of their own."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlflow_repro.errors import RefusedError, UsageError
from mlflow_repro.values.rules import Rules, RuleSettings, make_rules

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PROJECT_FILE = "pyproject.toml"
_TABLE = "mlflow-repro"
_NUMBERS = ("rel_tol", "abs_tol")
_LISTS = ("only", "ignore", "judge")
_KEYS = (*_NUMBERS, "exact", "tolerance", *_LISTS)


def read_rules(path: str = "") -> Rules:
    """The rules in the file ``path``, or, when empty, in the working directory's ``pyproject.toml``, if it has any.

    In a ``pyproject.toml`` they are the table ``[tool.mlflow-repro]``; in another file they may stand at the top.
    Raises UsageError when ``path`` cannot be read, holds no rules, or holds rules that contradict each other.
    """
    file = Path(path or PROJECT_FILE)
    if not path and not file.is_file():
        return Rules()
    try:
        plain = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the rules in {file} cannot be read: {error}", "it must be a TOML file") from error
    tools = plain.get("tool", {})
    table = tools.get(_TABLE) if isinstance(tools, dict) else None
    if table is None and not path:
        return Rules()
    if table is None and file.name != PROJECT_FILE:
        table = plain
    if not isinstance(table, dict) or not table:
        raise UsageError(f"{file} has no table [tool.{_TABLE}]", f"its keys are {', '.join(_KEYS)}")
    try:
        return make_rules(_check_settings(table), origin=str(file))
    except UsageError as error:
        raise UsageError(f"{file}: {error.message}", error.hint) from error


def write_rules(path: str, rules: Rules, *, overwrite: bool = False) -> None:
    """Write a file that `read_rules` reads back as ``rules``; whole or not at all.

    Raises RefusedError when it is there already, UsageError when it cannot be written.
    """
    file = Path(path)
    if file.name == PROJECT_FILE:
        raise RefusedError(f"{path} is not written", "write another file, and copy its tables into the project's")
    if file.exists() and not overwrite:
        raise RefusedError(f"{path} exists", "pass --overwrite, or another --output")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as temporary:
                temporary.write(_dump_rules(rules))
            os.replace(name, file)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}", "give another --output") from error


def _dump_rules(rules: Rules) -> str:
    lines = [f"[tool.{_TABLE}]"]
    if rules.default.exact:
        lines.append("exact = true")
    else:
        lines += [f"{name} = {getattr(rules.default, name)!r}" for name in _NUMBERS]
    lines += [f"{name} = [{', '.join(map(_quote, getattr(rules, name)))}]" for name in _LISTS if getattr(rules, name)]
    lines += ["", f"[tool.{_TABLE}.tolerance]"]
    lines += [f"{_quote(rule.pattern)} = {_quote(str(rule.tolerances))}" for rule in rules.tolerances]
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    """A basic string of TOML: JSON's, but for DEL, and half a surrogate pair, which no TOML file can hold."""
    return json.dumps(text.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False).replace("\x7f", "\\u007f")


def _check_settings(table: dict[str, Any]) -> RuleSettings:
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r}", f"the keys are {', '.join(_KEYS)}")
    for name in _NUMBERS:
        if name in table and (isinstance(table[name], bool) or not isinstance(table[name], (int, float))):
            raise UsageError(f"{name} is {table[name]!r}", "it must be a number")
    if not isinstance(table.get("exact", False), bool):
        raise UsageError(f"exact is {table['exact']!r}", "it must be true or false")
    for name in _LISTS:
        rows = table.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, str) for row in rows):
            raise UsageError(f"{name} is {rows!r}", 'it must be a list of patterns, such as ["val_*"]')
    rules = table.get("tolerance", {})
    if not isinstance(rules, dict) or not all(isinstance(row, str) for row in rules.values()):
        raise UsageError(
            f"tolerance is {rules!r}", 'it must be a table, such as [tool.mlflow-repro.tolerance] "val_*" = "rel:1e-3"'
        )
    lists = {name: tuple(table.get(name, ())) for name in _LISTS}
    return RuleSettings(
        rel_tol=table.get("rel_tol"),
        abs_tol=table.get("abs_tol"),
        exact=table.get("exact", False),
        tolerance=tuple(f"{pattern}={text}" for pattern, text in rules.items()),
        **lists,
    )
