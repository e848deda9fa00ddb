"""Keep the working directory out of our imports. Imports nothing but what an interpreter has loaded anyway."""

from __future__ import annotations

import os
import sys


def leave_working_directory_out() -> None:
    """Take the working directory off the front of `sys.path`, where ``python -m`` puts it.

    A ``random.py`` of the user's there would become ours. It stays when this package itself is imported from it.
    """
    package_parent = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it is gone
        return
    if sys.path and os.path.realpath(sys.path[0] or ".") == here != os.path.realpath(package_parent):
        del sys.path[0]
