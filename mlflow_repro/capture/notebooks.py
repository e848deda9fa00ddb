"""The notebook that this process is the kernel of: its file, and the cells that were run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SUFFIX = ".ipynb"


def is_notebook() -> bool:
    """True in a kernel of Jupyter, whoever started it; not where a script has merely imported ipykernel."""
    return find_shell() is not None


def find_shell() -> Any:
    """IPython's shell of a kernel, or None."""
    if "ipykernel" not in sys.modules:
        return None
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None


def list_cells() -> list[str] | None:
    """The sources of the cells as they were typed, in the order in which they were run; None outside a notebook."""
    history = getattr(getattr(find_shell(), "history_manager", None), "input_hist_raw", None)
    return [str(cell) for cell in history[1:]] if isinstance(history, list) else None


def find_notebook(environ: Mapping[str, str], parent: Sequence[str], parent_directory: str = "") -> str:
    """The absolute path of the notebook's file, empty when nobody tells it.

    Visual Studio Code tells it in the kernel's namespace, Jupyter's servers in a variable (relative to a folder that
    the kernel does not know), papermill and nbconvert by their own command line, which is the ``parent``'s here.
    """
    namespace = getattr(find_shell(), "user_ns", None) or {}
    told = [str(namespace.get("__vsc_ipynb_file__") or ""), environ.get("JPY_SESSION_NAME", "")]
    told += [word for word in parent[1:] if word.endswith(_SUFFIX)]
    for path in filter(None, told):
        for candidate in (os.path.join(parent_directory, path), path, os.path.basename(path)):
            found = os.path.abspath(candidate)
            if found.endswith(_SUFFIX) and os.path.isfile(found):
                return found
    return ""
