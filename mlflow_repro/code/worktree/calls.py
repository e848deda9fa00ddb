"""Questions to git, answered in bytes: several at once, all before one deadline, none longer than what is wanted."""

from __future__ import annotations

import hashlib
import os
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow_repro.code.git import GitError, end_git, explain_failure, start_git

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MEGABYTE = 1_000_000
_CHUNK = 1 << 18
_LAST_WAIT = 0.1  # seconds for a process that has closed its pipes to end

# Settings under which git gives what we ask for, whatever the user's taste, and writes nothing that we do not see.
_SETTINGS = (
    "core.quotePath=true",
    "core.safecrlf=false",
    "core.splitIndex=false",  # a split index has its other half in the user's repository
    "index.sparse=false",
    "core.looseCompression=0",  # our objects live for a moment
    "core.fsync=none",
    "diff.suppressBlankEmpty=false",
    "submodule.recurse=false",
    "log.showSignature=false",
    "log.showRoot=true",
    "apply.ignoreWhitespace=no",
    # These two copy what they are given into the user's repository.
    "filter.lfs.clean=",
    "filter.lfs.smudge=",
    "filter.lfs.process=",
    "filter.lfs.required=false",
    "filter.annex.clean=",
    "filter.annex.smudge=",
    "filter.annex.process=",
    "filter.annex.required=false",
)
_VARIABLES = {
    "GIT_NO_REPLACE_OBJECTS": "1",  # replacements are of this repository alone
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",  # what a partial clone lacks is not fetched: git that is too old for the line above
}
TEXT_OPTIONS = (
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--no-renames",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--ignore-submodules=none",
    "--submodule=short",
    "-O/dev/null",
)
PATCH_OPTIONS = ("--binary", *TEXT_OPTIONS)
RAW_OPTIONS = ("--raw", "-z", "--no-abbrev", "--no-renames", "--ignore-submodules=dirty")


class TooLargeError(GitError):
    """The answer is longer than was wanted; ``sha256`` and ``size`` are those of the whole."""

    def __init__(self, command: str, *, limit: int, size: int, sha256: str) -> None:
        shown = f"more than {limit / MEGABYTE:g} MB"
        if sha256:
            shown = f"{size / MEGABYTE:,.1f} MB, {shown}"
        super().__init__(f"git {command} gives {shown}", kind="too-large")
        self.shown = shown
        self.size = size
        self.sha256 = sha256


@dataclass(frozen=True, kw_only=True)
class Question:
    """Arguments for git, what it is told on its standard input, how long the answer may be, and what counts as one."""

    arguments: tuple[str, ...]
    stdin: bytes = b""
    limit: int = 64 * MEGABYTE
    accept: tuple[int, ...] = (0,)
    reads_to_end: bool = False
    """True when the digest of an answer that is too long is wanted."""

    @property
    def command(self) -> str:
        """The command of git's that it is."""
        return self.arguments[0]


class GitCalls:
    """git in one directory, with one deadline (of `time.monotonic`) for everything that is asked of it."""

    def __init__(
        self,
        directory: str,
        *,
        deadline: float,
        settings: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.deadline = deadline
        self._settings = settings
        self._variables = {**_VARIABLES, **(variables or {})}

    def given(self, variables: Mapping[str, str]) -> GitCalls:
        """The same with more environment variables."""
        return self._like(self.directory, {**self._variables, **variables})

    def inside(self, directory: str) -> GitCalls:
        """The same in another directory."""
        return self._like(directory, self._variables)

    def ask(self, *arguments: str, **options: Any) -> bytes:
        """The answer to one `Question`, whose other fields are the ``options``. Raises GitError."""
        answer = self.ask_all({"": Question(arguments=arguments, **options)})[""]
        if isinstance(answer, GitError):
            raise answer
        return answer

    def ask_all(self, questions: Mapping[str, Question]) -> dict[str, bytes | GitError]:
        """The answers to questions that are asked all at once. Raises GitError when git cannot be started."""
        if time.monotonic() >= self.deadline:
            return {name: _late(question) for name, question in questions.items()}
        talks: dict[str, _Talk] = {}
        try:
            for name, question in questions.items():
                talks[name] = _Talk(question, self._start(question))
            _converse(talks.values(), self.deadline)
            return {name: talk.finish(self.deadline) for name, talk in talks.items()}
        finally:
            for talk in talks.values():
                talk.end()

    def check_time(self, what: str) -> None:
        """Raise GitError of the kind ``timeout`` when the deadline has passed; ``what`` is what was not done."""
        if time.monotonic() >= self.deadline:
            raise GitError(f"there was no time left to {what}", kind="timeout")

    def _like(self, directory: str, variables: Mapping[str, str]) -> GitCalls:
        return GitCalls(directory, deadline=self.deadline, settings=self._settings, variables=variables)

    def _start(self, question: Question) -> subprocess.Popen[bytes]:
        settings = [word for setting in (*_SETTINGS, *self._settings) for word in ("-c", setting)]
        stdin = subprocess.PIPE if question.stdin else subprocess.DEVNULL
        arguments = [*settings, *question.arguments]
        return start_git(arguments, cwd=self.directory, variables=self._variables, stdin=stdin)


def _late(question: Question) -> GitError:
    return GitError(f"there was no time left for git {question.command}", kind="timeout")


class _Talk:
    """One process of git: what it is still to be told, and what it has said so far."""

    def __init__(self, question: Question, process: subprocess.Popen[bytes]) -> None:
        self._question = question
        self._process = process
        self._to_send = memoryview(question.stdin)
        self._received = bytearray()
        self._words = bytearray()
        self._size = 0
        self._digest = hashlib.sha256()
        self._open = 0

    def join(self, selector: selectors.BaseSelector) -> None:
        """Take part in a conversation."""
        process = self._process
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE, self._send)
        for stream, hear in ((process.stdout, self._hear), (process.stderr, self._hear_words)):
            if stream is not None:
                selector.register(stream, selectors.EVENT_READ, hear)
                self._open += 1

    def finish(self, deadline: float) -> bytes | GitError:
        """The answer, or what went wrong."""
        question, process = self._question, self._process
        if self._open:
            if self._is_too_long and not question.reads_to_end:
                return self._too_large()
            return GitError(f"git {question.command} did not answer in time", kind="timeout")
        try:
            code = process.wait(timeout=max(deadline - time.monotonic(), _LAST_WAIT))
        except subprocess.TimeoutExpired:
            return GitError(f"git {question.command} did not end in time", kind="timeout")
        if code not in question.accept:
            return explain_failure(question.command, bytes(self._words))
        return self._too_large() if self._is_too_long else bytes(self._received)

    def end(self) -> None:
        """End the process, if it has not, and close its pipes."""
        if self._process.poll() is None:
            end_git(self._process)
            return
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    @property
    def _is_too_long(self) -> bool:
        return self._size > self._question.limit

    def _too_large(self) -> TooLargeError:
        question = self._question
        sha256 = self._digest.hexdigest() if question.reads_to_end else ""
        return TooLargeError(question.command, limit=question.limit, size=self._size, sha256=sha256)

    def _send(self, selector: selectors.BaseSelector, stream: Any) -> None:
        try:
            sent = os.write(stream.fileno(), self._to_send[:_CHUNK]) if self._to_send else 0
        except BlockingIOError:
            return
        except OSError:  # it does not want to hear more; its exit status says whether that is right
            self._to_send = self._to_send[:0]
            sent = 0
        self._to_send = self._to_send[sent:]
        if not self._to_send:
            selector.unregister(stream)
            with suppress(OSError):
                stream.close()

    def _hear(self, selector: selectors.BaseSelector, stream: Any) -> None:
        chunk = os.read(stream.fileno(), _CHUNK)
        self._size += len(chunk)
        if self._question.reads_to_end:
            self._digest.update(chunk)
        if not chunk:
            selector.unregister(stream)
            self._open -= 1
        elif not self._is_too_long:
            self._received += chunk
        else:
            self._received.clear()
            if not self._question.reads_to_end:  # enough: it stays open, and is ended
                self._leave(selector)

    def _hear_words(self, selector: selectors.BaseSelector, stream: Any) -> None:
        chunk = os.read(stream.fileno(), _CHUNK)
        if len(self._words) < MEGABYTE:
            self._words += chunk
        if not chunk:
            selector.unregister(stream)
            self._open -= 1

    def _leave(self, selector: selectors.BaseSelector) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(KeyError, ValueError):
                    selector.unregister(stream)


def _converse(talks: Iterable[_Talk], deadline: float) -> None:
    """Listen to all at once, until each has said everything or the deadline has passed."""
    with selectors.DefaultSelector() as selector:
        for talk in talks:
            talk.join(selector)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return
            for key, _ in selector.select(left):
                if key.fileobj in selector.get_map():  # not after another of its pipes has left
                    key.data(selector, key.fileobj)
