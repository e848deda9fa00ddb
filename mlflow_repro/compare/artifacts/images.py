"""Images by their pixels."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.arrays import compare_arrays
from mlflow_repro.compare.artifacts.blobs import (
    MissingReaderError,
    Outcome,
    TooLargeError,
    combine,
    reading,
    same_content,
)
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from mlflow_repro.compare.artifacts.blobs import Blob, Context

_SHOWING = ("duration", "loop")
_ORIENTATION = 0x0112  # of EXIF
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
"""What Pillow may take a file for; among the others are some that it hands to another program."""


def compare_image(one: Blob, other: Blob, context: Context) -> Outcome:
    """Size, mode and pixels of each frame, how long it is shown, and what turns it; compression does not count."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingReaderError("reading images needs Pillow: pip install 'mlflow-repro[images]'") from error
    with reading("an image"), one.open() as first, other.open() as second, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        left, right = (Image.open(stream, formats=FORMATS) for stream in (first, second))
        frames = getattr(left, "n_frames", 1), getattr(right, "n_frames", 1)
        if frames[0] != frames[1]:
            return Outcome(status=Status.DIFFERENT, note=f"{frames[0]} and {frames[1]} frames")
        parts = []
        for number in range(frames[0]):
            left.seek(number)
            right.seek(number)
            context.budget.spend(4 * sum(image.size[0] * image.size[1] for image in (left, right)))
            if max(image.size[0] * image.size[1] for image in (left, right)) > context.limits.pixels:
                raise TooLargeError(f"it has more than {context.limits.pixels} pixels")
            name = f"frame {number + 1}" if frames[0] > 1 else ""
            parts.append((name, _compare_showing(left, right) or _compare_frames(left, right, context)))
    outcome = combine(parts, "frames") if frames[0] > 1 else parts[0][1]
    return same_content("the pixels") if outcome.status is Status.IDENTICAL else outcome


def _compare_showing(left: Any, right: Any) -> Outcome | None:
    mine, theirs = _read_showing(left), _read_showing(right)
    differing = [f"{name} {mine[name]} and {theirs[name]}" for name in mine if mine[name] != theirs[name]]
    return Outcome(status=Status.DIFFERENT, note="; ".join(differing)) if differing else None


def _read_showing(image: Any) -> dict[str, Any]:
    """What of a frame's metadata changes what is seen: milliseconds, rounds of an animation, how it is turned."""
    image.load()  # in a WebP it is known only then
    showing = {name: image.info.get(name) for name in _SHOWING}
    return {**showing, "orientation": image.getexif().get(_ORIENTATION, 1)}


def _compare_frames(left: Any, right: Any, context: Context) -> Outcome:
    import numpy as np

    if left.size != right.size:
        sizes = [f"{image.size[0]}x{image.size[1]}" for image in (left, right)]
        return Outcome(status=Status.DIFFERENT, note=f"{sizes[0]} and {sizes[1]} pixels")
    if left.mode == right.mode == "P" or "transparency" in {**left.info, **right.info}:
        left, right = left.convert("RGBA"), right.convert("RGBA")  # a palette is another way to write colours
    if left.mode != right.mode:
        return Outcome(status=Status.DIFFERENT, note=f"mode {left.mode} and {right.mode}")
    arrays = np.asarray(left), np.asarray(right)
    outcome = compare_arrays(*arrays, context.tolerances)
    if outcome.status is not Status.DIFFERENT or arrays[0].shape != arrays[1].shape:
        return outcome
    different = arrays[0] != arrays[1]
    pixels = different.reshape(left.size[1], left.size[0], -1).any(axis=2)
    row, column = (int(index) for index in np.unravel_index(int(pixels.argmax()), pixels.shape))
    distance = np.abs(arrays[0].astype("f8") - arrays[1].astype("f8")).max()
    return Outcome(
        status=Status.DIFFERENT,
        note=f"{int(pixels.sum())} of {pixels.size} pixels differ, the first at x {column}, y {row}, by at most"
        f" {distance:g}",
    )
