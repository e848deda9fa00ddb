"""Development sessions, each with all of its set-up; `nox -l` lists them, `nox` runs lint, types, docs and test."""

import os
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "uv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "docs", "test"]

NEWEST = "constraints.txt"
OLDEST = "constraints-oldest.txt"

# These environments are thrown away with .nox, and a training imports thousands of files: without their
# bytecode each process compiles them anew, which takes three times as long.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# uv brings certificates of its own and knows nothing of those that a company's proxy or mirror needs.
os.environ.setdefault("UV_SYSTEM_CERTS", "true")


def offer_pyenv_pythons() -> None:
    """Put the Pythons that pyenv has last on PATH: its own `python3.X` works for the version in use only."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pythons = sorted(str(folder) for folder in root.glob("versions/3.*/bin"))
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *pythons])


offer_pyenv_pythons()


def install(session: nox.Session, *what: str, constraints: str = NEWEST) -> None:
    """Install the built distribution and `what` else, at the pinned versions."""
    # Reinstalled each time: the version number stays while the code changes, and uv would keep what it has.
    session.install(".", *what, "--constraint", constraints, "--reinstall-package", "mlflow-repro")


def run_tests(session: nox.Session) -> None:
    """Run the quick tests, many of which only wait, then the slow ones; or pytest with the arguments given."""
    # nox points uv at the session's environment by these, and they would win over the environment that an
    # MLflow project is being given by `uv pip install`.
    env = {"UV_PYTHON": None, "UV_PROJECT_ENVIRONMENT": None}
    if session.posargs:
        session.run("pytest", *session.posargs, env=env)
        return
    # Many tests start, kill and wait for processes. One that fails is tried once more and listed as a rerun.
    # A worker that has nothing left to do takes from the others: the last minutes would be one worker's alone.
    shared = ("--dist", "worksteal", "--reruns", "1")
    session.run("pytest", "-n", "3", "-m", "not slow", *shared, env=env)
    session.run("pytest", "-n", "2", "-m", "slow", *shared, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format."""
    session.install("--group", "lint", "--constraint", NEWEST)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly."""
    session.install("-r", "pyproject.toml", "--group", "types", "--constraint", NEWEST)
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into `site`; whatever it warns of is an error."""
    install(session, "--group", "docs")
    env = {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement, which says nothing of these pages
    session.run("mkdocs", "build", "--strict", "--quiet", *session.posargs, env=env)


@nox.session
def test(session: nox.Session) -> None:
    """Test the built distribution on this Python with the newest MLflow; arguments after -- go to pytest."""
    install(session, ".[keras,artifacts,notebook]", "--group", "test", "--group", "recipes")
    run_tests(session)


@nox.session
@nox.parametrize(
    ("python", "mlflow"),
    [
        nox.param("3.10", "newest", id="3.10-newest"),
        nox.param("3.11", "newest", id="3.11-newest"),
        nox.param("3.12", "newest", id="3.12-newest"),
        nox.param("3.13", "newest", id="3.13-newest"),
        # MLflow 2.9.2 has no command line on 3.12 (`EntryPoints` lost `get`), and its numpy no wheel for 3.13.
        nox.param("3.10", "oldest", id="3.10-oldest"),
        nox.param("3.11", "oldest", id="3.11-oldest"),
    ],
)
def matrix(session: nox.Session, mlflow: str) -> None:
    """Test on every supported Python, with the newest MLflow and the oldest; one: -s "matrix(3.10-oldest)"."""
    if mlflow == "oldest":
        install(session, ".[artifacts,notebook]", "--group", "test", "--group", "oldest", constraints=OLDEST)
    else:
        install(session, ".[keras,artifacts,notebook]", "--group", "test", "--group", "recipes")
    run_tests(session)


@nox.session
def demo(session: nox.Session) -> None:
    """Do the main job once: train a run, reproduce it, print table and verdict; `-- --ui` shows it in MLflow's UI."""
    install(session)
    # After Ctrl-C it ends a server and removes a folder, which is more than the third of a second that nox allows.
    session.run("python", "examples/demo.py", *session.posargs, interrupt_timeout=30, terminate_timeout=10)


@nox.session
def lock(session: nox.Session) -> None:
    """Write both constraint files anew; `nox -s lock -- --upgrade` takes the newest of everything."""
    compile_pins = ["uv", "pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.10"]
    compile_pins += ["--no-annotate", "--custom-compile-command", "nox -s lock -- --upgrade", "--quiet"]
    newest = ["--extra", "keras", "--extra", "artifacts", "--extra", "notebook", "--group", "dev"]
    oldest = ["--extra", "artifacts", "--extra", "notebook", "--group", "test", "--group", "oldest"]
    for what, constraints in (newest, NEWEST), (oldest, OLDEST):
        session.run(*compile_pins, *what, "-o", constraints, *session.posargs)
