"""`tensor[key]`: indices, slices, nl.ds, ranges and `...`, as a layout of another."""

from __future__ import annotations

import functools
import operator
from typing import Any

from triptych.simulator.errors import NkiValidationError, OutOfBounds
from triptych.simulator.memory.layout import TENSOR_API, Layout, Shape, one_tuple
from triptych.simulator.objects import NKIObject
from triptych.simulator.tensors.views import Viewed

_GONE = -1  # along a dimension of which an index takes one entry
_make = tuple.__new__  # a layout without its Python-level constructor: a kernel slices at every turn


class DynamicSlice:
    """`nl.ds(start, size)`: the elements start, start + 1, .., start + size - 1."""

    def __init__(self, start: int, size: int) -> None:
        self.start = start
        self.size = size


def sliced(t: Viewed, key: Any) -> tuple[Layout, OutOfBounds | None]:
    """The part of a view that a key chooses, and the error of using it, if a slice is empty.

    On chip dimension 0, the partition, and one more stay, and the partition has no steps.
    """
    keys = key if type(key) is tuple else (key,)
    offset, sizes, steps, dtype = t.layout
    on_chip = t.on_chip
    if len(keys) != len(sizes):
        keys = _expanded(t, keys)
    counts: list[int] = []  # of entries along each dimension
    empty: OutOfBounds | None = None
    for dim, k in enumerate(keys):
        n, stride = sizes[dim], steps[dim]
        if type(k) is slice:
            start, stop, step = k.start, k.stop, k.step
            start = 0 if start is None else start if type(start) is int else _index(start)
            stop = n if stop is None else stop if type(stop) is int else _index(stop)
            if step is None:
                if not 0 <= start < stop <= n:
                    start, stop = start + n * (start < 0), stop + n * (stop < 0)
                    if not 0 <= start < stop <= n:
                        empty = _outside(t, dim, start, stop, 1)
                offset += start * stride
                counts.append(stop - start)
                continue
            start, stop, step = start + n * (start < 0), stop + n * (stop < 0), _index(step)
        elif type(k) is range:  # nl.affine_range(n): the elements that it counts (on trn2, nkipy#64)
            start, stop, step = k.start, k.stop, k.step
        elif type(k) is DynamicSlice:
            start, stop, step = _index(k.start), _index(k.start) + _index(k.size), 1
        elif k is Ellipsis:
            return sliced(t, _expanded(t, keys))
        else:
            at = k if type(k) is int else _index(k)
            at += n * (at < 0)
            if not 0 <= at < n:
                raise OutOfBounds(f"index {k} is outside dimension {dim} of {t!r}", source=TENSOR_API)
            offset += at * stride
            counts.append(1 if on_chip and dim == 0 else _GONE)
            continue
        if not (0 <= start < stop <= n and step >= 1):
            empty = _outside(t, dim, start, stop, step)
        if step > 1 and on_chip and dim == 0:
            raise NkiValidationError(
                f"a step of {step} over partitions: the hardware does not stride over dimension 0", source=TENSOR_API
            )
        offset += start * stride
        counts.append((stop - start + step - 1) // step)
        steps = (*steps[:dim], stride * step, *steps[dim + 1 :])
    shape, strides = _kept(tuple(counts), steps, 2 if on_chip else 1)
    return _make(Layout, (offset, shape, strides, dtype)), empty


@functools.cache
def _kept(counts: Shape, steps: Shape, least: int) -> tuple[Shape, Shape]:
    """The sizes and strides of the dimensions that stay, filled up to `least` of them."""
    shape = [n for n in counts if n != _GONE]
    strides = [s for n, s in zip(counts, steps, strict=True) if n != _GONE]
    more = [1] * (least - len(shape))
    return one_tuple((*shape, *more)), one_tuple((*strides, *more))


def _outside(t: Viewed, dim: int, start: int, stop: int, step: int) -> OutOfBounds:
    """The error of a slice that is not inside a dimension: raised, unless the slice is only empty."""
    n = t.layout.shape[dim]
    error = OutOfBounds(
        f"slice {start}:{stop}:{step} of dimension {dim} needs 0 <= start < stop <= {n} and "
        f"step >= 1 (tensor {t!r}); clip a ragged edge with min()",
        source=TENSOR_API,
    )
    if 0 <= start == stop <= n and step >= 1:
        return error
    raise error


def _expanded(t: Viewed, keys: tuple[Any, ...]) -> tuple[Any, ...]:
    """`keys` with Ellipsis and missing trailing dimensions written out."""
    ndim = len(t.layout.shape)
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    fill = ndim - (len(keys) - len(dots))
    if fill < 0 or len(dots) > 1:
        raise OutOfBounds(f"{len(keys)} indices for the {ndim} dimensions of {t!r}", source=TENSOR_API)
    at = dots[0] if dots else len(keys)
    return (*keys[:at], *[slice(None)] * fill, *keys[at + len(dots) :])


def _index(value: Any) -> int:
    if isinstance(value, NKIObject):  # a register or a tensor: known when the kernel runs, and not while it is built
        raise NkiValidationError(
            f"an index or a start of nl.ds is known while the kernel is built, got {type(value).__name__}; for one "
            "that is known when it runs, write x.ap(pattern, scalar_offset=..) or x.select(dim, ..), and x.ap(pattern, "
            "vector_offset=..) for one index a row",
            source="nki/deep-dives/nki-aps.rst; aws-neuron/aws-neuron-sdk#1328",
        )
    try:
        return operator.index(value)
    except TypeError:
        array = hasattr(value, "dtype") or isinstance(value, list)
        more = "; arrays of indices went with NKI 0.2: write slices, as x[i : i + n, :]" if array else ""
        raise NkiValidationError(
            f"an index must be an integer, a slice, nl.ds or ..., got {type(value).__name__}{more}",
            source=f"{TENSOR_API}; nki/migration/index.rst" if array else TENSOR_API,
        ) from None
