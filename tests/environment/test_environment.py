"""A recorded environment is rebuilt by uv from its lock, exactly or not at all; real uv, real packages."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import make_plain, make_record

from mlflow_repro.environment import uv as uv_module
from mlflow_repro.environment.build import Wanted, provide_environment
from mlflow_repro.errors import CannotJudgeError, RefusedError, UsageError
from mlflow_repro.plan.environment import (
    EnvironmentWish,
    choose_environment,
    differs_in_schema,
    list_missing,
    plan_surroundings,
)
from mlflow_repro.text.pins import DEFAULT_INDEX, Pin, join_lines, parse_lock
from mlflow_repro.values.environment import (
    Installed,
    PythonVersion,
    RecordedEnvironment,
    digest_environment,
    read_environment,
)
from mlflow_repro.values.plan import LaunchPlan, Source
from mlflow_repro.values.record import read_record
from mlflow_repro.values.run import Run
from mlflow_repro.values.sections import Lock

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "a" * 64
HERE = PythonVersion(version=platform.python_version(), implementation=platform.python_implementation().lower())
SIX_HASH = "sha256:8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"


class TestLines:
    """What an installer is given is exact versions and nothing else (ENV-01 to ENV-03, ENV-07)."""

    @pytest.mark.parametrize(
        ("line", "pin"),
        [
            ("six==1.16.0", Pin(name="six", version="1.16.0")),
            ("Zope.Interface==7.2", Pin(name="zope-interface", version="7.2")),
            ("torch==2.9.1+cpu", Pin(name="torch", version="2.9.1+cpu")),
            (f"six==1.16.0 --hash={SIX_HASH}", Pin(name="six", version="1.16.0", hashes=(SIX_HASH,))),
            (
                f"x @ git+https://host/a/b.git@{COMMIT}#subdirectory=c/d",
                Pin(name="x", url=f"git+https://host/a/b.git@{COMMIT}#subdirectory=c/d"),
            ),
            (f"x @ git+ssh://git@host/b.git@{COMMIT}", Pin(name="x", url=f"git+ssh://git@host/b.git@{COMMIT}")),
            (
                f"x @ https://host/x-1.0.tar.gz --hash=sha256:{DIGEST}",
                Pin(name="x", url="https://host/x-1.0.tar.gz", hashes=(f"sha256:{DIGEST}",)),
            ),
        ],
    )
    def test_accepted(self, line: str, pin: Pin):
        assert parse_lock(f"{line}\n", "lock") == (pin,)
        assert parse_lock(join_lines([pin]), "lock") == (pin,)

    @pytest.mark.parametrize(
        "line",
        [
            "--index-url http://evil.example/simple",
            "--extra-index-url=https://evil.example/simple",
            "-i https://evil.example",
            "-r /etc/passwd",
            "-c other.txt",
            "-e .",
            "-e git+https://host/x.git",
            "six",
            "six>=1",
            "six==1.*",
            "six===1.0",
            "six==1.0, <2",
            "six==1.0; sys_platform == 'win32'",
            "six==1.0 # comment",
            "# comment",
            "six[extra]==1.0",
            "six==1.0 --config-settings=x=y",
            "six==1.0 --hash=md5:" + "a" * 32,
            "six==1.0 --hash=sha256:zz",
            "six==1.0 \\",
            "./six",
            "/etc/passwd",
            "six @ file:///tmp/six",
            "six @ ./six",
            "six @ ext::sh -c id",
            f"six @ git+ext::sh@{COMMIT}",
            f"six @ git+file:///tmp/six@{COMMIT}",
            f"six @ git+http://host/six@{COMMIT}",
            "six @ git+https://host/six.git",
            "six @ git+https://host/six.git@main",
            f"six @ git+https://user:hunter2hunter2@host/six.git@{COMMIT}",
            f"six @ git+https://token@host/six.git@{COMMIT}",
            f"six @ git+ssh://git:hunter2hunter2@host/six.git@{COMMIT}",
            f"six @ git+https://host/six.git@{COMMIT}#egg=other",
            f"six @ git+https://host/six.git@{COMMIT}#subdirectory=../..",
            f"six @ git+https://-oProxyCommand=x/six.git@{COMMIT}",
            "six @ https://host/six.whl",
            f"six @ http://host/six.whl --hash=sha256:{DIGEST}",
            f"six @ https://host/six.whl?x=1 --hash=sha256:{DIGEST}",
            "six==1.0\vsix==2.0",
            "sіx==1.0",  # noqa: RUF001 - a Cyrillic letter
            "six==1.0\nSIX==1.1",
        ],
    )
    def test_refused(self, line: str):
        with pytest.raises(RefusedError, match="lock, line") as caught:
            parse_lock(f"good==1.0\n{line}\n", "lock")
        assert "hunter2" not in str(caught.value)

    @given(st.text(max_size=60))
    def test_whatever_is_accepted_is_a_name_and_a_version(self, text: str):
        try:
            pins = parse_lock(text, "lock")
        except RefusedError:
            return
        assert all(pin.name and (pin.version or pin.url) for pin in pins)
        assert parse_lock(join_lines(pins), "lock") == pins


class TestRecord:
    """A record comes from a store, where anybody may have written it."""

    SECTION = {  # noqa: RUF012
        "python": "3.11.7",
        "interpreter": {"version": "3.11.7", "implementation": "CPython", "abi": "cpython-311-x86_64-linux-gnu"},
        "distributions": {"Six": "1.16.0", "mlflow": "3.1.0"},
        "imported": ["six"],
        "locks": [{"file": "repro/environment/requirements.lock", "index": "default", "packages": 2}],
        "left_out_of_locks": {"mine": "it was installed from a folder"},
        "direct": [{"name": "mine", "editable": True, "url": "file:///home/x/mine", "git": {"commit": COMMIT}}],
    }

    def test_read(self):
        assert read_environment(make_record(environment=self.SECTION).environment) == RecordedEnvironment(
            installed=Installed(
                python=PythonVersion(version="3.11.7"), distributions={"six": "1.16.0", "mlflow": "3.1.0"}
            ),
            imported=("six",),
            locks=(Lock(file="repro/environment/requirements.lock", index="default", packages=2),),
            left_out={"mine": "it was installed from a folder"},
            checkouts={"mine": (COMMIT, "file:///home/x/mine")},
        )

    def test_free_threaded_python_is_another_one(self):
        interpreter = {"version": "3.13.0", "implementation": "CPython", "abi": "cpython-313t-x86_64-linux-gnu"}
        record = make_record(environment={**self.SECTION, "interpreter": interpreter})
        python = read_environment(record.environment).installed.python
        assert python != PythonVersion(version="3.13.0")
        assert str(python) == "Python 3.13.0t"

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"interpreter": {"version": "--help"}}, CannotJudgeError),
            ({"interpreter": {"version": "/home/evil"}}, CannotJudgeError),
            ({"interpreter": {"version": "3.11.7", "implementation": "Evil"}}, CannotJudgeError),
            ({"distributions": {"absent": "time was up"}}, CannotJudgeError),
            ({"distributions": ["six"]}, CannotJudgeError),
            ({"locks": [{"file": "../../etc/passwd", "index": "default"}]}, RefusedError),
            ({"locks": [{"file": "repro/environment/x.lock", "index": "http://evil.example"}]}, RefusedError),
            (
                {"locks": [{"file": "repro/environment/x", "index": "https://download.pytorch.org/whl/../x"}]},
                RefusedError,
            ),
        ],
    )
    def test_what_is_not_accepted(self, change: dict, error: type):
        with pytest.raises(error):
            read_environment(read_record(make_plain(environment={**self.SECTION, **change})).environment)

    def test_what_is_missing_is_not_invented(self):
        section = {**self.SECTION, "imported": {"absent": "time was up"}, "locks": {"absent": "time was up"}}
        recorded = read_environment(make_record(environment=section).environment)
        assert recorded.imported is None
        assert recorded.locks == ()
        assert recorded.needed == ("mlflow", "six")


def test_key_depends_on_python_platform_and_every_line():
    pins = (Pin(name="a", version="1"), Pin(name="b", version="2"))

    def key(python: str = "3.11.7", where: str = "linux", index: str = "default", lines=pins) -> str:
        return digest_environment(PythonVersion(version=python), where, [(index, lines)])

    others = [
        key("3.11.8"),
        key(where="macosx"),
        key(index="https://x"),
        key(lines=pins[:1]),
        key(lines=(pins[0], Pin(name="b", version="2", hashes=("sha256:x",)))),
        digest_environment(PythonVersion(version="3.11.7", implementation="pypy"), "linux", [("default", pins)]),
    ]
    assert len({key(), *others}) == len(others) + 1
    assert key(lines=tuple(reversed(pins))) == key()


RECORDED = RecordedEnvironment(
    installed=Installed(python=PythonVersion(version="3.11.7"), distributions={"six": "1.16.0", "idle": "1.0"}),
    imported=("six",),
    locks=(Lock(file="repro/environment/requirements.lock", index="default"),),
    left_out={"mine": "it was installed from a folder", "mlflow-repro": "a reproduction brings its own"},
)


def plan(**changes: object) -> LaunchPlan:
    return LaunchPlan(**{"reference_run_id": "a" * 32, "source": Source(uri="u", commit=COMMIT), **changes})


def installed(python: str = "3.11.7", **distributions: str) -> Installed:
    return Installed(python=PythonVersion(version=python), distributions=distributions)


class TestChoice:
    """Recorded where something differs that the run imported, else current."""

    SAME = installed(six="1.16.0", idle="9.9", more="1.0")

    @pytest.mark.parametrize(
        ("current", "kind", "reason"),
        [
            (SAME, "current", "it has what the run imported"),
            (installed(six="1.17.0"), "recorded", "six 1.16.0, here 1.17.0"),
            (installed(idle="1.0"), "recorded", "six 1.16.0, here missing"),
            (installed("3.11.8", six="1.16.0"), "recorded", "Python 3.11.7, here Python 3.11.8"),
        ],
    )
    def test_default(self, current: Installed, kind: str, reason: str):
        chosen = choose_environment(plan(), EnvironmentWish(), RECORDED, current)
        assert (chosen.environment.kind, chosen.environment.reason, chosen.notes) == (kind, reason, ())
        assert bool(chosen.environment.locks) == (kind == "recorded")

    def test_as_asked(self):
        chosen = choose_environment(plan(), EnvironmentWish(env="recorded"), RECORDED, self.SAME)
        assert (chosen.environment.kind, chosen.environment.reason) == ("recorded", "as asked")
        for wish in (EnvironmentWish(env="current"), EnvironmentWish(env_manager="local")):
            chosen = choose_environment(plan(), wish, RECORDED, installed(six="1.17.0"))
            assert chosen.environment.kind == "current"
            assert "differs from the recorded one: six 1.16.0, here 1.17.0" in chosen.notes[0]

    def test_many_differences_are_counted(self):
        names = [f"p{number}" for number in range(10)]
        recorded = dataclasses.replace(
            RECORDED, imported=None, installed=installed(**dict.fromkeys(names, "1"), six="1")
        )
        chosen = choose_environment(plan(), EnvironmentWish(env="current"), recorded, installed(six="1"))
        assert chosen.notes[0].endswith("p3 1, here missing; and 6 more")

    def test_without_a_record(self):
        chosen = choose_environment(plan(), EnvironmentWish(), None, self.SAME, why_none="the run has no record")
        assert chosen.environment.kind == "current"
        assert "is not known (the run has no record)" in chosen.notes[0]
        with pytest.raises(CannotJudgeError, match="no environment to rebuild: the run has no record"):
            choose_environment(
                plan(), EnvironmentWish(env="recorded"), None, self.SAME, why_none="the run has no record"
            )

    @pytest.mark.parametrize(
        ("changes", "tag", "wish", "expected"),
        [
            ({}, "", {}, None),
            ({}, "local", {}, None),
            ({}, "", {"env_manager": "local"}, None),
            ({"env_manager": "uv"}, "uv", {"env": "current"}, None),
            ({"env_manager": "uv"}, "uv", {"env": "recorded"}, None),
            ({"env_manager": "uv"}, "uv", {}, "uv"),
            ({"env_manager": "conda"}, "", {"env_manager": "conda"}, "conda"),
            ({}, "docker", {}, "local"),
            ({}, "", {"env": "project"}, "virtualenv"),
            ({"env_manager": "uv"}, "uv", {"env": "project"}, "uv"),
            ({"backend": "kubernetes"}, "", {}, "local"),
        ],
    )
    def test_what_is_left_to_mlflow(self, changes: dict, tag: str, wish: dict, expected: str | None):
        reference = Run(run_id="a", tags={"mlflow.project.env": tag} if tag else {})
        chosen = plan_surroundings(plan(**changes), reference, EnvironmentWish(**wish))
        if expected is None:
            assert chosen is None
        else:
            assert (chosen.environment.kind, chosen.env_manager) == ("project", expected)

    def test_recorded_on_another_machine_is_refused(self):
        with pytest.raises(UsageError, match="the backend is 'kubernetes'"):
            plan_surroundings(plan(backend="kubernetes"), Run(run_id="a"), EnvironmentWish(env="recorded"))

    def test_packages_that_no_lock_holds(self):
        """Left out when the run did not import them, taken from the checkout when they are in it, else named."""
        strict, lenient = EnvironmentWish(), EnvironmentWish(allow_substitutions=True)
        at_hand, notes = list_missing(RECORDED, COMMIT, strict)
        assert (at_hand, len(notes)) == ([], 1)
        imported = dataclasses.replace(RECORDED, imported=("six", "mine"))
        with pytest.raises(CannotJudgeError, match="package mine of the recorded environment cannot be had") as caught:
            list_missing(imported, COMMIT, strict)
        assert "--env current" in caught.value.hint
        assert "although the run imported it" in list_missing(imported, COMMIT, lenient)[1][0]
        own = dataclasses.replace(imported, checkouts={"mine": (COMMIT, "file:///home/x/mine")})
        assert list_missing(own, COMMIT, strict)[0] == ["mine"]

    def test_schema_changes_with_a_minor_version(self):
        assert differs_in_schema("3.17.2", "2.9.2")
        assert not differs_in_schema("3.17.2", "3.17.0")
        assert not differs_in_schema("3.17.2", "")


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of this test's own, and uv's certificates as the machine has them."""
    monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_SYSTEM_CERTS", "true")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if shutil.which("uv") is None:
        pytest.skip("uv is not on PATH")
    return tmp_path / "cache" / "envs"


def want(*lines: str, python: PythonVersion = HERE, index: str = DEFAULT_INDEX) -> Wanted:
    pins = parse_lock("\n".join(lines), "lock")
    return Wanted(python=python, groups=[(index, pins)], versions={})


def versions(directory: Path) -> dict[str, str]:
    script = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    done = subprocess.run([directory / "bin" / "python", "-c", script], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.usefixtures("cache")
class TestBuild:
    """Real environments of small packages."""

    def test_built_once_and_used_again(self, monkeypatch):
        """Also without uv, when it is there already; and built again when its marker or its Python is gone."""
        wanted = want(f"six==1.16.0 --hash={SIX_HASH}", "iniconfig==2.0.0")
        built = provide_environment(wanted)
        assert versions(built.directory) == {"six": "1.16.0", "iniconfig": "2.0.0"}
        assert (built.python, built.notes) == (HERE.version, ())
        assert (built.site_packages / "six.py").is_file()
        (built.directory / "mine").touch()
        with monkeypatch.context() as patch:
            patch.setattr(uv_module.shutil, "which", lambda *_, **__: None)
            assert provide_environment(wanted) == built
        assert (built.directory / "mine").exists()
        (built.directory / "mlflow-repro-ready.json").unlink()
        assert provide_environment(wanted) == built
        assert not (built.directory / "mine").exists()
        (built.directory / "bin" / "python").unlink()
        assert provide_environment(wanted) == built
        assert versions(built.directory)["six"] == "1.16.0"

    def test_users_settings_for_uv_do_not_reach_it(self, monkeypatch, tmp_path):
        constraint = tmp_path / "constraint.txt"
        constraint.write_text("six==1.17.0\n")
        settings = {"UV_CONSTRAINT": constraint, "UV_EXCLUDE_NEWER": "2019-01-01", "VIRTUAL_ENV": "/nowhere"}
        for name, value in {**settings, "UV_PYTHON": "3.9", "UV_REQUIRE_HASHES": "1"}.items():
            monkeypatch.setenv(name, str(value))
        assert versions(provide_environment(want("six==1.16.0")).directory) == {"six": "1.16.0"}

    @pytest.mark.parametrize(
        ("lines", "error", "words"),
        [
            (("six==1.16.0 --hash=sha256:" + "0" * 64,), RefusedError, "six==1.16.0 has another hash"),
            (
                ("six==1.16.0", "iniconfig==99.0"),
                CannotJudgeError,
                "iniconfig==99.0 cannot be had: there is no version",
            ),
            (("no-such-package-mlflow-repro==1.0",), CannotJudgeError, "was not found in the package registry"),
            ((), CannotJudgeError, "names no package"),
        ],
        ids=["ENV-04 hash", "ENV-06 version", "name", "ENV-09 empty"],
    )
    def test_what_cannot_be_had_is_named_and_leaves_nothing(self, cache, lines, error, words):
        with pytest.raises(error, match=words):
            provide_environment(want(*lines))
        assert [path for path in cache.glob("*") if path.is_dir()] == []

    def test_direct_reference_to_an_archive(self, monkeypatch):
        """And its hash is checked whatever the user's settings are."""
        wheel = "six-1.16.0-py2.py3-none-any.whl"
        folder = "d9/5a/e7c31adbe875f2abbb91bd84cf2dc52d792b5a01506781dbcf25c91daf11"
        line = f"six @ https://files.pythonhosted.org/packages/{folder}/{wheel} --hash="
        built = provide_environment(want(line + SIX_HASH, index=""))
        assert versions(built.directory) == {"six": "1.16.0"}
        monkeypatch.setenv("UV_NO_VERIFY_HASHES", "1")
        with pytest.raises(RefusedError, match="has another hash than the lock says"):
            provide_environment(want(f"{line}sha256:{DIGEST}", index=""))

    def test_substitutions_are_listed_and_kept_apart(self):
        wanted = want("six==1.16.99", "iniconfig==2.0.0", "no-such-package-mlflow-repro==1.0")
        built = provide_environment(wanted, allow_substitutions=True)
        assert versions(built.directory) == {"six": "1.16.0", "iniconfig": "2.0.0"}
        assert sorted(built.notes) == [
            "no-such-package-mlflow-repro==1.0 is left out: it cannot be had",
            "six==1.16.0 stands in for six==1.16.99",
        ]
        assert provide_environment(wanted, allow_substitutions=True) == built
        with pytest.raises(CannotJudgeError):
            provide_environment(wanted)

    def test_source_distribution_is_built_and_it_is_said(self):
        built = provide_environment(want("docopt==0.6.2"))
        assert versions(built.directory) == {"docopt": "0.6.2"}
        assert built.notes == ("some packages have no wheel and were built from source: docopt for one",)

    def test_index_that_does_not_answer(self, cache, monkeypatch):
        """ENV-14, ENV-11: one line, without the password."""
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://me:hunter2hunter2@127.0.0.1:9/simple")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_CACHE_DIR", str(cache / "uv"))
        with pytest.raises(CannotJudgeError, match="the package index cannot be reached") as caught:
            provide_environment(want("six==1.16.0"))
        assert "hunter2" not in str(caught.value)

    def test_disk_that_is_full(self, cache, tmp_path, monkeypatch):
        """ENV-15: one line, what helps, and no half of an environment. A uv that fails as a full disk makes it fail."""
        real = shutil.which("uv")
        (tmp_path / "bin").mkdir()
        said = "echo 'error: No space left on device (os error 28)' >&2; exit 2"
        (tmp_path / "bin/uv").write_text(f'#!/bin/sh\n[ "$1" = pip ] || exec {real} "$@"\n{said}\n')
        (tmp_path / "bin/uv").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
        with pytest.raises(CannotJudgeError, match="No space left on device") as caught:
            provide_environment(want("six==1.16.0"))
        assert "MLFLOW_REPRO_CACHE" in caught.value.hint
        assert [path for path in cache.iterdir() if path.is_dir() and path.name.startswith("recorded-")] == []

    def test_folder_that_cannot_be_written(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("MLFLOW_REPRO_CACHE", str(tmp_path / "file"))
        with pytest.raises(CannotJudgeError, match="cannot be built in") as caught:
            provide_environment(want("six==1.16.0"))
        assert "MLFLOW_REPRO_CACHE" in caught.value.hint


BUILD = """\
import sys
from mlflow_repro.environment.build import Wanted, provide_environment
from mlflow_repro.text.pins import parse_lock
from mlflow_repro.values.environment import PythonVersion
wanted = Wanted(
    python=PythonVersion(version=sys.argv[1]), groups=[("default", parse_lock(sys.argv[2], "lock"))], versions={}
)
print("begin", flush=True)
print(provide_environment(wanted).directory)
"""


def start_build(*lines: str, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, HERE.version, "\n".join(lines)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **variables})
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    return process


def slow_uv(folder: Path) -> str:
    """A PATH whose uv is the real one, but waits in ``pip install`` until the file ``go`` is there."""
    folder.mkdir()
    script = textwrap.dedent(f"""\
        #!/bin/sh
        if [ "$1" = pip ]; then
            touch {folder}/waiting
            while [ ! -e {folder}/go ]; do sleep 0.05; done
        fi
        exec {shutil.which("uv")} "$@"
        """)
    (folder / "uv").write_text(script)
    (folder / "uv").chmod(0o755)
    return os.pathsep.join((str(folder), os.environ["PATH"]))


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_processes_build_it_once(cache, tmp_path):
    """ENV-13: the second waits for the first and gets what it has made."""
    path = slow_uv(tmp_path / "bin")
    one = start_build("six==1.16.0", PATH=path)
    wait_for(tmp_path / "bin" / "waiting")
    two = start_build("six==1.16.0", PATH="/nowhere")  # it needs no uv, since it does not build
    (tmp_path / "bin" / "go").touch()
    answers = [process.communicate(timeout=100)[0] for process in (one, two)]
    assert (one.returncode, two.returncode) == (0, 0)
    assert answers[0] == answers[1]
    assert versions(Path(answers[0].strip())) == {"six": "1.16.0"}


def test_killed_build_is_not_taken_for_ready(cache, tmp_path):
    """ENV-12: and as long as the orphaned uv goes on, nobody else builds in its folder."""
    path = slow_uv(tmp_path / "bin")
    one = start_build("six==1.16.0", PATH=path)
    wait_for(tmp_path / "bin" / "waiting")
    orphans = psutil.Process(one.pid).children(recursive=True)
    one.send_signal(signal.SIGKILL)
    one.communicate()
    (half,) = [folder for folder in cache.iterdir() if folder.is_dir()]
    (half / "half-built").touch()
    two = start_build("six==1.16.0")
    with pytest.raises(subprocess.TimeoutExpired):
        two.wait(2)
    (tmp_path / "bin" / "go").touch()
    psutil.wait_procs(orphans, timeout=60)
    answer, _ = two.communicate(timeout=100)
    assert two.returncode == 0
    assert Path(answer.strip()) == half
    assert not (half / "half-built").exists()
    assert versions(half) == {"six": "1.16.0"}


@pytest.mark.usefixtures("cache")
class TestPython:
    """The same patch level, or none."""

    @pytest.fixture(autouse=True)
    def _no_downloads(self, monkeypatch):
        monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
        monkeypatch.setenv("PYENV_ROOT", "/nowhere")

    def test_another_patch_level_is_refused_by_name(self):
        """ENV-08."""
        other = PythonVersion(version=f"{HERE.minor}.99")
        with pytest.raises(
            CannotJudgeError, match=f"made with Python {HERE.minor}.99, which is neither here"
        ) as caught:
            provide_environment(want("six==1.16.0", python=other))
        assert "--env current" in caught.value.hint
        assert "--allow-substitutions to take" in caught.value.hint

    def test_another_patch_level_as_a_substitution(self):
        other = PythonVersion(version=f"{HERE.minor}.99")
        built = provide_environment(want("six==1.16.0", python=other), allow_substitutions=True)
        assert built.notes[0].endswith(f"stands in for Python {HERE.minor}.99")
        assert built.python.startswith(f"{HERE.minor}.")

    def test_no_python_of_that_kind(self):
        for wanted in (PythonVersion(version="3.4.10"), PythonVersion(version="3.11.7", implementation="graalpy")):
            with pytest.raises(CannotJudgeError, match="neither here nor can uv fetch it"):
                provide_environment(want("six==1.16.0", python=wanted), allow_substitutions=True)

    def test_a_python_of_pyenv_is_found_though_its_shims_refuse(self, monkeypatch, tmp_path):
        folder = tmp_path / "pyenv" / "versions" / HERE.version / "bin"
        folder.mkdir(parents=True)
        real = os.path.realpath(sys.executable)
        (folder / "python").symlink_to(real)
        shims = tmp_path / "shims"
        shims.mkdir()
        for name in (f"python{HERE.minor}", "python3"):
            (shims / name).write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
            (shims / name).chmod(0o755)
        monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
        monkeypatch.setenv("PATH", os.pathsep.join((str(shims), os.path.dirname(shutil.which("uv")), "/bin")))
        monkeypatch.setattr(sys, "executable", "/bin/false")
        built = provide_environment(want("six==1.16.0"))
        assert os.path.realpath(built.directory / "bin" / "python") == real


@pytest.mark.usefixtures("cache")
class TestUv:
    """ENV-16: none, or one that is too old."""

    def test_none(self, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        with pytest.raises(CannotJudgeError, match="uv, which is not installed") as caught:
            provide_environment(want("six==1.16.0"))
        assert "pip install -U uv; or pass --env current" in caught.value.hint

    @pytest.mark.parametrize(("says", "words"), [("uv 0.4.30", "is uv 0.4.30, and 0.5.0"), ("hello", "does not say")])
    def test_too_old(self, monkeypatch, tmp_path, says, words):
        (tmp_path / "uv").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "uv").chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join((str(tmp_path), os.environ["PATH"])))
        with pytest.raises(CannotJudgeError, match=words) as caught:
            provide_environment(want("six==1.16.0"))
        assert "--env current" in caught.value.hint

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (
                "No solution found: ╰─▶ Because there is no version of a==1 and you require a==1, we can conclude that",
                "there is no version of a==1",
            ),
            ("error: Failed to build `a==1` cause: first cause: last", "Failed to build `a==1`: last"),
            ("error: something else", "something else"),
        ],
    )
    def test_explanation(self, said, told):
        assert uv_module.explain(said) == told
