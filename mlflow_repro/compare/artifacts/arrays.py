"""Compare arrays of numbers: how many elements differ, the first, and by how much at most."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from mlflow_repro.compare.artifacts.blobs import (
    IDENTICAL,
    Outcome,
    TooLargeError,
    UnreadableError,
    quote,
    reading,
    same_content,
)
from mlflow_repro.compare.histories import count_ulps
from mlflow_repro.values.comparison import Status

if TYPE_CHECKING:
    from mlflow_repro.compare.artifacts.blobs import Blob, Context
    from mlflow_repro.values.rules import Tolerances

_CHUNK = 1 << 18  # elements that are compared at once
_PLAIN_DTYPE = re.compile(r"[<>|=]?[?biufcmMSUV]\d{0,6}")
_LARGEST_HEADER = 100_000_000  # of safetensors, by its specification
_SAFETENSORS_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "F8_E5M2": "V1", "F8_E4M3": "V1", "F8_E8M0": "V1", "I16": "<i2", "U16": "<u2",
    "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U32": "<u4", "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8",
    "C64": "<c8",
}  # fmt: skip


class Tally:
    """Counts over the elements of two arrays of one shape and dtype, which may come in pieces of the same order."""

    def __init__(self, tolerances: Tolerances) -> None:
        self.tolerances = tolerances
        self.count = self.differing = self.beyond = 0
        self.first = ""
        self.absolute = self.relative = 0.0
        self.ulp = -1
        self.has_other_nan = self.has_padding = False

    def add(self, one: Any, other: Any, where: str = "") -> None:
        """Two flat numpy arrays. A structure is compared field by field, so that its padding does not count."""
        if one.dtype.names:
            for name in one.dtype.names:
                self.add(one[name].reshape(-1), other[name].reshape(-1), f"{where}.{name}")
            return
        for start in range(0, len(one), _CHUNK):
            self._add_chunk(one[start : start + _CHUNK], other[start : start + _CHUNK], start, where)
        self.count += len(one)

    def _add_chunk(self, one: Any, other: Any, start: int, where: str) -> None:
        import numpy as np

        kind = one.dtype.kind
        if kind == "c":
            part = np.dtype(f"f{one.dtype.itemsize // 2}").newbyteorder(one.dtype.byteorder)
            one, other = one.view(part), other.view(part)
            different = ~_same_floats(one, other)
            self._measure(one[different], other[different])
            different = different.reshape(-1, 2).any(axis=1)
            one, other = one.reshape(-1, 2), other.reshape(-1, 2)
        elif kind == "f":
            different = ~_same_floats(one, other)
            self._measure(one[different], other[different])
        else:
            if kind in "mM":
                one, other = one.astype("i8"), other.astype("i8")  # their numbers, in which NaT is itself
            different = one != other
            if kind in "iu":
                self._measure_integers(one[different], other[different])
            else:
                self.beyond += int(np.count_nonzero(different))
        if different.any():
            index = int(np.argmax(different))
            self.first = (
                self.first or f"{where}[{start + index}]: {quote(_plain(one[index]))} and {quote(_plain(other[index]))}"
            )
            self.differing += int(np.count_nonzero(different))

    def _measure(self, one: Any, other: Any) -> None:
        """Floats that differ: the greatest distances, and how many are beyond the tolerance."""
        import numpy as np

        if not len(one):
            return
        wide = np.longdouble if one.dtype.itemsize > np.dtype("f8").itemsize else np.float64
        with np.errstate(all="ignore"):
            left, right = one.astype(wide), other.astype(wide)
            finite = np.isfinite(left) & np.isfinite(right)
            distance = np.abs(left - right)
            scale = np.maximum(np.abs(left), np.abs(right))
            near = finite & (distance <= np.maximum(self.tolerances.rel_tol * scale, self.tolerances.abs_tol))
            if one.dtype.itemsize <= 8 and finite.any():  # noqa: PLR2004 - a double
                ulps = count_ulps(one[finite], other[finite])
                self.ulp = max(self.ulp, int(ulps.max()))
                if self.tolerances.ulp:
                    near[finite] |= ulps <= self.tolerances.ulp
            # Exact asks for the same bits: not even zeros of two signs are near then.
            self.beyond += len(one) if self.tolerances.exact else int(np.count_nonzero(~near))
            self.has_other_nan |= bool((np.isnan(left) | np.isnan(right)).any())
            if finite.any():
                self.absolute = max(self.absolute, float(distance[finite].max()))
                self.relative = max(self.relative, float(np.nan_to_num(distance / scale)[finite].max()))

    def _measure_integers(self, one: Any, other: Any) -> None:
        """Integers that differ: likewise; they are beyond it unless a rule names the file."""
        import numpy as np

        if not len(one):
            return
        bounds = np.minimum(one, other), np.maximum(one, other)
        low, high = (bound.astype(f"{one.dtype.kind}8").view("u8") for bound in bounds)
        distance = (high - low).astype(np.float64)  # unsigned numbers hold each distance exactly
        scale = np.maximum(np.abs(one.astype(np.float64)), np.abs(other.astype(np.float64)))
        near = distance <= np.maximum(self.tolerances.rel_tol * scale, self.tolerances.abs_tol)
        is_allowed = self.tolerances.integers and not self.tolerances.exact
        self.beyond += int(np.count_nonzero(~near)) if is_allowed else len(one)
        self.absolute = max(self.absolute, float(distance.max()))
        self.relative = max(self.relative, float((distance / scale).max()))

    def outcome(self, what: str = "") -> Outcome:
        """What it comes to; ``what`` describes the arrays."""
        if not self.differing:
            return IDENTICAL
        status = Status.DIFFERENT if self.beyond else Status.CLOSE
        parts = [f"{self.differing} of {self.count} elements differ{what}, the first at {self.first}"]
        if self.has_other_nan:
            parts.append("NaN on one side only")
        if self.absolute or self.relative:
            ulp = f", {self.ulp} ULP" if self.ulp >= 0 else ""
            parts.append(f"by at most {self.absolute:.3g} (relative {self.relative:.3g}{ulp})")
        return Outcome(status=status, note="; ".join(parts))


def _same_floats(one: Any, other: Any) -> Any:
    """Element by element: the same value and the same sign of zero, or NaN on both sides."""
    import numpy as np

    return ((one == other) & (np.signbit(one) == np.signbit(other))) | (np.isnan(one) & np.isnan(other))


def _plain(value: Any) -> Any:
    plain = value.tolist() if hasattr(value, "tolist") else value
    return complex(*plain) if isinstance(plain, list) and len(plain) == 2 else plain  # noqa: PLR2004 - two parts


def compare_arrays(one: Any, other: Any, tolerances: Tolerances) -> Outcome:
    """Two numpy arrays without objects in them: shape, dtype, then every element."""
    if one.shape != other.shape:
        return Outcome(status=Status.DIFFERENT, note=f"shape {list(one.shape)} and {list(other.shape)}")
    if one.dtype != other.dtype:
        return Outcome(status=Status.DIFFERENT, note=f"dtype {one.dtype} and {other.dtype}")
    tally = Tally(tolerances)
    tally.add(one.reshape(-1), other.reshape(-1))
    return tally.outcome(f" (shape {list(one.shape)}, {one.dtype})" if not one.dtype.names else "")


def plain_dtype(text: str) -> Any:
    """The numpy dtype of a plain type string such as ``<f8``. Raises UnreadableError for any other."""
    import numpy as np

    if not _PLAIN_DTYPE.fullmatch(text):
        raise UnreadableError(f"dtype {quote(text)} is not a plain one")
    with reading("a dtype"):
        return np.dtype(text)


def array_of(buffer: bytes | memoryview, dtype: Any, shape: tuple[int, ...], *, is_fortran: bool = False) -> Any:
    """A numpy view of ``buffer``. Raises UnreadableError when the sizes do not agree or objects are in it."""
    import numpy as np

    if dtype.hasobject:
        raise UnreadableError("it is an array of Python objects")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(buffer):
        raise UnreadableError("the size of an array does not agree with its shape")
    if not dtype.itemsize:
        return np.zeros(shape, dtype=dtype)
    with reading("an array"):
        return np.frombuffer(buffer, dtype=dtype).reshape(shape, order="F" if is_fortran else "C")


def _read_npy(blob: Blob, context: Context) -> Any:
    from numpy.lib import format as npy

    with blob.open() as stream, reading("npy"):
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise UnreadableError("it holds Python objects, which are not unpickled")
        if size > context.limits.held:
            raise TooLargeError(f"the array has {size} bytes, more than are held in memory")
        content = stream.read(size)
        if stream.read(1):  # numpy.save can be given an open file several times
            raise UnreadableError("something follows the array")
        return array_of(content, dtype, shape, is_fortran=is_fortran)


def compare_npy(one: Blob, other: Blob, context: Context) -> Outcome:
    """The format of numpy for one array; objects in it are not read."""
    outcome = compare_arrays(_read_npy(one, context), _read_npy(other, context), context.tolerances)
    return outcome if outcome.note else same_content("the array")


def _read_safetensors(blob: Blob) -> tuple[dict[str, Any], int]:
    """The header, and where the data begin. The format: an 8-byte little-endian length, JSON, data."""
    import json

    with blob.open() as stream, reading("safetensors"):
        length = int.from_bytes(stream.read(8), "little")
        if length > min(_LARGEST_HEADER, blob.size - 8):
            raise UnreadableError("the length of the safetensors header is impossible")
        header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                if not 0 <= begin <= end <= blob.size - 8 - length:
                    raise UnreadableError(f"tensor {quote(name)} lies outside the file")
        return header, 8 + length


def _read_tensor(blob: Blob, entry: dict[str, Any], start: int, context: Context) -> Any:
    if entry["dtype"] not in _SAFETENSORS_DTYPES:
        raise UnreadableError(f"dtype {quote(entry['dtype'])} is not known")
    begin, end = entry["data_offsets"]
    if end - begin > context.limits.held:
        raise TooLargeError(f"a tensor has {end - begin} bytes, more than are held in memory")
    with blob.open() as stream:
        stream.seek(start + begin)
        content = stream.read(end - begin)
    array = array_of(content, plain_dtype(_SAFETENSORS_DTYPES[entry["dtype"]]), tuple(entry["shape"]))
    # bfloat16 is the upper half of a float32.
    return (array.astype("<u4") << 16).view("<f4") if entry["dtype"] == "BF16" else array


def compare_safetensors(one: Blob, other: Blob, context: Context) -> Outcome:
    """Tensors by their names; the order in the file and ``__metadata__`` do not count, and it says so."""
    from mlflow_repro.compare.artifacts.blobs import combine

    (left, left_start), (right, right_start) = _read_safetensors(one), _read_safetensors(other)
    metadata = left.pop("__metadata__", {}), right.pop("__metadata__", {})
    parts = []
    for name in sorted({*left, *right}):
        if name not in left or name not in right:
            side = "reference" if name in left else "reproduction"
            parts.append((name, Outcome(status=Status.DIFFERENT, note=f"only in the {side}")))
            continue
        with reading("safetensors"):
            mine, theirs = left[name], right[name]
            if (mine["dtype"], mine["shape"]) != (theirs["dtype"], theirs["shape"]):
                note = f"{mine['dtype']} {mine['shape']} and {theirs['dtype']} {theirs['shape']}"
                parts.append((name, Outcome(status=Status.DIFFERENT, note=note)))
                continue
            arrays = (
                _read_tensor(one, mine, left_start, context),
                _read_tensor(other, theirs, right_start, context),
            )
        parts.append((name, compare_arrays(*arrays, context.tolerances)))
    if metadata[0] != metadata[1]:
        parts.append(("__metadata__", Outcome(status=Status.IDENTICAL, note="it differs, and is not judged")))
    return combine(parts, "tensors")
