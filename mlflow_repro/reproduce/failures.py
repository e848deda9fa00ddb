"""What to do about a relaunch that failed, by what it said."""

from __future__ import annotations


def find_hint(text: str, run_id: str, experiment_name: str) -> str:
    """The advice for a run that ended with ``text``; ``experiment_name`` is that of the reference."""
    if "active experiment ID does not match" in text:  # an environment without the plugin
        return f"the script calls mlflow.set_experiment: pass --experiment_name {experiment_name!r}"
    if "is refused: a reproduction writes to its own runs only" in text:
        return "the script writes to what is not its own and needs the answer, which a reproduction does not let it"
    if run_id and run_id in text and "not found" in text:
        return "the script sets a tracking URI of its own, where this run is not"
    if "No module named papermill" in text or "No module named ipykernel" in text:
        return "the environment cannot execute notebooks: add papermill and ipykernel to it, or pass --env current"
    if "ModuleNotFoundError" in text:
        return "the environment lacks a package: install it, or pass --env recorded, or --env project"
    return "its last lines are above" + ("; the failed run is kept" if run_id else "")
