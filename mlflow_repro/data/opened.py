"""The files that this process really opens for reading: an audit hook, for those who ask for it.

With ``MLFLOW_REPRO_TRACK_FILES=1`` every opening that Python itself does is seen: ``open``, ``io``, ``os.open``, and
all that is built on them - numpy's ``load``, ``loadtxt``, ``fromfile`` and ``memmap``, ``pandas.read_csv``, joblib,
pickle, zipfile, PIL, torch.load. **Not** seen is what a library opens in C: HDF5 (h5py), pyarrow and polars when they
are given a path (so do newer pandas with Parquet), TensorFlow's ``tf.data`` and ``tf.io``, OpenCV, SQLite. Of those,
what is held open for reading when the list is taken is found among the process's descriptors (Linux), and said to be.
Not seen either: what was opened before tracking began, what other processes open (a forked child begins a list of its
own, which nobody reads unless it records a run), and an ``os.open`` relative to another directory than the working one
(``dir_fd``).

An audit hook can never be taken away and is called for every audited event, such as each call of ``id``; what it costs
is a call of a Python function (a quarter of a microsecond), switched on or off. It therefore does little but note a
name. It cannot fail either: an exception of its own would be one of the user's ``open``. It takes no lock, for a signal
handler may open files, too, and a fork would leave it locked.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import stat
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.modules import code_prefixes
from mlflow_repro.data.digests import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlflow_repro.data.digests import Stamp

TRACK_VARIABLE = "MLFLOW_REPRO_TRACK_FILES"
PATH_LIMIT = 10_000

_ACCESS_MODE = os.O_RDONLY | os.O_WRONLY | os.O_RDWR
_CREATES = os.O_CREAT | os.O_TRUNC
_READS_NOTHING = os.O_DIRECTORY | getattr(os, "O_PATH", 0)
_KERNEL = ("/proc/", "/sys/", "/dev/")
_SHARED_MEMORY = "/dev/shm/"  # noqa: S108 - data lies there
_CODE_SUFFIXES = (".pyc", ".so")

# Seen, and no data: compiled code and shared libraries, metadata of packages, the MLflow store and what MLflow hands
# from a process of its own to itself, settings of the system and of programs, fonts.
_NO_DATA = re.compile(
    r"/__pycache__/|\.(?:so(?:\.[\d.]+)?|dylib)$|\.(?:dist|egg)-info/|/(?:mlruns|mlartifacts)/"
    r"|\.db(?:-wal|-shm|-journal)?$|/imported_modules\.txt$"
    r"|^/etc/|^/usr/share/(?:zoneinfo|fonts|locale)/|/\.config/|/\.cache/(?:matplotlib|fontconfig)/"
)


@dataclass(frozen=True, kw_only=True)
class OpenedFile:
    """A file that was opened for reading, by its absolute path as the program had it.

    ``stamp`` is what the file was when it was first opened. ``written`` is true when this process has also opened it
    for writing, ``produced`` when it did so before it read it. ``held`` is true when the opening itself was not seen,
    but the file is held open.
    """

    path: str
    stamp: Stamp
    written: bool = False
    produced: bool = False
    held: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenedFiles:
    """The files in the order of their first opening, and how often others were opened when the list was full."""

    files: tuple[OpenedFile, ...] = ()
    more_openings: int = 0


def track_opened_files() -> bool:
    """Begin, or go on, to note the files that this process opens for reading, if ``MLFLOW_REPRO_TRACK_FILES`` says so.

    True when they are noted from now on. False, and nothing is touched, when the variable is not set to 1 (true, yes,
    on), or when another audit hook refuses ours. Raises nothing.
    """
    if os.environ.get(TRACK_VARIABLE, "").strip().lower() not in ("1", "true", "yes", "on"):
        return False
    if _Tracking.kept is None and not _install_hook():
        return False
    _Tracking.notes = _Tracking.kept
    return True


def stop_tracking() -> None:
    """Note nothing more; what was noted is kept."""
    _Tracking.notes = None


@contextlib.contextmanager
def own_openings() -> Iterator[None]:
    """Let what this thread opens meanwhile go unnoted: it is the plugin's work, not the program's."""
    notes, thread = _Tracking.kept, threading.get_ident()
    if notes is None or thread in notes.ours:
        yield
        return
    notes.ours.add(thread)
    try:
        yield
    finally:
        notes.ours.discard(thread)


def opened_files() -> OpenedFiles | None:
    """What was opened up to now, without what is no data; None when openings were never tracked. Raises nothing.

    Left out are the Python installation and its packages, loaded modules wherever they lie, compiled code and shared
    libraries, ``/proc``, ``/sys``, ``/dev``, ``/etc`` and folders ``.config``, time zones and fonts, folders ``mlruns``
    and ``mlartifacts``, and ``*.db``.
    """
    notes = _Tracking.kept
    if notes is None:
        return None
    with contextlib.suppress(Exception):
        notes.note_held()
    read = notes.read.copy()  # in one step: other threads go on
    modules = _module_files() if any(path.endswith(".py") for path in read) else set()
    files: dict[str, OpenedFile] = {}
    for path, (stamp, produced) in read.items():
        name = _straighten(path)
        if name not in modules and name not in files and not _NO_DATA.search(name):
            files[name] = OpenedFile(path=name, stamp=stamp, written=path in notes.written, produced=produced)
    for path, stamp in notes.held.copy().items():
        files.setdefault(path, OpenedFile(path=path, stamp=stamp, held=True))
    return OpenedFiles(files=tuple(files.values())[:PATH_LIMIT], more_openings=notes.more_openings)


def written_files() -> frozenset[str]:
    """The absolute paths that this process has opened for writing; none when openings were never tracked."""
    notes = _Tracking.kept
    return frozenset(map(_straighten, notes.written.copy())) if notes is not None else frozenset()


class _Notes:
    """What the hook has noted in this process."""

    def __init__(self, skipped: tuple[str, ...]) -> None:
        self.read: dict[str, tuple[Stamp, bool]] = {}  # by path: the stamp, and whether it was written before
        self.held: dict[str, Stamp] = {}
        self.written: set[str] = set()
        self.more_openings = 0  # at least: threads may count at the same time
        self.ours: set[int] = set()  # the threads whose openings are our own
        self.skipped = skipped

    def note(self, path: str, flags: int) -> None:
        """Note one opening. Raises nothing but what a signal handler of the user's raises meanwhile."""
        if path[:1] != "/":
            try:
                path = f"{os.getcwd()}/{path}"
            except OSError as error:
                if error.errno is None:  # a TimeoutError is an OSError, too, but not the system's
                    raise
                return
        was_written = False
        access = flags & _ACCESS_MODE
        if access:
            was_written = path in self.written
            if len(self.written) < PATH_LIMIT:
                self.written.add(path)
            if access == os.O_WRONLY or flags & _CREATES:
                return
        if path in self.read or flags & _READS_NOTHING or path.endswith(_CODE_SUFFIXES):
            return
        if path.startswith(self.skipped) and not path.startswith(_SHARED_MEMORY):
            return
        self._note_first(path, produced=was_written if access else path in self.written)

    def _note_first(self, path: str, *, produced: bool) -> None:
        """Note a path that is not in the list. The audit event comes before the opening, which may yet fail."""
        if threading.get_ident() in self.ours:
            return
        try:
            found = os.stat(path)
        except OSError as error:
            if error.errno is None:
                raise
            return
        except ValueError:  # a NUL: only in an event that somebody made up
            return
        if not stat.S_ISREG(found.st_mode):
            return
        if len(self.read) < PATH_LIMIT:
            self.read[path] = stamp_of(found), produced
        else:
            self.more_openings += 1

    def note_held(self) -> None:
        """Note the files that are held open for reading only, and that were not seen to be opened. Linux only."""
        if sys.platform != "linux" or len(self.held) >= PATH_LIMIT:
            return
        known = {stamp[:2] for stamp, _ in self.read.copy().values()}
        for name in os.listdir("/proc/self/fd"):
            try:
                path, found = _look_at_descriptor(int(name))
            except OSError:  # closed meanwhile
                continue
            if not path or stamp_of(found)[:2] in known:
                continue
            if not path.startswith(self.skipped) and not _NO_DATA.search(path):
                self.held.setdefault(path, stamp_of(found))


class _Tracking:
    """Where the hook notes things. ``notes`` is None while it is switched off, ``kept`` before it was ever on."""

    notes: _Notes | None = None
    kept: _Notes | None = None


class _Probe(_Notes):
    """Finds out whether the hook is called."""

    was_called = False

    def note(self, path: str, flags: int) -> None:  # noqa: ARG002 - the signature is that of the real one
        self.was_called = True


def _hook(event: str, args: tuple[Any, ...], tracking: type[_Tracking] = _Tracking) -> None:
    """The audit hook. ``tracking`` is bound here because a module's names are gone when Python shuts down."""
    if event == "open":
        notes = tracking.notes
        if notes is None or len(args) != 3:  # noqa: PLR2004 - path, mode, flags
            return
        path, _, flags = args
        kind = type(path)
        if kind is not str:
            path = "" if kind is int else _plain_path(path)  # an int is a descriptor that is open already
        if path and type(flags) is int:
            try:
                notes.note(path, flags)
            except (RecursionError, MemoryError):  # the program is at its limits; the file counts less
                return


def _plain_path(path: Any) -> str:
    """The path as text, without running code of the user's; empty when that cannot be."""
    kind = type(path)
    if issubclass(kind, str):  # such as numpy.str_
        return str.__str__(path)
    if kind is bytes or kind.__module__.startswith("pathlib"):
        return os.fsdecode(path)
    return ""


def _straighten(path: str) -> str:
    """The path without ``.``, ``..`` and double slashes, so that it is the same however the program came there."""
    if "/./" in path or "/../" in path or "//" in path:
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    return path


def _install_hook() -> bool:
    """Put the hook in place, for good; False when another hook does not let it."""
    skipped = (*_KERNEL, *code_prefixes())
    probe = _Probe(skipped)
    try:
        sys.addaudithook(_hook)
        _Tracking.notes = probe
        sys.audit("open", "/", None, os.O_RDONLY)  # a refusal may be silent
    except Exception:  # noqa: BLE001 - whatever the other hook raises
        return False
    finally:
        _Tracking.notes = None
    if not probe.was_called:
        return False
    _Tracking.kept = _Notes(skipped)
    atexit.register(stop_tracking)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_begin_anew)
    return True


def _begin_anew() -> None:
    """In a forked child: its list is its own."""
    if _Tracking.kept is not None:
        is_on = _Tracking.notes is not None
        _Tracking.kept = _Notes(_Tracking.kept.skipped)
        _Tracking.notes = _Tracking.kept if is_on else None


def _look_at_descriptor(descriptor: int) -> tuple[str, os.stat_result]:
    """The path of a regular file that is open for reading only, or an empty one. Raises OSError when it is closed."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    found = os.fstat(descriptor)
    # O_NONBLOCK, which has no effect on files, is on those that we are hashing.
    if flags & (_ACCESS_MODE | _READS_NOTHING | os.O_NONBLOCK) or not stat.S_ISREG(found.st_mode):
        return "", found
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if not found.st_nlink:
        return ("" if path.startswith("/memfd:") else path.removesuffix(" (deleted)")), found
    # The number may have been closed and used again between the calls.
    return (path if os.path.samestat(os.stat(path), found) else ""), found


def leave_out_no_data(paths: Iterable[str]) -> list[str]:
    """Of absolute paths those that may be data: not what is installed, no database, no store, nothing of the system."""
    installed = (*_KERNEL, *code_prefixes())
    return [path for path in paths if not path.startswith(installed) and not _NO_DATA.search(path)]


def _module_files() -> set[str]:
    """The source files of the modules that are loaded; no module is touched, for some load others when they are."""
    files: set[str] = set()
    for module in list(sys.modules.values()):
        try:
            names: dict[str, Any] = object.__getattribute__(module, "__dict__")
            file = names.get("__file__")
        except Exception:  # noqa: BLE001, S112 - not a module
            continue
        if type(file) is str:
            files.add(file)
    return files
