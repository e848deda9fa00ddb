"""Calls whose result may be another one each time, by the topic that they are evidence for and their full name."""

from __future__ import annotations

import re

# A name that begins with a dot is that of a method, of whatever.
_NAMES = {
    "time": r"""
        time\.(?:time|monotonic|perf_counter|process_time|thread_time|clock_gettime)(?:_ns)?
        time\.(?:localtime|gmtime|ctime|strftime|asctime)   timeit\.default_timer
        (?:\w+\.)*datetime\.(?:now|utcnow|today)   (?:\w+\.)*date\.today
        pandas\.(?:Timestamp|Period)\.(?:now|today|utcnow)   (?:arrow|pendulum)\.(?:now|utcnow)
        django\.utils\.timezone\.(?:now|localtime)   email\.utils\.(?:localtime|formatdate)
        """,
    "timezone": r"""
        time\.mktime   (?:\w+\.)*datetime\.fromtimestamp   (?:\w+\.)*date\.fromtimestamp   \.astimezone
        """,
    "entropy": r"""
        os\.(?:urandom|getrandom)   uuid\.uuid[14]   secrets\.(?!compare_digest)\w+   secrets\.SystemRandom\(\)\.\w+
        random\.SystemRandom   (?:torch\.)(?:seed|random\.seed|Generator\(\)\.seed)
        """,
    "files": r"""
        os\.(?:listdir|scandir|walk|fwalk)   glob\.(?:i?glob|glob[01])
        pathlib\.\w+\(\)(?:\.\w+(?:\(\))?)*\.(?:glob|walk)
        \.(?:iterdir|rglob|iglob)   \?\.glob   tensorflow\.(?:io\.)?gfile\.(?:listdir|glob|walk)
        tensorflow\.data\.Dataset\.list_files   fsspec\.filesystem\(\)\.(?:ls|glob|find|walk)
        """,
    "threads": r"""
        threading\.(?:Thread|Timer)   concurrent\.futures\.(?:as_completed|wait|ThreadPoolExecutor)
        concurrent\.futures\.thread\.ThreadPoolExecutor
        asyncio\.(?:as_completed|wait|to_thread)   multiprocessing\.pool\.ThreadPool   multiprocessing\.dummy\.\w+
        \.(?:imap_unordered|run_in_executor)   dask\.distributed\.as_completed   ray\.wait
        """,
    "workers": r"""
        concurrent\.futures\.(?:process\.)?ProcessPoolExecutor   joblib\.(?:parallel\.)?Parallel   loky\.\w*xecutor
        (?:torch\.)?multiprocessing\.(?:get_context\(\)\.|pool\.|process\.|context\.)*(?:Pool|Process|SpawnProcess)
        joblib\.externals\.loky\.\w*xecutor   torch\.multiprocessing\.spawn   sklearn\.utils\.parallel\.Parallel
        pathos\.\w+\.\w+   pebble\.ProcessPool   ray\.(?:remote|get)   dask\.distributed\.Client   os\.fork
        """,
    "process": r"""
        os\.(?:getpid|getppid)   builtins\.id   threading\.(?:get_ident|get_native_id)
        tempfile\.(?:mkdtemp|mkstemp|mktemp|TemporaryDirectory|NamedTemporaryFile)
        """,
    "locale": r"""
        locale\.\w+   sys\.(?:getfilesystemencoding|getdefaultencoding)   calendar\.(?:month|day)_(?:name|abbr)
        time\.strptime   os\.(?:fsencode|fsdecode)
        """,
    "network": r"""
        urllib\.request\.(?:urlopen|urlretrieve)   (?:requests|httpx)\.(?:get|post|request|stream)
        (?:requests|httpx)\.\w+\(\)\.(?:get|post|request)   aiohttp\.ClientSession   http\.client\.HTTPS?Connection
        wget\.download   ftplib\.FTP   boto3\.(?:client|resource)   urllib3\.(?:request|PoolManager\(\)\.request)
        torch\.hub\.(?:load|load_state_dict_from_url|download_url_to_file)   gdown\.\w+
        (?:tensorflow\.)?keras\.utils\.get_file   sklearn\.datasets\.fetch_openml   huggingface_hub\.\w*download
        datasets\.load_dataset   \.from_pretrained
        """,
}
_TOPICS = tuple(
    (topic, re.compile("|".join(f"(?:.*{part})" if part.startswith(r"\.") else part for part in names.split())))
    for topic, names in _NAMES.items()
)
# Without a seed these take one from the operating system.
_UNSEEDED = re.compile(r"random\.(?:Random|seed)|numpy\.random\.seed")
_POLARS_DRAWS = re.compile(r"polars\..*\(\)(?:\.\w+(?:\(\))?)*\.(?:sample|shuffle)")
_STARRED = {"listdir": "os.listdir", "urandom": "os.urandom", "uuid4": "uuid.uuid4", "uuid1": "uuid.uuid1"}


def find_topic(name: str) -> str:
    """The topic of a call by its full name (`Program.resolve`); empty for one that is the same each time.

    A name that begins with ``*`` came from ``from ... import *``: then its last part must be telling.
    """
    if name.startswith("*"):
        starred = [f"{module}.{name[1:]}" for module in ("os", "time", "glob", "uuid", "secrets", "threading")]
        return next((topic for topic in map(find_topic, [*starred, _STARRED.get(name[1:], "")]) if topic), "")
    return next((topic for topic, names in _TOPICS if names.fullmatch(name)), "") if name else ""


# These convert a time that they are given, by its argument's place; without one they take the clock's.
_CONVERSIONS = {"time.localtime": 1, "time.ctime": 1, "time.asctime": 1, "time.strftime": 2, "time.gmtime": 1}


def converts_time(name: str, arguments: int) -> bool:
    """True for a call that takes no clock, and depends on the time zone at most."""
    return arguments >= _CONVERSIONS.get(name, arguments + 1)


def takes_entropy(name: str, *, has_seed: bool) -> bool:
    """True for a call that seeds itself from the operating system where no seed is given to it."""
    return not has_seed and bool(_UNSEEDED.fullmatch(name) or _POLARS_DRAWS.fullmatch(name))


# What scikit-learn gives to the processes of loky, where ``n_jobs`` says so; its forests use threads.
_SPREADS = re.compile(
    r"sklearn\.(?:model_selection|inspection|feature_selection|multiclass|multioutput|compose|pipeline)\.\w+"
    r"|sklearn\.ensemble\.(?:Bagging|Voting|Stacking)\w+"
)
_RANDOM = re.compile(
    r".*\.\w*(?:Forest|ExtraTree|Boosting|DecisionTree|MLP|SGD|Bagging|KMeans|MiniBatch|Perceptron|PassiveAggressive"
    r"|RANSAC|LinearSVC|XGB|LGBM|CatBoost|AdaBoost|GaussianMixture|ShuffleSplit|RandomizedSearch|TSNE|NMF|SVD)\w*"
)


def spreads_work(name: str) -> bool:
    """True for a function or class that takes ``n_jobs`` for the number of its worker processes."""
    return bool(_SPREADS.fullmatch(name))


def is_random_estimator(name: str) -> bool:
    """True for an estimator that draws where no ``random_state`` is given to it."""
    return bool(_RANDOM.fullmatch(name))
