"""The six sections of a record, as types. `docs/record.md` says what each fact is.

A field has the name of its fact. It is None, or empty, where the run did not record it; `Missing` where readers ask
why. Facts that nobody reads one by one have no field.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the reader looks at the types of the fields
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A fact that could not be had, and why. It counts as false."""

    reason: str

    def __bool__(self) -> bool:
        return False


@dataclass(frozen=True, kw_only=True)
class DataContent:
    """A file or folder by its digest (empty: another size than was asked for) and its size in bytes, where known."""

    digest: str
    size: int | None = None
    is_folder: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that is kept with the record: its path, its digest, and the run that has it, where that is another."""

    file: str = ""
    sha256: str | None = None
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class TreePart(StoredFile):
    """What a commit does not hold; without ``file`` the reason is ``absent``. What is ``withheld`` is not recorded."""

    absent: str = ""
    withheld: bool = False
    paths: tuple[str, ...] = ()
    prerequisites: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A file of the tree that was not recorded, and why."""

    path: str
    reason: str = ""
    size: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A working tree: the repository's, or that of a submodule."""

    tree: str | Missing | None = None
    is_clean: bool | None = None
    patch: TreePart | None = None
    untracked: TreePart | None = None
    bundle: TreePart | None = None
    is_pushed: bool | None = None
    left_out: tuple[LeftOut, ...] | None = None
    outputs: tuple[str, ...] = ()
    submodules: tuple[Submodule, ...] | Missing | None = None


@dataclass(frozen=True, kw_only=True)
class Submodule(Tree):
    """A submodule at ``path``; its tree is not recorded where ``is_dirty`` is missing."""

    path: str
    commit: str
    url: str | None = None
    is_dirty: bool | Missing


@dataclass(frozen=True, kw_only=True)
class Module:
    """A file of the program that was loaded."""

    path: str
    place: str = ""
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Code(Tree):
    """The section ``code``."""

    uri: str | None = None
    commit: str | None = None
    script: str | None = None
    modules: tuple[Module, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class NotebookFacts:
    """What is recorded of a notebook; ``file`` has its cells."""

    path: str | None = None
    place: str = ""
    cells: int
    cells_kept: int
    file: str


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The section ``launch``."""

    argv: tuple[str, ...] | None = None
    script: str | None = None
    params: Mapping[str, str] | None = None
    variables: Mapping[str, str] | None = None
    set_later: Mapping[str, str | None] | None = None
    notebook: NotebookFacts | None = None


@dataclass(frozen=True, kw_only=True)
class SeedFacts:
    """A seeding that was seen."""

    generator: str = ""
    value: str = ""
    when: float = 0.0
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class Entropy:
    """What was asked of the entropy that the plugin gives."""

    root: str | None = None
    asked: int | None = None
    users: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Digests:
    """A digest of the state of each generator, when the run started and when it ended."""

    start: Mapping[str, str] | None = None
    end: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """The section ``seeds``."""

    python: str | None = None
    numpy: str | None = None
    torch: str | None = None
    tensorflow: str | None = None
    mode: str | int | None = None
    calls: tuple[SeedFacts, ...] = ()
    not_repeatable: tuple[str, ...] = ()
    drew_early: tuple[str, ...] = ()
    entropy: Entropy = field(default_factory=Entropy)
    digests: Digests = field(default_factory=Digests)

    def last_of(self, generator: str) -> str | None:
        """The last seed of a generator, None where it has none."""
        seeds = {"python": self.python, "numpy": self.numpy, "torch": self.torch, "tensorflow": self.tensorflow}
        return seeds.get(generator)


@dataclass(frozen=True, kw_only=True)
class Interpreter:
    """A Python."""

    version: str | None = None
    implementation: str | None = None
    abi: str | None = None
    flags: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Lock(StoredFile):
    """A lock, and the index that has its packages."""

    index: str
    packages: int = 0


@dataclass(frozen=True, kw_only=True)
class GitFacts:
    """The commit of a package that was imported from its source tree."""

    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Direct:
    """A package that was installed from a URL or a folder."""

    name: str
    url: str | None = None
    editable: bool | None = None
    git: GitFacts | None = None


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The section ``environment``."""

    python: str | None = None
    interpreter: Interpreter | None = None
    distributions: Mapping[str, str] | Missing | None = None
    imported: tuple[str, ...] | None = None
    used: tuple[str, ...] | None = None
    locks: tuple[Lock, ...] | Missing | None = None
    left_out_of_locks: Mapping[str, str] | None = None
    direct: tuple[Direct, ...] | None = None

    @property
    def versions(self) -> Mapping[str, str]:
        """The distributions with their versions, empty where they are not known."""
        return self.distributions if self.distributions and not isinstance(self.distributions, Missing) else {}


@dataclass(frozen=True, kw_only=True)
class Cpu:
    """A processor."""

    architecture: str | None = None
    flags: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Cores:
    """How many cores there are for the process."""

    available: int | None = None


@dataclass(frozen=True, kw_only=True)
class Library:
    """A numerical library that was loaded."""

    file: str | None = None
    library: str | None = None
    version: str | None = None
    architecture: str | None = None
    threads: int | None = None

    @property
    def name(self) -> str:
        """By which it is told from the others of a run."""
        return str(self.library or self.file)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The section ``machine``."""

    cpu: Cpu = field(default_factory=Cpu)
    cores: Cores = field(default_factory=Cores)
    libraries: tuple[Library, ...] | None = None
    frameworks: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    gpus: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file or folder that a run read; what it wrote itself is ``written`` or ``produced``."""

    path: str
    param: str = ""
    place: str = ""
    size: int | None = None
    sha256: str | None = None
    merkle_sha256: str | None = None
    written: bool = False
    produced: bool = False

    @property
    def digest(self) -> str:
        """Of a file or a folder; empty where it has none."""
        return self.sha256 or self.merkle_sha256 or ""

    @property
    def is_result(self) -> bool:
        """True when the run wrote it itself."""
        return self.written or self.produced


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The files that were opened."""

    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Input:
    """A data set that MLflow was told of, and the file that it is from."""

    file: DataFile | None = None


@dataclass(frozen=True, kw_only=True)
class NotHashed:
    """What has no digest."""

    files: int = 0


@dataclass(frozen=True, kw_only=True)
class Data:
    """The section ``data``."""

    inputs: tuple[Input, ...] = ()
    params: tuple[DataFile, ...] = ()
    opened: Opened | None = None
    named: tuple[DataFile, ...] = ()
    not_hashed: NotHashed = field(default_factory=NotHashed)

    @property
    def files(self) -> tuple[DataFile, ...]:
        """All files: those of parameters, opened and named ones, and those of data sets."""
        opened = self.opened.files if self.opened else ()
        inputs = (row.file for row in self.inputs if row.file is not None)
        return (*self.params, *opened, *self.named, *inputs)
