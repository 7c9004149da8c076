"""Where the elements of an array lie in memory: the strides of the regime "strided".

PyTorch hands a kernel views as they are: the transpose of a matrix, every second column, rows of a wider buffer. Values
are those of the regime "normal"; between the elements lie NaNs (in integers, large numbers), so that a kernel which
takes its inputs for contiguous reads what is wrong.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable

import numpy as np

from triptych.harness.arrays import Array, Arrays
from triptych.harness.unwritten import fill

PADDING = 16  # elements after each row
WRAPS = 2**31  # the offset that 32 bits do not hold
NO_RESERVE = 0x4000  # of Linux's mmap; Python has the name since 3.11
Strides = tuple[int, ...]  # in elements


def contiguous(shape: Strides) -> Strides:
    """The strides of an array without gaps."""
    return tuple([math.prod(shape[i + 1 :]) for i in range(len(shape))])


def transposed(shape: Strides) -> Strides:
    """The last two axes change places in memory."""
    *leading, rows, columns = contiguous((*shape[:-2], shape[-1], shape[-2]))
    return (*leading, columns, rows)


def sliced(shape: Strides) -> Strides:
    """Every second element."""
    return tuple([2 * stride for stride in contiguous(shape)])


def padded(shape: Strides) -> Strides:
    """Rows of a buffer that is wider."""
    return contiguous((*shape[:-1], shape[-1] + PADDING))


OF_MATRICES: tuple[Callable[[Strides], Strides], ...] = (transposed, sliced, padded)


def in_strides(arrays: Arrays, draw: int) -> Arrays:
    """`arrays`, each in another layout than the one before; every `draw` begins with another. Vectors are sliced."""
    found = dict(arrays)
    for i, (name, x) in enumerate(arrays.items()):
        if x.ndim and x.size:
            layout = OF_MATRICES[(i + draw) % len(OF_MATRICES)] if x.ndim > 1 else sliced
            found[name] = lay_out(x, layout(x.shape))
    return found


def far_apart(arrays: Arrays) -> Arrays:
    """`arrays` with a stride so large that an offset of 32 bits wraps before the last element, where that can be.

    Pages that nobody touches take no room. OSError where the system has not so many addresses.
    """
    found = dict(arrays)
    for name, x in arrays.items():
        axis = next((i for i, n in enumerate(x.shape[:-1]) if n > 2), None)  # a stride of 2**31 has 64 bits itself
        if axis is None or not x.size:
            continue
        inner = contiguous((*x.shape[:axis], *x.shape[axis + 1 :]))
        strides = (*inner[:axis], -(-WRAPS // (x.shape[axis] - 1)), *inner[axis:])
        bits = np.dtype(f"u{x.itemsize}")
        memory = mmap.mmap(-1, extent(x.shape, strides) * x.itemsize, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | NO_RESERVE)
        view = view_in(np.frombuffer(memory, bits), x.shape, strides)
        view[...] = np.ascontiguousarray(x).view(bits)
        found[name] = view.view(x.dtype)
    return found


def lay_out(x: Array, strides: Strides) -> Array:
    """The values of `x` in memory of its own, with these strides in elements."""
    flat = np.empty(extent(x.shape, strides) * x.itemsize, np.uint8)
    fill(flat, x.dtype)
    view = view_in(flat.view(f"u{x.itemsize}"), x.shape, strides)
    view[...] = np.ascontiguousarray(x).view(view.dtype)
    return view.view(x.dtype)


def copy(x: Array) -> Array:
    """`x` in memory of its own, in the layout that it has."""
    return x.copy() if x.flags.c_contiguous or not x.size else lay_out(x, strides_of(x))


def astype(x: Array, dtype: np.dtype[np.generic] | type[np.generic]) -> Array:
    """`x` in another dtype, in the layout that it has."""
    cast = x.astype(dtype)
    return cast if x.flags.c_contiguous or not x.size else lay_out(cast, strides_of(x))


def strides_of(x: Array) -> Strides:
    """In elements; of an array that runs backwards, which PyTorch does not have, those of a copy without gaps."""
    if any(stride < 0 or stride % x.itemsize for stride in x.strides):
        return contiguous(x.shape)
    return tuple([stride // x.itemsize for stride in x.strides])


def extent(shape: Strides, strides: Strides) -> int:
    """How many elements lie from the first to the last."""
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if math.prod(shape) else 0


def view_in(flat: Array, shape: Strides, strides: Strides) -> Array:
    """The elements of a flat buffer that an array of these strides has; NumPy strides no float8, but its bits."""
    return np.lib.stride_tricks.as_strided(flat, shape, tuple([stride * flat.itemsize for stride in strides]))
