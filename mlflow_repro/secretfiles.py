"""Which files hold secrets, as their names tell: the one list of them.

What is in such a file is neither read nor recorded: not as an untracked file, not as a change, not as a digest, from
which a short password could be guessed. The list cannot be complete; `redact` knows secrets by their form.
"""

from __future__ import annotations

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
    """True when a file by its name or its folder's holds credentials (``.env``, ``.netrc``, ``id_rsa``, ``*.pem``).

    ``path`` has slashes, and may be relative. A folder ``.env`` is none of them: an environment of Python's may be
    called so.
    """
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
