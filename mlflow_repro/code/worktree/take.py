"""Take the parts of a working tree, each for itself: what cannot be had is a reason and not an error."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from mlflow_repro.code.git import GENERATED_KEY, GitError
from mlflow_repro.code.worktree.calls import RAW_OPTIONS, GitCalls, Question, TooLargeError
from mlflow_repro.code.worktree.commits import ask_if_pushed, take_bundle
from mlflow_repro.code.worktree.grafting import Changes, graft, make_leaf, read_folders
from mlflow_repro.code.worktree.patchtext import PatchFormError, read_patch
from mlflow_repro.code.worktree.pointers import LIST_ARGUMENTS, Listing, find_pointers, read_listing
from mlflow_repro.code.worktree.screen import decode_path, encode_path, file_path, holds_secret, is_circle
from mlflow_repro.code.worktree.snapshot import (
    NO_MODE,
    OUTPUT,
    SUBMODULE_MODE,
    Place,
    Row,
    Snapshot,
    drop_changes,
    locate,
    read_rows,
    screen_changes,
)
from mlflow_repro.code.worktree.untracked import Entry, LeftOut, choose_untracked, pack_entries
from mlflow_repro.code.worktree.values import PARTS, TakenSubmodule, TakenTree, TreeLimits
from mlflow_repro.system.folders import hold_folder
from mlflow_repro.text.filenames import is_leftover
from mlflow_repro.text.giturl import strip_credentials
from mlflow_repro.text.redact import redact_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

_DEPTH = 5  # of submodules in submodules
_FEW = 100  # changed files that are read without asking first whether they only look changed
_CONVERSIONS = {"core.autocrlf": "false", "core.eol": "native", "core.filemode": "true", "core.symlinks": "true"}


def take_tree(directory: str | Path, *, deadline: float, limits: TreeLimits | None = None) -> TakenTree:
    """Take everything that the commit of the working tree around ``directory`` does not hold.

    Neither the working tree nor its repository is written to, and nothing is fetched. ``deadline`` is a moment of
    `time.monotonic` for all steps together. Raises nothing: what could not be had stands in ``withheld``.
    """
    calls = GitCalls(os.path.abspath(directory), deadline=deadline)
    return _take(calls, limits or TreeLimits(), depth=0)


def _take(calls: GitCalls, limits: TreeLimits, *, depth: int) -> TakenTree:
    try:
        place = locate(calls)
        is_surrounding = depth > 0 and os.path.realpath(place.top) != os.path.realpath(calls.directory)
        if is_surrounding:  # the repository of a submodule is broken, and git found the one around it
            return TakenTree(withheld=dict.fromkeys(PARTS, "no-repository"))
        calls = calls.inside(place.top)
        answers = calls.ask_all(_survey(place, limits))
    except (GitError, OSError) as error:
        return TakenTree(withheld=dict.fromkeys(PARTS, reason_of(error)))
    return _Taker(place, calls, limits, answers).take(depth)


def reason_of(error: GitError | OSError) -> str:
    """Why something is missing: one word where there is one for it."""
    if isinstance(error, GitError):
        is_word = error.kind in ("no-git", "no-directory", "no-repository", "dubious-ownership")
        return error.kind if is_word else error.message
    return f"{type(error).__name__}: {error.strerror or error}"


def _survey(place: Place, limits: TreeLimits) -> dict[str, Question]:
    """What is asked of every working tree, all at once; of a clean one it is all that is asked."""

    def listed(*arguments: str) -> Question:
        return Question(arguments=arguments, limit=limits.listed_bytes)

    questions = {
        "worktree": listed("diff-files", *RAW_OPTIONS),
        "staged": listed("diff-index", "--cached", *RAW_OPTIONS, place.base),
        "listing": listed(*LIST_ARGUMENTS),
        "untracked": listed("ls-files", "--others", "--exclude-standard", "-z"),
        "config": listed("config", "-z", "--list"),
        "git_version": listed("--version"),
    }
    if place.commit:
        questions["is_pushed"] = ask_if_pushed(place.commit)
    return questions


class _Part:
    """Where something goes wrong in here, that is the reason why the parts with these names are missing."""

    def __init__(self, withheld: dict[str, str], names: Sequence[str]) -> None:
        self._withheld = withheld
        self._names = names

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, (GitError, OSError)):
            return False
        for name in self._names:
            self._withheld.setdefault(name, reason_of(error))
        return True


class _Taker:
    """The answers about one working tree, and what has been made of them so far."""

    def __init__(
        self, place: Place, calls: GitCalls, limits: TreeLimits, answers: Mapping[str, bytes | GitError]
    ) -> None:
        self._place = place
        self._calls = calls
        self._limits = limits
        self._answers = answers
        self._left_out = LeftOut(limits.named)
        self._withheld: dict[str, str] = {}
        self._digests: dict[str, str] = {}
        self._config: dict[str, list[str]] = {}

    def take(self, depth: int) -> TakenTree:
        """All parts."""
        place = self._place
        taken = TakenTree(top=place.top, commit=place.commit)
        listing = Listing()
        with self._part("git_version"):
            taken = replace(taken, git_version=self._text("git_version").removeprefix("git version ").strip())
        with self._part("remotes"):
            self._config = _read_config(self._answer("config"))
            taken = replace(taken, remotes=self._remotes(), conversions=self._conversions())
        with self._part("tree", "patch", "submodules", "pointers"):
            listing = read_listing(self._answer("listing"))
        entries = self._choose_untracked()
        taken = replace(taken, untracked=pack_entries(entries), untracked_paths=tuple(entry.path for entry in entries))
        taken = self._take_changes(taken, listing, entries)
        taken = self._take_commits(taken)
        if "submodules" not in self._withheld:
            taken = replace(taken, submodules=tuple(self._take_submodules(listing, depth)))
            with self._part("pointers"):
                taken = replace(taken, pointers=find_pointers(place, listing, self._calls))
        rows, outputs = self._left_out.all_rows(), tuple(self._left_out.outputs)
        return replace(taken, left_out=rows, outputs=outputs, withheld=self._withheld, withheld_digests=self._digests)

    def _part(self, *names: str) -> _Part:
        return _Part(self._withheld, names)

    def _answer(self, name: str) -> bytes:
        answer = self._answers[name]
        if isinstance(answer, GitError):
            raise answer
        return answer

    def _text(self, name: str) -> str:
        return self._answer(name).decode("utf-8", "replace")

    def _choose_untracked(self) -> list[Entry]:
        with self._part("untracked"):
            listed = [decode_path(path) for path in self._answer("untracked").split(b"\0")[:-1]]
            paths = [path for path in listed if not is_leftover(path)]
            entries, reason = choose_untracked(paths, calls=self._calls, limits=self._limits, left_out=self._left_out)
            if reason:
                self._withheld["untracked"] = reason
            return entries
        return []

    def _take_changes(self, taken: TakenTree, listing: Listing, entries: Sequence[Entry]) -> TakenTree:
        if "tree" in self._withheld:
            return taken
        place = self._place
        with self._part("tree", "patch"):
            uncovered = self._uncovered(listing)
            worktree = read_rows(self._answer("worktree"))
            is_hidden = bool(uncovered) or any(file.is_assumed for file in listing.special)
            lost = self._list_lost()
            is_changed = bool(worktree or self._answer("staged") or is_hidden or lost)
            if not (is_changed or entries):
                return replace(taken, tree=place.base)
            added: Changes = {
                encode_path(entry.path): make_leaf(entry.mode, entry.object_name(place.algorithm)) for entry in entries
            }
            if not is_changed:
                return replace(taken, tree=self._graft(self._calls, added)[0][0])
            with hold_folder() as folder:
                snapshot = Snapshot(place, self._calls, folder.path)
                snapshot.take_out(lost)
                rows = self._record_changes(snapshot, None if is_hidden else worktree, uncovered)
                changed: Changes = {
                    encode_path(row.path): None if row.new_mode == NO_MODE else make_leaf(row.new_mode, row.new_object)
                    for row in rows
                }
                (tracked, objects), (tree, _) = self._graft(snapshot.both, changed, {**changed, **added})
                taken = replace(taken, tree=tree)
                if rows:
                    snapshot.keep_trees(objects)
                    with self._part("patch"):
                        taken = replace(taken, patch=self._make_patch(snapshot, tracked, rows))
        return taken

    def _graft(self, calls: GitCalls, *changes: Changes) -> list[tuple[str, dict[str, bytes]]]:
        """The commit's tree with each of the ``changes``, the last of which has all paths. Raises GitError."""
        base, algorithm = self._place.base, self._place.algorithm
        folders = read_folders(calls, base, map(decode_path, changes[-1]))
        return [graft(folders, change, algorithm=algorithm) for change in changes]

    def _list_lost(self) -> list[str]:
        """Tracked files whose folder is now a link that leads round in a circle: git takes them for unchanged."""
        untracked = map(decode_path, self._answer("untracked").split(b"\0")[:-1])
        circles = [path for path in untracked if is_circle(file_path(self._place.top, path))]
        if not circles:
            return []
        below = [f":(top,literal){path}/" for path in circles]
        return [decode_path(path) for path in self._calls.ask("ls-files", "-z", "--", *below).split(b"\0")[:-1]]

    def _uncovered(self, listing: Listing) -> list[str]:
        """Files that git was told to pass over, and that are there for all that; not those of a sparse checkout.

        What a relaunch has written over a file in its own checkout is nobody's change.
        """
        if self._config.get("core.sparsecheckout", ["false"])[-1] == "true":
            return []  # git looks by itself whether they are there
        generated = self._config.get(GENERATED_KEY, ())
        skipped = (file.path for file in listing.special if file.is_skipped and file.path not in generated)
        return [path for path in skipped if os.path.lexists(file_path(self._place.top, path))]

    def _record_changes(
        self, snapshot: Snapshot, worktree: Sequence[Row] | None, uncovered: Sequence[str]
    ) -> list[Row]:
        """What the working tree changes of the commit. Raises GitError, OSError.

        ``worktree`` is what git takes for changed at first sight. Whether it is takes long to find out in a large
        repository, and is looked at only where it matters, or when there is no such list.
        """
        has_filters = any(key.startswith("filter.") for key in self._config)
        is_few = worktree is not None and len(worktree) <= _FEW
        rows = worktree if worktree is not None and is_few else snapshot.refresh(uncovered)
        screened = screen_changes(rows, snapshot=snapshot, limits=self._limits, has_filters=has_filters)
        if is_few and screened.is_doubtful:
            rows = snapshot.refresh(uncovered)
            screened = screen_changes(rows, snapshot=snapshot, limits=self._limits, has_filters=has_filters)
        for path, reason, size in screened.refused:
            if reason == OUTPUT:
                self._left_out.outputs.append(path)
            else:
                self._left_out.add(path, reason, size)
        snapshot.add(screened.taken)
        return drop_changes(snapshot.changes(), snapshot=snapshot, left_out=self._left_out)

    def _make_patch(self, snapshot: Snapshot, tree: str, rows: Sequence[Row]) -> bytes:
        """The patch, when it is not too large and holds no secret. Raises GitError otherwise."""
        try:
            patch = snapshot.make_patch(tree, self._limits.patch_bytes)
        except TooLargeError as error:
            self._digests["patch"] = error.sha256
            raise GitError(f"the patch is {error.shown}", kind=error.kind) from error
        try:
            self._look_for_secrets(snapshot, patch, {row.path: row for row in rows})
        except GitError:
            self._digests["patch"] = hashlib.sha256(patch).hexdigest()
            raise
        return patch

    def _look_for_secrets(self, snapshot: Snapshot, patch: bytes, rows: Mapping[str, Row]) -> None:
        def check_time() -> None:
            self._calls.check_time("look through the patch for secrets")

        try:
            for change in read_patch(patch):
                content = b"\n".join(change.lines)
                row = rows.get(change.path)
                if change.is_binary and row is not None and row.new_object.strip("0"):
                    content = snapshot.read_object(row.new_object, self._limits.changed_bytes)
                if holds_secret(content, check_time):
                    raise GitError(f"the changes of {change.path!r} hold a secret", kind="secret")
        except PatchFormError as error:
            raise GitError(f"git's patch has a form that cannot be read back: {error}") from error

    def _take_commits(self, taken: TakenTree) -> TakenTree:
        if not self._place.commit:
            return taken
        with self._part("is_pushed", "bundle"):
            is_pushed = not self._answer("is_pushed")
            taken = replace(taken, is_pushed=is_pushed)
            if is_pushed:
                return taken
        with self._part("bundle"):
            if taken.is_pushed is None:
                return taken
            try:
                bundle, header = take_bundle(self._place, self._calls, self._limits)
            except TooLargeError as error:
                raise GitError(f"the commits that are on no remote are {error.shown}", kind=error.kind) from error
            return replace(taken, bundle=bundle, bundle_prerequisites=header.prerequisites)
        return taken

    def _take_submodules(self, listing: Listing, depth: int) -> Iterator[TakenSubmodule]:
        modules = [file for file in listing.special if file.mode == SUBMODULE_MODE]
        urls = self._submodule_urls() if modules else {}
        limits = self._limits
        for index, file in enumerate(modules):
            module = TakenSubmodule(path=file.path, commit=file.object_name, url=urls.get(file.path, ""))
            directory = os.path.join(self._place.top, file.path)
            if not os.path.lexists(os.path.join(directory, ".git")):
                yield replace(module, reason="it is not checked out")
            elif index >= limits.submodules or depth >= _DEPTH:
                yield replace(module, reason="there are more submodules than are looked into")
            else:
                taken = _take(self._calls.inside(directory), limits, depth=depth + 1)
                limits = _less(limits, taken)
                yield replace(module, commit=taken.commit or file.object_name, taken=taken)

    def _submodule_urls(self) -> dict[str, str]:
        try:
            config = _read_config(self._calls.ask("config", "-z", "--file", ".gitmodules", "--list"))
        except GitError:
            return {}
        paths = {key.removesuffix(".path"): values[-1] for key, values in config.items() if key.endswith(".path")}
        urls = {path: config.get(f"{name}.url", [""])[-1] for name, path in paths.items()}
        return {path: redact_value(strip_credentials(url)) for path, url in urls.items()}

    def _remotes(self) -> dict[str, str]:
        """The URLs as they are configured: what ``git remote get-url`` gives may hold a token (insteadOf)."""
        return {
            key[len("remote.") : -len(".url")]: redact_value(strip_credentials(values[0]))
            for key, values in self._config.items()
            if key.startswith("remote.") and key.endswith(".url") and values[0]
        }

    def _conversions(self) -> dict[str, str]:
        found = {key: self._config.get(key, [usual])[-1] for key, usual in _CONVERSIONS.items()}
        return {key: value for key, value in found.items() if value != _CONVERSIONS[key]}


def _read_config(answer: bytes) -> dict[str, list[str]]:
    """What ``git config -z --list`` gives; a key may have several values."""
    config: dict[str, list[str]] = {}
    for entry in answer.split(b"\0")[:-1]:
        key, _, value = decode_path(entry).partition("\n")
        config.setdefault(key, []).append(value)
    return config


def _less(limits: TreeLimits, taken: TakenTree) -> TreeLimits:
    """What is left of the limits for the next submodule."""
    return replace(
        limits,
        patch_bytes=max(0, limits.patch_bytes - len(taken.patch)),
        untracked_files=max(0, limits.untracked_files - len(taken.untracked_paths)),
        untracked_bytes=max(0, limits.untracked_bytes - len(taken.untracked)),
        bundle_bytes=max(0, limits.bundle_bytes - len(taken.bundle or b"")),
    )
