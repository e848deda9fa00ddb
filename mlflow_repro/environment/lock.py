"""The installed distributions as locks that ``uv pip install --no-deps -r FILE`` (and pip) can install.

Why requirement files and not ``pylock.toml`` (PEP 751): of everything from an index that format demands the hash of
each archive and where it is, and neither is known after an installation. ``RECORD`` has the hashes of the installed
files, not of the wheel; ``direct_url.json`` has an archive's hash, but exists for direct URLs only; the drafted record
of where an index's file came from (PEP 710) is written by no installer. Without network there is nothing to put there,
and a training is no place to ask the index. For the same reason the lines have no ``--hash``: who rebuilds can add
them (``uv pip compile --no-deps --generate-hashes``), and a lock of one's own is installed without.

What is safe to hand to an installer: each line is ``name==version`` and nothing else, no option, comment, marker or
URL; names and versions are checked against the grammars of PEP 508 and PEP 440. There is one file for each index,
since ``torch==2.9.1+cpu`` is on no other than torch's own: a line for it would keep the whole file from being
installed. Direct URLs have a file of their own, ``name @ URL`` with the exact commit or hash; only https, http and
ssh. What fits neither is named, with its reason.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.environment.distributions import describe_direct
from mlflow_repro.text.pins import COMMIT, DEFAULT_INDEX, SUBDIRECTORY, TORCH_INDEX, URL, VERSION
from mlflow_repro.values.captured import missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlflow_repro.environment.distributions import Distribution, Inventory

FOLDER = "environment/"
LOCK_FILE = FOLDER + "requirements.lock"
DIRECT_FILE = FOLDER + "requirements-direct.txt"

_OURSELVES = "mlflow-repro"
_TORCH_LOCAL = re.compile(r"(cpu|cu\d{2,3}|rocm\d[\d.]*|xpu)(\.cxx11\.abi)?", re.ASCII)
_ONTORCH_INDEX = frozenset(
    (
        "torch", "torchvision", "torchaudio", "torchtext", "torchdata", "torchcodec", "torchao", "torchrec",
        "torch-tensorrt", "fbgemm-gpu", "xformers", "pytorch-triton", "pytorch-triton-rocm", "pytorch-triton-xpu",
    )
)  # fmt: skip


def make_locks(inventory: Inventory) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The facts ``locks`` and ``left_out_of_locks``, and the files by their path below ``repro/``.

    Each of ``locks`` has ``file``, ``packages`` (their number) and ``index`` (a URL, or `DEFAULT_INDEX`). When the
    inventory is not whole there is no lock: one with holes would be taken for whole. Raises nothing.
    """
    if inventory.left_out:
        reason = f"time was up before {inventory.left_out} distributions were read"
        return {"locks": missing(reason), "left_out_of_locks": missing(reason)}, {}
    lines: dict[str, list[str]] = {}
    direct: list[str] = []
    reasons: dict[str, str] = {}
    for name, distribution in sorted(inventory.distributions.items()):
        is_direct = bool(distribution.direct) or distribution.is_source_tree
        place, reason = _direct_line(distribution) if is_direct else _find_index(distribution)
        if name == _OURSELVES:
            reasons[name] = "a reproduction brings its own"
        elif reason:
            reasons[name] = reason
        elif is_direct:
            direct.append(place)
        else:
            lines.setdefault(place, []).append(f"{name}=={distribution.version}")
    locks: list[dict[str, Any]] = []
    files: dict[str, bytes] = {}
    for index, pins in sorted(lines.items(), key=lambda item: (item[0] != DEFAULT_INDEX, item[0])):
        file = LOCK_FILE if index == DEFAULT_INDEX else f"{FOLDER}requirements-{_suffix(index)}.lock"
        files[file] = _to_file(pins)
        locks.append({"file": f"repro/{file}", "index": index, "packages": len(pins)})
    if direct:
        files[DIRECT_FILE] = _to_file(direct)
        locks.append({"file": f"repro/{DIRECT_FILE}", "index": "none: direct URLs", "packages": len(direct)})
    return {"locks": locks, "left_out_of_locks": reasons}, files


def _find_index(distribution: Distribution) -> tuple[str, str]:
    """The index that serves a distribution, or the reason why it has no place in a lock."""
    name, version = distribution.name, distribution.version
    if distribution.is_of_system:
        return "", "the operating system's package manager installed it"
    if not VERSION.fullmatch(version):
        return "", "its version is not one that an index can have"
    public, _, local = version.partition("+")
    if not local:
        return DEFAULT_INDEX, ""
    match = _TORCH_LOCAL.fullmatch(local)
    if match is None or name not in _ONTORCH_INDEX:
        return "", f"no index is known that serves the local version +{local}"
    channel = "nightly/" if "dev" in public else ""
    return f"{TORCH_INDEX}{channel}{match[1]}{'-cxx11-abi' if match[2] else ''}", ""


def _suffix(index: str) -> str:
    return index.removeprefix(TORCH_INDEX).replace("/", "-")


def _direct_line(distribution: Distribution) -> tuple[str, str]:
    """The line ``name @ URL``, or the reason why there is none that means the same on another machine."""
    facts = describe_direct(distribution)
    kind, url = facts.get("kind"), facts["url"]
    if not isinstance(url, str):
        return "", "its direct_url.json cannot be read"
    if kind == "directory":
        return "", "it was installed from a folder"
    if not URL.fullmatch(url):
        return "", "it was installed from a local file or by a URL that is not handed to installers"
    if "credentials" in facts:
        return "", "its URL had credentials or a query, which are not recorded"
    if kind == "archive":
        digest = facts["hashes"].get("sha256", "")
        return f"{distribution.name} @ {url}" + (f" --hash=sha256:{digest}" if digest else ""), ""
    return _vcs_line(distribution.name, url, facts)


def _vcs_line(name: str, url: str, facts: Mapping[str, Any]) -> tuple[str, str]:
    subdirectory = str(facts.get("subdirectory", ""))
    if facts["vcs"] != "git" or not COMMIT.fullmatch(str(facts["commit"])):
        return "", "it was installed from a repository without an exact git commit"
    if subdirectory and (not SUBDIRECTORY.fullmatch(subdirectory) or ".." in subdirectory.split("/")):
        return "", "its subdirectory is not one that is handed to installers"
    return f"{name} @ git+{url}@{facts['commit']}" + (f"#subdirectory={subdirectory}" if subdirectory else ""), ""


def _to_file(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("ascii", "strict")
