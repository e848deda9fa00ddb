"""Text by lines, and text formats that carry dates, addresses or made-up ids: HTML, SVG, PDF."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mlflow_repro.compare.artifacts.blobs import Outcome, TooLargeError, UnreadableError, quote, same_content
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

# "<function f at 0x7f0123456789>", and the end of it where scikit-learn's HTML has cut it in the middle.
_ADDRESS = re.compile(r"(?<=\bat )0x[0-9a-f]{6,16}\b|(?<=\.\.\.)[0-9a-f]?x?[0-9a-f]{6,16}(?=&gt;|>)")
_CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?(?: ?Z| ?[+-]\d\d:?\d\d)?"
_DAY = r"\d{4}[-/.]\d\d[-/.]\d\d[T ]|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} +\d{1,2} "
_MOMENT = (
    rf"\[?(?:{_DAY})?{_CLOCK}(?: \d{{4}}\b)?\]?"
    rf"|[IWEF]\d{{4}} {_CLOCK} +\d+"  # as absl writes it, with the thread
)
_LEVEL = r"(?:\S+ +){0,4}?\W?(?:DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL|NOTICE|TRACE)\b"
_LOG_TIME = re.compile(rf"^(?:{_MOMENT})(?=[\s:|,]|$)", re.MULTILINE)
_LEVEL_TIME = re.compile(rf"^(?:{_MOMENT})(?= +{_LEVEL}|: *{_LEVEL})", re.MULTILINE | re.IGNORECASE)
# "[00:01<00:02, 9.5it/s", as tqdm writes it, and "2s 30ms/step", as Keras does.
_PACE = re.compile(
    r"(?<=\[)(?:\d+:)?\d\d:\d\d(?:<(?:[\d:]+|\?))?, *(?:\?|[\d.]+[kMG]?) *\w{1,12}/\w{1,12}(?=[,\]])"
    r"|\b\d+(?:s|ms) [\d.]+(?:us|ms|s)/(?:step|epoch|sample)\b"
)
_OVERWRITTEN = re.compile(r"^[^\n]*\r(?!\n)", re.MULTILINE)  # what a progress bar has written over
_FINALS = re.compile(r"(?:^ +\w+ : Final\[[^\n]*\n)+", re.MULTILINE)
_SUMMARY_TIME = re.compile(r"^(?:Date|Time):\s+\S+(?: \S+)*", re.MULTILINE)
_SVG_DATE = re.compile(r"<dc:date>[^<]{0,40}</dc:date>")
_SVG_MADE_UP = re.compile(r"(?:[hmp]|(?:Im_)?image|C[0-9a-f]+_[0-9a-f]+_)[0-9a-f]{10}")  # by matplotlib's _make_id
_PLOTLY_MADE_UP = re.compile(r"(?:(?:top)?defs-|clip|legend|g)[0-9a-f]{6}[\w-]*")
_MADE_UP = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"  # a random UUID: plotly, Bokeh
    r"|[A-Za-z]\w*[-_][0-9a-f]{32}(?![0-9a-f])"  # folium, Altair
    r"|T_[0-9a-f]{5}(?![0-9a-zA-Z])"  # pandas' Styler
    r"|sk-(?:container|estimator)-id-\d+"  # scikit-learn, which counts its pictures
    r"|i[0-9A-Z]{19}|(?:ldavis|fig)_el\d{10,}"  # shap, pyLDAvis, mpld3
)
_DECLARED = re.compile(r"""\bid\s*=\s*["']?([^"'\s<>]{1,200})|\b(?:var|let|const)\s+(\w{1,200})\s*=""")
_PDF_VOLATILE = re.compile(
    rb"/(?:CreationDate|ModDate)\s*\([^()]{0,60}\)"
    rb"|/ID\s*\[\s*(?:<[0-9A-Fa-f]*>|\([^()]{0,60}\))\s*(?:<[0-9A-Fa-f]*>|\([^()]{0,60}\))\s*\]"
    rb"|<xmp:(?:CreateDate|ModifyDate|MetadataDate)>[^<]{0,40}<|<xmpMM:(?:DocumentID|InstanceID)>[^<]{0,80}<"
)
_MOST_COMPARED = 50_000_000_000  # ids that may be at each character, all in all: some seconds
LOG_FILES = ("*.log", "*.log.*", "*.out", "*.err", "stdout*", "stderr*", "log.txt", "*_log.txt", "*-log.txt")
"""Names of what programs say while they run."""
Mask = tuple[str, "re.Pattern[str]", str]
"""What a mask takes out of a text, for people; where it is; and what stands there instead."""
ADDRESSES: Mask = ("addresses in memory", _ADDRESS, "0x")
_PACES: Mask = ("how quick a progress bar was", _PACE, "")
LOG_MASKS: tuple[Mask, ...] = (
    ("progress that was overwritten", _OVERWRITTEN, ""),
    ("times at the start of lines", _LOG_TIME, ""),
    _PACES,
    ADDRESSES,
)
TEXT_MASKS: tuple[Mask, ...] = (("times of log messages", _LEVEL_TIME, ""), _PACES, ADDRESSES)
_SVG_MASKS: tuple[Mask, ...] = (("the date", _SVG_DATE, ""),)
_SUMMARY_MASKS: tuple[Mask, ...] = (("the date and the time of day of the fit", _SUMMARY_TIME, ""),)


def compare_text(one: Blob, other: Blob, context: Context, masks: Sequence[Mask] = TEXT_MASKS) -> Outcome:
    """Lines; whether one ends in CR LF or LF, times of log messages and addresses in memory do not count."""
    left, right = read_text(one, context), read_text(other, context)
    if split_lines(left) == split_lines(right):
        return same_content("the lines, which end in another way")
    return _compare_masked(left, right, masks)


def compare_log(one: Blob, other: Blob, context: Context) -> Outcome:
    """`compare_text`, without any time at the start of a line and without what a progress bar has overwritten."""
    return compare_text(one, other, context, LOG_MASKS)


def compare_summary(one: Blob, other: Blob, context: Context) -> Outcome:
    """``model_summary.txt``, which MLflow's autologging of statsmodels writes, without when it was fitted."""
    return compare_text(one, other, context, _SUMMARY_MASKS)


def compare_torch_code(one: Blob, other: Blob, context: Context) -> Outcome:
    """Code of TorchScript's, whose constants are in the order of a set."""
    left, right = (_FINALS.sub(_sort_lines, read_text(blob, context)) for blob in (one, other))
    return _compare_masked(left, right, (), ["the order of constants"])


def _sort_lines(found: re.Match[str]) -> str:
    return "".join(sorted(found[0].splitlines(keepends=True)))


def compare_html(one: Blob, other: Blob, context: Context) -> Outcome:
    """`compare_text`; ids that a library makes up count by the order in which they are declared."""
    left, right = (rename_ids(read_text(blob, context), _MADE_UP) for blob in (one, other))
    return _compare_renamed(left, right, (ADDRESSES,))


def compare_svg(one: Blob, other: Blob, context: Context) -> Outcome:
    """Lines without the date; ids that matplotlib makes up count by the order in which they are declared."""
    left, right = (_rename_svg(read_text(blob, context)) for blob in (one, other))
    return _compare_renamed(left, right, _SVG_MASKS)


def _rename_svg(text: str) -> tuple[str, list[str]]:
    """By the program that drew it; the ids of others can mean something, but for what nobody thinks up."""
    if "matplotlib" in text.lower():
        return rename_ids(text, _SVG_MADE_UP, is_whole=True)
    return rename_ids(text, _PLOTLY_MADE_UP, is_whole=True) if "main-svg" in text else rename_ids(text, _MADE_UP)


def _compare_renamed(left: tuple[str, list[str]], right: tuple[str, list[str]], masks: Sequence[Mask]) -> Outcome:
    names = ["the names of made-up ids"] if left[1] != right[1] else []
    return _compare_masked(left[0], right[0], masks, names)


def rename_ids(text: str, made_up: re.Pattern[str], *, is_whole: bool = False) -> tuple[str, list[str]]:
    """The text with what is made up of its declared ids by their order wherever it occurs, and what that was."""
    find = made_up.fullmatch if is_whole else made_up.search
    found = (find(match[1] or match[2]) for match in _DECLARED.finditer(text))
    order = {name: f"made-up-id-{index}" for index, name in enumerate(dict.fromkeys(one[0] for one in found if one))}
    if not order:
        return text, []
    if len(order) * len(text) > _MOST_COMPARED:
        raise TooLargeError(f"it declares {len(order)} made-up ids")
    anywhere = re.compile(rf"(?<![0-9A-Za-z])(?:{'|'.join(map(re.escape, order))})(?![0-9A-Za-z])")
    return anywhere.sub(lambda match: order[match[0]], text), list(order)


def take_out(text: str, masks: Sequence[Mask]) -> tuple[str, dict[str, list[str]]]:
    """The text behind ``masks``, and by the name of each what it has taken out."""
    taken = {}
    for name, pattern, instead in masks:
        taken[name] = pattern.findall(text)
        text = pattern.sub(instead, text)
    return text, taken


def clean_output(kind: str, text: str) -> tuple[str, dict[str, list[str]]]:
    """What a cell of a notebook has given, by its media type (``text``: what it printed), and what was taken out."""
    made_up: list[str] = []
    if kind in ("text/html", "image/svg+xml"):
        text, made_up = _rename_svg(text) if kind == "image/svg+xml" else rename_ids(text, _MADE_UP)
    text, taken = take_out(text, LOG_MASKS if kind == "text" else (*_SVG_MASKS, ADDRESSES))
    return text, {**taken, "the names of made-up ids": made_up}


def _compare_masked(left: str, right: str, masks: Sequence[Mask], names: Sequence[str] = ()) -> Outcome:
    """Both texts by their lines behind ``masks``; ``names`` are what was left out of them before."""
    (one, taken), (other, taken_there) = take_out(left, masks), take_out(right, masks)
    differing = [*names, *(name for name in taken if taken[name] != taken_there[name])]
    return _compare_lines(split_lines(one), split_lines(other), " and ".join(differing))


def split_lines(text: str) -> list[str]:
    """The lines of a text; nothing but LF and CR LF ends one, and the last may have no end."""
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def compare_pdf(one: Blob, other: Blob, context: Context) -> Outcome:
    """The bytes without dates and document ids."""
    left, right = (_PDF_VOLATILE.sub(b"", blob.read(context.limits.parsed)) for blob in (one, other))
    if left == right:
        return same_content("the document without dates and ids")
    raise UnreadableError("a PDF is compared without its dates and ids, and no deeper")


def read_text(blob: Blob, context: Context) -> str:
    """UTF-8 text. Raises UnreadableError when it is none."""
    try:
        text = blob.read(context.limits.parsed).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError("it is not text in UTF-8") from error
    if "\0" in text:
        raise UnreadableError("it is not text: it holds NUL characters")
    return text


def _compare_lines(left: Sequence[str], right: Sequence[str], ignored: str) -> Outcome:
    if left == right:
        return same_content(f"the lines, without {ignored}" if ignored else "the lines, which end in another way")
    mine, theirs = Counter(left), Counter(right)
    if mine == theirs:
        return Outcome(status=Status.DIFFERENT, note=f"the same {len(left)} lines in another order")
    number = next((i for i, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
    if number is None:
        number = min(len(left), len(right))
    shown = [quote(lines[number].strip()) if number < len(lines) else "the end" for lines in (left, right)]
    only = [sum(count.values()) for count in (mine - theirs, theirs - mine)]
    return Outcome(
        status=Status.DIFFERENT,
        note=f"line {number + 1}: {shown[0]} and {shown[1]}; {only[0]} lines are in the reference only,"
        f" {only[1]} in the reproduction only",
    )


VOLATILE = {
    "*/saved_model.pb": "TensorFlow writes a SavedModel's graph in another order each time; its variables are judged",
    "*.data-?????-of-?????": "it holds the object graph, which is another each time; its tensors are judged by the"
    " checksums in the .index file",
    "*/fingerprint.pb": "a hash of saved_model.pb, which is another each time",
    "*/keras_metadata.pb": "it holds ids that are other ones each time",
    "*/estimator.html": "scikit-learn's picture of an estimator, which shows how long its fits took; its parameters are"
    " among the run's",
    "*/.data/serialization_id": "torch makes it up when it saves; what is saved is judged",
    "*events.out.tfevents.*": "TensorBoard's events hold times, the name of the machine and process ids",
}
"""Why, by the pattern of their path. They are shown and not judged."""

VOLATILE_KEYS = ("_mlflow_run_id", "_stop_words_id", "refit_time_")
"""Attributes of an object that differ between two runs that are the same: MLflow's autologging writes its run into the
model, scikit-learn's vectorizers the address of their stop words, and its searches how long the last fit took."""
SEARCH_TIMES = frozenset(f"{figure}_{part}_time" for figure in ("mean", "std") for part in ("fit", "score"))
"""What scikit-learn's searches keep about how long their fits took."""
VOLATILE_PLACES = {
    ".cv_results_": SEARCH_TIMES,
    ".runset": frozenset(
        {"_output_dir", "_base_outfile", "_stdout_files", "_csv_files", "_profile_files", "_diagnostic_files"}
    ),
    ".runset._args": frozenset({"data", "inits"}),
    "._cmdstan_config": frozenset({"start_datetime", "data_file", "init", "output_file", "diagnostic_file"}),
}
"""Keys that differ between two objects that are the same, by the end of the path of what holds them: scikit-learn's
times, and the temporary files and the time of CmdStan, which a pickled Prophet names; what CmdStan found is judged."""


def volatile_columns(name: str) -> frozenset[str]:
    """The columns of the table ``name`` that only say how long something took."""
    return SEARCH_TIMES if fnmatchcase(f"/{name}", "*/cv_results.csv") else frozenset()


def why_volatile(name: str) -> str:
    """Why the file ``name`` says nothing about the run; empty when it does."""
    return next((why for pattern, why in VOLATILE.items() if fnmatchcase(f"/{name}", pattern)), "")
