"""Text by lines, and text formats that carry dates, addresses or made-up ids: HTML, SVG, PDF."""

from __future__ import annotations

import re
from collections import Counter
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mlflow_repro.compare.artifacts.blobs import Outcome, UnreadableError, quote, same_content
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow_repro.compare.artifacts.blobs import Blob, Context

# "<function f at 0x7f0123456789>", and the end of it where scikit-learn's HTML has cut it in the middle.
_ADDRESS = re.compile(r"(?<=\bat )0x[0-9a-f]{6,16}\b|(?<=\.\.\.)[0-9a-f]?x?[0-9a-f]{6,16}(?=&gt;|>)")
_SVG_DATE = re.compile(r"<dc:date>[^<]{0,40}</dc:date>")
_SVG_ID = re.compile(r'(\bid="|url\(#|href="#)([^")]{1,200})')
_PDF_VOLATILE = re.compile(
    rb"/(?:CreationDate|ModDate)\s*\([^()]{0,60}\)"
    rb"|/ID\s*\[\s*(?:<[0-9A-Fa-f]*>|\([^()]{0,60}\))\s*(?:<[0-9A-Fa-f]*>|\([^()]{0,60}\))\s*\]"
    rb"|<xmp:(?:CreateDate|ModifyDate|MetadataDate)>[^<]{0,40}<|<xmpMM:(?:DocumentID|InstanceID)>[^<]{0,80}<"
)


def compare_text(one: Blob, other: Blob, context: Context) -> Outcome:
    """Lines; how a line ends and addresses in memory do not count."""
    left, right = read_text(one, context), read_text(other, context)
    if left.splitlines() == right.splitlines():
        return same_content("the lines, which end in another way")
    return _compare_lines(
        _ADDRESS.sub("0x", left).splitlines(), _ADDRESS.sub("0x", right).splitlines(), "addresses in memory"
    )


def compare_svg(one: Blob, other: Blob, context: Context) -> Outcome:
    """Lines without the date; ids count by the order in which they first appear, for matplotlib makes them up."""
    left, right = _plain_svg(one, context), _plain_svg(other, context)
    return _compare_lines(left, right, "the date and the names of ids")


def _plain_svg(blob: Blob, context: Context) -> list[str]:
    order: dict[str, str] = {}

    def rename(match: re.Match[str]) -> str:
        return match[1] + order.setdefault(match[2], f"id{len(order)}")

    return _SVG_ID.sub(rename, _SVG_DATE.sub("", read_text(blob, context))).splitlines()


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
        return same_content(f"the lines, without {ignored}")
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
    "*events.out.tfevents.*": "TensorBoard's events hold times, the name of the machine and process ids",
}
"""Why, by the pattern of their path. They are shown and not judged."""

_TIMES = frozenset(f"{figure}_{part}_time" for figure in ("mean", "std") for part in ("fit", "score"))


def volatile_columns(name: str) -> frozenset[str]:
    """The columns of the table ``name`` that only say how long something took."""
    return _TIMES if fnmatchcase(f"/{name}", "*/cv_results.csv") else frozenset()


def why_volatile(name: str) -> str:
    """Why the file ``name`` says nothing about the run; empty when it does."""
    return next((why for pattern, why in VOLATILE.items() if fnmatchcase(f"/{name}", pattern)), "")
