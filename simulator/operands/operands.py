"""What instructions do with their operands: check where they are, read them in float32, write a rounded result."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triptych.simulator.dtypes import F32, DType, float32, round_to
from triptych.simulator.enums import engine
from triptych.simulator.errors import NkiValidationError
from triptych.simulator.memory.layout import Layout, overlaps
from triptych.simulator.memory.storage import PSUM, MemoryRegion
from triptych.simulator.running import running
from triptych.simulator.tensors.tensor import NkiTensor
from triptych.simulator.transposing import copy_transposed

Array = NDArray[Any]
_BITS: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
}


def on_chip(**tensors: Any) -> None:
    """Each operand is a tile in SBUF or PSUM."""
    for what, t in tensors.items():
        if type(t) is not NkiTensor or t.index is not None or not t.on_chip:
            raise NkiValidationError(f"{what} must be a tile in SBUF or PSUM, got {describe(t)}")
        if t.dtype.itemsize > 4:
            raise NkiValidationError(
                f"{what} is {t!r}: engines compute on no integers of 64 bits, which are for scalars"
            )


def in_buffer(buffer: MemoryRegion, **tensors: Any) -> None:
    """Each operand is a tile in `buffer`."""
    for what, t in tensors.items():
        if type(t) is not NkiTensor or t.index is not None or t.buffer is not buffer:
            raise NkiValidationError(f"{what} must be a tile in {buffer.name.upper()}, got {describe(t)}")


def in_dtype(allowed: Collection[str], **tensors: NkiTensor) -> None:
    """Each operand has one of these dtypes."""
    for what, t in tensors.items():
        if t.dtype not in allowed:
            known = " or ".join(allowed) if len(allowed) < 3 else f"one of {', '.join(allowed)}"
            raise NkiValidationError(f"{what} must be {known}, got {t!r}")


def members_of(kind: type[Enum], **values: Any) -> None:
    """Each value is a member of an enumeration of nki.isa, and no raw value of one."""
    for what, value in values.items():
        if not isinstance(value, kind):
            raise NkiValidationError(
                f"{what} must be a nisa.{kind.__name__}, got {value!r}; raw integers are not accepted since NKI 0.3.0",
                source="nki/migration/index.rst",
            )


def describe(t: Any) -> str:
    return repr(t) if isinstance(t, NkiTensor) else f"{type(t).__name__} {t!r}"


def not_both_in_psum(a: Any, b: Any, what: str) -> None:
    if _in_psum(a) and _in_psum(b):
        raise NkiValidationError(f"{what} cannot both be in PSUM: copy one to SBUF first")


def _in_psum(t: Any) -> bool:
    return isinstance(t, NkiTensor) and t.buffer is PSUM and t.index is None


def any_in_psum(*tensors: Any) -> bool:
    return any([_in_psum(t) for t in tensors])


def without_gpsimd_in_psum(on: engine, *tensors: Any) -> engine:
    """GpSimd cannot reach PSUM."""
    if on is engine.gpsimd and any_in_psum(*tensors):
        raise NkiValidationError("GpSimd cannot access PSUM; use the Vector Engine")
    return on


def check_integers(*tiles: NkiTensor) -> None:
    """Bitvec operators take integers of one size, as bit patterns and without a cast."""
    for t in tiles:
        if not t.dtype.is_int:
            raise NkiValidationError(f"bitvec operators need integer tiles, got {t!r}")
    if len({t.dtype.itemsize for t in tiles}) > 1:
        raise NkiValidationError(
            f"bitvec operators do not cast, so that all tiles need integers of one size; got "
            f"{', '.join(t.dtype for t in tiles)}"
        )


def same_tile(what: str, a: NkiTensor, b: NkiTensor) -> None:
    """Equal partitions and equal elements per partition (free dimensions may be split differently)."""
    if a.shape[0] != b.shape[0] or a.size != b.size:
        raise NkiValidationError(
            f"{what} must have the same partitions and elements per partition, got {a.shape} and {b.shape}"
        )


def per_partition(value: Any, data: NkiTensor, what: str) -> tuple[Any, tuple[NkiTensor, ...]]:
    """A scalar in float32, or a (P, 1) tile; and the tiles to be read. `column` gives what it holds."""
    if isinstance(value, NkiTensor):
        on_chip(**{what: value})
        if value.shape[0] != data.shape[0] or value.free_size != 1:
            raise NkiValidationError(
                f"{what} must be a scalar or a tile of shape ({data.shape[0]}, 1), got {value.shape}"
            )
        return value, (value,)
    if isinstance(value, (bool, int, float, np.integer, np.floating)):
        return np.float32(value), ()
    raise NkiValidationError(f"{what} must be a number or a tile of shape ({data.shape[0]}, 1), got {describe(value)}")


def column(value: Any, data: NkiTensor) -> Any:
    """A number as it is, or a (P, 1) tile as a column in float32 that broadcasts over `data`."""
    if isinstance(value, NkiTensor):
        return value.f32().reshape((data.shape[0],) + (1,) * (data.ndim - 1))
    return value


def bits(t: NkiTensor) -> Array:
    """The elements as unsigned integers of their size: what a copy without a cast moves."""
    array = t.array
    return array if array.dtype is F32 else array.view(_BITS[array.dtype.itemsize])


def put_bits(dst: NkiTensor, patterns: Array) -> None:
    """dst[...] = patterns, unsigned integers of dst's size.

    On unsigned ones a right shift is logical, as the engine's (nki/api/nki.api.shared.rst); NumPy's is arithmetic on
    signed integers.
    """
    bits(dst)[...] = patterns.reshape(dst.shape)
    dst.wrote()


def rounding_of(dst: NkiTensor) -> DType:
    """The dtype that results are rounded to for dst: its own, or float32 in the mode without rounding."""
    kind = dst.dtype
    if dst.storage.widened or (kind == "tfloat32" and not running().options.round_low_precision):
        return float32
    return kind


def stored(dst: NkiTensor, values: Array) -> Array:
    """`values` as dst would store them, in an array of their own."""
    out = np.empty(values.shape, dst.array.dtype)
    round_to(values, rounding_of(dst), out)
    return out


def put(dst: NkiTensor, values: Array) -> None:
    """dst[...] = values, rounded to dst's dtype."""
    _note_nans(dst, round_to(values.reshape(dst.shape), rounding_of(dst), dst.array))
    dst.wrote()


def as_stored(dst: NkiTensor, src: NkiTensor | None, values: Array) -> Array:
    """Elements of src, or results, as dst stores them: as they are where dtypes agree, else cast through float32."""
    if src is not None and dst.dtype == src.dtype:
        return values
    out = np.empty(values.shape, dst.array.dtype)
    _note_nans(dst, round_to(values.astype(F32, copy=False), rounding_of(dst), out))
    return out


def _note_nans(dst: NkiTensor, nans: int) -> None:
    if nans:
        running().note_values(f"{nans} NaN are cast to {dst.dtype}, as 0: what they become is not documented")


def move(dst: NkiTensor, src: NkiTensor) -> None:
    """dst[...] = src[...]: bit for bit where dtypes agree, else cast through float32."""
    if dst.dtype == src.dtype:
        values = src.array
        dst.array[...] = values if src.shape == dst.shape else values.reshape(dst.shape)
        dst.storage.wrote(dst.layout)
    else:
        put(dst, src.f32())


def move_transposed(dst: NkiTensor, data: NkiTensor) -> None:
    """dst[F, P] = data[P, F].T, free dimensions flattened, bit for bit."""
    turned, values = bits(dst), bits(data).reshape(data.shape[0], -1)
    if dst.ndim == 2:
        copy_transposed(turned, values)
    else:
        turned[...] = values.T.reshape(dst.shape)
    dst.wrote()


def same_elements(dst: NkiTensor, src: NkiTensor) -> tuple[NkiTensor, Layout | None]:
    """What dst is equal to after `move`, but for rounding: all of src, in dst's shape."""
    return src, src.layout if src.shape == dst.shape else src.layout.reshape(dst.shape)


class _Scratch(threading.local):
    """One float32 workspace a thread: a fresh temporary of a tile's size costs more in pages than in arithmetic."""

    def __init__(self) -> None:
        self.data: Array = np.empty(0, F32)
        self.shaped: dict[tuple[int, ...], Array] = {}  # as arrays of the shapes that were asked for


_scratch = _Scratch()


def scratch(shape: tuple[int, ...]) -> Array:
    """A float32 array of `shape` to compute in, valid until the next call on this thread."""
    found = _scratch.shaped.get(shape)
    if found is None:
        size = math.prod(shape)
        if _scratch.data.size < size:
            _scratch.data = np.empty(size, F32)
            _scratch.shaped.clear()
        found = _scratch.shaped[shape] = _scratch.data[:size].reshape(shape)
    return found


def target(dst: NkiTensor, shape: tuple[int, ...], *read_later: Any) -> Array:
    """Where to compute a float32 result for dst: dst itself if it can hold it, else scratch of `shape`.

    A dst whose elements lie on one another, as a stride of zero makes them, holds the last of them only.

    read_later: what is read when a first step has been left there; dst that shares bytes with one is no place for it
    """
    fits = dst.shape == shape and dst.dtype == "float32" and not overlaps(shape, dst.strides)
    if not fits or any([type(t) is NkiTensor and t.storage.raw is dst.storage.raw for t in read_later]):
        return scratch(shape)
    return dst.array


def finish(dst: NkiTensor, computed: Array) -> None:
    """Round what was computed in `target` into dst, unless it is there already."""
    if computed is dst.array:
        dst.wrote()
    else:
        put(dst, computed)


def elementwise(dst: NkiTensor, f: Any, x: Array, *others: Any) -> None:
    """dst[...] = f(x, *others); the others are scalars, columns or of x's shape."""
    if isinstance(f, np.ufunc):
        out = target(dst, x.shape)
        f(x, *others, out=out)
        finish(dst, out)
    else:
        put(dst, f(x, *others))
