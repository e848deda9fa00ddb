"""Lines whose result may be another one each time: found whatever they are called, and only where they are."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_repro.explain.evidence import CodeHint
from mlflow_repro.explain.hints import find_hints, find_program_hints
from mlflow_repro.explain.names import Program

HINTS = [
    ("for x in {1, 2}: pass", "hash_seed"),
    ("s = set(names)\nfor x in s: pass", "hash_seed"),
    ("x = [f(w) for w in set(a) | b]", "hash_seed"),
    ("x = list({w for w in a})", "hash_seed"),
    ("x = sum(f(w) for w in set(a))", None),
    ("x = sum(set(a))", "hash_seed"),
    ("x = sorted(w for w in set(a))", None),
    ("x = hash('a')", "hash_seed"),
    ("import time\nx = time.time()", "time"),
    ("from datetime import datetime\nx = datetime.now()", "time"),
    ("import os\nx = os.urandom(4)", "entropy"),
    ("import uuid\nx = uuid.uuid4()", "entropy"),
    ("import os\nfor f in os.listdir('.'): pass", "files"),
    ("import os\nfor f in sorted(os.listdir('.')): pass", None),
    ("import pathlib\nx = list(pathlib.Path('.').iterdir())", "files"),
    ("import threading\nthreading.Thread(target=f)", "threads"),
    ("import os\nx = os.environ['LR']", "variable"),
    ("import os\nx = os.getenv('LR', 1)", "variable"),
    ("assert x", "optimize"),
    ("open('a')", "locale"),
    ("open('a', 'rb')", None),
    ("open('a', encoding='utf-8')", None),
    ("x = 1", None),
    ("this is no Python", None),
    ("x = '\0'", None),
]


# Each of these was missed, or taken for what it is not, when a line was known by its spelling.
LINES = [
    ("from glob import glob\nfor f in glob('*.csv'): pass", "files"),
    ("from pathlib import Path\nfor f in Path('.').glob('*'): pass", "files"),
    ("from pathlib import Path as P\nroot = P('x') / 'y'\nx = [f for f in root.glob('*')]", "files"),
    ("import pathlib as pl\ndef f(folder: pl.Path):\n    return list(folder.glob('*'))", "files"),
    ("from os import listdir\nfor f in listdir('.'): pass", "files"),
    ("from os import walk\nfor a, b, c in walk('.'): print(c)", "files"),
    ("from os import walk\nfor a, b, c in walk('.'):\n    b.sort()\n    for f in sorted(c): pass", None),
    ("import os\nx = os.listdir('.')\nx.sort()\nfor f in x: pass", None),
    ("import os\nx = os.listdir('.')\nfor f in sorted(x): pass", None),
    ("import os\nx = os.listdir('.')\nfor f in x: pass", "files"),
    ("from os import urandom\nx = urandom(3)", "entropy"),
    ("import time as t\nx = t.time()", "time"),
    ("from time import time as now\nx = now()", "time"),
    ("from uuid import uuid4\nx = uuid4()", "entropy"),
    ("import secrets\nx = secrets.randbits(3)", "entropy"),
    ("from secrets import token_urlsafe as tok\nx = tok()", "entropy"),
    ("import random\nr = random.Random()", "entropy"),
    ("import random\nr = random.Random(3)", None),
    ("import random\nr = random.Random(None)", "entropy"),
    ("from datetime import datetime as D\nx = D.now()", "time"),
    ("import datetime as D\nx = D.datetime.utcnow()", "time"),
    (
        (
            "class A:\n    def __init__(self, w):\n        self.w = set(w)\n    def f(self):\n"
            "        return [x for x in self.w]"
        ),
        "hash_seed",
    ),
    ("class A:\n    w = {'a'}\n    def f(self):\n        for x in self.w: print(x)", "hash_seed"),
    ("def f(w):\n    return set(w)\nfor x in f('ab'): print(x)", "hash_seed"),
    ("def f(w) -> set[str]:\n    return g(w)\nx = list(f('ab'))", "hash_seed"),
    ("a = {}\nb = {}\nfor k in a.keys() & b.keys(): print(k)", "hash_seed"),
    ("a = {}\nfor k in a.keys(): print(k)", None),
    ("s = set('ab')\nd = dict.fromkeys(s)", "hash_seed"),
    ("from collections import defaultdict\nd = defaultdict(set)\nfor x in d['a']: print(x)", "hash_seed"),
    (
        "from collections import defaultdict\nd = defaultdict(set)\nfor k, v in d.items():\n    for x in v: print(x)",
        "hash_seed",
    ),
    (
        "from collections import defaultdict\nd = defaultdict(list)\nfor k, v in d.items():\n    for x in v: print(x)",
        None,
    ),
    ("import joblib\njoblib.Parallel(n_jobs=2)(f(x) for x in y)", "workers"),
    ("from joblib import Parallel, delayed\nParallel(n_jobs=1)(f(x) for x in y)", None),
    ("import concurrent.futures\nwith concurrent.futures.ThreadPoolExecutor() as p: pass", "threads"),
    ("from concurrent.futures import ProcessPoolExecutor as P\nwith P() as p: pass", "workers"),
    ("import concurrent.futures as cf\nfor f in cf.as_completed(x): pass", "threads"),
    ("import multiprocessing as mp\nmp.Process(target=f).start()", "workers"),
    ("import multiprocessing as mp\nctx = mp.get_context('spawn')\nwith ctx.Pool(2) as p: pass", "workers"),
    ("import pandas as pd\nx = pd.read_csv('https://a.b/c.csv')", "network"),
    ("import pandas as pd\nURL = 'https://a.b/c.csv'\nx = pd.read_csv(URL)", "network"),
    ("import urllib.request as u\nx = u.urlopen('http://a')", "network"),
    ("from urllib.request import urlopen\nx = urlopen(y)", "network"),
    ("import requests\nx = requests.get(y)", "network"),
    ("import requests\ns = requests.Session()\nx = s.get(y)", "network"),
    ("from os import environ\nx = environ['LR']", "variable"),
    ("from os import getenv as g\nx = g('LR')", "variable"),
    ("import os\nos.environ['PYTHONHASHSEED'] = '0'", "set_variable"),
    ("x = sorted({'a', 'b'}, key=len)", "hash_seed"),
    ("x = sorted({'a', 'b'})", None),
    ("x = max(set(w), key=w.count)", "hash_seed"),
    ("x = {f(y) for y in set(w)}", None),
    ("x = [*set(w)]", "hash_seed"),
    ("a, b = {'x', 'y'}", "hash_seed"),
    ("x = f'{set(w)}'", "hash_seed"),
    ("def hash(x): return 3\ny = hash('a')", None),
    (
        (
            "from sklearn.model_selection import cross_val_score\n"
            "from sklearn.ensemble import RandomForestClassifier\n"
            "x = cross_val_score(RandomForestClassifier(5), X, y, n_jobs=2)"
        ),
        "workers",
    ),
    (
        (
            "from sklearn.model_selection import cross_val_score\n"
            "from sklearn.ensemble import RandomForestClassifier\n"
            "m = RandomForestClassifier(5, random_state=3)\nx = cross_val_score(m, X, y, n_jobs=2)"
        ),
        None,
    ),
    ("from time import localtime as here\nx = here(0)", "timezone"),
    ("from time import localtime as here\nx = here()", "time"),
    ("import time\nx = time.strftime('%H')", "time"),
    ("import time\nx = time.strftime('%H', then)", "timezone"),
    ("import time\nx = time.gmtime(0)", None),
    ("from datetime import datetime\nx = datetime.fromtimestamp(0)", "timezone"),
    ("from os import *\nfor f in listdir('.'): pass", "files"),
    (
        (
            "import time\nclass A:\n    def __init__(self):\n        self.clock = time.time\n"
            "    def f(self):\n        return self.clock()"
        ),
        "time",
    ),
    ("from functools import partial\nimport time\nf = partial(time.time)\nx = f()", "time"),
]
# What each of these is by its full name, and the topic of a call of it.
CALLS = {
    "time.time": "time", "time.perf_counter_ns": "time", "datetime.datetime.now": "time", "datetime.date.today": "time",
    "timeit.default_timer": "time", "os.listdir": "files", "os.scandir": "files", "os.walk": "files",
    "glob.glob": "files", "glob.iglob": "files", "os.urandom": "entropy", "os.getrandom": "entropy",
    "uuid.uuid1": "entropy", "uuid.uuid4": "entropy", "secrets.token_bytes": "entropy", "secrets.choice": "entropy",
    "secrets.token_urlsafe": "entropy", "random.SystemRandom": "entropy", "random.Random": "entropy",
    "threading.Thread": "threads", "concurrent.futures.ThreadPoolExecutor": "threads",
    "concurrent.futures.as_completed": "threads", "multiprocessing.pool.ThreadPool": "threads",
    "concurrent.futures.ProcessPoolExecutor": "workers", "multiprocessing.Pool": "workers",
    "multiprocessing.Process": "workers", "os.getpid": "process", "tempfile.mkdtemp": "process",
    "urllib.request.urlopen": "network", "requests.get": "network",
}  # fmt: skip
# How a name can come to stand for another: a program around ``{module}`` and ``{name}`` that ends in a call of it.
SPELLINGS = [
    "import {root}\nx = {module}.{name}()",
    "import {module}\nx = {module}.{name}()",
    "import {module} as other\nx = other.{name}()",
    "from {module} import {name}\nx = {name}()",
    "from {module} import {name} as other\nx = other()",
    "from {module} import {name} as first\nother = first\nx = other()",
    "def f():\n    from {module} import {name} as other\n    return other()",
    "import {module}\nf = {module}.{name}\ndef g(call):\n    return call()\nx = g(f)",
    (
        "import {module}\nclass A:\n    def __init__(self):\n        self.call = {module}.{name}\n"
        "    def f(self):\n        return self.call()"
    ),
    "import {module} as other\ndef f(call=other.{name}):\n    return call()",
    "import importlib\nother = importlib.import_module('{module}')\nx = other.{name}()",
]
_IMPORTED_WHOLE = ("os", "time", "glob", "uuid", "secrets", "threading", "random", "timeit", "tempfile", "requests")
# How a set can be made or held; ``S`` is one, and ``{}`` in the ways to use it below.
SETS = [
    ("", "set(words)"),
    ("", "frozenset(words)"),
    ("", "{w for w in words}"),
    ("s = set(words)", "s"),
    ("s: set[str] = make()", "s"),
    ("from typing import AbstractSet\ndef f(s: AbstractSet[str]):\n    return s\n", "f(words)"),
    ("def f(words):\n    return set(words)", "f(words)"),
    ("def f() -> 'frozenset[str]':\n    return make()", "f()"),
    ("def f():\n    s = set(words)\n    s.add(1)\n    return s", "f()"),
    ("class A:\n    def __init__(self):\n        self.seen = set()\na = A()", "a.seen"),
    ("class A:\n    @staticmethod\n    def f():\n        return set(words)\n", "A.f()"),
    (
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n"
            "    seen: set = field(default_factory=set)\na = A()"
        ),
        "a.seen",
    ),
    ("a = {}\nb = {}", "a.keys() & b.keys()"),
    ("a = {}\nb = {}", "(a.keys() - b)"),
    ("a = set(words)", "a.union(words)"),
    ("a = set(words)", "(a | b)"),
    ("from collections import defaultdict\nd = defaultdict(set)", "d['x']"),
    ("from collections import defaultdict as dd\nd = dd(lambda: set())", "d.get('x')"),
    ("d = {}\nd['x'] = set()", "d['y']"),
    ("d = {}", "d.setdefault('x', set())"),
    ("d: dict[str, set[str]] = {}", "d['x']"),
    ("a = [set(one) for one in words]", "a[0]"),
    ("s = set(words)\nimport copy", "copy.deepcopy(s)"),
    ("s = None if words else set(words)", "s"),
]
USES = [
    "for x in {}: print(x)", "y = [f(x) for x in {}]", "y = dict.fromkeys({})", "y = list({})", "y = tuple({})",
    "y = ','.join({})", "y = [*{}]", "f(*{})", "a, b = {}", "y = next(iter({}))", "y = ({}).pop()",
    'y = f"""{{({})}}"""',
    "y = sorted({}, key=len)", "y = max({}, key=len)", "import numpy as np\ny = np.array(list({}))",
    "import pandas as pd\ny = pd.Index({})", "y = dict(enumerate({}))", "def g():\n    yield from {}",
    "y = []\ny += {}", "y = []\ny.extend({})", "from itertools import chain\ny = list(chain({}))",
    "def g(s):\n    return list(s)\ng({})",
]  # fmt: skip
ORDERLESS = [
    "y = sorted({})",
    "y = len({})",
    "y = 'a' in {}",
    "y = max({})",
    "y = {{f(x) for x in {}}}",
    "y = any(x for x in {})",
]


def topics(source: str) -> set[str]:
    return {hint.topic for hint in find_hints("train.py", source)}


@pytest.mark.parametrize(("source", "topic"), [*HINTS, *LINES])
def test_topic(source: str, topic: str | None):
    assert topics(source) == ({topic} if topic else set())


def test_place():
    (hint,) = find_hints("a/b.py", "x = 1\nfor w in {1}:\n    pass\n")
    assert (hint.where, hint.text) == ("a/b.py:2", "iterates over a set")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(("name", "topic"), CALLS.items())
def test_a_call_is_known_by_what_it_is(name: str, topic: str, spelling: str):
    module, _, last = name.rpartition(".")
    source = spelling.format(module=module, name=last, root=module.partition(".")[0])
    ast.parse(source)
    assert topics(source) == {topic}


@pytest.mark.parametrize(("before", "value"), SETS)
@pytest.mark.parametrize("use", USES)
def test_a_set_is_known_however_it_is_held(before: str, value: str, use: str):
    source = f"{before}\n{use.format(value)}"
    ast.parse(source)
    assert "hash_seed" in topics(source)


@pytest.mark.parametrize(("before", "value"), [("s = set(words)", "s"), ("", "{w for w in words}")])
@pytest.mark.parametrize("use", ORDERLESS)
def test_where_the_order_of_a_set_does_not_show(before: str, value: str, use: str):
    assert topics(f"{before}\n{use.format(value)}") == set()


@pytest.mark.parametrize("name", sorted(_IMPORTED_WHOLE))
def test_another_name_of_the_same_spelling_is_not_meant(name: str):
    calls = [full.rpartition(".")[2] for full in CALLS if full.partition(".")[0] == name]
    source = "\n".join(f"def {call}():\n    return 0\nx = {call}()" for call in calls)
    assert topics(source) == set()


class TestProgram:
    """Several files."""

    def test_names_are_followed_through_the_files_of_a_program(self):
        sources = {
            "train.py": "from tools.words import WORDS, listing\nfor w in WORDS: pass\nx = [f for f in listing('.')]\n"
            "from tools import late\nfor z in late(): pass",
            "tools/__init__.py": "from .deep import make as late",
            "tools/words.py": "from os import listdir as listing\nWORDS = {'a'}",
            "tools/deep.py": "def make():\n    return {1} | set('a')",
        }
        assert find_program_hints(sources) == [
            CodeHint(topic="hash_seed", where="train.py:2", text="iterates over a set"),
            CodeHint(topic="hash_seed", where="train.py:5", text="iterates over a set"),
            CodeHint(topic="files", where="train.py:3", text="calls os.listdir()"),
        ]

    def test_a_file_that_is_called_like_a_library_elsewhere_is_not_that_library(self):
        sources = {"train.py": "import time\nx = time.time()", "docs/old/time.py": "def time():\n    return 0"}
        assert [hint.topic for hint in find_program_hints(sources)] == ["time"]
        beside = {"train.py": "import time\nx = time.time()", "time.py": "def time():\n    return 0"}
        assert find_program_hints(beside) == []

    def test_what_a_script_would_import(self):
        program = Program(
            {
                "ml/train.py": "import helper\nfrom lib import deep\nimport numpy",
                "ml/helper.py": "def f():\n    from lib.later import g",
                "lib/__init__.py": "",
                "lib/deep.py": "from . import near",
                "lib/near.py": "",
                "lib/later.py": "",
                "lib/never.py": "",
                "never.py": "import helper",
            }
        )
        wanted = {"ml/train.py", "ml/helper.py", "lib/__init__.py", "lib/deep.py", "lib/near.py", "lib/later.py"}
        assert program.reach(["ml/train.py"]) == wanted

    @given(st.lists(st.sampled_from(["a = b", "b = a", "a = f(a)", "def f(x): return f(x)", "a = a | b", "b = a.c",
                                     "a.c = b", "for a in b: b = a", "a = [a for a in a]", "from t import a",
                                     "a = b[a]", "b = {a: a}", "f(a, x=b)", "a = lambda: a()"]), max_size=8)
           )  # fmt: skip
    def test_names_that_lead_back_to_themselves_end(self, lines: list[str]):
        hints = find_program_hints({"t.py": "\n".join([*lines, "for z in a: pass", "a()"])})
        assert all(hint.where.startswith("t.py:") for hint in hints)

    def test_an_expression_of_many_parts_costs_no_others(self):
        deep = "x = " + "+".join(["a"] * 900) + "\n"
        assert "hash_seed" in topics(f"for w in set(a): pass\n{deep}")
