"""Everything of a working tree that its commit does not hold: taken as parts, and put back as the same tree.

*Take* reads the tree of somebody's running program: it writes neither into the working tree nor into its repository,
asks nothing of the network, and ends at a deadline. *Restore* works in a checkout of our own.
"""

from __future__ import annotations

from mlflow_repro.code.worktree.commits import fetch_bundle, read_bundle_header
from mlflow_repro.code.worktree.restore import restore_tree
from mlflow_repro.code.worktree.take import take_tree
from mlflow_repro.code.worktree.values import TakenSubmodule, TakenTree, TreeLimits

__all__ = [
    "TakenSubmodule",
    "TakenTree",
    "TreeLimits",
    "fetch_bundle",
    "read_bundle_header",
    "restore_tree",
    "take_tree",
]
