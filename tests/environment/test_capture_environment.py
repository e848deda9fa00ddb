"""What is recorded of the packages, the machine and the environment variables, and what is not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.environment.capture import record_environment
from mlflow_repro.environment.distributions import Distribution, Inventory, list_distributions
from mlflow_repro.environment.lock import DIRECT_FILE, LOCK_FILE, make_locks
from mlflow_repro.environment.used import find_imports
from mlflow_repro.machine.capture import record_machine
from mlflow_repro.text.pins import normalise_name
from mlflow_repro.text.variables import is_exact, is_recorded, record_variables
from mlflow_repro.values.captured import NO_TIME, run_steps, to_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SAFE_LINE = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*==[A-Za-z0-9.!+_-]+")
SECRETS = (
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "hunter2-password",
    "AKIAABCDEFGHIJKLMNOP",
    "sk-abcdefghijklmnopqrstuvwx",
    "query-signature-0a1b2c3d",
)


def soon() -> float:
    return time.monotonic() + 30


def install(site: Path, entry: str, metadata: str = "Metadata-Version: 2.1\n", **files: object) -> Path:
    """A distribution's metadata folder in ``site``; ``direct_url`` and the like are files of it."""
    folder = site / entry
    folder.mkdir(parents=True)
    if metadata:
        (folder / ("METADATA" if entry.endswith(".dist-info") else "PKG-INFO")).write_text(metadata)
    names = {
        "direct_url": "direct_url.json",
        "record": "RECORD",
        "top_level": "top_level.txt",
        "installer": "INSTALLER",
    }
    for name, content in files.items():
        text = json.dumps(content) if isinstance(content, dict) else str(content)
        (folder / names[name]).write_text(text)
    return folder


def environment(*search_path: Path, root: Path | None = None, environ: Mapping[str, str] | None = None):
    section = record_environment(
        soon(), search_path=[str(part) for part in search_path], root=str(root or "/"), environ=environ or {}
    )
    assert json.loads(json.dumps(section.facts, allow_nan=False)) == section.facts
    return section


def lines_of(section, file: str) -> list[str]:
    return section.files[file].decode("ascii").splitlines()


def absent(value) -> bool:
    return isinstance(value, dict) and set(value) == {"absent"} and bool(value["absent"])


@pytest.fixture
def site(tmp_path) -> Path:
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    return folder


class TestVariables:
    """An allow-list, and never a secret."""

    def test_influential_variables_are_recorded_and_nothing_else_is(self):
        environ = {
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "3",
            "TF_DETERMINISTIC_OPS": "1",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "LC_ALL": "C.UTF-8",
            "MLFLOW_REPRO_SEED": "7",
            "HOME": "/home/somebody",
            "MLFLOW_TRACKING_PASSWORD": "hunter2",
            "PATH": "/bin",
            "LC_MY_PASSPORT": "x",
        }
        wanted = ["CUBLAS_WORKSPACE_CONFIG", "LC_ALL", "MLFLOW_REPRO_SEED", "OMP_NUM_THREADS", "PYTHONHASHSEED"]
        assert list(record_variables(environ)) == [*wanted, "TF_DETERMINISTIC_OPS"]

    @pytest.mark.parametrize(
        "name",
        [
            "HF_TOKEN", "TORCH_API_KEY", "NCCL_SECRET", "MKL_LICENSE_FILE", "JAX_AUTH", "KERAS_PASSWORD",
            "TF_VAR_db", "TF_TOKEN_app_terraform_io", "TF_HTTP_USERNAME", "TF_ENCRYPTION", "TF_CLI_ARGS",
            "WANDB_API_KEY",
        ],
    )  # fmt: skip
    def test_secrets_and_terraform_are_refused_by_name(self, name):
        assert not is_recorded(name)
        assert record_variables({name: "x"}) == {}

    def test_secrets_in_values_are_taken_out(self):
        environ = {"XLA_FLAGS": f"--a=1 {SECRETS[0]}", "HF_ENDPOINT": f"https://me:{SECRETS[1]}@host/x"}
        recorded = record_variables(environ)
        assert all(secret not in str(recorded) for secret in SECRETS)
        assert not is_exact(recorded["XLA_FLAGS"])

    def test_a_value_that_is_too_long_is_left_out_whole(self):
        recorded = record_variables({"XLA_FLAGS": "x" * 5000, "TZ": "UTC"})
        assert recorded == {"TZ": "UTC", "XLA_FLAGS": "[omitted: 5000 characters]"}
        assert [is_exact(value) for value in recorded.values()] == [True, False]

    def test_a_variable_that_vanishes_meanwhile_and_bytes_that_are_no_text(self):
        class Vanishing(dict):
            def get(self, name, default=None):
                return None if name == "TZ" else super().get(name, default)

        recorded = record_variables(Vanishing(TZ="UTC", LANG="\udcff"))
        assert recorded == {"LANG": "\\udcff"}


class TestDistributions:
    """Names and versions out of metadata folders, whole or broken."""

    def test_names_are_normalised_and_versions_come_from_the_folder(self, site):
        install(site, "Foo_Bar.baz-1.2.3.dist-info")
        install(site, "old_one-0.9-py3.11.egg-info")
        install(site, "unversioned.egg-info", "Metadata-Version: 1.0\nName: unversioned\nVersion: 4.5\n")
        egg = site / "eggy-2.0-py3.11.egg"
        (egg / "EGG-INFO").mkdir(parents=True)
        (egg / "EGG-INFO" / "PKG-INFO").write_text("Version: 2.0\n")
        facts = environment(site, egg).facts
        assert facts["distributions"] == {"eggy": "2.0", "foo-bar-baz": "1.2.3", "old-one": "0.9", "unversioned": "4.5"}
        assert normalise_name("A__b.-c") == "a-b-c"

    def test_a_name_with_the_shape_of_a_token_stays_whole(self, site):
        install(site, "dask_kubernetes_operator-1.0.dist-info", top_level="dask_kubernetes_operator\n")
        section = environment(site)
        assert section.facts["distributions"] == {"dask-kubernetes-operator": "1.0"}
        assert lines_of(section, LOCK_FILE) == ["dask-kubernetes-operator==1.0"]

    def test_broken_metadata_is_named_and_the_rest_survives(self, site):
        install(site, "good-1.0.dist-info")
        install(site, "gone-1.0.dist-info", "")
        (install(site, "empty-1.0.dist-info") / "METADATA").write_text("")
        install(site, "~umpy-1.0.dist-info")
        install(site, "silent.egg-info", "Name: silent\n")
        (site / "file-1.0.dist-info").write_text("not a folder")
        section = environment(site, site / "missing", Path("/proc/version"))
        assert section.facts["distributions"] == {"good": "1.0"}
        assert set(section.facts["broken"]) == {
            "gone-1.0.dist-info", "empty-1.0.dist-info", "~umpy-1.0.dist-info", "silent.egg-info", "file-1.0.dist-info",
        }  # fmt: skip
        assert lines_of(section, LOCK_FILE) == ["good==1.0"]

    def test_the_first_on_the_search_path_counts_and_duplicates_are_named(self, tmp_path):
        install(tmp_path / "one" / "site-packages", "twice-2.0.dist-info")
        install(tmp_path / "two" / "site-packages", "twice-1.0.dist-info")
        (tmp_path / "link").symlink_to(tmp_path / "one")
        path = [tmp_path / name / "site-packages" for name in ("one", "two", "link")]
        facts = environment(*path).facts
        assert facts["distributions"] == {"twice": "2.0"}
        assert facts["duplicates"] == {"twice": ["1.0", "2.0"]}

    def test_names_that_are_no_text_and_entries_that_are_no_paths(self, site):
        (site / os.fsdecode(b"caf\xff-1.0.dist-info")).mkdir()
        inventory = list_distributions([str(site), None, 3, b"/nowhere", Path("/nowhere")], soon())
        assert inventory.distributions == {}
        section = environment(site)
        assert list(section.facts["broken"]) == ["caf\\udcff-1.0.dist-info"]
        json.dumps(section.facts, ensure_ascii=False).encode("utf-8")


class TestDirect:
    """What was not installed from an index (PEP 610)."""

    def test_editable_vcs_and_archive_are_recognised(self, site, repository):
        commit = repository.commit({"pyproject.toml": ""})
        url = repository.clone.as_uri()
        install(site, "mine-0.1.dist-info", direct_url={"url": url, "dir_info": {"editable": True}})
        vcs = {"vcs": "git", "commit_id": COMMIT, "requested_revision": "main"}
        address = f"https://me:{SECRETS[0]}@example.com/x.git"
        install(site, "dev-2.0.dist-info", direct_url={"url": address, "vcs_info": vcs, "subdirectory": "py/dev"})
        archive = {"url": "https://example.com/a-1.0-py3-none-any.whl", "archive_info": {"hash": f"sha256={DIGEST}"}}
        install(site, "archived-1.0.dist-info", direct_url=archive)
        signed = {
            "url": f"https://example.com/s.whl?X-Sig={SECRETS[4]}",
            "archive_info": {"hashes": {"sha256": DIGEST}},
        }
        install(site, "signed-1.0.dist-info", direct_url=signed)
        install(site, "local-1.0.dist-info", direct_url={"url": "file:///tmp/local.whl", "archive_info": {}})
        install(site, "folder-1.0.dist-info", direct_url={"url": "file:///tmp/folder", "dir_info": {}})
        section = environment(site)
        direct = {entry["name"]: entry for entry in section.facts["direct"]}

        assert direct["mine"] == {
            "name": "mine", "version": "0.1", "url": url, "kind": "directory", "editable": True,
            "git": {"uri": str(repository.hub), "commit": commit, "dirty": False},
        }  # fmt: skip
        assert direct["dev"]["url"] == "https://example.com/x.git"
        assert direct["dev"]["credentials"]
        wanted = {"kind": "vcs", "vcs": "git", "commit": COMMIT, "revision": "main", "subdirectory": "py/dev"}
        assert wanted.items() <= direct["dev"].items()
        assert direct["archived"]["hashes"] == {"sha256": DIGEST}
        assert direct["signed"]["url"] == "https://example.com/s.whl"
        assert direct["folder"]["editable"] is False
        assert absent(direct["local"]["hashes"])

        assert LOCK_FILE not in section.files
        assert lines_of(section, DIRECT_FILE) == [
            f"archived @ https://example.com/a-1.0-py3-none-any.whl --hash=sha256:{DIGEST}"
        ]
        assert set(section.facts["left_out_of_locks"]) == {"mine", "dev", "signed", "local", "folder"}

    def test_a_commit_of_a_public_repository_can_be_locked(self, site):
        vcs = {"vcs": "git", "commit_id": COMMIT}
        direct = {"url": "https://example.com/x.git", "vcs_info": vcs, "subdirectory": "py"}
        install(site, "dev-2.0.dist-info", direct_url=direct)
        lines = lines_of(environment(site), DIRECT_FILE)
        assert lines == [f"dev @ git+https://example.com/x.git@{COMMIT}#subdirectory=py"]

    @pytest.mark.parametrize(
        "direct",
        [
            pytest.param({"url": "ext::sh -c id", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, id="transport"),
            pytest.param({"url": "https://-oProxy/x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, id="option"),
            pytest.param({"url": "https://h/x\n-e .", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, id="newline"),
            pytest.param({"url": "https://h/x -e .", "archive_info": {}}, id="space"),
            pytest.param({"url": "https://h/x", "vcs_info": {"vcs": "git", "commit_id": "main"}}, id="branch"),
            pytest.param({"url": "https://h/x", "vcs_info": {"vcs": "hg", "commit_id": COMMIT}}, id="mercurial"),
            pytest.param(
                {"url": "https://h/x", "vcs_info": {"vcs": "git", "commit_id": COMMIT}, "subdirectory": "../../etc"},
                id="subdirectory",
            ),
            pytest.param({"url": "https://[half", "archive_info": {}}, id="half-address"),
            pytest.param({"url": 3}, id="no-text"),
            pytest.param("[1, 2]", id="no-table"),
            pytest.param("{", id="no-json"),
            pytest.param("[" * 50_000, id="deep"),
            pytest.param({"url": "https://h/x", "vcs_info": [1], "archive_info": "x", "dir_info": 3}, id="wrong-types"),
        ],
    )
    def test_what_is_not_safe_to_install_is_in_no_lock(self, site, direct):
        install(site, "odd-1.0.dist-info", direct_url=direct)
        section = environment(site)
        assert all(b"-e" not in content and b"odd==" not in content for content in section.files.values())
        if section.files:  # wrong types within a good URL: an archive without a hash
            assert lines_of(section, DIRECT_FILE) == ["odd @ https://h/x"]
        else:
            assert section.facts["left_out_of_locks"]["odd"]
        assert [entry["name"] for entry in section.facts["direct"]] == ["odd"]

    def test_source_tree_on_the_path_gives_way_to_its_editable_install(self, site, tmp_path):
        tree = tmp_path / "tree"
        install(tree, "mine.egg-info", "Version: 0.0.1\n")
        install(tree, "other.egg-info", "Version: 3.0\n")
        install(site, "mine-0.2.dist-info", direct_url={"url": tree.as_uri(), "dir_info": {"editable": True}})
        section = environment(tree, site)
        assert section.facts["distributions"] == {"mine": "0.2", "other": "3.0"}
        assert {entry["name"]: entry["editable"] for entry in section.facts["direct"]} == {"mine": True, "other": True}
        assert section.files == {}

    def test_conda_packages_do_not_name_the_machine_that_built_them(self, site):
        install(
            site, "c-1.0.dist-info", installer="conda\n", direct_url={"url": "file:///croot/c/work", "dir_info": {}}
        )
        section = environment(site)
        assert section.facts["direct"] == []
        assert section.facts["installers"] == {"conda": 1}
        assert lines_of(section, LOCK_FILE) == ["c==1.0"]


class TestLock:
    """Files that are safe to hand to an installer."""

    def test_each_index_has_its_lock(self, site):
        for entry in ("plain-1.0", "torch-2.9.1+cpu", "torchvision-0.24+cu128", "torch_scatter-2.1+pt21cu118",
                      "torchaudio-2.9.0.dev20250801+cu128", "odd-1.0banana", "mlflow_repro-0.1.0"):  # fmt: skip
            install(site, f"{entry}.dist-info")
        install(site, "python_apt-2.6.0.dist-info", installer="debian\n")
        section = environment(site)
        assert section.facts["locks"] == [
            {"file": "repro/environment/requirements.lock", "index": "default", "packages": 1},
            {
                "file": "repro/environment/requirements-cpu.lock",
                "index": "https://download.pytorch.org/whl/cpu",
                "packages": 1,
            },
            {
                "file": "repro/environment/requirements-cu128.lock",
                "index": "https://download.pytorch.org/whl/cu128",
                "packages": 1,
            },
            {
                "file": "repro/environment/requirements-nightly-cu128.lock",
                "index": "https://download.pytorch.org/whl/nightly/cu128",
                "packages": 1,
            },
        ]
        assert lines_of(section, "environment/requirements-cpu.lock") == ["torch==2.9.1+cpu"]
        assert set(section.facts["left_out_of_locks"]) == {"torch-scatter", "odd", "mlflow-repro", "python-apt"}

    def test_an_inventory_with_holes_makes_no_lock(self, site):
        install(site, "some-1.0.dist-info")
        inventory = list_distributions([str(site)], time.monotonic() - 1)
        facts, files = make_locks(inventory)
        assert inventory.left_out == 1
        assert files == {}
        assert absent(facts["locks"])

    @given(version=st.text(max_size=20) | st.from_regex(r"\A\d+(\.\d+){0,3}([abc]\d|rc\d|\.post\d|\.dev\d)?\Z"))
    def test_lines_are_safe_whatever_the_version(self, version):
        """ENV-01: an installer obeys options in a requirements file."""
        one = Distribution(name="some-name", version=version, folder="/x/site-packages", entry="some.dist-info")
        facts, files = make_locks(Inventory(distributions={"some-name": one}, broken={}, duplicates={}))
        assert bool(files) != bool(facts["left_out_of_locks"])
        for content in files.values():
            assert SAFE_LINE.fullmatch(content.decode("ascii").removesuffix("\n"))


class TestImported:
    """From loaded modules to distributions, without loading any."""

    @pytest.fixture
    def load(self, monkeypatch):
        def load(name: str, file: Path | None, kind: type = types.ModuleType):
            module = kind(name)
            if file is not None:
                module.__dict__["__file__"] = str(file)
            monkeypatch.setitem(sys.modules, name, module)

        return load

    def test_modules_are_mapped_to_their_distributions(self, site, tmp_path, load):
        install(site, "same_name-1.0.dist-info")
        install(site, "Py_Yamlish-1.0.dist-info", record="yamlish/__init__.py,sha256=x,1\nyamlish/a.py,,\n")
        install(site, "tops-1.0.dist-info", top_level="topping\n_topping\n")
        install(site, "gspace_a-1.0.dist-info", record="gspace/a/__init__.py,,\n", top_level="gspace\n")
        install(site, "gspace_b-1.0.dist-info", record="gspace/b/__init__.py,,\n", top_level="gspace\n")
        install(site, "never-1.0.dist-info", record="never_imported/__init__.py,,\n")
        tree = tmp_path / "tree"
        install(site, "mine-0.1.dist-info", direct_url={"url": tree.as_uri(), "dir_info": {"editable": True}})
        load("same_name", site / "same_name" / "__init__.py")
        load("yamlish", site / "yamlish" / "__init__.py")
        load("yamlish.a", site / "yamlish" / "a.py")
        load("_topping", site / "_topping.cpython-311-x86_64-linux-gnu.so")
        load("gspace", None)
        load("gspace.b", site / "gspace" / "b" / "__init__.py")
        load("mine", tree / "src" / "mine" / "__init__.py")
        found = find_imports(soon(), search_path=[str(site)])["imported"]
        assert found == ["gspace-b", "mine", "py-yamlish", "same-name", "tops"]

    def test_environment_inside_an_editable_project(self, tmp_path, load):
        """As ``pip install -e .`` into ``.venv`` makes it: what lies below the project is not all of the project."""
        site = tmp_path / "project" / ".venv" / "lib" / "site-packages"
        site.mkdir(parents=True)
        url = {"url": (tmp_path / "project").as_uri(), "dir_info": {"editable": True}}
        install(site, "mine-0.1.dist-info", direct_url=url)
        install(site, "other-1.0.dist-info")
        install(site, "Py_Yamlish-1.0.dist-info", record="yamlish/__init__.py,sha256=x,1\n")
        load("mine", tmp_path / "project" / "mine" / "__init__.py")
        load("other", site / "other" / "__init__.py")
        load("yamlish", site / "yamlish" / "__init__.py")
        assert find_imports(soon(), search_path=[str(site)])["imported"] == ["mine", "other", "py-yamlish"]

    def test_lazy_and_hostile_modules_are_left_alone(self, site, load):
        class Hostile(types.ModuleType):
            def __getattribute__(self, name):
                raise AssertionError(name)

        lazy_kind = type("_LazyModule", (types.ModuleType,), {})
        install(site, "lazy-1.0.dist-info")
        install(site, "hostile-1.0.dist-info")
        load("lazy", site / "lazy" / "__init__.py", lazy_kind)
        sys.modules["hostile"] = hostile = Hostile("hostile")
        object.__getattribute__(hostile, "__dict__")["__file__"] = str(site / "hostile" / "__init__.py")
        try:
            assert find_imports(soon(), search_path=[str(site)])["imported"] == ["hostile"]
        finally:
            del sys.modules["hostile"]

    def test_what_this_process_imported(self):
        found = find_imports(soon())["imported"]
        assert {"pytest", "hypothesis"} <= set(found)
        assert "six" not in found or "six" in sys.modules

    def test_the_deadline_is_kept(self):
        assert find_imports(time.monotonic() - 1)["imported"] == {"absent": NO_TIME}


class TestSystem:
    """Python, operating system and container."""

    def test_this_python(self):
        facts = environment().facts["interpreter"]
        assert facts["version"].startswith("{}.{}.{}".format(*sys.version_info))
        assert facts["implementation"] == "CPython"
        assert facts["flags"]["optimize"] == sys.flags.optimize
        assert sys.prefix not in json.dumps(facts)

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            pytest.param('PRETTY_NAME="Fancy \\"OS\\" 9"\nID=fancy\n', 'Fancy "OS" 9', id="quoted"),
            pytest.param("# c\n\nnonsense\nPRETTY_NAME='half\n", "half", id="half-quoted"),
            pytest.param("ID=x\n", {"absent": "os-release does not tell it"}, id="no-name"),
        ],
    )
    def test_os_release(self, tmp_path, text, name):
        (tmp_path / "usr/lib").mkdir(parents=True)
        (tmp_path / "usr/lib/os-release").write_text(text)
        assert environment(root=tmp_path).facts["os"]["name"] == name

    def test_without_files_everything_is_missing_with_a_reason(self, tmp_path):
        facts = environment(root=tmp_path).facts
        assert absent(facts["os"]["name"])
        assert absent(facts["container"])
        machine = record_machine(soon(), root=str(tmp_path)).facts
        assert absent(machine["cpu"]["model"])
        assert absent(machine["memory"]["total_bytes"])
        assert absent(machine["memory"]["cgroup_limit_bytes"])
        assert absent(machine["cores"]["physical"])
        assert machine["gpus"] == {}

    def test_unreadable_files_are_missing_with_a_reason(self, tmp_path):
        for name in ("etc/os-release", "proc/cpuinfo", "proc/meminfo", "proc/self/cgroup", "proc/self/maps"):
            (tmp_path / name).mkdir(parents=True)  # reading a folder fails for root, too
        assert absent(environment(root=tmp_path).facts["os"]["name"])
        facts = record_machine(soon(), root=str(tmp_path)).facts
        assert absent(facts["cpu"]["model"])
        assert absent(facts["libraries"])

    def test_containers(self, tmp_path):
        (tmp_path / ".dockerenv").touch()
        environ = {
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
            "JUPYTER_IMAGE": f"me:{SECRETS[1]}@hub/x",
            "SECRET": SECRETS[0],
        }
        facts = environment(root=tmp_path, environ=environ).facts["container"]
        assert facts["kinds"] == ["docker", "kubernetes"]
        (tmp_path / "run").mkdir()
        (tmp_path / "run/.containerenv").write_text('engine="podman-5.1"\nname="x"\nimage="quay.io/me/train:3"\n')
        facts = environment(root=tmp_path, environ={}).facts["container"]
        assert facts == {"kinds": ["docker", "podman"], "engine": "podman-5.1", "image": "quay.io/me/train:3"}

    def test_a_container_that_only_its_control_group_tells(self, tmp_path):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("0::/kubepods.slice/pod1/cri-containerd-1.scope\n")
        facts = environment(root=tmp_path, environ={"NVIDIA_PYTORCH_VERSION": "25.01"}).facts["container"]
        assert facts["kinds"] == ["kubernetes", "containerd"]
        assert facts["image"] == "nvcr.io/nvidia/pytorch:25.01"


class TestMachine:
    """Processor, cores and memory, from files that may not be there."""

    @pytest.fixture
    def machine(self, tmp_path):
        def write(files: Mapping[str, str]):
            for name, text in files.items():
                (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / name).write_text(text)
            section = record_machine(soon(), root=str(tmp_path))
            assert section.files == {}
            assert json.loads(json.dumps(section.facts, allow_nan=False)) == section.facts
            return section.facts

        return write

    def test_this_machine(self, monkeypatch):
        monkeypatch.setattr(os, "uname", lambda: types.SimpleNamespace(machine="x86_64", nodename="somebodys-laptop"))
        facts = record_machine(soon()).facts
        assert list(facts) == ["cpu", "cores", "memory", "host", "libraries", "frameworks", "gpus"]
        assert facts["cores"]["logical"] == os.cpu_count()
        assert "somebody" not in json.dumps(facts)
        assert re.fullmatch(r"sha256:[0-9a-f]{12}", facts["host"])

    @pytest.mark.parametrize(
        ("text", "model", "flags"),
        [
            pytest.param(
                "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 143\nmodel name\t: Xeon 8480\n"
                "flags\t\t: fpu sse2 smep avx2 avx512f avx512_bf16 amx_bf16 fma f16c\n\nprocessor: 1\nflags: avx\n",
                "Xeon 8480",
                ["amx_bf16", "avx2", "avx512_bf16", "avx512f", "f16c", "fma", "sse2"],
                id="x86",
            ),
            pytest.param(
                "processor\t: 0\nFeatures\t: fp asimd evtstrm aes sve bf16 i8mm sme2\nCPU part\t: 0xd40\n",
                {"absent": "the kernel does not tell it"},
                ["asimd", "bf16", "fp", "i8mm", "sme2", "sve"],
                id="arm",
            ),
            pytest.param("nonsense", {"absent": "/proc/cpuinfo cannot be read"}, None, id="nonsense"),
        ],
    )
    def test_processor(self, machine, text, model, flags):
        cpu = machine({"proc/cpuinfo": text})["cpu"]
        assert cpu["model"] == model
        assert cpu.get("flags") == flags

    def test_control_groups_of_version_2(self, machine):
        facts = machine(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/memory.max": "1073741824\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "proc/meminfo": "MemTotal:       16384 kB\nMemFree: 1 kB\n",
            }
        )
        assert facts["cores"]["cgroup_limit"] == 1.5
        assert facts["memory"] == {"total_bytes": 16384 * 1024, "cgroup_limit_bytes": 1 << 30}

    def test_control_groups_of_version_1_seen_from_a_container(self, machine):
        facts = machine(
            {
                "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            }
        )
        assert facts["cores"]["cgroup_limit"] == 0.5
        assert absent(facts["memory"]["cgroup_limit_bytes"])

    def test_nonsense_in_control_groups(self, machine):
        facts = machine(
            {"proc/self/cgroup": "x\n\n0::/../../etc\n", "sys/fs/cgroup/cpu.max": "", "sys/fs/cgroup/memory.max": "a b"}
        )
        assert absent(facts["cores"]["cgroup_limit"])
        assert absent(facts["memory"]["cgroup_limit_bytes"])

    def test_physical_cores_are_counted_by_their_threads(self, machine):
        top = "sys/devices/system/cpu"
        siblings = {"cpu0": "0,2", "cpu1": "1,3", "cpu2": "0,2", "cpu3": "1,3"}
        files = {f"{top}/{name}/topology/thread_siblings_list": text + "\n" for name, text in siblings.items()}
        assert machine({**files, f"{top}/cpufreq/x": ""})["cores"]["physical"] == 2

    def test_macos_is_asked_by_sysctl(self, tmp_path):
        values = {
            "machdep.cpu.brand_string": "Apple M9",
            "hw.physicalcpu": "8",
            "hw.memsize": "17179869184",
            "hw.optional.arm.FEAT_BF16": "1",
            "machdep.cpu.features": "SSE4.2 AVX1.0 FMA",
        }
        facts = record_machine(soon(), root=str(tmp_path), sysctl=lambda name: values.get(name, "")).facts
        assert facts["cpu"]["model"] == "Apple M9"
        assert facts["cpu"]["flags"] == ["avx1.0", "feat_bf16", "fma", "sse4.2"]
        assert facts["cores"]["physical"] == 8
        assert facts["memory"]["total_bytes"] == 1 << 34


class TestGpus:
    """NVIDIA's library, or what the kernel tells without it."""

    @pytest.fixture
    def nvidia(self, tmp_path, monkeypatch):
        (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
        (tmp_path / "proc/driver/nvidia/version").write_text(
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\nGCC version: 13.2\n"
        )
        (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA H200\nIRQ: 3\n")
        monkeypatch.delitem(sys.modules, "_pynvml_redirector", raising=False)
        return lambda: record_machine(soon(), root=str(tmp_path)).facts["gpus"]

    def test_without_the_extra_the_kernel_is_asked(self, nvidia, monkeypatch):
        monkeypatch.setitem(sys.modules, "pynvml", None)  # importing it fails
        assert nvidia() == {
            "driver": "570.86.10",
            "cuda": {"absent": "install mlflow-repro[gpu]"},
            "devices": [{"name": "NVIDIA H200", "memory_bytes": {"absent": "install mlflow-repro[gpu]"}}],
        }

    def test_nvml_is_asked_and_closed(self, nvidia, monkeypatch):
        calls: list[str] = []

        def not_supported(handle):
            raise RuntimeError("Not Supported")

        nvml = types.SimpleNamespace(
            nvmlInit=lambda: calls.append("init"),
            nvmlShutdown=lambda: calls.append("shutdown"),
            nvmlDeviceGetCount=lambda: 2,
            nvmlSystemGetDriverVersion=lambda: b"570.86.10",
            nvmlSystemGetCudaDriverVersion=lambda: 12080,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetName=lambda handle: f"H200 {handle}",
            nvmlDeviceGetMemoryInfo=lambda _handle: types.SimpleNamespace(total=1 << 37),
            nvmlDeviceGetCudaComputeCapability=lambda _handle: (9, 0),
            nvmlDeviceGetMigMode=not_supported,
        )
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        facts = nvidia()
        assert (facts["driver"], facts["cuda"]) == ("570.86.10", "12.8")
        assert [device["name"] for device in facts["devices"]] == ["H200 0", "H200 1"]
        assert facts["devices"][0]["capability"] == "9.0"
        assert facts["devices"][0]["mig"] == {"absent": "RuntimeError: Not Supported"}
        assert calls == ["init", "shutdown"]

    def test_nvml_that_fails_is_a_reason(self, nvidia, monkeypatch):
        def fail():
            raise RuntimeError("Driver/library version mismatch")

        monkeypatch.setitem(sys.modules, "pynvml", types.SimpleNamespace(nvmlInit=fail))
        assert nvidia() == {"absent": "RuntimeError: Driver/library version mismatch"}

    def test_the_distribution_that_warns_when_it_is_imported_is_not(self, nvidia, monkeypatch):
        monkeypatch.delitem(sys.modules, "pynvml", raising=False)
        monkeypatch.setitem(sys.modules, "_pynvml_redirector", types.ModuleType("_pynvml_redirector"))
        assert nvidia()["cuda"] == {"absent": "install mlflow-repro[gpu]"}
        assert "pynvml" not in sys.modules


class TestNumerics:
    """Libraries and frameworks that somebody else has loaded."""

    def test_libraries_of_numpy(self, recwarn):
        pytest.importorskip("threadpoolctl")
        import numpy as np

        assert np.ones(2).sum() == 2
        libraries = record_machine(soon()).facts["libraries"]
        blas = [library for library in libraries if library["api"] == "blas"]
        assert blas
        assert all(library["threads"] >= 1 and "/" not in library["file"] for library in blas)
        assert not recwarn.list

    def test_threadpoolctl_that_is_missing_or_strange_is_a_reason(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
        monkeypatch.setitem(sys.modules, "threadpoolctl", None)
        assert record_machine(soon()).facts["libraries"] == {"absent": "install threadpoolctl"}
        monkeypatch.setitem(sys.modules, "threadpoolctl", types.ModuleType("threadpoolctl"))
        assert "AttributeError" in record_machine(soon()).facts["libraries"]["absent"]

    def fake_torch(self, monkeypatch, **core):
        torch = types.ModuleType("torch")
        flags = {"_get_cudnn_enabled": lambda: True, "_get_cpu_capability": lambda: "AVX512", **core}
        names = {
            "__version__": "2.1.0+cu121",
            "version": types.SimpleNamespace(cuda="12.1", hip=None),
            "_C": types.SimpleNamespace(**flags),
            "are_deterministic_algorithms_enabled": lambda: True,
            "get_default_dtype": lambda: "torch.float32",
        }
        for name, value in names.items():
            setattr(torch, name, value)
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, "torch.backends.cudnn", types.SimpleNamespace(version=lambda: 8902))
        return torch

    def test_torch_of_before_2_9(self, monkeypatch):
        self.fake_torch(monkeypatch, _get_cublas_allow_tf32=lambda: True, _get_cudnn_allow_tf32=lambda: False)
        facts = record_machine(soon()).facts["frameworks"]["torch"]
        assert (facts["cuda"], facts["cudnn"], facts["cpu_capability"]) == ("12.1", 8902, "AVX512")
        assert (facts["tf32_matmul"], facts["tf32_cudnn"], facts["deterministic_algorithms"]) == (True, False, True)
        assert absent(facts["hip"])
        assert absent(facts["float32_matmul_precision"])

    def test_torch_of_today_is_not_asked_in_the_way_that_warns(self, monkeypatch):
        def warn():
            warnings.warn("use the new API", stacklevel=2)

        precision = {("cuda", "matmul"): "tf32", ("cuda", "conv"): "ieee", ("cuda", "rnn"): "none"}
        self.fake_torch(
            monkeypatch,
            _get_fp32_precision_getter=lambda backend, operation: precision[backend, operation],
            _get_cublas_allow_tf32=warn,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            facts = record_machine(soon()).facts["frameworks"]["torch"]
        assert facts["fp32_precision_cuda_matmul"] == "tf32"
        assert absent(facts["fp32_precision_mkldnn_matmul"])

    def test_a_framework_that_is_half_loaded_is_left_alone(self, monkeypatch):
        torch = types.ModuleType("torch")
        torch.__spec__ = types.SimpleNamespace(_initializing=True)
        monkeypatch.setitem(sys.modules, "torch", torch)
        monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
        facts = record_machine(soon()).facts["frameworks"]
        assert facts["torch"] == {"absent": "it was still being loaded"}
        assert all(absent(fact) for fact in facts["tensorflow"].values())


class TestManners:
    """Bounded, silent, and without secrets or side effects."""

    def test_a_deadline_in_the_past_answers_at_once_with_reasons(self):
        begin = time.perf_counter()
        environment_section = record_environment(time.monotonic() - 1)
        machine_section = record_machine(time.monotonic() - 1)
        assert time.perf_counter() - begin < 0.1
        facts = {**environment_section.facts, **machine_section.facts}
        assert {json.dumps(fact) for fact in facts.values()} == {json.dumps({"absent": NO_TIME})}
        assert {"distributions", "locks", "interpreter", "cpu", "gpus"} <= set(facts)
        assert environment_section.files == {}

    def test_a_step_that_fails_costs_the_others_nothing(self):
        def fail():
            raise OSError(f"https://me:{SECRETS[1]}@host is gone")

        facts = run_steps({"bad": fail, "good": lambda: (1, "x")}, soon())
        assert facts == {"bad": {"absent": "OSError: https://[redacted]@host is gone"}, "good": [1, "x"]}

    def test_values_are_plain(self):
        value = to_plain({1: (True, 1.5, float("nan")), "\udcff": {"x"}, "none": None})
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
        assert value["1"][:2] == [True, 1.5]
        assert absent(value["1"][2])
        assert absent(value["none"])

    def test_no_planted_secret_is_recorded(self, site, tmp_path):
        url = f"https://{SECRETS[0]}:{SECRETS[1]}@h/x.git?token={SECRETS[4]}#egg={SECRETS[3]}"
        vcs = {"vcs": "git", "commit_id": COMMIT, "requested_revision": SECRETS[0]}
        install(site, "a-1.0.dist-info", installer=SECRETS[3], direct_url={"url": url, "vcs_info": vcs})
        install(site, "b-1.0.dist-info", direct_url={"url": url, "archive_info": {"hash": f"sha256={SECRETS[2]}"}})
        install(site, "c-1.0.dist-info", direct_url={"url": f"git@h:{SECRETS[3]}/x", "subdirectory": SECRETS[2]})
        install(site, f"d-{SECRETS[2]}.dist-info")
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/os-release").write_text(f"PRETTY_NAME={SECRETS[3]}\n")
        (tmp_path / ".dockerenv").touch()
        environ = {"CI_JOB_IMAGE": f"https://me:{SECRETS[1]}@hub/x?token={SECRETS[4]}", "OMP_X": SECRETS[0]}
        section = environment(site, root=tmp_path, environ=environ)
        stored = json.dumps([section.facts, record_variables(environ)]) + str(section.files)
        assert [secret for secret in SECRETS if secret in stored] == []
        assert set(section.facts["distributions"]) == {"a", "b", "c", "d"}

    def test_nothing_is_imported_and_no_random_state_moves(self):
        """CAP-30, CAP-31: beyond the standard library, only threadpoolctl and pynvml may come in."""
        script = """
            import json, random, sys, threading, time, warnings
            import numpy.random
            from mlflow_repro.text import variables
            from mlflow_repro.environment.capture import record_environment
            from mlflow_repro.machine.capture import record_machine
            warnings.simplefilter("error")
            before = set(sys.modules)
            states = random.getstate(), str(numpy.random.get_state())
            def work():
                deadline = time.monotonic() + 30
                sections.extend([record_environment(deadline), record_machine(deadline)])
                variables.record_variables({"TZ": "UTC"})
            sections = []
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert states == (random.getstate(), str(numpy.random.get_state()))
            new = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
            print(json.dumps([sorted(new), [sorted(section.facts) for section in sections]]))
        """
        lines = [line[12:] for line in script.splitlines()]
        done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        new, facts = json.loads(done.stdout)
        assert set(new) <= {"threadpoolctl", "pynvml"}
        assert "distributions" in facts[0]
        assert "libraries" in facts[1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_uv_installs_the_lock(tmp_path):
    """A lock made inside one environment makes, by uv, another one with the same distributions."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not on PATH")
    variables = {"UV_SYSTEM_CERTS": "true", **os.environ}
    old, new = tmp_path / "old", tmp_path / "new"
    package = Path(__file__).resolve().parents[2]

    def run(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout

    for folder in (old, new):
        run(uv, "venv", "--quiet", "--python", sys.executable, str(folder))
    wanted = ["PyYAML", "Jinja2==3.1.4", "python-dateutil", "zope.interface", "typing_extensions"]
    run(uv, "pip", "install", "--quiet", "--python", str(old), *wanted)
    script = (
        "import json, sys, time; sys.path.append(sys.argv[1])\n"
        "from mlflow_repro.environment.capture import record_environment\n"
        "section = record_environment(time.monotonic() + 30, search_path=[p for p in sys.path if p != sys.argv[1]])\n"
        "print(json.dumps([section.facts, {name: text.decode() for name, text in section.files.items()}]))\n"
    )

    def record(venv: Path):
        return json.loads(run(str(venv / "bin" / "python"), "-c", script, str(package)))

    facts, files = record(old)
    assert list(files) == [LOCK_FILE]
    lock = tmp_path / "requirements.lock"
    lock.write_text(files[LOCK_FILE])
    assert all(SAFE_LINE.fullmatch(line) for line in files[LOCK_FILE].splitlines())
    run(uv, "pip", "install", "--quiet", "--no-deps", "--python", str(new), "-r", str(lock))
    facts_again, files_again = record(new)
    assert facts["distributions"] == facts_again["distributions"]
    assert files == files_again
    assert {"pyyaml", "jinja2", "markupsafe", "zope-interface"} <= set(facts["distributions"])
    assert facts["interpreter"]["installation"]["environment"].startswith("venv")
