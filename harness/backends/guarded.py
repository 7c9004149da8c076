"""Buffers that notice what a kernel does to memory through raw pointers.

Every buffer lies between two margins, and buffers and margins start out as NaNs of a known bit pattern. An element that
still has the output's pattern was never written; a margin that changed was written out of bounds; a margin that was
read turns the result into NaN. One-byte dtypes have no pattern to spare: their output starts out as random bytes, other
ones in each call, so that what is not written is wrong, and is not the same in two runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from triptych.harness.arrays import Array
from triptych.harness.backends.base import KernelFault
from triptych.harness.ops import layouts
from triptych.harness.unwritten import UNWRITTEN

MARGIN = 1024  # elements on each side
_rng = np.random.default_rng(0)
OUTSIDE = {1: 0x7F, 2: 0x7FE5, 4: 0x7FE5E5E5, 8: 0x7FF5E5E5E5E5E5E5}


def pattern_buffer(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """A flat array of unsigned integers as wide as `dtype`: margin, room for `shape`, margin."""
    size = int(np.prod(shape))
    flat = np.full(size + 2 * MARGIN, OUTSIDE[dtype.itemsize], f"u{dtype.itemsize}")
    flat[MARGIN : MARGIN + size] = UNWRITTEN[dtype.itemsize]
    if dtype.itemsize == 1:
        flat[MARGIN : MARGIN + size] = _rng.integers(0, 256, size, np.uint8)
    return flat


def inside(flat: Array, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """The view between the margins of a patterned array."""
    return flat[MARGIN : flat.size - MARGIN].view(dtype).reshape(shape)


def guarded_copy(x: Array) -> tuple[Array, Array]:
    """(patterned buffer, view with the values and the strides of `x`)."""
    flat = pattern_buffer((layouts.extent(x.shape, layouts.strides_of(x)),), x.dtype)
    bits = layouts.view_in(flat[MARGIN:], x.shape, layouts.strides_of(x))
    bits[...] = x.view(flat.dtype)
    return flat, bits.view(x.dtype)


def inside_like(flat: Array, x: Array) -> Array:
    """What `guarded_copy` of `x` has as its view, in a buffer that came back."""
    return layouts.view_in(flat[MARGIN:], x.shape, layouts.strides_of(x)).view(x.dtype)


def check_margins(flat: Array, name: str) -> None:
    """Raise KernelFault if a margin of the patterned buffer was written."""
    for side, margin in (("before the start", flat[:MARGIN]), ("past the end", flat[flat.size - MARGIN :])):
        written = int(np.count_nonzero(margin != OUTSIDE[flat.itemsize]))
        if written:
            count = f"{written} element{'s' * (written > 1)}"
            raise KernelFault(
                f"the kernel wrote out of bounds: {count} {side} of {name}; look at the offsets and masks of its stores"
            )


def check_written(flat: Array, shape: Sequence[int]) -> None:
    """Raise KernelFault if an element of the buffer was never written; of one-byte dtypes, no element tells."""
    check_elements(flat[MARGIN : flat.size - MARGIN].reshape(shape))


def check_elements(x: Array) -> None:
    """Likewise of an array that a launcher made from poisoned memory."""
    if x.itemsize not in UNWRITTEN or x.itemsize == 1:
        return
    left = x.view(f"u{x.itemsize}") == UNWRITTEN[x.itemsize]
    count = int(np.count_nonzero(left))
    if count:
        first = [int(i) for i in np.unravel_index(int(np.argmax(left)), x.shape)]
        raise KernelFault(
            f"the kernel left {count} of {left.size} output elements unwritten, the first at {first}: look at the grid "
            "and at the masks of its stores"
        )


def check_streams(cuda: Any, output: Callable[[], Array]) -> None:
    """Raise KernelFault if the output still changes after the current stream has ended; leaves all streams ended.

    Whoever uses the output next waits for the current stream alone, and so does a timer.
    """
    cuda.current_stream().synchronize()
    early = output()
    cuda.synchronize()
    late = output()
    changed = int(np.count_nonzero(early != late))
    if changed:
        raise KernelFault(
            f"the kernel leaves work on another stream: {changed} of {late.size} elements of its output changed after "
            "the current stream had ended; launch on torch.cuda.current_stream(), or let it wait for the other one"
        )
