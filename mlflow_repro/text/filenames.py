"""What files are, as their names tell: which hold secrets, and which a program leaves in its working directory.

What is in a file with secrets is neither read nor recorded: not as an untracked file, not as a change, not as a
digest, from which a short password could be guessed. The list cannot be complete; `redact` knows secrets by their form.
"""

from __future__ import annotations

import re

from mlflow_repro.text.redact import SHORTEST, redact_value

# All in lower case: whole names of files, their beginnings and ends, and folders.
_NAMES = frozenset(
    (
        *(".netrc", "_netrc", "netrc", ".pypirc", ".npmrc", ".pgpass", ".my.cnf", ".s3cfg", ".boto"),
        *(".git-credentials", ".databrickscfg", ".htpasswd", ".dockercfg", ".dockerconfigjson", ".vault-token"),
        *("kubeconfig", "kaggle.json", "token", "token.json", ".token", "secret", "secrets", ".secret", ".secrets"),
        *(f"secret{plural}.{kind}" for plural in ("", "s") for kind in ("json", "toml", "yaml", "yml", "ini", "txt")),
    )
)
_BEGINNINGS = (".env", ".yarnrc", "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "credentials")
_ENDS = (
    *(".env", ".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".kdbx", ".kdb", ".ppk", ".gpg", ".asc"),
    "_credentials",
)
_IN_JSON = ("service-account", "service_account", "serviceaccount", "client-secret", "client_secret")
_FOLDERS = frozenset((".ssh", ".aws", ".azure", ".gnupg", ".kube"))
_PLACES = ("/.config/gcloud/", "/.docker/config.json")  # in a repository, .docker may hold Dockerfiles


def is_secret_file(path: str) -> bool:
    """True when a file by its name or its folder's holds credentials (``.env``, ``id_rsa``, ``*.pem``), or is one.

    ``path`` has slashes, and may be relative. A folder ``.env`` is none of them: an environment of Python's may be
    called so.
    """
    if len(path) >= SHORTEST and redact_value(path) != path:  # a token in the name itself
        return True
    lowered = path.lower()
    *folders, name = lowered.split("/")
    return (
        name in _NAMES
        or name.startswith(_BEGINNINGS)
        or name.endswith(_ENDS)
        or (name.endswith(".json") and any(word in name for word in _IN_JSON))
        or not _FOLDERS.isdisjoint(folders)
        or any(place in f"/{lowered}" for place in _PLACES)
    )


# MLflow's default store is a database and a folder in the working directory, and few people's .gitignore names them.
# A compiled module holds the time of its source, so that a tree with one is never the same again.
_LEFTOVER = re.compile(
    r"(?:^|/)(?:(?:mlruns|mlartifacts|__pycache__|\.ipynb_checkpoints)(?:/|$)|mlflow\.db(?:-journal|-wal|-shm)?$)"
    r"|\.pyc$"
)


def is_leftover(path: str) -> bool:
    """True for a file or folder of an MLflow store or of a cache; ``path`` has slashes, a folder may end in one."""
    return bool(_LEFTOVER.search(path))
