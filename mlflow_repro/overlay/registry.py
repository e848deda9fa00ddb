"""The model registry as a relaunch sees it: what the script writes stays in the ledger, and never reaches the registry.

A registered model that the script changes is copied with its versions when it does so for the first time; from then on
it reads what it has written, in all of its processes.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

from mlflow_repro.overlay.entities import copy_model, copy_version, make_model, make_version, sort_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow_repro.overlay.calls import Call
    from mlflow_repro.overlay.session import Session

_NAMED = re.compile(r"\s*name\s*=\s*(?P<quote>['\"])(?P<name>.*)(?P=quote)\s*")
_OF_RUN = re.compile(r"\s*run_id\s*=\s*(?P<quote>['\"])(?P<run>\w*)(?P=quote)\s*")
_ARCHIVED = "Archived"
_STAGES = {"none": "None", "staging": "Staging", "production": "Production", "archived": _ARCHIVED}


def call_registry(session: Session, call: Call) -> Any:
    """Answer a call of a model registry's method from what the script has made of it."""
    bound = call.bound()
    view = _View(session, call)
    return _METHODS[call.name](view, bound)


class _View:
    """The registry with the script's changes."""

    def __init__(self, session: Session, call: Call) -> None:
        self.call = call
        self.ledger = session.ledger
        self.changed = session.ledger.read_models()  # as it stands, and as it will

    def is_changed(self, name: str) -> bool:
        return name in self.changed

    def find(self, name: str) -> dict[str, Any] | None:
        """The model's state; None when there is no such model."""
        if name in self.changed:
            return self.changed[name]
        try:
            model = self.call.ask("get_registered_model", name)
        except Exception as error:
            if getattr(error, "error_code", "") in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                return None
            raise
        state = copy_model(model)
        state["versions"] = {str(version.version): copy_version(version) for version in self._all_versions(name)}
        return state

    def _all_versions(self, name: str) -> list[Any]:
        quote = '"' if "'" in name else "'"
        found, token = [], None
        while True:
            page = self.call.ask(
                "search_model_versions", filter_string=f"name={quote}{name}{quote}", page_token=token, max_results=1_000
            )
            found += page
            token = page.token
            if not token:
                return found

    def get(self, name: str) -> dict[str, Any]:
        """The model's state. Raises MlflowException when there is no such model."""
        state = self.find(name)
        return state or _raise(f"Registered Model with name={name} not found", "RESOURCE_DOES_NOT_EXIST")

    def version(self, state: dict[str, Any], number: Any) -> dict[str, Any]:
        """The state of one version. Raises MlflowException when there is none."""
        name = state["name"]
        if str(number) not in state["versions"]:
            _raise(f"Model Version (name={name}, version={number}) not found", "RESOURCE_DOES_NOT_EXIST")
        found: dict[str, Any] = state["versions"][str(number)]
        return found

    def keep(self, state: dict[str, Any], what: str) -> None:
        """Keep a model that was changed, and say what the script would have done."""
        state["updated"] = _now()
        self.ledger.write_model(state["name"], state)
        self.ledger.tell("would", what)


def _raise(message: str, code: str) -> Any:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    raise MlflowException(message, error_code=getattr(databricks_pb2, code))


def _now() -> int:
    return int(time.time() * 1000)


def _pairs(tags: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in tags or ()}


def _create_model(view: _View, bound: dict[str, Any]) -> Any:
    name = bound["name"]
    if not isinstance(name, str) or not name:
        _raise("Registered model name cannot be empty.", "INVALID_PARAMETER_VALUE")
    if view.find(name) is not None:
        _raise(f"Registered Model (name={name}) already exists.", "RESOURCE_ALREADY_EXISTS")
    state = {
        "name": name,
        "created": _now(),
        "description": bound.get("description"),
        "tags": _pairs(bound.get("tags")),
        "aliases": {},
        "versions": {},
        "deployment_job_id": bound.get("deployment_job_id"),
    }
    view.keep(state, f"made the registered model {name!r}")
    return make_model(state)


def _update_model(view: _View, bound: dict[str, Any]) -> Any:
    state = view.get(bound["name"])
    state["description"] = bound.get("description")
    view.keep(state, f"described the registered model {state['name']!r}")
    return make_model(state)


def _rename_model(view: _View, bound: dict[str, Any]) -> Any:
    state, new = view.get(bound["name"]), bound["new_name"]
    if view.find(new) is not None:
        _raise(f"Registered Model (name={new}) already exists.", "RESOURCE_ALREADY_EXISTS")
    old = state["name"]
    view.ledger.write_model(old, None)
    view.keep({**state, "name": new}, f"renamed the registered model {old!r} to {new!r}")
    return make_model({**state, "name": new})


def _delete_model(view: _View, bound: dict[str, Any]) -> None:
    name = view.get(bound["name"])["name"]
    view.ledger.write_model(name, None)
    view.ledger.tell("would", f"deleted the registered model {name!r}")


def _set_model_tag(view: _View, bound: dict[str, Any]) -> None:
    state, tag = view.get(bound["name"]), bound["tag"]
    state["tags"][tag.key] = tag.value
    view.keep(state, f"set the tag {tag.key!r} of the registered model {state['name']!r}")


def _delete_model_tag(view: _View, bound: dict[str, Any]) -> None:
    state = view.get(bound["name"])
    state["tags"].pop(bound["key"], None)
    view.keep(state, f"deleted the tag {bound['key']!r} of the registered model {state['name']!r}")


def _create_version(view: _View, bound: dict[str, Any]) -> Any:
    state = view.get(bound["name"])
    return _add_version(
        view,
        state,
        {
            "source": bound.get("source"),
            "run_id": bound.get("run_id"),
            "run_link": bound.get("run_link"),
            "description": bound.get("description"),
            "tags": _pairs(bound.get("tags")),
            "model_id": bound.get("model_id"),
        },
    )


def _add_version(view: _View, state: dict[str, Any], row: dict[str, Any]) -> Any:
    highest = max((int(number) for number in state["versions"]), default=0)
    number = str(max(highest, state.get("highest", 0)) + 1)
    state["highest"] = int(number)
    state["versions"][number] = {"created": _now(), "stage": "None", "status": "READY", **row}
    view.keep(state, f"registered version {number} of the model {state['name']!r}")
    return make_version(state, number)


def _copy_version(view: _View, bound: dict[str, Any]) -> Any:
    source, name = bound["src_mv"], bound["dst_name"]
    if view.find(name) is None:
        _create_model(view, {"name": name})
    row = copy_version(source)
    return _add_version(view, view.get(name), {**row, "source": f"models:/{source.name}/{source.version}"})


def _update_version(view: _View, bound: dict[str, Any]) -> Any:
    state, number = view.get(bound["name"]), str(bound["version"])
    view.version(state, number)["description"] = bound.get("description")
    view.keep(state, f"described version {number} of the model {state['name']!r}")
    return make_version(state, number)


def _move_version(view: _View, bound: dict[str, Any]) -> Any:
    state, number = view.get(bound["name"]), str(bound["version"])
    row, stage = view.version(state, number), _STAGES.get(str(bound["stage"]).lower())
    if stage is None:
        _raise(f"Invalid Model Version stage: {bound['stage']}.", "INVALID_PARAMETER_VALUE")
    if bound.get("archive_existing_versions"):
        for other in state["versions"].values():
            other["stage"] = _ARCHIVED if other["stage"] == stage else other["stage"]
    row["stage"] = stage
    view.keep(state, f"moved version {number} of the model {state['name']!r} to the stage {stage}")
    return make_version(state, number)


def _delete_version(view: _View, bound: dict[str, Any]) -> None:
    state, number = view.get(bound["name"]), str(bound["version"])
    view.version(state, number)
    state["highest"] = max(state.get("highest", 0), int(number))
    del state["versions"][number]
    state["aliases"] = {alias: to for alias, to in state["aliases"].items() if to != number}
    view.keep(state, f"deleted version {number} of the model {state['name']!r}")


def _set_version_tag(view: _View, bound: dict[str, Any]) -> None:
    state, number, tag = view.get(bound["name"]), str(bound["version"]), bound["tag"]
    view.version(state, number).setdefault("tags", {})[tag.key] = tag.value
    view.keep(state, f"set the tag {tag.key!r} of version {number} of the model {state['name']!r}")


def _delete_version_tag(view: _View, bound: dict[str, Any]) -> None:
    state, number = view.get(bound["name"]), str(bound["version"])
    view.version(state, number)["tags"].pop(bound["key"], None)
    view.keep(state, f"deleted the tag {bound['key']!r} of version {number} of the model {state['name']!r}")


def _set_alias(view: _View, bound: dict[str, Any]) -> None:
    state, number, alias = view.get(bound["name"]), str(bound["version"]), bound["alias"]
    view.version(state, number)
    state["aliases"][alias] = number
    view.keep(state, f"set the alias {alias!r} of the model {state['name']!r} to version {number}")


def _delete_alias(view: _View, bound: dict[str, Any]) -> None:
    state = view.get(bound["name"])
    state["aliases"].pop(bound["alias"], None)
    view.keep(state, f"deleted the alias {bound['alias']!r} of the model {state['name']!r}")


def _get_model(view: _View, bound: dict[str, Any]) -> Any:
    if not view.is_changed(bound["name"]):
        return view.call.do_watched()
    return make_model(view.get(bound["name"]))


def _get_version(view: _View, bound: dict[str, Any]) -> Any:
    if not view.is_changed(bound["name"]):
        return view.call.do_watched()
    state = view.get(bound["name"])
    view.version(state, bound["version"])
    return make_version(state, str(bound["version"]))


def _get_by_alias(view: _View, bound: dict[str, Any]) -> Any:
    if not view.is_changed(bound["name"]):
        return view.call.do_watched()
    state = view.get(bound["name"])
    if bound["alias"] not in state["aliases"]:
        _raise(f"Registered model alias {bound['alias']} not found.", "INVALID_PARAMETER_VALUE")
    return make_version(state, state["aliases"][bound["alias"]])


def _get_uri(view: _View, bound: dict[str, Any]) -> Any:
    if not view.is_changed(bound["name"]):
        return view.call.do_watched()
    row = view.version(view.get(bound["name"]), bound["version"])
    return row.get("location") or row["source"]


def _get_latest(view: _View, bound: dict[str, Any]) -> Any:
    if not view.is_changed(bound["name"]):
        return view.call.do_watched()
    latest = make_model(view.get(bound["name"])).latest_versions
    wanted = [_STAGES.get(str(stage).lower(), stage) for stage in bound.get("stages") or ()]
    return [version for version in latest if not wanted or version.current_stage in wanted]


def _search_versions(view: _View, bound: dict[str, Any]) -> Any:
    from mlflow.store.entities.paged_list import PagedList

    text = bound.get("filter_string") or ""
    named, of_run = _NAMED.fullmatch(text), _OF_RUN.fullmatch(text)
    if named and view.is_changed(named["name"]):
        state = view.changed[named["name"]]
        return PagedList([make_version(state, number) for number in sort_versions(state)] if state else [], None)
    found = view.call.do_watched()
    kept = [version for version in found if not view.is_changed(version.name)]
    states = [state for state in view.changed.values() if state]
    if of_run:
        kept += [
            make_version(state, number)
            for state in states
            for number in sort_versions(state)
            if state["versions"][number].get("run_id") == of_run["run"]
        ]
    else:  # a filter of another form is the store's: of what was changed, what it found there before
        known = {(version.name, str(version.version)) for version in found}
        kept += [
            make_version(state, number)
            for state in states
            for number in sort_versions(state)
            if (state["name"], number) in known or not text
        ]
    return PagedList(kept, found.token)


def _search_models(view: _View, bound: dict[str, Any]) -> Any:
    from mlflow.store.entities.paged_list import PagedList

    text = bound.get("filter_string") or ""
    named = _NAMED.fullmatch(text)
    found = view.call.do_watched()
    kept = [model for model in found if not view.is_changed(model.name)]
    known = {model.name for model in found}
    for name, state in view.changed.items():
        if state and (name in known or not text or (named and named["name"] == name)):
            kept.append(make_model(state))
    return PagedList(kept, found.token)


_METHODS: dict[str, Callable[[_View, dict[str, Any]], Any]] = {
    "create_registered_model": _create_model,
    "update_registered_model": _update_model,
    "rename_registered_model": _rename_model,
    "delete_registered_model": _delete_model,
    "set_registered_model_tag": _set_model_tag,
    "delete_registered_model_tag": _delete_model_tag,
    "create_model_version": _create_version,
    "copy_model_version": _copy_version,
    "update_model_version": _update_version,
    "transition_model_version_stage": _move_version,
    "delete_model_version": _delete_version,
    "set_model_version_tag": _set_version_tag,
    "delete_model_version_tag": _delete_version_tag,
    "set_registered_model_alias": _set_alias,
    "delete_registered_model_alias": _delete_alias,
    "get_registered_model": _get_model,
    "get_latest_versions": _get_latest,
    "get_model_version": _get_version,
    "get_model_version_by_alias": _get_by_alias,
    "get_model_version_download_uri": _get_uri,
    "search_model_versions": _search_versions,
    "search_registered_models": _search_models,
}
