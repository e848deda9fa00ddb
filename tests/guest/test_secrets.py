"""Secrets are planted wherever the plugin looks, and then the whole store is searched for them.

One real run of a project, with a tracking server, in a repository full of secrets; then a reproduction of it. The same
run with ``MLFLOW_REPRO_DISABLE=1`` tells what MLflow itself stores - the parameters of ``mlflow run`` by their names,
the query of a remote's URL, the source of a data set - and exactly those places, by table, column and key, are not
ours. Everywhere else no secret may be: in no row, in no other byte of the database, in no artifact, in nothing that
is packed in one.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import defaultdict
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from conftest import Repository, Workbench, git, make_repository, make_workbench

from mlflow_repro.cli import main
from mlflow_repro.code.capture import record_code
from mlflow_repro.code.worktree.packed import unpack_parts
from mlflow_repro.launch.capture import record_session
from mlflow_repro.text.filenames import is_secret_file

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.timeout(400)  # the first test waits for a server and for four trainings

MARKER = "harmless-marker"  # it is no secret, and must be found: else the search finds nothing


def word(kind: str, length: int = 24) -> str:
    """A secret that nothing but where it stands gives away; another one for each ``kind``."""
    return f"Zq{hashlib.sha512(kind.encode()).hexdigest()[: length - 2]}"


def digits(kind: str, length: int, alphabet: str = "0123456789abcdef") -> str:
    number = int(hashlib.sha512(kind.encode()).hexdigest(), 16)
    return "".join(alphabet[number // len(alphabet) ** place % len(alphabet)] for place in range(length))


UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

# Tokens of the forms that their makers have published, each with what is searched for. Made up here, so that no scanner
# takes this file for a leak.
TOKENS = {
    "github": ("ghp_", word("github", 36)),
    "github-server": ("ghs_", word("github-server", 36)),
    "github-fine-grained": ("github_pat_", word("github-fine", 60)),
    "gitlab": ("glpat-", word("gitlab")),
    "gitlab-runner": ("glrt-", word("gitlab-runner")),
    "aws-key-id": ("AKIA", digits("aws", 16, UPPER)),
    "aws-secret": ("aws_secret_access_key = ", word("aws-secret", 40)),
    "slack-bot": ("xoxb-", f"123456789012-{word('slack')}"),
    "slack-app": ("xapp-1-", word("slack-app", 40)),
    "slack-webhook": ("https://hooks.slack.com/services/", f"T01234567/B01234567/{word('webhook')}"),
    "google-key": ("AIza", word("google", 35)),
    "google-oauth": ("ya29.", word("google-oauth", 40)),
    "google-client": ("GOCSPX-", word("google-client", 28)),
    "openai": ("sk-", word("openai", 48)),
    "openai-project": ("sk-proj-", word("openai-project", 48)),
    "anthropic": ("sk-ant-api03-", word("anthropic", 60)),
    "huggingface": ("hf_", word("huggingface", 34)),
    "databricks": ("dapi", digits("databricks", 32)),
    "stripe": ("sk_live_", word("stripe")),
    "npm": ("npm_", word("npm", 36)),
    "pypi": ("pypi-", word("pypi", 60)),
    "docker": ("dckr_pat_", word("docker", 27)),
    "digitalocean": ("dop_v1_", digits("digitalocean", 64)),
    "sendgrid": ("SG.", f"{word('sendgrid', 22)}.{word('sendgrid-2', 43)}"),
    "jwt": ("eyJ", f"{word('jwt')}.eyJ{word('jwt-2')}.{word('jwt-3')}"),
    "bearer": ("Authorization: Bearer ", word("bearer-form")),
    "basic": ("Authorization: Basic ", word("basic-form")),
    "private-key": ("-----BEGIN RSA PRIVATE KEY-----\n", word("rsa", 64)),
    "openssh-key": ("-----BEGIN OPENSSH PRIVATE KEY-----\n", word("openssh", 64)),
    "pgp-key": ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", word("pgp", 64)),
    "address": ("postgresql://user:", f"{word('address')}@host/db"),
}

SECRET_FILES = (".env", "conf/.env.prod", ".netrc", "id_rsa", "server.pem", "conf/credentials.json", ".aws/config")

# Where a secret can be picked up, by kind: each has a word of its own.
PLACES = (
    *("remote-user", "remote-query", "remote-path", "remote-push", "instead-of", "http-header", "submodule-url"),
    *(
        "option",
        "option-equals",
        "header",
        "header-basic",
        "config-option",
        "override",
        "option-uri",
        "prefixed-option",
    ),
    *("parent-option", "project-param", "project-param-json", "project-param-uri", "logged-param"),
    *("variable-off-the-list", "variable-on-the-list", "variable-uri", "variable-token", "variable-refused"),
    *("search-path-variable", "dataset-user", "dataset-query", "dataset-frame", "tracking-password"),
    *("direct-url", "direct-query", "direct-vcs", "deleted-secret-file", "secret-file-as-param"),
    *("staged-change", "unstaged-change", "removed-line", "untracked-utf-16", "untracked-binary"),
    *("option-pass", "option-pat", "option-auth", "option-key", "option-wandb", "option-user", "option-cookie"),
    *("option-glued", "header-cookie", "untracked-literal", "untracked-yaml", "untracked-notebook", "untracked-zip"),
    *("untracked-gzip", "file-name", "variable-cred", "child-output", "child-error"),
    *("commit-message", "commit-content", "commit-binary", "commit-secret-file", "submodule-secret-file"),
    *(f"file:{name}" for name in SECRET_FILES),
)
# A digest of a short password lets it be guessed: none of a secret file may be stored.
DIGESTS = tuple(f"digest:{name}" for name in SECRET_FILES)

# A canary stands for @kind@. What is committed and pushed is not recorded, so the project's own text may hold them.
PROJECT = """\
name: leaky
entry_points:
  main:
    parameters: {api_key: string, config: string, dsn: string}
    command: >-
      DB_PASSWORD=@parent-option@ python train.py --api-key @option@ --password=@option-equals@
      -H 'Authorization: Bearer @header@' -H 'Authorization: Basic @header-basic@'
      --config '{{"db": {{"password": "@config-option@"}}}}' +token=@override@ --env=API_KEY=@prefixed-option@
      --pass @option-pass@ --pat=@option-pat@ --auth @option-auth@ --key @option-key@ --wandb-key @option-wandb@
      --user me:@option-user@ --cookie session=@option-cookie@ -p@option-glued@ -H 'Cookie: sid=@header-cookie@'
      --store https://me:@option-uri@@host.invalid/x && true
"""
TRAIN = """\
import os
import sys
import numpy as np
import mlflow
with mlflow.start_run():
    mlflow.log_param("hf_token", os.environ["PLANTED_LOGGED"])
    mlflow.log_param("key_file", ".netrc")
    mlflow.log_input(mlflow.data.from_numpy(np.zeros(3), source=os.environ["PLANTED_DATASET"]))
    for name in os.environ["PLANTED_FILES"].split(":"):
        if os.path.exists(name):
            open(name).read()
    mlflow.log_metric("m", 1)
print("connecting with password=@child-output@")
print("token: @child-error@", file=sys.stderr)
"""


@dataclass
class Planted:
    """What was found of each kind, and where: of the plugin's runs, and of the same run without it."""

    canaries: dict[str, str]
    ours: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    mlflows: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    raw: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    marked: set[str] = field(default_factory=set)
    """Where the marker is."""

    def search(self, where: str, content: bytes, found: dict[str, set[str]]) -> None:
        if MARKER.encode() in content:
            self.marked.add(where)
        for kind, canary in self.canaries.items():
            if canary.encode() in content or canary.encode("utf-16-le") in content:
                found[kind].add(where)


def fill(text: str) -> str:
    """``text`` with the canary in each place that is marked."""
    for kind in PLACES:
        text = text.replace(f"@{kind}@", word(kind))
    return text


def secret_file(name: str) -> str:
    return f"PASSWORD={word(f'file:{name}')}\n"


def canaries() -> dict[str, str]:
    digests = {f"digest:{name}": hashlib.sha256(secret_file(name).encode()).hexdigest() for name in SECRET_FILES}
    tokens = {f"token:{kind}": secret for kind, (_, secret) in TOKENS.items()}
    return {**{kind: word(kind) for kind in PLACES}, **tokens, **digests}


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else fill(content).encode())


def zip_bytes(text: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/a.txt", text * 3)
    return target.getvalue()


def plant_repository(root: Path, repository: Repository) -> None:
    """A repository with a secret in each place that git knows."""
    clone = repository.clone
    (root / "library").mkdir()
    library = make_repository(root / "library")
    library.commit({"lib.py": "x = 1\n"})
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.hub), "vendor/lib", cwd=clone)
    url = fill("https://me:@submodule-url@@git.example.invalid/lib.git")
    git("config", "--file", ".gitmodules", "submodule.vendor/lib.url", url, cwd=clone)
    removed = fill("key = 'ghp_@removed-line@@removed-line@'\n")
    write(
        clone, {"MLproject": PROJECT, "train.py": TRAIN, "removed.py": removed, "gone/.env": "A=@deleted-secret-file@"}
    )
    repository.commit({"staged.py": "x = 1\n", "changed.py": "x = 1\n"})
    write(
        clone, {"commit.py": "key = 'ghp_@commit-content@@commit-content@'\n", "old/.env": "A=@commit-secret-file@\n"}
    )
    write(clone, {"commit.bin": fill("\0ghp_@commit-binary@@commit-binary@\0").encode()})
    repository.commit({}, message=fill("use glpat-@commit-message@"), push=False)
    write(clone, {"staged.py": "key = 'hf_@staged-change@'\n"})
    git("add", "staged.py", cwd=clone)
    write(clone, {"changed.py": "key = 'glpat-@unstaged-change@'\n", "removed.py": "pass\n"})
    (clone / "gone/.env").unlink()
    write(clone, {f"notes/{kind}.txt": f"it is\n{start}{secret}\n" for kind, (start, secret) in TOKENS.items()})
    write(clone, {"notes/utf-16.txt": fill("glpat-@untracked-utf-16@").encode("utf-16")})
    write(clone, {"notes/binary.dat": fill("\0\1glpat-@untracked-binary@\0").encode()})
    login = 'DB_PASSWORD = "@untracked-literal@"\n'
    cells = {"cells": [{"source": ['API_KEY = "@untracked-notebook@"']}]}
    write(
        clone, {"notes/login.py": login, "notes/db.yaml": "password: @untracked-yaml@\n", "x.ipynb": json.dumps(cells)}
    )
    write(clone, {"notes/a.zip": zip_bytes(fill("ghp_@untracked-zip@@untracked-zip@"))})
    write(clone, {"notes/a.gz": gzip.compress(fill("password = '@untracked-gzip@'\n").encode())})
    write(clone, {fill("notes/hf_@file-name@.txt"): "x\n"})
    write(clone, {name: secret_file(name) for name in SECRET_FILES})
    inside = clone / "vendor/lib"
    write(inside, {"committed.py": f"# {MARKER} in a commit\n"})
    git("add", "--all", cwd=inside)
    git("commit", "--quiet", "--message", "unpushed", cwd=inside)
    write(inside, {"lib.py": f"# {MARKER} in a change\n", "new.py": f"# {MARKER} in a new file\n"})
    write(inside, {".env": "A=@submodule-secret-file@\n"})
    for name, value in {
        "remote.origin.url": "https://me:@remote-user@@git.example.invalid/r.git?private_token=@remote-query@",
        "remote.origin.pushurl": "https://me:@remote-push@@git.example.invalid/r.git",
        "remote.mirror.url": "https://git.example.invalid/glpat-@remote-path@/r.git",
        "url.https://me:@instead-of@@git.example.invalid/.insteadOf": "https://git.example.invalid/",
        "http.extraHeader": "Authorization: Basic @http-header@",
    }.items():
        git("config", fill(name), fill(value), cwd=clone)


def plant_environment(root: Path) -> dict[str, str]:
    """Variables with secrets in them, and packages that were installed from addresses with secrets in them."""
    vcs = {"vcs": "git", "commit_id": "a" * 40, "requested_revision": "main"}
    packages = {
        "leaky_archive": {
            "url": "https://me:@direct-url@@pypi.invalid/leaky-1.0.tar.gz?sig=@direct-query@", "archive_info": {}
        },
        "leaky_vcs": {"url": "https://@direct-vcs@@git.invalid/leaky.git", "vcs_info": vcs},
    }  # fmt: skip
    for name, direct in packages.items():
        folder = root / f"site/{name}-1.0.dist-info"
        write(folder, {"METADATA": f"Name: {name}\nVersion: 1.0\n", "direct_url.json": json.dumps(direct)})
    variables = {
        "PLANTED_LOGGED": "@logged-param@",
        "PLANTED_DATASET": "https://me:@dataset-user@@data.invalid/x.csv?X-Amz-Signature=@dataset-query@",
        "PLANTED_FILES": ":".join(SECRET_FILES),
        "MY_API_TOKEN": "@variable-off-the-list@",
        "TF_CONFIG": '{"cluster": {}, "token": "@variable-on-the-list@"}',
        "XLA_FLAGS": "--xla_dump_to=https://me:@variable-uri@@host.invalid/",
        "KERAS_HOME": "glpat-@variable-token@",
        "OMP_API_KEY": "@variable-refused@",
        "JAX_CRED": "@variable-cred@",
        "PYTHONPATH": f"{root / 'site'}:https://me:@search-path-variable@@host.invalid/",
        "MLFLOW_REPRO_TRACK_FILES": "1",
    }
    return {name: fill(value) for name, value in variables.items()}


PARAMS = {
    "api_key": "@project-param@",
    "config": '{"db": {"password": "@project-param-json@"}}',
    "dsn": "postgresql://me:@project-param-uri@@db.invalid/x",
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory, empty_store, preloaded, server_root, tracking_server) -> Planted:
    """The whole story, once: the run with and without the plugin, what is shown of it, and its reproduction."""
    root = tmp_path_factory.mktemp("secrets")
    bench = make_workbench(root, empty_store, make_repository(root), preloaded)
    plant_repository(root, bench.repository)
    bench.tracking_uri = tracking_server.replace("://", f"://me:{word('tracking-password')}@")
    bench.environment = {**plant_environment(root), "MLFLOW_TRACKING_URI": bench.tracking_uri}
    params = [part for name, value in PARAMS.items() for part in ("-P", f"{name}={fill(value)}")]
    clone = bench.repository.clone
    bench.environment["MLFLOW_REPRO_DISABLE"] = "1"
    without = bench.mlflow_run(str(clone), "--experiment-name", "secrets without", *params)
    del bench.environment["MLFLOW_REPRO_DISABLE"]
    run_id = bench.mlflow_run(str(clone), "--experiment-name", "secrets with", *params)
    assert bench.get(run_id).data.tags["repro.capture"] == "complete"
    planted = Planted(canaries())
    for form in ("text", "json"):
        planted.outputs[f"show {form}"] = run_in_process(bench, "show", run_id, "--format", form)
    options = ("--uri", str(clone), "--ignore-diff", *params)  # the patch is withheld
    written = [str(root / f"written{suffix}") for suffix in (".html", ".md", ".xml")]
    files = [argument for path in written for argument in ("--output", path)]
    for name, more in {"plan": ("--dry-run",), "reproduction": ("--format", "json", "--verbose", *files)}.items():
        answer = bench.reproduce(run_id, *options, *more)
        assert answer.returncode == 0, answer.stderr
        planted.outputs[name] = answer.stdout + answer.stderr
    planted.outputs |= {path: Path(path).read_text(encoding="utf-8") for path in written}
    search_database(planted, server_root / "server.db", without)
    for one in (without, run_id):  # the server is shared, and other tests' bundles stand on repositories of their own
        search_artifacts(planted, server_root / "artifacts" / bench.get(one).info.experiment_id, root)
    return planted


def run_in_process(bench: Workbench, *arguments: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    with bench.surroundings(), redirect_stdout(out), redirect_stderr(err):
        assert main(arguments) == 0, err.getvalue()
    return out.getvalue() + err.getvalue()


def search_database(planted: Planted, path: Path, without: str) -> None:
    """Each row of each table; a row of the run (or of the experiment) without the plugin is MLflow's."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    (experiment,) = connection.execute("select experiment_id from runs where run_uuid = ?", [without]).fetchone()
    for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
        for row in connection.execute(f"select * from {table}"):  # noqa: S608 - the name of a table
            columns = dict(row)
            is_mlflows = columns.get("run_uuid") == without or columns.get("experiment_id") == experiment
            for column, value in columns.items():
                where = f"{table}.{column}[{columns.get('key', '')}]"
                planted.search(where, str(value).encode(), planted.mlflows if is_mlflows else planted.ours)
    connection.close()
    content = b"".join(file.read_bytes() for file in path.parent.glob(f"{path.name}*"))
    planted.raw = {kind: content.count(canary.encode()) for kind, canary in planted.canaries.items()}


def search_artifacts(planted: Planted, folder: Path, root: Path) -> None:
    for path in folder.rglob("start.zip"):
        shutil.unpack_archive(path, path.parent / "start")
    for path in folder.rglob("*"):
        if path.is_file():
            where = path.name
            for content in unpack(path, root):
                planted.search(where, content, planted.ours)


def unpack(path: Path, root: Path) -> Iterator[bytes]:
    """The bytes of a file, and those of everything that is packed in it."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".tar":
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                yield member.name.encode()
                if member.isfile():
                    yield from unpack_parts(archive.extractfile(member).read(), lambda: None)
    elif path.suffix == ".bundle":
        yield read_bundle(path, root)


def read_bundle(path: Path, root: Path) -> bytes:
    """Every object of a git bundle, with those that it stands on."""
    place = root / f"unbundled-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}"
    for hub in root.rglob("*.git"):
        if (hub / "HEAD").is_file() and not place.exists():
            git("clone", "--quiet", "--bare", str(hub), str(place), cwd=root)
            answer = subprocess.run(
                ["git", "bundle", "unbundle", str(path)], cwd=place, capture_output=True, check=False
            )
            if answer.returncode:  # it stands on commits of another repository
                subprocess.run(["rm", "-r", str(place)], check=True)
    batch = ["git", "cat-file", "--batch-all-objects", "--batch"]
    return subprocess.run(batch, cwd=place, capture_output=True, check=True).stdout


def test_the_search_finds_what_is_there(planted):
    """What is harmless is recorded: in a patch, in an archive, in a bundle, and found there."""
    assert {"changes.patch", "untracked.tar", "commits.bundle"} <= planted.marked


def test_what_mlflow_stores_itself(planted):
    """None of it comes from the plugin; it is there without it, too, and not ours to change."""
    assert {kind: sorted(places) for kind, places in planted.mlflows.items() if places} == {
        "project-param": ["params.value[api_key]"],
        "project-param-json": ["params.value[config]"],
        "project-param-uri": ["params.value[dsn]"],
        "logged-param": ["params.value[hf_token]"],
        "remote-query": ["tags.value[mlflow.source.git.repoURL]"],
        "dataset-user": ["datasets.dataset_source[]"],
        "dataset-query": ["datasets.dataset_source[]"],
    }


@pytest.mark.parametrize("kind", canaries())
def test_secret_is_stored_nowhere(planted, kind):
    assert planted.ours[kind] - planted.mlflows[kind] == set()
    assert planted.raw[kind] == 0 or planted.mlflows[kind]


@pytest.mark.parametrize("kind", canaries())
def test_secret_is_not_shown(planted, kind):
    """Neither by ``mlflow-repro show``, nor in a plan, a report or the output of a reproduction."""
    assert [name for name, text in planted.outputs.items() if planted.canaries[kind] in text] == []


TOKEN = "ghp_" + word("one", 36)
LOGIN = f"DB_PASSWORD = '{TOKEN[4:]}'\n"
HIDES = {
    "assignment": {"a.py": LOGIN},
    "configuration": {"a.yaml": f"db:\n  password: {TOKEN[4:]}\n"},
    "zip": {"a.zip": zip_bytes(TOKEN)},
    "zip in gzip": {"a.gz": gzip.compress(zip_bytes(LOGIN))},
    "gzip": {"a.txt.gz": gzip.compress(LOGIN.encode() * 3)},
    "file name": {f"notes-{TOKEN}.txt": "x\n"},
    "notebook": {"a.ipynb": json.dumps({"cells": [{"source": [LOGIN.replace("'", '"')]}]})},
    "plain": {"a.py": f"key = '{TOKEN}'\n"},
    "binary": {"a.py": f"\0{TOKEN}\0".encode()},
    "attributes": {"a.py": f"key = '{TOKEN}'\n", ".gitattributes": "a.py -diff\n"},
    "utf-16": {"a.py": TOKEN.encode("utf-16")},
    "name": {"pkg/.env": f"PASSWORD={TOKEN[4:]}\n"},
}
"""Ways in which a secret is hidden from who looks at what git shows."""


def record_repository(repository: Repository, tmp_path: Path) -> str:
    """Everything that is recorded of a working tree, unpacked, as text."""
    section = record_code(str(repository.clone), time.monotonic() + 60)
    contents = [json.dumps(section.facts).encode()]
    for name, content in section.files.items():
        path = tmp_path / name.replace("/", "-")
        path.write_bytes(content)
        contents += unpack(path, tmp_path)
    return b"\n".join(contents).replace(b"\0", b"").decode("utf-8", "replace")


@pytest.mark.parametrize("form", HIDES)
@pytest.mark.parametrize("state", ["untracked", "changed", "unpushed", "taken back", "deleted"])
def test_each_way_into_the_record_of_the_tree_is_screened_by_itself(repository, tmp_path, form, state):
    """In the run above one secret keeps the whole patch and all commits away; here each is alone."""
    repository.commit({"b.py": "x = 1\n"})
    clone = repository.clone
    write(clone, HIDES[form])
    if state == "changed":
        git("add", "--force", "--all", cwd=clone)
    elif state != "untracked":
        repository.commit({}, push=state == "deleted")
    if state in ("taken back", "deleted"):
        (clone / next(iter(HIDES[form]))).unlink()
    if state == "taken back":
        repository.commit({}, push=False)
    write(clone, {"marked.py": f"# {MARKER}\n"})
    recorded = record_repository(repository, tmp_path)
    assert MARKER in recorded
    assert TOKEN[4:] not in recorded


def test_message_of_a_commit_is_screened(repository, tmp_path):
    repository.commit({"a.py": "x = 1\n"})
    repository.commit({"a.py": "x = 2\n"}, message=f"use {TOKEN}", push=False)
    assert TOKEN not in record_repository(repository, tmp_path)


def test_cells_of_a_notebook(monkeypatch):
    """What was typed is recorded, without what looks like a secret."""
    cells = [
        f"import os\nos.environ['API_KEY'] = '{word('cell-environ')}'",
        f"%env HF_TOKEN={word('cell-magic')}",
        f"login(token='{word('cell-argument')}')",
        f'password = "{word("cell-variable")}"',
        f"!curl -H 'Authorization: Bearer {word('cell-header')}' https://me:{word('cell-uri')}@host.invalid",
        *(f"x = '''{start}{secret}'''" for start, secret in TOKENS.values()),
    ]
    history = SimpleNamespace(input_hist_raw=["", *cells, f"print('{MARKER}')"])
    shell = SimpleNamespace(kernel=object(), user_ns={}, history_manager=history)
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    section = record_session({})
    assert section.facts["notebook"]["cells_kept"] == len(cells) + 1
    (content,) = section.files.values()
    assert MARKER in content.decode()
    kinds = ("cell-environ", "cell-magic", "cell-argument", "cell-variable", "cell-header", "cell-uri")
    secrets = {**{kind: word(kind) for kind in kinds}, **{kind: secret for kind, (_, secret) in TOKENS.items()}}
    assert [kind for kind, secret in secrets.items() if secret in content.decode()] == []


@pytest.mark.parametrize("folder", ["", "deep/er/", "/home/me/"])
@pytest.mark.parametrize("name", [*SECRET_FILES, ".databrickscfg", ".kube/config", ".config/gcloud/adc.json", "a.GPG"])
def test_files_of_secrets_by_their_name(folder, name):
    """One list for what is taken of the tree and for what is read of the data."""
    assert is_secret_file(f"{folder}{name}")
