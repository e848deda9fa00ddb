"""The platform below the packages: the Python build, libc, the operating system, the container."""

from __future__ import annotations

import os
import platform
import re
import shlex
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING, Any

from mlflow_repro.system.folders import try_read
from mlflow_repro.values.captured import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

_IMAGE_VARIABLES = (
    "MLFLOW_REPRO_IMAGE", "CONTAINER_IMAGE", "DOCKER_IMAGE", "CI_JOB_IMAGE", "KAGGLE_DOCKER_IMAGE", "JUPYTER_IMAGE",
    "JUPYTER_IMAGE_SPEC", "AZUREML_IMAGE", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER",
)  # fmt: skip
# Images that name themselves by their release: the variable, and what it is the release of.
_RELEASE_VARIABLES = {
    "NVIDIA_PYTORCH_VERSION": "nvcr.io/nvidia/pytorch",
    "NVIDIA_TENSORFLOW_VERSION": "nvcr.io/nvidia/tensorflow",
    "DATABRICKS_RUNTIME_VERSION": "databricks-runtime",
    "COLAB_RELEASE_TAG": "google-colab",
}
_CGROUP_WORDS = {"kubepods": "kubernetes", "libpod": "podman", "docker": "docker", "containerd": "containerd",
                 "lxc": "lxc"}  # fmt: skip


def describe_python() -> dict[str, Any]:
    """The interpreter: version, implementation, build, compiler, kind of installation, flags that change results."""
    is_gil_enabled = getattr(sys, "_is_gil_enabled", None)
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "abi": EXTENSION_SUFFIXES[0].strip(".").removesuffix(".so"),
        "build": " ".join(platform.python_build()).strip(),
        "compiler": platform.python_compiler(),
        "installation": _describe_installation(),
        "gil": is_gil_enabled() if is_gil_enabled is not None else True,
        "flags": {
            name: int(getattr(sys.flags, name))
            for name in ("optimize", "hash_randomization", "no_user_site", "isolated", "utf8_mode", "dev_mode")
        },
    }


def _describe_installation() -> dict[str, Any]:
    """Who made the environment, and who the Python below it. Paths are left out: they name the user."""
    settings = dict(re.findall(r"^\s*([\w-]+)\s*=\s*(.*?)\s*$", try_read(f"{sys.prefix}/pyvenv.cfg"), re.MULTILINE))
    if os.path.isdir(f"{sys.prefix}/conda-meta"):
        kind = "conda"
    elif sys.prefix != sys.base_prefix:
        kind = next((f"venv by {tool} {settings[tool]}" for tool in ("uv", "virtualenv") if tool in settings), "venv")
    else:
        kind = "none"
    return {
        "environment": kind,
        "base": _base_kind(sys.base_prefix),
        "sees_system_packages": settings.get("include-system-site-packages", "true").lower() == "true",
    }


def _base_kind(prefix: str) -> str:
    marks = {
        "/.pyenv/": "pyenv", "/uv/python/": "uv", "/Cellar/": "homebrew", "/homebrew/": "homebrew", "/.asdf/": "asdf",
        "/mise/": "mise", "/Python.framework/": "python.org", "/hostedtoolcache/": "GitHub Actions", "/nix/": "nix",
    }  # fmt: skip
    found = next((kind for mark, kind in marks.items() if mark in prefix + "/"), "")
    if not found and os.path.isdir(f"{prefix}/conda-meta"):
        found = "conda"
    return found or {"/usr": "operating system", "/usr/local": "/usr/local"}.get(prefix, "other")


def describe_libc(root: str = "/") -> dict[str, Any]:
    """Name and version of the C library, whose mathematical functions differ between versions."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError, AttributeError):
        name = version = ""
    if name:
        return {"name": name, "version": version or missing("it does not tell its version")}
    if sys.platform == "darwin":
        return {"name": "libSystem", "version": missing("it goes with the version of macOS")}
    try:
        is_musl = any(file.startswith("ld-musl-") for file in os.listdir(os.path.join(root, "lib")))
    except OSError:
        is_musl = False
    if is_musl:
        return {"name": "musl", "version": missing("it tells its version only when its loader is started")}
    return missing("the C library does not name itself")


def describe_os(root: str = "/") -> dict[str, Any]:
    """The operating system's name and version, and its kernel. Raises nothing for files that are not there."""
    kernel = os.uname()
    facts: dict[str, Any] = {"kernel": kernel.sysname, "kernel_release": kernel.release, "machine": kernel.machine}
    if sys.platform == "darwin":
        return {**facts, "name": f"macOS {platform.mac_ver()[0]}", "id": "macos", "version": platform.mac_ver()[0]}
    release = _read_os_release(root)
    reason = "os-release does not tell it" if release else "there is no os-release"
    for fact, key in (("name", "PRETTY_NAME"), ("id", "ID"), ("version", "VERSION_ID")):
        facts[fact] = release.get(key) or missing(reason)
    return facts


def _read_os_release(root: str) -> dict[str, str]:
    """https://www.freedesktop.org/software/systemd/man/latest/os-release.html: assignments, quoted as for a shell."""
    text = try_read(os.path.join(root, "etc/os-release")) or try_read(os.path.join(root, "usr/lib/os-release"))
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if not equals or key.startswith("#"):
            continue
        try:
            values[key] = " ".join(shlex.split(value))
        except ValueError:  # a quote that is not closed
            values[key] = value.strip("\"'")
    return values


def describe_container(environ: Mapping[str, str], root: str = "/") -> dict[str, Any]:
    """The container that the program runs in and its image, as far as they can be known from inside."""
    podman = try_read(os.path.join(root, "run/.containerenv"), 8_192)
    settings = dict(re.findall(r'^(\w+)="?(.*?)"?$', podman, re.MULTILINE))
    kinds: list[str] = []
    if os.path.exists(os.path.join(root, ".dockerenv")):
        kinds.append("docker")
    if os.path.exists(os.path.join(root, "run/.containerenv")):
        kinds.append("podman")
    if environ.get("KUBERNETES_SERVICE_HOST") or os.path.isdir(
        os.path.join(root, "var/run/secrets/kubernetes.io/serviceaccount")
    ):
        kinds.append("kubernetes")
    if environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER"):
        kinds.append("apptainer")
    cgroups = try_read(os.path.join(root, "proc/self/cgroup")) + try_read(os.path.join(root, "proc/1/cgroup"))
    kinds += [kind for word, kind in _CGROUP_WORDS.items() if word in cgroups and kind not in kinds]
    if not kinds and re.fullmatch(r"[\w.-]{1,32}", environ.get("container", "")):
        kinds.append(environ["container"])
    if not kinds:
        return missing("nothing says that this is a container")
    return {
        "kinds": kinds,
        "engine": settings.get("engine") or missing("the container does not tell it"),
        "image": _find_image(environ, settings),
    }


def _find_image(environ: Mapping[str, str], settings: Mapping[str, str]) -> Any:
    if settings.get("image"):
        return settings["image"]
    for variable in _IMAGE_VARIABLES:
        if environ.get(variable):
            return environ[variable]
    for variable, image in _RELEASE_VARIABLES.items():
        if environ.get(variable):
            return f"{image}:{environ[variable]}"
    return missing("the container does not tell its image: set MLFLOW_REPRO_IMAGE to name it")
