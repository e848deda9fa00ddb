"""The planted causes: what is done to the second of two runs, and what must be found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Edits = Mapping[str, "tuple[str, str] | str"]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How one of the two runs is made.

    ``edits`` are replacements in files, or whole files; committed or left as they are. ``outside`` are files that lie
    outside the repository.
    """

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    edits: Edits = field(default_factory=dict)
    is_committed: bool = True
    outside: Mapping[str, str] = field(default_factory=dict)
    script: str = "train.py"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two runs. ``causes`` are what the first cause of explain may be: its kind, and a word of it.

    ``isolated`` is what isolate must blame, in any order: pairs of a kind and a word; or the state that it must end in;
    None where there is nothing that it could launch. Of a run that differs from itself, ``causes`` may be empty.
    ``edits`` are made in the code of both runs; ``data`` is where isolate may look for data files.
    """

    name: str
    project: str
    causes: tuple[tuple[str, str], ...]
    isolated: tuple[tuple[str, str], ...] | str | None
    one: Setting = Setting()
    other: Setting = Setting()
    edits: Edits = field(default_factory=dict)
    data: tuple[str, ...] = ()
    is_quick: bool = False

    @property
    def is_nondeterministic(self) -> bool:
        """True for a run that differs from itself."""
        return self.isolated == "nondeterministic"


def _simple(name: str, project: str, cause: tuple[str, str], one: Setting, other: Setting, **more: object) -> Case:
    """A case with one cause that isolate must blame, too."""
    return Case(name=name, project=project, causes=(cause,), isolated=(cause,), one=one, other=other, **more)  # type: ignore[arg-type]


def _variables(**variables: str) -> Setting:
    return Setting(variables=variables)


SEEDED = ("--seed", "1")
_FEATURES = "AVX512F AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR AVX2 FMA3 X86_V3 X86_V4"
_DATA = "\n".join(
    f"{i % 7},{i * 3 % 11},{i * 5 % 13},{i % 7 * 0.5 - i * 3 % 11 * 0.25 + i * 5 % 13 * 0.125}" for i in range(64)
)
_DATA_CHANGED = _DATA.replace("\n3,", "\n4,", 1)
_NUMPY_FILES: Edits = {"data.csv": _DATA}
_SMALL_RATE = ("--lr", "0.002")


def _numpy(*arguments: str, edits: Edits | None = None, **more: object) -> Setting:
    return Setting(arguments=(*_SMALL_RATE, *arguments), edits=edits or {}, **more)  # type: ignore[arg-type]


def _plain(start: str, module: str = "") -> Edits:
    """An edit of the plain project: what the walk starts from, and the module that it needs."""
    imports = f"import {module}\n    " if module else ""
    return {"train.py": ("place, start = 0.0, float(len(WORDS))\n", f"{imports}place, start = 0.0, float({start})\n")}


_UNSEEDED_START = "assert WORDS  # noqa: S101\nWORDS = WORDS if __debug__ else WORDS[1:]\n"
_SET_ORDER = _plain("sum(n * WORDS.index(word) for n, word in enumerate(set(WORDS)))")
_HASHED = _plain('hash("apple") % 97')

SINGLE = (
    # numpy
    _simple("numpy parameter", "numpy", ("parameter", "lr"), Setting(arguments=("--lr", "0.002", *SEEDED)),
            Setting(arguments=("--lr", "0.003", *SEEDED)), edits=_NUMPY_FILES),
    _simple("numpy batch", "numpy", ("parameter", "batch"), _numpy(*SEEDED), _numpy(*SEEDED, "--batch", "8"),
            edits=_NUMPY_FILES),
    Case(name="numpy seed", project="numpy", causes=(("seed", "seed"),), isolated=(("parameter", "seed"),),
         one=_numpy(*SEEDED), other=_numpy("--seed", "2"), edits=_NUMPY_FILES),
    _simple("numpy unseeded", "numpy", ("random_state", "numpy"), _numpy(), _numpy(), edits=_NUMPY_FILES,
            is_quick=True),
    Case(name="numpy unseeded default_rng", project="numpy", causes=(("random_state", "default_rng"),),
         isolated=(("random_state", "entropy"),), one=_numpy(*SEEDED), other=_numpy(*SEEDED),
         edits={**_NUMPY_FILES, "train.py": ("np.random.normal(", "np.random.default_rng().normal(")}),
    _simple("numpy code", "numpy", ("code", "code"), _numpy(*SEEDED),
            _numpy(*SEEDED, edits={"model.py": ("2 * features.T", "1.9 * features.T")}), edits=_NUMPY_FILES),
    _simple("numpy uncommitted", "numpy", ("code", ""), _numpy(*SEEDED),
            _numpy(*SEEDED, edits={"model.py": ("2 * features.T", "1.9 * features.T")}, is_committed=False),
            edits=_NUMPY_FILES, is_quick=True),
    Case(name="numpy one of two files", project="numpy", causes=(("code", "model.py"),), isolated=(("code", "code"),),
         one=_numpy(*SEEDED), other=_numpy(*SEEDED, edits={"model.py": ("decay * weights", "decay * decay * weights"),
         "README.md": "# Another text\n\nof more\nlines\nthan\nthe code\n"}), edits=_NUMPY_FILES),
    Case(name="numpy settings file", project="numpy", causes=(("code", "settings.json"),), isolated=(("code", "code"),),
         one=_numpy(*SEEDED), other=_numpy(*SEEDED, edits={"settings.json": '{"decay": 0.01}'}), edits=_NUMPY_FILES),
    Case(name="numpy committed data", project="numpy", causes=(("data", "data.csv"),), isolated=(("code", "code"),),
         one=_numpy(*SEEDED), other=_numpy(*SEEDED, edits={"data.csv": _DATA_CHANGED}), edits=_NUMPY_FILES),
    Case(name="numpy other data file", project="numpy", causes=(("data", ""), ("parameter", "data")),
         isolated=(("parameter", "data"),), one=_numpy(*SEEDED, "--data", "OUTSIDE/a.csv", outside={"a.csv": _DATA}),
         other=_numpy(*SEEDED, "--data", "OUTSIDE/b.csv", outside={"b.csv": _DATA_CHANGED})),
    Case(name="numpy data changed in place", project="numpy", causes=(("data", "a.csv"),),
         isolated=(("data", "a.csv"),), one=_numpy(*SEEDED, "--data", "OUTSIDE/a.csv", outside={"a.csv": _DATA}),
         other=_numpy(*SEEDED, "--data", "OUTSIDE/a.csv", outside={"a.csv": _DATA_CHANGED})),
    Case(name="numpy data changed, kept elsewhere", project="numpy", causes=(("data", "a.csv"),),
         isolated=(("data", "a.csv"),), data=("OUTSIDE/old",),
         one=_numpy(*SEEDED, "--data", "OUTSIDE/a.csv", outside={"a.csv": _DATA, "old/a.csv": _DATA}),
         other=_numpy(*SEEDED, "--data", "OUTSIDE/a.csv", outside={"a.csv": _DATA_CHANGED})),
    # the last digits
    _simple("BLAS threads", "numerics", ("threads", "THREADS"), _variables(OPENBLAS_NUM_THREADS="1"),
            _variables(OPENBLAS_NUM_THREADS="2")),
    _simple("BLAS kernels", "numerics", ("cpu", "OPENBLAS_CORETYPE"), Setting(),
            _variables(OPENBLAS_CORETYPE="Nehalem")),
    _simple("BLAS kernels of the reference", "numerics", ("cpu", "OPENBLAS_CORETYPE"),
            _variables(OPENBLAS_CORETYPE="Nehalem"), Setting()),
    _simple("numpy kernels", "numerics", ("cpu", "NPY_DISABLE_CPU_FEATURES"), Setting(),
            _variables(NPY_DISABLE_CPU_FEATURES=_FEATURES)),
    # scikit-learn
    _simple("sklearn parameter", "sklearn", ("parameter", "max-depth"), Setting(arguments=("--random-state", "1")),
            Setting(arguments=("--random-state", "1", "--max-depth", "3"))),
    _simple("sklearn unseeded", "sklearn", ("random_state", "numpy"), Setting(), Setting()),
    Case(name="sklearn random_state", project="sklearn", causes=(("seed", "random-state"),),
         isolated=(("parameter", "random-state"),), one=Setting(arguments=("--random-state", "1")),
         other=Setting(arguments=("--random-state", "2"))),
    _simple("sklearn code", "sklearn", ("code", "code"), Setting(arguments=("--random-state", "1")),
            Setting(arguments=("--random-state", "1"), edits={"train.py": ("depth, r", "depth, max_features=3, r")})),
    # Keras
    Case(name="keras unseeded", project="keras", causes=(("random_state", ""),),
         isolated=(("random_state", "Python"), ("random_state", "TensorFlow"))),
    _simple("keras parameter", "keras", ("parameter", "units"), Setting(arguments=SEEDED),
            Setting(arguments=(*SEEDED, "--units", "9"))),
    Case(name="keras seed", project="keras", causes=(("seed", "seed"),), isolated=(("parameter", "seed"),),
         one=Setting(arguments=SEEDED), other=Setting(arguments=("--seed", "2"))),
    # plain Python
    _simple("plain parameter", "plain", ("parameter", "pull"), Setting(), Setting(arguments=("--pull", "0.31"))),
    Case(name="plain seed", project="plain", causes=(("seed", "seed"),), isolated=(("parameter", "seed"),),
         one=Setting(), other=Setting(arguments=("--seed", "6"))),
    _simple("plain unseeded", "plain", ("random_state", "Python"), Setting(), Setting(),
            edits={"train.py": ("random.seed(arguments.seed)\n", "")}),
    _simple("plain set order", "plain", ("hash_seed", "PYTHONHASHSEED"), _variables(PYTHONHASHSEED="1"),
            _variables(PYTHONHASHSEED="2"), edits=_SET_ORDER),
    _simple("plain hash", "plain", ("hash_seed", "PYTHONHASHSEED"), _variables(PYTHONHASHSEED="3"),
            _variables(PYTHONHASHSEED="4"), edits=_HASHED),
    _simple("plain assertion", "plain", ("variable", "PYTHONOPTIMIZE"), Setting(), _variables(PYTHONOPTIMIZE="1"),
            edits=_plain("3 if __debug__ else 4")),
    _simple("plain time zone", "plain", ("time", "TZ"), _variables(TZ="UTC"), _variables(TZ="Asia/Tokyo"),
            edits=_plain("time.localtime(0).tm_hour", "time")),
    _simple("plain encoding", "plain", ("locale", "PYTHONIOENCODING"), _variables(PYTHONIOENCODING="utf-8"),
            _variables(PYTHONIOENCODING="latin-1"), edits=_plain("len(sys.stdout.encoding)", "sys")),
)  # fmt: skip

DOUBLE = (
    Case(name="rate and seed", project="numpy", causes=(("parameter", "lr"), ("seed", "seed")),
         isolated=(("parameter", "lr"), ("parameter", "seed")), one=Setting(arguments=("--lr", "0.002", *SEEDED)),
         other=Setting(arguments=("--lr", "0.003", "--seed", "2")), edits=_NUMPY_FILES),
    Case(name="parameter and set order", project="plain", causes=(("parameter", "pull"), ("hash_seed", "")),
         isolated=(("parameter", "pull"), ("hash_seed", "")), one=_variables(PYTHONHASHSEED="1"),
         other=Setting(arguments=("--pull", "0.31"), variables={"PYTHONHASHSEED": "2"}), edits=_SET_ORDER,
         is_quick=True),
    Case(name="code and parameter", project="plain", causes=(("parameter", "pull"), ("code", "")),
         isolated=(("parameter", "pull"), ("code", "")), one=Setting(),
         other=Setting(arguments=("--pull", "0.31"), edits={"train.py": ("uniform(-1, 1)", "uniform(-1, 1.1)")})),
    Case(name="unseeded and variable", project="plain", causes=(("random_state", "Python"), ("variable", "")),
         isolated=(("random_state", "Python"), ("variable", "PYTHONOPTIMIZE")), one=Setting(),
         other=_variables(PYTHONOPTIMIZE="1"), edits={"train.py": ("random.seed(arguments.seed)\n", _UNSEEDED_START)}),
    Case(name="two parameters", project="sklearn", causes=(("parameter", "max-depth"), ("parameter", "trees")),
         isolated=(("parameter", "max-depth"), ("parameter", "trees")), one=Setting(arguments=("--random-state", "1")),
         other=Setting(arguments=("--random-state", "1", "--max-depth", "3", "--trees", "11"))),
)  # fmt: skip

# What else differs in these is no cause.
_DECOYS = Setting(variables={"LC_COLLATE": "C", "OMP_NUM_THREADS": "1"})
NONDETERMINISTIC = tuple(
    Case(name=name, project="plain", causes=(), isolated="nondeterministic", other=decoy, edits=edits, is_quick=quick)
    for name, decoy, edits, quick in (
        ("operating system's entropy", _DECOYS, _plain("os.urandom(1)[0]", "os"), True),
        ("clock", _DECOYS, _plain("time.time_ns() // 1000 % 1000", "time"), False),
        ("hashes", Setting(), _HASHED, False),
        ("addresses", _DECOYS, _plain("id(WORDS) // 4096 % 1000"), False),
        ("generated id", Setting(variables={"TZ": "Asia/Tokyo"}), _plain("uuid.uuid4().int % 1000", "uuid"), False),
    )
)
CASES = (*SINGLE, *DOUBLE, *NONDETERMINISTIC)
