"""Planted causes in a project of several files, among much that differs and was never loaded, read or used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cause_cases import Case, Setting

if TYPE_CHECKING:
    from cause_cases import Edits

SEEDED = ("--seed", "1")
_EXTRA = '"""What is added to the first weights."""\n\n'
# Changes of what the training does not use, larger than any that it does.
_UNUSED: Edits = {
    "shop/serve.py": ("import uuid\n", "import uuid\n" + "# another line\n" * 60),
    "scripts/explore.py": ("import time\n", "import time\n" + "# another line\n" * 60),
    "tests/test_model.py": ("0.1, 5", "0.05, 9"),
    "conf/serve.json": '{"port": 9090, "scale": 3.0}\n',
    "data/prices_old.csv": "1,2,3\n",
    "README.md": "# The shop\n\nAnother text.\n",
    "requirements.txt": "numpy\nmlflow\ntqdm\n",
    "docs/notes.md": "# Other notes\n",
}
_WORDS = '("apple", "pear", "plum", "quince", "medlar", "cherry", "fig", "olive")'


def _extra(body: str, imports: str = "", more: str = "") -> Edits:
    """The edit by which `nudge` is what ``body`` returns."""
    start = f"{imports}\n\n" if imports else ""
    return {"shop/extra.py": f"{_EXTRA}{start}{more}\n\ndef nudge() -> float:\n    return float({body})\n"}


def _setting(*arguments: str, edits: Edits | None = None, **more: object) -> Setting:
    return Setting(arguments=(*SEEDED, *arguments), edits=edits or {}, **more)  # type: ignore[arg-type]


def _case(name: str, cause: tuple[str, str], isolated: object, **more: object) -> Case:
    """A case with one cause; what is not used differs in the second run, unless it says otherwise."""
    given = {"one": _setting(), "other": _setting(edits=_UNUSED), "causes": (cause,), **more}
    return Case(name=f"shop {name}", project="shop", isolated=isolated, **given)  # type: ignore[arg-type]


def _variables(*, edits: Edits | None = None, **variables: str) -> Setting:
    return _setting(edits=edits, variables=variables)


def _package(version: str, content: str = "") -> dict[str, str]:
    """An installed package that is another version of the same, beside the repository."""
    folder = f"site{version[0]}"
    return {f"{folder}/priceless-{version}.dist-info/METADATA": f"Name: priceless\nVersion: {version}\n",
            f"{folder}/priceless-{version}.dist-info/RECORD": "priceless.py,,\n",
            f"{folder}/priceless.py": content or f"VERSION = '{version}'\n"}  # fmt: skip


_LATER = 'os.environ["{name}"] = "{value}"\n'
_DATA = ("1.5\n2.5\n", "6.25\n2.5\n")
_ABSOLUTE = _extra("np.loadtxt(TABLE).sum()", "from pathlib import Path\n\nimport numpy as np",
                   '\nFOLDER = Path("OUTSIDE")\nTABLE = FOLDER / "nudges.csv"')  # fmt: skip
_IGNORED = _extra("OFFSET", "try:\n    from local_settings import OFFSET\nexcept ImportError:\n    OFFSET = 0.0")
_BESIDE = _extra("OFFSET", "import sys\n\nsys.path.append('OUTSIDE/lib')\nfrom shared_offsets import OFFSET")
_HELD = "class Vocabulary:\n    def __init__(self, words):\n        self.words = set(words)\n"
_TWO = f"ONE = dict.fromkeys({_WORDS})\nOTHER = dict.fromkeys(reversed({_WORDS}))\n"
_FOREST = (
    "from sklearn.datasets import load_iris\nfrom sklearn.ensemble import RandomForestClassifier\n"
    "from sklearn.model_selection import cross_val_score"
)
_SET_CODE = {"shop/model.py": ("PENALTY = 0.01", "PENALTY = 0.02")}

LOADED = (
    _case("module among others", ("code", "shop/model.py"), (("code", "code"),),
          other=_setting(edits={**_UNUSED, **_SET_CODE})),
    _case("uncommitted module among others", ("code", "shop/features.py"), (("code", "uncommitted"),),
          other=_setting(edits={**_UNUSED, "shop/features.py": ("columns[:, :1] *", "columns[:, 1:] *")},
                         is_committed=False)),
    _case("settings among others", ("code", "conf/train.json"), (("code", "code"),),
          other=_setting(edits={**_UNUSED, "conf/train.json": '{"scale": 9.0}\n'})),
    _case("data among others", ("data", "data/prices.csv"), (("code", "code"),),
          other=_setting(edits={**_UNUSED, "data/prices.csv": ("\n2,", "\n3,")})),
    _case("unseeded, other code unused", ("random_state", "numpy"), (("random_state", "numpy"),),
          one=Setting(), other=Setting(edits=_UNUSED)),
    _case("rate, other code unused", ("parameter", "rate"), (("parameter", "rate"),),
          other=_setting("--rate", "0.02", edits=_UNUSED)),
    _case("rate, another temporary folder", ("parameter", "rate"), (("parameter", "rate"),),
          one=_setting("--out", "/tmp/one"), other=_setting("--rate", "0.02", "--out", "/tmp/other")),  # noqa: S108
    _case("module that git ignores", ("code", "local_settings.py"), "not restored", edits=_IGNORED,
          one=_setting(edits={"local_settings.py": "OFFSET = 1.0\n"}, is_committed=False),
          other=_setting(edits={**_UNUSED, "local_settings.py": "OFFSET = 2.0\n"}, is_committed=False)),
    _case("module beside the repository", ("code", "shared_offsets.py"), "not restored", edits=_BESIDE,
          one=_setting(outside={"lib/shared_offsets.py": "OFFSET = 1.0\n"}),
          other=_setting(edits=_UNUSED, outside={"lib/shared_offsets.py": "OFFSET = 2.0\n"})),
    _case("data behind a path in the code", ("data", "nudges.csv"), (("data", "nudges.csv"),), edits=_ABSOLUTE,
          one=_setting(outside={"nudges.csv": _DATA[0]}),
          other=_setting(edits=_UNUSED, outside={"nudges.csv": _DATA[1]})),
    _case("rate, another package that is not used", ("parameter", "rate"), (("parameter", "rate"),),
          one=_setting(variables={"PYTHONPATH": "OUTSIDE/site1"}, outside=_package("1.0")),
          other=_setting("--rate", "0.02", variables={"PYTHONPATH": "OUTSIDE/site2"}, outside=_package("2.0"))),
    _case("random state switched off on purpose", ("random_state", "MLFLOW_REPRO_SEED"), "nondeterministic",
          one=Setting(variables={"MLFLOW_REPRO_SEED": "off"}),
          other=Setting(edits=_UNUSED, variables={"MLFLOW_REPRO_SEED": "off"})),
    _case("code and rate among others", ("parameter", "rate"), (("parameter", "rate"), ("code", "code")),
          causes=(("parameter", "rate"), ("code", "shop/model.py")),
          other=_setting("--rate", "0.02", edits={**_UNUSED, **_SET_CODE})),
)  # fmt: skip

_UNSET = _extra(
    "sum(3**n * len(word) for n, word in enumerate(Vocabulary(WORDS).words))", more=f"{_HELD}\n\nWORDS = {_WORDS}"
)
SPELLED = (
    # PYTHONHASHSEED, and a set under another name
    _case("set in an attribute", ("hash_seed", "PYTHONHASHSEED"), (("hash_seed", ""),), edits=_UNSET,
          one=_variables(PYTHONHASHSEED="1"), other=_variables(PYTHONHASHSEED="2", edits=_UNUSED)),
    _case("keys of two", ("hash_seed", "PYTHONHASHSEED"), (("hash_seed", ""),),
          edits=_extra("sum(3**n * len(word) for n, word in enumerate(ONE.keys() & OTHER.keys()))", more=_TWO),
          one=_variables(PYTHONHASHSEED="1"), other=_variables(PYTHONHASHSEED="2")),
    _case("default of sets", ("hash_seed", ""), "nondeterministic",
          edits=_extra("sum(3**n * len(word) for n, word in enumerate(FOUND['all']))",
                       "from collections import defaultdict",
                       f"\nFOUND = defaultdict(set)\nfor name in {_WORDS}:\n    FOUND['all'].add(name)\n"),
          other=_variables(LC_COLLATE="C", edits=_UNUSED)),
    _case("hash seed that is set too late", ("hash_seed", "order of sets"), "nondeterministic",
          edits=_extra("sum(3**n * len(word) for n, word in enumerate(make()))",
                       "import os\n", _LATER.format(name="PYTHONHASHSEED", value="0")
                       + f"\n\ndef make() -> frozenset:\n    return frozenset({_WORDS})\n")),
    # what is different each time, under another name
    _case("clock by another name", ("time", "when it is run"), "nondeterministic",
          edits=_extra("t.time() * 1e4 % 1000", "import time as t"),
          other=_variables(OMP_NUM_THREADS="1", edits=_UNUSED)),
    _case("clock in an attribute", ("time", "when it is run"), "nondeterministic",
          edits=_extra("Watch().tell().microsecond", "from datetime import datetime as D",
                       "class Watch:\n    def __init__(self):\n        self.tell = D.now\n"),
          other=_variables(TZ="Asia/Tokyo", edits=_UNUSED)),
    _case("generated id by another name", ("nondeterminism", "entropy"), "nondeterministic",
          edits=_extra("make().int % 1000", "from uuid import uuid4 as make")),
    _case("secrets", ("nondeterminism", "entropy"), "nondeterministic",
          edits=_extra("randbelow(1000)", "from secrets import randbelow"),
          other=_variables(LC_COLLATE="C", edits=_UNUSED)),
    _case("generator without a seed", ("nondeterminism", "entropy"), "nondeterministic",
          edits=_extra("GENERATOR.random() * 97", "import random", "\nGENERATOR = random.Random()")),
    _case("number of the process", ("nondeterminism", "process"), "nondeterministic",
          edits=_extra("number() % 97", "from os import getpid as number")),
    # variables
    _case("variable by another name", ("variable", "SKLEARN_SEED"), (("variable", "SKLEARN_SEED"),),
          edits=_extra("get(NAME, '1')", "from os import getenv as get", "\nNAME = 'SKLEARN_SEED'"),
          one=_variables(SKLEARN_SEED="3"), other=_variables(SKLEARN_SEED="5", TZ="Asia/Tokyo", edits=_UNUSED)),
    _case("time zone by another name", ("time", "TZ"), (("time", "TZ"),),
          edits=_extra("here(0).tm_hour", "from time import localtime as here"),
          one=_variables(TZ="UTC"), other=_variables(TZ="Asia/Tokyo", LC_COLLATE="C", edits=_UNUSED)),
    _case("assertion in a module", ("variable", "PYTHONOPTIMIZE"), (("variable", "PYTHONOPTIMIZE"),),
          edits=_extra("len(FOUND)", more="FOUND = []\nassert not FOUND.append(1)\n"),
          other=_variables(PYTHONOPTIMIZE="1", edits=_UNUSED)),
    _case("workers that draw", ("random_state", "worker"), "nondeterministic",
          edits=_extra("cross_val_score(RandomForestClassifier(5, max_features=1), *load_iris(return_X_y=True),"
                       " cv=4, n_jobs=2).mean() * 99", _FOREST)),
    Case(name="threads that are set too late", project="numerics", causes=(("threads", "THREADS"),),
         isolated=(("threads", "THREADS"),), one=Setting(variables={"OPENBLAS_NUM_THREADS": "2"}),
         other=Setting(variables={"OPENBLAS_NUM_THREADS": "1"}),
         edits={"train.py": ("generator =", 'import os\n\nos.environ["OPENBLAS_NUM_THREADS"] = "1"\ngenerator =')}),
)  # fmt: skip

# The other run has no record, so that there is nothing that isolate could try.
ABSENT = (
    _case("run without a record", ("nondeterminism", "differs from itself"), None, one=Setting(),
          other=Setting(variables={"MLFLOW_REPRO_DISABLE": "1"})),
    _case("rate of a run without a record", ("parameter", "rate"), None,
          other=_setting("--rate", "0.02", edits=_UNUSED, variables={"MLFLOW_REPRO_DISABLE": "1"})),
    _case("code of a run without a record", ("code", "shop/model.py"), None,
          other=_setting(edits={**_UNUSED, **_SET_CODE}, variables={"MLFLOW_REPRO_DISABLE": "1"})),
    _case("package that is used", ("package", "priceless"), None,
          edits=_extra("VALUE", "from priceless import VALUE"),
          one=_setting(variables={"PYTHONPATH": "OUTSIDE/site1"}, outside=_package("1.0", "VALUE = 1\n")),
          other=_setting(edits=_UNUSED, variables={"PYTHONPATH": "OUTSIDE/site2"},
                         outside=_package("2.0", "VALUE = 2\n"))),
)  # fmt: skip
SHOP_CASES = (*LOADED, *SPELLED, *ABSENT)
