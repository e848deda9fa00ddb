"""skops files: a zip with ``schema.json``, in which ids and the names of members are addresses in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.archives import compare_members, open_zip
from mlflow_repro.compare.artifacts.blobs import Blob, Outcome, UnreadableError, combine, same_content
from mlflow_repro.compare.artifacts.documents import parse_json
from mlflow_repro.compare.artifacts.scalars import compare_trees
from mlflow_repro.model import Status

if TYPE_CHECKING:
    from mlflow_repro.compare.artifacts.archives import Member
    from mlflow_repro.compare.artifacts.blobs import Context

_SCHEMA = "schema.json"


def compare_skops(one: Blob, other: Blob, context: Context) -> Outcome:
    """The schema with ids and member names by the order in which they appear, then the members."""
    with open_zip(one, context) as left, open_zip(other, context) as right:
        sides = [_rename(members, context) for members in (left, right)]
        schema = compare_trees(sides[0][0], sides[1][0], context, same="")
        members = compare_members(sides[0][1], sides[1][1], context, {})
    if schema.status is members.status is Status.IDENTICAL:
        return same_content("the estimator, with ids and member names by their order")
    return combine([("schema", schema), ("arrays", members)], "parts")


def _rename(members: dict[str, Member], context: Context) -> tuple[Any, dict[str, Member]]:
    """The schema, and the other members, under names that do not depend on addresses."""
    found = members.get(_SCHEMA)
    if found is None or found.open is None or found.size > context.limits.parsed:
        raise UnreadableError(f"it has no {_SCHEMA} that can be read")
    with found.open() as stream:
        schema = parse_json(stream.read(context.limits.parsed))
    order: dict[str, str] = {}
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            _rename_node(node, order)
        if isinstance(node, (dict, list)):
            stack += reversed(list(node.values() if isinstance(node, dict) else node))
    renamed = {order.get(name, name): member for name, member in members.items() if name != _SCHEMA}
    return schema, renamed


def _rename_node(node: dict[str, Any], order: dict[str, str]) -> None:
    if isinstance(node.get("__id__"), int):
        node["__id__"] = order.setdefault(f"id {node['__id__']}", f"object {len(order)}")
    name = node.get("file")
    if isinstance(name, str):
        suffix = name.rpartition(".")[2]
        node["file"] = order.setdefault(name, f"member {len(order)}.{suffix}")
